//! Conditional accept.

use super::super::{engine, status};
use super::*;
use std::net::TcpStream;
use std::sync::Condvar;

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

/// A listening socket in conditional accept mode that answers so.
fn listener(client: &Client, answer: u32) -> (*mut WskSocket, SocketAddr) {
    *engine::lock(&SCRIPT) = Script {
        answer,
        ..Script::default()
    };
    let dispatch = (&raw const DISPATCH).cast();
    let socket = client.socket(false, WSK_FLAG_LISTEN_SOCKET, null_mut(), dispatch);
    let level = windows_sys::Win32::Networking::WinSock::SOL_SOCKET;
    let on = set_option(socket, level, SO_CONDITIONAL_ACCEPT, 1);
    assert_eq!(on, status::SUCCESS);
    let table = table(socket);
    match bind_with(table.bind, table.get_local_address, socket, loopback(false)) {
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
