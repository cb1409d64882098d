//! Signing where nothing can be plugged in: the bytes to sign go out, the signature comes back.
//!
//! The first half is here; the second is [`keys::external::ExternalSignature`], a signer that every function of this
//! crate takes like any other. What goes out is the `Sig_structure` of COSE (RFC 9052, section 4.4), which names the key:
//! it is made anew for each signer.

use codec::cose::{self, SigStructure};
use codec::roots::FileKind;
use keys::{Code, PublicKey, Result, SignatureAlgorithm};
use trust::Sha256;

use crate::envelope::{Envelope, check_digest};
use crate::root::proposal::kind_name;
use crate::root::{Proposal, to_vec};

/// What `key` must sign to add its block to a release. Ed25519 signs these bytes, ECDSA their SHA-256.
///
/// Errors: [`Code::SameKeyTwice`] the key has signed already; 211 and 212 when the manifest is not the one that is
/// signed.
pub fn release_to_sign(release: &Envelope, key: &PublicKey) -> Result<Vec<u8>> {
    let head = release.head();
    check_digest(&head).map_err(|refused| keys::Error::refused("the release", refused))?;
    let id = key.thumbprint();
    let mut blocks = head.blocks.filter_map(std::result::Result::ok);
    if blocks.any(|block| *block.kid == id) {
        return Err(Code::SameKeyTwice.error("this key has signed this release already"));
    }
    Ok(structure(key, &[], head.signed))
}

/// What `key` must sign to add its block to a trust root, revocation list or time file.
///
/// Error: [`Code::SameKeyTwice`] the key has signed already.
pub fn proposal_to_sign(proposal: &Proposal, key: &PublicKey) -> Result<Vec<u8>> {
    let id = key.thumbprint();
    if proposal.signers().any(|present| *present == id) {
        let what = format!("this key has signed this {} already", kind_name(proposal.kind()));
        return Err(Code::SameKeyTwice.error(what));
    }
    Ok(file_to_sign(proposal.kind(), proposal.content(), key))
}

/// The same with the content alone.
pub fn file_to_sign(kind: FileKind, content: &[u8], key: &PublicKey) -> Vec<u8> {
    structure(key, kind.external_aad(), content)
}

/// The SHA-256 of bytes to sign, for a vault that takes digests only.
///
/// Error: [`Code::Argument`] for Ed25519, which signs the message itself (RFC 8032).
pub fn digest_to_sign(key: &PublicKey, to_sign: &[u8]) -> Result<[u8; 32]> {
    if key.algorithm() == SignatureAlgorithm::Esp256 {
        return Ok(Sha256::of(to_sign));
    }
    let what = format!("{} signs the message, not its digest", key.algorithm_name());
    Err(Code::Argument
        .error(what)
        .advise("Leave --digest away: the vault needs the whole message."))
}

/// The protected header of `key`'s block.
pub(crate) fn protected(key: &PublicKey) -> Vec<u8> {
    let id = key.thumbprint();
    to_vec(|writer| cose::write_protected(writer, key.algorithm().cose(), &id, None))
}

fn structure(key: &PublicKey, external_aad: &[u8], payload: &[u8]) -> Vec<u8> {
    let protected = protected(key);
    SigStructure::new(&protected, external_aad, payload).parts().concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec::limits::Limits;
    use codec::roots::RootFile;
    use keys::external::ExternalSignature;
    use keys::{Content, Job, Object, Purpose, Signer, file};

    /// The example root of the profile, signed twice.
    const ROOT: &str = include_str!("../tests/data/profile-root.hex");

    #[test]
    fn a_signature_made_elsewhere_over_the_bytes_given_out_is_a_block_of_its_file_and_of_no_other() {
        let bytes = crate::root::tests::unhex(ROOT);
        let content = RootFile::decode(&bytes, &Limits::LINUX).unwrap().content;
        let purpose = Purpose {
            object: Object::Root,
            subject: "version 1".into(),
            digest: Sha256::of(content),
        };
        for algorithm in [SignatureAlgorithm::Ed25519, SignatureAlgorithm::Esp256] {
            let vault = file::generate(algorithm).unwrap();
            let key = vault.public_key();
            let to_sign = file_to_sign(FileKind::Root, content, key);
            let made = vault.sign(&Job {
                content: Content::Message(&[&to_sign]),
                purpose: &purpose,
            });
            let external = ExternalSignature::parse(key.clone(), made.unwrap().as_cose(), "file a.sig").unwrap();
            let block = |kind: FileKind| crate::root::Block::sign(&external, kind.external_aad(), content, &purpose);
            assert!(block(FileKind::Root).is_ok());
            assert!(block(FileKind::Revoke).err().unwrap().is(Code::SignatureForeign));
        }
    }

    #[test]
    fn only_ecdsa_signs_a_digest_in_place_of_the_message() {
        let key = |algorithm| file::generate(algorithm).unwrap().public_key().clone();
        let digest = digest_to_sign(&key(SignatureAlgorithm::Esp256), b"abc").unwrap();
        assert_eq!(digest, Sha256::of(b"abc"));
        let refused = digest_to_sign(&key(SignatureAlgorithm::Ed25519), b"abc").unwrap_err();
        assert!(refused.is(Code::Argument));
    }
}
