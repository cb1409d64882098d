//! Certificates beside keys in tokens: objects of the key's CKA_ID (OASIS PKCS#11 2.40, section 4.6.3).

use cryptoki::object::{Attribute, AttributeType, CertificateType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::{Access, Pkcs11Uri, Token, bytes_of, failed};
use crate::ca::Certificate;
use crate::{Code, Passphrase, PublicKey, Result};

impl Token {
    /// Keeps a certificate beside the key that the URI names, under its label and id. With `replace` those that stand
    /// there are taken away, once the new one does. The same certificate again changes nothing.
    ///
    /// Errors: those of [`Token::open`]; [`Code::TokenCertificate`] it certifies another key, or one stands there already.
    pub fn keep_certificate(
        &self,
        uri: &Pkcs11Uri,
        certificate: &Certificate,
        replace: bool,
        pin: Option<&Passphrase>,
    ) -> Result<()> {
        let session = self.session(Access::ReadWrite)?;
        self.login(&session, pin)?;
        let private = self.only(&session, uri, ObjectClass::PRIVATE_KEY)?;
        if certificate.key()? != self.public_beside(&session, private)? {
            return Err(Code::TokenCertificate.error(format!("the certificate is for another key than {uri}")));
        }
        let id = bytes_of(&session, private, AttributeType::Id, &self.name)?.unwrap_or_default();
        let before = self.certificates_of(&session, &id)?;
        if before.iter().any(|(_, der)| der == certificate.as_der()) {
            return Ok(());
        }
        if !before.is_empty() && !replace {
            return Err(Code::TokenCertificate.error(format!("another certificate stands beside {uri}")));
        }
        let label = bytes_of(&session, private, AttributeType::Label, &self.name)?.unwrap_or_default();
        let made = session.create_object(&template(certificate, label, id)?);
        made.map_err(|e| failed(&self.name, e))?;
        let gone = before.into_iter().map(|(handle, _)| session.destroy_object(handle));
        gone.collect::<std::result::Result<(), _>>()
            .map_err(|e| failed(&self.name, e))
    }

    /// The key of the one certificate of this id: a token may keep no public key where there is a certificate.
    pub(super) fn certified(&self, session: &Session, id: &[u8]) -> Result<Option<PublicKey>> {
        match &self.certificates_of(session, id)?[..] {
            [(_, der)] => Certificate::from_der(der)?.key().map(Some),
            _ => Ok(None),
        }
    }

    fn certificates_of(&self, session: &Session, id: &[u8]) -> Result<Vec<(ObjectHandle, Vec<u8>)>> {
        let wanted = [Attribute::Class(ObjectClass::CERTIFICATE), Attribute::Id(id.to_vec())];
        let found = session.find_objects(&wanted).map_err(|e| failed(&self.name, e))?;
        let read = |handle| {
            let der = bytes_of(session, handle, AttributeType::Value, &self.name)?;
            Ok((handle, der.unwrap_or_default()))
        };
        found.into_iter().map(read).collect()
    }
}

fn template(certificate: &Certificate, label: Vec<u8>, id: Vec<u8>) -> Result<Vec<Attribute>> {
    let [subject, issuer, serial] = certificate.names_in_der()?;
    Ok(vec![
        Attribute::Class(ObjectClass::CERTIFICATE),
        Attribute::CertificateType(CertificateType::X_509),
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Label(label),
        Attribute::Id(id),
        Attribute::Subject(subject),
        Attribute::Issuer(issuer),
        Attribute::SerialNumber(serial),
        Attribute::Value(certificate.as_der().to_vec()),
    ])
}
