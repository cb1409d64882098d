//! A key behind a signing service, as a [`Signer`].

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use super::wire::{OBJECT_BYTES_MAX, Request, Response, SignContent, SignRequest, read_frame, write_frame};
use crate::signer::accept;
use crate::{Code, Content, DevelopmentOnly, Error, Job, PublicKey, Result, Signature, Signer};

/// How long the service may take for an answer; a token behind it may be slow, and others may be before us.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a URI of a service says: `service:SOCKET?key=NAME[&ref=REF][&token-env=NAME]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// The path of the socket.
    pub socket: PathBuf,
    /// The key's name in the service's policy.
    pub key: String,
    /// The git ref for which it is signed, if any.
    pub git_ref: String,
    /// The environment variable that holds the client's token, if it needs one.
    pub token_env: Option<String>,
}

impl Address {
    /// Reads a URI. Values are taken as they stand, so they contain no `&`. Error: [`Code::Argument`].
    pub fn parse(uri: &str) -> Result<Address> {
        let wrong = || {
            Code::Argument.error(format!(
                "{uri:?} is not service:SOCKET?key=NAME[&ref=REF][&token-env=NAME]"
            ))
        };
        let rest = uri.strip_prefix("service:").ok_or_else(wrong)?;
        let (socket, query) = rest.split_once('?').ok_or_else(wrong)?;
        let mut address = Address {
            socket: socket.into(),
            key: String::new(),
            git_ref: String::new(),
            token_env: None,
        };
        for pair in query.split('&') {
            match pair.split_once('=').ok_or_else(wrong)? {
                ("key", name) => address.key = name.into(),
                ("ref", name) => address.git_ref = name.into(),
                ("token-env", name) => address.token_env = Some(name.into()),
                _ => return Err(wrong()),
            }
        }
        match socket.is_empty() || address.key.is_empty() {
            true => Err(wrong()),
            false => Ok(address),
        }
    }
}

/// A key behind a signing service.
pub struct ServiceKey {
    address: Address,
    token: Zeroizing<String>,
    public: PublicKey,
}

impl ServiceKey {
    /// Asks the service for the public half. `token` is what the service's policy may want of this client.
    ///
    /// Errors: [`Code::ServiceUnreachable`], [`Code::ServiceProtocol`], and those of the service.
    pub fn open(address: Address, token: Option<Zeroizing<String>>) -> Result<ServiceKey> {
        let spki = ask(&address, &Request::Key(address.key.clone()))?;
        Ok(ServiceKey {
            public: PublicKey::from_spki_der(&spki)?,
            token: token.unwrap_or_default(),
            address,
        })
    }

    fn signature(&self, job: &Job<'_>, shown: &[u8]) -> Result<Vec<u8>> {
        if shown.len() > OBJECT_BYTES_MAX {
            let what = format!(
                "the object has {} bytes, and a service takes {OBJECT_BYTES_MAX}",
                shown.len()
            );
            return Err(Code::ServiceProtocol.error(what));
        }
        let content = match job.content {
            Content::Message(parts) => SignContent::Message(parts.concat()),
            Content::Digest(digest) => SignContent::Digest(*digest),
        };
        let request = SignRequest {
            key: self.address.key.clone(),
            object: job.purpose.object.name().into(),
            subject: job.purpose.subject.clone(),
            content,
            shown: shown.to_vec(),
            git_ref: self.address.git_ref.clone(),
            token: self.token.to_string(),
        };
        ask(&self.address, &Request::Sign(Box::new(request)))
    }
}

impl Signer for ServiceKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn describe(&self) -> String {
        format!(
            "key {} of the signing service {}",
            self.address.key,
            self.address.socket.display()
        )
    }

    fn development_only(&self) -> Option<DevelopmentOnly> {
        Some(DevelopmentOnly::SigningService)
    }

    fn make_signature(&self, job: &Job<'_>) -> Result<Vec<u8>> {
        self.signature(job, &[])
    }

    fn sign_shown(&self, job: &Job<'_>, object: &[u8]) -> Result<Signature> {
        accept(self, job, self.signature(job, object)?)
    }
}

/// One connection, one request, one answer.
fn ask(address: &Address, request: &Request) -> Result<Vec<u8>> {
    let unreachable = |error: std::io::Error| {
        Code::ServiceUnreachable.error(format!("the signing service {}: {error}", address.socket.display()))
    };
    let mut stream = UnixStream::connect(&address.socket).map_err(unreachable)?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .map_err(unreachable)?;
    // A service that is busy answers without reading; its answer says more than the failed write.
    let written = write_frame(&mut stream, &request.encode());
    match (read_frame(&mut stream), written) {
        (Ok(Some(frame)), _) => Response::decode(&frame),
        (_, Err(error)) => Err(unreachable(error)),
        (Ok(None), _) => Err(no_answer(address)),
        (Err(error), _) => Err(error),
    }
}

fn no_answer(address: &Address) -> Error {
    Code::ServiceUnreachable.error(format!(
        "the signing service {} ended without an answer",
        address.socket.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_socket_key_ref_and_token() {
        let address = Address::parse("service:/run/a.sock?key=ci&ref=refs/heads/main&token-env=T").unwrap();
        assert_eq!(
            (address.socket.to_str(), address.key.as_str()),
            (Some("/run/a.sock"), "ci")
        );
        assert_eq!(
            (address.git_ref.as_str(), address.token_env.as_deref()),
            ("refs/heads/main", Some("T"))
        );
        for bad in [
            "service:/run/a.sock",
            "service:?key=a",
            "service:/a?key=",
            "service:/a?key=a&x=1",
            "service:/a?key",
        ] {
            assert!(Address::parse(bad).unwrap_err().is(Code::Argument), "{bad}");
        }
    }
}
