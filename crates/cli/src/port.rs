//! The line to a device: a serial port or pty, a Unix socket, or TCP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use keys::{Code, Error, Result};

/// How long one read waits for bytes, in milliseconds: short enough that deadlines are kept well.
const READ_WAIT_MS: u64 = 50;

/// An open line. Reading gives 0 bytes when nothing came within [`READ_WAIT_MS`].
pub(crate) struct Port {
    name: String,
    line: Box<dyn Line>,
    /// Whether reading 0 bytes means that the other end is gone.
    ends: bool,
}

trait Line: Read + Write {}
impl<T: Read + Write> Line for T {}

impl Port {
    /// Opens `unix:PATH`, `tcp:HOST:PORT`, or else a serial port or pty at this baud rate.
    ///
    /// Error: [`Code::PortOpen`].
    pub(crate) fn open(name: &str, baud: u32) -> Result<Port> {
        let failed = |error: &dyn std::fmt::Display| Code::PortOpen.error(format!("{name} cannot be opened: {error}"));
        let wait = Duration::from_millis(READ_WAIT_MS);
        let (line, ends): (Box<dyn Line>, bool) = if let Some(path) = name.strip_prefix("unix:") {
            (unix(path, wait).map_err(|error| failed(&error))?, true)
        } else if let Some(address) = name.strip_prefix("tcp:") {
            (tcp(address, wait).map_err(|error| failed(&error))?, true)
        } else {
            let open = serialport::new(name, baud).timeout(wait).open();
            (Box::new(open.map_err(|error| failed(&error))?), false)
        };
        Ok(Port {
            name: name.into(),
            line,
            ends,
        })
    }

    /// Whatever came in, at most `room.len()` bytes; 0 when nothing came in time. Error: [`Code::PortLost`].
    pub(crate) fn read(&mut self, room: &mut [u8]) -> Result<usize> {
        match self.line.read(room) {
            Ok(0) if self.ends => Err(self.lost("the other end closed it")),
            Ok(count) => Ok(count),
            Err(error) if is_silence(&error) => Ok(0),
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// Sends all of it. Error: [`Code::PortLost`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.line.write(rest) {
                Ok(0) => return Err(self.lost("it takes no more bytes")),
                Ok(count) => rest = rest.get(count..).unwrap_or(&[]),
                Err(error) if is_silence(&error) => {}
                Err(error) => return Err(self.lost(&error)),
            }
        }
        self.line.flush().map_err(|error| self.lost(&error))
    }

    /// What the port was called when it was opened.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn lost(&self, why: impl std::fmt::Display) -> Error {
        Code::PortLost.error(format!("the connection to {} was lost: {why}", self.name))
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::Interrupted
    )
}

#[cfg(unix)]
fn unix(path: &str, wait: Duration) -> io::Result<Box<dyn Line>> {
    let stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(wait))?;
    Ok(Box::new(stream))
}

#[cfg(not(unix))]
fn unix(_path: &str, _wait: Duration) -> io::Result<Box<dyn Line>> {
    Err(io::Error::new(
        ErrorKind::Unsupported,
        "this system has no Unix sockets",
    ))
}

fn tcp(address: &str, wait: Duration) -> io::Result<Box<dyn Line>> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(wait))?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_port_that_is_not_there_is_named() {
        for name in ["/dev/does-not-exist", "unix:/does/not/exist", "tcp:127.0.0.1:1"] {
            let error = Port::open(name, 115_200).err().unwrap();
            assert!(error.is(Code::PortOpen) && error.what.contains(name), "{error}");
        }
    }

    #[test]
    fn silence_is_no_error_and_a_closed_line_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("line");
        let listener = UnixListener::bind(&path).unwrap();
        let mut port = Port::open(&format!("unix:{}", path.display()), 0).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let mut room = [0; 8];
        assert_eq!(port.read(&mut room).unwrap(), 0);
        other.write_all(b"abc").unwrap();
        assert_eq!(port.read(&mut room).unwrap(), 3);
        drop(other);
        assert!(port.read(&mut room).unwrap_err().is(Code::PortLost));
    }
}
