//! The contract's calls on sockets.

use std::net::SocketAddr;

use weir_abi::{
    DatagramFlags, DatagramRecord, Ioctl, Request, RequestHeader, ShutdownHow, SocketAcceptRequest,
    SocketAddress, SocketFlags, SocketGetOptionRequest, SocketInfo, SocketInfoRequest, SocketKind,
    SocketListReply, SocketListRequest, SocketOpenReply, SocketOpenRequest, SocketOption,
    SocketSetOptionRequest, SocketSetting, SocketShutdownRequest,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::io::{Call, Ended, Handle};

/// A handle with a socket.
pub(crate) struct Socket {
    pub(crate) handle: Handle,
    pub(crate) id: u64,
    pub(crate) local: SocketAddr,
    pub(crate) remote: Option<SocketAddr>,
}

/// An open, ready to be changed.
pub(crate) fn open_request(
    kind: SocketKind,
    local: Option<&str>,
    remote: Option<SocketAddr>,
) -> SocketOpenRequest {
    SocketOpenRequest {
        header: RequestHeader::of::<SocketOpenRequest>(),
        kind: kind.into(),
        flags: 0,
        local: local
            .map(|a| a.parse::<SocketAddr>().expect("an address"))
            .into(),
        remote: remote.into(),
        backlog: 0,
        receive_limit: 0,
    }
}

/// Sends a request whose reply is of a fixed size.
pub(crate) fn send<R: Request>(handle: &Handle, request: &R) -> Call {
    Call::control(
        handle,
        R::IOCTL.code(),
        request.as_bytes(),
        size_of::<R::Reply>(),
    )
}

/// The reply of a request that was to succeed.
#[track_caller]
pub(crate) fn ask<R: Request>(handle: &Handle, request: &R) -> R::Reply {
    let bytes = send(handle, request).wait().good(R::IOCTL.name());
    R::Reply::read_from_bytes(&bytes).unwrap_or_else(|_| panic!("{} bytes", bytes.len()))
}

impl Socket {
    /// What an open or an accept that was to succeed has made of a handle.
    #[track_caller]
    pub(crate) fn opened(handle: &Handle, ended: Ended) -> Socket {
        let bytes = ended.good("opening a socket");
        let reply = SocketOpenReply::read_from_bytes(&bytes).expect("a reply");
        Socket {
            handle: handle.clone(),
            id: reply.id,
            local: reply.local.socket_addr().expect("an address"),
            remote: reply.remote.optional().expect("an address"),
        }
    }

    #[track_caller]
    pub(crate) fn open(request: &SocketOpenRequest) -> Socket {
        let handle = Handle::open();
        let ended = send(&handle, request).wait();
        Socket::opened(&handle, ended)
    }

    #[track_caller]
    pub(crate) fn listen(local: &str, backlog: u32) -> Socket {
        Socket::open(&SocketOpenRequest {
            backlog,
            ..open_request(SocketKind::TcpListener, Some(local), None)
        })
    }

    #[track_caller]
    pub(crate) fn connect(to: SocketAddr) -> Socket {
        Socket::open(&open_request(SocketKind::TcpStream, None, Some(to)))
    }

    #[track_caller]
    pub(crate) fn udp(local: &str) -> Socket {
        Socket::open(&open_request(SocketKind::Udp, Some(local), None))
    }

    /// A connection, by an accept that doesn't wait.
    #[track_caller]
    pub(crate) fn accept(&self) -> Socket {
        let handle = Handle::open();
        let ended = self.start_accept(&handle).wait();
        Socket::opened(&handle, ended)
    }

    pub(crate) fn start_accept(&self, handle: &Handle) -> Call {
        send(handle, &SocketAcceptRequest::new(self.id))
    }

    /// A connected pair: of the connecting, and of the accepting side.
    #[track_caller]
    pub(crate) fn pair() -> (Socket, Socket) {
        let listener = Socket::listen("127.0.0.1:0", 8);
        let near = Socket::connect(listener.local);
        (near, listener.accept())
    }

    pub(crate) fn read(&self, length: usize) -> Call {
        Call::read(&self.handle, length)
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> Call {
        Call::write(&self.handle, bytes)
    }

    /// Reads until so many bytes have come.
    #[track_caller]
    pub(crate) fn read_all(&self, length: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < length {
            let more = self.read(length - all.len()).wait().good("a read");
            assert!(
                !more.is_empty(),
                "the end after {} of {length} bytes",
                all.len()
            );
            all.extend(more);
        }
        all
    }

    #[track_caller]
    pub(crate) fn shutdown(&self, how: ShutdownHow) {
        let _ = ask(&self.handle, &SocketShutdownRequest::new(how));
    }

    pub(crate) fn start_set(&self, setting: SocketSetting) -> Call {
        send(&self.handle, &SocketSetOptionRequest::from(&setting))
    }

    #[track_caller]
    pub(crate) fn set(&self, setting: SocketSetting) {
        let what = format!("setting {setting:?}");
        let _ = self.start_set(setting).wait().good(&what);
    }

    #[track_caller]
    pub(crate) fn get(&self, option: SocketOption) -> u64 {
        ask(&self.handle, &SocketGetOptionRequest::new(option)).value
    }

    #[track_caller]
    pub(crate) fn info(&self) -> SocketInfo {
        ask(&self.handle, &SocketInfoRequest::new()).info
    }

    /// Sends a datagram, to the peer of the socket without an address.
    pub(crate) fn send_to(&self, to: Option<SocketAddr>, payload: &[u8]) -> Call {
        let length = u32::try_from(payload.len()).expect("short");
        let record = DatagramRecord::new(length, DatagramFlags::empty(), to).expect("short");
        self.write(&[record.as_bytes(), payload].concat())
    }

    /// A datagram that was received: who sent it, remarks, bytes.
    #[track_caller]
    pub(crate) fn receive(&self, room: usize) -> (SocketAddr, DatagramFlags, Vec<u8>) {
        received(self.read(48 + room).wait())
    }
}

#[track_caller]
pub(crate) fn received(ended: Ended) -> (SocketAddr, DatagramFlags, Vec<u8>) {
    let bytes = ended.good("a datagram");
    let (from, flags, payload) = weir_abi::datagram_read(&bytes).expect("a sound datagram");
    (from, flags, payload.to_vec())
}

/// Every socket the driver lists, in parts of so many.
pub(crate) fn list(entries: usize) -> Vec<SocketInfo> {
    let handle = Handle::open();
    let mut all = Vec::new();
    let mut cursor = 0;
    loop {
        let room = size_of::<SocketListReply>() + entries * size_of::<SocketInfo>();
        let request = SocketListRequest::new(cursor);
        let call = Call::control(&handle, Ioctl::SocketList.code(), request.as_bytes(), room);
        let bytes = call.wait().good("a list");
        let (head, rest) = SocketListReply::read_from_prefix(&bytes).expect("a list");
        for entry in rest.chunks_exact(size_of::<SocketInfo>()) {
            all.push(SocketInfo::read_from_bytes(entry).expect("an entry"));
        }
        if head.next == 0 {
            return all;
        }
        cursor = head.next;
    }
}

/// No address.
pub(crate) const NONE: SocketAddress = SocketAddress::NONE;
/// Flags as a request has them.
pub(crate) const fn flags(flags: SocketFlags) -> u32 {
    flags.bits()
}
