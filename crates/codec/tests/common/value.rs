//! CBOR values to spoil: a model of what a manifest may look like, right or wrong.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use ampoule_codec::cbor::Writer;

/// A CBOR item; [`E`](V::E) is a byte string that holds one.
#[derive(Clone, Debug)]
pub enum V {
    I(i64),
    B(Vec<u8>),
    T(String),
    A(Vec<V>),
    M(Vec<(V, V)>),
    G(u64, Box<V>),
    E(Box<V>),
    Null,
    True,
    /// Bytes as they are.
    Raw(Vec<u8>),
}

impl V {
    pub fn bytes(&self) -> Vec<u8> {
        crate::common::encoded(|w| self.write(w))
    }

    fn write(&self, w: &mut Writer<'_>) {
        match self {
            V::I(value) => drop_ref(w.int(*value)),
            V::B(bytes) => drop_ref(w.bytes(bytes)),
            V::T(text) => drop_ref(w.text(text)),
            V::A(items) => {
                w.array(items.len());
                items.iter().for_each(|item| item.write(w));
            }
            V::M(pairs) => {
                w.map(pairs.len());
                for (key, value) in pairs {
                    key.write(w);
                    value.write(w);
                }
            }
            V::G(tag, item) => {
                w.tag(*tag);
                item.write(w);
            }
            V::E(item) => drop_ref(w.embedded(|w| item.write(w))),
            V::Null => drop_ref(w.null()),
            V::True => drop_ref(w.truth()),
            V::Raw(bytes) => drop_ref(w.raw(bytes)),
        }
    }

    /// The value of this key of a map.
    pub fn get(&mut self, key: i64) -> &mut V {
        let V::M(pairs) = self else { panic!("not a map") };
        let found = pairs.iter_mut().find(|(k, _)| matches!(k, V::I(k) if *k == key));
        &mut found.unwrap_or_else(|| panic!("no key {key}")).1
    }

    /// Sets the value of this key, in the order of encoded keys.
    pub fn set(&mut self, key: i64, value: V) {
        self.remove(key);
        let V::M(pairs) = self else { panic!("not a map") };
        pairs.push((V::I(key), value));
        pairs.sort_by_key(|(key, _)| key.bytes());
    }

    /// Removes this key, where it is.
    pub fn remove(&mut self, key: i64) {
        let V::M(pairs) = self else { panic!("not a map") };
        pairs.retain(|(k, _)| !matches!(k, V::I(k) if *k == key));
    }

    /// The item inside a byte string.
    pub fn inner(&mut self) -> &mut V {
        let V::E(item) = self else { panic!("not embedded") };
        item
    }

    /// The items of an array.
    pub fn items(&mut self) -> &mut Vec<V> {
        let V::A(items) = self else { panic!("not an array") };
        items
    }
}

fn drop_ref(_: &mut Writer<'_>) {}

pub fn i(value: i64) -> V {
    V::I(value)
}

pub fn b(bytes: &[u8]) -> V {
    V::B(bytes.to_vec())
}

pub fn t(text: &str) -> V {
    V::T(text.to_string())
}

pub fn a(items: impl IntoIterator<Item = V>) -> V {
    V::A(items.into_iter().collect())
}

pub fn e(item: V) -> V {
    V::E(Box::new(item))
}

pub fn m(pairs: impl IntoIterator<Item = (i64, V)>) -> V {
    V::M(pairs.into_iter().map(|(key, value)| (V::I(key), value)).collect())
}
