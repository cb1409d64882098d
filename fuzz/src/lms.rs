//! LMS: keys as they come in a trust root, signatures as they stand in an image, also read by pieces.

use trust::alg::{BadSignature, Pieces};
use trust::lms::{HssLms, PUBLIC_BYTES_MAX, SIGNATURE_BYTES_MAX, Tree};
use trust::{PublicKey, Verifier};

/// The first byte says how many bytes are the key; a message of 32 bytes and the signature follow.
pub fn run(data: &[u8]) {
    let Some((len, rest)) = data.split_first() else { return };
    let Some((public, rest)) = rest.split_at_checked(usize::from(*len)) else {
        return;
    };
    let key = PublicKey::HssLms { public };
    let tree = Tree::of(public);
    assert_eq!(tree.is_ok(), HssLms.check_key(&key).is_ok());
    let Some((message, signature)) = rest.split_first_chunk::<32>() else {
        return;
    };
    let whole = HssLms.verify_digest(&key, message, signature);
    let mut pieces = signature;
    let by_pieces = HssLms.verify_digest_from(&key, message, &mut pieces as &mut dyn Pieces);
    assert_eq!(whole, by_pieces);
    match tree {
        Ok(tree) => {
            assert!(public.len() == tree.parameters.public_bytes() && public.len() <= PUBLIC_BYTES_MAX);
            let fits = signature.len() == tree.parameters.signature_bytes() && signature.len() <= SIGNATURE_BYTES_MAX;
            assert!(fits || whole == Err(BadSignature));
        }
        Err(_) => assert_eq!(whole, Err(BadSignature)),
    }
}
