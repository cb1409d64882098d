//! Policies of a TPM, signed by an authority: what must have been measured (PCRs) for the vault to open.
//!
//! The vault is sealed to the authority's key (PolicyAuthorize, TPM 2.0 Library part 1 section 19.7.11), never to
//! measured values: a firmware update brings a policy for its own values, and the vault stays.

use keys::{Code, Result};
use serde::{Deserialize, Serialize};
use trust::Sha256;

/// PCRs of one policy at most: those that a TPM has.
pub const PCRS_MAX: usize = 24;
/// Bytes of the word that tells one family of policies from another.
pub const REFERENCE_BYTES_MAX: usize = 32;
/// TPM_CC_PolicyPCR.
const POLICY_PCR: [u8; 4] = [0, 0, 1, 0x7f];
/// One selection: of TPM_ALG_SHA256, three bytes of bits.
const SELECTION: [u8; 7] = [0, 0, 0, 1, 0, 0x0b, 3];

/// What an authority approved.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedPolicy {
    /// The PCRs of the SHA-256 bank that are looked at, ascending.
    pub pcrs: Vec<u8>,
    /// The policy's digest, in hex: [`digest`] of the values that are expected.
    pub digest: String,
    /// The family of the policy; the vault was made for one.
    pub reference: String,
    /// The authority's ECDSA signature over [`message`], in DER, in hex.
    pub signature: String,
}

impl SignedPolicy {
    /// Reads the TOML form. Error: [`Code::PolicyMalformed`].
    pub fn read(text: &str) -> Result<SignedPolicy> {
        let wrong = |what: String| Code::PolicyMalformed.error(what);
        let policy: SignedPolicy = toml::from_str(text).map_err(|error| wrong(error.message().into()))?;
        check_pcrs(&policy.pcrs)?;
        policy.digest()?;
        policy.raw_signature()?;
        match policy.reference.len() <= REFERENCE_BYTES_MAX {
            true => Ok(policy),
            false => Err(wrong(format!(
                "the reference has more than {REFERENCE_BYTES_MAX} bytes"
            ))),
        }
    }

    /// The TOML form.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// The digest's bytes.
    pub fn digest(&self) -> Result<[u8; 32]> {
        let bytes = from_hex(&self.digest).and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| Code::PolicyMalformed.error("the digest is not 32 bytes in hex"))
    }

    /// r and s.
    pub(crate) fn raw_signature(&self) -> Result<[Vec<u8>; 2]> {
        let der = from_hex(&self.signature).unwrap_or_default();
        integers(&der).ok_or_else(|| Code::PolicyMalformed.error("the signature is no ECDSA signature in hex"))
    }
}

/// The digest of the policy that these PCRs have these values (TPM 2.0 Library part 3, TPM2_PolicyPCR).
///
/// Error: [`Code::PolicyMalformed`]: not as many values as PCRs, or a PCR that there is not.
pub fn digest(pcrs: &[u8], values: &[[u8; 32]]) -> Result<[u8; 32]> {
    check_pcrs(pcrs)?;
    if pcrs.len() != values.len() {
        return Err(Code::PolicyMalformed.error("there are not as many values as PCRs"));
    }
    let mut bits = [0u8; 3];
    for pcr in pcrs {
        bits[usize::from(pcr / 8)] |= 1 << (pcr % 8);
    }
    let values = Sha256::of(&values.concat());
    Ok(Sha256::of_parts(&[&[0; 32], &POLICY_PCR, &SELECTION, &bits, &values]))
}

/// What the authority signs (ECDSA over its SHA-256): the digest and the reference.
pub fn message(digest: &[u8; 32], reference: &str) -> Vec<u8> {
    [&digest[..], reference.as_bytes()].concat()
}

fn check_pcrs(pcrs: &[u8]) -> Result<()> {
    let is_good = !pcrs.is_empty() && pcrs.is_sorted_by(|a, b| a < b) && pcrs.iter().all(|pcr| *pcr < PCRS_MAX as u8);
    match is_good {
        true => Ok(()),
        false => Err(Code::PolicyMalformed.error("PCRs are numbers from 0 to 23, ascending, each once")),
    }
}

/// The two integers of an Ecdsa-Sig-Value in DER, without leading zeros, of at most 32 bytes each.
fn integers(der: &[u8]) -> Option<[Vec<u8>; 2]> {
    let (r, rest) = element(0x02, element(0x30, der).filter(|(_, rest)| rest.is_empty())?.0)?;
    let (s, rest) = element(0x02, rest)?;
    let number = |bytes: &[u8]| {
        let start = bytes.iter().position(|byte| *byte != 0)?;
        (bytes.len() - start <= 32).then(|| bytes[start..].to_vec())
    };
    rest.is_empty().then_some([number(r)?, number(s)?])
}

fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let ([first, len], rest) = der.split_first_chunk::<2>()?;
    (*first == tag && *len < 0x80).then(|| rest.split_at_checked((*len).into()))?
}

/// Bytes in hex.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs
        .remainder()
        .is_empty()
        .then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> SignedPolicy {
        SignedPolicy {
            pcrs: vec![7, 11],
            digest: to_hex(&[1; 32]),
            reference: "pump".into(),
            signature: "3006020101020102".into(),
        }
    }

    #[test]
    fn a_policy_comes_back_and_nonsense_has_a_number() {
        assert_eq!(SignedPolicy::read(&policy().to_toml()).unwrap(), policy());
        let nonsense: [fn(&mut SignedPolicy); 7] = [
            |policy| policy.pcrs = vec![],
            |policy| policy.pcrs = vec![24],
            |policy| policy.pcrs = vec![7, 7],
            |policy| policy.digest.truncate(62),
            |policy| policy.digest.replace_range(0..1, "x"),
            |policy| policy.signature = "30060201010201".into(),
            |policy| policy.reference = "x".repeat(33),
        ];
        for (number, spoil) in nonsense.into_iter().enumerate() {
            let mut policy = policy();
            spoil(&mut policy);
            assert!(
                SignedPolicy::read(&policy.to_toml())
                    .unwrap_err()
                    .is(Code::PolicyMalformed),
                "{number}"
            );
        }
        assert!(SignedPolicy::read("pcrs = 1").unwrap_err().is(Code::PolicyMalformed));
    }
}
