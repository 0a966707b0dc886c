//! A driver in memory, for tests on any host.
//!
//! It takes requests through the same [`Command::decode`] as the real one, so a
//! client that sends it a bad request is refused with the real status. It has
//! no network: tests put adapters, counters and frames into it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use weir_abi::record::FrameMeta;
use weir_abi::{
    ABI_VERSION, AdapterInfo, AdapterListReply, AdapterState, AdapterStats, AdapterStatsReply,
    CaptureOptions, CaptureSource, Command, Direction, Directions, OpenCaptureReply,
    OpenDivertReply, OpenInjectReply, ReaderStats, ReaderStatsReply, RecordFlags, ReplyHeader,
    RulesLoadRequest, ServiceInfo, ServiceListReply, ServiceSpec, ServiceStartReply, ServiceState,
    ServiceStopReply, StatusFlags, StatusReply, VersionReply, limits, status,
};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use crate::channel::{Channel, Completion, Connector, Pending};
use crate::error::{Error, Failure, NtStatus};

mod net;
mod steer;

use net::{FakeSocket, Network, Op};
use steer::Steering;
pub use steer::Written;

/// The driver. Clones are the same driver.
#[derive(Clone, Default)]
pub struct FakeDriver(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    abi_version: Option<u32>,
    absent: bool,
    adapters: Vec<(AdapterInfo, AdapterStats)>,
    services: Vec<ServiceInfo>,
    steering: Steering,
    readers: BTreeMap<u32, Reader>,
    handles: u32,
    next_id: u32,
    /// What accepts to come fail with.
    no_accepts: Option<i32>,
    /// Started with the first socket.
    network: Option<Arc<Network>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Capture,
    Divert,
    Inject,
}

struct Reader {
    role: Role,
    /// Numbers of the frames that are with a reader in the divert role.
    outstanding: BTreeSet<u64>,
    options: CaptureOptions,
    stats: ReaderStats,
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
    sequence: u64,
    cancels: u64,
}

fn failure(status: i32) -> Failure {
    Failure {
        status: NtStatus(status),
        win32: 0,
    }
}

impl FakeDriver {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the driver say that it speaks another version of the contract.
    pub fn speak(&self, version: u32) {
        self.lock().abi_version = Some(version);
    }

    /// Makes the device disappear for handles to come.
    pub fn remove(&self) {
        self.lock().absent = true;
    }

    /// Attaches an adapter with no counts; its id.
    pub fn attach(&self, name: &str) -> u32 {
        let mut state = self.lock();
        let id = state.adapters.len() as u32 + 1;
        let mut info = AdapterInfo::new_zeroed();
        info.id = id;
        info.if_index = 10 + id;
        info.mac = [2, 0, 0, 0, 0, id as u8, 0, 0];
        info.mac_len = 6;
        info.mtu = 1500;
        info.state = AdapterState::Running.into();
        info.link_speed = 1_000_000_000;
        for (to, from) in info.name.iter_mut().zip(name.encode_utf16()) {
            *to = from;
            info.name_len += 1;
        }
        state.adapters.push((info, AdapterStats::new_zeroed()));
        id
    }

    /// Makes a service fail, with an NTSTATUS; false if there is no such service.
    pub fn fail_service(&self, id: u32, status: i32) -> bool {
        let mut state = self.lock();
        let service = state.services.iter_mut().find(|s| s.id == id);
        service.is_some_and(|service| {
            service.state = ServiceState::Failed.into();
            service.status = status;
            true
        })
    }

    /// Makes accepts to come fail with an NTSTATUS, or no longer.
    pub fn fail_accepts(&self, status: Option<i32>) {
        self.lock().no_accepts = status;
    }

    /// Keeps the writes of sockets from going on, or lets them again. There must
    /// have been a socket.
    pub fn hold_writes(&self, hold: bool) {
        let network = self.lock().network.clone();
        network.expect("sockets").hold_writes(hold);
    }

    /// Changes the counters of an adapter.
    pub fn count(&self, adapter: u32, change: impl FnOnce(&mut AdapterStats)) {
        self.lock().count(adapter, change);
    }

    /// Lets a frame pass an adapter: it is counted, and captured by whoever
    /// asked for it.
    pub fn pass(&self, adapter: u32, direction: Direction, time: u64, frame: &[u8]) {
        self.burst(adapter, direction, time, &[frame]);
    }

    /// Lets frames pass an adapter faster than anybody reads.
    pub fn burst(&self, adapter: u32, direction: Direction, time: u64, frames: &[&[u8]]) {
        let mut state = self.lock();
        for frame in frames {
            state.pass(adapter, direction, time, frame);
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Readers there are.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.lock().readers.len()
    }

    /// Handles there are.
    #[must_use]
    pub fn handles(&self) -> u32 {
        self.lock().handles
    }
}

impl State {
    fn in_role(&self, role: Role) -> u32 {
        self.readers.values().filter(|r| r.role == role).count() as u32
    }

    fn knows(&self, adapter: Option<NonZeroU32>) -> Result<(), i32> {
        let known = |id| self.adapters.iter().any(|(info, _)| info.id == id);
        match adapter {
            Some(id) if !known(id.get()) => Err(status::NO_SUCH_DEVICE),
            _ => Ok(()),
        }
    }

    /// A reader with a number of its own.
    fn open(&mut self, reader: Reader) -> u32 {
        self.next_id += 1;
        self.readers.insert(self.next_id, reader);
        self.next_id
    }

    fn count(&mut self, adapter: u32, change: impl FnOnce(&mut AdapterStats)) {
        if let Some((_, stats)) = self.adapters.iter_mut().find(|(i, _)| i.id == adapter) {
            change(stats);
        }
    }

    fn pass(&mut self, adapter: u32, direction: Direction, time: u64, frame: &[u8]) {
        self.count(adapter, |stats| {
            let balance = &mut stats.balance[direction.index()];
            balance.seen += 1;
            balance.passed += 1;
            balance.seen_bytes += frame.len() as u64;
            balance.passed_bytes += frame.len() as u64;
            stats.protocols[direction.index()].frames += 1;
        });
        let meta = FrameMeta::new(frame.len() as u32, adapter, time, direction);
        for reader in self.readers.values_mut() {
            reader.take(&meta, frame);
        }
    }
}

fn meta(adapter: u32, direction: Direction, time: u64, frame: &[u8]) -> FrameMeta {
    FrameMeta {
        original_len: frame.len() as u32,
        adapter,
        timestamp_100ns: time,
        direction,
        flags: RecordFlags::empty(),
        rule: 0,
        logged: 0,
        segment_size: 0,
    }
}

impl Reader {
    fn new(role: Role, options: CaptureOptions) -> Reader {
        Reader {
            role,
            outstanding: BTreeSet::new(),
            options,
            stats: ReaderStats::new_zeroed(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            sequence: 0,
            cancels: 0,
        }
    }

    fn take(&mut self, meta: &FrameMeta, frame: &[u8]) {
        let other = self
            .options
            .adapter
            .is_some_and(|a| a.get() != meta.adapter);
        if other || !self.options.directions.contains(meta.direction.mask()) {
            self.stats.filtered += 1;
            return;
        }
        self.stats.seen += 1;
        let sequence = self.sequence;
        self.sequence += 1;
        let Some(record) = meta.record(self.options.snaplen, sequence) else {
            return;
        };
        if self.queued_bytes + record.size as usize > self.options.backlog as usize {
            self.stats.lost_backlog += 1;
            return;
        }
        let mut bytes = record.as_bytes().to_vec();
        bytes.extend_from_slice(&frame[..record.captured_len as usize]);
        bytes.resize(record.size as usize, 0);
        self.queued_bytes += bytes.len();
        self.stats.queued += 1;
        self.queue.push_back(bytes);
    }

    fn fill(&mut self, buffer: &mut [u8]) -> usize {
        let mut used = 0;
        while let Some(record) = self.queue.front() {
            let Some(room) = buffer.get_mut(used..used + record.len()) else {
                break;
            };
            room.copy_from_slice(record);
            used += record.len();
            self.queued_bytes -= record.len();
            self.stats.queued -= 1;
            self.stats.delivered += 1;
            if self.role == Role::Divert {
                self.stats.outstanding += 1;
                let first = self.stats.delivered - 1;
                self.outstanding.insert(first);
            }
            self.queue.pop_front();
        }
        if used > 0 {
            self.stats.reads += 1;
        }
        used
    }
}

impl Connector for FakeDriver {
    fn connect(&self) -> Result<Box<dyn Channel>, Error> {
        let mut state = self.lock();
        if state.absent {
            return Err(Error::NotPresent { win32: 2 });
        }
        state.handles += 1;
        Ok(Box::new(FakeChannel {
            driver: self.clone(),
            reader: Mutex::new(None),
            socket: Arc::default(),
        }))
    }
}

struct FakeChannel {
    driver: FakeDriver,
    reader: Mutex<Option<u32>>,
    /// The socket whose role this handle has.
    socket: Arc<Mutex<Option<Arc<FakeSocket>>>>,
}

fn list<H: IntoBytes + Immutable, E: IntoBytes + Immutable>(
    all: &[E],
    start: u32,
    room: usize,
    head: impl FnOnce(ReplyHeader, u32, u32) -> H,
) -> Vec<u8> {
    let fit = (room - size_of::<H>()) / size_of::<E>();
    let page = all.get(start as usize..).unwrap_or(&[]);
    let page = &page[..page.len().min(fit)];
    let count = page.len() as u32;
    let header = ReplyHeader {
        version: ABI_VERSION,
        size: (size_of::<H>() + size_of_val(page)) as u32,
    };
    let mut bytes = head(header, all.len() as u32, count).as_bytes().to_vec();
    bytes.extend_from_slice(page.as_bytes());
    bytes
}

fn start_service(state: &mut State, spec: &ServiceSpec) -> Result<ServiceStartReply, i32> {
    let same = |s: &ServiceInfo| {
        s.transport == u32::from(spec.transport) && s.address == spec.address.into()
    };
    if state.services.iter().any(same) {
        return Err(status::OBJECT_NAME_COLLISION);
    }
    state.next_id += 1;
    let mut address: SocketAddr = spec.address;
    if address.port() == 0 {
        address.set_port(49_152);
    }
    let mut info = ServiceInfo::new_zeroed();
    info.id = state.next_id;
    info.kind = spec.kind.into();
    info.transport = spec.transport.into();
    info.address = address.into();
    info.target = spec.target.into();
    info.flags = spec.flags.bits();
    info.state = ServiceState::Running.into();
    state.services.push(info);
    Ok(ServiceStartReply {
        header: ReplyHeader::of::<ServiceStartReply>(),
        id: info.id,
        reserved: 0,
        address: info.address,
    })
}

impl FakeChannel {
    fn run(&self, command: Command, program: &[u8], room: usize) -> Result<Vec<u8>, i32> {
        let mut state = self.driver.lock();
        let mut role = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match command {
            Command::GetVersion => VersionReply {
                header: ReplyHeader::of::<VersionReply>(),
                abi_version: state.abi_version.unwrap_or(ABI_VERSION),
                driver_major: 0,
                driver_minor: 1,
                driver_patch: 0,
            }
            .as_bytes()
            .to_vec(),
            Command::GetStatus => StatusReply {
                header: ReplyHeader::of::<StatusReply>(),
                uptime_100ns: 905_000_000,
                started_100ns: crate::filetime::UNIX_EPOCH,
                adapters: state.adapters.len() as u32,
                handles: state.handles,
                readers: state.in_role(Role::Capture),
                services: state.services.len() as u32,
                connections: 0,
                flags: (StatusFlags::FILTER_REGISTERED | StatusFlags::WSK_READY).bits(),
                ndis_version: 6 << 16 | 85,
                diverters: state.in_role(Role::Divert),
                writers: state.in_role(Role::Inject),
                sockets: state.network.as_ref().map_or(0, |n| n.len() as u32),
                rules: state.steering.rules(),
                rules_generation: state.steering.generation(),
                flows: state.steering.flows(),
                alarms: state.steering.alarms(),
                ..StatusReply::new_zeroed()
            }
            .as_bytes()
            .to_vec(),
            Command::ListAdapters { start } => {
                let all: Vec<AdapterInfo> = state.adapters.iter().map(|(info, _)| *info).collect();
                list(&all, start, room, |header, total, count| AdapterListReply {
                    header,
                    total,
                    count,
                })
            }
            Command::GetAdapterStats { adapter } => {
                let found = state.adapters.iter().find(|(info, _)| info.id == adapter);
                let (_, stats) = found.ok_or(status::NO_SUCH_DEVICE)?;
                AdapterStatsReply {
                    header: ReplyHeader::of::<AdapterStatsReply>(),
                    adapter,
                    reserved: 0,
                    stats: *stats,
                }
                .as_bytes()
                .to_vec()
            }
            Command::OpenCapture(options) => {
                if role.is_some() {
                    return Err(status::INVALID_DEVICE_STATE);
                }
                state.knows(options.adapter)?;
                let id = state.open(Reader::new(Role::Capture, options));
                *role = Some(id);
                OpenCaptureReply {
                    header: ReplyHeader::of::<OpenCaptureReply>(),
                    reader: id,
                    snaplen: options.snaplen,
                    min_read: options.min_read(),
                    reserved: 0,
                }
                .as_bytes()
                .to_vec()
            }
            Command::GetReaderStats => {
                let id = role.ok_or(status::INVALID_DEVICE_STATE)?;
                let reader = state.readers.get(&id).ok_or(status::INVALID_DEVICE_STATE)?;
                ReaderStatsReply {
                    header: ReplyHeader::of::<ReaderStatsReply>(),
                    stats: reader.stats,
                }
                .as_bytes()
                .to_vec()
            }
            Command::OpenDivert(options) => {
                if role.is_some() {
                    return Err(status::INVALID_DEVICE_STATE);
                }
                state.knows(options.adapter)?;
                let options = CaptureOptions {
                    adapter: options.adapter,
                    snaplen: limits::MAX_SNAPLEN,
                    backlog: options.backlog,
                    flush_ms: options.flush_ms,
                    directions: Directions::all(),
                    source: CaptureSource::All,
                };
                let id = state.open(Reader::new(Role::Divert, options));
                *role = Some(id);
                OpenDivertReply {
                    header: ReplyHeader::of::<OpenDivertReply>(),
                    reader: id,
                    min_read: options.min_read(),
                    max_write: limits::MAX_WRITE_LEN,
                    max_outstanding: limits::MAX_OUTSTANDING,
                }
                .as_bytes()
                .to_vec()
            }
            Command::OpenInject { adapter } => {
                if role.is_some() {
                    return Err(status::INVALID_DEVICE_STATE);
                }
                state.knows(adapter)?;
                let options = CaptureOptions {
                    adapter,
                    snaplen: limits::MAX_SNAPLEN,
                    backlog: 0,
                    flush_ms: 0,
                    directions: Directions::all(),
                    source: CaptureSource::All,
                };
                let id = state.open(Reader::new(Role::Inject, options));
                *role = Some(id);
                OpenInjectReply {
                    header: ReplyHeader::of::<OpenInjectReply>(),
                    writer: id,
                    max_write: limits::MAX_WRITE_LEN,
                }
                .as_bytes()
                .to_vec()
            }
            Command::RulesLoad { .. } => state.steering.load(program),
            Command::RulesRead { generation, offset } => {
                state.steering.read(generation, offset, room)?
            }
            Command::RulesStats { generation, start } => {
                state.steering.stats(generation, start, room)?
            }
            Command::FlowList { adapter, cursor } => {
                state.knows(NonZeroU32::new(adapter))?;
                state.steering.list_flows(adapter, cursor, room)
            }
            Command::FlowStats { adapter } => {
                state.knows(NonZeroU32::new(adapter))?;
                state.steering.flow_stats(adapter)
            }
            Command::AlarmList { since } => state.steering.list_alarms(since, room),
            // On their way since before: each may take its time.
            Command::SocketOpen(_)
            | Command::SocketAccept { .. }
            | Command::SocketShutdown(_)
            | Command::SocketSetOption(_)
            | Command::SocketGetOption(_)
            | Command::SocketInfo
            | Command::SocketList { .. }
            | Command::Resolve => return Err(status::INVALID_DEVICE_REQUEST),
            Command::ServiceStart(spec) => start_service(&mut state, &spec)?.as_bytes().to_vec(),
            Command::ServiceList { start } => {
                list(&state.services, start, room, |header, total, count| {
                    ServiceListReply {
                        header,
                        total,
                        count,
                    }
                })
            }
            Command::ServiceStop { id } => {
                let at = state.services.iter().position(|s| s.id == id);
                state.services.remove(at.ok_or(status::NOT_FOUND)?);
                ServiceStopReply {
                    header: ReplyHeader::of::<ServiceStopReply>(),
                }
                .as_bytes()
                .to_vec()
            }
        })
    }
}

/// An operation that is refused: in its completion, as each request is queued by
/// the framework of the real driver before the driver sees it.
fn refused(buffer: Vec<u8>, status: i32) -> Box<dyn Pending> {
    let (op, pending) = Op::new(buffer, None);
    op.complete(Err(status));
    pending
}

impl FakeChannel {
    /// The reader of this handle, for a read of so many bytes, and how often it
    /// was cancelled.
    fn reader_for(&self, len: usize) -> Result<(u32, u64), i32> {
        let role = *self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let id = role.ok_or(status::INVALID_DEVICE_STATE)?;
        let state = self.driver.lock();
        let reader = state.readers.get(&id);
        let reader = reader.ok_or(status::INVALID_DEVICE_STATE)?;
        if len < reader.options.min_read() as usize {
            return Err(status::BUFFER_TOO_SMALL);
        }
        Ok((id, reader.cancels))
    }
}

impl Channel for FakeChannel {
    fn start_control(
        &self,
        code: u32,
        input: &[u8],
        room: usize,
    ) -> Result<Box<dyn Pending>, Failure> {
        let answer = || {
            let command = Command::decode(code, input, room).map_err(|e| e.status())?;
            if let Some(started) = self.start_socket(&command, input, room) {
                return started;
            }
            let program = RulesLoadRequest::program(input);
            let reply = self.run(command, program, room)?;
            let (op, pending) = Op::new(Vec::new(), None);
            op.reply(&reply);
            Ok(pending as _)
        };
        Ok(answer().unwrap_or_else(|status| refused(Vec::new(), status)))
    }

    fn read(&self, buffer: Vec<u8>) -> Result<Box<dyn Pending>, Failure> {
        if let Some(socket) = self.socket() {
            let (op, pending) = Op::new(buffer, Some(&socket));
            socket.read(op);
            return Ok(pending);
        }
        match self.reader_for(buffer.len()) {
            Ok((reader, cancels)) => Ok(Box::new(FakeRead {
                cancels,
                driver: self.driver.clone(),
                reader,
                buffer,
            })),
            Err(status) => Ok(refused(buffer, status)),
        }
    }

    fn write(&self, buffer: Vec<u8>) -> Result<Box<dyn Pending>, Failure> {
        if let Some(socket) = self.socket() {
            let (op, pending) = Op::new(buffer, Some(&socket));
            socket.write(op);
            return Ok(pending);
        }
        let role = *self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let result = role
            .ok_or(status::INVALID_DEVICE_STATE)
            .and_then(|id| self.driver.lock().write(id, &buffer));
        let (op, pending) = Op::new(buffer, None);
        op.complete(result);
        Ok(pending)
    }

    fn cancel(&self) {
        if let Some(socket) = self.socket() {
            return socket.cancel(None);
        }
        let role = *self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = role
            && let Some(reader) = self.driver.lock().readers.get_mut(&id)
        {
            reader.cancels += 1;
        }
        self.driver.0.changed.notify_all();
    }

    /// A socket closes when it is idle, as it does on a drop; there is nothing
    /// else a fake handle would wait for.
    fn close_soon(self: Box<Self>) {}
}

impl Drop for FakeChannel {
    fn drop(&mut self) {
        if let Some(socket) = self.socket() {
            socket.close();
        }
        let role = *self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.driver.lock();
        state.handles -= 1;
        if let Some(id) = role {
            state.readers.remove(&id);
        }
        self.driver.0.changed.notify_all();
    }
}

struct FakeRead {
    driver: FakeDriver,
    reader: u32,
    buffer: Vec<u8>,
    /// How often the reader had been cancelled when this read was started.
    cancels: u64,
}

impl Pending for FakeRead {
    fn poll(&mut self, _: &mut Context<'_>) -> Poll<Completion> {
        // Captures are read by threads; a task would have to be woken.
        match self.wait(Some(Duration::ZERO)) {
            Some(completion) => Poll::Ready(completion),
            None => unreachable!("a capture's read is waited for by a thread"),
        }
    }

    fn cancel(&self) {
        if let Some(reader) = self.driver.lock().readers.get_mut(&self.reader) {
            reader.cancels += 1;
        }
        self.driver.0.changed.notify_all();
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Option<Completion> {
        let end = timeout.and_then(|t| Instant::now().checked_add(t));
        let shared = Arc::clone(&self.driver.0);
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let result = match state.readers.get_mut(&self.reader) {
                None => Some(Err(failure(status::CANCELLED))),
                Some(r) if r.cancels != self.cancels => Some(Err(failure(status::CANCELLED))),
                Some(r) => Some(r.fill(&mut self.buffer)).filter(|n| *n > 0).map(Ok),
            };
            if let Some(result) = result {
                let buffer = std::mem::take(&mut self.buffer);
                return Some(Completion { result, buffer });
            }
            let left = end.map_or(Duration::from_secs(60), |end| {
                end.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return None;
            }
            let waited = shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
