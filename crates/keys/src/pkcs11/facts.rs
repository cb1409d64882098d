//! What a token says of itself, and of the protection of a key: for people who look at it before they trust it.

use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::Session;
use zeroize::Zeroizing;

use super::error::failed;
use super::{Access, Token};
use crate::{Code, Result};

/// Bytes that a token is asked for at once; some give no more.
const RANDOM_BYTES: usize = 256;

/// What a token says of itself (CK_TOKEN_INFO, and its list of mechanisms).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenFacts {
    /// Its label.
    pub label: String,
    /// Its serial number.
    pub serial: String,
    /// Its model.
    pub model: String,
    /// Who made it.
    pub manufacturer: String,
    /// The version of its firmware.
    pub firmware: String,
    /// The version of its hardware.
    pub hardware: String,
    /// Whether its user has a PIN.
    pub has_pin: bool,
    /// Whether that PIN is locked.
    pub is_locked: bool,
    /// Whether wrong PINs were typed since the last right one.
    pub had_wrong_pins: bool,
    /// Whether it has a generator of random numbers of its own.
    pub has_generator: bool,
    /// The names of its mechanisms, such as `CKM_ECDSA`, sorted.
    pub mechanisms: Vec<String>,
}

impl Token {
    /// What it says of itself. Errors: [`Code::TokenRemoved`], [`Code::TokenFailed`].
    pub fn facts(&self) -> Result<TokenFacts> {
        let info = self.module.get_token_info(self.slot);
        let info = info.map_err(|e| failed(&self.name, e))?;
        let mechanisms = self.module.get_mechanism_list(self.slot);
        let mechanisms = mechanisms.map_err(|e| failed(&self.name, e))?;
        let mut mechanisms: Vec<String> = mechanisms.iter().map(ToString::to_string).collect();
        mechanisms.sort();
        Ok(TokenFacts {
            label: info.label().into(),
            serial: info.serial_number().into(),
            model: info.model().into(),
            manufacturer: info.manufacturer_id().into(),
            firmware: info.firmware_version().to_string(),
            hardware: info.hardware_version().to_string(),
            has_pin: info.user_pin_initialized(),
            is_locked: info.user_pin_locked(),
            had_wrong_pins: info.user_pin_count_low() || info.user_pin_final_try(),
            has_generator: info.rng(),
            mechanisms,
        })
    }

    /// Random bytes of its own generator, to be looked at. Errors: as [`Token::facts`].
    pub fn random(&self, len: usize) -> Result<Zeroizing<Vec<u8>>> {
        let session = self.session(Access::Read)?;
        let mut bytes = Zeroizing::new(vec![0; len]);
        for piece in bytes.chunks_mut(RANDOM_BYTES) {
            let filled = session.generate_random_slice(piece);
            filled.map_err(|e| failed(&self.name, e))?;
        }
        Ok(bytes)
    }
}

/// How a token protects a private key, by its attributes. What the token does not say counts as unprotected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Protection {
    /// CKA_SENSITIVE: it is never shown.
    pub sensitive: bool,
    /// CKA_ALWAYS_SENSITIVE: nor was it ever.
    pub always_sensitive: bool,
    /// Not CKA_EXTRACTABLE: it cannot be wrapped and taken out.
    pub unextractable: bool,
    /// CKA_NEVER_EXTRACTABLE: nor could it ever.
    pub never_extractable: bool,
    /// CKA_LOCAL: it was made in the token.
    pub made_in_token: bool,
}

impl Protection {
    pub(super) fn read(session: &Session, private: ObjectHandle, token: &str) -> Result<Protection> {
        let wanted = [
            AttributeType::Sensitive,
            AttributeType::AlwaysSensitive,
            AttributeType::Extractable,
            AttributeType::NeverExtractable,
            AttributeType::Local,
        ];
        let mut protection = Protection::default();
        let found = session.get_attributes(private, &wanted);
        for attribute in found.map_err(|e| failed(token, e))? {
            match attribute {
                Attribute::Sensitive(is) => protection.sensitive = is,
                Attribute::AlwaysSensitive(is) => protection.always_sensitive = is,
                Attribute::Extractable(is) => protection.unextractable = !is,
                Attribute::NeverExtractable(is) => protection.never_extractable = is,
                Attribute::Local(is) => protection.made_in_token = is,
                _ => {}
            }
        }
        Ok(protection)
    }

    /// Whether the token keeps the key to itself, and always did.
    pub fn is_whole(&self) -> bool {
        self.sensitive && self.always_sensitive && self.unextractable && self.never_extractable && self.made_in_token
    }

    /// Refuses a key that is not wholly protected; `what` names it. Error: [`Code::TokenKeyExposed`].
    pub fn demand(&self, what: &str) -> Result<()> {
        if self.is_whole() {
            return Ok(());
        }
        let missing = [
            (self.sensitive && self.always_sensitive, "not sensitive"),
            (self.unextractable && self.never_extractable, "extractable"),
            (self.made_in_token, "not made in the token"),
        ];
        let missing: Vec<&str> = missing.iter().filter(|(is, _)| !is).map(|(_, what)| *what).collect();
        Err(Code::TokenKeyExposed.error(format!("{what} is or was {}", missing.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_protection_is_named() {
        let whole = Protection {
            sensitive: true,
            always_sensitive: true,
            unextractable: true,
            never_extractable: true,
            made_in_token: true,
        };
        whole.demand("a key").unwrap();
        type Take = fn(&mut Protection);
        let takes: [(Take, &str); 5] = [
            (|of| of.sensitive = false, "not sensitive"),
            (|of| of.always_sensitive = false, "not sensitive"),
            (|of| of.unextractable = false, "extractable"),
            (|of| of.never_extractable = false, "extractable"),
            (|of| of.made_in_token = false, "not made in the token"),
        ];
        for (take, named) in takes {
            let mut lacking = whole;
            take(&mut lacking);
            let error = lacking.demand("a key").unwrap_err();
            assert!(
                error.is(Code::TokenKeyExposed) && error.what.ends_with(named),
                "{error}"
            );
        }
    }
}
