//! TCP: accepting, connecting, sending, receiving, ending.

use super::super::{engine, status};
use super::*;
use crate::core::config::Point;
use crate::core::fault;
use crate::nt::irp::IoCancelIrp;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use windows_sys::Win32::Networking::WinSock as ws;

fn table(socket: *mut WskSocket) -> &'static ConnectionDispatch {
    table_of(socket)
}

/// Binds a connection to the loopback.
pub(super) fn bind(socket: *mut WskSocket) -> Result<SocketAddr, NtStatus> {
    let table = table(socket);
    bind_with(table.bind, table.get_local_address, socket, loopback(false))
}

fn listen_table(socket: *mut WskSocket) -> &'static ListenDispatch {
    table_of(socket)
}

fn listener(client: &Client, v6: bool) -> (*mut WskSocket, SocketAddr) {
    let socket = client.socket(v6, WSK_FLAG_LISTEN_SOCKET, null_mut(), null());
    let table = listen_table(socket);
    match bind_with(table.bind, table.get_local_address, socket, loopback(v6)) {
        Ok(address) => (socket, address),
        Err(status) => panic!("bind: {status:#x}"),
    }
}

fn start_accept(socket: *mut WskSocket, request: &Request) -> NtStatus {
    // SAFETY: WskAccept as documented, without addresses.
    unsafe {
        (listen_table(socket).accept)(
            socket,
            0,
            null_mut(),
            null(),
            null_mut(),
            null_mut(),
            request.irp(),
        )
    }
}

/// A connected pair: the kernel's side and the host's.
fn pair(client: &Client, v6: bool) -> (*mut WskSocket, TcpStream) {
    let (listening, at) = listener(client, v6);
    let accept = Request::new();
    start_accept(listening, &accept);
    let host = TcpStream::connect(at).unwrap_or_else(|e| panic!("{e}"));
    host.set_read_timeout(Some(PATIENCE))
        .unwrap_or_else(|e| panic!("{e}"));
    let (status, socket) = accept.wait();
    assert_eq!(status, status::SUCCESS);
    close(listening);
    (std::ptr::with_exposed_provenance_mut(socket), host)
}

fn send(socket: *mut WskSocket, data: &[u8]) -> (NtStatus, usize) {
    let mut memory = Memory::new(data);
    // SAFETY: WskSend as documented; the memory outlives the IRP.
    call(|irp| unsafe { (table(socket).send)(socket, memory.buf(), 0, irp) })
}

fn receive(socket: *mut WskSocket, room: usize, flags: u32) -> Result<Vec<u8>, NtStatus> {
    let mut memory = Memory::new(&vec![0; room]);
    // SAFETY: WskReceive as documented; the memory outlives the IRP.
    let (status, bytes) =
        call(|irp| unsafe { (table(socket).receive)(socket, memory.buf(), flags, irp) });
    if status == status::SUCCESS {
        Ok(memory.bytes.iter().take(bytes).copied().collect())
    } else {
        Err(status)
    }
}

fn disconnect(socket: *mut WskSocket, flags: u32) -> NtStatus {
    // SAFETY: WskDisconnect as documented.
    call(|irp| unsafe { (table(socket).disconnect)(socket, null_mut(), flags, irp) }).0
}

#[test]
fn echo_over_both_families_and_an_orderly_end() {
    let _alone = alone();
    let client = Client::new();
    for v6 in [false, true] {
        let (socket, mut host) = pair(&client, v6);
        host.write_all(b"hello").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(receive(socket, 64, 0).as_deref(), Ok(&b"hello"[..]));
        assert_eq!(send(socket, b"world!"), (status::SUCCESS, 6));
        let mut back = [0; 6];
        host.read_exact(&mut back).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(&back, b"world!");
        // The host ends its side; the kernel sees it, and ends its own.
        host.shutdown(std::net::Shutdown::Write)
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(receive(socket, 64, 0).as_deref(), Ok(&b""[..]));
        assert_eq!(disconnect(socket, 0), status::SUCCESS);
        assert_eq!(send(socket, b"late").0, status::LOCAL_DISCONNECT);
        assert_eq!(host.read(&mut back).unwrap_or(99), 0);
        close(socket);
    }
}

#[test]
fn a_large_transfer_arrives_whole_and_in_order() {
    const SIZE: usize = 4 << 20;
    let _alone = alone();
    let client = Client::new();
    let (socket, mut host) = pair(&client, false);
    let data: Vec<u8> = (0..SIZE).map(|i| (i * 7 + i / 251) as u8).collect();
    let copy = data.clone();
    let writer = std::thread::spawn(move || {
        let mut got = vec![0; SIZE];
        host.read_exact(&mut got).map(|()| (got, host))
    });
    // Several sends at once: they must not overtake each other.
    let mut parts: Vec<_> = data.chunks(300_001).map(Memory::new).collect();
    let requests: Vec<_> = parts.iter().map(|_| Request::new()).collect();
    for (part, request) in parts.iter_mut().zip(&requests) {
        // SAFETY: WskSend as documented; memory and IRP live until waited for.
        unsafe { (table(socket).send)(socket, part.buf(), 0, request.irp()) };
    }
    let sent: usize = requests.iter().map(|request| request.wait().1).sum();
    assert_eq!(sent, SIZE);
    let Ok(Ok((got, mut host))) = writer.join() else {
        panic!("the host did not get it all");
    };
    assert!(got == copy, "the data changed on its way");
    // And back, with a receive that wants it all.
    let writer = std::thread::spawn(move || host.write_all(&copy).map(|()| host));
    assert!(receive(socket, SIZE, WSK_FLAG_WAITALL).as_deref() == Ok(&data[..]));
    drop(writer.join());
    close(socket);
}

#[test]
fn abortive_disconnect_and_close_reset_the_connection() {
    let _alone = alone();
    let client = Client::new();
    for by_close in [false, true] {
        let (socket, mut host) = pair(&client, false);
        let mut memory = Memory::new(&[0; 16]);
        let waiting = Request::new();
        // SAFETY: WskReceive as documented; waited for below.
        unsafe { (table(socket).receive)(socket, memory.buf(), 0, waiting.irp()) };
        if by_close {
            close(socket);
            assert_eq!(waiting.wait().0, status::CANCELLED);
        } else {
            assert_eq!(disconnect(socket, WSK_FLAG_ABORTIVE), status::SUCCESS);
            assert!(!status::is_success(waiting.wait().0));
            assert_eq!(receive(socket, 16, 0), Err(status::CONNECTION_ABORTED));
            close(socket);
        }
        assert_reset(&mut host);
    }
}

#[test]
fn the_other_sides_reset_is_seen() {
    let _alone = alone();
    let client = Client::new();
    let (socket, host) = pair(&client, false);
    let raw = std::os::windows::io::AsRawSocket::as_raw_socket(&host);
    super::reset_on_close(raw as usize);
    drop(host);
    // However late it is noticed.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(receive(socket, 16, 0), Err(status::CONNECTION_RESET));
    close(socket);
}

#[test]
fn requests_are_cancelled_one_by_one() {
    let _alone = alone();
    let client = Client::new();
    let (socket, mut host) = pair(&client, false);
    let mut memories: Vec<_> = (0..3).map(|_| Memory::new(&[0; 8])).collect();
    let requests: Vec<_> = (0..3).map(|_| Request::new()).collect();
    for (memory, request) in memories.iter_mut().zip(&requests) {
        // SAFETY: WskReceive as documented; waited for below.
        unsafe { (table(socket).receive)(socket, memory.buf(), 0, request.irp()) };
    }
    for cancelled in [1, 0] {
        // SAFETY: pending, and freed only after its completion.
        let ran = unsafe { IoCancelIrp(requests[cancelled].irp()) };
        assert_eq!(ran, 1);
        assert_eq!(requests[cancelled].wait().0, status::CANCELLED);
    }
    assert!(!requests[2].is_done());
    host.write_all(b"third").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(requests[2].wait(), (status::SUCCESS, 5));
    // Cancelled before it is even given away.
    let early = Request::new();
    let mut memory = Memory::new(&[0; 8]);
    // SAFETY: a live IRP.
    unsafe { IoCancelIrp(early.irp()) };
    // SAFETY: WskReceive as documented; waited for below.
    unsafe { (table(socket).receive)(socket, memory.buf(), 0, early.irp()) };
    assert_eq!(early.wait().0, status::CANCELLED);
    close(socket);
    let (listening, _) = listener(&client, false);
    let accept = Request::new();
    start_accept(listening, &accept);
    // SAFETY: pending, and freed only after its completion.
    unsafe { IoCancelIrp(accept.irp()) };
    assert_eq!(accept.wait().0, status::CANCELLED);
    close(listening);
}

/// A receive is cancelled while its byte comes: it ends once, as one or the
/// other, and no byte is lost.
#[test]
fn cancelling_races_with_completion() {
    const ROUNDS: usize = 2000;
    let _alone = alone();
    let client = Client::new();
    let (socket, mut host) = pair(&client, false);
    let (mut received, mut cancelled) = (0, 0);
    for round in 0..ROUNDS {
        let mut memory = Memory::new(&[0; 8]);
        let request = Request::new();
        // SAFETY: WskReceive as documented; waited for below.
        unsafe { (table(socket).receive)(socket, memory.buf(), 0, request.irp()) };
        // At first nothing can have come, so that both ends are seen.
        if round > 0 {
            host.write_all(b"x").unwrap_or_else(|e| panic!("{e}"));
        }
        for _ in 0..(round % 64) * 32 {
            std::hint::spin_loop();
        }
        // SAFETY: freed only after its completion.
        unsafe { IoCancelIrp(request.irp()) };
        match request.wait() {
            (status::SUCCESS, bytes) => received += bytes,
            (status, 0) => {
                assert_eq!(status, status::CANCELLED);
                cancelled += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        cancelled > 0 && received > 0,
        "{cancelled} cancelled, {received} came"
    );
    drop(host);
    while let Ok(rest) = receive(socket, 4096, 0) {
        if rest.is_empty() {
            break;
        }
        received += rest.len();
    }
    assert_eq!(received, ROUNDS - 1);
    close(socket);
}

#[test]
fn connecting_works_and_fails_with_the_documented_statuses() {
    let _alone = alone();
    let client = Client::new();
    let host = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|e| panic!("{e}"));
    let at = host.local_addr().unwrap_or_else(|e| panic!("{e}"));
    let connect = |at: SocketAddr| {
        let socket = client.socket(false, WSK_FLAG_CONNECTION_SOCKET, null_mut(), null());
        let table = table(socket);
        let bound = bind_with(table.bind, table.get_local_address, socket, loopback(false));
        assert!(bound.is_ok());
        let mut to = sockaddr(at);
        // SAFETY: WskConnect as documented.
        let result = call(|irp| unsafe { (table.connect)(socket, to.as_mut_ptr().cast(), 0, irp) });
        (socket, result.0)
    };
    let (socket, result) = connect(at);
    assert_eq!(result, status::SUCCESS);
    let Ok((mut peer, from)) = host.accept() else {
        panic!("no connection");
    };
    let mut bytes = [0; 28];
    // SAFETY: WskGetLocalAddress as documented.
    call(|irp| unsafe {
        (table(socket).get_local_address)(socket, bytes.as_mut_ptr().cast(), irp)
    });
    assert_eq!(address(&bytes), from);
    // SAFETY: WskGetRemoteAddress as documented.
    call(|irp| unsafe {
        (table(socket).get_remote_address)(socket, bytes.as_mut_ptr().cast(), irp)
    });
    assert_eq!(address(&bytes), at);
    peer.write_all(b"x").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(receive(socket, 1, 0).as_deref(), Ok(&b"x"[..]));
    close(socket);
    drop(host);
    let (socket, result) = connect(at);
    assert_eq!(result, status::CONNECTION_REFUSED);
    assert_eq!(send(socket, b"x").0, status::INVALID_CONNECTION);
    close(socket);
    // WskSocketConnect: all in one.
    let host = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|e| panic!("{e}"));
    let to = host.local_addr().unwrap_or_else(|e| panic!("{e}"));
    let one_call = |to: SocketAddr| {
        let (mut from, mut to) = (sockaddr(loopback(false)), sockaddr(to));
        call(|irp| {
            // SAFETY: WskSocketConnect as documented.
            unsafe {
                (client.dispatch().socket_connect)(
                    client.handle(),
                    SOCK_STREAM,
                    IPPROTO_TCP,
                    from.as_mut_ptr().cast(),
                    to.as_mut_ptr().cast(),
                    0,
                    null_mut(),
                    null(),
                    null_mut(),
                    null_mut(),
                    null_mut(),
                    irp,
                )
            }
        })
    };
    let (status, socket) = one_call(to);
    assert_eq!(status, status::SUCCESS);
    close(std::ptr::with_exposed_provenance_mut(socket));
    drop(host);
    assert_eq!(one_call(to).0, status::CONNECTION_REFUSED);
}

#[test]
fn addresses_are_shared_as_the_table_says() {
    let _alone = alone();
    let client = Client::new();
    let (first, at) = listener(&client, false);
    let bind = |option: Option<i32>| {
        let socket = client.socket(false, WSK_FLAG_LISTEN_SOCKET, null_mut(), null());
        if let Some(option) = option {
            assert_eq!(
                set_option(socket, ws::SOL_SOCKET, option, 1),
                status::SUCCESS
            );
        }
        let table = listen_table(socket);
        let result = bind_with(table.bind, table.get_local_address, socket, at);
        close(socket);
        result.err()
    };
    assert_eq!(bind(None), Some(status::ADDRESS_ALREADY_EXISTS));
    assert_eq!(
        bind(Some(ws::SO_EXCLUSIVEADDRUSE)),
        Some(status::ADDRESS_ALREADY_EXISTS)
    );
    assert_eq!(bind(Some(ws::SO_REUSEADDR)), Some(status::ACCESS_DENIED));
    close(first);
    assert_eq!(bind(Some(ws::SO_EXCLUSIVEADDRUSE)), None);
    // Somebody else on the host has it.
    let host = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|e| panic!("{e}"));
    let taken = host.local_addr().unwrap_or_else(|e| panic!("{e}"));
    let socket = client.socket(false, WSK_FLAG_LISTEN_SOCKET, null_mut(), null());
    let table = listen_table(socket);
    let result = bind_with(table.bind, table.get_local_address, socket, taken);
    assert_eq!(result, Err(status::ADDRESS_ALREADY_EXISTS));
    let elsewhere = "192.0.2.1:0".parse().unwrap_or(taken);
    let result = bind_with(table.bind, table.get_local_address, socket, elsewhere);
    assert_eq!(result, Err(status::INVALID_ADDRESS_COMPONENT));
    let wrong = bind_with(table.bind, table.get_local_address, socket, loopback(true));
    assert_eq!(wrong, Err(status::INVALID_ADDRESS_COMPONENT));
    close(socket);
}

#[test]
fn injected_failures_come_out_of_the_irp() {
    let _alone = alone();
    let client = Client::new();
    let point = |name: &str, nth| Point {
        point: format!("wsk.{name}"),
        nth,
        status: status::INSUFFICIENT_RESOURCES,
    };
    let (socket, mut host) = pair(&client, false);
    fault::set(None, vec![point("WskReceive", 2), point("WskSend", 1)]);
    host.write_all(b"abcd").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(receive(socket, 2, 0).as_deref(), Ok(&b"ab"[..]));
    assert_eq!(receive(socket, 2, 0), Err(status::INSUFFICIENT_RESOURCES));
    assert_eq!(receive(socket, 2, 0).as_deref(), Ok(&b"cd"[..]));
    assert_eq!(send(socket, b"x").0, status::INSUFFICIENT_RESOURCES);
    assert_eq!(send(socket, b"x").0, status::SUCCESS);
    fault::set(None, Vec::new());
    close(socket);
}

#[test]
fn both_ways_of_completing_occur() {
    let _alone = alone();
    let client = Client::new();
    let (socket, mut host) = pair(&client, false);
    let (mut at_once, mut later) = (0, 0);
    for _ in 0..64 {
        let mut memory = Memory::new(b"x");
        let request = Request::new();
        // SAFETY: WskSend as documented; waited for below.
        match unsafe { (table(socket).send)(socket, memory.buf(), 0, request.irp()) } {
            status::PENDING => later += 1,
            status => {
                assert_eq!(status, status::SUCCESS);
                assert!(request.is_done());
                at_once += 1;
            }
        }
        assert_eq!(request.wait(), (status::SUCCESS, 1));
    }
    assert!(at_once > 8 && later > 8, "{at_once} at once, {later} later");
    host.read_exact(&mut [0; 64])
        .unwrap_or_else(|e| panic!("{e}"));
    close(socket);
    let _ = engine::random();
}
