//! CBOR for fixtures, written independently of `codec`: it encodes whatever a test asks for, right or wrong.

/// One item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// An integer.
    Int(i64),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A text string.
    Text(String),
    /// An array.
    Array(Vec<Value>),
    /// A map, encoded in this order.
    Map(Vec<(Value, Value)>),
    /// A tagged item.
    Tag(u64, Box<Value>),
    /// `null`.
    Null,
    /// Bytes that stand as they are.
    Raw(Vec<u8>),
}

impl Value {
    /// A byte string that holds the encoding of another item.
    pub fn embed(inner: &Value) -> Value {
        Value::Bytes(inner.encode())
    }

    /// A map in the deterministic order of its keys.
    pub fn sorted(mut entries: Vec<(Value, Value)>) -> Value {
        entries.sort_by_key(|(key, _)| key.encode());
        Value::Map(entries)
    }

    /// A map with integer keys in deterministic order.
    pub fn keyed(entries: impl IntoIterator<Item = (i64, Value)>) -> Value {
        Value::sorted(
            entries
                .into_iter()
                .map(|(key, value)| (Value::Int(key), value))
                .collect(),
        )
    }

    /// The encoding, shortest form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Int(n) if *n >= 0 => header(out, 0, *n as u64),
            Value::Int(n) => header(out, 1, !*n as u64),
            Value::Bytes(bytes) => {
                header(out, 2, bytes.len() as u64);
                out.extend(bytes);
            }
            Value::Text(text) => {
                header(out, 3, text.len() as u64);
                out.extend(text.as_bytes());
            }
            Value::Array(items) => {
                header(out, 4, items.len() as u64);
                items.iter().for_each(|item| item.write(out));
            }
            Value::Map(entries) => {
                header(out, 5, entries.len() as u64);
                entries.iter().for_each(|(key, value)| {
                    key.write(out);
                    value.write(out);
                });
            }
            Value::Tag(tag, inner) => {
                header(out, 6, *tag);
                inner.write(out);
            }
            Value::Null => out.push(0xf6),
            Value::Raw(bytes) => out.extend(bytes),
        }
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        Value::Bytes(bytes.to_vec())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}

/// The head of an item: major type and argument, shortest form.
pub fn header(out: &mut Vec<u8>, major: u8, argument: u64) {
    let bytes = argument.to_be_bytes();
    let (info, tail): (u8, &[u8]) = match argument {
        0..24 => (bytes[7], &[]),
        24..0x100 => (24, &bytes[7..]),
        0x100..0x1_0000 => (25, &bytes[6..]),
        0x1_0000..0x1_0000_0000 => (26, &bytes[4..]),
        _ => (27, &bytes),
    };
    out.push(major << 5 | info);
    out.extend(tail);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8949, appendix A.
    #[test]
    fn examples_of_the_rfc() {
        let hex = |value: Value| value.encode().iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(Value::Int(23)), "17");
        assert_eq!(hex(Value::Int(24)), "1818");
        assert_eq!(hex(Value::Int(1000)), "1903e8");
        assert_eq!(hex(Value::Int(1_000_000)), "1a000f4240");
        assert_eq!(hex(Value::Int(1_000_000_000_000)), "1b000000e8d4a51000");
        assert_eq!(hex(Value::Int(-1000)), "3903e7");
        assert_eq!(hex(Value::Tag(32, Box::new("http://www.example.com".into()))), {
            "d82076687474703a2f2f7777772e6578616d706c652e636f6d"
        });
        assert_eq!(
            hex(Value::Array(vec![1.into(), Value::Array(vec![2.into(), 3.into()])])),
            "82018202".to_owned() + "03"
        );
        assert_eq!(
            hex(Value::sorted(vec![("b".into(), 1.into()), (10.into(), Value::Null)])),
            "a20af6616201"
        );
    }
}
