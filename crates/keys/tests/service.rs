//! The policy of a signing service: what is read, what is refused, who may have what signed.

use ampoule_keys as keys;
use keys::service::facts::{SignFacts, of_request};
use keys::service::policy::{Allow, DAY_SECONDS, HOUR_SECONDS, Peer, Policy, World};
use keys::service::wire::{SignContent, SignRequest};
use keys::{Code, Object, Purpose, SignatureAlgorithm, Signer, file};

const CLASS: &str = "01020304-0506-0708-090a-0b0c0d0e0f10";
const CLASS_BYTES: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

fn text(client: &str, allow: &str) -> String {
    format!(
        "schema = 1\n[[key]]\nname = \"ci\"\nuri = \"ci.pem\"\nenvironment = \"development\"\n[[client]]\nname = \"runner\"\n\
         {client}\n[[client.allow]]\nkey = \"ci\"\nper-hour = 2\nper-day = 3\n{allow}\n"
    )
}

fn parse(text: &str) -> keys::Result<Policy> {
    Policy::parse(text, &|name| (name == "runner").then_some(1001))
}

fn release_of(classes: &[[u8; 16]]) -> SignFacts {
    SignFacts {
        purpose: Purpose {
            object: Object::Release,
            subject: String::new(),
            digest: [0; 32],
        },
        classes: classes.to_vec(),
        is_blind: false,
    }
}

const PEER: Peer = Peer {
    uid: 1001,
    gid: 100,
    pid: 7,
};

#[test]
fn a_policy_says_keys_clients_and_rules() {
    let allow = format!(
        "object = \"release\"\nclasses = [\"{CLASS}\"]\nrefs = [\"refs/tags/v*\"]\nhours-utc = \"06:00-20:30\""
    );
    let policy = parse(&text("user = \"runner\"", &allow)).unwrap();
    assert_eq!(policy.keys[0].world, World::Development);
    let client = &policy.clients[0];
    assert_eq!((client.uid, client.gid), (Some(1001), None));
    let rule = &client.allows[0];
    assert_eq!((rule.object, rule.per_hour, rule.per_day), (Object::Release, 2, 3));
    assert_eq!(
        (rule.classes[0], rule.window, rule.blind_digests),
        (CLASS_BYTES, Some((360, 1230)), false)
    );
}

#[test]
fn mistakes_in_a_policy_are_named() {
    let good = format!("object = \"release\"\nclasses = [\"{CLASS}\"]");
    let who = "uid = 1";
    parse(&text(who, &good)).unwrap();
    for (client, allow, named) in [
        ("", good.clone(), "everybody"),
        ("user = \"nobody-here\"", good.clone(), "nobody-here"),
        ("user = \"runner\"\nuid = 1", good.clone(), "not both"),
        ("token-sha256 = \"12\"", good.clone(), "64"),
        ("uid = 1\nuuid = 2", good.clone(), "uuid"),
        (who, "object = \"release\"".into(), "classes"),
        (who, format!("object = \"root\"\nclasses = [\"{CLASS}\"]"), "people"),
        (who, "object = \"release\"\nclasses = [\"12\"]".into(), "UUID"),
        (who, format!("{good}\nblind-digests = true"), "images"),
        (who, format!("{good}\nhours-utc = \"6-20\""), "hours-utc"),
        (who, format!("{good}\nhours-utc = \"06:00-24:00\""), "hours-utc"),
    ] {
        let error = parse(&text(client, &allow)).unwrap_err();
        assert!(
            error.is(Code::ServicePolicy) && error.what.contains(named),
            "{named}: {error}"
        );
    }
    for (from, to) in [
        ("schema = 1", "schema = 2"),
        ("key = \"ci\"", "key = \"other\""),
        ("per-hour = 2", "per-hour = 0"),
        ("per-day = 3", "per-day = 1"),
        ("environment = \"development\"", "environment = \"test\""),
        ("environment = \"development\"", ""),
        ("uri = \"ci.pem\"", "uri = \"service:/x?key=y\""),
    ] {
        let changed = text(who, &good).replace(from, to);
        assert!(parse(&changed).unwrap_err().is(Code::ServicePolicy), "{to}");
    }
    assert!(parse("schema = 1").unwrap_err().is(Code::ServicePolicy));
}

#[test]
fn a_client_is_who_meets_all_that_its_table_says() {
    let allow = format!("object = \"release\"\nclasses = [\"{CLASS}\"]");
    // printf secret | sha256sum
    let token = "token-sha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\"";
    for (client, token_given, is_it) in [
        ("uid = 1001".to_owned(), "", true),
        ("uid = 1002".into(), "", false),
        ("gid = 100".into(), "", true),
        ("uid = 1001\ngid = 101".into(), "", false),
        (token.into(), "secret", true),
        (token.into(), "Secret", false),
        (format!("uid = 1001\n{token}"), "", false),
        (format!("uid = 1\n{token}"), "secret", false),
    ] {
        let policy = parse(&text(&client, &allow)).unwrap();
        let found = policy.client(&PEER, token_given);
        assert_eq!(found.is_ok(), is_it, "{client}");
        assert!(is_it || found.unwrap_err().is(Code::ServiceForbidden));
    }
}

#[test]
fn what_no_rule_allows_is_refused_with_what_is_in_the_way() {
    let allow = format!(
        "object = \"release\"\nclasses = [\"{CLASS}\"]\nrefs = [\"refs/heads/main\", \"refs/tags/v*\"]\nhours-utc = \"06:00-20:00\""
    );
    let policy = parse(&text("uid = 1001", &allow)).unwrap();
    let noon = 12 * HOUR_SECONDS;
    let ours = release_of(&[CLASS_BYTES]);
    let image = SignFacts {
        purpose: Purpose {
            object: Object::Image,
            ..ours.purpose.clone()
        },
        ..ours.clone()
    };
    let both = release_of(&[CLASS_BYTES, [9; 16]]);
    for (key, facts, git_ref, at, obstacle) in [
        ("ci", &ours, "refs/heads/main", noon, None),
        ("ci", &ours, "refs/tags/v1.2", noon, None),
        ("ci", &ours, "refs/heads/main2", noon, Some("ref")),
        ("ci", &ours, "", noon, Some("ref")),
        ("ci", &both, "refs/heads/main", noon, Some("class 09090909")),
        ("ci", &release_of(&[]), "refs/heads/main", noon, Some("no class")),
        (
            "ci",
            &ours,
            "refs/heads/main",
            21 * HOUR_SECONDS,
            Some("time of the day"),
        ),
        ("ci", &image, "refs/heads/main", noon, Some("no rule")),
        ("other", &ours, "refs/heads/main", noon, Some("no rule")),
    ] {
        let allowed = policy.clients[0].allows(key, facts, git_ref, at, &|_, _| 0);
        match obstacle {
            None => assert!(allowed.is_ok(), "{git_ref}"),
            Some(named) => {
                let error = allowed.unwrap_err();
                assert!(
                    error.is(Code::ServiceForbidden) && error.what.contains(named),
                    "{named}: {error}"
                );
            }
        }
    }
}

#[test]
fn rates_are_per_hour_and_per_day() {
    let policy = parse(&text(
        "uid = 1001",
        &format!("object = \"release\"\nclasses = [\"{CLASS}\"]"),
    ))
    .unwrap();
    let facts = release_of(&[CLASS_BYTES]);
    for (hour, day, is_allowed) in [(0, 0, true), (1, 2, true), (2, 2, false), (0, 3, false)] {
        let counted = |_: &Allow, seconds: u64| match seconds {
            HOUR_SECONDS => hour,
            DAY_SECONDS => day,
            _ => unreachable!(),
        };
        let allowed = policy.clients[0].allows("ci", &facts, "", 0, &counted);
        assert_eq!(allowed.is_ok(), is_allowed, "{hour} {day}");
        assert!(is_allowed || allowed.unwrap_err().is(Code::ServiceRate));
    }
}

#[test]
fn a_window_may_go_over_midnight() {
    let allow = format!("object = \"release\"\nclasses = [\"{CLASS}\"]\nhours-utc = \"22:00-05:00\"");
    let policy = parse(&text("uid = 1001", &allow)).unwrap();
    let facts = release_of(&[CLASS_BYTES]);
    for (hour, is_open) in [(21, false), (22, true), (2, true), (5, false), (12, false)] {
        let allowed = policy.clients[0].allows("ci", &facts, "", hour * HOUR_SECONDS, &|_, _| 0);
        assert_eq!(allowed.is_ok(), is_open, "{hour}");
    }
}

/// Objects that a service does not sign at all, and requests whose bytes do not fit together.
#[test]
fn what_is_not_what_it_says_is_refused_by_its_bytes() {
    let key = file::generate(SignatureAlgorithm::Ed25519).unwrap();
    let request = |object: &str, content: SignContent, shown: &[u8]| SignRequest {
        object: object.into(),
        content,
        shown: shown.to_vec(),
        ..SignRequest::default()
    };
    let of = |request: SignRequest| of_request(&request, key.public_key());
    for object in ["root", "revocation-list", "time-file", "record", "", "releases"] {
        let error = of(request(object, SignContent::Message(vec![1]), b"")).unwrap_err();
        assert!(error.is(Code::ServiceForbidden), "{object}: {error}");
    }
    for bad in [
        request("release", SignContent::Message(vec![1]), b"\xa0"),
        request("release", SignContent::Digest([1; 32]), b"\xa0"),
        request("image", SignContent::Message(vec![1]), b"x"),
        request("image", SignContent::Digest([1; 32]), b"x"),
    ] {
        assert!(of(bad).unwrap_err().is(Code::ServiceContent));
    }
    // Bytes with the right hash that are no image.
    let junk = [7; 100];
    let error = of(request("image", SignContent::Digest(trust::Sha256::of(&junk)), &junk)).unwrap_err();
    assert_eq!(error.number, 901, "{error}");
    // A digest alone is known to be one, and the policy says whether that is enough.
    let blind = of(request("image", SignContent::Digest([1; 32]), b"")).unwrap();
    assert!(blind.is_blind && blind.classes.is_empty());
    for (option, is_allowed) in [("false", false), ("true", true)] {
        let allow = format!("object = \"image\"\nclasses = [\"{CLASS}\"]\nblind-digests = {option}");
        let policy = parse(&text("uid = 1001", &allow)).unwrap();
        assert_eq!(
            policy.clients[0].allows("ci", &blind, "", 0, &|_, _| 0).is_ok(),
            is_allowed
        );
    }
}
