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
