//! Names that both sides compute: vendor, class, device and root ids (profile sections 11 and 13).

use codec::plan::Uuid;
use uuid::Uuid as Uuid5;

/// The vendor id of a domain: lower-case ASCII, without its trailing dot, in the DNS namespace.
pub fn vendor_id(domain: &str) -> Uuid {
    let domain = domain.to_ascii_lowercase();
    let domain = domain.strip_suffix('.').unwrap_or(&domain);
    Uuid5::new_v5(&Uuid5::NAMESPACE_DNS, domain.as_bytes()).into_bytes()
}

/// Characters of a domain at most (RFC 1035 section 2.3.4), and of one of its labels.
const DOMAIN_CHARS_MAX: usize = 253;
const LABEL_CHARS_MAX: usize = 63;
/// Bytes of the name of a product line at most.
pub const PRODUCT_LINE_BYTES_MAX: usize = 64;

/// What is wrong with a vendor's domain, if anything: ids that are made of it never change, so a slip of the pen in the
/// first one would stay for the product's life.
pub fn domain_fault(domain: &str) -> Option<&'static str> {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let is_label = |label: &str| {
        (1..=LABEL_CHARS_MAX).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_good = domain.len() <= DOMAIN_CHARS_MAX && domain.contains('.') && domain.split('.').all(is_label);
    (!is_good).then_some("is no domain name such as example.com")
}

/// What is wrong with the name of a product line, if anything.
pub fn product_line_fault(name: &str) -> Option<&'static str> {
    let is_good = (1..=PRODUCT_LINE_BYTES_MAX).contains(&name.len())
        && name.trim() == name
        && !name.chars().any(char::is_control);
    (!is_good).then_some("is no name: 1 to 64 bytes in one line, no space at its ends")
}

/// The class id of a vendor's model; the model is taken as written.
pub fn class_id(vendor: &Uuid, model: &str) -> Uuid {
    name_in(vendor, model)
}

/// The id of a single device of a class, by its serial number.
pub fn device_id(class: &Uuid, serial: &str) -> Uuid {
    name_in(class, serial)
}

/// The id of a vendor's trust root for a product line, which never changes.
pub fn root_id(vendor: &Uuid, product_line: &str) -> Uuid {
    name_in(vendor, &format!("root:{product_line}"))
}

/// The usual text of an id (`cfbff0d1-9375-5685-968c-48ce8b15ae17`).
pub fn text(id: &Uuid) -> String {
    Uuid5::from_bytes(*id).hyphenated().to_string()
}

fn name_in(namespace: &Uuid, name: &str) -> Uuid {
    Uuid5::new_v5(&Uuid5::from_bytes(*namespace), name.as_bytes()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples and the check value of profile sections 11 and 13.
    #[test]
    fn ids_of_the_profile() {
        let vendor = vendor_id("Example.COM.");
        let class = class_id(&vendor, "AMP-DEMO-1");
        assert_eq!(text(&vendor), "cfbff0d1-9375-5685-968c-48ce8b15ae17");
        assert_eq!(text(&class), "ede90b60-052b-5a20-84dd-0b72f61219a5");
        assert_eq!(
            text(&device_id(&class, "SN-000042")),
            "482e00de-45c9-5e0a-beba-13bcd7ba7da9"
        );
        assert_eq!(text(&root_id(&vendor, "demo")), "5b8b5bec-d94e-5dde-8b20-af19702569a6");
        assert_eq!(text(&vendor_id("arm.com")), "fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe");
    }

    #[test]
    fn slips_of_the_pen_are_no_names() {
        for good in [
            "example.com",
            "Example.COM.",
            "a-1.example",
            &format!("{}.example", "a".repeat(63)),
        ] {
            assert_eq!(domain_fault(good), None, "{good}");
        }
        let long = [&"a".repeat(64), ".example"].concat();
        let longest = ["a."; 126].concat() + "ab";
        for bad in [
            "",
            ".",
            "example",
            "example..com",
            "-a.example",
            "a-.example",
            "a b.example",
            "exämple.com",
            "a_b.example",
            "http://example.com",
            &long,
            &longest,
        ] {
            assert!(domain_fault(bad).is_some(), "{bad}");
        }
        assert_eq!(product_line_fault("Infusion pumps, 3rd generation"), None);
        let long = "a".repeat(65);
        for bad in ["", " ", " a", "a ", "a\nb", &long] {
            assert!(product_line_fault(bad).is_some(), "{bad:?}");
        }
    }
}
