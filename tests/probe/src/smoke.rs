//! What sockets do when nothing races.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use weir_abi::{
    DatagramFlags, Group, Ioctl, ResolveReply, ResolveRequest, ShutdownHow, SocketAddress,
    SocketFlags, SocketKind, SocketOpenRequest, SocketOption, SocketSetting, SocketShutdownRequest,
    SocketState, status,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::io::{Call, Handle};
use crate::socket::{NONE, Socket, flags, list, open_request, received, send};

/// Waits for what is true soon: calls on different handles overtake one another.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn state(socket: &Socket) -> SocketState {
    SocketState::try_from(socket.info().state).expect("a state")
}

/// A stream between two handles: bytes, half close, reset, what comes after.
pub(crate) fn tcp() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let listener = Socket::listen(local, 4);
        assert_ne!(listener.local.port(), 0);
        // An accept that waits, and a connection that comes then.
        let handle = Handle::open();
        let waiting = listener.start_accept(&handle);
        assert!(!waiting.is_over(), "nobody has connected");
        eventually("the accept waits", || listener.info().pending_reads == 1);
        let near = Socket::connect(listener.local);
        let far = Socket::opened(&handle, waiting.wait());
        assert_eq!(near.remote, Some(listener.local));
        assert_eq!((far.local, far.remote), (listener.local, Some(near.local)));
        assert!(listener.id < far.id && far.id < near.id || listener.id < near.id);

        // A read that waits; bytes both ways; more than one call in the air.
        let waiting = near.read(100);
        assert!(!waiting.is_over(), "nothing was sent");
        assert_eq!(far.write(b"hello").wait().length, 5);
        assert_eq!(waiting.wait().good("a read"), b"hello");
        let big: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
        let writes: Vec<Call> = big.chunks(100_000).map(|part| near.write(part)).collect();
        assert_eq!(far.read_all(big.len()), big);
        for write in writes {
            assert_eq!(write.wait().good("a write").len(), 100_000);
        }
        let info = far.info();
        assert_eq!((info.bytes_in, info.bytes_out), (1_000_000, 5));
        assert_eq!((info.writes, info.queued, info.status), (1, 0, 0));
        assert_eq!(state(&far), SocketState::Connected);
        assert_eq!((info.owner, info.service), (std::process::id(), 0));

        // Reads and writes of no bytes.
        far.read(0)
            .wait()
            .with(status::BUFFER_TOO_SMALL, "a read of no bytes");
        assert_eq!(far.write(b"").wait().length, 0);

        // Half close.
        near.shutdown(ShutdownHow::Send);
        near.shutdown(ShutdownHow::Send);
        assert_eq!(state(&near), SocketState::ShutDown);
        let after = near.write(b"late").wait();
        after.with(status::GRACEFUL_DISCONNECT, "a write after the end");
        assert_eq!(far.read(10).wait().good("the end"), b"");
        assert_eq!(far.read(10).wait().good("the end again"), b"");
        assert_eq!(state(&far), SocketState::PeerClosed);
        assert_eq!(far.write(b"still").wait().length, 5);
        assert_eq!(near.read_all(5), b"still");
        far.shutdown(ShutdownHow::Send);
        assert_eq!(near.read(1).wait().good("the end"), b"");
        println!("{local}: bytes, half close");

        // Reset.
        let near = Socket::connect(listener.local);
        let far = listener.accept();
        let waiting = far.read(10);
        near.shutdown(ShutdownHow::Abort);
        let ended = waiting.wait();
        ended.with(status::CONNECTION_RESET, "a read when the peer resets");
        assert_eq!(state(&far), SocketState::Failed);
        far.read(10)
            .wait()
            .with(status::CONNECTION_RESET, "a read after it");
        near.read(1)
            .wait()
            .with(status::CONNECTION_ABORTED, "a read of who aborted");
        near.write(b"x")
            .wait()
            .with(status::CONNECTION_ABORTED, "a write of who aborted");
        let after = send(&near.handle, &SocketShutdownRequest::new(ShutdownHow::Send));
        after
            .wait()
            .with(status::CONNECTION_ABORTED, "the end of who aborted");
        near.shutdown(ShutdownHow::Abort);
        ends_that_meet(&listener);

        // Options.
        let near = Socket::connect(listener.local);
        let far = listener.accept();
        near.set(SocketSetting::NoDelay(true));
        near.set(SocketSetting::KeepAlive(true));
        near.set(SocketSetting::KeepAliveIdle(30));
        near.set(SocketSetting::Ttl(9));
        assert_eq!(near.get(SocketOption::NoDelay), 1);
        assert_eq!(near.get(SocketOption::Ttl), 9);
        let wrong = near.start_set(SocketSetting::MulticastTtl(1)).wait();
        wrong.with(status::NOT_SUPPORTED, "an option of UDP");
        let late = near.start_set(SocketSetting::ReuseAddress(true)).wait();
        late.with(status::NOT_SUPPORTED, "reuse of an address that is bound");

        // Closing a handle closes its socket.
        let waiting = far.read(10);
        let id = near.id;
        drop(near);
        let ended = waiting.wait();
        assert!(
            ended.status == status::CONNECTION_RESET || ended.status == 0 && ended.length == 0,
            "the peer's handle was closed: {:#x}",
            ended.status
        );
        assert!(list(3).iter().all(|info| info.id != id), "it isn't listed");
        println!("{local}: reset, options, close");

        // What was connected and not asked for goes with its listener.
        let left = Socket::connect(listener.local);
        drop(listener);
        let ended = left.read(1).wait();
        assert!(ended.status != 0 || ended.length == 0, "nobody was there");
    }
    // Roles.
    let (near, _far) = Socket::pair();
    let again = send(
        &near.handle,
        &open_request(SocketKind::Udp, Some("0.0.0.0:0"), None),
    );
    again
        .wait()
        .with(status::INVALID_DEVICE_STATE, "a second role");
    let listener = Socket::listen("127.0.0.1:0", 1);
    listener
        .read(10)
        .wait()
        .with(status::INVALID_DEVICE_STATE, "a listener's read");
    listener
        .write(b"x")
        .wait()
        .with(status::INVALID_DEVICE_STATE, "a listener's write");
    println!("roles");
}

/// Many ends of one stream, and a reset of one that can't end.
fn ends_that_meet(listener: &Socket) {
    let near = Socket::connect(listener.local);
    let far = listener.accept();
    let end = |near: &Socket, how| send(&near.handle, &SocketShutdownRequest::new(how));
    let ends: Vec<Call> = (0..200).map(|_| end(&near, ShutdownHow::Send)).collect();
    for one in ends {
        let _ = one.wait().good("one end of many");
    }
    assert_eq!(far.read(1).wait().good("the end"), b"");
    far.shutdown(ShutdownHow::Send);

    let near = Socket::connect(listener.local);
    let far = listener.accept();
    // More than the transport takes of who doesn't read.
    let writes: Vec<Call> = (0..32).map(|_| near.write(&vec![5; 1 << 20])).collect();
    let last = end(&near, ShutdownHow::Send);
    let waiting = near.read(1);
    eventually("a write waits", || near.info().pending_writes > 0);
    assert!(!last.is_over(), "the end is behind them");
    // Asked again: it is under way.
    near.shutdown(ShutdownHow::Send);
    let resets: Vec<Call> = (0..10).map(|_| end(&near, ShutdownHow::Abort)).collect();
    for one in resets {
        let _ = one.wait().good("a reset");
    }
    for (what, call) in [("the end", last), ("a read", waiting)] {
        call.wait().with(status::CONNECTION_ABORTED, what);
    }
    let cut = writes.into_iter().map(Call::wait);
    let cut = cut.filter(|ended| ended.status == status::CONNECTION_ABORTED);
    assert!(cut.count() > 0, "no write was cut off");
    drop(far);
}

/// Datagrams between two handles.
pub(crate) fn udp() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let one = Socket::udp(local);
        let two = Socket::udp(local);
        let waiting = two.read(48 + 100);
        assert_eq!(
            one.send_to(Some(two.local), b"datagram").wait().length,
            48 + 8
        );
        let (from, remarks, bytes) = received(waiting.wait());
        assert_eq!(
            (from, remarks, &bytes[..]),
            (one.local, DatagramFlags::empty(), &b"datagram"[..])
        );
        // Cut, empty, large.
        let _ = two
            .send_to(Some(one.local), b"too long")
            .wait()
            .good("a send");
        let (_, remarks, bytes) = one.receive(3);
        assert_eq!(
            (remarks, &bytes[..]),
            (DatagramFlags::TRUNCATED, &b"too"[..])
        );
        let _ = two
            .send_to(Some(one.local), b"")
            .wait()
            .good("an empty one");
        assert_eq!(one.receive(3).2, b"");
        let large = vec![7; 65_000];
        let _ = two
            .send_to(Some(one.local), &large)
            .wait()
            .good("a large one");
        assert_eq!(one.receive(65_000).2, large);
        // Without an address, and with ones that don't fit.
        let nowhere = one.send_to(None, b"x").wait();
        nowhere.with(status::INVALID_CONNECTION, "to no peer");
        let other = if one.local.is_ipv4() {
            "[::1]:9"
        } else {
            "127.0.0.1:9"
        };
        let other = one.send_to(other.parse().ok(), b"x").wait();
        other.with(status::INVALID_ADDRESS_COMPONENT, "to another family");
        one.write(&[0; 47])
            .wait()
            .with(status::INVALID_USER_BUFFER, "half a header");
        one.write(&[1; 60])
            .wait()
            .with(status::INVALID_USER_BUFFER, "a bad header");
        one.read(48)
            .wait()
            .with(status::BUFFER_TOO_SMALL, "no room for a byte");
        one.read(0)
            .wait()
            .with(status::BUFFER_TOO_SMALL, "no room at all");
        // Connected.
        let talks = Socket::open(&open_request(SocketKind::Udp, None, Some(two.local)));
        assert_eq!(talks.remote, Some(two.local));
        let _ = talks.send_to(None, b"peer").wait().good("to the peer");
        let (from, _, bytes) = two.receive(100);
        assert_eq!(
            (from.port(), &bytes[..]),
            (talks.local.port(), &b"peer"[..])
        );
        let info = two.info();
        assert_eq!((info.reads, info.bytes_in), (2, 12));
        println!("{local}: datagrams");
    }
    // Groups.
    let member = Socket::udp("0.0.0.0:0");
    let group = Group {
        address: "239.1.2.3".parse().expect("an address"),
        interface: 0,
    };
    member.set(SocketSetting::JoinGroup(group));
    let sender = Socket::udp("0.0.0.0:0");
    sender.set(SocketSetting::MulticastLoop(true));
    sender.set(SocketSetting::MulticastTtl(1));
    let to = std::net::SocketAddr::new(group.address, member.local.port());
    let waiting = member.read(148);
    let sent = sender.send_to(Some(to), b"all").wait();
    if sent.status == 0 {
        assert_eq!(received(waiting.wait()).2, b"all");
        println!("a group heard");
    } else {
        println!("a group not reached: {:#x}", sent.status);
    }
    member.set(SocketSetting::LeaveGroup(group));
    let six = Group {
        address: "ff02::9".parse().expect("an address"),
        interface: 0,
    };
    let wrong = member.start_set(SocketSetting::JoinGroup(six)).wait();
    wrong.with(
        status::INVALID_ADDRESS_COMPONENT,
        "a group of another family",
    );
}

/// Names.
pub(crate) fn names() {
    let handle = Handle::open();
    let ask = |name: &str, service: Option<&str>, room: usize| {
        let request = ResolveRequest::new(name, service, None).expect("short");
        Call::control(&handle, Ioctl::Resolve.code(), request.as_bytes(), room).wait()
    };
    let bytes = ask("127.0.0.1", Some("80"), 16 + 32 * 32).good("an address as a name");
    let (head, rest) = ResolveReply::read_from_prefix(&bytes).expect("a reply");
    assert_eq!((head.total, head.count), (1, 1));
    let found = SocketAddress::read_from_bytes(rest).expect("an address");
    assert_eq!(
        found,
        "127.0.0.1:80"
            .parse::<std::net::SocketAddr>()
            .expect("one")
            .into()
    );
    let bytes = ask("localhost", None, 16 + 32 * 32).good("localhost");
    let (head, _) = ResolveReply::read_from_prefix(&bytes).expect("a reply");
    assert!(head.count >= 1 && head.count == head.total);
    // Room for none of them: how many there are is said all the same.
    let bytes = ask("localhost", None, 16).good("localhost, without room");
    let (short, rest) = ResolveReply::read_from_prefix(&bytes).expect("a reply");
    assert_eq!((short.total, short.count, rest.len()), (head.total, 0, 0));
    let ended = ask("no-such-name.invalid", None, 1000);
    println!("a name nobody has: {}", crate::io::name(ended.status));
    assert!(status::is_error(ended.status));
    println!("names");
}

/// A service's port, by its name.
pub(crate) fn service(name: &str) {
    let request = ResolveRequest::new("127.0.0.1", Some(name), None).expect("short");
    let call = Call::control(
        &Handle::open(),
        Ioctl::Resolve.code(),
        request.as_bytes(),
        16 + 32 * 32,
    );
    let bytes = call.wait().good("a service's name");
    let (head, rest) = ResolveReply::read_from_prefix(&bytes).expect("a reply");
    assert_eq!((head.total, head.count), (1, 1));
    let found = SocketAddress::read_from_bytes(rest).expect("an address");
    println!("{}", found.socket_addr().expect("an address").port());
}

/// There is an end to everything.
pub(crate) fn bounds() {
    let (near, far) = Socket::pair();
    // 64 reads, and not one more.
    let reads: Vec<Call> = (0..64).map(|_| near.read(1)).collect();
    eventually("64 reads", || near.info().pending_reads == 64);
    near.read(1)
        .wait()
        .with(status::QUOTA_EXCEEDED, "the 65th read");
    assert_eq!(far.write(&[9; 64]).wait().length, 64);
    for read in reads {
        assert_eq!(read.wait().good("a read"), [9]);
    }
    // Writes nobody reads: they wait, up to 64 of them, and the bytes are counted.
    let writes: Vec<Call> = (0..128).map(|_| near.write(&vec![5; 1 << 20])).collect();
    let over = || writes.iter().filter(|write| write.is_over()).count();
    eventually("each write waits or is over", || {
        near.info().pending_writes as usize + over() == writes.len()
    });
    let info = near.info();
    assert!((1..=64).contains(&info.pending_writes), "{info:?}");
    assert_eq!(info.queued, u64::from(info.pending_writes) << 20);
    let refused = |write: &&Call| write.status() == Some(status::QUOTA_EXCEEDED);
    let refused = writes.iter().filter(refused).count();
    assert!(refused > 0, "128 writes, and none too many");
    let too_long = near.write(&vec![0; (16 << 20) + 1]).wait();
    too_long.with(status::INVALID_BUFFER_SIZE, "too long a write");
    let taken = writes.len() - refused;
    println!("128 writes of 1 MiB: {refused} refused");
    assert!(far.read_all(taken << 20).iter().all(|byte| *byte == 5));
    let good = writes.into_iter().map(Call::wait);
    assert_eq!(good.filter(|ended| ended.length == 1 << 20).count(), taken);
    // A backlog of two: the third connection is reset.
    let listener = Socket::listen("127.0.0.1:0", 2);
    let mut peers = Vec::new();
    for _ in 0..3 {
        let handle = Handle::open();
        let request = open_request(SocketKind::TcpStream, None, Some(listener.local));
        let ended = send(&handle, &request).wait();
        peers.push((handle, ended.status));
    }
    eventually("one is refused", || listener.info().refused == 1);
    let info = listener.info();
    assert_eq!((info.queued, info.refused, info.reads), (2, 1, 2));
    let _first = listener.accept();
    assert_eq!(listener.info().queued, 1);
    println!("bounds");
}

/// What can't be had.
pub(crate) fn refused() {
    let handle = Handle::open();
    let udp = |local: &str| open_request(SocketKind::Udp, Some(local), None);
    let ended = send(&handle, &udp("192.0.2.1:0")).wait();
    ended.with(status::INVALID_ADDRESS, "an address that isn't ours");
    let listener = Socket::listen("127.0.0.1:0", 1);
    let taken = SocketOpenRequest {
        backlog: 1,
        local: listener.local.into(),
        ..open_request(SocketKind::TcpListener, Some("127.0.0.1:0"), None)
    };
    let ended = send(&handle, &taken).wait();
    ended.with(status::ADDRESS_ALREADY_EXISTS, "a port in use");
    let nobody = {
        let gone = Socket::listen("127.0.0.1:0", 1);
        gone.local
    };
    let ended = send(
        &handle,
        &open_request(SocketKind::TcpStream, None, Some(nobody)),
    )
    .wait();
    ended.with(status::CONNECTION_REFUSED, "nobody listens");
    // After all that it is still a control handle.
    let request = open_request(SocketKind::TcpStream, None, Some(listener.local));
    let ended = send(&handle, &request).wait();
    let socket = Socket::opened(&handle, ended);
    assert_eq!(socket.remote, Some(listener.local));
    let other = Handle::open();
    let reader = send(&other, &weir_abi::SocketInfoRequest::new()).wait();
    reader.with(status::INVALID_DEVICE_STATE, "a handle that is no socket");
    let ended = send(&other, &weir_abi::SocketAcceptRequest::new(socket.id)).wait();
    ended.with(status::NOT_FOUND, "an accept of a stream");
    // Flags that are taken.
    let dual = Socket::open(&SocketOpenRequest {
        flags: flags(SocketFlags::DUAL_STACK | SocketFlags::REUSE_ADDRESS),
        backlog: 1,
        remote: NONE,
        ..open_request(SocketKind::TcpListener, Some("[::]:0"), None)
    });
    let four = std::net::SocketAddr::from(([127, 0, 0, 1], dual.local.port()));
    let near = Socket::connect(four);
    let far = dual.accept();
    assert_eq!(far.remote.map(|a| a.port()), Some(near.local.port()));
    println!("refused");
}

/// A walk through everything that can fail, with nothing taken for granted but
/// that each call ends.
pub(crate) fn survive() {
    let listener = Handle::open();
    let request = SocketOpenRequest {
        backlog: 2,
        flags: flags(SocketFlags::CONDITIONAL_ACCEPT),
        receive_limit: 8192,
        ..open_request(SocketKind::TcpListener, Some("127.0.0.1:0"), None)
    };
    let ended = send(&listener, &request).wait();
    if ended.status == status::SUCCESS {
        streams(&Socket::opened(&listener, ended));
    }
    let one = Handle::open();
    let udp = |handle| {
        let request = SocketOpenRequest {
            flags: flags(SocketFlags::BROADCAST),
            ..open_request(SocketKind::Udp, Some("127.0.0.1:0"), None)
        };
        let ended = send(handle, &request).wait();
        (ended.status == status::SUCCESS).then(|| Socket::opened(handle, ended))
    };
    if let Some(one) = udp(&one) {
        let read = one.read(100);
        let _ = one.send_to(Some(one.local), b"to itself").wait();
        read.cancel();
        let _ = read.wait();
        let _ = one.start_set(SocketSetting::Ttl(3)).wait();
        let other = Handle::open();
        let request = open_request(SocketKind::Udp, None, Some(one.local));
        let ended = send(&other, &request).wait();
        if ended.status == status::SUCCESS {
            let _ = Socket::opened(&other, ended).send_to(None, b"x").wait();
        }
    }
    let name = ResolveRequest::new("localhost", None, None).expect("short");
    let _ = Call::control(&one, Ioctl::Resolve.code(), name.as_bytes(), 1000).wait();
    crate::asked::survive();
    println!("done");
}

fn streams(listener: &Socket) {
    let far = Handle::open();
    let accept = listener.start_accept(&far);
    let near = Handle::open();
    let request = SocketOpenRequest {
        flags: flags(SocketFlags::NO_DELAY | SocketFlags::KEEP_ALIVE),
        receive_limit: 8192,
        ..open_request(SocketKind::TcpStream, None, Some(listener.local))
    };
    let ended = send(&near, &request).wait();
    // Without a connection, nobody ends the accept but its own cancel.
    if ended.status != status::SUCCESS {
        accept.cancel();
        let _ = accept.wait();
        return;
    }
    let near = Socket::opened(&near, ended);
    std::thread::sleep(Duration::from_millis(20));
    accept.cancel();
    let ended = accept.wait();
    let waiting = near.read(100);
    if ended.status == status::SUCCESS {
        let far = Socket::opened(&far, ended);
        let _ = far.write(b"bytes").wait();
        let _ = far.start_set(SocketSetting::NoDelay(false)).wait();
        let _ = send(&far.handle, &SocketShutdownRequest::new(ShutdownHow::Send)).wait();
        let _ = send(
            &near.handle,
            &SocketShutdownRequest::new(ShutdownHow::Abort),
        )
        .wait();
        let last = far.read(10);
        std::thread::sleep(Duration::from_millis(20));
        last.cancel();
        let _ = last.wait();
    }
    waiting.cancel();
    let _ = waiting.wait();
    // One that waits, and goes with its listener.
    let left = Handle::open();
    let _ = send(
        &left,
        &open_request(SocketKind::TcpStream, None, Some(listener.local)),
    )
    .wait();
}

/// A peer the rules refuse: its connection is refused, as if nobody listened.
pub(crate) fn judged(port: u16, by_request: bool) {
    let local = format!("127.0.0.1:{port}");
    let listener = if by_request {
        crate::asked::listen(&local, SocketFlags::CONDITIONAL_ACCEPT)
    } else {
        Socket::open(&SocketOpenRequest {
            backlog: 4,
            flags: flags(SocketFlags::CONDITIONAL_ACCEPT),
            ..open_request(SocketKind::TcpListener, Some(&local), None)
        })
    };
    let far = Handle::open();
    let accept = listener.start_accept(&far);
    let near = Handle::open();
    let request = open_request(SocketKind::TcpStream, None, Some(listener.local));
    let ended = send(&near, &request).wait();
    if ended.status == status::SUCCESS {
        let near = Socket::opened(&near, ended.clone());
        let far = Socket::opened(&far, accept.wait());
        assert_eq!(far.remote, Some(near.local));
    } else {
        accept.cancel();
        accept.wait().with(status::CANCELLED, "an accept of nobody");
    }
    let info = listener.info();
    println!(
        "{{\"status\":\"{}\",\"taken\":{},\"refused\":{}}}",
        status::info(ended.status).map_or("unknown", |info| info.name),
        info.reads,
        info.refused
    );
}

/// What a dual-stack socket is told of hops is so for its IPv4 packets, too.
pub(crate) fn dual(to: SocketAddr) {
    let socket = Socket::open(&SocketOpenRequest {
        flags: flags(SocketFlags::DUAL_STACK),
        ..open_request(SocketKind::Udp, Some("[::]:0"), None)
    });
    socket.set(SocketSetting::Ttl(9));
    socket.set(SocketSetting::MulticastTtl(3));
    socket.set(SocketSetting::MulticastLoop(true));
    assert_eq!(socket.get(SocketOption::Ttl), 9);
    let IpAddr::V4(v4) = to.ip() else {
        panic!("an IPv4 address");
    };
    let mapped = SocketAddr::new(v4.to_ipv6_mapped().into(), to.port());
    assert_eq!(socket.send_to(Some(mapped), b"x").wait().status, 0);
    println!("dual");
}
