//! The service: a bounded number of threads that listen, and the caller's own, which alone judges, signs and enters.
//!
//! What a stranger can make it do is bounded: connections altogether and for each user, bytes of a frame, seconds and
//! requests of a connection, refusals that are entered for each user. Deadlines are measured on the monotonic clock; the
//! time of entries and rates comes in from outside.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use codec::limits::Limits;
use codec::roots::{Environment, Role};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use trust::TrustRoot;

use super::facts;
use super::policy::{Allow, DAY_SECONDS, HOUR_SECONDS, KeyRule, Peer, Policy, World};
use super::wire::{Request, Response, SignContent, SignRequest, read_frame, write_frame};
use crate::journal::entry::What;
use crate::journal::verify::{Line, Lines};
use crate::journal::{By, Context, Digest, Entry, Event, Facts, Journal, Journaled, Record, Refusal, Surroundings};
use crate::{Code, Content, Error, Job, Object, Result, Signer};

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 16;
/// Connections at once of one user.
pub const CONNECTIONS_PER_USER_MAX: usize = 4;
/// Requests on one connection.
pub const REQUESTS_PER_CONNECTION_MAX: usize = 16;
/// How long a connection may last.
pub const CONNECTION_DURATION_MAX: Duration = Duration::from_secs(10);
/// How long sending an answer may last, however late it is: a slow token, or the end of a client that said nothing.
pub const ANSWER_DURATION_MAX: Duration = Duration::from_secs(2);
/// Refusals that are entered in the journal for one user in an hour; the last of them says so.
pub const REFUSALS_PER_HOUR_MAX: u32 = 200;
/// Bytes of a trust root that a policy names at most.
const ROOT_BYTES_MAX: u64 = 1024 * 1024;
/// How often it is looked whether the service shall stop.
const STOP_LOOK_NANOSECONDS: i64 = 200_000_000;

const FACT_CLIENT: &str = "service-client";
const FACT_KEY: &str = "service-key";
const FACT_PEER: &str = "service-peer";
const FACT_REF: &str = "git-ref-as-stated";
const FACT_BLIND: &str = "image-not-shown";

/// Opens the key of a rule, at the start and again after it failed.
pub type Open<'a> = Box<dyn FnMut(&KeyRule) -> Result<Box<dyn Signer>> + 'a>;

/// A service that is not listening yet.
pub struct Service<'a> {
    policy: Policy,
    journal: Journal,
    by: By,
    clock: Box<dyn Fn() -> u64 + 'a>,
    open: Open<'a>,
    held: BTreeMap<String, Held>,
    granted: VecDeque<Granted>,
    refused: HashMap<u32, (u64, u32)>,
}

/// An open key.
struct Held {
    signer: Box<dyn Signer>,
    world: World,
    role: Option<Role>,
}

/// A signature that was given, as far as rates are concerned.
struct Granted {
    at: u64,
    client: String,
    key: String,
    object: String,
}

impl<'a> Service<'a> {
    /// Opens every key of the policy, and counts in the journal what was signed in the last day.
    ///
    /// Errors: those of the keys; [`Code::ServicePolicy`] a root that does not list its key; those of reading the journal.
    pub fn start(
        policy: Policy,
        journal: Journal,
        by: By,
        clock: impl Fn() -> u64 + 'a,
        open: Open<'a>,
    ) -> Result<Service<'a>> {
        let mut service = Service {
            granted: granted_before(&journal, clock())?,
            policy,
            journal,
            by,
            clock: Box::new(clock),
            open,
            held: BTreeMap::new(),
            refused: HashMap::new(),
        };
        for rule in service.policy.keys.clone() {
            service.hold(&rule)?;
        }
        Ok(service)
    }

    /// Names of the keys with their ids, and whether the service refuses to use them.
    pub fn keys(&self) -> impl Iterator<Item = (&str, [u8; 32], World)> {
        self.held
            .iter()
            .map(|(name, held)| (name.as_str(), held.signer.public_key().thumbprint(), held.world))
    }

    /// Serves until `stop` is set; what was begun is finished.
    pub fn serve(&mut self, listener: &UnixListener, stop: &AtomicBool) -> Result<()> {
        let (asks, asked) = sync_channel(CONNECTIONS_MAX);
        std::thread::scope(|scope| {
            let listening = scope.spawn(move || listen(scope, listener, &asks, stop));
            self.answer_all(&asked);
            listening
                .join()
                .unwrap_or_else(|_| Err(Code::ServiceSocket.error("the listening thread ended")))
        })
    }

    fn answer_all(&mut self, asked: &Receiver<Ask>) {
        while let Ok(ask) = asked.recv() {
            let response = self.answer(&ask);
            // A client that has gone does not get it.
            let _ = ask.reply.send(response);
        }
    }

    fn answer(&mut self, ask: &Ask) -> Response {
        let answered = match &ask.what {
            Ok(Request::Key(name)) => self.public_key(&ask.peer, name),
            Ok(Request::Sign(request)) => self.sign(&ask.peer, request),
            Err(error) => Err(error.clone()),
        };
        answered.unwrap_or_else(|error| {
            // A refusal that cannot be entered is a refusal all the same.
            let _ = self.enter_refusal(ask, &error);
            Response::refusal(&error)
        })
    }

    /// The public half is no secret, but it is for clients; their tokens are asked for when they sign.
    fn public_key(&mut self, peer: &Peer, name: &str) -> Result<Response> {
        let is_client = |client: &super::policy::Client| {
            client.uid.is_none_or(|uid| uid == peer.uid) && client.gid.is_none_or(|gid| gid == peer.gid)
        };
        if !self.policy.clients.iter().any(is_client) {
            return Err(Code::ServiceForbidden.error(format!("user {} is no client of this service", peer.uid)));
        }
        let rule = self.policy.key(name)?.clone();
        Ok(Response::Key(self.hold(&rule)?.signer.public_key().to_spki_der()))
    }

    fn sign(&mut self, peer: &Peer, request: &SignRequest) -> Result<Response> {
        let client = self.policy.client(peer, &request.token)?.clone();
        let rule = self.policy.key(&request.key)?.clone();
        let at = (self.clock)();
        let held = self.hold(&rule)?;
        if held.world == World::Production {
            let what = format!("key {} is for production", rule.name);
            return Err(Code::ServiceProduction.error(what));
        }
        let (public, role) = (held.signer.public_key().clone(), held.role);
        let facts = facts::of_request(request, &public)?;
        check_role(&rule, role, facts.purpose.object)?;
        let counted = |allow: &Allow, seconds| self.counted(&client.name, allow, at, seconds);
        let allow = client
            .allows(&rule.name, &facts, &request.git_ref, at, &counted)?
            .clone();
        let context = Context {
            journal: self.journal.clone(),
            by: self.by.clone(),
            why: None,
            facts: facts_of(peer, &client.name, request, facts.is_blind),
            surroundings: Box::new(At(at)),
        };
        let signature = sign_with(&*self.hold(&rule)?.signer, context, request, &facts);
        if signature.is_err() {
            // A token that was removed is opened again when it is back.
            self.held.remove(&rule.name);
        }
        let signature = signature?;
        self.granted.push_back(Granted {
            at,
            client: client.name,
            key: allow.key,
            object: allow.object.name().into(),
        });
        Ok(Response::Signature(signature))
    }

    /// The open key of a rule; opens it if need be.
    fn hold(&mut self, rule: &KeyRule) -> Result<&Held> {
        if !self.held.contains_key(&rule.name) {
            let signer = (self.open)(rule)?;
            let held = Held::check(rule, signer)?;
            self.held.insert(rule.name.clone(), held);
        }
        self.held
            .get(&rule.name)
            .ok_or_else(|| Code::ServiceForbidden.error("there is no such key"))
    }

    fn counted(&self, client: &str, allow: &Allow, at: u64, seconds: u64) -> u32 {
        let counts = |granted: &&Granted| {
            granted.at.saturating_add(seconds) > at
                && granted.client == client
                && granted.key == allow.key
                && granted.object == allow.object.name()
        };
        u32::try_from(self.granted.iter().filter(counts).count()).unwrap_or(u32::MAX)
    }

    fn enter_refusal(&mut self, ask: &Ask, error: &Error) -> Result<()> {
        let at = (self.clock)();
        let (since, count) = self.refused.entry(ask.peer.uid).or_insert((at, 0));
        if at.saturating_sub(*since) >= HOUR_SECONDS {
            (*since, *count) = (at, 0);
        }
        *count += 1;
        let more = match (*count).cmp(&REFUSALS_PER_HOUR_MAX) {
            std::cmp::Ordering::Less => "",
            std::cmp::Ordering::Equal => "; further refusals of this user in this hour are not entered",
            std::cmp::Ordering::Greater => return Ok(()),
        };
        let mut facts = Facts::from([(FACT_PEER.into(), peer_text(&ask.peer))]);
        let mut object = None;
        if let Ok(Request::Sign(request)) = &ask.what {
            facts.insert(FACT_KEY.into(), request.key.clone());
            facts.insert(FACT_REF.into(), request.git_ref.clone());
            object = Some(stated(request));
        }
        let event = Event::Refusal(Refusal {
            number: error.number,
            what: format!("{}{more}", error.what),
            object,
        });
        let record = Record {
            by: self.by.clone(),
            facts,
            ..Record::of(event)
        };
        self.journal.append(at, &record).map(drop)
    }
}

impl Held {
    /// What a key is, by its policy and, where that names one, by its trust root.
    fn check(rule: &KeyRule, signer: Box<dyn Signer>) -> Result<Held> {
        let Some(path) = &rule.root else {
            let (world, role) = (rule.world, None);
            return Ok(Held { signer, world, role });
        };
        let wrong =
            |what: &str| Code::ServicePolicy.error(format!("key {}, root {}: {what}", rule.name, path.display()));
        let file = read_root(path).map_err(|error| wrong(&error.to_string()))?;
        let refused = |refused| Error::refused(&path.display().to_string(), refused);
        let root = TrustRoot::parse(&file, &Limits::LINUX, &trust::PORTABLE).map_err(refused)?;
        root.verify_self(&trust::PORTABLE).map_err(refused)?;
        let id = signer.public_key().thumbprint();
        let entry = root.entries().find(|entry| *entry.id == id);
        let role = entry.ok_or_else(|| wrong("it does not list the key"))?.role;
        // Whichever of the two says production is believed.
        let world = match root.environment() {
            Environment::Production => World::Production,
            Environment::Development => rule.world,
        };
        Ok(Held {
            signer,
            world,
            role: Some(role),
        })
    }
}

fn read_root(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(ROOT_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A key that a root lists signs what its role is for.
fn check_role(rule: &KeyRule, role: Option<Role>, object: Object) -> Result<()> {
    let fits = match (object, role) {
        (_, None) => true,
        (Object::Release, Some(role)) => matches!(role, Role::Release | Role::ReleaseSecond),
        (Object::Image, Some(role)) => matches!(role, Role::Image | Role::ImageSecond),
        _ => false,
    };
    match fits {
        true => Ok(()),
        false => Err(Code::ServiceForbidden.error(format!("key {} has no role for a {}", rule.name, object.name()))),
    }
}

fn sign_with(
    signer: &dyn Signer,
    context: Context,
    request: &SignRequest,
    facts: &facts::SignFacts,
) -> Result<Vec<u8>> {
    let parts: [&[u8]; 1];
    let content = match &request.content {
        SignContent::Message(message) => {
            parts = [message];
            Content::Message(&parts)
        }
        SignContent::Digest(digest) => Content::Digest(digest),
    };
    let job = Job {
        content,
        purpose: &facts.purpose,
    };
    let signature = Journaled::new(signer, context).sign_shown(&job, &request.shown)?;
    Ok(signature.as_cose().to_vec())
}

fn facts_of(peer: &Peer, client: &str, request: &SignRequest, is_blind: bool) -> Facts {
    let mut facts = Facts::from([
        (FACT_CLIENT.into(), client.into()),
        (FACT_KEY.into(), request.key.clone()),
        (FACT_PEER.into(), peer_text(peer)),
    ]);
    if !request.git_ref.is_empty() {
        facts.insert(FACT_REF.into(), request.git_ref.clone());
    }
    if is_blind {
        facts.insert(FACT_BLIND.into(), "yes".into());
    }
    facts
}

fn peer_text(peer: &Peer) -> String {
    format!("uid {} gid {} pid {}", peer.uid, peer.gid, peer.pid)
}

/// What a refused request was about, in the client's words.
fn stated(request: &SignRequest) -> What {
    let digest = match &request.content {
        SignContent::Message(message) => trust::Sha256::of(message),
        SignContent::Digest(digest) => *digest,
    };
    What {
        digest: Digest(digest),
        object: request.object.clone(),
        subject: format!("as stated: {}", request.subject),
    }
}

/// The time of one request.
struct At(u64);

impl Surroundings for At {
    fn now(&self) -> u64 {
        self.0
    }
}

/// What services with this journal signed within a day before `at`.
fn granted_before(journal: &Journal, at: u64) -> Result<VecDeque<Granted>> {
    if !journal.path().exists() {
        return Ok(VecDeque::new());
    }
    let granted = |entry: Box<Entry>| {
        let Event::Signature(signed) = entry.event else {
            return None;
        };
        let granted = Granted {
            at: entry.at,
            client: entry.facts.get(FACT_CLIENT)?.clone(),
            key: entry.facts.get(FACT_KEY)?.clone(),
            object: signed.what.object,
        };
        (entry.at.saturating_add(DAY_SECONDS) > at).then_some(granted)
    };
    let mut all = VecDeque::new();
    for line in Lines::open(journal.path())? {
        let line = line.map_err(|error| Code::JournalRead.error(format!("{}: {error}", journal.path().display())))?;
        if let Line::Entry(entry) = line {
            all.extend(granted(entry));
        }
    }
    Ok(all)
}

/// A request on its way to the thread that answers.
struct Ask {
    peer: Peer,
    what: Result<Request>,
    reply: SyncSender<Response>,
}

/// Connections of each user.
type Crowd = Arc<Mutex<HashMap<u32, usize>>>;

/// A place among the connections, given back when it is dropped.
struct Seat {
    crowd: Crowd,
    uid: u32,
}

impl Seat {
    fn take(crowd: &Crowd, uid: u32) -> Option<Seat> {
        let mut seats = crowd.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = seats.values().sum();
        let own = seats.entry(uid).or_default();
        if all >= CONNECTIONS_MAX || *own >= CONNECTIONS_PER_USER_MAX {
            return None;
        }
        *own += 1;
        let crowd = crowd.clone();
        Some(Seat { crowd, uid })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = seats.get_mut(&self.uid) {
            *own = own.saturating_sub(1);
        }
        seats.retain(|_, own| *own > 0);
    }
}

fn listen<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    listener: &UnixListener,
    asks: &SyncSender<Ask>,
    stop: &AtomicBool,
) -> Result<()> {
    let failed = |error: std::io::Error| Code::ServiceSocket.error(format!("the socket failed: {error}"));
    listener.set_nonblocking(true).map_err(failed)?;
    let crowd = Crowd::default();
    let mut open: Vec<Arc<UnixStream>> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: STOP_LOOK_NANOSECONDS as _,
        };
        // An interrupted wait is only a short one.
        let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&pause));
        open.retain(|stream| Arc::strong_count(stream) > 1);
        let Ok((stream, _)) = listener.accept() else { continue };
        let stream = Arc::new(stream);
        if let Some((peer, seat)) = admit(&stream, &crowd) {
            open.push(stream.clone());
            let asks = asks.clone();
            scope.spawn(move || {
                let _seat = seat;
                // Whatever ends a connection ends nothing else.
                let _ = converse(&stream, peer, &asks);
            });
        }
    }
    // Nobody asks any more; whoever waits for an answer gets it.
    open.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Read)));
    Ok(())
}

/// Who is there, and a seat; without one the peer is told and sent away.
fn admit(stream: &UnixStream, crowd: &Crowd) -> Option<(Peer, Seat)> {
    stream.set_nonblocking(false).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(stream).ok()?;
    let peer = Peer {
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
        pid: credentials.pid.as_raw_nonzero().get(),
    };
    let seat = Seat::take(crowd, peer.uid);
    if seat.is_none() {
        let busy = Code::ServiceBusy.error("the service has no room for another connection");
        let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
        let _ = write_frame(&mut &*stream, &Response::refusal(&busy).encode());
    }
    seat.map(|seat| (peer, seat))
}

fn converse(stream: &UnixStream, peer: Peer, asks: &SyncSender<Ask>) -> Result<()> {
    let mut stream = Until {
        stream,
        deadline: Instant::now() + CONNECTION_DURATION_MAX,
    };
    for _ in 0..REQUESTS_PER_CONNECTION_MAX {
        let what = match read_frame(&mut stream) {
            Ok(None) => return Ok(()),
            Ok(Some(frame)) => Request::decode(&frame),
            Err(error) => Err(error),
        };
        let is_over = what.is_err();
        let (reply, replied) = sync_channel(1);
        let gone = || Code::ServiceBusy.error("the service stops");
        asks.send(Ask { peer, what, reply }).map_err(|_| gone())?;
        let response = replied.recv().map_err(|_| gone())?;
        let lost = |error| Code::ServiceProtocol.error(format!("the answer could not be sent: {error}"));
        let mut answering = Until {
            deadline: Instant::now() + ANSWER_DURATION_MAX,
            ..stream
        };
        write_frame(&mut answering, &response.encode()).map_err(lost)?;
        if is_over {
            break;
        }
    }
    Ok(())
}

/// A stream whose every read and write ends at one moment, however slowly the other end goes.
struct Until<'a> {
    stream: &'a UnixStream,
    deadline: Instant,
}

impl Until<'_> {
    fn left(&self) -> std::io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(std::io::ErrorKind::TimedOut.into()),
            false => Ok(left),
        }
    }
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        (&mut &*self.stream).read(buffer)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        (&mut &*self.stream).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
