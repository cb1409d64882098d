//! Where a device's own secrets are: a secure element, a TPM, or a region that the bootloader locks.

use crate::hmac::hkdf_expand;
use codec::Reason;
use zeroize::Zeroizing;

/// Keeps the one secret that makes this device different from all others, and works with it. The secret itself never comes
/// out; what is derived from it does.
pub trait KeyVault {
    /// Fills `out` with a secret that this device and this label alone have: the same every time, on no other device the
    /// same, and telling nothing about those of other labels. At most 8160 bytes.
    ///
    /// Error: 1103 the vault does not answer, or its secret was destroyed.
    fn derive(&mut self, label: &[u8], out: &mut [u8]) -> Result<(), Reason>;

    /// Destroys the secret for ever, and with it everything that was sealed under it.
    fn destroy(&mut self) -> Result<(), Reason>;
}

impl<V: KeyVault + ?Sized> KeyVault for &mut V {
    fn derive(&mut self, label: &[u8], out: &mut [u8]) -> Result<(), Reason> {
        (**self).derive(label, out)
    }

    fn destroy(&mut self) -> Result<(), Reason> {
        (**self).destroy()
    }
}

/// A secret of 32 random bytes in memory, wiped when it goes. What stands behind it (fuses, a locked page, a test) is the
/// business of whoever made it.
pub struct UniqueKey(Option<Zeroizing<[u8; 32]>>);

impl UniqueKey {
    /// A vault of this secret.
    pub fn new(secret: [u8; 32]) -> UniqueKey {
        UniqueKey(Some(Zeroizing::new(secret)))
    }
}

impl KeyVault for UniqueKey {
    /// HKDF-Expand with SHA-256 (RFC 5869), the label as its info.
    fn derive(&mut self, label: &[u8], out: &mut [u8]) -> Result<(), Reason> {
        let secret = self.0.as_ref().ok_or(Reason::VaultFailed)?;
        hkdf_expand(secret, label, out);
        Ok(())
    }

    fn destroy(&mut self) -> Result<(), Reason> {
        self.0 = None;
        Ok(())
    }
}
