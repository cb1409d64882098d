//! Keys in hardware: PKCS#11 tokens (OASIS PKCS#11 2.40 and 3.x) through the vendor's library.
//!
//! A key made here is sensitive, not extractable and signs only; its private half never leaves the token. The message is
//! hashed in this process (`CKM_ECDSA` over our SHA-256), because tokens rarely have a combined mechanism.

#[cfg(feature = "identity")]
mod certificate;
mod error;
mod facts;
mod uri;

use std::path::Path;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::RawAuthPin;
use trust::SignatureAlgorithm;

use crate::file::random;
use crate::{Code, Content, DevelopmentOnly, Job, Passphrase, PublicKey, Result, Signer};
use error::failed;
pub use facts::{Protection, TokenFacts};
pub use uri::Pkcs11Uri;

/// `secp256r1` (RFC 5480) in DER.
const P256_OID: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// `id-Ed25519` (RFC 8410) in DER.
const ED25519_OID: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
/// Ed25519's curve as PKCS#11 2.40 names it: PrintableString "edwards25519".
const ED25519_NAME: &[u8] = b"\x13\x0cedwards25519";

/// A token, not logged in.
pub struct Token {
    module: Pkcs11,
    slot: Slot,
    name: String,
}

/// A key in a token, as far as it can be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyInToken {
    /// Its public half.
    pub public: PublicKey,
    /// Its CKA_ID.
    pub id: Vec<u8>,
    /// How the token protects its private half.
    pub protection: Protection,
}

/// A token's URI and its public keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenDescription {
    /// Its URI.
    pub uri: Pkcs11Uri,
    /// Its public keys: label, id, and the key where it is of an algorithm that is known here.
    pub keys: Vec<(String, Vec<u8>, Option<PublicKey>)>,
    /// Its certificates: id, and the bytes as they stand there.
    pub certificates: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Every token of a vendor's library with its public keys. Errors: [`Code::Pkcs11Module`], [`Code::TokenFailed`].
pub fn list(module: &Path) -> Result<Vec<TokenDescription>> {
    let loaded = load(module)?;
    let slots = loaded
        .get_slots_with_initialized_token()
        .map_err(|e| failed("the library", e))?;
    slots
        .into_iter()
        .map(|slot| Token::at(&loaded, slot)?.describe())
        .collect()
}

impl Token {
    /// The one token that the URI names, in the URI's library or else in `module`.
    ///
    /// Errors: [`Code::Pkcs11Module`], [`Code::TokenMissing`], [`Code::TokenAmbiguous`].
    pub fn find(uri: &Pkcs11Uri, module: Option<&Path>) -> Result<Token> {
        let path = uri.module_path.as_deref().or(module);
        let path =
            path.ok_or_else(|| Code::Pkcs11Module.error("nothing says which PKCS#11 library knows the token"))?;
        let loaded = load(path)?;
        let slots = loaded
            .get_slots_with_initialized_token()
            .map_err(|e| failed("the library", e))?;
        let mut found = Vec::new();
        for slot in slots {
            if matches(&loaded, slot, uri)? {
                found.push(slot);
            }
        }
        match found[..] {
            [slot] => Token::at(&loaded, slot),
            [] => Err(Code::TokenMissing.error(format!("no token fits {uri}"))),
            _ => Err(Code::TokenAmbiguous.error(format!("{} tokens fit {uri}", found.len()))),
        }
    }

    fn at(module: &Pkcs11, slot: Slot) -> Result<Token> {
        let info = module.get_token_info(slot).map_err(|e| failed("the token", e))?;
        Ok(Token {
            module: module.clone(),
            slot,
            name: format!("token {} (serial {})", info.label(), info.serial_number()),
        })
    }

    /// Its label and serial number, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this process has logged in to it already.
    pub fn is_logged_in(&self) -> bool {
        use cryptoki::session::SessionState::{RoUser, RwUser};
        let state = |session: Session| {
            Ok(session
                .get_session_info()
                .map_err(|e| failed(&self.name, e))?
                .session_state())
        };
        self.session(Access::Read)
            .and_then(state)
            .is_ok_and(|state| matches!(state, RoUser | RwUser))
    }

    /// Whether it asks for its PIN on a keypad of its own.
    pub fn has_keypad(&self) -> bool {
        let info = self.module.get_token_info(self.slot);
        info.is_ok_and(|info| info.protected_authentication_path())
    }

    /// The public half of the key that the URI names, which needs no PIN.
    ///
    /// Errors: [`Code::TokenKeyMissing`], [`Code::TokenKeyTwice`], [`Code::KeyAlgorithm`].
    pub fn public_key(&self, uri: &Pkcs11Uri) -> Result<PublicKey> {
        let session = self.session(Access::Read)?;
        let handle = self.only(&session, uri, ObjectClass::PUBLIC_KEY)?;
        read_public(&session, handle, &self.name)
    }

    /// The private key that the URI names, ready to sign. The token asks for the PIN itself where it has a keypad.
    ///
    /// Errors: those of [`Token::public_key`]; [`Code::PinNeeded`], [`Code::PinWrong`] with what the token tells about
    /// the tries left, [`Code::PinLocked`], [`Code::TokenPublicMissing`], [`Code::TokenMechanism`], [`Code::TokenKeyUse`].
    pub fn open(&self, uri: &Pkcs11Uri, pin: Option<&Passphrase>) -> Result<TokenKey> {
        let session = self.session(Access::Read)?;
        self.login(&session, pin)?;
        let handle = self.only(&session, uri, ObjectClass::PRIVATE_KEY)?;
        let flags = Flags::read(&session, handle, &self.name)?;
        if flags.always_authenticate || !flags.sign {
            return Err(Code::TokenKeyUse.error(format!("the key {uri} cannot be used to sign here")));
        }
        let public = self.public_beside(&session, handle)?;
        self.check_mechanism(sign_mechanism(public.algorithm())?)?;
        Ok(TokenKey {
            session,
            handle,
            place: format!("{}, {uri}", self.name),
            development_only: (flags.extractable || !flags.sensitive).then_some(DevelopmentOnly::Extractable),
            public,
        })
    }

    /// Makes a key pair in the token: sensitive, not extractable, signs only; and looks whether it is. Its label is the
    /// URI's `object`; its id the URI's, or two random bytes that are not taken yet.
    ///
    /// Errors: those of [`Token::open`]; [`Code::TokenKeyExists`]; [`Code::Pkcs11Uri`] without `object`;
    /// [`Code::TokenKeyExposed`] the token made a key that it would give away.
    pub fn generate(
        &self,
        uri: &Pkcs11Uri,
        algorithm: SignatureAlgorithm,
        pin: Option<&Passphrase>,
    ) -> Result<KeyInToken> {
        let label = uri.object.as_ref();
        let label =
            label.ok_or_else(|| Code::Pkcs11Uri.error("the URI of a new key must give its name as object=NAME"))?;
        let (mechanism, params) = generation(algorithm)?;
        self.check_mechanism(mechanism.mechanism_type())?;
        let session = self.session(Access::ReadWrite)?;
        self.login(&session, pin)?;
        let id = self.free_place(&session, label, uri.id.as_deref())?;
        let shared = [
            Attribute::Token(true),
            Attribute::Label(label.clone().into()),
            Attribute::Id(id.clone()),
        ];
        let public = [
            &shared[..],
            &[
                Attribute::Verify(true),
                Attribute::Private(false),
                Attribute::EcParams(params),
            ],
        ];
        let private = [
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Decrypt(false),
            Attribute::Unwrap(false),
            Attribute::Derive(false),
        ];
        let made = session.generate_key_pair(&mechanism, &public.concat(), &[&shared[..], &private].concat());
        let (public, private) = made.map_err(|e| failed(&self.name, e))?;
        // A token may ignore what a template asks for.
        let protection = Protection::read(&session, private, &self.name)?;
        protection.demand(&format!("the key {uri}"))?;
        let public = read_public(&session, public, &self.name)?;
        Ok(KeyInToken { public, id, protection })
    }

    /// What can be told of the key that the URI names, private half and all. Errors: those of [`Token::open`].
    pub fn examine(&self, uri: &Pkcs11Uri, pin: Option<&Passphrase>) -> Result<KeyInToken> {
        let session = self.session(Access::Read)?;
        self.login(&session, pin)?;
        let private = self.only(&session, uri, ObjectClass::PRIVATE_KEY)?;
        Ok(KeyInToken {
            public: self.public_beside(&session, private)?,
            id: bytes_of(&session, private, AttributeType::Id, &self.name)?.unwrap_or_default(),
            protection: Protection::read(&session, private, &self.name)?,
        })
    }

    fn free_place(&self, session: &Session, label: &str, id: Option<&[u8]>) -> Result<Vec<u8>> {
        let taken = |attribute: Attribute| -> Result<bool> {
            let found = session.find_objects(&[attribute]).map_err(|e| failed(&self.name, e))?;
            Ok(!found.is_empty())
        };
        let exists = |what: String| Code::TokenKeyExists.error(format!("{} has an object {what} already", self.name));
        if taken(Attribute::Label(label.into()))? {
            return Err(exists(label.into()));
        }
        if let Some(id) = id {
            let is_taken = taken(Attribute::Id(id.into()))?;
            return if is_taken {
                Err(exists("of this id".into()))
            } else {
                Ok(id.into())
            };
        }
        loop {
            let id = random::<2>()?.to_vec();
            if !taken(Attribute::Id(id.clone()))? {
                return Ok(id);
            }
        }
    }

    /// What it says of itself and its public keys.
    pub fn describe(&self) -> Result<TokenDescription> {
        let info = self
            .module
            .get_token_info(self.slot)
            .map_err(|e| failed(&self.name, e))?;
        let session = self.session(Access::Read)?;
        let found = session.find_objects(&[Attribute::Class(ObjectClass::PUBLIC_KEY)]);
        let keys = found.map_err(|e| failed(&self.name, e))?.into_iter().map(|handle| {
            let label = bytes_of(&session, handle, AttributeType::Label, &self.name)?.unwrap_or_default();
            let id = bytes_of(&session, handle, AttributeType::Id, &self.name)?.unwrap_or_default();
            Ok((
                String::from_utf8_lossy(&label).into(),
                id,
                read_public(&session, handle, &self.name).ok(),
            ))
        });
        let found = session.find_objects(&[Attribute::Class(ObjectClass::CERTIFICATE)]);
        let certificates = found.map_err(|e| failed(&self.name, e))?.into_iter().map(|handle| {
            let id = bytes_of(&session, handle, AttributeType::Id, &self.name)?.unwrap_or_default();
            let der = bytes_of(&session, handle, AttributeType::Value, &self.name)?.unwrap_or_default();
            Ok((id, der))
        });
        Ok(TokenDescription {
            certificates: certificates.collect::<Result<_>>()?,
            uri: Pkcs11Uri {
                token: Some(info.label().into()),
                serial: Some(info.serial_number().into()),
                model: Some(info.model().into()),
                manufacturer: Some(info.manufacturer_id().into()),
                ..Pkcs11Uri::default()
            },
            keys: keys.collect::<Result<_>>()?,
        })
    }

    fn session(&self, access: Access) -> Result<Session> {
        let opened = match access {
            Access::Read => self.module.open_ro_session(self.slot),
            Access::ReadWrite => self.module.open_rw_session(self.slot),
        };
        opened.map_err(|e| failed(&self.name, e))
    }

    /// Logs in. A login counts for the whole process; whoever is in already stays in.
    fn login(&self, session: &Session, pin: Option<&Passphrase>) -> Result<()> {
        let done = match pin {
            Some(pin) => session.login_with_raw(UserType::User, &RawAuthPin::new(Box::new(pin.as_bytes().to_vec()))),
            None if self.is_logged_in() => return Ok(()),
            None if self.has_keypad() => session.login(UserType::User, None),
            None => return Err(Code::PinNeeded.error(format!("{} wants its PIN", self.name))),
        };
        done.or_else(|e| self.login_failed(e))
    }

    fn login_failed(&self, error: cryptoki::error::Error) -> Result<()> {
        use cryptoki::error::{Error, RvError};
        let Error::Pkcs11(code, _) = error else {
            return Err(failed(&self.name, error));
        };
        let name = &self.name;
        match code {
            RvError::UserAlreadyLoggedIn => Ok(()),
            RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => {
                Err(Code::PinWrong.error(format!("the PIN of {name} is wrong; {}", self.tries_left())))
            }
            _ => Err(failed(name, error)),
        }
    }

    /// As much as a token tells: PKCS#11 has three flags and no number.
    fn tries_left(&self) -> &'static str {
        match self.module.get_token_info(self.slot) {
            Ok(info) if info.user_pin_locked() => "it was the last try, and the token is locked now",
            Ok(info) if info.user_pin_final_try() => "one try is left before it locks",
            Ok(info) if info.user_pin_count_low() => "there was a wrong try, and few are left",
            Ok(_) => "the token does not say how many tries are left",
            Err(_) => "the token says no more",
        }
    }

    fn only(&self, session: &Session, uri: &Pkcs11Uri, class: ObjectClass) -> Result<ObjectHandle> {
        let mut template = vec![Attribute::Class(class)];
        template.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into())));
        template.extend(uri.id.as_ref().map(|id| Attribute::Id(id.clone())));
        let found = session.find_objects(&template).map_err(|e| failed(&self.name, e))?;
        match found[..] {
            [handle] => Ok(handle),
            [] => Err(Code::TokenKeyMissing.error(format!("{} has no key that fits {uri}", self.name))),
            _ => Err(Code::TokenKeyTwice.error(format!("{} keys in {} fit {uri}", found.len(), self.name))),
        }
    }

    /// The public key of the same id, or of the same label where there is no id; else that of the certificate.
    fn public_beside(&self, session: &Session, private: ObjectHandle) -> Result<PublicKey> {
        let id = bytes_of(session, private, AttributeType::Id, &self.name)?.filter(|id| !id.is_empty());
        let same = match id.clone() {
            Some(id) => Attribute::Id(id),
            None => Attribute::Label(bytes_of(session, private, AttributeType::Label, &self.name)?.unwrap_or_default()),
        };
        let found = session.find_objects(&[Attribute::Class(ObjectClass::PUBLIC_KEY), same]);
        match found.map_err(|e| failed(&self.name, e))?[..] {
            [handle] => read_public(session, handle, &self.name),
            [] => {
                #[cfg(feature = "identity")]
                if let Some(key) = id.map_or(Ok(None), |id| self.certified(session, &id))? {
                    return Ok(key);
                }
                Err(Code::TokenPublicMissing.error(format!("{} holds no public half of the key", self.name)))
            }
            _ => Err(Code::TokenKeyTwice.error(format!("{} has several public keys of one id", self.name))),
        }
    }

    fn check_mechanism(&self, wanted: MechanismType) -> Result<()> {
        let listed = self
            .module
            .get_mechanism_list(self.slot)
            .map_err(|e| failed(&self.name, e))?;
        if listed.contains(&wanted) {
            return Ok(());
        }
        Err(Code::TokenMechanism.error(format!("{} does not have {wanted}", self.name)))
    }
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    ReadWrite,
}

/// A private key in a token, in a session of its own.
pub struct TokenKey {
    session: Session,
    handle: ObjectHandle,
    public: PublicKey,
    place: String,
    development_only: Option<DevelopmentOnly>,
}

impl Signer for TokenKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn describe(&self) -> String {
        self.place.clone()
    }

    fn development_only(&self) -> Option<DevelopmentOnly> {
        let published = self.public.published_sample().map(DevelopmentOnly::PublishedSample);
        published.or(self.development_only)
    }

    fn make_signature(&self, job: &Job<'_>) -> Result<Vec<u8>> {
        let done = match (self.algorithm(), job.content) {
            (SignatureAlgorithm::Esp256, Content::Digest(sha256)) => self.ask(&Mechanism::Ecdsa, sha256),
            (SignatureAlgorithm::Esp256, Content::Message(parts)) => {
                self.ask(&Mechanism::Ecdsa, &trust::Sha256::of_parts(parts))
            }
            (_, Content::Digest(sha256)) => self.ask(&eddsa(), sha256),
            (_, Content::Message(parts)) => self.ask(&eddsa(), &parts.concat()),
        };
        done.map_err(|e| failed(&self.place, e))
    }
}

impl TokenKey {
    fn ask(&self, mechanism: &Mechanism<'_>, bytes: &[u8]) -> cryptoki::error::Result<Vec<u8>> {
        self.session.sign(mechanism, self.handle, bytes)
    }
}

/// What a token says about the protection of a key; what it does not say counts as unprotected.
struct Flags {
    sensitive: bool,
    extractable: bool,
    sign: bool,
    always_authenticate: bool,
}

impl Flags {
    fn read(session: &Session, key: ObjectHandle, token: &str) -> Result<Flags> {
        let wanted = [
            AttributeType::Sensitive,
            AttributeType::Extractable,
            AttributeType::Sign,
            AttributeType::AlwaysAuthenticate,
        ];
        let mut flags = Flags {
            sensitive: false,
            extractable: true,
            sign: false,
            always_authenticate: false,
        };
        for attribute in session.get_attributes(key, &wanted).map_err(|e| failed(token, e))? {
            match attribute {
                Attribute::Sensitive(is) => flags.sensitive = is,
                Attribute::Extractable(is) => flags.extractable = is,
                Attribute::Sign(is) => flags.sign = is,
                Attribute::AlwaysAuthenticate(is) => flags.always_authenticate = is,
                _ => {}
            }
        }
        Ok(flags)
    }
}

fn load(path: &Path) -> Result<Pkcs11> {
    use cryptoki::error::{Error, RvError};
    let unusable = |what: String| Code::Pkcs11Module.error(format!("{}: {what}", path.display()));
    let module = Pkcs11::new(path).map_err(|e| unusable(format!("this PKCS#11 library cannot be loaded: {e}")))?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
        Err(e) => Err(unusable(format!("this PKCS#11 library does not start: {e}"))),
    }
}

fn matches(module: &Pkcs11, slot: Slot, uri: &Pkcs11Uri) -> Result<bool> {
    let info = module.get_token_info(slot).map_err(|e| failed("the token", e))?;
    let fits = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
    Ok(fits(&uri.token, info.label())
        && fits(&uri.serial, info.serial_number())
        && fits(&uri.model, info.model())
        && fits(&uri.manufacturer, info.manufacturer_id())
        && uri.slot_id.is_none_or(|id| id == slot.id()))
}

fn eddsa() -> Mechanism<'static> {
    Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519))
}

fn sign_mechanism(algorithm: SignatureAlgorithm) -> Result<MechanismType> {
    match algorithm {
        SignatureAlgorithm::Esp256 => Ok(MechanismType::ECDSA),
        SignatureAlgorithm::Ed25519 => Ok(MechanismType::EDDSA),
        _ => Err(Code::KeyAlgorithm.error("keys of this algorithm are not used in tokens here")),
    }
}

fn generation(algorithm: SignatureAlgorithm) -> Result<(Mechanism<'static>, Vec<u8>)> {
    match algorithm {
        SignatureAlgorithm::Esp256 => Ok((Mechanism::EccKeyPairGen, P256_OID.to_vec())),
        SignatureAlgorithm::Ed25519 => Ok((Mechanism::EccEdwardsKeyPairGen, ED25519_OID.to_vec())),
        _ => Err(Code::KeyAlgorithm.error("keys of this algorithm are not made in tokens here")),
    }
}

fn read_public(session: &Session, handle: ObjectHandle, token: &str) -> Result<PublicKey> {
    let wanted = [AttributeType::KeyType, AttributeType::EcParams, AttributeType::EcPoint];
    let (mut kind, mut params, mut point) = (None, Vec::new(), Vec::new());
    for attribute in session.get_attributes(handle, &wanted).map_err(|e| failed(token, e))? {
        match attribute {
            Attribute::KeyType(found) => kind = Some(found),
            Attribute::EcParams(bytes) => params = bytes,
            Attribute::EcPoint(bytes) => point = bytes,
            _ => {}
        }
    }
    let unsupported = || Code::KeyAlgorithm.error(format!("the key in {token} is neither a P-256 nor an Ed25519 key"));
    match kind {
        Some(KeyType::EC) if params == P256_OID => {
            let raw = unwrapped(&point, 65).strip_prefix(&[4]).ok_or_else(unsupported)?;
            PublicKey::from_raw(SignatureAlgorithm::Esp256, raw)
        }
        Some(KeyType::EC_EDWARDS) if params == ED25519_OID || params == ED25519_NAME => {
            PublicKey::from_raw(SignatureAlgorithm::Ed25519, unwrapped(&point, 32))
        }
        _ => Err(unsupported()),
    }
}

/// CKA_EC_POINT is an OCTET STRING in DER; some tokens give its content alone.
fn unwrapped(point: &[u8], len: u8) -> &[u8] {
    point
        .strip_prefix(&[4, len])
        .filter(|content| content.len() == usize::from(len))
        .unwrap_or(point)
}

fn bytes_of(session: &Session, handle: ObjectHandle, kind: AttributeType, token: &str) -> Result<Option<Vec<u8>>> {
    let found = session.get_attributes(handle, &[kind]).map_err(|e| failed(token, e))?;
    Ok(found.into_iter().find_map(|attribute| match attribute {
        Attribute::Id(bytes) | Attribute::Label(bytes) | Attribute::Value(bytes) => Some(bytes),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_comes_wrapped_or_bare() {
        let bare = [&[4][..], &[7; 64]].concat();
        assert_eq!(unwrapped(&[&[4, 65][..], &bare].concat(), 65), bare);
        assert_eq!(unwrapped(&bare, 65), bare);
    }
}
