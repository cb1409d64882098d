//! What a token answers, as numbered errors.

use cryptoki::error::{Error as TokenError, RvError};

use crate::{Code, Error};

/// The error for a call that failed at `place`.
pub(super) fn failed(place: &str, error: TokenError) -> Error {
    let TokenError::Pkcs11(code, _) = &error else {
        return Code::TokenFailed.error(format!("{place}: {error}"));
    };
    match code {
        RvError::DeviceRemoved
        | RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::SlotIdInvalid
        | RvError::SessionHandleInvalid
        | RvError::SessionClosed
        | RvError::KeyHandleInvalid
        | RvError::ObjectHandleInvalid => Code::TokenRemoved.error(format!("{place} is gone ({code:?})")),
        RvError::MechanismInvalid | RvError::CurveNotSupported => {
            Code::TokenMechanism.error(format!("{place} does not have the mechanism ({code:?})"))
        }
        RvError::KeyFunctionNotPermitted | RvError::KeyTypeInconsistent => {
            Code::TokenKeyUse.error(format!("the key in {place} is not for signing ({code:?})"))
        }
        RvError::UserNotLoggedIn => Code::PinNeeded.error(format!("{place} wants its PIN")),
        RvError::PinLocked => Code::PinLocked.error(format!("the PIN of {place} is locked")),
        _ => Code::TokenFailed.error(format!("{place} failed: {code:?}")),
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    /// What a token may answer, and the number under which people find help. Most of these no software token gives.
    #[test]
    fn every_answer_of_a_token_has_its_number() {
        for (answer, code) in [
            (RvError::DeviceRemoved, Code::TokenRemoved),
            (RvError::TokenNotPresent, Code::TokenRemoved),
            (RvError::TokenNotRecognized, Code::TokenRemoved),
            (RvError::SlotIdInvalid, Code::TokenRemoved),
            (RvError::SessionHandleInvalid, Code::TokenRemoved),
            (RvError::SessionClosed, Code::TokenRemoved),
            (RvError::KeyHandleInvalid, Code::TokenRemoved),
            (RvError::ObjectHandleInvalid, Code::TokenRemoved),
            (RvError::MechanismInvalid, Code::TokenMechanism),
            (RvError::CurveNotSupported, Code::TokenMechanism),
            (RvError::KeyFunctionNotPermitted, Code::TokenKeyUse),
            (RvError::KeyTypeInconsistent, Code::TokenKeyUse),
            (RvError::UserNotLoggedIn, Code::PinNeeded),
            (RvError::PinLocked, Code::PinLocked),
            (RvError::DeviceError, Code::TokenFailed),
            (RvError::GeneralError, Code::TokenFailed),
            (RvError::FunctionFailed, Code::TokenFailed),
        ] {
            let error = failed("token a", TokenError::Pkcs11(answer, Function::Sign));
            assert!(error.is(code) && error.what.contains("token a"), "{answer:?}: {error}");
        }
        let other = failed("token a", TokenError::NotSupported);
        assert!(other.is(Code::TokenFailed), "{other}");
    }
}
