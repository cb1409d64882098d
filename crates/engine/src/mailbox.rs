//! The mailbox: what the application proposes to the bootloader, one root, one list, one time file, one lifecycle request.
//!
//! Whoever can write here has no authority by it: the bootloader believes a proposal only as far as its signatures (or,
//! for the lifecycle, its own rules) go. A part is erased, its content written, and its header last, so that a cut leaves
//! a whole proposal or none.

use crate::flash::Flash;
use crate::install::{hash_into, write_padded};
use crate::layout::{Area, Layout};
use codec::Reason;
use codec::record::{MAIL_HEADER_BYTES, MAIL_HEADER_SIGNED_BYTES, MailHeader, MailKind};
use trust::digest::{SHA256_BYTES, Sha256};

/// A proposal that begins like one; whether it is whole is said by [`Mail::read`].
#[derive(Clone, Copy, Debug)]
pub struct Mail {
    header: MailHeader,
    digest: [u8; SHA256_BYTES],
    area: Area,
}

impl Mail {
    /// What stands in the part for this kind, by its header alone.
    pub fn find(flash: &mut impl Flash, layout: &Layout, kind: MailKind) -> Result<Option<Mail>, Reason> {
        let area = layout.mail(kind);
        let mut bytes = [0; MAIL_HEADER_BYTES];
        flash.read(area.start, &mut bytes)?;
        let Some((signed, digest)) = bytes.split_first_chunk::<MAIL_HEADER_SIGNED_BYTES>() else {
            return Ok(None);
        };
        let header = MailHeader::parse(signed).filter(|header| header.kind == kind);
        let header = header.filter(|header| header.len <= area.len.saturating_sub(MAIL_HEADER_BYTES as u32));
        let digest = digest.first_chunk().copied();
        Ok(header.zip(digest).map(|(header, digest)| Mail { header, digest, area }))
    }

    /// The content; `None` when it is not whole, or longer than the buffer.
    pub fn read<'b>(&self, flash: &mut impl Flash, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Reason> {
        let Some(content) = buffer.get_mut(..self.header.len as usize) else {
            return Ok(None);
        };
        flash.read(self.content_at(), content)?;
        let is_whole = digest_of(&self.header, content) == self.digest;
        Ok(is_whole.then_some(content))
    }

    /// Whether the content is whole, without a buffer for it.
    pub fn is_whole(&self, flash: &mut impl Flash) -> Result<bool, Reason> {
        let mut hash = Sha256::new();
        hash.update(&self.header.to_bytes());
        hash_into(&mut hash, flash, self.content_at(), self.header.len)?;
        Ok(hash.finish() == self.digest)
    }

    /// The proposal's name in the boot log: the first bytes of its digest.
    pub fn name(&self) -> [u8; 8] {
        self.digest.first_chunk().copied().unwrap_or_default()
    }

    fn content_at(&self) -> u32 {
        self.area.start.saturating_add(MAIL_HEADER_BYTES as u32)
    }
}

/// Whether a whole proposal of this kind waits.
pub fn waits(flash: &mut impl Flash, layout: &Layout, kind: MailKind) -> Result<bool, Reason> {
    match Mail::find(flash, layout, kind)? {
        Some(mail) => mail.is_whole(flash),
        None => Ok(false),
    }
}

/// Whether this very proposal waits.
pub(crate) fn holds(flash: &mut impl Flash, layout: &Layout, kind: MailKind, content: &[u8]) -> Result<bool, Reason> {
    let header = MailHeader {
        kind,
        len: u32::try_from(content.len()).map_err(|_| Reason::Limit)?,
    };
    let digest = digest_of(&header, content);
    match Mail::find(flash, layout, kind)? {
        Some(mail) if (mail.header, mail.digest) == (header, digest) => mail.is_whole(flash),
        _ => Ok(false),
    }
}

/// Puts a proposal into its part; does nothing when it stands there already. Refused (105) when it does not fit.
pub(crate) fn put(flash: &mut impl Flash, layout: &Layout, kind: MailKind, content: &[u8]) -> Result<(), Reason> {
    if holds(flash, layout, kind, content)? {
        return Ok(());
    }
    let area = layout.mail(kind);
    let header = MailHeader {
        kind,
        len: u32::try_from(content.len()).map_err(|_| Reason::Limit)?,
    };
    if content.len() > (area.len as usize).saturating_sub(MAIL_HEADER_BYTES) {
        return Err(Reason::Limit);
    }
    area.erase(flash)?;
    write_padded(flash, area.start.saturating_add(MAIL_HEADER_BYTES as u32), content)?;
    let mut bytes = [0; MAIL_HEADER_BYTES];
    if let Some((front, back)) = bytes.split_first_chunk_mut::<MAIL_HEADER_SIGNED_BYTES>() {
        *front = header.to_bytes();
        back.copy_from_slice(&digest_of(&header, content));
    }
    Ok(flash.write(area.start, &bytes)?)
}

/// Empties a part.
pub(crate) fn clear(flash: &mut impl Flash, layout: &Layout, kind: MailKind) -> Result<(), Reason> {
    layout.mail(kind).erase(flash)
}

fn digest_of(header: &MailHeader, content: &[u8]) -> [u8; SHA256_BYTES] {
    Sha256::of_parts(&[&header.to_bytes(), content])
}
