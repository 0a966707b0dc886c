//! The golden bytes of sockets: what opens, ends and lists them, options, names,
//! datagrams.

use weir_abi::{
    DatagramFlags, DatagramRecord, Group, IpVersion, ResolveReply, ResolveRequest, ShutdownHow,
    SocketAcceptRequest, SocketFlags, SocketGetOptionReply, SocketGetOptionRequest, SocketInfo,
    SocketInfoReply, SocketInfoRequest, SocketKind, SocketListReply, SocketListRequest,
    SocketOpenReply, SocketOpenRequest, SocketOption, SocketSetOptionReply, SocketSetOptionRequest,
    SocketSetting, SocketShutdownReply, SocketShutdownRequest, SocketSpec, SocketState,
    datagram_read, datagram_write,
};

use super::*;

const ID: u64 = 0x1112_1314_1516_1718;
const TIME: u64 = 0x01dd_5a2b_3c4d_5e6f;

fn peer() -> std::net::SocketAddr {
    "127.0.0.1:8080".parse().expect("an address")
}

#[test]
fn sockets_are_opened() {
    let listener = SocketSpec {
        kind: SocketKind::TcpListener,
        flags: SocketFlags::REUSE_ADDRESS
            | SocketFlags::CONDITIONAL_ACCEPT
            | SocketFlags::DUAL_STACK
            | SocketFlags::NO_DELAY
            | SocketFlags::KEEP_ALIVE,
        local: v6(7),
        remote: None,
        backlog: 0x81,
        receive_limit: std::num::NonZeroU32::new(0x10000),
    };
    same_request(
        "socket_open_request_listener",
        SocketOpenRequest::from(&listener),
        Command::SocketOpen(listener),
    );
    let asking = SocketSpec {
        flags: SocketFlags::CONDITIONAL_ACCEPT | SocketFlags::ACCEPT_BY_REQUEST,
        backlog: 0,
        receive_limit: None,
        ..listener
    };
    same_request(
        "socket_open_request_asking",
        SocketOpenRequest::from(&asking),
        Command::SocketOpen(asking),
    );
    let stream = SocketSpec {
        kind: SocketKind::TcpStream,
        flags: SocketFlags::NO_DELAY,
        local: "0.0.0.0:0".parse().expect("an address"),
        remote: Some(peer()),
        backlog: 0,
        receive_limit: None,
    };
    same_request(
        "socket_open_request_stream",
        SocketOpenRequest {
            local: SocketAddress::NONE,
            ..SocketOpenRequest::from(&stream)
        },
        Command::SocketOpen(stream),
    );
    same(
        "socket_open_reply",
        SocketOpenReply {
            header: reply(80),
            id: ID,
            local: v6(0xc001).into(),
            remote: v4(),
        },
    );
    same_request(
        "socket_accept_request",
        SocketAcceptRequest::new(ID),
        Command::SocketAccept { listener: ID },
    );
    same_request(
        "socket_shutdown_request",
        SocketShutdownRequest::new(ShutdownHow::Abort),
        Command::SocketShutdown(ShutdownHow::Abort),
    );
    same(
        "socket_shutdown_reply",
        SocketShutdownReply { header: reply(8) },
    );
}

#[test]
fn options_are_set_and_read() {
    let buffer = SocketSetting::ReceiveBuffer(0x10000);
    same_request(
        "socket_set_option_request",
        SocketSetOptionRequest::from(&buffer),
        Command::SocketSetOption(buffer),
    );
    let join = SocketSetting::JoinGroup(Group {
        address: "224.0.0.9".parse().expect("an address"),
        interface: 0x21,
    });
    same_request(
        "socket_set_option_request_group",
        SocketSetOptionRequest::from(&join),
        Command::SocketSetOption(join),
    );
    same(
        "socket_set_option_reply",
        SocketSetOptionReply { header: reply(8) },
    );
    same_request(
        "socket_get_option_request",
        SocketGetOptionRequest::new(SocketOption::Ttl),
        Command::SocketGetOption(SocketOption::Ttl),
    );
    same(
        "socket_get_option_reply",
        SocketGetOptionReply {
            header: reply(24),
            option: 9,
            reserved: 0,
            value: 0x40,
        },
    );
}

fn info(id: u64, kind: SocketKind, state: SocketState) -> SocketInfo {
    let nth = |n: u64| 0x70_0000_0000 + n;
    SocketInfo {
        id,
        kind: kind.into(),
        state: state.into(),
        local: v6(0xc001).into(),
        remote: (kind == SocketKind::TcpStream).then(peer).into(),
        bytes_in: nth(0),
        bytes_out: nth(1),
        reads: nth(2),
        writes: nth(3),
        queued: nth(4),
        refused: nth(5),
        opened_100ns: TIME,
        owner: 0x31,
        service: 0x32,
        flags: SocketFlags::NO_DELAY.bits(),
        status: status::CONNECTION_RESET,
        pending_reads: 0x33,
        pending_writes: 0x34,
    }
}

#[test]
fn sockets_are_listed() {
    same_request(
        "socket_info_request",
        SocketInfoRequest::new(),
        Command::SocketInfo,
    );
    same(
        "socket_info_reply",
        SocketInfoReply {
            header: reply(168),
            info: info(ID, SocketKind::TcpStream, SocketState::Failed),
        },
    );
    same_request(
        "socket_list_request",
        SocketListRequest::new(ID),
        Command::SocketList { cursor: ID },
    );
    let head = SocketListReply {
        header: reply(24 + 2 * 160),
        count: 2,
        total: 0x23,
        next: ID + 2,
    };
    let want = [
        info(ID + 1, SocketKind::TcpStream, SocketState::Connected),
        info(ID + 2, SocketKind::TcpListener, SocketState::Listening),
    ];
    let bytes = golden("socket_list_reply");
    let (got, rest) = SocketListReply::read_from_prefix(&bytes).expect("a list");
    assert_eq!(got, head);
    assert_eq!(<[SocketInfo; 2]>::read_from_bytes(rest), Ok(want));
    assert_eq!([head.as_bytes(), want.as_bytes()].concat(), bytes);
}

#[test]
fn names_are_resolved() {
    let request = ResolveRequest::new("h\u{f6}st", Some("ftp"), Some(IpVersion::V6));
    let request = request.expect("short names");
    same_request("resolve_request", request, Command::Resolve);
    let query = request.query().expect("a good one");
    let units: Vec<u16> = "h\u{f6}st\0".encode_utf16().collect();
    assert_eq!(query.name, units);
    let head = ResolveReply {
        header: reply(80),
        total: 5,
        count: 2,
    };
    let want = [v4(), v6(8080).into()];
    let bytes = golden("resolve_reply");
    let (got, rest) = ResolveReply::read_from_prefix(&bytes).expect("a list");
    assert_eq!(got, head);
    assert_eq!(<[SocketAddress; 2]>::read_from_bytes(rest), Ok(want));
    assert_eq!([head.as_bytes(), want.as_bytes()].concat(), bytes);
}

#[test]
fn datagrams_are_read_and_written() {
    let bytes = golden("datagram_read");
    let flags = DatagramFlags::TRUNCATED | DatagramFlags::MULTICAST;
    assert_eq!(datagram_read(&bytes), Ok((v6(7), flags, &b"datum"[..])));
    let record = DatagramRecord::new(5, flags, Some(v6(7))).expect("short");
    assert_eq!([record.as_bytes(), b"datum"].concat(), bytes);

    let bytes = golden("datagram_write");
    assert_eq!(datagram_write(&bytes, bytes.len()), Ok(None));
    let record = DatagramRecord::new(3, DatagramFlags::empty(), None).expect("short");
    assert_eq!([record.as_bytes(), b"abc"].concat(), bytes);
}
