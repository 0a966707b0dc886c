//! Many connections to the kernel's services: ten thousand at once, a hundred
//! thousand one after the other.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use weir_tests::clients::{PATIENCE, connect, room_for, run};
use weir_tests::lab::Fixture;
use weir_tests::services::{relay, service, sockets, start, until};

/// Bytes of the driver's pool that a connection may take: its 16 KiB of data under
/// way, and what is kept about it.
const ECHO: u64 = 20 * 1024;
/// A relay counts four times that: two directions, of larger pieces.
const RELAY: u64 = 72 * 1024;

/// Bytes of the driver's pool, all tags.
fn pool(fixture: &Fixture) -> u64 {
    let status = fixture.ask(&json!({"cmd": "status"}));
    let tags = status["pool"].as_object().expect("tags");
    tags.values().filter_map(|held| held[1].as_u64()).sum()
}

/// Makes so many connections, has each of them answered, and says how many bytes
/// of the driver's pool each takes.
fn hold(fixture: &Fixture, at: SocketAddr, many: usize) -> (Vec<TcpStream>, u64) {
    let before = pool(fixture);
    let mut open: Vec<TcpStream> = (0..many).map(|_| connect(at)).collect();
    for (number, stream) in open.iter_mut().enumerate() {
        write!(stream, "{number:08}").expect("it takes data");
    }
    for (number, stream) in open.iter_mut().enumerate() {
        let mut back = [0; 8];
        stream.read_exact(&mut back).expect("it answers");
        assert_eq!(back, *format!("{number:08}").as_bytes());
    }
    let each = pool(fixture).saturating_sub(before) / many as u64;
    (open, each)
}

#[test]
fn ten_thousand_connections_are_held_and_each_answers() {
    let many: usize = if room_for(10_000) { 10_000 } else { 400 };
    let fixture = Fixture::weir("load-held");
    let (id, at) = start(&fixture, &["echo", "--tcp", "127.0.0.1:0"]);
    let (open, each) = hold(&fixture, at, many);
    println!("{many} connections of echo, {each} bytes of pool each");
    assert!((1..=ECHO).contains(&each), "{each} bytes");
    assert_eq!(fixture.status("connections"), many as u64);
    let list = sockets(&fixture);
    assert_eq!(list.len(), many + 1);
    drop(open);
    until(&fixture, id, "/connections", 0);

    let (id, at) = relay(&fixture, "--tcp", "127.0.0.1:0", at.port());
    let (open, relayed) = hold(&fixture, at, many / 20);
    // The other end of each is an echo's connection.
    let relayed = relayed - each;
    assert!((1..=RELAY).contains(&relayed), "{relayed} bytes");
    println!(
        "{} connections of relay, {} bytes of pool each",
        many / 20,
        relayed - each
    );
    drop(open);
    until(&fixture, id, "/connections", 0);
    fixture.unload();
}

/// From an address of its own, as a port of it is not free again at once.
fn connect_from(from: u8, to: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let own = SocketAddr::from((Ipv4Addr::new(127, 0, 1, from), 0));
    socket.bind(&own.into()).expect("an address");
    socket.set_linger(Some(Duration::ZERO)).expect("linger");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    socket
        .connect_timeout(&to.into(), PATIENCE)
        .expect("it listens");
    socket
}

/// One in five is answered; of these, some end in good order. The others are reset
/// at once, perhaps before the driver has taken them.
fn come_and_go(at: SocketAddr, threads: u8, each: u64) {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for number in 0..each {
                    let mut socket = connect_from(thread + 1, at);
                    if number % 5 == 0 {
                        socket.write_all(b"x").expect("it takes data");
                        socket.read_exact(&mut [0]).expect("it answers");
                    }
                    if number % 50 == 0 {
                        socket.shutdown(Shutdown::Write).expect("connected");
                        let end = socket.read(&mut [0]).expect("it ends too");
                        assert_eq!(end, 0);
                    }
                }
            });
        }
    });
}

/// Connections that the host still has on this port. A reset that overtakes the
/// last segment of its handshake is of no connection yet, and lost: what is made
/// then nobody ends but keep-alive, hours later.
fn half_open(at: SocketAddr) -> u64 {
    let from = format!("sport = :{}", at.port());
    let seen = run("ss", &["-Htn", "state", "established", &from], b"");
    String::from_utf8_lossy(&seen.stdout).lines().count() as u64
}

#[test]
fn a_hundred_thousand_connections_leave_nothing() {
    const THREADS: u8 = 4;
    const EACH: u64 = 25_000;
    let all = u64::from(THREADS) * EACH;
    let fixture = Fixture::weir("load-churn");
    let stop = |id: u64| {
        let stopped = fixture.weirctl(&["service", "stop", &id.to_string()]);
        assert!(stopped.status.success());
    };
    let (id, at) = start(&fixture, &["echo", "--tcp", "127.0.0.1:0"]);
    come_and_go(at, THREADS, 50);
    stop(id);
    let before = pool(&fixture);

    let (id, at) = start(&fixture, &["echo", "--tcp", "127.0.0.1:0"]);
    let began = Instant::now();
    come_and_go(at, THREADS, EACH);
    println!(
        "{all} connections in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let deadline = Instant::now() + PATIENCE;
    let left = loop {
        let left = half_open(at);
        if fixture.status("connections") == left {
            break left;
        }
        assert!(Instant::now() < deadline, "{}", service(&fixture, id));
    };
    assert!(left <= 10, "{left} are left");
    let counts = service(&fixture, id);
    println!("{counts}");
    let number = |pointer: &str| {
        let number = counts.pointer(pointer).and_then(Value::as_u64);
        number.unwrap_or_else(|| panic!("no {pointer} in {counts}"))
    };
    let accepted = number("/accepted");
    assert!((all / 5..=all).contains(&accepted), "{counts}");
    for way in ["/bytes_in", "/bytes_out"] {
        assert_eq!(number(way), all / 5, "{counts}");
    }
    let ended = counts["ended"].as_object().expect("how they ended");
    let ended: u64 = ended.values().filter_map(Value::as_u64).sum();
    assert_eq!(ended + left, accepted, "each ended in one way: {counts}");
    assert_eq!(number("/ended/finished"), all / 50, "{counts}");
    assert_eq!(number("/ended/failed"), 0, "{counts}");
    let list = sockets(&fixture);
    assert_eq!(list.len() as u64, 1 + left, "{list:?}");
    stop(id);
    assert!(sockets(&fixture).is_empty());
    assert_eq!(pool(&fixture), before, "bytes of the driver's pool");
    fixture.unload();
}
