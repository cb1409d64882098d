//! Names that both sides compute: vendor, class, device and root ids (profile sections 11 and 13).

use codec::plan::Uuid;
use uuid::Uuid as Uuid5;

/// The vendor id of a domain: lower-case ASCII, without its trailing dot, in the DNS namespace.
pub fn vendor_id(domain: &str) -> Uuid {
    let domain = domain.to_ascii_lowercase();
    let domain = domain.strip_suffix('.').unwrap_or(&domain);
    Uuid5::new_v5(&Uuid5::NAMESPACE_DNS, domain.as_bytes()).into_bytes()
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
}
