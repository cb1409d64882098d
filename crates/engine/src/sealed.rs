//! Sealed storage: names and values, encrypted, authenticated and protected against being put back.
//!
//! A log in two halves. Each record holds a name in the clear and a value under AES-256-SIV; behind it stands a code
//! (HMAC-SHA256) over the code before it and the record, so that nothing can be left out, moved or changed without every
//! code behind it being wrong. Each change is one generation; the latest must be what a [`Counter`] outside the log says:
//!
//! ```text
//! write generation n+1 -> read it back -> counter to n+1 -> erase what is old
//! ```
//!
//! At the next start the log is whole at generation n or n+1, and a log at n+1 completes the step. Anything else was put
//! back, or lost ([`Reason::SealedReplayed`]). Keys come from the device's [`KeyVault`]: another device reads nothing.
//!
//! Setting a value leaves the old one in the log, encrypted, until the half is full; [`Sealed::remove`] and
//! [`Sealed::clear`] move what stays to the other half and erase this one before they return. Names are no secret.
//!
//! Why not `sequential-storage`: its values stand alone, so that one of them can be put back unnoticed; its flash format
//! changes with its major versions; and it is async, which this crate is not (law L5).

use crate::counter::Counter;
use crate::flash::Flash;
use crate::install::write_padded;
use crate::layout::{Area, Layout};
use codec::Reason;
use codec::record::{
    SEALED_CODE_BYTES, SEALED_HEAD_BYTES, SEALED_HEADER_BYTES, SEALED_HEADER_CODED_BYTES, SealedHead, SealedHeader,
    UNIT_BYTES,
};
use trust::KeyVault;
use trust::hmac::{HmacSha256, same};
use trust::siv::{self, SIV_KEY_BYTES, SIV_TAG_BYTES};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes moved at a time.
const BLOCK_BYTES: usize = 64;
/// What the keys are derived for.
const SEAL_LABEL: &[u8] = b"amp-sealed-1 values";
const CODE_LABEL: &[u8] = b"amp-sealed-1 codes";

type Code = [u8; SEALED_CODE_BYTES];

/// Bytes of the buffer that a value of this length is sealed in.
pub const fn scratch_bytes(value_bytes: usize) -> usize {
    value_bytes + SIV_TAG_BYTES
}

/// The storage of one device, open.
pub struct Sealed<C> {
    halves: [Area; 2],
    counter: C,
    keys: Keys,
    state: State,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct Keys {
    seal: [u8; SIV_KEY_BYTES],
    code: [u8; SEALED_CODE_BYTES],
}

/// Where the log stands.
#[derive(Clone, Copy)]
struct State {
    /// The half that counts; `None` while nothing was ever stored.
    active: Option<usize>,
    /// The generation of the latest change.
    generation: u32,
    /// The generation that the half began with.
    base: u32,
    /// Offset of the end of the last whole record.
    end: u32,
    /// The code behind it.
    code: Code,
    /// Whether everything behind it is erased.
    is_clean: bool,
}

const NOTHING: State = State {
    active: None,
    generation: 0,
    base: 0,
    end: 0,
    code: [0; SEALED_CODE_BYTES],
    is_clean: false,
};

/// What a change puts in the place of what was.
#[derive(Clone, Copy)]
struct Put<'v> {
    head: SealedHead,
    tag: [u8; SIV_TAG_BYTES],
    text: &'v [u8],
}

impl<C> Sealed<C> {
    /// Opens the storage, completes what a power cut left half done, and erases what is old.
    ///
    /// Errors: 1101 it is not the one that the counter belongs to; 1102 no half of it can be read, though the counter says
    /// that something was stored; 1103 the vault. All but 1103 end with [`Sealed::start_anew`] only.
    pub fn open<F: Flash>(
        flash: &mut F,
        layout: &Layout,
        mut counter: C,
        vault: &mut impl KeyVault,
    ) -> Result<Sealed<C>, Reason>
    where
        C: Counter<F>,
    {
        let keys = Keys::derive(vault)?;
        let halves = layout.sealed;
        let count = counter.read(flash)?;
        let mut best: Option<State> = None;
        let mut seen = false;
        for (number, area) in halves.into_iter().enumerate() {
            let Some(state) = read_half(flash, area, number, &keys)? else {
                continue;
            };
            seen = true;
            let is_next = count.checked_add(1) == Some(state.generation);
            let counts = state.generation == count || is_next;
            let is_later = best.is_none_or(|best| (state.generation, state.base) > (best.generation, best.base));
            if counts && is_later {
                best = Some(state);
            }
        }
        let state = match best {
            Some(state) => state,
            None if count == 0 && !seen => NOTHING,
            None if seen => return Err(Reason::SealedReplayed),
            None => return Err(Reason::SealedDamaged),
        };
        counter.advance_to(flash, state.generation)?;
        let sealed = Sealed {
            halves,
            counter,
            keys,
            state,
        };
        sealed.erase_old(flash)?;
        Ok(sealed)
    }

    /// Makes the storage empty, whatever stands there; the counter goes on from where it is. For a new device, for one
    /// whose storage is lost, and for one that goes to another owner.
    pub fn start_anew<F: Flash>(
        flash: &mut F,
        layout: &Layout,
        mut counter: C,
        vault: &mut impl KeyVault,
    ) -> Result<Sealed<C>, Reason>
    where
        C: Counter<F>,
    {
        let keys = Keys::derive(vault)?;
        let generation = counter.read(flash)?;
        let halves = layout.sealed;
        halves.iter().try_for_each(|half| half.erase(flash))?;
        let state = State { generation, ..NOTHING };
        let mut sealed = Sealed {
            halves,
            counter,
            keys,
            state,
        };
        sealed.rewrite(flash, &|_| false, None)?;
        Ok(sealed)
    }

    /// The value of a name, in the front of `out`; `None` when there is none. Refuses (105) when it is longer than `out`
    /// less 16 bytes.
    pub fn get<'o, F: Flash>(&self, flash: &mut F, name: &[u8], out: &'o mut [u8]) -> Result<Option<&'o [u8]>, Reason> {
        let Some((at, head)) = self.find(flash, name)? else {
            return Ok(None);
        };
        let len = usize::from(head.value_len);
        let (tag, text) = out
            .get_mut(..scratch_bytes(len))
            .and_then(|out| out.split_first_chunk_mut::<SIV_TAG_BYTES>())
            .ok_or(Reason::Limit)?;
        let text_at = at.saturating_add(SEALED_HEAD_BYTES as u32);
        flash.read(text_at, tag)?;
        flash.read(text_at.saturating_add(SIV_TAG_BYTES as u32), text)?;
        let opened = siv::open(&self.keys.seal, &head.to_bytes(), text, tag);
        opened.map_err(|_| Reason::SealedDamaged)?;
        let out = out.get_mut(..scratch_bytes(len)).ok_or(Reason::Limit)?;
        out.copy_within(SIV_TAG_BYTES.., 0);
        Ok(out.get(..len))
    }

    /// Sets a value: after a cut it is this one or the one before. `scratch` holds at least [`scratch_bytes`] of it.
    ///
    /// Errors: 105 name, value or scratch; 1016 what stays and this do not fit together; nothing changes.
    pub fn set<F: Flash>(&mut self, flash: &mut F, name: &[u8], value: &[u8], scratch: &mut [u8]) -> Result<(), Reason>
    where
        C: Counter<F>,
    {
        let generation = self.state.generation.checked_add(1).ok_or(Reason::StateFull)?;
        let head = SealedHead::new(name, value.len(), generation).ok_or(Reason::Limit)?;
        let text = scratch.get_mut(..value.len()).ok_or(Reason::Limit)?;
        text.copy_from_slice(value);
        let tag = siv::seal(&self.keys.seal, &head.to_bytes(), text);
        let put = Put { head, tag, text };
        match self.room() {
            Some(active) if put.appended_len() <= active.len.saturating_sub(self.state.end) => {
                self.append(flash, active, &put)
            }
            _ => self.rewrite(flash, &|other| other != name, Some(&put)),
        }
    }

    /// Removes a name and destroys its value: when this returns, no encrypted copy is left. Nothing happens to a name that
    /// is not there.
    pub fn remove<F: Flash>(&mut self, flash: &mut F, name: &[u8]) -> Result<(), Reason>
    where
        C: Counter<F>,
    {
        if self.find(flash, name)?.is_none() {
            return Ok(());
        }
        self.rewrite(flash, &|other| other != name, None)
    }

    /// Removes everything and destroys it; the counter is not reset.
    pub fn clear<F: Flash>(&mut self, flash: &mut F) -> Result<(), Reason>
    where
        C: Counter<F>,
    {
        self.rewrite(flash, &|_| false, None)
    }

    /// Calls `each` with every name and the length of its value.
    pub fn for_each<F: Flash>(&self, flash: &mut F, mut each: impl FnMut(&[u8], usize)) -> Result<(), Reason> {
        let mut at = SEALED_HEADER_BYTES as u32;
        while let Some((head, next)) = self.record_at(flash, at)? {
            if !self.is_replaced(flash, head.name(), next)? {
                each(head.name(), head.value_len.into());
            }
            at = next;
        }
        Ok(())
    }

    /// How many changes were ever made.
    pub fn generation(&self) -> u32 {
        self.state.generation
    }

    /// The half that a record can be appended to.
    fn room(&self) -> Option<Area> {
        self.active().filter(|_| self.state.is_clean)
    }

    fn active(&self) -> Option<Area> {
        self.state.active.and_then(|number| self.halves.get(number).copied())
    }

    /// Address and head of the latest record of a name.
    fn find<F: Flash>(&self, flash: &mut F, name: &[u8]) -> Result<Option<(u32, SealedHead)>, Reason> {
        let (mut at, mut found) = (SEALED_HEADER_BYTES as u32, None);
        let start = self.active().map_or(0, |area| area.start);
        while let Some((head, next)) = self.record_at(flash, at)? {
            if head.name() == name {
                found = Some((start.saturating_add(at), head));
            }
            at = next;
        }
        Ok(found)
    }

    fn is_replaced<F: Flash>(&self, flash: &mut F, name: &[u8], mut from: u32) -> Result<bool, Reason> {
        while let Some((head, next)) = self.record_at(flash, from)? {
            if head.name() == name {
                return Ok(true);
            }
            from = next;
        }
        Ok(false)
    }

    /// The record at this offset of the half that counts, and the offset of the next one.
    fn record_at<F: Flash>(&self, flash: &mut F, at: u32) -> Result<Option<(SealedHead, u32)>, Reason> {
        let Some(area) = self.active().filter(|_| at < self.state.end) else {
            return Ok(None);
        };
        let head = read_head(flash, area, at)?.ok_or(Reason::SealedDamaged)?;
        let mut next = at.saturating_add(record_len(&head));
        // What was appended to the half carries a code of its own.
        if head.generation > self.state.base {
            next = next.saturating_add(SEALED_CODE_BYTES as u32);
        }
        Ok(Some((head, next)))
    }

    /// Generation n+1 behind the last record.
    fn append<F: Flash>(&mut self, flash: &mut F, active: Area, put: &Put<'_>) -> Result<(), Reason>
    where
        C: Counter<F>,
    {
        let at = active.start.saturating_add(self.state.end);
        // Until it is read back, nobody knows what stands there.
        self.state.is_clean = false;
        put.write(flash, at)?;
        let len = record_len(&put.head);
        let mut hmac = HmacSha256::new(&self.keys.code);
        hmac.update(&self.state.code);
        code_into(&mut hmac, flash, at, len)?;
        let code = hmac.finish();
        if code != put.code_behind(&self.keys, &self.state.code) {
            return Err(Reason::StorageFailed);
        }
        let code_at = at.saturating_add(len);
        flash.write(code_at, &code)?;
        if read_code(flash, code_at)? != code {
            return Err(Reason::StorageFailed);
        }
        self.counter.advance_to(flash, put.head.generation)?;
        self.state = State {
            generation: put.head.generation,
            end: self.state.end.saturating_add(put.appended_len()),
            code,
            is_clean: true,
            ..self.state
        };
        Ok(())
    }

    /// Generation n+1 in the other half: the latest record of each name that stays, and perhaps one more.
    fn rewrite<F: Flash>(
        &mut self,
        flash: &mut F,
        stays: &dyn Fn(&[u8]) -> bool,
        put: Option<&Put<'_>>,
    ) -> Result<(), Reason>
    where
        C: Counter<F>,
    {
        let generation = self.state.generation.checked_add(1).ok_or(Reason::StateFull)?;
        let other = if self.state.active == Some(0) { 1 } else { 0 };
        let area = self.halves.get(other).copied().ok_or(Reason::LayoutRefused)?;
        let put_len = put.map_or(0, |put| record_len(&put.head));
        let body_len = self.copied_len(flash, stays)?.saturating_add(put_len);
        if body_len.saturating_add(SEALED_HEADER_BYTES as u32) > area.len {
            return Err(Reason::StateFull);
        }
        area.erase(flash)?;
        let mut to = area.start.saturating_add(SEALED_HEADER_BYTES as u32);
        self.each_staying(flash, stays, |flash, from, len| {
            copy(flash, from, to, len)?;
            to = to.saturating_add(len);
            Ok(())
        })?;
        if let Some(put) = put {
            put.write(flash, to)?;
        }
        let header = SealedHeader { generation, body_len }.to_bytes();
        let body_at = area.start.saturating_add(SEALED_HEADER_BYTES as u32);
        let mut hmac = HmacSha256::new(&self.keys.code);
        hmac.update(&header);
        code_into(&mut hmac, flash, body_at, body_len)?;
        let code = hmac.finish();
        let mut bytes = [0; SEALED_HEADER_BYTES];
        if let Some((front, back)) = bytes.split_first_chunk_mut::<SEALED_HEADER_CODED_BYTES>() {
            *front = header;
            back.copy_from_slice(&code);
        }
        flash.write(area.start, &bytes)?;
        // Read back before what it was copied from goes: the code covers header and body as they stand in the flash.
        let state = read_half(flash, area, other, &self.keys)?.filter(|state| state.generation == generation);
        let state = state.ok_or(Reason::StorageFailed)?;
        self.counter.advance_to(flash, generation)?;
        self.state = state;
        self.erase_old(flash)
    }

    fn copied_len<F: Flash>(&self, flash: &mut F, stays: &dyn Fn(&[u8]) -> bool) -> Result<u32, Reason> {
        let mut sum = 0u32;
        self.each_staying(flash, stays, |_, _, len| {
            sum = sum.saturating_add(len);
            Ok(())
        })?;
        Ok(sum)
    }

    /// Calls `each` with address and length, without a code, of the latest record of each name that stays.
    fn each_staying<F: Flash>(
        &self,
        flash: &mut F,
        stays: &dyn Fn(&[u8]) -> bool,
        mut each: impl FnMut(&mut F, u32, u32) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        let start = self.active().map_or(0, |area| area.start);
        let mut at = SEALED_HEADER_BYTES as u32;
        while let Some((head, next)) = self.record_at(flash, at)? {
            if stays(head.name()) && !self.is_replaced(flash, head.name(), next)? {
                each(flash, start.saturating_add(at), record_len(&head))?;
            }
            at = next;
        }
        Ok(())
    }

    /// The half that does not count is erased, unless it is already.
    fn erase_old<F: Flash>(&self, flash: &mut F) -> Result<(), Reason> {
        for (number, half) in self.halves.iter().enumerate() {
            if self.state.active != Some(number) && !is_erased(flash, half.start, half.len)? {
                half.erase(flash)?;
            }
        }
        Ok(())
    }
}

impl Keys {
    fn derive(vault: &mut impl KeyVault) -> Result<Keys, Reason> {
        let mut keys = Keys {
            seal: [0; SIV_KEY_BYTES],
            code: [0; SEALED_CODE_BYTES],
        };
        vault.derive(SEAL_LABEL, &mut keys.seal)?;
        vault.derive(CODE_LABEL, &mut keys.code)?;
        Ok(keys)
    }
}

impl Put<'_> {
    /// Bytes with the code behind them.
    fn appended_len(&self) -> u32 {
        record_len(&self.head).saturating_add(SEALED_CODE_BYTES as u32)
    }

    /// Head, tag, cipher text, zeros.
    fn blocks(&self, mut each: impl FnMut(u32, &[u8]) -> Result<(), Reason>) -> Result<(), Reason> {
        each(0, &self.head.to_bytes())?;
        let mut at = SEALED_HEAD_BYTES as u32;
        let mut rest = self.tag.iter().chain(self.text);
        while at < record_len(&self.head) {
            let mut unit = [0; UNIT_BYTES];
            unit.iter_mut().zip(&mut rest).for_each(|(to, from)| *to = *from);
            each(at, &unit)?;
            at = at.saturating_add(UNIT_BYTES as u32);
        }
        Ok(())
    }

    fn write(&self, flash: &mut impl Flash, at: u32) -> Result<(), Reason> {
        self.blocks(|offset, block| write_padded(flash, at.saturating_add(offset), block))
    }

    fn code_behind(&self, keys: &Keys, before: &Code) -> Code {
        let mut hmac = HmacSha256::new(&keys.code);
        hmac.update(before);
        // The closure never fails.
        let _ = self.blocks(|_, block| {
            hmac.update(block);
            Ok(())
        });
        hmac.finish()
    }
}

/// Bytes of a record without a code behind it.
fn record_len(head: &SealedHead) -> u32 {
    (SEALED_HEAD_BYTES as u32).saturating_add(head.text_len())
}

/// What a half says, up to the last record whose code is right; `None` when it does not begin like a half of this device.
fn read_half(flash: &mut impl Flash, area: Area, number: usize, keys: &Keys) -> Result<Option<State>, Reason> {
    let mut bytes = [0; SEALED_HEADER_CODED_BYTES];
    flash.read(area.start, &mut bytes)?;
    let Some(header) = SealedHeader::parse(&bytes) else {
        return Ok(None);
    };
    let end = header.body_len.saturating_add(SEALED_HEADER_BYTES as u32);
    if end > area.len {
        return Ok(None);
    }
    let body_at = area.start.saturating_add(SEALED_HEADER_BYTES as u32);
    let mut hmac = HmacSha256::new(&keys.code);
    hmac.update(&bytes);
    code_into(&mut hmac, flash, body_at, header.body_len)?;
    let code = hmac.finish();
    let stored = read_code(flash, area.start.saturating_add(SEALED_HEADER_CODED_BYTES as u32))?;
    if !same(&code, &stored) {
        return Ok(None);
    }
    let mut state = State {
        active: Some(number),
        generation: header.generation,
        base: header.generation,
        end,
        code,
        is_clean: false,
    };
    while let Some(next) = read_appended(flash, area, &state, keys)? {
        state = next;
    }
    let end_at = area.start.saturating_add(state.end);
    state.is_clean = is_erased(flash, end_at, area.len.saturating_sub(state.end))?;
    Ok(Some(state))
}

/// The state behind one more record, if a whole one of the next generation stands there.
fn read_appended(flash: &mut impl Flash, area: Area, state: &State, keys: &Keys) -> Result<Option<State>, Reason> {
    let Some(head) = read_head(flash, area, state.end)? else {
        return Ok(None);
    };
    let len = record_len(&head);
    let code_offset = state.end.saturating_add(len);
    let end = code_offset.saturating_add(SEALED_CODE_BYTES as u32);
    if end > area.len || state.generation.checked_add(1) != Some(head.generation) {
        return Ok(None);
    }
    let mut hmac = HmacSha256::new(&keys.code);
    hmac.update(&state.code);
    code_into(&mut hmac, flash, area.start.saturating_add(state.end), len)?;
    let code = hmac.finish();
    let stored = read_code(flash, area.start.saturating_add(code_offset))?;
    Ok(same(&code, &stored).then_some(State {
        generation: head.generation,
        end,
        code,
        ..*state
    }))
}

fn read_head(flash: &mut impl Flash, area: Area, at: u32) -> Result<Option<SealedHead>, Reason> {
    if at.saturating_add(SEALED_HEAD_BYTES as u32) > area.len {
        return Ok(None);
    }
    let mut bytes = [0; SEALED_HEAD_BYTES];
    flash.read(area.start.saturating_add(at), &mut bytes)?;
    Ok(SealedHead::parse(&bytes))
}

fn read_code(flash: &mut impl Flash, at: u32) -> Result<Code, Reason> {
    let mut code = [0; SEALED_CODE_BYTES];
    flash.read(at, &mut code)?;
    Ok(code)
}

fn code_into(hmac: &mut HmacSha256, flash: &mut impl Flash, start: u32, len: u32) -> Result<(), Reason> {
    each_block(flash, start, len, |_, _, block| {
        hmac.update(block);
        Ok(())
    })
}

fn copy<F: Flash>(flash: &mut F, from: u32, to: u32, len: u32) -> Result<(), Reason> {
    each_block(flash, from, len, |flash: &mut F, offset, block| {
        Ok(flash.write(to.saturating_add(offset), block)?)
    })
}

fn is_erased(flash: &mut impl Flash, start: u32, len: u32) -> Result<bool, Reason> {
    let erased = flash.erased();
    let mut all = true;
    each_block(flash, start, len, |_, _, block| {
        all &= block.iter().all(|byte| *byte == erased);
        Ok(())
    })?;
    Ok(all)
}

/// Reads in blocks, and calls `each` with the offset of each one.
fn each_block<F: Flash>(
    flash: &mut F,
    start: u32,
    len: u32,
    mut each: impl FnMut(&mut F, u32, &[u8]) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let mut at = 0;
    while at < len {
        let mut block = [0; BLOCK_BYTES];
        let take = (len - at).min(BLOCK_BYTES as u32);
        let block = block.get_mut(..take as usize).unwrap_or(&mut []);
        flash.read(start.saturating_add(at), block)?;
        each(flash, at, block)?;
        at = at.saturating_add(take);
    }
    Ok(())
}
