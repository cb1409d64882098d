//! Images: the strict walk agrees with the plain iterator, and what it accepts can be built again byte for byte.

use codec::mcuboot::tlv::{AreaWriter, RawTlv, Tlvs};
use codec::mcuboot::{Area, Dependency, HEADER_BYTES, ImageHeader, Walk, der, rule};

/// Any bytes as an image, as its first header, and as a signature.
pub fn run(data: &[u8]) {
    signature(data);
    let Some(first) = data.first_chunk::<HEADER_BYTES>() else {
        return;
    };
    if let Ok(header) = ImageHeader::decode(first) {
        // Whatever a foreign image says, looking at it ends.
        let entries = Tlvs::new(data, &header).count();
        assert!(entries <= data.len());
    }
    let Ok(header) = ImageHeader::parse(first) else { return };
    assert_eq!(header.to_bytes(), *first);
    assert!(header.tlv_offset() <= header.signed_len());
    image(data, &header);
}

fn image(data: &[u8], header: &ImageHeader) {
    let limit = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut walk = Walk::new(header, limit);
    let mut plain = Tlvs::new(data, header);
    let mut reader = data;
    let mut areas: [Vec<RawTlv<'_>>; 2] = [Vec::new(), Vec::new()];
    loop {
        match walk.next(&mut reader) {
            Ok(Some(tlv)) => {
                let raw = plain
                    .next()
                    .expect("the plain iterator sees as much")
                    .expect("and finds no fault");
                let start = tlv.offset as usize;
                assert_eq!(
                    (raw.kind, raw.value),
                    (tlv.kind, &data[start..start + usize::from(tlv.len)])
                );
                assert!(rule(tlv.kind).expect("a rule").check(raw.area, tlv.len).is_ok());
                dependency(&raw);
                areas[usize::from(raw.area == Area::Unprotected)].push(raw);
            }
            Ok(None) => break,
            Err(reason) => {
                assert_eq!(walk.next(&mut reader), Err(reason), "an error is final");
                return;
            }
        }
    }
    assert!(plain.next().is_none());
    assert_eq!(plain.image_len(), walk.image_len() as usize);
    assert!(walk.image_len() <= limit);
    built_again(data, header, &areas, walk.image_len() as usize);
}

/// The builder writes what the reader accepted.
fn built_again(data: &[u8], header: &ImageHeader, areas: &[Vec<RawTlv<'_>>; 2], len: usize) {
    let mut room = vec![0; usize::from(u16::MAX)];
    let mut at = header.tlv_offset() as usize;
    for (area, entries) in [Area::Protected, Area::Unprotected].into_iter().zip(areas) {
        if area == Area::Protected && header.protect_tlv_size == 0 {
            continue;
        }
        let mut writer = AreaWriter::new(area, &mut room);
        for entry in entries {
            writer.push(entry.kind, entry.value).expect("the same rules");
        }
        let written = writer.finish().expect("a whole area");
        assert_eq!(room[..written], data[at..at + written]);
        at += written;
    }
    assert_eq!(at, len);
}

fn dependency(raw: &RawTlv<'_>) {
    if let Ok(bytes) = raw.value.try_into()
        && let Ok(dependency) = Dependency::parse(bytes)
    {
        assert_eq!(dependency.to_bytes()[..], *raw.value);
    }
}

/// DER has one encoding for each signature.
fn signature(data: &[u8]) {
    if let Ok(raw) = der::to_raw(data) {
        assert_eq!(der::from_raw(&raw).as_bytes(), data);
    }
    if let Some(raw) = data.first_chunk() {
        assert_eq!(der::to_raw(der::from_raw(raw).as_bytes()), Ok(*raw));
    }
}
