//! Conditional accept.

use super::super::{engine, host, status};
use super::*;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Condvar;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use windows_sys::Win32::Networking::WinSock as ws;

/// What the inspect callback is to answer, and what it and the others saw.
#[derive(Default)]
struct Script {
    answer: u32,
    /// Complete the inspection from within the callback.
    inside: Option<(usize, u32)>,
    asked: Vec<WskInspectId>,
    aborted: Vec<WskInspectId>,
}

static SCRIPT: Mutex<Script> = Mutex::new(Script {
    answer: WSK_INSPECT_ACCEPT,
    inside: None,
    asked: Vec::new(),
    aborted: Vec::new(),
});
static CHANGED: Condvar = Condvar::new();
static DISPATCH: WskClientListenDispatch = WskClientListenDispatch {
    accept_event: None,
    inspect_event: Some(inspect_event),
    abort_event: Some(abort_event),
};

unsafe extern "system" fn inspect_event(
    _context: *mut c_void,
    local: *mut c_void,
    remote: *mut c_void,
    id: *mut WskInspectId,
) -> u32 {
    assert!(!local.is_null() && !remote.is_null());
    // SAFETY: the provider's id, valid during the call.
    let id = unsafe { *id };
    let (answer, inside) = {
        let mut script = engine::lock(&SCRIPT);
        script.asked.push(id);
        (script.answer, script.inside.take())
    };
    if let Some((socket, action)) = inside {
        let decided = decide(std::ptr::with_exposed_provenance_mut(socket), id, action);
        assert_eq!(decided, status::SUCCESS);
    }
    CHANGED.notify_all();
    answer
}

unsafe extern "system" fn abort_event(_context: *mut c_void, id: *mut WskInspectId) -> NtStatus {
    // SAFETY: the provider's id, valid during the call.
    engine::lock(&SCRIPT).aborted.push(unsafe { *id });
    CHANGED.notify_all();
    status::SUCCESS
}

fn wait_for(what: &str, mut until: impl FnMut(&Script) -> bool) {
    let script = engine::lock(&SCRIPT);
    let (_script, timeout) = CHANGED
        .wait_timeout_while(script, PATIENCE, |script| !until(script))
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    assert!(!timeout.timed_out(), "{what}");
}

fn table(socket: *mut WskSocket) -> &'static ListenDispatch {
    table_of(socket)
}

fn decide(socket: *mut WskSocket, id: WskInspectId, action: u32) -> NtStatus {
    let mut id = id;
    // SAFETY: WskInspectComplete as documented.
    call(|irp| unsafe { (table(socket).inspect_complete)(socket, &raw mut id, action, irp) }).0
}

/// A listening socket in conditional accept mode that answers so, and is asked
/// when the host has made the connection.
fn listener(client: &Client, answer: u32) -> (*mut WskSocket, SocketAddr) {
    engine::GATE.store(false, Ordering::SeqCst);
    let made = listener_at(client, answer, loopback(false), false);
    engine::GATE.store(true, Ordering::SeqCst);
    made
}

/// One that is asked before the handshake; `None`, with a word about it, where
/// the host doesn't allow that.
fn gated(
    client: &Client,
    answer: u32,
    at: SocketAddr,
    both: bool,
) -> Option<(*mut WskSocket, SocketAddr)> {
    if !host::gate::allowed() {
        println!("no rights to put a gate before a listener: not tested");
        return None;
    }
    Some(listener_at(client, answer, at, both))
}

fn listener_at(
    client: &Client,
    answer: u32,
    at: SocketAddr,
    both: bool,
) -> (*mut WskSocket, SocketAddr) {
    *engine::lock(&SCRIPT) = Script {
        answer,
        ..Script::default()
    };
    let dispatch = (&raw const DISPATCH).cast();
    let socket = client.socket(at.is_ipv6(), WSK_FLAG_LISTEN_SOCKET, null_mut(), dispatch);
    if both {
        let set = set_option(socket, ws::IPPROTO_IPV6, ws::IPV6_V6ONLY, 0);
        assert_eq!(set, status::SUCCESS);
    }
    let on = set_option(socket, ws::SOL_SOCKET, SO_CONDITIONAL_ACCEPT, 1);
    assert_eq!(on, status::SUCCESS);
    let table = table(socket);
    match bind_with(table.bind, table.get_local_address, socket, at) {
        Ok(address) => (socket, address),
        Err(status) => panic!("bind: {status:#x}"),
    }
}

/// WskAccept, begun.
fn accept(listening: *mut WskSocket) -> Request {
    let request = Request::new();
    let none = null_mut();
    // SAFETY: WskAccept as documented.
    unsafe { (table(listening).accept)(listening, 0, none, null(), none, none, request.irp()) };
    request
}

fn connect(at: SocketAddr) -> TcpStream {
    let host = TcpStream::connect(at).unwrap_or_else(|e| panic!("{e}"));
    let _ = host.set_read_timeout(Some(PATIENCE));
    host
}

fn finish(accepted: &Request) {
    let (status, socket) = accepted.wait();
    assert_eq!(status, status::SUCCESS);
    close(std::ptr::with_exposed_provenance_mut(socket));
}

#[test]
fn a_connection_is_accepted_or_refused_as_the_callback_says() {
    let _alone = alone();
    let client = Client::new();
    let (listening, at) = listener(&client, WSK_INSPECT_REJECT);
    let accepted = accept(listening);
    assert_refused(at);
    assert!(!accepted.is_done());
    engine::lock(&SCRIPT).answer = WSK_INSPECT_ACCEPT;
    let _host = connect(at);
    finish(&accepted);
    let ids = engine::lock(&SCRIPT).asked.clone();
    assert!(ids.len() == 2 && ids[0] != ids[1]);
    close(listening);
}

#[test]
fn a_pended_inspection_waits_for_its_completion() {
    let _alone = alone();
    let client = Client::new();
    let (listening, at) = listener(&client, WSK_INSPECT_PEND);
    let accepted = accept(listening);
    let mut refused = connect(at);
    wait_for("not asked", |script| script.asked.len() == 1);
    let _taken = connect(at);
    wait_for("not asked", |script| script.asked.len() == 2);
    std::thread::sleep(Duration::from_millis(50));
    assert!(!accepted.is_done());
    let ids = engine::lock(&SCRIPT).asked.clone();
    assert_eq!(
        decide(listening, ids[0], WSK_INSPECT_REJECT),
        status::SUCCESS
    );
    assert_reset(&mut refused);
    assert!(!accepted.is_done());
    assert_eq!(
        decide(listening, ids[1], WSK_INSPECT_ACCEPT),
        status::SUCCESS
    );
    finish(&accepted);
    // One that is still being inspected when the listener closes is reset.
    let mut left = connect(at);
    wait_for("not asked", |script| script.asked.len() == 3);
    close(listening);
    assert_reset(&mut left);
}

#[test]
fn an_inspection_may_end_before_its_callback_does() {
    let _alone = alone();
    let client = Client::new();
    let (listening, at) = listener(&client, WSK_INSPECT_PEND);
    let accepted = accept(listening);
    for action in [WSK_INSPECT_REJECT, WSK_INSPECT_ACCEPT] {
        engine::lock(&SCRIPT).inside = Some((listening as usize, action));
        if action == WSK_INSPECT_REJECT {
            assert_refused(at);
        } else {
            let _host = connect(at);
            finish(&accepted);
        }
    }
    close(listening);
}

#[test]
fn a_peer_that_resets_while_it_is_inspected_is_told_of() {
    let _alone = alone();
    let client = Client::new();
    let (listening, at) = listener(&client, WSK_INSPECT_PEND);
    let accepted = accept(listening);
    let host = connect(at);
    wait_for("not asked", |script| script.asked.len() == 1);
    std::thread::sleep(Duration::from_millis(20));
    let raw = std::os::windows::io::AsRawSocket::as_raw_socket(&host);
    super::reset_on_close(raw as usize);
    drop(host);
    wait_for("not told", |script| script.aborted == script.asked);
    let id = engine::lock(&SCRIPT).asked[0];
    let late = decide(listening, id, WSK_INSPECT_ACCEPT);
    assert_eq!(late, status::CONNECTION_ABORTED);
    assert!(!accepted.is_done());
    close(listening);
    assert_eq!(accepted.wait().0, status::CANCELLED);
}

/// What becomes of a connection that somebody else is still to decide about.
fn connecting(at: SocketAddr) -> JoinHandle<Result<TcpStream, ErrorKind>> {
    std::thread::spawn(move || TcpStream::connect(at).map_err(|error| error.kind()))
}

fn outcome(connecting: JoinHandle<Result<TcpStream, ErrorKind>>) -> Result<TcpStream, ErrorKind> {
    connecting.join().unwrap_or_else(|_| panic!("panicked"))
}

/// The IP address a host connects to that has to reach `at`.
fn towards(at: SocketAddr, ip: &str) -> SocketAddr {
    let ip: IpAddr = ip.parse().unwrap_or_else(|_| panic!("{ip}"));
    SocketAddr::new(ip, at.port())
}

#[test]
fn a_peer_is_refused_or_let_in_before_the_handshake() {
    let _alone = alone();
    let client = Client::new();
    for (bound, both, to) in [
        ("127.0.0.1:0", false, "127.0.0.1"),
        ("[::1]:0", false, "::1"),
        ("[::]:0", true, "::1"),
        ("[::]:0", true, "127.0.0.1"),
        ("0.0.0.0:0", false, "127.0.0.2"),
    ] {
        let bound = bound.parse().unwrap_or_else(|_| panic!("{bound}"));
        let Some((listening, at)) = gated(&client, WSK_INSPECT_REJECT, bound, both) else {
            return;
        };
        let at = towards(at, to);
        let accepted = accept(listening);
        let refused = outcome(connecting(at)).map(drop);
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "{at}");
        assert!(!accepted.is_done());
        engine::lock(&SCRIPT).answer = WSK_INSPECT_ACCEPT;
        let begun = std::time::Instant::now();
        let mut host = connect(at);
        // The SYN is not sent a second time: a host waits a second for that.
        assert!(begun.elapsed() < Duration::from_millis(900), "{at}");
        host.write_all(b"data").unwrap_or_else(|e| panic!("{e}"));
        let (status, socket) = accepted.wait();
        assert_eq!(status, status::SUCCESS);
        let socket = std::ptr::with_exposed_provenance_mut::<WskSocket>(socket);
        let table: &ConnectionDispatch = table_of(socket);
        let mut memory = Memory::new(&[0; 4]);
        // SAFETY: WskReceive as documented; the memory outlives the IRP.
        let got = call(|irp| unsafe { (table.receive)(socket, memory.buf(), 0, irp) });
        assert_eq!((got, &*memory.bytes), ((status::SUCCESS, 4), &b"data"[..]));
        close(socket);
        assert_eq!(engine::lock(&SCRIPT).asked.len(), 2);
        close(listening);
    }
}

#[test]
fn a_pended_peer_gets_no_answer_until_it_is_decided() {
    let _alone = alone();
    let client = Client::new();
    let Some((listening, at)) = gated(&client, WSK_INSPECT_PEND, loopback(false), false) else {
        return;
    };
    let accepted = accept(listening);
    let refused = connecting(at);
    wait_for("not asked", |script| script.asked.len() == 1);
    let taken = connecting(at);
    wait_for("not asked", |script| script.asked.len() == 2);
    // Long enough for the SYN to come again, which is not asked about.
    std::thread::sleep(Duration::from_millis(1200));
    assert!(!refused.is_finished() && !taken.is_finished() && !accepted.is_done());
    let ids = engine::lock(&SCRIPT).asked.clone();
    assert_eq!(ids.len(), 2);
    let reject = decide(listening, ids[0], WSK_INSPECT_REJECT);
    assert_eq!(reject, status::SUCCESS);
    assert_eq!(
        outcome(refused).map(drop),
        Err(ErrorKind::ConnectionRefused)
    );
    assert!(!accepted.is_done());
    let take = decide(listening, ids[1], WSK_INSPECT_ACCEPT);
    assert_eq!(take, status::SUCCESS);
    assert!(outcome(taken).is_ok());
    finish(&accepted);
    // One that is still being inspected when the listener closes is refused.
    let left = connecting(at);
    wait_for("not asked", |script| script.asked.len() == 3);
    close(listening);
    assert_eq!(outcome(left).map(drop), Err(ErrorKind::ConnectionRefused));
    assert!(engine::lock(&SCRIPT).aborted.is_empty());
}

/// Begins to connect from a port of its own (0: any), and gives up; the port.
fn gives_up(from: u16, at: SocketAddr, asked: usize) -> u16 {
    let mut local = sockaddr(loopback(false));
    local[2..4].copy_from_slice(&from.to_be_bytes());
    let to = sockaddr(at);
    // SAFETY: plain numbers.
    let host = unsafe { ws::socket(ws::AF_INET.into(), ws::SOCK_STREAM, ws::IPPROTO_TCP) };
    let one = 1u32;
    // SAFETY: an open socket and a value of four bytes.
    unsafe {
        ws::setsockopt(
            host,
            ws::SOL_SOCKET,
            ws::SO_REUSEADDR,
            (&raw const one).cast(),
            4,
        )
    };
    // SAFETY: an open socket and an address of 16 bytes.
    assert_eq!(unsafe { ws::bind(host, local.as_ptr().cast(), 16) }, 0);
    let mut len = 16;
    // SAFETY: room for an address.
    unsafe { ws::getsockname(host, local.as_mut_ptr().cast(), &mut len) };
    let mut on = 1;
    // SAFETY: an open socket and its variable.
    unsafe { ws::ioctlsocket(host, ws::FIONBIO, &mut on) };
    // SAFETY: an open socket and an address of 16 bytes.
    unsafe { ws::connect(host, to.as_ptr().cast(), 16) };
    wait_for("not asked", |script| script.asked.len() == asked);
    // SAFETY: an open socket, not used any more.
    unsafe { ws::closesocket(host) };
    u16::from_be_bytes([local[2], local[3]])
}

#[test]
fn a_peer_that_gives_up_before_its_connection_is_made_is_told_of() {
    let _alone = alone();
    let client = Client::new();
    let Some((listening, at)) = gated(&client, WSK_INSPECT_PEND, loopback(false), false) else {
        return;
    };
    let accepted = accept(listening);
    // It gives up without a word, and begins anew from the same port: what was
    // is over.
    let port = gives_up(0, at, 1);
    gives_up(port, at, 2);
    wait_for("not told", |script| script.aborted == script.asked[..1]);
    let ids = engine::lock(&SCRIPT).asked.clone();
    let late = decide(listening, ids[0], WSK_INSPECT_ACCEPT);
    assert_eq!(late, status::CONNECTION_ABORTED);
    // The other has gone too, which shows when it is answered.
    let second = decide(listening, ids[1], WSK_INSPECT_ACCEPT);
    assert_eq!(second, status::SUCCESS);
    wait_for("not told", |script| script.aborted == ids);
    assert!(!accepted.is_done());
    // And the listener goes on.
    engine::lock(&SCRIPT).answer = WSK_INSPECT_ACCEPT;
    let mut host = connect(at);
    finish(&accepted);
    assert_reset(&mut host);
    close(listening);
}

#[test]
fn a_thousand_peers_at_once_are_inspected_one_by_one() {
    const MANY: usize = 1000;
    let _alone = alone();
    let client = Client::new();
    let Some((listening, at)) = gated(&client, WSK_INSPECT_ACCEPT, loopback(false), false) else {
        return;
    };
    let accepted: Vec<_> = (0..MANY).map(|_| accept(listening)).collect();
    let begun = std::time::Instant::now();
    let peers: Vec<_> = (0..10)
        .map(|_| {
            std::thread::spawn(move || (0..MANY / 10).map(|_| connect(at)).collect::<Vec<_>>())
        })
        .collect();
    let sockets: Vec<_> = accepted.iter().map(Request::wait).collect();
    let peers: usize = peers
        .into_iter()
        .map(|peers| peers.join().map_or(0, |peers| peers.len()))
        .sum();
    println!("{peers} connections in {:?}", begun.elapsed());
    assert_eq!((peers, engine::lock(&SCRIPT).asked.len()), (MANY, MANY));
    for (status, socket) in sockets {
        assert_eq!(status, status::SUCCESS);
        close(std::ptr::with_exposed_provenance_mut(socket));
    }
    close(listening);
}
