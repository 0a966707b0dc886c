//! Sockets that the provider gives up, and options of listeners and of sockets with
//! two protocols. What goes wrong, the test has seen to.

use weir_abi::{
    ShutdownHow, SocketFlags, SocketKind, SocketOpenRequest, SocketOption, SocketSetting,
    SocketShutdownRequest, SocketState, status,
};

use crate::io::{Call, Handle, name};
use crate::smoke::eventually;
use crate::socket::{Socket, flags, open_request, send};

const FORCED: i32 = status::FILE_FORCED_CLOSED;

/// A socket is given up at what it is asked for: it says so, and is closed at once,
/// while its handle is open.
pub(crate) fn given_up(how: &str) {
    if how.starts_with("udp") {
        datagrams(how);
    } else {
        stream(how);
    }
    println!("given up {how}");
}

#[track_caller]
fn has_failed(socket: &Socket) {
    eventually("it says so", || socket.info().status == FORCED);
    let state = SocketState::try_from(socket.info().state);
    assert_eq!(state, Ok(SocketState::Failed));
}

fn datagrams(how: &str) {
    let socket = Socket::udp("127.0.0.1:0");
    let waiting = (how != "udp-read").then(|| socket.read(148));
    let asked = match how {
        "udp-read" => socket.read(148),
        "udp-write" => socket.send_to(Some(socket.local), b"x"),
        _ => socket.start_set(SocketSetting::Ttl(9)),
    };
    asked.wait().with(FORCED, how);
    if let Some(waiting) = waiting {
        waiting.wait().with(FORCED, "a read that waited");
    }
    has_failed(&socket);
    let local = socket.local.to_string();
    eventually("the address is free", || {
        let request = open_request(SocketKind::Udp, Some(&local), None);
        send(&Handle::open(), &request).wait().status == status::SUCCESS
    });
    socket.read(148).wait().with(FORCED, "a later read");
    let later = socket.start_set(SocketSetting::Ttl(9)).wait();
    later.with(FORCED, "a later setting");
}

fn stream(how: &str) {
    let (near, far) = Socket::pair();
    let (socket, peer) = match how.strip_prefix("accepted-") {
        Some(_) => (&far, &near),
        None => (&near, &far),
    };
    let waiting = socket.read(10);
    eventually("a read waits", || socket.info().pending_reads == 1);
    let asked = match how.rsplit('-').next() {
        Some("read") => socket.read(10),
        Some("write") => socket.write(b"x"),
        _ => send(
            &socket.handle,
            &SocketShutdownRequest::new(ShutdownHow::Send),
        ),
    };
    asked.wait().with(FORCED, how);
    waiting.wait().with(FORCED, "a read that waited");
    has_failed(socket);
    let end = peer.read(10).wait();
    assert!(
        end.length == 0,
        "the peer's end: {} and {} bytes",
        name(end.status),
        end.length
    );
    socket.read(10).wait().with(FORCED, "a later read");
}

/// What a listener is told, its connections get: those that come, those that wait
/// already, and those somebody waits for.
pub(crate) fn passed_on() {
    use SocketOption::{KeepAlive, NoDelay};
    for by_request in [false, true] {
        let mut asked = SocketFlags::KEEP_ALIVE | SocketFlags::NO_DELAY;
        asked.set(SocketFlags::ACCEPT_BY_REQUEST, by_request);
        let listener = Socket::open(&SocketOpenRequest {
            flags: flags(asked),
            backlog: u32::from(!by_request) * 4,
            receive_limit: 50_000,
            ..open_request(SocketKind::TcpListener, Some("127.0.0.1:0"), None)
        });
        let both = |socket: &Socket| (socket.get(KeepAlive), socket.get(NoDelay));
        assert_eq!(both(&listener), (1, 1));
        assert_eq!(listener.get(SocketOption::ReceiveBuffer), 50_000);
        let (_near, far) = pair(&listener);
        assert_eq!(both(&far), (1, 1));
        assert_eq!(far.get(SocketOption::ReceiveBuffer), 50_000);

        // One waits already, with what its listener had then.
        let near = Socket::connect(listener.local);
        listener.set(SocketSetting::KeepAlive(false));
        listener.set(SocketSetting::NoDelay(false));
        assert_eq!(both(&listener), (0, 0));
        let far = listener.accept();
        assert_eq!(far.remote, Some(near.local));
        assert_eq!(both(&far), (0, 0));

        // And for one somebody waits.
        let handle = Handle::open();
        let waiting = listener.start_accept(&handle);
        eventually("the accept waits", || listener.info().pending_reads == 1);
        listener.set(SocketSetting::KeepAlive(true));
        listener.set(SocketSetting::NoDelay(true));
        let near = Socket::connect(listener.local);
        let far = Socket::opened(&handle, waiting.wait());
        assert_eq!(both(&far), (1, 1));
        // Its own are its own.
        far.set(SocketSetting::KeepAlive(false));
        assert_eq!(both(&far), (0, 1));
        assert_eq!(both(&listener), (1, 1));
        assert_eq!(near.get(KeepAlive), 0);
    }
    println!("passed on");
}

fn pair(listener: &Socket) -> (Socket, Socket) {
    let near = Socket::connect(listener.local);
    let far = listener.accept();
    (near, far)
}

/// What a listener with this is said to have failed to open with: its options come
/// before its address.
pub(crate) fn opens(what: &str) {
    let mut request = SocketOpenRequest {
        backlog: 1,
        ..open_request(SocketKind::TcpListener, Some("127.0.0.1:0"), None)
    };
    match what {
        "keep-alive" => request.flags = flags(SocketFlags::KEEP_ALIVE),
        _ => request.receive_limit = 8192,
    }
    let call: Call = send(&Handle::open(), &request);
    println!("{}", name(call.wait().status));
}

/// The provider isn't there at the first try, which waits as long as it may: a second
/// opener, while that one is at it, isn't sent away but has its turn.
pub(crate) fn late() {
    let open = || {
        let request = open_request(SocketKind::Udp, Some("127.0.0.1:0"), None);
        send(&Handle::open(), &request).wait()
    };
    let first = std::thread::spawn(open);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let second = open();
    let first = first.join().expect("no panic");
    first.with(status::DEVICE_NOT_READY, "the first");
    let _ = second.good("the second");
    println!("late");
}

/// An option of both protocols is set for both, or for none.
pub(crate) fn both_or_none() {
    let socket = Socket::open(&SocketOpenRequest {
        flags: flags(SocketFlags::DUAL_STACK),
        ..open_request(SocketKind::Udp, Some("[::]:0"), None)
    });
    let ended = socket.start_set(SocketSetting::MulticastTtl(77)).wait();
    ended.with(status::INSUFFICIENT_RESOURCES, "the half that fails");
    assert_ne!(socket.get(SocketOption::MulticastTtl), 77);
    socket.set(SocketSetting::MulticastTtl(77));
    assert_eq!(socket.get(SocketOption::MulticastTtl), 77);
    println!("both or none");
}
