//! What a certificate says, byte by byte (RFC 5280), and what one says that was read.

use std::net::IpAddr;

use p256::ecdsa::signature::Keypair;
use pkcs8::Document;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::der::asn1::{Any, GeneralizedTime, Ia5String, OctetString, PrintableString, SetOfVec};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc4519;
use x509_cert::der::pem::{self, LineEnding, PemLabel};
use x509_cert::der::{self, DateTime, Decode, Encode};
use x509_cert::ext::pkix::certpolicy::PolicyInformation;
use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::{GeneralName, HardwareModuleName, OtherName};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CertificatePolicies, ExtendedKeyUsage, KeyUsage, KeyUsages,
    NameConstraints, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name as DistinguishedName;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{
    AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, EncodePublicKey, SubjectPublicKeyInfoOwned,
    SubjectPublicKeyInfoRef,
};
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate as X509, TbsCertificate};

use super::algorithm::{identifier, unencodable};
use super::identity::{Identity, Name};
use super::profile::{KeyPurpose, Oid};
use crate::{Code, PublicKey, Result};

/// Bytes of a certificate at most (CERT_MAX of the profile AMP-SUIT-1, Linux devices).
pub const CERTIFICATE_BYTES_MAX: usize = 4096;
/// Bytes of a subject's key identifier.
const KEY_IDENTIFIER_BYTES: usize = 20;
/// The last second of the year 9999, in seconds since 1970: "no well-defined expiration date" (RFC 5280 section 4.1.2.5).
pub const NO_END: u64 = 253_402_300_799;

/// What stands in a certificate.
pub(super) struct Content<'a> {
    /// 16 bytes, positive as an integer.
    pub(super) serial: [u8; 16],
    /// Seconds since 1970.
    pub(super) not_before: u64,
    /// Seconds since 1970; [`NO_END`] for none.
    pub(super) not_after: u64,
    pub(super) issuer: &'a Authority,
    pub(super) subject: DistinguishedName,
    pub(super) key: &'a PublicKey,
    pub(super) kind: Kind<'a>,
}

/// A CA by its name and key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Authority {
    pub(super) name: DistinguishedName,
    pub(super) key: PublicKey,
}

/// What makes a CA's certificate and everybody else's different.
pub(super) enum Kind<'a> {
    Ca {
        path_length: Option<u8>,
        purposes: &'a [KeyPurpose],
        domains: &'a [String],
        /// A station's name.
        identity: Option<&'a Identity>,
    },
    Leaf {
        identity: &'a Identity,
        purposes: &'a [KeyPurpose],
        hardware_type: Option<Oid>,
        policies: &'a [Oid],
    },
}

impl Content<'_> {
    /// TBSCertificate in DER.
    pub(super) fn to_tbs(&self) -> Result<Vec<u8>> {
        let public = |key: &PublicKey| SubjectPublicKeyInfoOwned::from_der(&key.to_spki_der());
        let validity = Validity::new(time(self.not_before)?, time(self.not_after)?);
        let serial = SerialNumber::new(&self.serial).map_err(unencodable)?;
        let issuer = Half {
            algorithm: identifier(&self.issuer.key)?,
            key: Spki(self.issuer.key.clone()),
        };
        let key = public(self.key).map_err(unencodable)?;
        let builder = CertificateBuilder::new(self, serial, validity, key);
        let tbs = builder.and_then(|mut builder| builder.finalize(&issuer));
        tbs.map_err(unencodable)
    }

    fn extensions(&self) -> der::Result<Vec<Extension>> {
        let mut extensions = vec![
            self.extension(&SubjectKeyIdentifier(OctetString::new(key_identifier(self.key))?))?,
            self.extension(&authority_key_identifier(&self.issuer.key)?)?,
        ];
        match &self.kind {
            Kind::Ca {
                path_length,
                purposes,
                domains,
                identity,
            } => {
                let constraints = BasicConstraints {
                    ca: true,
                    path_len_constraint: *path_length,
                };
                extensions.push(self.extension(&constraints)?);
                extensions.push(self.extension(&KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign))?);
                extensions.extend(self.purposes(purposes)?);
                extensions.extend(self.domains(domains)?);
                extensions.extend(identity.map(|identity| self.names(identity, None)).transpose()?);
            }
            Kind::Leaf {
                identity,
                purposes,
                hardware_type,
                policies,
            } => {
                let constraints = BasicConstraints {
                    ca: false,
                    path_len_constraint: None,
                };
                extensions.push(self.extension(&constraints)?);
                extensions.push(self.extension(&KeyUsage(KeyUsages::DigitalSignature.into()))?);
                extensions.extend(self.purposes(purposes)?);
                extensions.push(self.names(identity, *hardware_type)?);
                extensions.extend(self.policies(policies)?);
            }
        }
        Ok(extensions)
    }

    fn extension<'e, E>(&self, extension: &'e E) -> der::Result<Extension>
    where
        &'e E: ToExtension<Error = der::Error>,
    {
        extension.to_extension(&self.subject, &[])
    }

    fn purposes(&self, purposes: &[KeyPurpose]) -> der::Result<Option<Extension>> {
        let oids: Vec<ObjectIdentifier> = purposes.iter().map(|purpose| purpose.oid()).collect();
        (!oids.is_empty())
            .then(|| self.extension(&ExtendedKeyUsage(oids)))
            .transpose()
    }

    /// RFC 5280 section 4.2.1.10: the subtrees that DNS names may stand in.
    fn domains(&self, domains: &[String]) -> der::Result<Option<Extension>> {
        let subtree = |domain: &String| {
            Ok(GeneralSubtree {
                base: GeneralName::DnsName(Ia5String::new(domain)?),
                minimum: 0,
                maximum: None,
            })
        };
        let permitted: Vec<GeneralSubtree> = domains.iter().map(subtree).collect::<der::Result<_>>()?;
        let constraints = NameConstraints {
            permitted_subtrees: Some(permitted),
            excluded_subtrees: None,
        };
        (!domains.is_empty()).then(|| self.extension(&constraints)).transpose()
    }

    fn names(&self, identity: &Identity, hardware_type: Option<Oid>) -> der::Result<Extension> {
        let uri = |uri: String| Ok(GeneralName::UniformResourceIdentifier(Ia5String::new(&uri)?));
        let mut names: Vec<GeneralName> = identity.uris().into_iter().map(uri).collect::<der::Result<_>>()?;
        match (&identity.name, hardware_type) {
            (Name::Server { dns, ip }, _) => {
                for name in dns {
                    names.push(GeneralName::DnsName(Ia5String::new(name)?));
                }
                names.extend(ip.iter().map(|ip| GeneralName::from(*ip)));
            }
            (Name::Device { serial, .. }, Some(Oid(hw_type))) => {
                let module = HardwareModuleName {
                    hw_type,
                    hw_serial_num: OctetString::new(serial.as_bytes())?,
                };
                names.push(GeneralName::OtherName(OtherName::try_from(&module)?));
            }
            _ => {}
        }
        self.extension(&SubjectAltName(names))
    }

    fn policies(&self, policies: &[Oid]) -> der::Result<Option<Extension>> {
        let policy = |oid: &Oid| PolicyInformation {
            policy_identifier: oid.0,
            policy_qualifiers: None,
        };
        let policies: Vec<PolicyInformation> = policies.iter().map(policy).collect();
        (!policies.is_empty())
            .then(|| self.extension(&CertificatePolicies(policies)))
            .transpose()
    }
}

impl BuilderProfile for &Content<'_> {
    fn get_issuer(&self, _subject: &DistinguishedName) -> DistinguishedName {
        self.issuer.name.clone()
    }

    fn get_subject(&self) -> DistinguishedName {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _key: SubjectPublicKeyInfoRef<'_>,
        _issuer: SubjectPublicKeyInfoRef<'_>,
        _tbs: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(self.extensions()?)
    }
}

/// The public half of the issuer's key, as the builder wants to see it; it never signs.
struct Half {
    algorithm: AlgorithmIdentifierOwned,
    key: Spki,
}

#[derive(Clone)]
struct Spki(PublicKey);

impl Keypair for Half {
    type VerifyingKey = Spki;

    fn verifying_key(&self) -> Spki {
        self.key.clone()
    }
}

impl DynSignatureAlgorithmIdentifier for Half {
    fn signature_algorithm_identifier(&self) -> x509_cert::spki::Result<AlgorithmIdentifierOwned> {
        Ok(self.algorithm.clone())
    }
}

impl EncodePublicKey for Spki {
    fn to_public_key_der(&self) -> x509_cert::spki::Result<Document> {
        Ok(Document::from_der(&self.0.to_spki_der())?)
    }
}

/// RFC 7093 section 2, method 1: the first 160 bits of the SHA-256 of the key.
pub(super) fn key_identifier(key: &PublicKey) -> Vec<u8> {
    let spki = key.to_spki_der();
    let bits = SubjectPublicKeyInfoOwned::from_der(&spki).ok();
    let bits = bits.as_ref().and_then(|spki| spki.subject_public_key.as_bytes());
    let mut identifier = trust::Sha256::of(bits.unwrap_or_default()).to_vec();
    identifier.truncate(KEY_IDENTIFIER_BYTES);
    identifier
}

pub(super) fn authority_key_identifier(key: &PublicKey) -> der::Result<AuthorityKeyIdentifier> {
    Ok(AuthorityKeyIdentifier {
        key_identifier: Some(OctetString::new(key_identifier(key))?),
        authority_cert_issuer: None,
        authority_cert_serial_number: None,
    })
}

/// UTCTime up to 2049, GeneralizedTime from then on (RFC 5280 section 4.1.2.5).
pub(super) fn time(seconds: u64) -> Result<Time> {
    let moment = DateTime::from_unix_duration(std::time::Duration::from_secs(seconds)).map_err(unencodable)?;
    let general = Time::GeneralTime(GeneralizedTime::from_date_time(moment));
    Ok(match moment.year() {
        ..2050 => Time::from(moment),
        _ => general,
    })
}

/// Attributes in the order given, one in each part of the name. `None` are left out.
pub(super) fn distinguished_name(parts: &[(ObjectIdentifier, Option<&str>)]) -> Result<DistinguishedName> {
    let encoded = || {
        let mut name = Vec::new();
        for (oid, text) in parts {
            let Some(text) = text else { continue };
            let attribute = AttributeTypeAndValue {
                oid: *oid,
                value: text_of(*oid, text)?,
            };
            SetOfVec::try_from([attribute])?.encode_to_vec(&mut name)?;
        }
        DistinguishedName::from_der(&Any::new(der::Tag::Sequence, name)?.to_der()?)
    };
    encoded().map_err(unencodable)
}

/// RFC 5280 appendix A: a serial number is a PrintableString, everything else here a UTF8String.
fn text_of(oid: ObjectIdentifier, text: &str) -> der::Result<Any> {
    match oid {
        rfc4519::SERIAL_NUMBER => Any::encode_from(&PrintableString::new(text)?),
        _ => Any::encode_from(&text.to_owned()),
    }
}

/// The subject of whoever is certified: what people read. Doors read the alternative names.
pub(super) fn subject(organisation: &str, name: &Name) -> Result<DistinguishedName> {
    use rfc4519::{CN, O, OU, SERIAL_NUMBER};
    let organisation = (O, Some(organisation));
    match name {
        Name::Device { class, serial, .. } => {
            distinguished_name(&[organisation, (OU, Some(class)), (SERIAL_NUMBER, Some(serial))])
        }
        Name::Server { dns, .. } => {
            // Not longer than a common name may be (RFC 5280, ub-common-name).
            let first = dns.iter().map(String::as_str).find(|name| name.len() <= 64);
            distinguished_name(&[organisation, (CN, first)])
        }
        Name::Operator(text) | Name::Firmware(text) | Name::Station(text) => {
            let kind = name.kind().to_string();
            distinguished_name(&[organisation, (OU, Some(&kind)), (CN, Some(text))])
        }
    }
}

/// A certificate that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    x509: X509,
}

impl Certificate {
    /// Reads one in DER. Error: [`Code::CertificateMalformed`].
    pub fn from_der(der: &[u8]) -> Result<Certificate> {
        let malformed = |_| Code::CertificateMalformed.error("this is no X.509 certificate");
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err(Code::CertificateMalformed.error(format!("the certificate has {} bytes", der.len())));
        }
        let x509 = X509::from_der(der).map_err(malformed)?;
        Ok(Certificate {
            der: der.to_vec(),
            x509,
        })
    }

    /// Reads one in DER, or all of a file in PEM. Error: [`Code::CertificateMalformed`].
    pub fn read_all(bytes: &[u8]) -> Result<Vec<Certificate>> {
        if bytes.first() == Some(&0x30) {
            return Ok(vec![Certificate::from_der(bytes)?]);
        }
        let malformed = || Code::CertificateMalformed.error("this is neither DER nor PEM with certificates only");
        let text = std::str::from_utf8(bytes).map_err(|_| malformed())?;
        let ends = text.split_inclusive("-----END CERTIFICATE-----");
        let blocks = ends.map(str::trim).filter(|block| !block.is_empty());
        let read = |block: &str| match pem::decode_vec(block.as_bytes()) {
            Ok((X509::PEM_LABEL, der)) => Certificate::from_der(&der),
            _ => Err(malformed()),
        };
        let all: Vec<Certificate> = blocks.map(read).collect::<Result<_>>()?;
        if all.is_empty() { Err(malformed()) } else { Ok(all) }
    }

    /// Its bytes.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Its bytes in PEM.
    pub fn to_pem(&self) -> String {
        pem::encode_string(X509::PEM_LABEL, LineEnding::LF, &self.der).unwrap_or_default()
    }

    /// Its serial number.
    pub fn serial(&self) -> Vec<u8> {
        self.x509.tbs_certificate().serial_number().as_bytes().to_vec()
    }

    /// From when it is valid, in seconds since 1970.
    pub fn not_before(&self) -> u64 {
        self.x509
            .tbs_certificate()
            .validity()
            .not_before
            .to_unix_duration()
            .as_secs()
    }

    /// Until when it is valid, in seconds since 1970; [`NO_END`] where it has no end.
    pub fn not_after(&self) -> u64 {
        self.x509
            .tbs_certificate()
            .validity()
            .not_after
            .to_unix_duration()
            .as_secs()
    }

    /// Its subject, for people.
    pub fn subject(&self) -> String {
        self.x509.tbs_certificate().subject().to_string()
    }

    /// Its issuer, for people.
    pub fn issuer(&self) -> String {
        self.x509.tbs_certificate().issuer().to_string()
    }

    /// Subject, issuer and serial number as they stand in it.
    pub(crate) fn names_in_der(&self) -> Result<[Vec<u8>; 3]> {
        let tbs = self.x509.tbs_certificate();
        let parts = [
            tbs.subject().to_der(),
            tbs.issuer().to_der(),
            tbs.serial_number().to_der(),
        ];
        let [subject, issuer, serial] = parts.map(|part| part.map_err(unencodable));
        Ok([subject?, issuer?, serial?])
    }

    /// SHA-256 of its bytes.
    pub fn fingerprint(&self) -> [u8; 32] {
        trust::Sha256::of(&self.der)
    }

    /// The certified key. Error: [`Code::KeyAlgorithm`], [`Code::KeyWeak`].
    pub fn key(&self) -> Result<PublicKey> {
        let spki = self.x509.tbs_certificate().subject_public_key_info().to_der();
        PublicKey::from_spki_der(&spki.map_err(unencodable)?)
    }

    /// Whether it may issue others.
    pub fn is_ca(&self) -> bool {
        let constraints = self.x509.tbs_certificate().get_extension::<BasicConstraints>();
        constraints.is_ok_and(|found| found.is_some_and(|(_, constraints)| constraints.ca))
    }

    /// Whom it names. Error: [`Code::CertificateName`].
    pub fn identity(&self) -> Result<Identity> {
        let foreign = |_| Code::CertificateName.error("the certificate's names cannot be read");
        let names = self
            .x509
            .tbs_certificate()
            .get_extension::<SubjectAltName>()
            .map_err(foreign)?;
        let (mut uris, mut dns, mut ip) = (Vec::new(), Vec::new(), Vec::new());
        for name in names.map_or_else(Vec::new, |(_, names)| names.0) {
            match name {
                GeneralName::UniformResourceIdentifier(uri) => uris.push(uri.to_string()),
                GeneralName::DnsName(name) => dns.push(name.to_string()),
                GeneralName::IpAddress(bytes) => ip.extend(address(bytes.as_bytes())),
                // A hardwareModuleName repeats the serial number.
                _ => {}
            }
        }
        Identity::from_names(&uris, &dns, &ip)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    four.or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}
