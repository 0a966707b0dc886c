//! Listeners whose connections come by request.

use weir_abi::{SocketFlags, SocketKind, SocketOpenRequest, SocketState, status};

use crate::io::{Call, Handle};
use crate::smoke::eventually;
use crate::socket::{Socket, flags, open_request, send};

/// A listener that takes connections by request, with these flags too.
#[track_caller]
pub(crate) fn listen(local: &str, more: SocketFlags) -> Socket {
    Socket::open(&SocketOpenRequest {
        flags: flags(SocketFlags::ACCEPT_BY_REQUEST | more),
        ..open_request(SocketKind::TcpListener, Some(local), None)
    })
}

/// So many accepts that wait.
pub(crate) fn ask(listener: &Socket, count: u32) -> Vec<(Handle, Call)> {
    let asked = (0..count)
        .map(|_| {
            let handle = Handle::open();
            let call = listener.start_accept(&handle);
            (handle, call)
        })
        .collect();
    eventually("the accepts wait", || {
        listener.info().pending_reads == count
    });
    asked
}

/// The contract's calls on such listeners, when nothing races.
pub(crate) fn asked() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        accepts(&listen(local, SocketFlags::empty()));
        accepts(&listen(local, SocketFlags::CONDITIONAL_ACCEPT));
    }
    ends();
    let dual = listen("[::]:0", SocketFlags::DUAL_STACK);
    let mut to = dual.local;
    to.set_ip("127.0.0.1".parse().expect("an address"));
    let near = Socket::connect(to);
    let remote = dual.accept().remote.expect("a peer");
    assert_eq!(remote.ip().to_canonical(), near.local.ip());
    assert_eq!(remote.port(), near.local.port());
    // A place in the driver can't be asked for.
    let handle = Handle::open();
    let request = SocketOpenRequest {
        backlog: 1,
        flags: flags(SocketFlags::ACCEPT_BY_REQUEST),
        ..open_request(SocketKind::TcpListener, Some("127.0.0.1:0"), None)
    };
    let ended = send(&handle, &request).wait();
    ended.with(status::INVALID_PARAMETER_5, "a backlog");
    println!("asked");
}

fn accepts(listener: &Socket) {
    // Nobody asks: what comes waits in the transport, and not in the driver.
    let early: Vec<Socket> = (0..3).map(|_| Socket::connect(listener.local)).collect();
    let info = listener.info();
    assert_eq!((info.queued, info.reads, info.refused), (0, 0, 0));
    for near in &early {
        let far = listener.accept();
        assert_eq!((far.remote, far.local), (Some(near.local), listener.local));
        talk(near, &far);
    }
    // Many ask: each gets one connection.
    let asked = ask(listener, 100);
    let near: Vec<Socket> = (0..100).map(|_| Socket::connect(listener.local)).collect();
    let far: Vec<Socket> = asked
        .into_iter()
        .map(|(handle, call)| Socket::opened(&handle, call.wait()))
        .collect();
    for near in &near {
        let far = far.iter().find(|far| far.remote == Some(near.local));
        talk(near, far.expect("its other end"));
    }
    let info = listener.info();
    assert_eq!((info.reads, info.pending_reads), (103, 0));
}

/// Accepts one after the other, of connections that are there and ones that come
/// later; the last ends with the listener.
pub(crate) fn one_by_one(count: usize) {
    let listener = listen("127.0.0.1:0", SocketFlags::NO_DELAY);
    for turn in 0..count {
        let handle = Handle::open();
        let (near, call) = if turn % 2 == 0 {
            let near = Socket::connect(listener.local);
            (near, listener.start_accept(&handle))
        } else {
            let call = listener.start_accept(&handle);
            (Socket::connect(listener.local), call)
        };
        let far = Socket::opened(&handle, call.wait());
        assert_eq!((far.remote, far.local), (Some(near.local), listener.local));
        talk(&near, &far);
    }
    let taken = listener.info().reads;
    let last = ask(&listener, 1);
    drop(listener);
    for (_, call) in last {
        call.wait()
            .with(status::CONNECTION_ABORTED, "the last accept");
    }
    println!("{{\"taken\":{taken}}}");
}

#[track_caller]
fn talk(near: &Socket, far: &Socket) {
    assert_eq!(near.write(b"there").wait().length, 5);
    assert_eq!(far.read_all(5), b"there");
    assert_eq!(far.write(b"and back").wait().length, 8);
    assert_eq!(near.read_all(8), b"and back");
}

/// What ends an accept that waits, but a connection.
fn ends() {
    // A cancel, of a few in the middle.
    let listener = listen("127.0.0.1:0", SocketFlags::empty());
    let mut asked = ask(&listener, 10);
    for (handle, call) in asked.drain(3..6) {
        call.cancel();
        call.wait().with(status::CANCELLED, "a cancelled accept");
        // The handle is as it was.
        let again = listener.start_accept(&handle);
        again.cancel();
        again.wait().with(status::CANCELLED, "and once more");
    }
    assert_eq!(listener.info().pending_reads, 7);
    let near = Socket::connect(listener.local);
    let taken = || asked.iter().position(|(_, call)| call.is_over());
    eventually("somebody has it", || taken().is_some());
    let (handle, call) = asked.remove(taken().expect("it is over"));
    talk(&near, &Socket::opened(&handle, call.wait()));
    // The end of the listener.
    let (id, local) = (listener.id, listener.local);
    drop(listener);
    for (_, call) in asked {
        call.wait().with(
            status::CONNECTION_ABORTED,
            "an accept whose listener is closed",
        );
    }
    let late = Handle::open();
    let ended = send(&late, &weir_abi::SocketAcceptRequest::new(id)).wait();
    ended.with(status::NOT_FOUND, "an accept after the listener");
    let ended = send(
        &late,
        &open_request(SocketKind::TcpStream, None, Some(local)),
    )
    .wait();
    assert_ne!(ended.status, status::SUCCESS, "nobody listens there");
}

/// A listening socket that fails, as the test has seen to: its own end, and not its
/// handle's, closes it.
pub(crate) fn failed(how: &str) {
    let listener = match how {
        "asked" => listen("127.0.0.1:0", SocketFlags::empty()),
        "asked-inspected" => listen("127.0.0.1:0", SocketFlags::CONDITIONAL_ACCEPT),
        "inspected" => Socket::open(&SocketOpenRequest {
            backlog: 4,
            flags: flags(SocketFlags::CONDITIONAL_ACCEPT),
            ..open_request(SocketKind::TcpListener, Some("127.0.0.1:0"), None)
        }),
        _ => Socket::listen("127.0.0.1:0", 4),
    };
    let handle = Handle::open();
    let waiting = listener.start_accept(&handle);
    let near = Handle::open();
    let to = open_request(SocketKind::TcpStream, None, Some(listener.local));
    // Whether this one gets so far as to be connected is nobody's promise.
    let _ = send(&near, &to).wait();
    let ended = waiting.wait();
    ended.with(status::FILE_FORCED_CLOSED, "an accept that waits");
    let info = listener.info();
    assert_eq!(info.status, status::FILE_FORCED_CLOSED);
    assert_eq!(SocketState::try_from(info.state), Ok(SocketState::Failed));
    let ended = listener.start_accept(&handle).wait();
    ended.with(status::FILE_FORCED_CLOSED, "an accept that comes later");
    // The handle is still open: the address is free all the same.
    let local = listener.local.to_string();
    eventually("the address is free", || {
        let handle = Handle::open();
        let request = SocketOpenRequest {
            backlog: 1,
            ..open_request(SocketKind::TcpListener, Some(&local), None)
        };
        send(&handle, &request).wait().status == status::SUCCESS
    });
    assert_eq!(listener.info().status, status::FILE_FORCED_CLOSED);
    drop(listener);
    println!("failed {how}");
}

/// A walk through such a listener's life; every request of it ends, however it
/// goes.
pub(crate) fn survive() {
    let listener = Handle::open();
    let request = SocketOpenRequest {
        flags: flags(SocketFlags::ACCEPT_BY_REQUEST | SocketFlags::CONDITIONAL_ACCEPT),
        ..open_request(SocketKind::TcpListener, Some("127.0.0.1:0"), None)
    };
    let ended = send(&listener, &request).wait();
    if ended.status != status::SUCCESS {
        return;
    }
    let listener = Socket::opened(&listener, ended);
    let handles: Vec<Handle> = (0..3).map(|_| Handle::open()).collect();
    let asked: Vec<Call> = handles
        .iter()
        .map(|handle| listener.start_accept(handle))
        .collect();
    let near = Handle::open();
    let to = open_request(SocketKind::TcpStream, None, Some(listener.local));
    if send(&near, &to).wait().status == status::SUCCESS {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    asked[0].cancel();
    for (handle, call) in handles.iter().zip(asked) {
        if call.is_over() {
            let ended = call.wait();
            if ended.status == status::SUCCESS {
                let far = Socket::opened(handle, ended);
                let _ = far.write(b"bytes").wait();
            }
        }
    }
    // Those that are left end with the listener.
    drop(listener);
}
