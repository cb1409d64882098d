//! Strict CBOR: what is accepted is exactly what an independent writer of the same items writes.

use codec::cbor::{self, Extent, Kind, Reader, Writer};

/// Any bytes as one item.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    let Ok(item) = reader.item() else { return };
    let mut again = vec![0; item.len()];
    let again = cbor::encode(&mut again, |w| copy(&mut Reader::new(item), w)).expect("as long as it was");
    assert_eq!(again, item);
    assert_eq!(cbor::extent(data), Ok(Extent::Complete(item.len())));
    for length in 0..item.len() {
        assert!(matches!(cbor::extent(&item[..length]), Ok(Extent::Needs(needed)) if needed > length));
    }
}

/// Writes one accepted item again, part by part.
fn copy(reader: &mut Reader<'_>, w: &mut Writer<'_>) {
    match reader.peek().expect("an item") {
        Kind::Uint => drop(w.uint(reader.uint().expect("a number"))),
        Kind::Negative => {
            let item = reader.item().expect("a number");
            match Reader::new(item).int() {
                Ok(value) => drop(w.int(value)),
                // Below the range of i64: well-formed, and no place of the profile takes it.
                Err(_) => drop(w.raw(item)),
            }
        }
        Kind::Bytes => drop(w.bytes(reader.bytes().expect("bytes"))),
        Kind::Text => drop(w.text(reader.text().expect("text"))),
        Kind::Array => {
            let count = reader.array().expect("an array");
            w.array(count);
            (0..count).for_each(|_| copy(reader, w));
        }
        Kind::Map => {
            let count = reader.map().expect("a map");
            w.map(count);
            (0..2 * count).for_each(|_| copy(reader, w));
        }
        Kind::Tag => {
            w.tag(reader.tag().expect("a tag"));
            copy(reader, w);
        }
        Kind::Simple => drop(w.raw(reader.item().expect("true or null"))),
    }
}

fn drop<T>(_: T) {}
