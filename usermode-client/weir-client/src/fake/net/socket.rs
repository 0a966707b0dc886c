//! One fake socket.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Interest, Token};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Type};
use weir_abi::{
    DatagramFlags, DatagramRecord, ReplyHeader, ShutdownHow, SocketFlags, SocketInfo, SocketKind,
    SocketOpenReply, SocketOption, SocketSetting, SocketShutdownReply, SocketSpec, SocketState,
    datagram_write, limits, status,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{Network, Op, status_of};
use crate::lock::lock;

/// What the socket is on the host.
enum Source {
    Stream(TcpStream),
    Listener(TcpListener),
    Udp(UdpSocket),
    /// Closed or aborted.
    Gone,
}

/// Gives a handle its role when an accept or a connect has ended well.
pub(in crate::fake) type Adopt = Box<dyn FnOnce(Arc<FakeSocket>) + Send>;

pub(in crate::fake) struct FakeSocket {
    pub(super) id: u64,
    pub(in crate::fake) kind: SocketKind,
    flags: SocketFlags,
    network: Weak<Network>,
    state: Mutex<State>,
}

struct State {
    source: Source,
    local: SocketAddr,
    remote: Option<SocketAddr>,
    connecting: Option<(Op, Adopt)>,
    accepts: VecDeque<(Op, Adopt)>,
    reads: VecDeque<Op>,
    writes: VecDeque<Op>,
    shutdowns: Vec<Op>,
    shut: bool,
    peer_closed: bool,
    failed: Option<i32>,
    close_when_idle: bool,
    info: SocketInfo,
}

/// Operations that ended, to be told when no lock is held.
type Ended = Vec<(Op, Result<usize, i32>)>;

fn new_socket(spec: &SocketSpec) -> io::Result<socket2::Socket> {
    let (kind, protocol) = match spec.kind {
        SocketKind::Udp => (Type::DGRAM, Protocol::UDP),
        _ => (Type::STREAM, Protocol::TCP),
    };
    let socket = socket2::Socket::new(Domain::for_address(spec.local), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if spec.local.is_ipv6() {
        socket.set_only_v6(!spec.flags.contains(SocketFlags::DUAL_STACK))?;
    }
    // On Unix a listener's port stays taken for a while without this, which is
    // not so on Windows.
    if spec.flags.contains(SocketFlags::REUSE_ADDRESS)
        || (cfg!(unix) && spec.kind == SocketKind::TcpListener)
    {
        socket.set_reuse_address(true)?;
    }
    if spec.flags.contains(SocketFlags::NO_DELAY) {
        socket.set_tcp_nodelay(true)?;
    }
    if spec.flags.contains(SocketFlags::KEEP_ALIVE) {
        socket.set_keepalive(true)?;
    }
    socket.set_broadcast(spec.flags.contains(SocketFlags::BROADCAST))?;
    if let Some(limit) = spec.receive_limit {
        socket.set_recv_buffer_size(limit.get() as usize)?;
    }
    Ok(socket)
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Whether a connect goes on in the background.
fn in_progress(error: &io::Error) -> bool {
    // EINPROGRESS of Linux, which has no name in the standard library.
    would_block(error) || error.raw_os_error() == Some(115)
}

impl FakeSocket {
    /// Opens a socket; `op` ends when it is there, and `adopt` gets it then.
    pub(in crate::fake) fn open(
        network: &Arc<Network>,
        spec: &SocketSpec,
        op: impl FnOnce(Option<&Arc<FakeSocket>>) -> Op,
        adopt: Adopt,
    ) -> Result<(), i32> {
        let failed = |e: io::Error| status_of(&e);
        let socket = new_socket(spec).map_err(failed)?;
        let connects = spec.kind == SocketKind::TcpStream;
        // Binding an unspecified port before connecting would take one more
        // than needed.
        if !connects || spec.local.port() != 0 || !spec.local.ip().is_unspecified() {
            socket.bind(&spec.local.into()).map_err(failed)?;
        }
        if let Some(remote) = spec.remote {
            match socket.connect(&remote.into()) {
                Ok(()) => {}
                Err(e) if connects && in_progress(&e) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        let source = match spec.kind {
            SocketKind::TcpStream => Source::Stream(TcpStream::from_std(socket.into())),
            SocketKind::TcpListener => {
                let backlog = match spec.backlog {
                    // By request: the transport's own.
                    0 => i32::MAX,
                    backlog => i32::try_from(backlog).unwrap_or(i32::MAX),
                };
                socket.listen(backlog).map_err(failed)?;
                Source::Listener(TcpListener::from_std(socket.into()))
            }
            SocketKind::Udp => Source::Udp(UdpSocket::from_std(socket.into())),
        };
        let this = Self::new(network, spec.kind, spec.flags, source, spec.remote)?;
        let op = op(Some(&this));
        if connects {
            lock(&this.state).connecting = Some((op, adopt));
            this.progress();
        } else {
            let reply = this.reply();
            adopt(this);
            op.reply(reply.as_bytes());
        }
        Ok(())
    }

    fn new(
        network: &Arc<Network>,
        kind: SocketKind,
        flags: SocketFlags,
        mut source: Source,
        remote: Option<SocketAddr>,
    ) -> Result<Arc<FakeSocket>, i32> {
        let id = network.new_id();
        let token = Token(id as usize);
        let both = Interest::READABLE | Interest::WRITABLE;
        let registry = &network.registry;
        let (local, registered) = match &mut source {
            Source::Stream(s) => (s.local_addr(), registry.register(s, token, both)),
            Source::Listener(l) => (
                l.local_addr(),
                registry.register(l, token, Interest::READABLE),
            ),
            Source::Udp(u) => (u.local_addr(), registry.register(u, token, both)),
            Source::Gone => return Err(status::INVALID_HANDLE),
        };
        registered.map_err(|e| status_of(&e))?;
        let mut info = SocketInfo::new_zeroed();
        info.opened_100ns = crate::filetime::now();
        let socket = Arc::new(FakeSocket {
            id,
            kind,
            flags,
            network: Arc::downgrade(network),
            state: Mutex::new(State {
                source,
                local: local.map_err(|e| status_of(&e))?,
                remote,
                connecting: None,
                accepts: VecDeque::new(),
                reads: VecDeque::new(),
                writes: VecDeque::new(),
                shutdowns: Vec::new(),
                shut: false,
                peer_closed: false,
                failed: None,
                close_when_idle: false,
                info,
            }),
        });
        network.add(&socket);
        Ok(socket)
    }

    fn reply(&self) -> SocketOpenReply {
        let state = lock(&self.state);
        SocketOpenReply {
            header: ReplyHeader::of::<SocketOpenReply>(),
            id: self.id,
            local: state.local.into(),
            remote: state.remote.into(),
        }
    }

    /// Does what can be done now.
    pub(super) fn progress(self: &Arc<Self>) {
        let mut ended = Ended::new();
        let mut accepted = Vec::new();
        let connected = {
            let mut state = lock(&self.state);
            let connected = state.connect(&mut ended);
            state.accept(&mut accepted);
            if state.connecting.is_none() {
                let network = self.network.upgrade();
                if !network.is_some_and(|n| n.held.load(Ordering::Relaxed)) {
                    state.send(&mut ended);
                }
                state.receive(&mut ended);
            }
            state.close_if_idle(self);
            connected
        };
        if let Some((op, adopt)) = connected {
            let reply = self.reply();
            adopt(Arc::clone(self));
            op.reply(reply.as_bytes());
        }
        for (op, adopt, stream, peer) in accepted {
            let Some(network) = self.network.upgrade() else {
                continue;
            };
            let source = Source::Stream(stream);
            let kind = SocketKind::TcpStream;
            match Self::new(&network, kind, SocketFlags::empty(), source, Some(peer)) {
                Ok(socket) => {
                    let reply = socket.reply();
                    adopt(socket);
                    op.reply(reply.as_bytes());
                }
                Err(status) => op.complete(Err(status)),
            }
        }
        let lost = lock(&self.state).failed_to_connect();
        if lost {
            self.leave();
        }
        for (op, result) in ended {
            op.complete(result);
        }
    }

    /// Takes an operation, and does what can be done of it at once. A refusal is
    /// its end too: the framework of the real driver queues each request first.
    pub(in crate::fake) fn read(self: &Arc<Self>, op: Op) {
        let mut state = lock(&self.state);
        if let Err(status) = self.check_read(&state, &op) {
            drop(state);
            return op.complete(Err(status));
        }
        state.reads.push_back(op);
        drop(state);
        self.progress();
    }

    fn check_read(&self, state: &State, op: &Op) -> Result<(), i32> {
        match self.kind {
            SocketKind::TcpListener => return Err(status::INVALID_DEVICE_REQUEST),
            SocketKind::TcpStream if op.buffer.is_empty() => return Err(status::BUFFER_TOO_SMALL),
            SocketKind::Udp if op.buffer.len() < size_of::<DatagramRecord>() => {
                return Err(status::BUFFER_TOO_SMALL);
            }
            _ => {}
        }
        if let Some(status) = state.failed {
            return Err(status);
        }
        if state.reads.len() >= limits::MAX_SOCKET_READS as usize {
            return Err(status::QUOTA_EXCEEDED);
        }
        Ok(())
    }

    /// As [`FakeSocket::read`].
    pub(in crate::fake) fn write(self: &Arc<Self>, op: Op) {
        let mut state = lock(&self.state);
        if let Err(status) = self.check_write(&state, &op) {
            drop(state);
            return op.complete(Err(status));
        }
        state.writes.push_back(op);
        drop(state);
        self.progress();
    }

    fn check_write(&self, state: &State, op: &Op) -> Result<(), i32> {
        match self.kind {
            SocketKind::TcpListener => return Err(status::INVALID_DEVICE_REQUEST),
            SocketKind::TcpStream if op.buffer.len() > limits::MAX_STREAM_IO as usize => {
                return Err(status::INVALID_BUFFER_SIZE);
            }
            SocketKind::TcpStream if state.shut || !state.shutdowns.is_empty() => {
                return Err(status::GRACEFUL_DISCONNECT);
            }
            SocketKind::TcpStream => {}
            SocketKind::Udp => {
                let to = datagram_write(&op.buffer, op.buffer.len()).map_err(|e| e.status())?;
                if to.is_none() && state.remote.is_none() {
                    return Err(status::INVALID_CONNECTION);
                }
            }
        }
        if let Some(status) = state.failed {
            return Err(status);
        }
        if state.writes.len() >= limits::MAX_SOCKET_WRITES as usize {
            return Err(status::QUOTA_EXCEEDED);
        }
        Ok(())
    }

    pub(in crate::fake) fn accept(self: &Arc<Self>, op: Op, adopt: Adopt) {
        lock(&self.state).accepts.push_back((op, adopt));
        self.progress();
    }

    pub(in crate::fake) fn shutdown(self: &Arc<Self>, how: ShutdownHow, op: Op) {
        if self.kind != SocketKind::TcpStream {
            return op.complete(Err(status::INVALID_DEVICE_REQUEST));
        }
        let mut state = lock(&self.state);
        if let Some(status) = state.failed {
            drop(state);
            return op.complete(Err(status));
        }
        match how {
            ShutdownHow::Send => {
                state.shutdowns.push(op);
                drop(state);
                self.progress();
            }
            ShutdownHow::Abort => {
                state.reset();
                state.failed = Some(status::CONNECTION_ABORTED);
                let ended = state.take_all(status::CONNECTION_ABORTED);
                drop(state);
                for (op, result) in ended {
                    op.complete(result);
                }
                op.reply(shutdown_reply().as_bytes());
            }
        }
    }

    /// Ends one operation, or all.
    pub(in crate::fake) fn cancel(self: &Arc<Self>, which: Option<u64>) {
        let ended = {
            let mut state = lock(&self.state);
            match which {
                None => state.take_all(status::CANCELLED),
                Some(id) => state.take_one(id),
            }
        };
        for (op, result) in ended {
            op.complete(result);
        }
        self.progress();
    }

    /// The handle is closed: when nothing is outstanding any more, or now.
    pub(in crate::fake) fn close(self: &Arc<Self>) {
        lock(&self.state).close_when_idle = true;
        self.progress();
    }

    fn leave(&self) {
        if let Some(network) = self.network.upgrade() {
            lock(&network.sockets).remove(&self.id);
        }
    }

    pub(in crate::fake) fn info(&self) -> SocketInfo {
        let state = lock(&self.state);
        let mut info = state.info;
        info.id = self.id;
        info.kind = self.kind.into();
        info.flags = self.flags.bits();
        info.local = state.local.into();
        info.remote = state.remote.into();
        info.owner = std::process::id();
        info.status = state.failed.unwrap_or(0);
        info.pending_reads = (state.reads.len() + state.accepts.len()) as u32;
        info.pending_writes = state.writes.len() as u32;
        info.queued = state
            .writes
            .iter()
            .map(|op| (op.buffer.len() - op.done) as u64)
            .sum();
        info.state = match self.kind {
            _ if state.failed.is_some() => SocketState::Failed,
            SocketKind::TcpListener => SocketState::Listening,
            SocketKind::Udp => SocketState::Bound,
            SocketKind::TcpStream if state.connecting.is_some() => SocketState::Connecting,
            SocketKind::TcpStream => match (state.shut, state.peer_closed) {
                (false, false) => SocketState::Connected,
                (false, true) => SocketState::PeerClosed,
                (true, false) => SocketState::ShutDown,
                (true, true) => SocketState::Closing,
            },
        }
        .into();
        info
    }

    pub(in crate::fake) fn set(&self, setting: SocketSetting) -> Result<(), i32> {
        if !setting.option().applies_to(self.kind) {
            return Err(status::NOT_SUPPORTED);
        }
        let state = lock(&self.state);
        let socket = state.as_socket()?;
        let v6 = state.local.is_ipv6();
        let keep = socket2::TcpKeepalive::new();
        let seconds = |n: u32| Duration::from_secs(n.into());
        let done = match setting {
            SocketSetting::NoDelay(on) => socket.set_tcp_nodelay(on),
            SocketSetting::KeepAlive(on) => socket.set_keepalive(on),
            SocketSetting::KeepAliveIdle(n) => {
                socket.set_tcp_keepalive(&keep.with_time(seconds(n)))
            }
            SocketSetting::KeepAliveInterval(n) => {
                socket.set_tcp_keepalive(&keep.with_interval(seconds(n)))
            }
            SocketSetting::KeepAliveCount(n) => socket.set_tcp_keepalive(&keep.with_retries(n)),
            SocketSetting::ReuseAddress(_) => return Err(status::NOT_SUPPORTED),
            SocketSetting::ReceiveBuffer(n) => socket.set_recv_buffer_size(n as usize),
            SocketSetting::SendBuffer(n) => socket.set_send_buffer_size(n as usize),
            SocketSetting::Ttl(n) if v6 => socket.set_unicast_hops_v6(n),
            SocketSetting::Ttl(n) => socket.set_ttl_v4(n),
            SocketSetting::MulticastTtl(n) if v6 => socket.set_multicast_hops_v6(n),
            SocketSetting::MulticastTtl(n) => socket.set_multicast_ttl_v4(n),
            SocketSetting::MulticastInterface(n) if v6 => socket.set_multicast_if_v6(n),
            SocketSetting::MulticastInterface(n) => set_multicast_if_v4(&socket, n),
            SocketSetting::MulticastLoop(on) if v6 => socket.set_multicast_loop_v6(on),
            SocketSetting::MulticastLoop(on) => socket.set_multicast_loop_v4(on),
            SocketSetting::Broadcast(on) => socket.set_broadcast(on),
            SocketSetting::JoinGroup(g) | SocketSetting::LeaveGroup(g) => {
                let join = matches!(setting, SocketSetting::JoinGroup(_));
                let interface = interface_v4(g.interface);
                match g.address {
                    IpAddr::V4(a) if !v6 && join => socket.join_multicast_v4_n(&a, &interface),
                    IpAddr::V4(a) if !v6 => socket.leave_multicast_v4_n(&a, &interface),
                    IpAddr::V6(a) if v6 && join => socket.join_multicast_v6(&a, g.interface),
                    IpAddr::V6(a) if v6 => socket.leave_multicast_v6(&a, g.interface),
                    _ => return Err(status::INVALID_ADDRESS_COMPONENT),
                }
            }
        };
        done.map_err(|e| status_of(&e))
    }

    pub(in crate::fake) fn get(&self, option: SocketOption) -> Result<u64, i32> {
        if !option.applies_to(self.kind) {
            return Err(status::NOT_SUPPORTED);
        }
        let state = lock(&self.state);
        let socket = state.as_socket()?;
        let v6 = state.local.is_ipv6();
        let got = match option {
            SocketOption::NoDelay => socket.tcp_nodelay().map(u64::from),
            SocketOption::KeepAlive => socket.keepalive().map(u64::from),
            SocketOption::ReuseAddress => socket.reuse_address().map(u64::from),
            SocketOption::ReceiveBuffer => socket.recv_buffer_size().map(|n| n as u64),
            SocketOption::SendBuffer => socket.send_buffer_size().map(|n| n as u64),
            SocketOption::Ttl if v6 => socket.unicast_hops_v6().map(u64::from),
            SocketOption::Ttl => socket.ttl_v4().map(u64::from),
            SocketOption::MulticastTtl if v6 => socket.multicast_hops_v6().map(u64::from),
            SocketOption::MulticastTtl => socket.multicast_ttl_v4().map(u64::from),
            SocketOption::MulticastLoop if v6 => socket.multicast_loop_v6().map(u64::from),
            SocketOption::MulticastLoop => socket.multicast_loop_v4().map(u64::from),
            SocketOption::Broadcast => socket.broadcast().map(u64::from),
            _ => return Err(status::NOT_SUPPORTED),
        };
        got.map_err(|e| status_of(&e))
    }
}

/// An interface as hosts know it: not all know the loopback, which tests count
/// on, by its index.
const fn interface_v4(index: u32) -> InterfaceIndexOrAddress {
    match index {
        1 => InterfaceIndexOrAddress::Address(Ipv4Addr::LOCALHOST),
        _ => InterfaceIndexOrAddress::Index(index),
    }
}

fn set_multicast_if_v4(socket: &SockRef<'_>, index: u32) -> io::Result<()> {
    // socket2 takes an address here, and no index.
    let address = match interface_v4(index) {
        InterfaceIndexOrAddress::Address(address) => address,
        InterfaceIndexOrAddress::Index(_) => Ipv4Addr::UNSPECIFIED,
    };
    socket.set_multicast_if_v4(&address)
}

fn shutdown_reply() -> SocketShutdownReply {
    SocketShutdownReply {
        header: ReplyHeader::of::<SocketShutdownReply>(),
    }
}

impl State {
    fn as_socket(&self) -> Result<SockRef<'_>, i32> {
        match &self.source {
            Source::Stream(s) => Ok(SockRef::from(s)),
            Source::Listener(l) => Ok(SockRef::from(l)),
            Source::Udp(u) => Ok(SockRef::from(u)),
            Source::Gone => Err(status::CONNECTION_ABORTED),
        }
    }

    /// Whether it is a stream that never was.
    fn failed_to_connect(&self) -> bool {
        self.failed.is_some() && self.remote.is_none()
    }

    fn connect(&mut self, ended: &mut Ended) -> Option<(Op, Adopt)> {
        self.connecting.as_ref()?;
        let Source::Stream(stream) = &self.source else {
            return None;
        };
        let failed = match (stream.take_error(), stream.peer_addr()) {
            (Ok(None), Ok(_)) => None,
            (Ok(None), Err(e)) if e.kind() == io::ErrorKind::NotConnected => return None,
            (Ok(Some(e)) | Err(e), _) | (_, Err(e)) => Some(status_of(&e)),
        };
        let (op, adopt) = self.connecting.take()?;
        match failed {
            None => {
                if let Ok(local) = stream.local_addr() {
                    self.local = local;
                }
                Some((op, adopt))
            }
            Some(status) => {
                self.failed = Some(status);
                self.remote = None;
                self.source = Source::Gone;
                ended.push((op, Err(status)));
                None
            }
        }
    }

    fn accept(&mut self, accepted: &mut Vec<(Op, Adopt, TcpStream, SocketAddr)>) {
        let Source::Listener(listener) = &self.source else {
            return;
        };
        while !self.accepts.is_empty() {
            match listener.accept() {
                Ok((stream, peer)) => {
                    if let Some((op, adopt)) = self.accepts.pop_front() {
                        self.info.reads += 1;
                        accepted.push((op, adopt, stream, peer));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => return,
            }
        }
    }

    /// Bytes of each read and write that are no payload.
    const fn header_len(&self) -> usize {
        match self.source {
            Source::Udp(_) => size_of::<DatagramRecord>(),
            _ => 0,
        }
    }

    fn fail(&mut self, status: i32, ended: &mut Ended) {
        if matches!(self.source, Source::Stream(_)) {
            self.failed = Some(status);
            ended.append(&mut self.take_all(status));
        }
    }

    fn send(&mut self, ended: &mut Ended) {
        let head = self.header_len();
        while let Some(op) = self.writes.front_mut() {
            let sent = match &mut self.source {
                Source::Stream(stream) => {
                    let rest = op.buffer.get(op.done..).unwrap_or_default();
                    if rest.is_empty() {
                        Ok(0)
                    } else {
                        stream.write(rest)
                    }
                }
                Source::Udp(udp) => {
                    let to = datagram_write(&op.buffer, op.buffer.len()).ok().flatten();
                    let bytes = op.buffer.get(size_of::<DatagramRecord>()..);
                    let bytes = bytes.unwrap_or_default();
                    let sent = match to {
                        Some(to) => udp.send_to(bytes, to),
                        None => udp.send(bytes),
                    };
                    sent.map(|n| n + size_of::<DatagramRecord>())
                }
                _ => return,
            };
            match sent {
                Ok(n) => {
                    op.done += n;
                    self.info.bytes_out += (n - head) as u64;
                    if op.done < op.buffer.len() {
                        continue;
                    }
                    self.info.writes += 1;
                    if let Some(op) = self.writes.pop_front() {
                        let len = op.done;
                        ended.push((op, Ok(len)));
                    }
                }
                Err(e) if would_block(&e) => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    if let Some(op) = self.writes.pop_front() {
                        ended.push((op, Err(status_of(&e))));
                    }
                    self.fail(status_of(&e), ended);
                }
            }
        }
        let Source::Stream(stream) = &self.source else {
            return;
        };
        if !self.shutdowns.is_empty() {
            let result = if self.shut {
                Ok(())
            } else {
                stream.shutdown(Shutdown::Write)
            };
            self.shut |= result.is_ok();
            for op in self.shutdowns.drain(..) {
                match &result {
                    Ok(()) => op.reply(shutdown_reply().as_bytes()),
                    Err(e) => ended.push((op, Err(status_of(e)))),
                }
            }
        }
    }

    fn receive(&mut self, ended: &mut Ended) {
        let head = self.header_len();
        while let Some(op) = self.reads.front_mut() {
            let result = match &mut self.source {
                Source::Stream(stream) => stream.read(&mut op.buffer),
                Source::Udp(udp) => receive_datagram(udp, self.remote, &mut op.buffer),
                _ => return,
            };
            let result = match result {
                Err(e) if would_block(&e) => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Ok(n) => {
                    self.peer_closed |= n == 0;
                    self.info.bytes_in += (n - head) as u64;
                    self.info.reads += u64::from(n > 0);
                    Ok(n)
                }
                Err(e) => Err(status_of(&e)),
            };
            if let Some(op) = self.reads.pop_front() {
                ended.push((op, result));
            }
            if let Err(status) = result {
                self.fail(status, ended);
            }
        }
    }

    fn take_one(&mut self, id: u64) -> Ended {
        if self.connecting.as_ref().is_some_and(|(op, _)| op.id == id) {
            let ended = self.take_all(status::CANCELLED);
            self.failed = Some(status::CANCELLED);
            self.remote = None;
            self.source = Source::Gone;
            return ended;
        }
        let mut ended = Ended::new();
        let mut from = |ops: &mut VecDeque<Op>| {
            if let Some(at) = ops.iter().position(|op| op.id == id) {
                ended.extend(ops.remove(at).map(|op| (op, Err(status::CANCELLED))));
            }
        };
        from(&mut self.reads);
        from(&mut self.writes);
        if let Some(at) = self.accepts.iter().position(|(op, _)| op.id == id) {
            let op = self.accepts.remove(at);
            ended.extend(op.map(|(op, _)| (op, Err(status::CANCELLED))));
        }
        ended
    }

    fn take_all(&mut self, status: i32) -> Ended {
        let mut ops: Vec<Op> = self.reads.drain(..).collect();
        ops.extend(self.writes.drain(..));
        ops.extend(self.accepts.drain(..).map(|(op, _)| op));
        ops.extend(self.connecting.take().map(|(op, _)| op));
        ops.append(&mut self.shutdowns);
        ops.into_iter().map(|op| (op, Err(status))).collect()
    }

    /// Ends the connection with a reset.
    fn reset(&mut self) {
        if let Source::Stream(stream) = &self.source {
            // If this fails the host ends it in order: no test is the worse.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
        self.source = Source::Gone;
    }

    fn idle(&self) -> bool {
        self.reads.is_empty()
            && self.writes.is_empty()
            && self.accepts.is_empty()
            && self.shutdowns.is_empty()
            && self.connecting.is_none()
    }

    fn close_if_idle(&mut self, socket: &FakeSocket) {
        if !self.close_when_idle || !self.idle() {
            return;
        }
        if self.shut && self.peer_closed {
            self.source = Source::Gone;
        } else {
            self.reset();
        }
        socket.leave();
    }
}

/// Fills a read with a datagram and its header.
fn receive_datagram(
    udp: &UdpSocket,
    peer: Option<SocketAddr>,
    buffer: &mut [u8],
) -> io::Result<usize> {
    let mut all = vec![0; 65_536];
    let (len, from) = match peer {
        Some(peer) => (udp.recv(&mut all)?, peer),
        None => udp.recv_from(&mut all)?,
    };
    let room = buffer.len().saturating_sub(size_of::<DatagramRecord>());
    let kept = len.min(room);
    let mut flags = DatagramFlags::empty();
    flags.set(DatagramFlags::TRUNCATED, kept < len);
    let record = DatagramRecord::new(kept as u32, flags, Some(from));
    let record = record.ok_or(io::ErrorKind::InvalidData)?;
    if let Some((head, body)) = buffer.split_at_mut_checked(size_of_val(&record)) {
        head.copy_from_slice(record.as_bytes());
        for (to, from) in body.iter_mut().zip(all.iter().take(kept)) {
            *to = *from;
        }
    }
    Ok(size_of_val(&record) + kept)
}
