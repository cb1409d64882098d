//! A real terminal (a pseudo-terminal of the kernel) with somebody who reads and types.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::Desk;

/// How long a person waits for a text to appear: key derivation on a busy machine takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// `ampoule` at a terminal that is its controlling one.
pub(crate) struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    program: Child,
    seen: String,
    /// How much of `seen` was waited for.
    read: usize,
}

impl Terminal {
    /// Starts `ampoule` on a desk; arguments are separated by blanks.
    pub(crate) fn start(desk: &Desk, arguments: &str) -> Terminal {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let name = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes())).to_path_buf();
        let end = || OpenOptions::new().read(true).write(true).open(&name).unwrap();
        // A session of its own, whose terminal this is: Ctrl-C then reaches it, and it may open /dev/tty. Whoever runs the
        // tests in the background may have had the signal ignored; at a terminal it is not.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "env", "--default-signal=INT", env!("CARGO_BIN_EXE_ampoule")]);
        command.args(arguments.split_whitespace());
        command
            .stdin(Stdio::from(end()))
            .stdout(Stdio::from(end()))
            .stderr(Stdio::from(end()));
        let program = desk.equip(&mut command).spawn().expect("setsid (util-linux)");
        let keyboard = File::from(keyboard);
        Terminal {
            screen: watch(keyboard.try_clone().unwrap()),
            keyboard,
            program,
            seen: String::new(),
            read: 0,
        }
    }

    /// Waits until this appears behind what was waited for before.
    pub(crate) fn expect(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.unread().contains(text) {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.screen.recv_timeout(left) else {
                panic!("waited for {text:?}, and the screen says:\n{}", self.seen);
            };
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        let at = self.unread().find(text).unwrap_or_default();
        self.read += at + text.len();
    }

    fn unread(&self) -> &str {
        &self.seen[self.read..]
    }

    /// Waits for a question, then types an answer and Enter.
    pub(crate) fn answer(&mut self, question: &str, answer: &str) {
        self.expect(question);
        self.keyboard.write_all(format!("{answer}\r").as_bytes()).unwrap();
    }

    /// The same with a secret: waits until the terminal shows nothing, as a person would only notice too late.
    pub(crate) fn answer_hidden(&mut self, question: &str, secret: &str) {
        self.expect(question);
        self.wait_until_hidden();
        self.keyboard.write_all(format!("{secret}\r").as_bytes()).unwrap();
    }

    /// Waits until what is typed does not appear.
    pub(crate) fn wait_until_hidden(&self) {
        let until = Instant::now() + PATIENCE;
        while self.echoes() {
            assert!(Instant::now() < until, "what is typed is shown:\n{}", self.seen);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for a question, then presses Ctrl-C.
    pub(crate) fn interrupt(&mut self, question: &str) {
        self.expect(question);
        self.keyboard.write_all(b"\x03").unwrap();
    }

    /// Whether what is typed appears on the screen.
    pub(crate) fn echoes(&self) -> bool {
        let state = rustix::termios::tcgetattr(&self.keyboard).unwrap();
        state.local_modes.contains(rustix::termios::LocalModes::ECHO)
    }

    /// Waits for the program's end; gives its status and everything that was on the screen.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.program.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                let _ = self.program.kill();
                panic!("it does not end, and the screen says:\n{}", self.seen);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        while let Ok(bytes) = self.screen.recv_timeout(Duration::from_secs(5)) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        (status, self.seen)
    }
}

/// What appears, until the other end is closed by everybody.
fn watch(mut screen: File) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(len @ 1..) = screen.read(&mut bytes) {
            if sender.send(bytes[..len].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}
