//! The database: what was reserved, issued and revoked.
//!
//! SQLite with a write-ahead log and `synchronous = FULL`: what a call said it wrote is on the disk, whatever happens
//! next. Any number of programs may have it open; one writes at a time, and what must be unique (serial numbers,
//! generations, numbers of CRLs) the database keeps unique. It holds no secrets; its file belongs to its owner alone all
//! the same (mode 0600), because it names every device.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::profile::Branch;
use crate::{Code, Error, Result};

/// `AmCA`: by this a database of the CA is recognised.
const APPLICATION_ID: i32 = 0x416d_4341;
/// The version of its tables.
const SCHEMA_VERSION: i32 = 1;
/// How long a program waits for another one that writes.
const BUSY_MAX: Duration = Duration::from_secs(30);

const TABLES: &str = "
CREATE TABLE fact(
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE authority(
    id INTEGER PRIMARY KEY,
    branch TEXT NOT NULL,
    generation INTEGER NOT NULL,
    name BLOB NOT NULL,
    spki BLOB NOT NULL UNIQUE,
    domains TEXT NOT NULL,
    UNIQUE(branch, generation)) STRICT;
CREATE TABLE certificate(
    id INTEGER PRIMARY KEY,
    issuer INTEGER NOT NULL REFERENCES authority(id),
    serial BLOB NOT NULL UNIQUE,
    profile TEXT NOT NULL,
    identity TEXT NOT NULL,
    principal TEXT NOT NULL,
    authority INTEGER REFERENCES authority(id),
    request BLOB NOT NULL,
    key BLOB NOT NULL,
    predecessor INTEGER REFERENCES certificate(id),
    reserved_at INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    tbs BLOB NOT NULL,
    der BLOB,
    revoked_at INTEGER,
    reason INTEGER) STRICT;
CREATE INDEX certificate_request ON certificate(request);
CREATE INDEX certificate_key ON certificate(key);
CREATE INDEX certificate_principal ON certificate(principal);
CREATE TABLE crl(
    issuer INTEGER NOT NULL REFERENCES authority(id),
    number INTEGER NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    der BLOB,
    PRIMARY KEY(issuer, number)) STRICT, WITHOUT ROWID;
";

/// A CA as the database has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthorityRow {
    pub(super) id: i64,
    /// Root or purpose.
    pub branch: Branch,
    /// From 1; each has a key and a name of its own.
    pub generation: u32,
    /// Its name, in DER.
    pub(super) name: Vec<u8>,
    /// Its key: SubjectPublicKeyInfo in DER.
    pub(super) spki: Vec<u8>,
    /// The DNS domains that it is constrained to.
    pub domains: Vec<String>,
}

/// A certificate, or the reservation of one, as the database has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub(super) id: i64,
    pub(super) issuer: i64,
    /// Its serial number, 16 bytes.
    pub serial: Vec<u8>,
    /// The profile by which it was made; `ca-…` and `link` for CAs' own.
    pub profile: String,
    /// Whom it names, with roles.
    pub identity: String,
    pub(super) principal: String,
    /// Whose it is, for a CA's own.
    pub(super) authority: Option<i64>,
    pub(super) request: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) predecessor: Option<i64>,
    /// When it was reserved, in seconds since 1970.
    pub reserved_at: u64,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: u64,
    pub(super) tbs: Vec<u8>,
    /// The certificate; none for a reservation that nobody finished.
    pub der: Option<Vec<u8>>,
    /// When it was revoked, in seconds since 1970, and why (RFC 5280 section 5.3.1).
    pub revoked: Option<(u64, u32)>,
}

/// A CRL as the database has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CrlRow {
    /// Its number.
    pub number: u64,
    /// From when it speaks, in seconds since 1970.
    pub this_update: u64,
    /// When the next one comes at the latest, in seconds since 1970.
    pub next_update: u64,
    /// The list; none where its signature was interrupted.
    pub der: Option<Vec<u8>>,
}

/// An open database.
pub(super) struct Store {
    path: PathBuf,
    db: Connection,
}

impl Store {
    /// Makes a new database with these facts; goes on where an earlier call was killed. Errors: [`Code::CaExists`],
    /// [`Code::CaWrite`].
    pub(super) fn create(path: &Path, facts: &[(&str, &str)]) -> Result<Store> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let made = options.open(path);
        if let Err(error) = made.as_ref().map_err(std::io::Error::kind)
            && error != std::io::ErrorKind::AlreadyExists
        {
            return Err(cannot_write(path, error));
        }
        let mut store = Store::connect(path)?;
        let tables: u32 = store.read(|db| db.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)))?;
        if tables > 0 {
            return Err(Code::CaExists.error(format!("{} exists already", path.display())));
        }
        store.write(|tx| Ok(fill(tx, facts)?))?;
        Ok(store)
    }

    /// Opens a database. Errors: [`Code::CaOpen`], [`Code::CaForeign`], [`Code::CaBusy`].
    pub(super) fn open(path: &Path) -> Result<Store> {
        if !path.is_file() {
            return Err(Code::CaOpen.error(format!("there is no CA database {}", path.display())));
        }
        let store = Store::connect(path)?;
        let read = |name| store.db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        let found = read("application_id").and_then(|id| Ok((id, read("user_version")?)));
        match found.map_err(|error| failed(path, &error))? {
            (APPLICATION_ID, SCHEMA_VERSION) => Ok(store),
            (APPLICATION_ID, version) => {
                Err(Code::CaForeign.error(format!("{} is of version {version}", path.display())))
            }
            _ => Err(Code::CaForeign.error(format!("{} is no database of a CA", path.display()))),
        }
    }

    fn connect(path: &Path) -> Result<Store> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags).and_then(|db| {
            db.busy_timeout(BUSY_MAX)?;
            db.pragma_update(None, "synchronous", "FULL")?;
            db.pragma_update(None, "foreign_keys", true)?;
            // Answers with the mode; a database that cannot be written stays as it is.
            db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
            Ok(db)
        });
        let db = opened.map_err(|error| failed(path, &error))?;
        Ok(Store {
            path: path.to_path_buf(),
            db,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `change` alone: nobody else writes meanwhile, and all of it is on the disk afterwards, or nothing.
    ///
    /// Errors: [`Code::CaWrite`], [`Code::CaBusy`]; those of `change`.
    pub(super) fn write<T>(&mut self, change: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>) -> Result<T> {
        let done = self.transact(change);
        done.map_err(|failure| match failure {
            Failure::Ours(error) => *error,
            Failure::Database(error) => failed(&self.path, &error),
        })
    }

    fn transact<T>(&mut self, change: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = change(&tx)?;
        tx.commit()?;
        Ok(done)
    }

    /// Reads with `query`. Error: [`Code::CaOpen`].
    pub(super) fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        query(&self.db).map_err(|error| failed(&self.path, &error))
    }

    pub(super) fn fact(&self, name: &str) -> Result<String> {
        let found = self.read(|db| {
            let mut query = db.prepare("SELECT value FROM fact WHERE name = ?1")?;
            query.query_row([name], |row| row.get(0)).optional()
        })?;
        found.ok_or_else(|| Code::CaForeign.error(format!("{} does not say its {name}", self.path.display())))
    }
}

fn fill(tx: &Transaction<'_>, facts: &[(&str, &str)]) -> rusqlite::Result<()> {
    tx.execute_batch(TABLES)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    for (name, value) in facts {
        tx.execute("INSERT INTO fact VALUES (?1, ?2)", params![name, value])?;
    }
    Ok(())
}

/// What can go wrong inside of a change.
pub(super) enum Failure {
    Ours(Box<Error>),
    Database(rusqlite::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Ours(Box::new(error))
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Failure {
        Failure::Database(error)
    }
}

const AUTHORITY: &str = "SELECT id, branch, generation, name, spki, domains FROM authority";
const CERTIFICATE: &str = "SELECT id, issuer, serial, profile, identity, principal, authority, request, key, predecessor, \
                           reserved_at, not_after, tbs, der, revoked_at, reason FROM certificate";

/// CAs for which this holds, the oldest first.
pub(super) fn authorities(
    db: &Connection,
    condition: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<Vec<AuthorityRow>> {
    let mut query = db.prepare(&format!("{AUTHORITY} WHERE {condition} ORDER BY id"))?;
    query.query_map(values, authority)?.collect()
}

/// Certificates for which this holds, the oldest first.
pub(super) fn certificates(
    db: &Connection,
    condition: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<Vec<Entry>> {
    let mut query = db.prepare(&format!("{CERTIFICATE} WHERE {condition} ORDER BY id"))?;
    query.query_map(values, entry)?.collect()
}

/// The CRLs of a CA, the newest first.
pub(super) fn crls(db: &Connection, issuer: i64) -> rusqlite::Result<Vec<CrlRow>> {
    let mut query =
        db.prepare("SELECT number, this_update, next_update, der FROM crl WHERE issuer = ?1 ORDER BY number DESC")?;
    query.query_map([issuer], crl)?.collect()
}

/// Enters a CA.
pub(super) fn insert_authority(tx: &Transaction<'_>, row: &AuthorityRow) -> rusqlite::Result<i64> {
    tx.execute(
        "INSERT INTO authority(branch, generation, name, spki, domains) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            row.branch.name(),
            row.generation,
            row.name,
            row.spki,
            row.domains.join(" ")
        ],
    )?;
    Ok(tx.last_insert_rowid())
}

/// Enters a reservation.
pub(super) fn insert_reservation(tx: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<i64> {
    tx.execute(
        "INSERT INTO certificate(issuer, serial, profile, identity, principal, authority, request, key, predecessor, \
         reserved_at, not_after, tbs) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            entry.issuer,
            entry.serial,
            entry.profile,
            entry.identity,
            entry.principal,
            entry.authority,
            entry.request,
            entry.key,
            entry.predecessor,
            entry.reserved_at as i64,
            entry.not_after as i64,
            entry.tbs,
        ],
    )?;
    Ok(tx.last_insert_rowid())
}

fn authority(row: &Row<'_>) -> rusqlite::Result<AuthorityRow> {
    let branch: String = row.get(1)?;
    let domains: String = row.get(5)?;
    Ok(AuthorityRow {
        id: row.get(0)?,
        branch: branch.parse().map_err(|error: String| not_ours(1, error))?,
        generation: row.get(2)?,
        name: row.get(3)?,
        spki: row.get(4)?,
        domains: domains.split_whitespace().map(str::to_owned).collect(),
    })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let revoked_at: Option<i64> = row.get(14)?;
    let reason: Option<u32> = row.get(15)?;
    Ok(Entry {
        id: row.get(0)?,
        issuer: row.get(1)?,
        serial: row.get(2)?,
        profile: row.get(3)?,
        identity: row.get(4)?,
        principal: row.get(5)?,
        authority: row.get(6)?,
        request: row.get(7)?,
        key: row.get(8)?,
        predecessor: row.get(9)?,
        reserved_at: seconds(row, 10)?,
        not_after: seconds(row, 11)?,
        tbs: row.get(12)?,
        der: row.get(13)?,
        revoked: revoked_at.map(|at| (at as u64, reason.unwrap_or(0))),
    })
}

fn crl(row: &Row<'_>) -> rusqlite::Result<CrlRow> {
    Ok(CrlRow {
        number: seconds(row, 0)?,
        this_update: seconds(row, 1)?,
        next_update: seconds(row, 2)?,
        der: row.get(3)?,
    })
}

fn seconds(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|seconds| seconds as u64)
}

fn not_ours(column: usize, error: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
}

fn failed(path: &Path, error: &rusqlite::Error) -> Error {
    let what = |did: &str| format!("the CA database {} {did}: {error}", path.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Code::CaBusy.error(what("is busy")),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Code::CaForeign.error(what("cannot be read")),
        Some(ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure) => {
            Code::CaWrite.error(what("cannot be written"))
        }
        _ => Code::CaOpen.error(what("cannot be used")),
    }
}

fn cannot_write(path: &Path, error: impl std::fmt::Display) -> Error {
    Code::CaWrite.error(format!("the CA database {} cannot be written: {error}", path.display()))
}
