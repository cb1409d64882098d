//! A dialogue as one input: frames behind each other, two bytes of length each.

/// The frames of an input; the last may be cut short.
pub fn frames(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (frame, rest) = rest.split_at(length);
        data = rest;
        Some(frame)
    })
}

/// An input of these frames.
pub fn script<F: AsRef<[u8]>>(frames: impl IntoIterator<Item = F>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        let frame = frame.as_ref();
        bytes.extend(u16::try_from(frame.len()).expect("a short frame").to_be_bytes());
        bytes.extend(frame);
    }
    bytes
}

/// The seed is what stands in the corpus; with AMPOULE_RENEW set it is written.
#[cfg(test)]
pub(crate) fn keep(target: &str, name: &str, seed: &[u8]) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    if std::env::var_os("AMPOULE_RENEW").is_some() {
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(name), seed).expect("a file");
    }
    let kept = std::fs::read(folder.join(name)).expect("a seed; write it with AMPOULE_RENEW=1");
    assert!(kept == seed, "{target}/{name} is another; renew with AMPOULE_RENEW=1");
}
