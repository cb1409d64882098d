//! The CA: what it issues, what it refuses, and that nothing is issued twice or lost. Time and chance are given.

use std::path::Path;

use ampoule_keys::ca::authority::{RESERVATION_SECONDS, parse_serial, text};
use ampoule_keys::ca::profile::DEFAULT;
use ampoule_keys::ca::{
    Anchors, Branch, Ca, Certificate, Custody, Founding, Identity, Issued, Moment, Order, Reason, Request, Usage, crl,
};
use ampoule_keys::file::{FileKey, generate};
use ampoule_keys::{Code, DevelopmentOnly, Job, PublicKey, Result, SignatureAlgorithm, Signer};
use codec::roots::Environment;

/// 2026-11-25.
const NOW: u64 = 1_795_600_000;
const DAY: u64 = 86_400;
const CLASS: &str = "ede90b60-1c8b-5b14-9a2f-0d6e7a3b1c22";

/// A CA with a key for each of its parts.
struct World {
    folder: tempfile::TempDir,
    ca: Ca,
    root: FileKey,
    device: FileKey,
    server: FileKey,
    chance: u8,
    now: u64,
}

fn p256() -> FileKey {
    generate(SignatureAlgorithm::Esp256).unwrap()
}

fn founding() -> Founding<'static> {
    Founding {
        organisation: "Example Ltd",
        environment: Environment::Development,
        profiles: DEFAULT,
    }
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::create(&folder.path().join("ca.db"), &founding()).unwrap();
        let mut world = World {
            folder,
            ca,
            root: p256(),
            device: p256(),
            server: p256(),
            chance: 0,
            now: NOW,
        };
        let moment = world.moment();
        world.ca.found_root(&world.root, Custody::Demanded, moment).unwrap();
        world.establish(Branch::Device, &[]).unwrap();
        world.establish(Branch::Server, &["example.com".into()]).unwrap();
        world.crls();
        world
    }

    fn establish(&mut self, branch: Branch, domains: &[String]) -> Result<Issued> {
        let moment = self.moment();
        let key = match branch {
            Branch::Server => self.server.public_key().clone(),
            _ => self.device.public_key().clone(),
        };
        self.ca
            .establish(branch, &key, domains, &self.root, Custody::Demanded, moment)
    }

    fn crls(&mut self) {
        self.ca
            .sign_crl(Branch::Root, &self.root, Custody::Demanded, self.now)
            .unwrap();
        self.ca
            .sign_crl(Branch::Device, &self.device, Custody::Demanded, self.now)
            .unwrap();
        self.ca
            .sign_crl(Branch::Server, &self.server, Custody::Demanded, self.now)
            .unwrap();
    }

    fn moment(&mut self) -> Moment {
        self.chance += 1;
        Moment {
            now: self.now,
            random: [self.chance; 16],
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn issue(&mut self, profile: &str, identity: &Identity, request: &Request) -> Result<Issued> {
        let moment = self.moment();
        let order = Order {
            profile,
            identity,
            request,
        };
        let signer = if identity.name.kind().issuer() == Branch::Server {
            &self.server
        } else {
            &self.device
        };
        self.ca.issue(signer, &order, Custody::Demanded, moment)
    }

    fn renew(&mut self, serial: &[u8], request: &Request) -> Result<Issued> {
        let moment = self.moment();
        self.ca.renew(&self.device, serial, request, Custody::Demanded, moment)
    }

    fn verify(&self, certificate: &Certificate, usage: Usage) -> Result<Identity> {
        self.verify_at(certificate, usage, self.now)
    }

    fn verify_at(&self, certificate: &Certificate, usage: Usage, now: u64) -> Result<Identity> {
        let trusted = self.ca.anchors(Branch::Root).unwrap();
        let between = self.ca.between(None).unwrap();
        Anchors {
            trusted: &trusted,
            between: &between,
            crls: &self.lists(),
        }
        .verify(certificate, usage, now)
    }

    fn lists(&self) -> Vec<Vec<u8>> {
        let all = self.ca.authorities().unwrap().into_iter();
        all.filter_map(|authority| self.ca.latest_crl(&authority).unwrap().and_then(|crl| crl.der))
            .collect()
    }
}

fn device(serial: &str) -> Identity {
    Identity::device(CLASS, serial, None).unwrap()
}

/// A request as a device makes one: by another implementation, with a subject of somebody else.
fn request() -> Request {
    Request::read(&openssl_request("P-256", "/CN=somebody else", &[])).unwrap()
}

fn openssl_request(curve: &str, subject: &str, more: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let kind = ["ed25519", "rsa:1024", "rsa:2048"].iter().find(|kind| **kind == curve);
    let parameter = format!("ec_paramgen_curve:{curve}");
    let new: Vec<&str> = match kind {
        Some(kind) => vec!["-newkey", kind],
        None => vec!["-newkey", "ec", "-pkeyopt", &parameter],
    };
    let arguments = [
        &[
            "req", "-new", "-nodes", "-keyout", "key", "-outform", "DER", "-out", "csr", "-subj", subject,
        ],
        &new[..],
        more,
    ];
    run(folder.path(), &arguments.concat());
    std::fs::read(folder.path().join("csr")).unwrap()
}

fn run(folder: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_issued_names_whom_the_caller_says_and_nothing_of_the_request() {
    let mut world = World::new();
    let more = [
        "-addext",
        "subjectAltName=URI:urn:ampoule:operator:admin",
        "-addext",
        "basicConstraints=CA:TRUE",
    ];
    let request = Request::read(&openssl_request("P-256", "/CN=admin", &more)).unwrap();
    let identity = device("A-1").in_roles(&["pump".into()]).unwrap();
    let issued = world.issue("ldevid", &identity, &request).unwrap();
    assert!(!issued.is_repeat);
    let certificate = issued.certificate;
    assert_eq!(certificate.identity().unwrap(), identity);
    assert!(!certificate.is_ca() && !certificate.subject().contains("admin"));
    assert_eq!(certificate.key().unwrap(), *request.key());
    assert_eq!(certificate.not_after(), NOW + 90 * DAY);
    assert_eq!(world.verify(&certificate, Usage::Client).unwrap(), identity);
}

#[test]
fn an_idevid_has_no_end_and_a_device_has_one() {
    let mut world = World::new();
    let (first, second) = (request(), request());
    let issued = world.issue("idevid", &device("1"), &first).unwrap().certificate;
    let printed = run_on(
        issued.as_der(),
        &["x509", "-inform", "DER", "-noout", "-enddate", "-subject", "-text"],
    );
    assert!(printed.contains("notAfter=Dec 31 23:59:59 9999 GMT"), "{printed}");
    assert!(
        printed.contains("serialNumber = 1") && printed.contains("CA:FALSE"),
        "{printed}"
    );
    let refused = world.issue("idevid", &device("1"), &second).unwrap_err();
    assert!(
        refused.is(Code::CaIssuedAlready) && refused.what.contains(&text(&issued.serial())),
        "{refused}"
    );
    // Another request of the same key, as a station makes one that lost its notes.
    let again = world.issue("idevid", &device("1"), &first).unwrap();
    assert!(again.is_repeat && again.certificate == issued);
    // The same key is neither its LDevID's nor anybody else's.
    assert!(
        world
            .issue("ldevid", &device("1"), &first)
            .unwrap_err()
            .is(Code::CaKeyBound)
    );
    assert!(
        world
            .issue("idevid", &device("2"), &first)
            .unwrap_err()
            .is(Code::CaKeyBound)
    );
    world.issue("ldevid", &device("1"), &second).unwrap();
    assert!(
        world
            .issue("idevid", &device("3"), &second)
            .unwrap_err()
            .is(Code::CaKeyBound)
    );
    // After a revocation the device may have another one, with another key.
    world.ca.revoke(&issued.serial(), Reason::KeyCompromise, NOW).unwrap();
    assert!(
        world
            .issue("idevid", &device("1"), &first)
            .unwrap_err()
            .is(Code::CaKeyBound)
    );
    world.issue("idevid", &device("1"), &request()).unwrap();
}

fn run_on(bytes: &[u8], arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in"), bytes).unwrap();
    run(folder.path(), &[arguments, &["-in", "in"]].concat())
}

#[test]
fn the_same_request_gives_the_same_certificate_and_another_one_another() {
    let mut world = World::new();
    let request = request();
    let first = world.issue("ldevid", &device("1"), &request).unwrap();
    let second = world.issue("ldevid", &device("1"), &request).unwrap();
    assert!(second.is_repeat && second.certificate == first.certificate);
    assert_eq!(world.ca.entries_of(&device("1").name).unwrap().len(), 1);
    let peer = world.issue("ldevid-peer", &device("1"), &request).unwrap();
    assert_ne!(peer.certificate.serial(), first.certificate.serial());
    // When the first has expired, the same request is a new one: a deterministic signer makes no other.
    world.now = NOW + 91 * DAY;
    let later = world.issue("ldevid", &device("1"), &request).unwrap();
    assert!(!later.is_repeat && later.certificate != first.certificate);
}

/// A signer that stops in the middle: signs, and then nothing comes back.
struct Killed<'a>(&'a FileKey);

impl Signer for Killed<'_> {
    fn public_key(&self) -> &PublicKey {
        self.0.public_key()
    }
    fn describe(&self) -> String {
        "killed".into()
    }
    fn development_only(&self) -> Option<DevelopmentOnly> {
        None
    }
    fn make_signature(&self, job: &Job<'_>) -> Result<Vec<u8>> {
        self.0.make_signature(job)?;
        Err(Code::SignFailed.error("killed"))
    }
}

#[test]
fn a_reservation_is_shown_and_the_same_request_finishes_it_with_its_serial_number() {
    let mut world = World::new();
    let request = request();
    let identity = device("1");
    let order = Order {
        profile: "idevid",
        identity: &identity,
        request: &request,
    };
    let moment = world.moment();
    let killed = Killed(&world.device);
    assert!(
        world
            .ca
            .issue(&killed, &order, Custody::Demanded, moment)
            .unwrap_err()
            .is(Code::SignFailed)
    );
    let waiting = world.ca.reservations().unwrap();
    assert_eq!((waiting.len(), waiting[0].der.as_ref()), (1, None));
    let issued = world.issue("idevid", &identity, &request).unwrap();
    assert_eq!(issued.certificate.serial(), waiting[0].serial);
    assert!(world.ca.reservations().unwrap().is_empty());
}

impl World {
    /// Issues IDevIDs to devices of these serial numbers, with a signer that may be killed.
    fn issue_all(&mut self, units: &[(&str, &Request)], is_killed: bool) -> Result<Vec<Issued>> {
        let identities: Vec<Identity> = units.iter().map(|(serial, _)| device(serial)).collect();
        let mut orders = Vec::new();
        for ((_, request), identity) in units.iter().zip(&identities) {
            let order = Order {
                profile: "idevid",
                identity,
                request,
            };
            orders.push((order, self.moment()));
        }
        match is_killed {
            true => self.ca.issue_all(&Killed(&self.device), &orders, Custody::Demanded),
            false => self.ca.issue_all(&self.device, &orders, Custody::Demanded),
        }
    }
}

#[test]
fn a_batch_is_issued_to_all_or_to_none_and_goes_on_where_it_stopped() {
    let mut world = World::new();
    let (one, two, three) = (request(), request(), request());
    let before = world.ca.entries().unwrap().len();

    let refused = world
        .issue_all(&[("1", &one), ("2", &two), ("3", &one)], false)
        .unwrap_err();
    assert!(refused.is(Code::CaKeyBound), "{refused}");
    assert!(
        refused.what.contains("device:ede90b60-1c8b-5b14-9a2f-0d6e7a3b1c22:3"),
        "{refused}"
    );
    assert_eq!(world.ca.entries().unwrap().len(), before, "nothing is reserved");

    let failed = world.issue_all(&[("1", &one), ("2", &two)], true).unwrap_err();
    assert!(failed.is(Code::SignFailed));
    let waiting: Vec<Vec<u8>> = world
        .ca
        .reservations()
        .unwrap()
        .into_iter()
        .map(|entry| entry.serial)
        .collect();
    assert_eq!(waiting.len(), 2);

    let issued = world
        .issue_all(&[("1", &one), ("2", &two), ("3", &three)], false)
        .unwrap();
    let serials: Vec<Vec<u8>> = issued.iter().map(|issued| issued.certificate.serial()).collect();
    assert_eq!(serials[..2], waiting);
    assert!(issued.iter().all(|issued| !issued.is_repeat));
    for (unit, issued) in ["1", "2", "3"].iter().zip(&issued) {
        assert_eq!(world.verify(&issued.certificate, Usage::Client).unwrap(), device(unit));
    }
    // With one that had its certificate, and one that is named twice.
    let four = request();
    let again = world
        .issue_all(&[("3", &three), ("4", &four), ("4", &four)], false)
        .unwrap();
    assert_eq!(again[0].certificate, issued[2].certificate);
    assert!(again[0].is_repeat && !again[1].is_repeat);
    assert_eq!(again[1].certificate, again[2].certificate);
    assert!(world.issue_all(&[], false).unwrap().is_empty());
    assert!(world.ca.reservations().unwrap().is_empty());
}

#[test]
fn a_reservation_that_nobody_finished_is_given_up_by_revoking_it() {
    let mut world = World::new();
    let (first, identity) = (request(), device("1"));
    let order = Order {
        profile: "idevid",
        identity: &identity,
        request: &first,
    };
    let moment = world.moment();
    let killed = Killed(&world.device);
    world.ca.issue(&killed, &order, Custody::Demanded, moment).unwrap_err();
    // It may have been signed: another key for the same device is refused until somebody decides.
    assert!(
        world
            .issue("idevid", &identity, &request())
            .unwrap_err()
            .is(Code::CaIssuedAlready)
    );
    let serial = world.ca.reservations().unwrap()[0].serial.clone();
    world.ca.revoke(&serial, Reason::CessationOfOperation, NOW).unwrap();
    world.issue("idevid", &identity, &request()).unwrap();
    let list = world
        .ca
        .sign_crl(Branch::Device, &world.device, Custody::Demanded, NOW)
        .unwrap();
    assert_eq!(crl::serials(&list.der).unwrap(), [serial]);
}

#[test]
fn an_old_reservation_is_left_to_people() {
    let mut world = World::new();
    let (request, identity) = (request(), device("1"));
    let order = Order {
        profile: "ldevid",
        identity: &identity,
        request: &request,
    };
    let moment = world.moment();
    world
        .ca
        .issue(&Killed(&world.device), &order, Custody::Demanded, moment)
        .unwrap_err();
    world.now += RESERVATION_SECONDS;
    let issued = world.issue("ldevid", &identity, &request).unwrap();
    let waiting = world.ca.reservations().unwrap();
    assert_eq!(waiting.len(), 1);
    assert_ne!(waiting[0].serial, issued.certificate.serial());
}

#[test]
fn requests_that_prove_nothing_are_refused() {
    let good = openssl_request("P-256", "/CN=a", &[]);
    let code = |bytes: &[u8]| Request::read(bytes).unwrap_err();
    // Every byte of the request is signed, or is the signature, or makes it no request.
    for at in (0..good.len()).step_by(3) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let error = code(&bad);
        let is_named = [Code::CaRequest, Code::CaPossession, Code::CaRequestKey]
            .iter()
            .any(|code| error.is(*code));
        assert!(is_named, "{at}: {error}");
    }
    let last = good.len() - 1;
    let mut bad = good.clone();
    bad[last] ^= 1;
    assert!(code(&bad).is(Code::CaPossession));
    assert!(code(&good[..last]).is(Code::CaRequest));
    assert!(code(&[&good[..], &[0]].concat()).is(Code::CaRequest));
    assert!(code(b"").is(Code::CaRequest));
    assert!(code(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n").is(Code::CaRequest));
    assert!(code(&[0x30; 16 * 1024 + 1]).is(Code::CaRequest));
    for weak in ["rsa:1024", "rsa:2048", "P-384", "prime192v1", "secp256k1"] {
        let error = code(&openssl_request(weak, "/CN=a", &[]));
        assert!(error.is(Code::CaRequestKey), "{weak}: {error}");
    }
    // SHA-384 with P-256: not how requests are signed here.
    assert!(code(&openssl_request("P-256", "/CN=a", &["-sha384"])).is(Code::CaPossession));
    Request::read(&openssl_request("ed25519", "/CN=a", &[])).unwrap();
    let huge = format!("subjectAltName=URI:urn:x:{}", "y".repeat(16 * 1024));
    assert!(code(&openssl_request("P-256", "/CN=a", &["-addext", &huge])).is(Code::CaRequest));
}

#[test]
fn what_does_not_fit_its_profile_is_refused_and_nothing_is_reserved() {
    let mut world = World::new();
    let before = world.ca.entries().unwrap().len();
    let (request, edwards) = (
        request(),
        Request::read(&openssl_request("ed25519", "/CN=a", &[])).unwrap(),
    );
    let server = |name: &str| Identity::server(&[name.into()], &[]).unwrap();
    let refused = |world: &mut World, profile: &str, identity: &Identity, request: &Request| {
        world.issue(profile, identity, request).unwrap_err().number
    };
    assert_eq!(
        refused(&mut world, "nothing", &device("1"), &request),
        Code::CaProfile.number()
    );
    assert_eq!(
        refused(&mut world, "idevid", &Identity::station("s").unwrap(), &request),
        Code::CaIdentity.number()
    );
    assert_eq!(
        refused(&mut world, "idevid", &device("1"), &edwards),
        Code::CaRequestKey.number()
    );
    assert_eq!(
        refused(&mut world, "server", &server("a.example.org"), &request),
        Code::CaIdentity.number()
    );
    assert_eq!(
        refused(&mut world, "server", &server("badexample.com"), &request),
        Code::CaIdentity.number()
    );
    // The device CA's key for a server's certificate, and an operator from a CA that is not there.
    let order = Order {
        profile: "server",
        identity: &server("a.example.com"),
        request: &request,
    };
    let moment = world.moment();
    let wrong = world
        .ca
        .issue(&world.device, &order, Custody::Demanded, moment)
        .unwrap_err();
    assert!(wrong.is(Code::CaIssuerKey), "{wrong}");
    let alice = Identity::operator("alice").unwrap();
    assert_eq!(
        refused(&mut world, "operator", &alice, &request),
        Code::CaIssuerKey.number()
    );
    // A CA's own key is nobody else's.
    assert_eq!(world.ca.entries().unwrap().len(), before);
}

#[test]
fn a_renewal_keeps_the_name_and_follows_its_profile() {
    let mut world = World::new();
    let (first, second) = (request(), request());
    let identity = Identity::device(CLASS, "1", Some("clinic"))
        .unwrap()
        .in_roles(&["pump".into()])
        .unwrap();
    let old = world.issue("ldevid", &identity, &first).unwrap().certificate;
    world.now += 60 * DAY;
    let new = world.renew(&old.serial(), &second).unwrap().certificate;
    assert_eq!(new.identity().unwrap(), identity);
    assert_eq!(new.not_after(), NOW + 150 * DAY);
    assert_eq!(world.renew(&old.serial(), &second).unwrap().certificate, new);
    // With the same key too, and then again: each follows its own predecessor.
    let same = world.renew(&new.serial(), &second).unwrap().certificate;
    assert!(same != new && same.key().unwrap() == new.key().unwrap());
    let is_refused = |result: Result<Issued>| result.unwrap_err().is(Code::CaRenewal);
    let station = world
        .issue("station", &Identity::station("hall").unwrap(), &request())
        .unwrap()
        .certificate;
    let same_key = Request::read(&openssl_request("P-256", "/CN=a", &[])).unwrap();
    assert!(world.renew(&station.serial(), &same_key).is_ok());
    let idevid_request = request();
    let idevid = world
        .issue("idevid", &device("9"), &idevid_request)
        .unwrap()
        .certificate;
    assert!(is_refused(world.renew(&idevid.serial(), &request())));
    world.ca.revoke(&new.serial(), Reason::Superseded, world.now).unwrap();
    assert!(is_refused(world.renew(&new.serial(), &second)));
    world.now += 100 * DAY;
    assert!(is_refused(world.renew(&same.serial(), &second)));
    assert!(world.renew(&[7; 16], &second).unwrap_err().is(Code::CaUnknown));
    // A key of somebody else is none for a renewal either.
    let foreign = request();
    world.issue("ldevid", &device("2"), &foreign).unwrap();
    let mine = world.issue("ldevid", &identity, &request()).unwrap().certificate;
    assert!(world.renew(&mine.serial(), &foreign).unwrap_err().is(Code::CaKeyBound));
}

#[test]
fn a_renewal_that_wants_a_new_key_gets_no_old_one() {
    let mut world = World::new();
    let request = request();
    let station = world
        .issue("station", &Identity::station("hall").unwrap(), &request)
        .unwrap()
        .certificate;
    assert!(
        world
            .renew(&station.serial(), &request)
            .unwrap_err()
            .is(Code::CaRenewal)
    );
}

#[test]
fn revoked_certificates_stand_on_lists_with_rising_numbers() {
    let mut world = World::new();
    let certificate = world.issue("ldevid", &device("1"), &request()).unwrap().certificate;
    world.verify(&certificate, Usage::Client).unwrap();
    let device_ca = world.ca.newest(Branch::Device).unwrap();
    world
        .ca
        .revoke(&certificate.serial(), Reason::KeyCompromise, NOW)
        .unwrap();
    assert_eq!(world.ca.revoked_since_crl(&device_ca).unwrap(), 1);
    let again = world
        .ca
        .revoke(&certificate.serial(), Reason::Superseded, NOW)
        .unwrap_err();
    assert!(again.is(Code::CaRevokedAlready));
    let crl = world
        .ca
        .sign_crl(Branch::Device, &world.device, Custody::Demanded, NOW + 9)
        .unwrap();
    assert_eq!((crl.number, crl.revoked, crl.next_update), (2, 1, NOW + 9 + 30 * DAY));
    assert_eq!(world.ca.revoked_since_crl(&device_ca).unwrap(), 0);
    assert!(
        world
            .verify(&certificate, Usage::Client)
            .unwrap_err()
            .is(Code::CertificateRevoked)
    );
    let printed = run_on(&crl.der, &["crl", "-inform", "DER", "-noout", "-text"]);
    assert!(
        printed.contains("Key Compromise") && printed.contains("X509v3 CRL Number"),
        "{printed}"
    );
    // A clock that goes back makes no list that is older than the last one.
    let back = world
        .ca
        .sign_crl(Branch::Device, &world.device, Custody::Demanded, NOW - DAY)
        .unwrap();
    assert_eq!((back.number, back.this_update), (3, NOW + 9));
    // An entry leaves after it stood on a list from after its certificate's end.
    let end = certificate.not_after();
    let at = |world: &mut World, now| {
        world
            .ca
            .sign_crl(Branch::Device, &world.device, Custody::Demanded, now)
            .unwrap()
            .revoked
    };
    assert_eq!((at(&mut world, end + DAY), at(&mut world, end + 2 * DAY)), (1, 0));
}

#[test]
fn our_verifier_says_no_with_the_right_number() {
    let mut world = World::new();
    let client = world.issue("ldevid", &device("1"), &request()).unwrap().certificate;
    let name = Identity::server(&["a.example.com".into()], &["10.0.0.7".parse().unwrap()]).unwrap();
    let server = world.issue("server", &name, &request()).unwrap().certificate;
    assert_eq!(world.verify(&server, Usage::Server).unwrap(), name);
    let number = |result: Result<Identity>| result.unwrap_err().number;
    for (certificate, usage) in [
        (&client, Usage::Server),
        (&client, Usage::CodeSigning),
        (&server, Usage::Client),
    ] {
        assert_eq!(
            number(world.verify(certificate, usage)),
            Code::CertificatePurpose.number()
        );
    }
    let root = &world.ca.anchors(Branch::Device).unwrap()[0];
    assert_eq!(
        number(world.verify(root, Usage::Client)),
        Code::CertificatePurpose.number()
    );
    let at = |now| number(world.verify_at(&client, Usage::Client, now));
    assert_eq!(at(NOW - DAY), Code::CertificateEarly.number());
    assert_eq!(at(NOW + 91 * DAY), Code::CertificateExpired.number());
    // The device's list ends after 30 days; before that nobody has to be asked.
    assert_eq!(at(NOW + 31 * DAY), Code::CertificateStatus.number());
    world.verify_at(&client, Usage::Client, NOW + 29 * DAY).unwrap();
    let (between, lists) = (world.ca.between(None).unwrap(), world.lists());
    let with = |trusted: &[Certificate], between: &[Certificate], crls: &[Vec<u8>]| {
        number(Anchors { trusted, between, crls }.verify(&client, Usage::Client, NOW))
    };
    let trusted = world.ca.anchors(Branch::Root).unwrap();
    assert_eq!(with(&trusted, &between, &[]), Code::CertificateStatus.number());
    assert_eq!(with(&trusted, &between, &lists[1..]), Code::CertificateStatus.number());
    assert_eq!(
        with(&trusted, &between, &[vec![0x30, 0]]),
        Code::CertificateMalformed.number()
    );
    assert_eq!(with(&trusted, &[], &lists), Code::CertificateChain.number());
    assert_eq!(
        with(std::slice::from_ref(&client), &between, &lists),
        Code::CertificateChain.number()
    );
    // The same names and serial numbers under another root.
    let other = World::new();
    assert_eq!(
        with(&other.ca.anchors(Branch::Root).unwrap(), &between, &lists),
        Code::CertificateChain.number()
    );
    // Whoever believes the server CA alone lets no device in.
    let servers = world.ca.anchors(Branch::Server).unwrap();
    assert_eq!(with(&servers, &between, &lists), Code::CertificateChain.number());
    assert!(
        Certificate::from_der(&client.as_der()[..100])
            .unwrap_err()
            .is(Code::CertificateMalformed)
    );
}

#[test]
fn an_issuing_ca_cannot_make_another_one_and_a_station_only_idevids() {
    let mut world = World::new();
    let station_key = p256();
    let identity = Identity::station("hall-3").unwrap();
    let station = world.issue("station", &identity, &request()).unwrap().certificate;
    assert!(station.is_ca());
    let printed = run_on(station.as_der(), &["x509", "-inform", "DER", "-noout", "-text"]);
    assert!(
        printed.contains("pathlen:0") && printed.contains("URI:urn:ampoule:station:hall-3"),
        "{printed}"
    );
    assert!(!printed.contains("TLS Web Server"), "{printed}");
    // Nothing lets a station's key issue in this database: it has its own.
    let order = Order {
        profile: "idevid",
        identity: &device("1"),
        request: &request(),
    };
    let moment = world.moment();
    let refused = world
        .ca
        .issue(&station_key, &order, Custody::Demanded, moment)
        .unwrap_err();
    assert!(refused.is(Code::CaIssuerKey));
}

#[test]
fn founding_goes_on_where_it_stopped_and_changes_nothing_that_stands() {
    let mut world = World::new();
    let roots = world.ca.anchors(Branch::Root).unwrap();
    let moment = world.moment();
    let again = world.ca.found_root(&world.root, Custody::Demanded, moment).unwrap();
    assert!(again.is_repeat && again.certificate == roots[0]);
    assert!(world.establish(Branch::Device, &[]).unwrap().is_repeat);
    let moment = world.moment();
    let refused = world.ca.found_root(&p256(), Custody::Demanded, moment).unwrap_err();
    assert!(refused.is(Code::CaExists));
    assert!(
        world
            .establish(Branch::Server, &["example.org".into()])
            .unwrap_err()
            .is(Code::CaExists)
    );
    assert!(world.establish(Branch::Server, &[]).unwrap_err().is(Code::CaIdentity));
    assert!(
        world
            .establish(Branch::Operator, &["example.org".into()])
            .unwrap_err()
            .is(Code::CaIdentity)
    );
    // One key, one CA.
    assert!(world.establish(Branch::Operator, &[]).unwrap_err().is(Code::CaExists));
    let path = world.path("ca.db");
    assert!(Ca::create(&path, &founding()).err().unwrap().is(Code::CaExists));
    let other = Founding {
        organisation: "Other",
        ..founding()
    };
    assert!(world.ca.check_founding(&other).unwrap_err().is(Code::CaExists));
    world.ca.check_founding(&founding()).unwrap();
    for organisation in ["", " a", "a\nb", &"x".repeat(65)] {
        let bad = Founding {
            organisation,
            ..founding()
        };
        assert!(
            Ca::create(&world.path("bad.db"), &bad)
                .err()
                .unwrap()
                .is(Code::CaIdentity)
        );
        assert!(!world.path("bad.db").exists());
    }
}

#[test]
fn a_production_ca_signs_with_no_key_file_unless_somebody_typed_it_out() {
    let folder = tempfile::tempdir().unwrap();
    let founding = Founding {
        environment: Environment::Production,
        ..founding()
    };
    let mut ca = Ca::create(&folder.path().join("ca.db"), &founding).unwrap();
    let moment = Moment {
        now: NOW,
        random: [1; 16],
    };
    let key = p256();
    assert!(
        ca.found_root(&key, Custody::Demanded, moment)
            .unwrap_err()
            .is(Code::ProductionKey)
    );
    assert!(ca.entries().unwrap().is_empty() && ca.authorities().unwrap().is_empty());
    ca.found_root(&key, Custody::FilesWaived, moment).unwrap();
    assert!(
        ca.sign_crl(Branch::Root, &key, Custody::Demanded, NOW)
            .unwrap_err()
            .is(Code::ProductionKey)
    );
    let issuing = p256();
    let established = ca.establish(
        Branch::Device,
        issuing.public_key(),
        &[],
        &key,
        Custody::Demanded,
        moment,
    );
    assert!(established.unwrap_err().is(Code::ProductionKey));
}

#[test]
fn what_is_no_database_of_a_ca_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    assert!(Ca::open(&path).err().unwrap().is(Code::CaOpen));
    std::fs::write(&path, "no database, and longer than the sixteen bytes of a header").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(Ca::open(&path).err().unwrap().is(Code::CaForeign));
    assert!(Ca::create(&path, &founding()).err().unwrap().is(Code::CaForeign));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert!(
        Ca::create(&folder.path().join("none/x"), &founding())
            .err()
            .unwrap()
            .is(Code::CaWrite)
    );
}

#[test]
fn two_programs_on_one_database_issue_each_request_once() {
    let mut world = World::new();
    let path = world.path("ca.db");
    let requests: Vec<Request> = (0..6).map(|_| request()).collect();
    let signer = &world.device;
    let issue_all = |offset: u8| {
        let mut ca = Ca::open(&path).unwrap();
        let all = requests.iter().enumerate().map(|(i, request)| {
            let identity = device(&i.to_string());
            let order = Order {
                profile: "idevid",
                identity: &identity,
                request,
            };
            let moment = Moment {
                now: NOW,
                random: [offset + i as u8; 16],
            };
            ca.issue(signer, &order, Custody::Demanded, moment).unwrap().certificate
        });
        all.collect::<Vec<_>>()
    };
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| issue_all(100));
        let two = scope.spawn(|| issue_all(200));
        (one.join().unwrap(), two.join().unwrap())
    });
    assert_eq!(one, two);
    assert_eq!(
        world
            .ca
            .entries()
            .unwrap()
            .iter()
            .filter(|entry| entry.profile == "idevid")
            .count(),
        6
    );
    // The same chance twice is no second certificate with one serial number.
    let moment = Moment {
        now: NOW,
        random: world.moment().random,
    };
    let order = Order {
        profile: "ldevid",
        identity: &device("a"),
        request: &request(),
    };
    world
        .ca
        .issue(&world.device, &order, Custody::Demanded, moment)
        .unwrap();
    let order = Order {
        profile: "ldevid",
        identity: &device("b"),
        request: &request(),
    };
    assert!(
        world
            .ca
            .issue(&world.device, &order, Custody::Demanded, moment)
            .is_err()
    );
}

#[test]
fn serial_numbers_are_positive_and_keep_126_random_bits() {
    let mut world = World::new();
    for random in [[0; 16], [0xff; 16], [0x80; 16]] {
        let moment = Moment { now: NOW, random };
        let order = Order {
            profile: "ldevid",
            identity: &device("1"),
            request: &request(),
        };
        let issued = world
            .ca
            .issue(&world.device, &order, Custody::Demanded, moment)
            .unwrap();
        let serial = issued.certificate.serial();
        assert_eq!((serial.len(), serial[0] & 0xc0), (16, 0x40));
        assert_eq!(serial[1..], random[1..]);
        assert_eq!(parse_serial(&text(&serial)).unwrap(), serial);
    }
    for bad in ["", "12", &"g".repeat(32), &"é".repeat(16)] {
        assert!(parse_serial(bad).unwrap_err().is(Code::CaUnknown));
    }
    for reason in Reason::ALL {
        assert_eq!(reason.name().parse::<Reason>().unwrap(), reason);
    }
    assert!("certificate-hold".parse::<Reason>().unwrap_err().is(Code::CaReason));
}
