//! A board in QEMU: a real Cortex-M program on a flash that a file keeps, and a host that may cut its power.
//!
//! The console (UART 0) is read all the time and kept; the SMP line (UART 1) is a Unix socket, or a pty for tools that
//! want a serial port. Dropping a [`Board`] is a power cut: SIGKILL, nothing is flushed, the file keeps what was stored.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The emulator's program; Debian calls its package the same.
const QEMU: &str = "qemu-system-arm";

/// Bytes of the flash file: QEMU wants exactly this on mps2 machines.
pub const FLASH_BYTES: u64 = 16 * 1024 * 1024;

/// What erased flash reads as on these boards.
const ERASED: u8 = 0xff;

/// How long QEMU may take until its sockets stand, on a loaded machine.
const STARTUP: Duration = Duration::from_secs(20);

/// How long a read or write of the SMP line waits; a test that hangs says nothing.
const SMP_SILENCE: Duration = Duration::from_secs(20);

/// `O_NOCTTY` of Linux: opening a pty must not make it our controlling terminal.
const O_NOCTTY: i32 = 0o400;

/// Why a board did not do what a test waited for; says what the console printed until then.
pub struct QemuError(String);

impl QemuError {
    pub(crate) fn new(what: String) -> QemuError {
        QemuError(what)
    }
}

impl fmt::Display for QemuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As text with its lines: this is what a test's `expect` shows.
impl fmt::Debug for QemuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for QemuError {}

fn failed(what: &str) -> impl FnOnce(io::Error) -> QemuError + '_ {
    move |error| QemuError(format!("{what}: {error}"))
}

/// What the SMP line is connected to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SmpLine {
    /// A Unix socket: [`Board::smp`].
    #[default]
    Socket,
    /// A pseudo terminal for tools that open a serial port: [`Board::pty`].
    Pty,
}

/// How to start a board.
#[derive(Clone, Debug)]
pub struct Options {
    /// QEMU's name of the machine.
    pub machine: String,
    /// The other end of UART 1.
    pub smp: SmpLine,
    /// Counts instructions: one takes 2^n ns of the board's time, so the same program takes the same time always.
    pub icount: Option<u8>,
    /// Also copies the console to this file.
    pub log: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            machine: "mps2-an386".into(),
            smp: SmpLine::Socket,
            icount: None,
            log: None,
        }
    }
}

/// A running board.
pub struct Board {
    qemu: Child,
    console: Arc<Console>,
    reader: Option<JoinHandle<()>>,
    folder: TempDir,
    cursor: usize,
    smp: Smp,
    /// Locked while the board runs.
    flash: File,
}

enum Smp {
    Unconnected,
    Socket(UnixStream),
    /// The slave side is kept open: what the board sends while nobody listens waits there.
    Pty {
        path: PathBuf,
        _open: File,
    },
}

impl Board {
    /// Starts the machine with this flash (made erased if there is none) and this bootloader.
    ///
    /// A flash that another board runs on is refused: two instances would destroy it.
    pub fn start(flash: &Path, bootloader: &Path, options: &Options) -> Result<Board, QemuError> {
        let flash_file = open_flash(flash)?;
        flash_file
            .try_lock()
            .map_err(|e| QemuError(format!("{} runs on another board: {e}", flash.display())))?;
        if !bootloader.is_file() {
            return Err(QemuError(format!(
                "no bootloader at {}; build it first",
                bootloader.display()
            )));
        }
        let folder = tempfile::Builder::new()
            .prefix("ampoule-")
            .tempdir_in("/tmp") // socket paths end at 107 bytes, so not wherever TMPDIR is
            .map_err(failed("cannot make a folder for sockets"))?;
        let log = options.log.as_deref().map(open_log).transpose()?;
        let mut qemu = command(flash, bootloader, options, folder.path())?
            .spawn()
            .map_err(|e| QemuError(format!("cannot start {QEMU}: {e}. On Debian: apt install {QEMU}")))?;
        let console = Arc::new(Console::default());
        let stdout = qemu.stdout.take().expect("stdout was piped");
        let reader = thread::spawn({
            let console = Arc::clone(&console);
            move || console.fill(stdout, log)
        });
        // From here on a failure drops the board, and that ends QEMU.
        let mut board = Board {
            qemu,
            console,
            reader: Some(reader),
            folder,
            cursor: 0,
            smp: Smp::Unconnected,
            flash: flash_file,
        };
        board.smp = board.connect(options.smp)?;
        Ok(board)
    }

    /// Waits until the console has printed `text` behind what earlier waits found; returns the rest of its line.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<String, QemuError> {
        self.wait_for_any(&[text], timeout).map(|(_, line)| line)
    }

    /// Waits for the first of several texts; returns its number and the rest of its line.
    pub fn wait_for_any(&mut self, texts: &[&str], timeout: Duration) -> Result<(usize, String), QemuError> {
        let deadline = Instant::now() + timeout;
        let mut printed = self.console.lock();
        loop {
            if let Some((number, rest, end)) = find(&printed.bytes, self.cursor, texts) {
                self.cursor = end;
                return Ok((number, rest));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if printed.closed || left.is_zero() {
                let why = if printed.closed { "QEMU ended" } else { "time ran out" };
                let console = String::from_utf8_lossy(&printed.bytes).into_owned();
                drop(printed);
                return Err(self.explain(&format!("waited {timeout:?} for {texts:?}: {why}"), &console));
            }
            printed = self
                .console
                .news
                .wait_timeout(printed, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Everything that the console printed so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.console.lock().bytes).into_owned()
    }

    /// The SMP line; only with [`SmpLine::Socket`].
    pub fn smp(&mut self) -> &mut UnixStream {
        match &mut self.smp {
            Smp::Socket(stream) => stream,
            _ => panic!("this board's SMP line is no socket"),
        }
    }

    /// The serial port of the SMP line; only with [`SmpLine::Pty`]. Its number is another one at every start.
    pub fn pty(&self) -> &Path {
        match &self.smp {
            Smp::Pty { path, .. } => path,
            _ => panic!("this board's SMP line is no pty"),
        }
    }

    /// Whether the emulator still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.qemu.try_wait(), Ok(None))
    }

    /// Cuts the power now and returns what the console had printed.
    pub fn cut_power(mut self) -> String {
        self.kill();
        self.console()
    }

    fn connect(&mut self, line: SmpLine) -> Result<Smp, QemuError> {
        match line {
            SmpLine::Socket => self.connect_socket().map(Smp::Socket),
            SmpLine::Pty => {
                let rest = self.wait_for("char device redirected to ", STARTUP)?;
                let path = PathBuf::from(rest.split_whitespace().next().unwrap_or_default());
                let port = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .custom_flags(O_NOCTTY)
                    .open(&path);
                Ok(Smp::Pty {
                    path,
                    _open: port.map_err(failed("cannot open QEMU's pty"))?,
                })
            }
        }
    }

    fn connect_socket(&mut self) -> Result<UnixStream, QemuError> {
        let path = socket_path(self.folder.path());
        let deadline = Instant::now() + STARTUP;
        loop {
            match UnixStream::connect(&path) {
                Ok(stream) => {
                    let limit = stream
                        .set_read_timeout(Some(SMP_SILENCE))
                        .and_then(|()| stream.set_write_timeout(Some(SMP_SILENCE)));
                    limit.map_err(failed("cannot set the SMP line's time limit"))?;
                    return Ok(stream);
                }
                Err(error) if !self.is_running() || Instant::now() > deadline => {
                    return Err(self.explain(&format!("cannot reach the board: {error}"), &self.console()));
                }
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    fn explain(&self, what: &str, console: &str) -> QemuError {
        let stderr = fs::read_to_string(stderr_path(self.folder.path())).unwrap_or_default();
        QemuError(format!("{what}\n--- console\n{console}\n--- {QEMU}\n{stderr}"))
    }

    fn kill(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        // Closing alone would not do: a process that another thread is just starting holds the same open file for a moment.
        let _ = self.flash.unlock();
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Writes bytes into a flash file as a programmer would, without the board. Makes the file if there is none.
pub fn program(flash: &Path, offset: u64, bytes: &[u8]) -> Result<(), QemuError> {
    let mut file = open_flash(flash)?;
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| file.write_all(bytes))
        .map_err(failed("cannot write the flash"))
}

/// Reads a part of a flash file.
pub fn read_back(flash: &Path, offset: u64, len: usize) -> Result<Vec<u8>, QemuError> {
    let mut bytes = vec![0; len];
    let mut file = open_flash(flash)?;
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| file.read_exact(&mut bytes))
        .map_err(failed("cannot read the flash"))?;
    Ok(bytes)
}

/// Opens a flash file; makes it, erased, if there is none.
fn open_flash(path: &Path) -> Result<File, QemuError> {
    let what = format!("cannot open {}", path.display());
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let mut file = file.map_err(failed(&what))?;
    match file.metadata().map_err(failed(&what))?.len() {
        FLASH_BYTES => Ok(file),
        0 => {
            file.write_all(&vec![ERASED; FLASH_BYTES as usize])
                .map_err(failed(&what))?;
            Ok(file)
        }
        other => Err(QemuError(format!(
            "{} has {other} bytes, a flash file has {FLASH_BYTES}",
            path.display()
        ))),
    }
}

fn open_log(path: &Path) -> Result<File, QemuError> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map_err(failed(&format!("cannot write {}", path.display())))
}

fn command(flash: &Path, bootloader: &Path, options: &Options, folder: &Path) -> Result<Command, QemuError> {
    let stderr = File::create(stderr_path(folder)).map_err(failed("cannot keep QEMU's messages"))?;
    let mut command = Command::new(QEMU);
    command
        .arg("-M")
        .arg(format!("{},memory-backend=flash", options.machine))
        .arg("-object")
        .arg(format!(
            "memory-backend-file,id=flash,size={FLASH_BYTES},share=on,mem-path={}",
            comma_safe(flash)?
        ))
        .args(["-display", "none", "-monitor", "none", "-nic", "none"])
        .args(["-chardev", "stdio,id=u0,signal=off", "-serial", "chardev:u0"])
        .args(["-chardev", &smp_chardev(options.smp, folder), "-serial", "chardev:u1"])
        .arg("-kernel")
        .arg(bootloader)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr);
    if let Some(shift) = options.icount {
        command.arg("-icount").arg(format!("shift={shift},sleep=off"));
    }
    Ok(command)
}

fn smp_chardev(line: SmpLine, folder: &Path) -> String {
    match line {
        SmpLine::Socket => format!("socket,id=u1,server=on,wait=off,path={}", socket_path(folder).display()),
        SmpLine::Pty => "pty,id=u1".into(),
    }
}

/// A path as QEMU's option syntax takes it, where a comma is written twice.
fn comma_safe(path: &Path) -> Result<String, QemuError> {
    let text = path
        .to_str()
        .ok_or_else(|| QemuError(format!("{} is not UTF-8", path.display())))?;
    Ok(text.replace(',', ",,"))
}

fn socket_path(folder: &Path) -> PathBuf {
    folder.join("u1.sock")
}

fn stderr_path(folder: &Path) -> PathBuf {
    folder.join("qemu.stderr")
}

/// What was printed, filled by a thread.
#[derive(Default)]
struct Console {
    printed: Mutex<Printed>,
    news: Condvar,
}

#[derive(Default)]
struct Printed {
    bytes: Vec<u8>,
    closed: bool,
}

impl Console {
    fn lock(&self) -> MutexGuard<'_, Printed> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, mut stdout: ChildStdout, mut log: Option<File>) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            if let Some(log) = &mut log {
                // A full disk must not stop the test that the log is about.
                let _ = log.write_all(&buffer[..count]);
            }
            self.lock().bytes.extend_from_slice(&buffer[..count]);
            self.news.notify_all();
        }
        self.lock().closed = true;
        self.news.notify_all();
    }
}

/// The earliest of `texts` at or behind `from` whose line is complete: its number, the rest of its line, where that ends.
fn find(printed: &[u8], from: usize, texts: &[&str]) -> Option<(usize, String, usize)> {
    let rest = printed.get(from..)?;
    let at = |text: &str| {
        rest.windows(text.len().max(1))
            .position(|window| window == text.as_bytes())
    };
    let (start, number) = texts
        .iter()
        .enumerate()
        .filter_map(|(n, text)| Some((at(text)? + text.len(), n)))
        .min()?;
    let line = rest.get(start..)?;
    let end = line.iter().position(|byte| *byte == b'\n')?;
    Some((
        number,
        String::from_utf8_lossy(&line[..end]).trim_end().to_owned(),
        from + start + end,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_earliest_text_and_only_whole_lines() {
        let printed = b"one: 1\ntwo: 2\nthree: par";
        assert_eq!(find(printed, 0, &["two: ", "one: "]), Some((1, "1".into(), 6)));
        assert_eq!(find(printed, 6, &["two: ", "one: "]), Some((0, "2".into(), 13)));
        assert_eq!(find(printed, 0, &["three: "]), None);
    }

    #[test]
    fn a_new_flash_is_erased_and_one_of_another_size_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let flash = folder.path().join("flash.bin");
        program(&flash, 8, b"x").expect("made");
        assert_eq!(read_back(&flash, 7, 3).expect("read"), [0xff, b'x', 0xff]);
        fs::write(&flash, [0; 5]).expect("written");
        assert!(read_back(&flash, 0, 1).is_err());
    }

    #[test]
    fn a_missing_bootloader_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Board::start(
            &folder.path().join("flash.bin"),
            Path::new("/nonexistent"),
            &Options::default(),
        );
        let text = error.err().expect("refused").to_string();
        assert!(text.contains("/nonexistent"), "{text}");
    }
}
