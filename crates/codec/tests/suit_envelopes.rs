//! Whole envelopes as a receiver meets them: the head from a growing prefix, the members in pieces, every flipped bit
//! and every truncation of the worked examples, and a second CBOR and COSE implementation as a peer.

mod common;

use ampoule_codec::cbor::{Extent, Writer};
use ampoule_codec::cose::{self, Chain, Sign1};
use ampoule_codec::limits::Limits;
use ampoule_codec::plan::{ComponentId, Digest, DigestAlgorithm, Plan, Target};
use ampoule_codec::suit::encryption::{self, Ephemeral, KeyPackage, KeyPackages, Recipient};
use ampoule_codec::suit::head::write_head;
use ampoule_codec::suit::{Event, Head, Members, Name, encode, head_len, manifest, text};
use ampoule_codec::{Reason, Refused};
use common::{encoded, hex, hex_file};
use coset::{CborSerializable, TaggedCborSerializable};

const EXAMPLES: [&str; 4] = ["a-one-component", "c-slots", "d-delta", "e-encrypted"];

fn file(name: &str) -> Vec<u8> {
    hex_file(&format!("profile/{name}.hex"))
}

/// What follows a head, taken in pieces of `piece` bytes: names and contents.
fn members(rest: &[u8], entries: u64, piece: usize) -> Result<Vec<(String, Vec<u8>)>, Refused> {
    let mut stream = Members::new(entries, &Limits::MCU);
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    let mut ended = false;
    for mut input in rest.chunks(piece).chain([&[][..]]) {
        loop {
            let (used, event) = stream.next(input)?;
            let (taken, left) = input.split_at(used);
            input = left;
            match event {
                Event::NeedMore => break,
                Event::End => ended = true,
                Event::MemberEnd => {}
                Event::Bytes => found.last_mut().unwrap().1.extend_from_slice(taken),
                Event::Text { len } => found.push((format!("text {len}"), vec![])),
                Event::KeyPackages { len } => found.push((format!("keys {len}"), vec![])),
                Event::ChunkTable { ordinal, len } => found.push((format!("table {ordinal} {len}"), vec![])),
                Event::Payload { name, len } => found.push((format!("{} {len}", name.as_str()), vec![])),
            }
        }
    }
    if !ended {
        return Err(Reason::CborMalformed.into());
    }
    Ok(found)
}

#[test]
fn the_head_is_measured_from_a_growing_prefix() {
    for name in EXAMPLES {
        let bytes = file(name);
        let whole = Head::decode(&bytes, &Limits::MCU).unwrap().len;
        let (mut have, mut calls) = (0, 0);
        while let Extent::Needs(needed) = head_len(&bytes[..have], &Limits::MCU).unwrap() {
            assert!(needed > have && needed <= whole, "{name}: {needed} of {whole}");
            (have, calls) = (needed, calls + 1);
        }
        assert_eq!(have, whole, "{name}");
        assert!(calls < 20, "{name}: {calls} calls");
        for length in 0..whole {
            assert!(
                matches!(head_len(&bytes[..length], &Limits::MCU), Ok(Extent::Needs(_))),
                "{name} {length}"
            );
            let cut = Head::decode(&bytes[..length], &Limits::MCU).unwrap_err();
            assert_eq!(cut.reason, Reason::CborMalformed, "{name} cut at {length}");
        }
    }
}

#[test]
fn members_arrive_in_pieces_of_any_size() {
    let expected: [&[&str]; 4] = [
        &["text 68", "#app.bin 48"],
        &["#00.bin 48", "#01.bin 48"],
        &["#app.delta 24"],
        &["keys 93", "#app.enc 64"],
    ];
    for (name, expected) in EXAMPLES.iter().zip(expected) {
        let bytes = file(name);
        let head = Head::decode(&bytes, &Limits::MCU).unwrap();
        let rest = &bytes[head.len..];
        for piece in 1..=rest.len() {
            let found = members(rest, head.entries, piece).unwrap();
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, expected, "{name} in pieces of {piece}");
            let (_, payload) = found.last().unwrap();
            assert!(bytes.ends_with(payload));
        }
    }
}

#[test]
fn members_are_read_as_they_were_written() {
    use encode::{Member, write_member_header};
    let parts = [
        (Member::Text, "text 3"),
        (Member::KeyPackages, "keys 3"),
        (Member::ChunkTable(0), "table 0 3"),
        (Member::ChunkTable(15), "table 15 3"),
        (Member::Payload("#aaaa"), "#aaaa 3"),
        (
            Member::Payload("#payload-with-31-characters.bin"),
            "#payload-with-31-characters.bin 3",
        ),
    ];
    let bytes = encoded(|w| {
        for (member, _) in parts {
            write_member_header(w, member, 3);
            w.raw(b"abc");
        }
    });
    let found = members(&bytes, 2 + parts.len() as u64, 5);
    let expected = parts.map(|(_, name)| (name.to_string(), b"abc".to_vec()));
    assert_eq!(found.as_deref(), Ok(&expected[..]));
}

#[test]
fn what_follows_a_head_is_refused_when_cut_or_lengthened() {
    for name in EXAMPLES {
        let bytes = file(name);
        let head = Head::decode(&bytes, &Limits::MCU).unwrap();
        let rest = &bytes[head.len..];
        for length in 0..rest.len() {
            assert!(
                members(&rest[..length], head.entries, 7).is_err(),
                "{name} cut at {length}"
            );
        }
        let longer = [rest, &[0]].concat();
        assert_eq!(
            members(&longer, head.entries, 7),
            Err(Reason::CborTrailing.into()),
            "{name}"
        );
        assert_eq!(
            members(rest, head.entries - 1, 7).unwrap_err().reason,
            Reason::CborTrailing,
            "{name}"
        );
    }
}

/// Whatever is accepted of a head is written again as the same bytes.
fn assert_canonical_head(bytes: &[u8]) -> Option<Head<'_>> {
    let head = Head::decode(bytes, &Limits::MCU).ok()?;
    let blocks: Vec<Sign1<'_>> = head.blocks.map(Result::unwrap).collect();
    let members = head.entries as usize - 2;
    let again = encoded(|w| write_head(w, members, &head.digest, &blocks, head.manifest));
    assert_eq!(hex(&again), hex(&bytes[..head.len]));
    Some(head)
}

#[test]
fn every_flipped_bit_is_refused_or_seen_by_whoever_checks_digests_and_signatures() {
    for name in EXAMPLES {
        let original = file(name);
        let before = Head::decode(&original, &Limits::MCU).unwrap();
        let before_rest = members(&original[before.len..], before.entries, 64).unwrap();
        let covered = |head: &Head<'_>| {
            let blocks = head
                .blocks
                .map(|block| block.map(|b| [b.protected, b.signature].concat()).unwrap());
            (
                head.signed.to_vec(),
                head.manifest_value.to_vec(),
                blocks.collect::<Vec<_>>(),
            )
        };
        for bit in 0..original.len() * 8 {
            let mut flipped = original.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let Some(head) = assert_canonical_head(&flipped) else {
                assert!(bit / 8 < before.len, "{name}: bit {bit} is not in the head");
                continue;
            };
            if covered(&head) != covered(&before) {
                assert!(bit / 8 < before.len);
                continue;
            }
            let after = members(&flipped[head.len..], head.entries, 64);
            assert_ne!(after, Ok(before_rest.clone()), "{name}: bit {bit} changes nothing");
        }
    }
}

/// A head with these parts.
struct Parts {
    blocks: Vec<(u8, Option<usize>)>,
    manifest: usize,
    members: usize,
}

impl Parts {
    fn bytes(&self) -> Vec<u8> {
        let kids: Vec<[u8; 32]> = self.blocks.iter().map(|(kid, _)| [*kid; 32]).collect();
        let leafs: Vec<Option<Vec<u8>>> = self
            .blocks
            .iter()
            .map(|(_, leaf)| leaf.map(|len| vec![0x30; len]))
            .collect();
        let chain = |leaf: &'_ Option<Vec<u8>>| -> Option<Vec<u8>> { leaf.clone() };
        let headers: Vec<Vec<u8>> = kids
            .iter()
            .zip(&leafs)
            .map(|(kid, leaf)| {
                let leaf = chain(leaf);
                let chain = leaf.as_deref().map(|leaf| Chain {
                    leaf,
                    intermediate: None,
                });
                encoded(|w| cose::write_protected(w, cose::ALG_ESP256, kid, chain))
            })
            .collect();
        let blocks: Vec<Sign1<'_>> = kids
            .iter()
            .zip(&headers)
            .map(|(kid, protected)| Sign1 {
                protected,
                algorithm: cose::ALG_ESP256,
                kid,
                chain: None,
                signature: &[0; 64],
            })
            .collect();
        let digest = Digest {
            algorithm: DigestAlgorithm::Sha256,
            hash: &[0; 32],
        };
        let manifest = vec![0xa0; self.manifest];
        encoded(|w| write_head(w, self.members, &digest, &blocks, &manifest))
    }
}

fn judged(bytes: &[u8], limits: &Limits) -> (u16, &'static str) {
    match Head::decode(bytes, limits) {
        Ok(_) => (0, ""),
        Err(refused) => (refused.reason.number(), refused.detail),
    }
}

#[test]
fn every_limit_of_a_head_holds_to_the_byte() {
    let one = || Parts {
        blocks: vec![(1, None)],
        manifest: 1,
        members: 0,
    };
    let mcu = |parts: Parts| judged(&parts.bytes(), &Limits::MCU);
    assert_eq!(
        mcu(Parts {
            manifest: 4096,
            ..one()
        }),
        (0, "")
    );
    assert_eq!(
        mcu(Parts {
            manifest: 4097,
            ..one()
        }),
        (105, "MANIFEST_MAX")
    );
    assert_eq!(
        mcu(Parts {
            blocks: (1..=8).map(|n| (n, None)).collect(),
            ..one()
        }),
        (0, "")
    );
    assert_eq!(
        mcu(Parts {
            blocks: (1..=9).map(|n| (n, None)).collect(),
            ..one()
        }),
        (105, "AUTH_BLOCKS_MAX")
    );
    assert_eq!(
        mcu(Parts {
            blocks: vec![(1, Some(1024))],
            ..one()
        }),
        (0, "")
    );
    assert_eq!(
        mcu(Parts {
            blocks: vec![(1, Some(1025))],
            ..one()
        }),
        (105, "CERT_MAX")
    );
    assert_eq!(mcu(Parts { members: 26, ..one() }), (0, ""));
    assert_eq!(mcu(Parts { members: 27, ..one() }), (105, "PAYLOADS_MAX"));

    let length = one().bytes().len() as u32;
    let with_head_max = |head_max| {
        judged(
            &one().bytes(),
            &Limits {
                head_max,
                ..Limits::MCU
            },
        )
    };
    assert_eq!(with_head_max(length), (0, ""));
    assert_eq!(with_head_max(length - 1), (105, "HEAD_MAX"));

    // The length header is enough: the content never has to arrive.
    let announced = [&[0xd8, 0x6b, 0xa2, 0x02, 0x59, 0x20, 0x00][..], &[0; 8]].concat();
    assert_eq!(head_len(&announced, &Limits::MCU), Err(Reason::Limit.about("HEAD_MAX")));
    let endless = [
        0xd8, 0x6b, 0xa2, 0x02, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ];
    assert_eq!(head_len(&endless, &Limits::MCU), Err(Reason::Limit.about("HEAD_MAX")));
}

#[test]
fn heads_of_another_form_are_refused() {
    let good = Parts {
        blocks: vec![(1, None)],
        manifest: 1,
        members: 0,
    }
    .bytes();
    let auth_end = good.len() - 3;
    let auth = &good[4..auth_end];
    let manifest = &good[auth_end + 1..];
    let head = |map: u8, keys: [&[u8]; 2]| [&[0xd8, 0x6b, map], keys[0], auth, keys[1], manifest].concat();
    let number = |bytes: &[u8]| judged(bytes, &Limits::MCU).0;
    assert_eq!(number(&head(0xa2, [&[2], &[3]])), 0);
    assert_eq!(number(&good[2..]), 201, "no tag");
    assert_eq!(number(&[&[0xd9, 0x04, 0x2e], &good[2..]].concat()), 201, "tag 1070");
    assert_eq!(number(&[&[0xd2], &good[2..]].concat()), 201, "tag 18");
    assert_eq!(number(&[0xd8, 0x6b, 0xa0]), 202, "empty");
    assert_eq!(number(&[0xd8, 0x6b, 0x80]), 101, "array");
    assert_eq!(number(&[0xd8, 0x6b, 0xbf]), 102, "indefinite");
    assert_eq!(number(&head(0xa1, [&[2], &[3]])), 202, "one entry");
    assert_eq!(number(&head(0xa3, [&[1], &[3]])), 203, "delegation");
    assert_eq!(number(&head(0xa2, [&[3], &[3]])), 202, "no authentication");
    assert_eq!(number(&head(0xa2, [&[2], &[4]])), 202, "no manifest");
    assert_eq!(number(&head(0xa2, [&[2], &[0x17]])), 202, "text instead of manifest");
    assert_eq!(number(&head(0xa2, [&[2], &[2]])), 103, "twice");
    assert_eq!(number(&head(0xa2, [&[2], &[1]])), 102, "order");
    assert_eq!(number(&head(0xa2, [&[2], &[0x18, 3]])), 102, "long key");
    assert_eq!(
        number(&head(0xa2, [&[2], &[0x62, b'#', b'k']])),
        202,
        "name instead of manifest"
    );

    let with_auth = |write: &dyn Fn(&mut Writer<'_>)| {
        number(&encoded(|w| {
            w.tag(107).map(2).uint(2).embedded(write).uint(3).bytes(&[0xa0]);
        }))
    };
    let signed = |w: &mut Writer<'_>| {
        w.array(2).int(-16).bytes(&[0; 32]);
    };
    let block = |w: &mut Writer<'_>, kid: u8| {
        w.embedded(|w| {
            w.tag(18)
                .array(4)
                .embedded(|w| cose::write_protected(w, -9, &[kid; 32], None))
                .map(0)
                .null()
                .bytes(&[]);
        });
    };
    let digest_of = |algorithm: i64, length: usize| {
        with_auth(&|w| {
            w.array(2).embedded(|w| {
                w.array(2).int(algorithm).bytes(&vec![0; length]);
            });
            block(w, 1);
        })
    };
    assert_eq!(digest_of(-16, 32), 0);
    assert_eq!(digest_of(-44, 64), 0);
    assert_eq!(digest_of(-16, 64), 211);
    assert_eq!(digest_of(-43, 48), 211);
    assert_eq!(with_auth(&|w| drop_ref(w.array(1).embedded(signed))), 210);
    assert_eq!(with_auth(&|w| drop_ref(w.array(0))), 101);
    let kids = |kids: &[u8]| {
        with_auth(&|w| {
            w.array(1 + kids.len()).embedded(signed);
            kids.iter().for_each(|kid| block(w, *kid));
        })
    };
    assert_eq!(kids(&[1, 2, 3]), 0);
    assert_eq!(kids(&[1, 3, 2]), 215);
    assert_eq!(kids(&[1, 1]), 215, "two blocks of one key");
    assert_eq!(
        with_auth(&|w| {
            w.array(2).embedded(signed);
            block(w, 1);
            w.uint(0);
        }),
        104
    );
}

fn drop_ref<T>(_: T) {}

#[test]
fn a_payload_is_entered_in_the_middle_after_a_reset() {
    let bytes = file("c-slots");
    let head = Head::decode(&bytes, &Limits::MCU).unwrap();
    let rest = &bytes[head.len..];
    // "#00.bin" and its length take 10 bytes; 20 of its 48 bytes are written when the power fails.
    let name = Name::new("#00.bin").unwrap();
    let mut stream = Members::resume(&name, 28, 1, &Limits::MCU);
    assert_eq!(stream.next(&rest[30..]), Ok((28, Event::Bytes)));
    assert_eq!(stream.next(&rest[58..]), Ok((0, Event::MemberEnd)));
    let next = Name::new("#01.bin").unwrap();
    assert_eq!(
        stream.next(&rest[58..]),
        Ok((10, Event::Payload { name: next, len: 48 }))
    );
    assert_eq!(stream.next(&rest[68..]), Ok((48, Event::Bytes)));
    assert_eq!(stream.next(&[]), Ok((0, Event::MemberEnd)));
    assert_eq!(stream.next(&[]), Ok((0, Event::End)));
}

#[test]
fn the_text_of_example_a_is_read_and_written() {
    let bytes = file("a-one-component");
    let head = Head::decode(&bytes, &Limits::MCU).unwrap();
    let found = members(&bytes[head.len..], head.entries, 64).unwrap();
    let content = &found[0].1;
    let mut entries = Vec::new();
    text::decode(content, &Limits::MCU, |entry| {
        entries.push((entry.component.is_some(), entry.key, entry.value))
    })
    .unwrap();
    let expected = [
        (false, 2, "Fixes pump alarm delay"),
        (true, 1, "Example Corp"),
        (true, 2, "AMP-DEMO-1"),
        (true, 6, "1.4.2"),
    ];
    assert_eq!(entries, expected);
    let app = ComponentId::new(&[b"app"]).unwrap();
    let values = [
        Some("Example Corp"),
        Some("AMP-DEMO-1"),
        None,
        None,
        None,
        Some("1.4.2"),
        None,
        None,
    ];
    let language = text::Language {
        tag: "en",
        manifest_description: None,
        update_description: Some("Fixes pump alarm delay"),
        components: &[(app, values)],
    };
    assert_eq!(hex(&encoded(|w| text::write(w, &[language]))), hex(content));
}

#[test]
fn other_texts_are_refused() {
    let number = |write: &dyn Fn(&mut Writer<'_>)| {
        let bytes = encoded(write);
        text::decode(&bytes, &Limits::MCU, |_| ()).map_or_else(|refused| refused.reason.number(), |()| 0)
    };
    assert_eq!(number(&|w| drop_ref(w.map(1).text("de-CH").map(0))), 0);
    assert_eq!(number(&|w| drop_ref(w.map(0))), 101);
    assert_eq!(number(&|w| drop_ref(w.map(1).text("e").map(0))), 101);
    assert_eq!(number(&|w| drop_ref(w.map(1).text("e\n").map(0))), 101);
    assert_eq!(
        number(&|w| drop_ref(w.map(1).text("en").map(1).uint(3).text("{}"))),
        101,
        "JSON source"
    );
    assert_eq!(
        number(&|w| drop_ref(w.map(1).text("en").map(1).uint(1).text(&"a".repeat(1024)))),
        0
    );
    assert_eq!(
        number(&|w| drop_ref(w.map(1).text("en").map(1).uint(1).text(&"a".repeat(1025)))),
        105
    );
    assert_eq!(
        number(&|w| drop_ref(w.map(1).text("en").map(1).array(1).bytes(b"a").map(1).uint(9).text(""))),
        101
    );
    assert_eq!(number(&|w| drop_ref(w.map(1).text("en").map(0).uint(0))), 104);
    assert_eq!(number(&|w| drop_ref(w.map(2).text("en").map(0).text("de").map(0))), 102);
}

#[test]
fn key_packages_are_read_and_written() {
    let bytes = file("e-encrypted");
    let head = Head::decode(&bytes, &Limits::MCU).unwrap();
    let found = members(&bytes[head.len..], head.entries, 64).unwrap();
    let packages = KeyPackages::decode(&found[0].1, &Limits::MCU).unwrap();
    let package = packages.iter().next().unwrap();
    assert_eq!(hex(package.cek_id), "1a0fe5b19dbf89bf0ef56af81247aca5");
    let recipients: Vec<Recipient<'_>> = package.recipients().collect();
    let [Recipient::Shared { kek_id, .. }] = recipients[..] else {
        panic!("one shared key")
    };
    assert_eq!(kek_id, b"kek-demo-0000001");
    let again = encoded(|w| KeyPackage::encode(w, package.cek_id, &recipients));
    assert_eq!(encoded(|w| encryption::write_packages(w, &[&again])), found[0].1);

    let agreed = [
        Recipient::Agreed {
            kid: &[1; 32],
            ephemeral: Ephemeral::P256 {
                x: &[2; 32],
                y: &[3; 32],
            },
            wrapped: &[4; 40],
        },
        Recipient::Agreed {
            kid: &[1; 32],
            ephemeral: Ephemeral::X25519 { x: &[2; 32] },
            wrapped: &[4; 40],
        },
        Recipient::Shared {
            kek_id: b"k",
            wrapped: &[5; 40],
        },
    ];
    let first = encoded(|w| KeyPackage::encode(w, &[1; 16], &agreed));
    let second = encoded(|w| KeyPackage::encode(w, &[2; 16], &agreed[..1]));
    let both = encoded(|w| encryption::write_packages(w, &[&first, &second]));
    let packages = KeyPackages::decode(&both, &Limits::MCU).unwrap();
    assert_eq!(packages.get(&[1; 16]).unwrap().recipients().collect::<Vec<_>>(), agreed);
    assert!(packages.get(&[2; 16]).is_some() && packages.get(&[3; 16]).is_none());

    let refused = |packages: &[&[u8]]| {
        let bytes = encoded(|w| encryption::write_packages(w, packages));
        KeyPackages::decode(&bytes, &Limits::MCU).unwrap_err()
    };
    assert_eq!(refused(&[&second, &first]).reason, Reason::EncNoKey, "order");
    assert_eq!(refused(&[]).reason, Reason::EncNoKey);
    let numbered: Vec<Vec<u8>> = (0..9)
        .map(|n| encoded(|w| KeyPackage::encode(w, &[n; 16], &agreed[2..])))
        .collect();
    let nine: Vec<&[u8]> = numbered.iter().map(|package| &package[..]).collect();
    assert_eq!(refused(&nine), Reason::Limit.about("CEK_MAX"));
    let crowd: Vec<Recipient<'_>> = (0..9).map(|_| agreed[2]).collect();
    assert_eq!(
        refused(&[&encoded(|w| KeyPackage::encode(w, &[1; 16], &crowd))]),
        Reason::Limit.about("RECIPIENTS_MAX")
    );
    for bit in 0..both.len() * 8 {
        let mut flipped = both.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(packages) = KeyPackages::decode(&flipped, &Limits::MCU) {
            packages
                .iter()
                .for_each(|package| drop_ref(package.recipients().count()));
        }
    }
}

/// Two independent implementations (ciborium for CBOR, coset for COSE) read what we write.
#[test]
fn peers_read_our_envelopes_and_blocks() {
    for name in EXAMPLES {
        let original = file(name);
        let head = Head::decode(&original, &Limits::MCU).unwrap();
        let mut room = [Target::EMPTY; 2];
        let plan: Plan<'_> = manifest::decode(head.manifest, &Limits::MCU, &mut room).unwrap();
        let blocks: Vec<Sign1<'_>> = head.blocks.map(Result::unwrap).collect();
        let manifest = encoded(|w| encode::write_manifest(w, &plan));
        let members = head.entries as usize - 2;
        let ours = [
            &encoded(|w| write_head(w, members, &head.digest, &blocks, &manifest))[..],
            &original[head.len..],
        ]
        .concat();

        let envelope: ciborium::Value = ciborium::from_reader(&ours[..]).unwrap();
        let ciborium::Value::Tag(107, map) = &envelope else {
            panic!("tag 107")
        };
        assert_eq!(map.as_map().unwrap().len() as u64, head.entries);
        let mut again = Vec::new();
        ciborium::into_writer(&envelope, &mut again).unwrap();
        assert_eq!(hex(&again), hex(&original), "{name}: ciborium writes the same bytes");

        let value_of = |key: i128| {
            let found = map
                .as_map()
                .unwrap()
                .iter()
                .find(|(k, _)| k.as_integer().map(i128::from) == Some(key));
            found.unwrap().1.as_bytes().unwrap().clone()
        };
        let inner: ciborium::Value = ciborium::from_reader(&value_of(3)[..]).unwrap();
        assert_eq!(inner.as_map().unwrap()[0].1.as_integer().map(i128::from), Some(1));
        let auth: ciborium::Value = ciborium::from_reader(&value_of(2)[..]).unwrap();
        let block = auth.as_array().unwrap()[1].as_bytes().unwrap();
        let peer = coset::CoseSign1::from_tagged_slice(block).unwrap();
        assert_eq!(peer.payload, None);
        assert_eq!(peer.protected.header.key_id, blocks[0].kid);
        assert_eq!(peer.signature, blocks[0].signature);
        let signed = cose::SigStructure::new(blocks[0].protected, b"", head.signed)
            .parts()
            .concat();
        peer.verify_detached_signature(head.signed, b"", |_, theirs| {
            assert_eq!(theirs, signed, "{name}: both hash the same bytes");
            Ok::<(), ()>(())
        })
        .unwrap();
    }
}

#[test]
fn peers_read_our_keys() {
    let keys = [
        cose::PublicKey::Ed25519 { x: &[1; 32] },
        cose::PublicKey::P256 {
            x: &[2; 32],
            y: &[3; 32],
        },
    ];
    for key in keys {
        let bytes = encoded(|w| key.encode(w));
        let peer = coset::CoseKey::from_slice(&bytes).unwrap();
        assert_eq!(peer.to_vec().unwrap(), bytes);
    }
}
