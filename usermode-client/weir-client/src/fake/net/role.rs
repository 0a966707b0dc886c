//! What a fake handle does as a socket, or on the way to one.

use std::net::SocketAddr;
use std::sync::Arc;

use weir_abi::{
    ABI_VERSION, Command, ReplyHeader, ResolveReply, ResolveRequest, SocketAddress,
    SocketGetOptionReply, SocketInfo, SocketInfoReply, SocketListReply, SocketSetOptionReply,
    limits, status,
};
use zerocopy::{FromBytes as _, Immutable, IntoBytes};

use super::socket::Adopt;
use super::{FakeOp, FakeSocket, Network, Op, resolve};
use crate::channel::Pending;
use crate::fake::FakeChannel;
use crate::lock::lock;

fn with_entries<H: IntoBytes + Immutable, E: IntoBytes + Immutable>(
    head: impl FnOnce(ReplyHeader) -> H,
    entries: &[E],
) -> Vec<u8> {
    let header = ReplyHeader {
        version: ABI_VERSION,
        size: (size_of::<H>() + size_of_val(entries)) as u32,
    };
    let mut bytes = head(header).as_bytes().to_vec();
    bytes.extend_from_slice(entries.as_bytes());
    bytes
}

fn at_once(reply: &[u8]) -> Box<FakeOp> {
    let (op, pending) = Op::new(Vec::new(), None);
    op.reply(reply);
    pending
}

impl FakeChannel {
    /// The socket whose role this handle has.
    pub(in crate::fake) fn socket(&self) -> Option<Arc<FakeSocket>> {
        lock(&self.socket).clone()
    }

    fn network(&self) -> Result<Arc<Network>, i32> {
        let mut state = self.driver.lock();
        if let Some(network) = &state.network {
            return Ok(Arc::clone(network));
        }
        let network = Network::start().map_err(|_| status::DEVICE_NOT_READY)?;
        state.network = Some(Arc::clone(&network));
        Ok(network)
    }

    /// Gives this handle the role of a socket when there is one; a handle that
    /// is gone by then can't have it.
    fn adopt(&self) -> Adopt {
        let role = Arc::downgrade(&self.socket);
        Box::new(move |socket| match role.upgrade() {
            Some(role) => *lock(&role) = Some(socket),
            None => socket.close(),
        })
    }

    /// Starts what a socket is asked for; `None` for anything else.
    pub(in crate::fake) fn start_socket(
        &self,
        command: &Command,
        input: &[u8],
        room: usize,
    ) -> Option<Result<Box<dyn Pending>, i32>> {
        let started = match command {
            Command::SocketOpen(spec) => self.no_role().and_then(|()| {
                let mut pending = None;
                let op = |socket: Option<&Arc<FakeSocket>>| {
                    let (op, waits) = Op::new(Vec::new(), socket);
                    pending = Some(waits);
                    op
                };
                FakeSocket::open(&self.network()?, spec, op, self.adopt())?;
                pending.ok_or(status::UNSUCCESSFUL)
            }),
            Command::SocketAccept { listener } => self.no_role().and_then(|()| {
                if let Some(status) = self.driver.lock().no_accepts {
                    return Err(status);
                }
                let listener = self.network()?.listener(*listener)?;
                let (op, pending) = Op::new(Vec::new(), Some(&listener));
                listener.accept(op, self.adopt());
                Ok(pending)
            }),
            Command::SocketList { cursor } => self.network().map(|network| {
                let fit = (room - size_of::<SocketListReply>()) / size_of::<SocketInfo>();
                let all = network.list(*cursor);
                let part = all.get(..fit).unwrap_or(&all);
                let next = all.get(part.len()).map_or(0, |info| info.id);
                at_once(&with_entries(
                    |header| SocketListReply {
                        header,
                        count: part.len() as u32,
                        total: network.len() as u32,
                        next,
                    },
                    part,
                ))
            }),
            Command::Resolve => ResolveRequest::read_from_bytes(input)
                .map_err(|_| status::INFO_LENGTH_MISMATCH)
                .and_then(|request| {
                    let query = request.query().map_err(|e| e.status())?;
                    let found = resolve(query.name, query.service, query.family)?;
                    Ok(at_once(&addresses(&found)))
                }),
            Command::SocketShutdown(how) => self.role().map(|socket| {
                let (op, pending) = Op::new(Vec::new(), Some(&socket));
                socket.shutdown(*how, op);
                pending
            }),
            Command::SocketSetOption(setting) => self.role().and_then(|socket| {
                socket.set(*setting)?;
                let header = ReplyHeader::of::<SocketSetOptionReply>();
                Ok(at_once(SocketSetOptionReply { header }.as_bytes()))
            }),
            Command::SocketGetOption(option) => self.role().and_then(|socket| {
                let reply = SocketGetOptionReply {
                    header: ReplyHeader::of::<SocketGetOptionReply>(),
                    option: (*option).into(),
                    reserved: 0,
                    value: socket.get(*option)?,
                };
                Ok(at_once(reply.as_bytes()))
            }),
            Command::SocketInfo => self.role().map(|socket| {
                let reply = SocketInfoReply {
                    header: ReplyHeader::of::<SocketInfoReply>(),
                    info: socket.info(),
                };
                at_once(reply.as_bytes())
            }),
            _ => return None,
        };
        Some(started.map(|pending| pending as Box<dyn Pending>))
    }

    fn role(&self) -> Result<Arc<FakeSocket>, i32> {
        self.socket().ok_or(status::INVALID_DEVICE_STATE)
    }

    fn no_role(&self) -> Result<(), i32> {
        if self.socket().is_some() || lock(&self.reader).is_some() {
            return Err(status::INVALID_DEVICE_STATE);
        }
        Ok(())
    }
}

fn addresses(found: &[SocketAddr]) -> Vec<u8> {
    let entries: Vec<SocketAddress> = found
        .iter()
        .take(limits::MAX_RESOLVED)
        .map(|addr| (*addr).into())
        .collect();
    with_entries(
        |header| ResolveReply {
            header,
            total: found.len() as u32,
            count: entries.len() as u32,
        },
        &entries,
    )
}
