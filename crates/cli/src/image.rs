//! `ampoule image`: sign, verify and look at firmware images, under imgtool's option names (docs/imgtool.md).

mod desk;
mod vault;

use std::path::{Path, PathBuf};

use ::release::hex::{self, text as hex_text};
use ::release::image::{
    Alignment, Authority, Finish, Image, ImageOptions, LoadAddress, SecurityCounter, Verified, add_signature, class_id,
    dependencies_from_text, dumpinfo, number_from_text, options::SECTORS_DEFAULT, prepare, review, signature_of,
    vendor_id, verify,
};
use ::release::input;
use ::release::root::{Names, role_name};
use ::release::tree::Tree;
use ::release::verify::RoleState;
use ::trust::TrustRoot;
use base64ct::{Base64, Encoding};
use clap::{ArgAction, Args, Subcommand, ValueEnum};
use codec::mcuboot::{Dependency, ImageVersion};
use keys::{Code, Error, KeyUri, PublicKey, Result, Signer};
use serde_json::{Value, json};

use crate::files;
use crate::out::Out;
use crate::release::read_root_of;
use crate::signing::{self, EitherHalf, PassphraseArgs};
use desk::DeskArgs;
use vault::VaultArgs;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a signed image from firmware
    ///
    /// Takes imgtool's options and makes the same bytes. Files called .hex are Intel HEX, all others binary.
    #[command(alias = "create", disable_version_flag = true)]
    Sign(Box<Sign>),
    /// Add one more signature to an image
    AddSignature(AddSignature),
    /// Check that an image is whole, and who signed it
    Verify(Verify),
    /// Show everything that an image says
    Dumpinfo(Dumpinfo),
}

/// Runs one `ampoule image` command.
pub(crate) fn run(command: Command, out: Out) -> Result<()> {
    match command {
        Command::Sign(sign) => sign.run(out),
        Command::AddSignature(add) => add.run(out),
        Command::Verify(verify) => verify.run(out),
        Command::Dumpinfo(dump) => dump.run(out),
    }
}

#[derive(Args)]
pub(crate) struct Sign {
    /// The firmware
    infile: PathBuf,
    /// The image to write
    outfile: PathBuf,

    /// Private key (repeat for several signatures); without one the image carries only its hash
    #[arg(short, long, value_name = "KEY")]
    key: Vec<KeyUri>,
    #[command(flatten)]
    passphrase: PassphraseArgs,

    /// Version of the image: MAJOR[.MINOR[.REVISION[+BUILD]]]
    #[arg(short, long, value_parser = version)]
    version: ImageVersion,
    /// Bytes from the start of the slot to the firmware
    #[arg(short = 'H', long, value_name = "BYTES", value_parser = number)]
    header_size: u32,
    /// Put the header before the firmware, instead of over the zero bytes with which it starts
    #[arg(long)]
    pad_header: bool,
    /// Bytes of the slot; image and trailer must fit
    #[arg(short = 'S', long, value_name = "BYTES", value_parser = number)]
    slot_size: u32,
    /// Bytes that the flash writes at once: 1, 2, 4, 8, 16 or 32
    #[arg(long, value_name = "BYTES", default_value = "1", value_parser = number)]
    align: u32,
    /// Largest write size of both slots, if it is above 8: 8, 16 or 32
    #[arg(long, value_name = "BYTES", value_parser = number)]
    max_align: Option<u32>,
    /// Sectors of the slot for which the trailer has room
    #[arg(short = 'M', long, value_name = "N", default_value_t = SECTORS_DEFAULT, value_parser = number)]
    max_sectors: u32,
    /// Leave no room for a swap: the bootloader overwrites
    #[arg(long)]
    overwrite_only: bool,
    /// Pad to the slot's size and end with the trailer's magic
    #[arg(long)]
    pad: bool,
    /// Pad, and let the image be tried once
    #[arg(long)]
    test: bool,
    /// Pad, and mark the image as confirmed
    #[arg(long)]
    confirm: bool,
    /// What erased flash reads as
    #[arg(short = 'R', long, value_name = "VALUE", default_value = "0xff", value_parser = ["0", "0xff"])]
    erased_val: String,

    /// RAM address that the image is copied to
    #[arg(short = 'L', long, value_name = "ADDRESS", value_parser = number, conflicts_with = "rom_fixed")]
    load_addr: Option<u32>,
    /// Flash address that the image is linked for
    #[arg(short = 'F', long, value_name = "ADDRESS", value_parser = number)]
    rom_fixed: Option<u32>,
    /// Address at which an Intel HEX output starts
    #[arg(short = 'x', long, value_name = "ADDRESS", value_parser = number)]
    hex_addr: Option<u32>,
    /// Mark the image as not to be started
    #[arg(long)]
    non_bootable: bool,

    /// Security counter: a number, or auto (made from the version)
    #[arg(short, long, value_name = "N|auto")]
    security_counter: Option<String>,
    /// Images of the same device that this one needs: "(IMAGE, VERSION), ..."
    #[arg(short, long, value_name = "LIST")]
    dependencies: Option<String>,
    /// Vendor: a UUID, or a domain name
    #[arg(long, value_name = "UUID|NAME")]
    vid: Option<String>,
    /// Device class: a UUID, or a name of the vendor's
    #[arg(long, value_name = "UUID|NAME")]
    cid: Option<String>,
    /// Protected TLV of the vendor's own: type, and value (0x.. for bytes, else text)
    #[arg(long, num_args = 2, value_names = ["TYPE", "VALUE"], action = ArgAction::Append)]
    custom_tlv: Vec<String>,
    /// The same with the value from a file
    #[arg(long, num_args = 2, value_names = ["TYPE", "FILE"], action = ArgAction::Append)]
    custom_tlv_file: Vec<String>,
    /// Hash algorithm: auto and 256 are the same
    #[arg(long, value_name = "ALGORITHM", default_value = "auto")]
    sha: String,

    #[command(flatten)]
    vault: VaultArgs,
    /// File that also gets the signature, in base64
    #[arg(long, value_name = "FILE")]
    sig_out: Option<PathBuf>,
    #[command(flatten)]
    desk: DeskArgs,
    #[command(flatten)]
    foreign: Foreign,
}

/// Options of imgtool that are understood in order to be refused with a reason.
#[derive(Args)]
struct Foreign {
    #[arg(short = 'E', long, hide = true)]
    encrypt: Option<String>,
    #[arg(long, hide = true)]
    encrypt_keylen: Option<String>,
    #[arg(long, hide = true)]
    hmac_sha: Option<String>,
    #[arg(short, long, hide = true)]
    clear: bool,
    #[arg(long, hide = true)]
    save_enctlv: bool,
    #[arg(long, hide = true, default_value = "disabled")]
    compression: String,
    #[arg(long, hide = true)]
    boot_record: Option<String>,
    #[arg(long, hide = true)]
    pad_sig: bool,
    #[arg(long, hide = true, default_value = "hash")]
    public_key_format: String,
    #[arg(short, long, hide = true, default_value = "little")]
    endian: String,
    #[arg(long, hide = true)]
    pure: bool,
}

impl Foreign {
    fn refuse(&self, sha: &str) -> Result<()> {
        let encrypting = self.encrypt.is_some() || self.clear || self.save_enctlv;
        // --encrypt-keylen and --hmac-sha mean nothing without --encrypt.
        let _ = (&self.encrypt_keylen, &self.hmac_sha);
        let refusals = [
            (encrypting, "--encrypt: images are not encrypted here"),
            (
                self.compression != "disabled",
                "--compression: images are not compressed here",
            ),
            (
                self.boot_record.is_some(),
                "--boot-record: boot records are not made here",
            ),
            (
                self.pad_sig,
                "--pad-sig: padded signatures are malformed, and only MCUboot before 1.5 wants them",
            ),
            (
                self.public_key_format != "hash",
                "--public-key-format: an image names its key by hash",
            ),
            (self.endian != "little", "--endian: images are little-endian here"),
            (self.pure, "--pure: signatures cover the image's hash here"),
            (
                !matches!(sha, "auto" | "256"),
                "--sha: images are hashed with SHA-256 here",
            ),
        ];
        match refusals.iter().find(|(given, _)| *given) {
            Some((_, what)) => Err(Code::ImageOption
                .error(*what)
                .advise("Leave the option away, or use imgtool.")),
            None => Ok(()),
        }
    }
}

impl Sign {
    fn run(&self, out: Out) -> Result<()> {
        self.foreign.refuse(&self.sha)?;
        let options = self.options()?;
        let firmware = Firmware::read(&self.infile)?;
        if verify(&firmware.bytes, Authority::Nobody).is_ok_and(|image| !image.key_hashes.is_empty()) {
            let what = format!("{} is a signed image already", self.infile.display());
            return Err(Code::ImageAlreadySigned
                .error(what)
                .advise("Add another signature with `ampoule image add-signature IMAGE NEW --key KEY`."));
        }
        let unsigned = prepare(&firmware.bytes, &options)?;
        let bare = unsigned.clone().sign(&[])?;
        let desk = self.desk.read(&self.passphrase, out)?;
        if let Some(vector) = self.vault.vector() {
            self.no_signature_out("nothing is signed here")?;
            let bytes = vector.of(unsigned.payload(), unsigned.digest());
            let address = || self.hex_address(&firmware);
            write(&self.outfile, address, bytes)?;
            return say_vector(&self.outfile, bytes, desk.statement(bare.as_bytes())?, out);
        }
        let keys = desk.signers(bare.as_bytes(), unsigned.digest(), &self.key, &self.vault)?;
        if keys.len() != 1 {
            self.no_signature_out(&format!("the image gets {} signatures", keys.len()))?;
        }
        let signers: Vec<&dyn Signer> = keys.iter().map(|key| &**key).collect();
        let image = unsigned.sign(&signers)?;
        self.write(&firmware, &image)?;
        if let (Some(path), [key]) = (&self.sig_out, &signers[..]) {
            let signature = signature_of(image.as_bytes(), key.public_key())?;
            files::replace(path, Base64::encode_string(&signature).as_bytes())?;
        }
        let verified = verify(image.as_bytes(), Authority::Nobody)?;
        let text = format!(
            "Wrote {}: version {}, {} bytes, {}.\ndigest {}",
            self.outfile.display(),
            verified.header.version,
            verified.image_len,
            signed_by(keys.len()),
            hex_text(&verified.digest),
        );
        note_refusal(&verified, out);
        out.result(text, &describe(&self.outfile, &verified));
        Ok(())
    }

    fn write(&self, firmware: &Firmware, image: &Image) -> Result<()> {
        if is_hex(&self.outfile) {
            let address = self.hex_address(firmware)?;
            files::replace(&self.outfile, image.to_hex(address)?.as_bytes())
        } else {
            files::replace(&self.outfile, &image.to_binary())
        }
    }

    fn no_signature_out(&self, why: &str) -> Result<()> {
        match &self.sig_out {
            Some(_) => Err(Code::ImageOption.error(format!("--sig-out gets one signature, and {why}"))),
            None => Ok(()),
        }
    }

    fn options(&self) -> Result<ImageOptions> {
        let vendor = self.vid.as_deref().map(vendor_id).transpose()?;
        let header_size = u16::try_from(self.header_size);
        Ok(ImageOptions {
            pad_header: self.pad_header,
            alignment: Alignment::new(self.align, self.max_align)?,
            max_sectors: self.max_sectors,
            overwrite_only: self.overwrite_only,
            finish: self.finish(),
            erased_value: if self.erased_val == "0" { 0 } else { 0xff },
            load: match (self.load_addr, self.rom_fixed) {
                (Some(address), _) => LoadAddress::Ram(address),
                (None, Some(address)) => LoadAddress::RomFixed(address),
                (None, None) => LoadAddress::None,
            },
            non_bootable: self.non_bootable,
            security_counter: self
                .security_counter
                .as_deref()
                .map(SecurityCounter::from_text)
                .transpose()?,
            dependencies: self.dependencies()?,
            vendor,
            class: self
                .cid
                .as_deref()
                .map(|cid| class_id(cid, vendor.as_ref()))
                .transpose()?,
            custom: self.custom()?,
            ..ImageOptions::new(
                self.version,
                header_size.map_err(|_| Code::ImageOption.error("--header-size is above 65535"))?,
                self.slot_size,
            )
        })
    }

    fn finish(&self) -> Finish {
        match (self.confirm, self.test, self.pad) {
            (true, _, _) => Finish::Confirm,
            (_, true, _) => Finish::Test,
            (_, _, true) => Finish::Pad,
            _ => Finish::Bare,
        }
    }

    fn dependencies(&self) -> Result<Vec<Dependency>> {
        self.dependencies
            .as_deref()
            .map_or(Ok(Vec::new()), dependencies_from_text)
    }

    fn custom(&self) -> Result<Vec<(u16, Vec<u8>)>> {
        let given = self
            .custom_tlv
            .chunks_exact(2)
            .map(|pair| Ok((tlv_type(&pair[0])?, tlv_value(&pair[1])?)));
        let files = self.custom_tlv_file.chunks_exact(2);
        let from_files = files.map(|pair| Ok((tlv_type(&pair[0])?, input::bytes(Path::new(&pair[1]))?)));
        given.chain(from_files).collect()
    }

    /// Where the slot starts: as given, or where the input says; the header then comes before that.
    fn hex_address(&self, firmware: &Firmware) -> Result<u32> {
        let header = if self.pad_header { self.header_size } else { 0 };
        match (self.hex_addr, firmware.address) {
            (Some(address), _) => Ok(address),
            // As imgtool: firmware at address 0 has nothing before it.
            (None, Some(0)) => Ok(0),
            (None, Some(address)) => address
                .checked_sub(header)
                .ok_or_else(|| Code::HexAddress.error("the header would come before address 0")),
            (None, None) => Err(Code::HexAddress.error(format!(
                "nothing says at which address {} starts",
                self.outfile.display()
            ))),
        }
    }
}

#[derive(Args)]
pub(crate) struct AddSignature {
    /// The image, not padded
    infile: PathBuf,
    /// The image to write
    outfile: PathBuf,
    /// Private key
    #[arg(short, long, value_name = "KEY", required_unless_present_any = ["vector_to_sign", "fix_sig"])]
    key: Option<KeyUri>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    vault: VaultArgs,
    #[command(flatten)]
    desk: DeskArgs,
}

impl AddSignature {
    fn run(&self, out: Out) -> Result<()> {
        let image = Firmware::read(&self.infile)?;
        let present = verify(&image.bytes, Authority::Nobody).map_err(|error| named(&self.infile, error))?;
        let address = || {
            let unknown = || Code::HexAddress.error(format!("{} says no address", self.infile.display()));
            image.address.ok_or_else(unknown)
        };
        let desk = self.desk.read(&self.passphrase, out)?;
        if let Some(vector) = self.vault.vector() {
            let payload = image
                .bytes
                .get(..present.header.signed_len() as usize)
                .unwrap_or_default();
            let bytes = vector.of(payload, &present.digest);
            write(&self.outfile, address, bytes)?;
            return say_vector(&self.outfile, bytes, desk.statement(&image.bytes)?, out);
        }
        let signers = desk.signers(&image.bytes, &present.digest, self.key.as_slice(), &self.vault)?;
        let mut signed = image.bytes.clone();
        for signer in &signers {
            signed = add_signature(&signed, &**signer)?;
            verify(&signed, Authority::Key(signer.public_key()))?;
        }
        write(&self.outfile, address, &signed)?;
        let verified = verify(&signed, Authority::Nobody)?;
        let text = format!(
            "Wrote {}: {}.",
            self.outfile.display(),
            signed_by(verified.key_hashes.len())
        );
        out.result(text, &describe(&self.outfile, &verified));
        Ok(())
    }
}

#[derive(Args)]
pub(crate) struct Verify {
    /// The image
    imgfile: PathBuf,
    /// Key that must have signed it; without key and root only the hash is checked
    #[arg(short, long, value_name = "KEY", conflicts_with = "root")]
    key: Option<KeyUri>,
    /// Trust root whose image role must have signed it
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// File that says which person holds which key
    #[arg(long, value_name = "FILE", requires = "root")]
    names: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl Verify {
    fn run(&self, out: Out) -> Result<()> {
        let image = Firmware::read(&self.imgfile)?;
        let root = self.root.as_deref().map(input::bytes).transpose()?;
        let root = read_root_of(root.as_ref(), self.root.as_deref())?;
        let names = self.names.as_deref().map_or(Ok(Names::default()), Names::read)?;
        let verified = self
            .verify(&image.bytes, root.as_ref(), out)
            .map_err(|error| named(&self.imgfile, error))?;
        let roles = root
            .as_ref()
            .map(|root| review::roles(&image.bytes, root))
            .transpose()?;
        let mut lines = vec![
            "Image was correctly validated".to_string(),
            format!("Image version: {}", long_version(&verified.header.version)),
            format!("Image digest: {}", hex_text(&verified.digest)),
        ];
        lines.extend(roles.iter().flatten().map(|role| signers_of(role, &names)));
        if self.key.is_none() && self.root.is_none() {
            lines.push("Only the hash was checked: give --key or --root to check who signed it.".into());
        }
        note_refusal(&verified, out);
        let mut described = describe(&self.imgfile, &verified);
        if let Some(roles) = roles {
            described["roles"] = json!(roles.iter().map(|role| role.to_tree(&names)).collect::<Vec<_>>());
        }
        out.result(lines.join("\n"), &described);
        Ok(())
    }

    fn verify(&self, image: &[u8], root: Option<&TrustRoot>, out: Out) -> Result<Verified> {
        match (root, &self.key) {
            (Some(root), _) => verify(image, Authority::Root(root)),
            (None, Some(uri)) => verify(image, Authority::Key(&self.public_key(uri, out)?)),
            (None, None) => verify(image, Authority::Nobody),
        }
    }

    fn public_key(&self, uri: &KeyUri, out: Out) -> Result<PublicKey> {
        match signing::public(uri) {
            Err(error) if error.is(Code::PassphraseNeeded) => {
                EitherHalf::open(uri, &self.passphrase, out).map(|key| key.public().clone())
            }
            read => read,
        }
    }
}

#[derive(Args)]
pub(crate) struct Dumpinfo {
    /// The image
    imgfile: PathBuf,
    /// How to print it; JSON has imgtool's fields
    #[arg(short, long, value_enum)]
    format: Option<Format>,
    /// Write to a file, as JSON unless --format says otherwise
    #[arg(short, long, value_name = "FILE")]
    outfile: Option<PathBuf>,
    /// Accepted and ignored, as by imgtool
    #[arg(short, long, hide = true)]
    silent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a person
    Human,
    /// For a script
    Json,
}

impl Dumpinfo {
    fn run(&self, out: Out) -> Result<()> {
        let _ = self.silent;
        let image = Firmware::read(&self.imgfile)?;
        let name = self.imgfile.file_name().unwrap_or_default().to_string_lossy();
        let info = dumpinfo(&name, &image.bytes)?;
        let default = if self.outfile.is_some() || out.json {
            Format::Json
        } else {
            Format::Human
        };
        let json = self.format.unwrap_or(default) == Format::Json;
        match &self.outfile {
            Some(path) if json => {
                files::replace(path, serde_json::to_string_pretty(&info).unwrap_or_default().as_bytes())
            }
            Some(path) => files::replace(path, info.to_string().as_bytes()),
            None => {
                Out { json }.result(info.to_string(), &info);
                Ok(())
            }
        }
    }
}

/// A file with firmware or an image, binary or Intel HEX.
struct Firmware {
    bytes: Vec<u8>,
    /// Where it belongs, if the file says so.
    address: Option<u32>,
}

impl Firmware {
    fn read(path: &Path) -> Result<Self> {
        let bytes = input::bytes(path)?;
        if !is_hex(path) {
            return Ok(Firmware { bytes, address: None });
        }
        let memory = hex::read(&String::from_utf8_lossy(&bytes)).map_err(|error| named(path, error))?;
        Ok(Firmware {
            bytes: memory.bytes,
            address: Some(memory.address),
        })
    }
}

fn is_hex(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("hex"))
}

/// Writes bytes as they are, or as Intel HEX from `address` on.
fn write(path: &Path, address: impl FnOnce() -> Result<u32>, bytes: &[u8]) -> Result<()> {
    match is_hex(path) {
        true => files::replace(path, hex::write(&[(address()?, bytes)])?.as_bytes()),
        false => files::replace(path, bytes),
    }
}

/// What a vault is to sign, and what it says.
fn say_vector(path: &Path, bytes: &[u8], statement: Tree, out: Out) -> Result<()> {
    let text = format!(
        "{statement}\nWrote {}: {} bytes for the vault to sign. Nothing is signed yet.",
        path.display(),
        bytes.len()
    );
    out.result(text, &statement.with("file", path.display().to_string()));
    Ok(())
}

fn named(path: &Path, mut error: Error) -> Error {
    if !error.what.contains(&path.display().to_string()) {
        error.what = format!("{}: {}", path.display(), error.what);
    }
    error
}

fn version(text: &str) -> Result<ImageVersion, String> {
    ImageVersion::from_text(text)
        .ok_or_else(|| "must be MAJOR[.MINOR[.REVISION[+BUILD]]], up to 255.255.65535+4294967295".into())
}

fn number(text: &str) -> Result<u32, String> {
    number_from_text(text).ok_or_else(|| "must be a number in decimal or 0x notation, below 4294967296".into())
}

fn tlv_type(text: &str) -> Result<u16> {
    let number = number_from_text(text).and_then(|number| u16::try_from(number).ok());
    number.ok_or_else(|| Code::ImageOption.error(format!("custom TLV type {text} is not a number up to 0xffff")))
}

fn tlv_value(text: &str) -> Result<Vec<u8>> {
    match text.strip_prefix("0x") {
        None => Ok(text.as_bytes().to_vec()),
        Some(digits) => hex::bytes(digits).ok_or_else(|| {
            Code::ImageOption.error(format!("custom TLV value {text} is not an even number of hex digits"))
        }),
    }
}

fn signed_by(keys: usize) -> String {
    match keys {
        0 => "not signed".into(),
        1 => "1 signature".into(),
        _ => format!("{keys} signatures"),
    }
}

/// Who signed for a role.
fn signers_of(role: &RoleState, names: &Names) -> String {
    let (needed, name) = (role.threshold, role_name(role.role));
    format!(
        "Signed for role {name} ({needed} needed): {}",
        names.labels(&role.signed).join(", ")
    )
}

fn note_refusal(verified: &Verified, out: Out) {
    if let Some(reason) = verified.refused_by_devices {
        let (number, name, what) = (reason.number(), reason.name(), reason.what());
        out.note(format!(
            "note: Ampoule's own bootloader will refuse this image: {what} ({number} {name})"
        ));
    }
}

fn long_version(version: &ImageVersion) -> String {
    let ImageVersion {
        major,
        minor,
        revision,
        build,
    } = version;
    format!("{major}.{minor}.{revision}+{build}")
}

fn describe(path: &Path, verified: &Verified) -> Value {
    let id = |id: Option<[u8; 16]>| id.map(|id| hex_text(&id));
    json!({
        "file": path.display().to_string(),
        "version": long_version(&verified.header.version),
        "digest": hex_text(&verified.digest),
        "image_bytes": verified.image_len,
        "security_counter": verified.counter,
        "vendor": id(verified.vendor),
        "class": id(verified.class),
        "signed_by": verified.key_hashes.iter().map(|hash| hex_text(hash)).collect::<Vec<_>>(),
        "refused_by_ampoule": verified.refused_by_devices.map(|reason| reason.number()),
    })
}
