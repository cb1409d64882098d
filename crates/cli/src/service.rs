//! `ampoule sign-service`: a daemon in front of keys, for build systems.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use keys::service::policy::{POLICY_BYTES_MAX, Policy, World};
use keys::service::server::Service;
use keys::{Code, Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::journal;
use crate::out::Out;
use crate::signing::{self, PassphraseArgs};

/// Rights of the socket: its owner and its group may ask.
const SOCKET_MODE: u32 = 0o660;

#[derive(Args)]
pub(crate) struct SignService {
    /// Who may have what signed; docs/sign-service.md describes every field
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Where to listen
    #[arg(long, value_name = "SOCKET")]
    socket: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl SignService {
    /// Serves until SIGTERM or SIGINT.
    pub(crate) fn run(&self, out: Out) -> Result<()> {
        let policy = read_policy(&self.policy)?;
        // Before anybody is asked for a passphrase.
        let place = Place::take(&self.socket)?;
        let context = self.passphrase.context(out)?;
        let open = Box::new(|rule: &keys::service::policy::KeyRule| {
            signing::open_for_service(&rule.uri, &self.passphrase, out)
        });
        let mut service = Service::start(policy, context.journal, context.by, journal::now, open)?;
        let listener = place.listen()?;
        let stop = stop_signal()?;
        for (name, id, world) in service.keys() {
            let refused = if world == World::Production {
                ": for production, so every request is refused"
            } else {
                ""
            };
            out.note(format!("key {name}, id {}{refused}", ::release::hex::text(&id)));
        }
        out.note(format!("signing service at {}", self.socket.display()));
        service.serve(&listener, &stop)?;
        out.note("signing service stopped");
        Ok(())
    }
}

fn read_policy(path: &Path) -> Result<Policy> {
    let failed =
        |error: std::io::Error| Code::ServicePolicy.error(format!("{} cannot be read: {error}", path.display()));
    let mut text = String::new();
    File::open(path)
        .map_err(failed)?
        .take(POLICY_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Policy::parse(&text, &journal::uid_of)
}

fn stop_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, stop.clone())
            .map_err(|error| Code::ServiceSocket.error(format!("signals cannot be caught: {error}")))?;
    }
    Ok(stop)
}

/// The path of a socket that nobody else serves; the socket is removed in the end.
struct Place<'a> {
    socket: &'a Path,
    /// Locked as long as this service lives; a lock ends with its process, however that ends.
    _lock: File,
}

impl<'a> Place<'a> {
    fn take(socket: &'a Path) -> Result<Place<'a>> {
        let mut name = socket.as_os_str().to_owned();
        name.push(".lock");
        let failed = |error| cannot(socket, &error);
        let mut options = OpenOptions::new();
        let lock = options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(name)
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Code::ServiceSocket.error(format!("{} is served already", socket.display())));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        match fs::symlink_metadata(socket) {
            // Of a service that did not end cleanly: it does not hold the lock any more.
            Ok(there) if there.file_type().is_socket() => fs::remove_file(socket).map_err(failed)?,
            Ok(_) => return Err(Code::ServiceSocket.error(format!("{} is there and no socket", socket.display()))),
            Err(_) => {}
        }
        Ok(Place { socket, _lock: lock })
    }

    fn listen(&self) -> Result<UnixListener> {
        let rights = fs::Permissions::from_mode(SOCKET_MODE);
        // Nobody gets in between: what is made here is closed to all but its owner until its rights are set.
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(self.socket);
        rustix::process::umask(before);
        let listener = bound.map_err(|error| cannot(self.socket, &error))?;
        fs::set_permissions(self.socket, rights).map_err(|error| cannot(self.socket, &error))?;
        Ok(listener)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.socket);
    }
}

fn cannot(socket: &Path, error: &std::io::Error) -> Error {
    Code::ServiceSocket.error(format!("{} cannot be served: {error}", socket.display()))
}
