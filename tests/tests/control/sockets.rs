//! The IOCTLs of sockets: what reaches them, what comes back, and what doesn't.

use weir_abi::{
    ResolveRequest, ShutdownHow, SocketAcceptRequest, SocketGetOptionReply, SocketGetOptionRequest,
    SocketInfo, SocketInfoReply, SocketInfoRequest, SocketListReply, SocketListRequest,
    SocketOpenReply, SocketOpenRequest, SocketOption, SocketSetOptionRequest, SocketSetting,
    SocketShutdownRequest, SocketSpec,
};

use super::socket::{ASKED, Asked, LISTENER};
use super::*;

const INVALID_DEVICE_STATE: NtStatus = NtStatus(weir_abi::status::INVALID_DEVICE_STATE);

fn open_request() -> SocketOpenRequest {
    SocketOpenRequest {
        header: RequestHeader::of::<SocketOpenRequest>(),
        kind: weir_abi::SocketKind::TcpStream.into(),
        flags: 0,
        local: SocketAddress::NONE,
        remote: "127.0.0.1:7"
            .parse::<std::net::SocketAddr>()
            .unwrap()
            .into(),
        backlog: 0,
        receive_limit: 0,
    }
}

fn reader_stats() -> ReaderStatsRequest {
    ReaderStatsRequest {
        header: RequestHeader::of::<ReaderStatsRequest>(),
    }
}

fn asked() -> Vec<Asked> {
    std::mem::take(&mut ASKED.lock().unwrap())
}

#[test]
fn what_is_asked_of_a_socket_reaches_it_whole() {
    let driver = Loaded::new();
    let file = UserFile::open();
    asked();
    let (opened, rest): (SocketOpenReply, _) = ask(&file, &open_request(), 9);
    assert_eq!((opened.id, rest.len()), (LISTENER, 0));
    let _ = ask(&file, &SocketShutdownRequest::new(ShutdownHow::Abort), 0);
    let ttl = SocketSetting::Ttl(9);
    let _ = ask(&file, &SocketSetOptionRequest::from(&ttl), 0);
    let get = SocketGetOptionRequest::new(SocketOption::MulticastLoop);
    let (got, _): (SocketGetOptionReply, _) = ask(&file, &get, 0);
    assert_eq!((got.option, got.value), (12, 0x40));
    let (info, _): (SocketInfoReply, _) = ask(&file, &SocketInfoRequest::new(), 0);
    assert_eq!(info.info.id, LISTENER);
    let accepted = UserFile::open();
    let (reply, _) = ask(&accepted, &SocketAcceptRequest::new(LISTENER), 0);
    assert_eq!(reply.id, 8);
    let spec = SocketSpec::try_from(&open_request()).expect("it makes sense");
    assert_eq!(
        asked(),
        [
            Asked::Open(spec),
            Asked::Shutdown(ShutdownHow::Abort),
            Asked::Set(ttl),
            Asked::Get(SocketOption::MulticastLoop),
            Asked::Accept(LISTENER),
        ]
    );
    driver.unload();
}

#[test]
fn a_handle_that_is_no_socket_is_none() {
    let driver = Loaded::new();
    let file = UserFile::open();
    asked();
    let wrong = INVALID_DEVICE_STATE;
    let shutdown = SocketShutdownRequest::new(ShutdownHow::Send);
    let set = SocketSetOptionRequest::from(&SocketSetting::NoDelay(true));
    let get = SocketGetOptionRequest::new(SocketOption::Ttl);
    assert_eq!(refused(&file, &shutdown), wrong);
    assert_eq!(refused(&file, &set), wrong);
    assert_eq!(refused(&file, &get), wrong);
    assert_eq!(refused(&file, &SocketInfoRequest::new()), wrong);
    assert_eq!(asked(), []);
    // Nor is one that has another role, and a socket has none.
    let (_, _): (OpenCaptureReply, _) = ask(&file, &capture_request(), 0);
    assert_eq!(refused(&file, &open_request()), wrong);
    assert_eq!(refused(&file, &set), wrong);
    close(&file);
    let socket = UserFile::open();
    let _ = ask(&socket, &open_request(), 0);
    assert_eq!(refused(&socket, &capture_request()), wrong);
    assert_eq!(refused(&socket, &open_request()), wrong);
    assert_eq!(refused(&socket, &SocketAcceptRequest::new(LISTENER)), wrong);
    assert_eq!(refused(&socket, &reader_stats()), wrong);
    driver.unload();
}

#[test]
fn what_makes_no_sense_reaches_no_socket() {
    let driver = Loaded::new();
    let file = UserFile::open();
    asked();
    let text = include_str!("../../golden/bad-input.txt");
    let mut cases = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let &[name, code, room, want, hex] = columns.as_slice() else {
            panic!("five columns: {line}");
        };
        let of_sockets = [
            "socket-",
            "shutdown-",
            "set-option-",
            "get-option-",
            "resolve-",
        ];
        let needs_state = ["socket-open-not-local"];
        if !of_sockets.iter().any(|start| name.starts_with(start)) || needs_state.contains(&name) {
            continue;
        }
        let code = u32::from_str_radix(code.trim_start_matches("0x"), 16).expect("a code");
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"))
            .collect();
        let (status, out) = call(&file, code, &bytes, room.parse().expect("a length"));
        let info = weir_abi::status::info(status.0).expect("a status of the contract");
        assert_eq!((info.name, out.len()), (want, 0), "{name}");
        cases += 1;
    }
    assert!(cases >= 45, "{cases} cases");
    assert_eq!(asked(), []);
    assert_eq!(
        refused(&file, &SocketAcceptRequest::new(1)),
        NtStatus::NOT_FOUND
    );
    let name = ResolveRequest::new("nobody.example", None, None).expect("short");
    assert_eq!(refused(&file, &name), NtStatus(weir_abi::status::NO_MATCH));
    assert_eq!(asked(), [Asked::Accept(1), Asked::Resolve]);
    driver.unload();
}

#[test]
fn the_list_goes_on_where_it_was_left() {
    let driver = Loaded::new();
    let file = UserFile::open();
    let mut seen = Vec::new();
    let mut cursor = 0;
    for _ in 0..4 {
        let request = SocketListRequest::new(cursor);
        // Room for two entries, and some that is of no use.
        let (list, rest): (SocketListReply, _) = ask(&file, &request, 2 * 160 + 100);
        assert_eq!(list.total, 4);
        assert_eq!(rest.len(), list.count as usize * size_of::<SocketInfo>());
        for entry in rest.chunks_exact(size_of::<SocketInfo>()) {
            seen.push(SocketInfo::read_from_bytes(entry).expect("an entry").id);
        }
        cursor = list.next;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen, [7, 8, 9, service::SOCKET]);
    // No room for any: it is still to come.
    for cursor in [0, 7] {
        let (list, _): (SocketListReply, _) = ask(&file, &SocketListRequest::new(cursor), 159);
        assert_eq!((list.count, list.next), (0, 7));
    }
    driver.unload();
}
