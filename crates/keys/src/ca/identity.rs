//! Whom a certificate names: one notation in certificates, commands, the database and logs.
//!
//! | whom | name in the certificate (subjectAltName) |
//! |---|---|
//! | a device | URI `urn:ampoule:device:CLASS:SERIAL`; in operation perhaps `urn:ampoule:TENANT:device:CLASS:SERIAL` |
//! | a server | DNS names, IP addresses |
//! | a person | URI `urn:ampoule:operator:NAME` |
//! | a signer of firmware | URI `urn:ampoule:firmware:PRODUCT-LINE` |
//! | a factory station | URI `urn:ampoule:station:NAME` |
//!
//! Roles stand beside it, each as a URI `urn:ampoule:role:ROLE`. Doors read these names and never the subject, which
//! repeats them for people.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;

use super::profile::Branch;
use crate::{Code, Error, Result};

/// Characters of a device's serial number, a person's name and the like.
pub const NAME_CHARS_MAX: usize = 64;
/// Names of one server at most.
pub const SERVER_NAMES_MAX: usize = 32;
/// Roles in one certificate at most.
pub const ROLES_MAX: usize = 16;
const DNS_NAME_CHARS_MAX: usize = 253;
const DNS_LABEL_CHARS_MAX: usize = 63;
const PREFIX: &str = "urn:ampoule:";
const ROLE_PREFIX: &str = "urn:ampoule:role:";

/// Whom a certificate names, and in which roles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Whom.
    pub name: Name,
    /// In which roles.
    pub roles: Vec<String>,
}

/// Whom a certificate names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Name {
    /// A device.
    Device {
        /// Its class: a UUID in small letters.
        class: String,
        /// Its serial number, unique in its class.
        serial: String,
        /// For whom it works, where one CA serves several.
        tenant: Option<String>,
    },
    /// A server.
    Server {
        /// DNS names, in small letters.
        dns: Vec<String>,
        /// IP addresses.
        ip: Vec<IpAddr>,
    },
    /// A person.
    Operator(String),
    /// A signer of firmware, by the product line that they sign for.
    Firmware(String),
    /// A factory station.
    Station(String),
}

/// The kinds of names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A device.
    Device,
    /// A server.
    Server,
    /// A person.
    Operator,
    /// A signer of firmware.
    Firmware,
    /// A factory station.
    Station,
}

impl Kind {
    /// The CA that certifies these.
    pub const fn issuer(self) -> Branch {
        match self {
            Kind::Device | Kind::Station => Branch::Device,
            Kind::Server => Branch::Server,
            Kind::Operator => Branch::Operator,
            Kind::Firmware => Branch::FirmwareSigning,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Device => "device",
            Kind::Server => "server",
            Kind::Operator => "operator",
            Kind::Firmware => "firmware",
            Kind::Station => "station",
        })
    }
}

impl Identity {
    /// A device by its class and serial number. Error: [`Code::CaIdentity`].
    pub fn device(class: &str, serial: &str, tenant: Option<&str>) -> Result<Identity> {
        let class = class.to_ascii_lowercase();
        check_class(&class)?;
        check_word("serial number", serial, b"-.")?;
        if let Some(tenant) = tenant {
            check_tenant(tenant)?;
        }
        let (serial, tenant) = (serial.into(), tenant.map(Into::into));
        Ok(Identity::of(Name::Device { class, serial, tenant }))
    }

    /// A server by its DNS names and IP addresses, of which there must be one. Error: [`Code::CaIdentity`].
    pub fn server(dns: &[String], ip: &[IpAddr]) -> Result<Identity> {
        let count = dns.len() + ip.len();
        if count == 0 || count > SERVER_NAMES_MAX {
            return Err(wrong(format!(
                "a server has 1 to {SERVER_NAMES_MAX} names, not {count}"
            )));
        }
        let dns: Vec<String> = dns.iter().map(|name| name.to_ascii_lowercase()).collect();
        dns.iter().try_for_each(|name| check_dns(name))?;
        Ok(Identity::of(Name::Server { dns, ip: ip.to_vec() }))
    }

    /// A person. Error: [`Code::CaIdentity`].
    pub fn operator(name: &str) -> Result<Identity> {
        check_word("name", name, b"-._@")?;
        Ok(Identity::of(Name::Operator(name.into())))
    }

    /// A signer of firmware of a product line. Error: [`Code::CaIdentity`].
    pub fn firmware(product_line: &str) -> Result<Identity> {
        check_word("product line", product_line, b"-._")?;
        Ok(Identity::of(Name::Firmware(product_line.into())))
    }

    /// A factory station. Error: [`Code::CaIdentity`].
    pub fn station(name: &str) -> Result<Identity> {
        check_word("station's name", name, b"-._")?;
        Ok(Identity::of(Name::Station(name.into())))
    }

    /// The same in these roles. Error: [`Code::CaIdentity`].
    pub fn in_roles(mut self, roles: &[String]) -> Result<Identity> {
        if roles.len() > ROLES_MAX {
            return Err(wrong(format!("a certificate has at most {ROLES_MAX} roles")));
        }
        for role in roles {
            check_word("role", role, b"-._")?;
        }
        self.roles = roles.to_vec();
        self.roles.sort();
        self.roles.dedup();
        Ok(self)
    }

    fn of(name: Name) -> Identity {
        Identity {
            name,
            roles: Vec::new(),
        }
    }

    /// The names that go into the certificate as URIs.
    pub(super) fn uris(&self) -> Vec<String> {
        let name = self.name.uri();
        let roles = self.roles.iter().map(|role| format!("{ROLE_PREFIX}{role}"));
        name.into_iter().chain(roles).collect()
    }

    /// The identity of a certificate with these alternative names. Error: [`Code::CertificateName`].
    pub(super) fn from_names(uris: &[String], dns: &[String], ip: &[IpAddr]) -> Result<Identity> {
        let foreign = || Code::CertificateName.error("the certificate names nobody in a form that is known here");
        let (roles, names): (Vec<&String>, Vec<&String>) = uris.iter().partition(|uri| uri.starts_with(ROLE_PREFIX));
        let identity = match (names[..].first(), names.len()) {
            (Some(uri), 1) if dns.is_empty() && ip.is_empty() => Identity::from_uri(uri),
            (None, 0) => Identity::server(dns, ip),
            _ => Err(foreign()),
        };
        let roles: Vec<String> = roles.iter().map(|role| role[ROLE_PREFIX.len()..].to_owned()).collect();
        identity
            .and_then(|identity| identity.in_roles(&roles))
            .map_err(|_| foreign())
    }

    /// The name that a URI stands for. Error: [`Code::CaIdentity`].
    pub fn from_uri(uri: &str) -> Result<Identity> {
        let foreign = || wrong(format!("{uri} is no name of this CA"));
        let parts: Vec<&str> = uri.strip_prefix(PREFIX).ok_or_else(foreign)?.split(':').collect();
        match parts[..] {
            ["device", class, serial] => Identity::device(class, serial, None),
            [tenant, "device", class, serial] => Identity::device(class, serial, Some(tenant)),
            ["operator", name] => Identity::operator(name),
            ["firmware", line] => Identity::firmware(line),
            ["station", name] => Identity::station(name),
            _ => Err(foreign()),
        }
    }
}

impl Name {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Name::Device { .. } => Kind::Device,
            Name::Server { .. } => Kind::Server,
            Name::Operator(_) => Kind::Operator,
            Name::Firmware(_) => Kind::Firmware,
            Name::Station(_) => Kind::Station,
        }
    }

    /// Who it is, whatever the tenant: two certificates with the same one belong to the same device or person.
    pub fn principal(&self) -> String {
        match self {
            Name::Device { class, serial, .. } => format!("{PREFIX}device:{class}:{serial}"),
            _ => self.to_string(),
        }
    }

    fn uri(&self) -> Option<String> {
        let uri = match self {
            Name::Server { .. } => return None,
            Name::Device {
                class,
                serial,
                tenant: None,
            } => format!("device:{class}:{serial}"),
            Name::Device {
                class,
                serial,
                tenant: Some(tenant),
            } => format!("{tenant}:device:{class}:{serial}"),
            Name::Operator(name) => format!("operator:{name}"),
            Name::Firmware(line) => format!("firmware:{line}"),
            Name::Station(name) => format!("station:{name}"),
        };
        Some(format!("{PREFIX}{uri}"))
    }
}

impl fmt::Display for Name {
    /// The URI, or a server's names: `dns:a.example.com ip:10.0.0.1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name::Server { dns, ip } = self else {
            return f.write_str(&self.uri().unwrap_or_default());
        };
        let dns = dns.iter().map(|name| format!("dns:{name}"));
        let names: Vec<String> = dns.chain(ip.iter().map(|ip| format!("ip:{ip}"))).collect();
        f.write_str(&names.join(" "))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        self.roles.iter().try_for_each(|role| write!(f, " role:{role}"))
    }
}

/// Whether a DNS name is one of the domains, or below one.
pub fn is_within(name: &str, domains: &[String]) -> bool {
    domains.iter().any(|domain| {
        let front = name.strip_suffix(domain.as_str());
        front.is_some_and(|front| front.is_empty() || front.ends_with('.'))
    })
}

fn check_class(class: &str) -> Result<()> {
    let groups: Vec<usize> = class.split('-').map(str::len).collect();
    let is_hex = class.bytes().all(|c| c == b'-' || c.is_ascii_hexdigit());
    match is_hex && groups == [8, 4, 4, 4, 12] {
        true => Ok(()),
        false => Err(wrong(format!("a device's class is a UUID, and {class:?} is none"))),
    }
}

/// Tenants stand in front of the word `device`; none is called as what else can stand there.
fn check_tenant(tenant: &str) -> Result<()> {
    check_word("tenant", tenant, b"-.")?;
    match tenant {
        "device" | "operator" | "firmware" | "station" | "role" => {
            Err(wrong(format!("a tenant cannot be called {tenant}")))
        }
        _ => Ok(()),
    }
}

/// Letters, digits and these others: all of them stand for themselves in a URN, and in a PrintableString where they have
/// to.
fn check_word(what: &str, word: &str, others: &[u8]) -> Result<()> {
    let is_good = word.bytes().all(|c| c.is_ascii_alphanumeric() || others.contains(&c));
    match is_good && (1..=NAME_CHARS_MAX).contains(&word.len()) {
        true => Ok(()),
        false => Err(wrong(format!(
            "a {what} has 1 to {NAME_CHARS_MAX} letters, digits and {}, not {word:?}",
            String::from_utf8_lossy(others)
        ))),
    }
}

/// RFC 1123 section 2.1; a star may be the whole first label.
pub(super) fn check_dns(name: &str) -> Result<()> {
    let is_label = |label: &str| {
        let is_good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        (1..=DNS_LABEL_CHARS_MAX).contains(&label.len())
            && label.bytes().all(is_good)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let rest = name.strip_prefix("*.").unwrap_or(name);
    match name.len() <= DNS_NAME_CHARS_MAX && rest.split('.').all(is_label) {
        true => Ok(()),
        false => Err(wrong(format!("{name:?} is no DNS name"))),
    }
}

fn wrong(what: impl Into<String>) -> Error {
    Code::CaIdentity.error(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: &str = "ede90b60-1c8b-5b14-9a2f-0d6e7a3b1c22";

    #[test]
    fn a_name_is_the_same_after_the_way_through_its_uri() {
        let roles = ["pump".to_owned(), "line-2".to_owned()];
        let all = [
            Identity::device(&CLASS.to_uppercase(), "AB-0001.7", None),
            Identity::device(CLASS, "1", Some("clinic-7")),
            Identity::operator("alice@example.com"),
            Identity::firmware("infusion_pump"),
            Identity::station("hall-3"),
        ];
        for identity in all {
            let identity = identity.unwrap().in_roles(&roles).unwrap();
            assert_eq!(Identity::from_names(&identity.uris(), &[], &[]).unwrap(), identity);
        }
        let server = Identity::server(&["A.Example.com".into()], &["10.0.0.1".parse().unwrap()]).unwrap();
        assert_eq!(server.to_string(), "dns:a.example.com ip:10.0.0.1");
    }

    #[test]
    fn the_tenant_is_no_part_of_who_a_device_is() {
        let name = |tenant| Identity::device(CLASS, "1", tenant).unwrap().name;
        assert_ne!(name(None).to_string(), name(Some("a")).to_string());
        assert_eq!(name(None).principal(), name(Some("a")).principal());
    }

    #[test]
    fn names_that_could_be_mistaken_are_refused() {
        let words = ["", "a b", "a:b", "a/b", "ä", &"x".repeat(65), "a\n", "a,CN=b"];
        for word in words {
            assert!(
                Identity::device(CLASS, word, None).unwrap_err().is(Code::CaIdentity),
                "{word:?}"
            );
            assert!(Identity::operator(word).unwrap_err().is(Code::CaIdentity), "{word:?}");
        }
        assert!(
            Identity::device("ede90b60", "1", None)
                .unwrap_err()
                .is(Code::CaIdentity)
        );
        assert!(
            Identity::device(CLASS, "1", Some("device"))
                .unwrap_err()
                .is(Code::CaIdentity)
        );
        for dns in ["", "a..b", "-a.b", "a_b", "*.*.c", "a.*", ".a", "*"] {
            assert!(
                Identity::server(&[dns.into()], &[]).unwrap_err().is(Code::CaIdentity),
                "{dns:?}"
            );
        }
        assert!(Identity::server(&[], &[]).unwrap_err().is(Code::CaIdentity));
        let two = ["urn:ampoule:operator:a".to_owned(), "urn:ampoule:operator:b".to_owned()];
        assert!(
            Identity::from_names(&two, &[], &[])
                .unwrap_err()
                .is(Code::CertificateName)
        );
        assert!(Identity::from_names(&two[..1], &["a.example".into()], &[]).is_err());
        assert!(Identity::from_names(&["urn:other:x".into()], &[], &[]).is_err());
    }

    #[test]
    fn a_domain_holds_what_is_below_it_and_nothing_that_only_looks_like_it() {
        let domains = ["example.com".to_owned()];
        for (name, within) in [
            ("example.com", true),
            ("a.b.example.com", true),
            ("badexample.com", false),
            ("example.com.evil.org", false),
        ] {
            assert_eq!(is_within(name, &domains), within, "{name}");
        }
    }
}
