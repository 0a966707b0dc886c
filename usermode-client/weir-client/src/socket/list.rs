//! The sockets of the driver, and names.

use std::net::SocketAddr;
use std::time::Duration;

use weir_abi::{
    AddressError, Ioctl, IpVersion, ResolveReply, ResolveRequest, SocketAddress, SocketFlags,
    SocketInfo, SocketKind, SocketListReply, SocketListRequest, SocketState, UnknownValue, limits,
};
use zerocopy::IntoBytes as _;

use crate::NtStatus;
use crate::device::{Device, bad_reply, list_part, raw_call};
use crate::error::Error;
use crate::kind::Doing;

use super::failed;

/// Entries a list request leaves room for.
const ENTRIES: usize = 256;

/// A kernel socket of the driver, of a handle or of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketEntry {
    /// Its id.
    pub id: u64,
    /// What it is.
    pub kind: SocketKind,
    /// How it is.
    pub state: SocketState,
    /// Its address.
    pub local: SocketAddr,
    /// Its peer's, if it has one.
    pub remote: Option<SocketAddr>,
    /// Bytes of payload received.
    pub bytes_in: u64,
    /// Bytes of payload the transport has taken.
    pub bytes_out: u64,
    /// Receives that ended with something; of a listener: connections taken.
    pub reads: u64,
    /// Sends that ended well.
    pub writes: u64,
    /// Bytes given to the transport and not taken yet; of a listener:
    /// connections that wait.
    pub queued: u64,
    /// Of a listener: connections refused.
    pub refused: u64,
    /// When it was opened: 100 ns since 1601-01-01 UTC.
    pub opened_100ns: u64,
    /// The process that opened the handle; none of a service.
    pub owner: Option<u32>,
    /// The service it belongs to, if it does.
    pub service: Option<u32>,
    /// How it was opened.
    pub flags: SocketFlags,
    /// What it failed with.
    pub failure: Option<NtStatus>,
    /// Reads outstanding; of a listener: accepts.
    pub pending_reads: u32,
    /// Writes outstanding.
    pub pending_writes: u32,
}

/// Why an entry of the socket list makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadSocket {
    #[error(transparent)]
    Value(#[from] UnknownValue),
    #[error(transparent)]
    Address(#[from] AddressError),
}

impl SocketEntry {
    pub(crate) fn from_info(info: &SocketInfo) -> Result<Self, BadSocket> {
        Ok(SocketEntry {
            id: info.id,
            kind: info.kind.try_into()?,
            state: info.state.try_into()?,
            local: info.local.socket_addr()?,
            remote: info.remote.optional()?,
            bytes_in: info.bytes_in,
            bytes_out: info.bytes_out,
            reads: info.reads,
            writes: info.writes,
            queued: info.queued,
            refused: info.refused,
            opened_100ns: info.opened_100ns,
            owner: (info.owner != 0).then_some(info.owner),
            service: (info.service != 0).then_some(info.service),
            flags: SocketFlags::from_bits_truncate(info.flags),
            failure: (info.status != 0).then_some(NtStatus(info.status)),
            pending_reads: info.pending_reads,
            pending_writes: info.pending_writes,
        })
    }
}

impl Device {
    /// Every kernel socket of the driver, those of services too, in the order of
    /// their ids.
    pub fn sockets(&self) -> Result<Vec<SocketEntry>, Error> {
        let operation = Ioctl::SocketList.name();
        let room = size_of::<SocketListReply>() + ENTRIES * size_of::<SocketInfo>();
        let (mut sockets, mut cursor) = (Vec::new(), 0);
        loop {
            let bytes = raw_call(self.channel(), &SocketListRequest::new(cursor), room)?;
            let (reply, part): (SocketListReply, Vec<SocketInfo>) =
                list_part(operation, &bytes, |r: &SocketListReply| (r.header, r.count))?;
            for info in &part {
                let entry = SocketEntry::from_info(info)
                    .map_err(|e| bad_reply(operation, e.to_string()))?;
                sockets.push(entry);
            }
            if reply.next == 0 {
                return Ok(sockets);
            }
            if reply.next <= cursor {
                return Err(bad_reply(operation, "the list doesn't end".to_owned()));
            }
            cursor = reply.next;
        }
    }

    /// The addresses of a name with a port, as the kernel's resolver finds them,
    /// of one version of IP or of both. An address as text is one of its own.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::NoAddress`], and what the driver says.
    pub fn resolve(
        &self,
        name: &str,
        port: u16,
        version: Option<IpVersion>,
    ) -> Result<Vec<SocketAddr>, Error> {
        self.resolve_within(name, port, version, None)
    }

    /// As [`Device::resolve`], within `timeout` if one is given.
    pub fn resolve_within(
        &self,
        name: &str,
        port: u16,
        version: Option<IpVersion>,
        timeout: Option<Duration>,
    ) -> Result<Vec<SocketAddr>, Error> {
        let bad = |why| Error::BadName {
            name: name.to_owned(),
            why,
        };
        if name.is_empty() {
            return Err(bad("it is empty; give a host's name or an address"));
        }
        if name.chars().any(char::is_control) {
            return Err(bad("it has a control character; leave that out"));
        }
        let operation = Ioctl::Resolve.name();
        let service = port.to_string();
        let request = ResolveRequest::new(name, Some(&service), version)
            .ok_or_else(|| bad("it has more than 255 characters; no name has"))?;
        let room = size_of::<ResolveReply>() + limits::MAX_RESOLVED * size_of::<SocketAddress>();
        let doing = Doing::Resolving(name.to_owned());
        // On a handle of its own, which doesn't wait for an answer that is late.
        let channel = self.net().handle()?;
        let started = channel.start_control(Ioctl::Resolve.code(), request.as_bytes(), room);
        let mut pending = started.map_err(|failure| failed(doing.clone(), failure))?;
        let Some(completion) = pending.wait(timeout) else {
            pending.cancel();
            channel.close_soon();
            return Err(Error::TimedOut {
                doing,
                after: timeout.unwrap_or_default(),
            });
        };
        let len = completion
            .result
            .map_err(|failure| failed(doing, failure))?;
        let mut bytes = completion.buffer;
        bytes.truncate(len);
        let (_, part): (ResolveReply, Vec<SocketAddress>) =
            list_part(operation, &bytes, |r: &ResolveReply| (r.header, r.count))?;
        if part.is_empty() {
            return Err(Error::NoAddress {
                name: name.to_owned(),
            });
        }
        part.iter()
            .map(|address| {
                let mut address = address.socket_addr()?;
                address.set_port(port);
                Ok(address)
            })
            .collect::<Result<_, AddressError>>()
            .map_err(|e| bad_reply(operation, e.to_string()))
    }
}
