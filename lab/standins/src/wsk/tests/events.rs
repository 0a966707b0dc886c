//! Event callbacks of listeners and connections, and many connections at once.

use super::super::{engine, status};
use super::*;
use crate::core::config::Point;
use crate::core::fault;
use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::LazyLock;

/// What happened to one accepted connection.
#[derive(Default)]
struct Seen {
    data: Vec<u8>,
    disconnects: Vec<u32>,
    refuse: usize,
    /// Keep each list, and say which.
    keep: bool,
    kept: Vec<usize>,
    broken: bool,
}

/// The bytes of a list, wherever its buffers have them.
///
/// # Safety
/// A list that the client has.
pub(super) unsafe fn content(list: *mut WskDataIndication) -> Vec<u8> {
    let mut data = Vec::new();
    let mut now = list;
    // SAFETY: the caller's.
    while let Some(one) = unsafe { now.as_ref() } {
        // SAFETY: an element of the list.
        data.extend(unsafe { bytes_of(&one.buffer) });
        now = one.next;
    }
    data
}

static SEEN: LazyLock<Mutex<HashMap<usize, Seen>>> = LazyLock::new(Default::default);
static CHANGED: Condvar = Condvar::new();
static CONNECTION: WskClientConnectionDispatch = WskClientConnectionDispatch {
    receive_event: Some(receive_event),
    disconnect_event: Some(disconnect_event),
    send_backlog_event: None,
};

/// The context of a connection is its socket.
unsafe extern "system" fn accept_event(
    context: *mut c_void,
    _flags: u32,
    _local: *mut c_void,
    _remote: *mut c_void,
    socket: *mut WskSocket,
    socket_context: *mut *mut c_void,
    dispatch: *mut *const WskClientConnectionDispatch,
) -> NtStatus {
    if !context.is_null() {
        return status::REQUEST_NOT_ACCEPTED;
    }
    if socket.is_null() {
        engine::lock(&SEEN).insert(0, Seen::default());
        CHANGED.notify_all();
        return status::REQUEST_NOT_ACCEPTED;
    }
    engine::lock(&SEEN).insert(
        socket as usize,
        Seen {
            refuse: 2,
            ..Seen::default()
        },
    );
    // SAFETY: out-parameters of the callback.
    unsafe { socket_context.write(socket.cast()) };
    // SAFETY: as above.
    unsafe { dispatch.write(&raw const CONNECTION) };
    CHANGED.notify_all();
    status::SUCCESS
}

unsafe extern "system" fn receive_event(
    context: *mut c_void,
    _flags: u32,
    list: *mut WskDataIndication,
    bytes: usize,
    accepted: *mut usize,
) -> NtStatus {
    let mut all = engine::lock(&SEEN);
    let Some(seen) = all.get_mut(&(context as usize)) else {
        return status::DATA_NOT_ACCEPTED;
    };
    if list.is_null() {
        // "The socket is no longer functional".
        seen.broken = true;
        CHANGED.notify_all();
        return status::SUCCESS;
    }
    // SAFETY: the provider's list, valid during the call.
    let data = unsafe { content(list) };
    assert_eq!(data.len(), bytes);
    if seen.keep {
        seen.kept.push(list as usize);
        CHANGED.notify_all();
        return status::PENDING;
    }
    // First refuse, then take one byte only, then all.
    let (answer, taken) = match seen.refuse {
        2 => (status::DATA_NOT_ACCEPTED, 0),
        1 => (status::SUCCESS, 1),
        _ => (status::SUCCESS, bytes),
    };
    seen.refuse = seen.refuse.saturating_sub(1);
    seen.data.extend(data.iter().take(taken));
    if taken == 1 {
        // SAFETY: out-parameter of the callback.
        unsafe { accepted.write(1) };
    }
    CHANGED.notify_all();
    answer
}

unsafe extern "system" fn disconnect_event(context: *mut c_void, flags: u32) -> NtStatus {
    if let Some(seen) = engine::lock(&SEEN).get_mut(&(context as usize)) {
        seen.disconnects.push(flags & WSK_FLAG_ABORTIVE);
    }
    CHANGED.notify_all();
    status::SUCCESS
}

fn wait_for(what: &str, mut until: impl FnMut(&mut HashMap<usize, Seen>) -> bool) {
    let all = engine::lock(&SEEN);
    let (_guard, timeout) = CHANGED
        .wait_timeout_while(all, PATIENCE, |all| !until(all))
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    assert!(!timeout.timed_out(), "{what}");
}

fn table(socket: *mut WskSocket) -> &'static ConnectionDispatch {
    table_of(socket)
}

fn listener(client: &Client, context: *mut c_void) -> (*mut WskSocket, SocketAddr) {
    static LISTEN: WskClientListenDispatch = WskClientListenDispatch {
        accept_event: Some(accept_event),
        inspect_event: None,
        abort_event: None,
    };
    let dispatch = (&raw const LISTEN).cast();
    let socket = client.socket(false, WSK_FLAG_LISTEN_SOCKET, context, dispatch);
    let table: &'static ListenDispatch = table_of(socket);
    match bind_with(table.bind, table.get_local_address, socket, loopback(false)) {
        Ok(address) => (socket, address),
        Err(status) => panic!("bind: {status:#x}"),
    }
}

/// A receive of no bytes: "re-enabling WskReceiveEvent".
fn nudge(socket: *mut WskSocket) {
    let mut nothing = WskBuf {
        mdl: null_mut(),
        offset: 0,
        length: 0,
    };
    // SAFETY: WskReceive as documented, with an empty buffer.
    let result = call(|irp| unsafe { (table(socket).receive)(socket, &mut nothing, 0, irp) });
    assert_eq!(result.0, status::SUCCESS);
}

#[test]
fn data_and_ends_of_accepted_connections_are_told() {
    let _alone = alone();
    engine::lock(&SEEN).clear();
    let client = Client::new();
    let (listening, at) = listener(&client, null_mut());
    let mask = WSK_EVENT_ACCEPT | WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT;
    assert_eq!(super::events(listening, mask), status::SUCCESS);
    for abortive in [false, true] {
        engine::lock(&SEEN).clear();
        let mut host = TcpStream::connect(at).unwrap_or_else(|e| panic!("{e}"));
        wait_for("no connection", |all| all.len() == 1);
        let socket = engine::lock(&SEEN).keys().next().copied().unwrap_or(0);
        let socket = std::ptr::with_exposed_provenance_mut::<WskSocket>(socket);
        host.write_all(b"first").unwrap_or_else(|e| panic!("{e}"));
        wait_for("not refused", |all| {
            all.values().all(|seen| seen.refuse == 1)
        });
        nudge(socket);
        wait_for("not the first byte", |all| {
            all.values().all(|seen| seen.data == b"f")
        });
        nudge(socket);
        host.write_all(b", second")
            .unwrap_or_else(|e| panic!("{e}"));
        wait_for("not all data", |all| {
            all.values().all(|seen| seen.data == b"first, second")
        });
        if abortive {
            let raw = std::os::windows::io::AsRawSocket::as_raw_socket(&host) as usize;
            super::reset_on_close(raw);
        }
        drop(host);
        let flags = if abortive { WSK_FLAG_ABORTIVE } else { 0 };
        wait_for("not the end", |all| {
            all.values().all(|seen| seen.disconnects == [flags])
        });
        close(socket);
    }
    close(listening);
}

#[test]
fn a_rejected_connection_is_closed() {
    let _alone = alone();
    let client = Client::new();
    let (listening, at) = listener(&client, std::ptr::without_provenance_mut(1));
    assert_eq!(super::events(listening, WSK_EVENT_ACCEPT), status::SUCCESS);
    assert_refused(at);
    close(listening);
}

#[test]
fn a_listener_that_fails_says_so() {
    let _alone = alone();
    engine::lock(&SEEN).clear();
    let client = Client::new();
    let (listening, at) = listener(&client, null_mut());
    let point = Point {
        point: "wsk.WskAcceptEvent".to_owned(),
        nth: 1,
        status: status::INSUFFICIENT_RESOURCES,
    };
    fault::set(None, vec![point]);
    assert_eq!(super::events(listening, WSK_EVENT_ACCEPT), status::SUCCESS);
    assert_refused(at);
    wait_for("not told", |all| all.contains_key(&0));
    fault::set(None, Vec::new());
    close(listening);
}

#[test]
fn the_end_is_told_without_taking_data() {
    let _alone = alone();
    engine::lock(&SEEN).clear();
    let client = Client::new();
    let (listening, at) = listener(&client, null_mut());
    let mask = WSK_EVENT_ACCEPT | WSK_EVENT_DISCONNECT;
    assert_eq!(super::events(listening, mask), status::SUCCESS);
    let mut host = TcpStream::connect(at).unwrap_or_else(|e| panic!("{e}"));
    wait_for("no connection", |all| all.len() == 1);
    let socket = engine::lock(&SEEN).keys().next().copied().unwrap_or(0);
    let socket = std::ptr::with_exposed_provenance_mut::<WskSocket>(socket);
    host.write_all(b"data").unwrap_or_else(|e| panic!("{e}"));
    drop(host);
    let mut memory = Memory::new(&[0; 16]);
    // SAFETY: WskReceive as documented; the memory outlives the IRP.
    let got = call(|irp| unsafe { (table(socket).receive)(socket, memory.buf(), 0, irp) });
    assert_eq!(got, (status::SUCCESS, 4));
    wait_for("not the end", |all| {
        all.values().all(|seen| seen.disconnects == [0])
    });
    close(socket);
    close(listening);
}

#[test]
fn events_are_switched_off() {
    let _alone = alone();
    engine::lock(&SEEN).clear();
    let client = Client::new();
    let (listening, at) = listener(&client, null_mut());
    assert_eq!(super::events(listening, WSK_EVENT_ACCEPT), status::SUCCESS);
    let off = super::events(listening, WSK_EVENT_ACCEPT | WSK_EVENT_DISABLE);
    assert!(off == status::SUCCESS || off == status::EVENT_PENDING);
    let _host = TcpStream::connect(at).unwrap_or_else(|e| panic!("{e}"));
    std::thread::sleep(Duration::from_millis(200));
    assert!(engine::lock(&SEEN).is_empty());
    // The connection is still there for who asks.
    assert_eq!(super::events(listening, WSK_EVENT_ACCEPT), status::SUCCESS);
    wait_for("no connection", |all| all.len() == 1);
    let socket = engine::lock(&SEEN).keys().next().copied().unwrap_or(0);
    close(std::ptr::with_exposed_provenance_mut(socket));
    close(listening);
}

#[test]
fn five_hundred_connections_at_once() {
    const MANY: usize = 500;
    let _alone = alone();
    engine::lock(&SEEN).clear();
    let client = Client::new();
    let (listening, at) = listener(&client, null_mut());
    assert_eq!(super::events(listening, WSK_EVENT_ACCEPT), status::SUCCESS);
    let hosts: Vec<_> = (0..MANY)
        .map(|_| TcpStream::connect(at).unwrap_or_else(|e| panic!("{e}")))
        .collect();
    wait_for("not all connections", |all| all.len() == MANY);
    let sockets: Vec<usize> = engine::lock(&SEEN).keys().copied().collect();
    let mut memories: Vec<_> = sockets.iter().map(|_| Memory::new(&[0; 8])).collect();
    let requests: Vec<_> = sockets.iter().map(|_| Request::new()).collect();
    for ((socket, memory), request) in sockets.iter().zip(&mut memories).zip(&requests) {
        let socket = std::ptr::with_exposed_provenance_mut(*socket);
        // SAFETY: WskReceive as documented; waited for below.
        unsafe { (table(socket).receive)(socket, memory.buf(), 0, request.irp()) };
    }
    for mut host in &hosts {
        host.write_all(b"hi").unwrap_or_else(|e| panic!("{e}"));
    }
    for request in &requests {
        assert_eq!(request.wait(), (status::SUCCESS, 2));
    }
    for socket in sockets {
        close(std::ptr::with_exposed_provenance_mut(socket));
    }
    close(listening);
}

/// Accepts one connection with all its events on.
fn accepted(
    client: &Client,
    prepare: impl FnOnce(&mut Seen),
) -> (*mut WskSocket, *mut WskSocket, TcpStream) {
    engine::lock(&SEEN).clear();
    let (listening, at) = listener(client, null_mut());
    let mask = WSK_EVENT_ACCEPT | WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT;
    assert_eq!(super::events(listening, mask), status::SUCCESS);
    let host = TcpStream::connect(at).unwrap_or_else(|e| panic!("{e}"));
    wait_for("no connection", |all| all.len() == 1);
    let mut all = engine::lock(&SEEN);
    let (socket, seen) = all.iter_mut().next().unwrap_or_else(|| panic!("none"));
    prepare(seen);
    (
        listening,
        std::ptr::with_exposed_provenance_mut(*socket),
        host,
    )
}

fn only<R>(f: impl FnOnce(&mut Seen) -> R) -> R {
    let mut all = engine::lock(&SEEN);
    f(all.values_mut().next().unwrap_or_else(|| panic!("none")))
}

#[test]
fn lists_that_are_kept_hold_their_data_until_they_are_released() {
    let _alone = alone();
    let client = Client::new();
    let (listening, socket, mut host) = accepted(&client, |seen| seen.keep = true);
    let mut sent = Vec::new();
    for round in 0..20_u8 {
        let part: Vec<u8> = (0..=round).map(|byte| byte.wrapping_mul(31)).collect();
        host.write_all(&part).unwrap_or_else(|e| panic!("{e}"));
        sent.extend(part);
        // The next comes though the last is kept.
        let bytes = sent.len();
        wait_for("not told", |all| {
            let seen = all.values().next();
            seen.is_some_and(|seen| held(&seen.kept).len() == bytes)
        });
    }
    let kept = only(|seen| std::mem::take(&mut seen.kept));
    assert_eq!(held(&kept), sent);
    for list in kept.into_iter().rev() {
        let list = std::ptr::with_exposed_provenance_mut(list);
        // SAFETY: WskRelease of a kept list, once.
        let released = unsafe { (table(socket).release)(socket, list) };
        assert_eq!(released, status::SUCCESS);
    }
    close(socket);
    close(listening);
}

fn held(lists: &[usize]) -> Vec<u8> {
    let list = |list: &usize| std::ptr::with_exposed_provenance_mut(*list);
    // SAFETY: lists that were kept and are not released yet.
    lists
        .iter()
        .flat_map(|one| unsafe { content(list(one)) })
        .collect()
}

#[test]
fn a_receive_takes_what_a_callback_refused() {
    let _alone = alone();
    let client = Client::new();
    let (listening, socket, mut host) = accepted(&client, |_| {});
    host.write_all(b"refused").unwrap_or_else(|e| panic!("{e}"));
    wait_for("not refused", |all| {
        all.values().all(|seen| seen.refuse == 1)
    });
    // More comes, and the callback stays quiet: the data waits.
    host.write_all(b", waiting")
        .unwrap_or_else(|e| panic!("{e}"));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(only(|seen| (seen.refuse, seen.data.len())), (1, 0));
    let mut memory = Memory::new(&[0; 16]);
    let all = WSK_FLAG_WAITALL;
    // SAFETY: WskReceive as documented; the memory outlives the IRP.
    let got = call(|irp| unsafe { (table(socket).receive)(socket, memory.buf(), all, irp) });
    assert_eq!(got, (status::SUCCESS, 16));
    assert_eq!(&*memory.bytes, b"refused, waiting");
    // And the callback is back: it takes a byte of this.
    host.write_all(b"more").unwrap_or_else(|e| panic!("{e}"));
    wait_for("not told", |all| all.values().all(|seen| seen.data == b"m"));
    close(socket);
    close(listening);
}

#[test]
fn a_receive_made_meanwhile_gets_what_a_callback_then_refuses() {
    let _alone = alone();
    let client = Client::new();
    let (listening, socket, mut host) = accepted(&client, |_| {});
    let mut memory = Memory::new(&[0; 7]);
    let request = Request::new();
    let meanwhile = engine::lock(&SEEN);
    host.write_all(b"refused").unwrap_or_else(|e| panic!("{e}"));
    // The callback has begun by then, and waits for the lock.
    std::thread::sleep(Duration::from_millis(100));
    let all = WSK_FLAG_WAITALL;
    // SAFETY: WskReceive as documented; the memory outlives the IRP.
    let answer = unsafe { (table(socket).receive)(socket, memory.buf(), all, request.irp()) };
    assert_eq!(answer, status::PENDING);
    drop(meanwhile);
    assert_eq!(request.wait(), (status::SUCCESS, 7));
    assert_eq!(&*memory.bytes, b"refused");
    assert_eq!(only(|seen| (seen.refuse, seen.data.len())), (1, 0));
    close(socket);
    close(listening);
}

#[test]
fn a_reset_is_told_though_data_was_refused() {
    let _alone = alone();
    let client = Client::new();
    let (listening, socket, mut host) = accepted(&client, |_| {});
    host.write_all(b"refused").unwrap_or_else(|e| panic!("{e}"));
    wait_for("not refused", |all| {
        all.values().all(|seen| seen.refuse == 1)
    });
    super::reset_on_close(std::os::windows::io::AsRawSocket::as_raw_socket(&host) as usize);
    drop(host);
    wait_for("not the reset", |all| {
        all.values()
            .all(|seen| seen.disconnects == [WSK_FLAG_ABORTIVE])
    });
    // "No further data will be received from the socket."
    let mut memory = Memory::new(&[0; 16]);
    // SAFETY: WskReceive as documented; the memory outlives the IRP.
    let got = call(|irp| unsafe { (table(socket).receive)(socket, memory.buf(), 0, irp) });
    assert_eq!(got.0, status::CONNECTION_RESET);
    close(socket);
    close(listening);
}

#[test]
fn a_connection_that_fails_says_so() {
    let _alone = alone();
    let client = Client::new();
    let (listening, socket, mut host) = accepted(&client, |_| {});
    let point = Point {
        point: "wsk.WskReceiveEvent".to_owned(),
        nth: 1,
        status: status::INSUFFICIENT_RESOURCES,
    };
    fault::set(None, vec![point]);
    host.write_all(b"data").unwrap_or_else(|e| panic!("{e}"));
    wait_for("not told", |all| all.values().all(|seen| seen.broken));
    fault::set(None, Vec::new());
    let mut memory = Memory::new(&[0; 16]);
    // SAFETY: WskReceive as documented; the memory outlives the IRP.
    let got = call(|irp| unsafe { (table(socket).receive)(socket, memory.buf(), 0, irp) });
    assert_eq!(got.0, status::FILE_FORCED_CLOSED);
    close(socket);
    close(listening);
}

#[test]
fn accepts_are_served_in_their_order_and_the_rest_waits() {
    let _alone = alone();
    let client = Client::new();
    let (listening, at) = listener(&client, null_mut());
    let accept = || {
        let request = Request::new();
        let (table, none): (&ListenDispatch, _) = (table_of(listening), null_mut());
        // SAFETY: WskAccept as documented.
        unsafe { (table.accept)(listening, 0, none, null(), none, none, request.irp()) };
        request
    };
    let done = |request: &Request| {
        let (status, socket) = request.wait();
        assert_eq!(status, status::SUCCESS);
        std::ptr::with_exposed_provenance_mut::<WskSocket>(socket)
    };
    let waiting: Vec<_> = (0..4).map(|_| accept()).collect();
    // The second is taken back: the others move up.
    // SAFETY: the IRP is pending.
    unsafe { crate::nt::irp::IoCancelIrp(waiting[1].irp()) };
    assert_eq!(waiting[1].wait().0, status::CANCELLED);
    let connect = || TcpStream::connect(at).unwrap_or_else(|e| panic!("{e}"));
    let mut hosts = Vec::new();
    let mut sockets = Vec::new();
    for nth in [0, 2] {
        hosts.push(connect());
        sockets.push(done(&waiting[nth]));
    }
    assert!(!waiting[3].is_done());
    hosts.push(connect());
    sockets.push(done(&waiting[3]));
    // Nobody asks: connections wait, and are there when somebody does.
    hosts.push(connect());
    hosts.push(connect());
    std::thread::sleep(Duration::from_millis(50));
    sockets.push(done(&accept()));
    sockets.push(done(&accept()));
    // One who asks is told that the listener closed.
    let last = accept();
    close(listening);
    assert_eq!(last.wait().0, status::CANCELLED);
    for socket in sockets {
        close(socket);
    }
}
