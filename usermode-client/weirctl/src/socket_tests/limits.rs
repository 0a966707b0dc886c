//! Times are bounded as they were asked for, and nobody waits for another.

use super::tls::certificate;
use super::*;
use crate::commands::tcp::reach;
use crate::wire::deadline::Deadline;
use weir_client::net::OpenOptions;

/// A listener whose queue is full, so that it answers nobody any more. It fills
/// with the sockets given back.
fn silent() -> (SocketAddr, Vec<socket2::Socket>) {
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let full = new().expect("a socket");
    full.bind(&any.into()).expect("binds");
    full.listen(0).expect("listens");
    let at = full.local_addr().expect("bound").as_socket().expect("IP");
    let mut held = vec![full];
    loop {
        let client = new().expect("a socket");
        let connected = client.connect_timeout(&at.into(), Duration::from_millis(150));
        held.push(client);
        if connected.is_err() {
            return (at, held);
        }
        assert!(held.len() < 64, "the queue is never full");
    }
}

#[test]
fn addresses_that_do_not_answer_share_the_time_and_leave_some_for_one_that_does() {
    let driver = FakeDriver::default();
    let device = open(&driver);
    let (quiet, _held) = silent();
    let good = TcpListener::bind("127.0.0.1:0").expect("binds");
    let good = good.local_addr().map(|at| (at, good)).expect("bound");
    let options = OpenOptions::default();
    let time = Deadline::after(Some(Duration::from_secs(2)));
    let stream = reach(&device, &[quiet, good.0], &options, time).expect("the second answers");
    assert_eq!(stream.peer_addr().expect("a peer"), good.0);
    let before = Instant::now();
    let whole = Duration::from_millis(600);
    let late = reach(&device, &[quiet; 3], &options, Deadline::after(Some(whole)));
    let took = before.elapsed();
    assert!(
        late.expect_err("nobody")
            .to_string()
            .contains("nothing happened")
    );
    // The three together, not each.
    assert!(took >= whole - Duration::from_millis(50), "{took:?}");
    assert!(took < whole * 2, "{took:?}");
}

#[test]
fn what_moves_either_way_keeps_a_connection_and_nothing_else_does() {
    let driver = FakeDriver::default();
    let peer = TcpListener::bind("127.0.0.1:0").expect("binds");
    let at = peer.local_addr().expect("bound");
    let peer = thread::spawn(move || {
        let (mut stream, _) = peer.accept().expect("accepts");
        for _ in 0..6 {
            thread::sleep(Duration::from_millis(150));
            stream.write_all(b"x").expect("still there");
        }
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let (_typing, input) = held();
    let before = Instant::now();
    let (got, result) = connect(&driver, &format!("-w 0.6 {at}"), input, false);
    result.expect("that is no error");
    let took = before.elapsed();
    assert_eq!(got, b"xxxxxx");
    // Since the last of them, and not once more.
    assert!(took >= Duration::from_millis(1500), "{took:?}");
    assert!(took < Duration::from_millis(2500), "{took:?}");
    peer.join().expect("good");
}

#[test]
fn a_listener_nobody_comes_to_ends_in_its_time() {
    let driver = FakeDriver::default();
    let never = Arc::new(AtomicBool::new(false));
    let before = Instant::now();
    let line = format!("-w 0.3 -N {}", free());
    let (_, result) = listen(&driver, &line, Cursor::new([]), &never)
        .join()
        .expect("ends");
    let error = result.expect_err("nobody came").to_string();
    assert!(
        error.starts_with("accepting a connection: nothing happened"),
        "{error}"
    );
    assert!(before.elapsed() >= Duration::from_millis(300));
    assert!(before.elapsed() < SOON);
}

/// The start of a handshake that is never done: a record longer than what comes.
const TRICKLE: [u8; 5] = [0x16, 0x03, 0x01, 0x02, 0x00];

#[test]
fn a_handshake_has_one_time_however_often_a_byte_comes() {
    let driver = FakeDriver::default();
    let stop = Arc::new(AtomicBool::new(false));
    let at = free();
    let (_typing, input) = held();
    let listener = listen(&driver, &format!("--tls -w 1 {at}"), input, &stop);
    let mut client = TcpStream::connect(at).expect("connects");
    let before = Instant::now();
    let bytes = TRICKLE.into_iter().chain(std::iter::repeat(1));
    for byte in bytes.take(400) {
        if client.write_all(&[byte]).is_err() || listener.is_finished() {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let took = before.elapsed();
    let error = listener
        .join()
        .expect("ends")
        .1
        .expect_err("too slow")
        .to_string();
    assert!(
        error.contains("has not done its part of the handshake in 1.0"),
        "{error}"
    );
    assert!(error.contains("-w"), "says what to do: {error}");
    // A second to send the alert comes on top.
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn who_shakes_hands_for_long_keeps_no_other_waiting() {
    let driver = FakeDriver::default();
    let dir = tempfile::tempdir().expect("a directory");
    let (pin, files) = certificate(dir.path());
    let stop = Arc::new(AtomicBool::new(false));
    let at = free();
    let (_typing, input) = held();
    let line = format!("-k --tls {files} {at}");
    let listener = listen(&driver, &line, input, &stop);
    // One that says nothing, and one that says half of it.
    let silent = TcpStream::connect(at).expect("connects");
    let mut half = TcpStream::connect(at).expect("connects");
    half.write_all(&TRICKLE).expect("writes");
    let before = Instant::now();
    for i in 0..3 {
        let line = format!("--tls --pin {pin} {at}");
        let said = Cursor::new(format!("client {i}\n").into_bytes());
        connect(&driver, &line, said, false).1.expect("served");
    }
    // Not the half minute of the others' handshakes.
    assert!(before.elapsed() < SOON);
    // Nor does the end wait for these.
    stop.store(true, Ordering::Relaxed);
    let (got, result) = listener.join().expect("ends");
    result.expect("good");
    assert_eq!(got, b"client 0\nclient 1\nclient 2\n");
    assert!(before.elapsed() < SOON);
    drop((silent, half));
}

#[test]
fn of_several_addresses_datagrams_go_to_the_first_that_can_be_sent_to() {
    let driver = FakeDriver::default();
    let device = open(&driver);
    let peer = UdpSocket::bind("127.0.0.1:0").expect("binds");
    peer.set_read_timeout(Some(SOON)).expect("set");
    let good = peer.local_addr().expect("bound");
    // Without --broadcast nothing can be sent there.
    let bad = SocketAddr::from(([255, 255, 255, 255], good.port()));
    let Command::Udp(UdpCommand::Send(args)) = command(&format!("udp send {good}")) else {
        panic!("another command");
    };
    let mut got = Vec::new();
    let mut out = Output::new(true, Box::new(&mut got));
    let input = Cursor::new(b"one\ntwo\n".to_vec());
    udp::send_to_any(&device, &args, vec![bad, good], input, &mut out).expect("sent");
    drop(out);
    let mut buf = [0; 9];
    for want in ["one\n", "two\n"] {
        let n = peer.recv(&mut buf).expect("a datagram");
        assert_eq!(&buf[..n], want.as_bytes());
    }
    let sent: serde_json::Value = serde_json::from_slice(&got).expect("JSON");
    assert_eq!(sent["to"], json!(good.to_string()));
    assert_eq!(sent["datagrams"], json!(2));
    let mut out = Output::new(false, Box::new(std::io::sink()));
    let input = Cursor::new(b"x\n".to_vec());
    let error = udp::send_to_any(&device, &args, vec![bad, bad], input, &mut out);
    let error = error.expect_err("neither").to_string();
    assert!(error.contains("broadcast"), "{error}");
}

#[test]
fn ctrl_c_ends_a_connection_in_order() {
    let driver = FakeDriver::default();
    // Of who connects: nothing comes, and nothing is typed.
    let peer = TcpListener::bind("127.0.0.1:0").expect("binds");
    let line = format!("tcp connect {}", peer.local_addr().expect("bound"));
    let Command::Tcp(TcpCommand::Connect(args)) = command(&line) else {
        panic!("another command");
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (_typing, input) = held();
    let (used, stopped) = (driver.clone(), Arc::clone(&stop));
    let client = thread::spawn(move || {
        let mut out = Output::new(false, Box::new(std::io::sink()));
        let stop = move || Ok(Arc::clone(&stopped));
        tcp::connect(&open(&used), &args, input, false, &stop, &mut out)
    });
    let (mut stream, _) = peer.accept().expect("accepts");
    stream.set_read_timeout(Some(SOON)).expect("set");
    stop.store(true, Ordering::Relaxed);
    client.join().expect("ends").expect("no error");
    assert_eq!(stream.read(&mut [0; 1]).expect("an end, and no reset"), 0);
    // Of who listens, in the middle of a connection.
    let stop = Arc::new(AtomicBool::new(false));
    let at = free();
    let (_typing, input) = held();
    let listener = listen(&driver, &format!("-k {at}"), input, &stop);
    let mut stream = TcpStream::connect(at).expect("connects");
    stream.set_read_timeout(Some(SOON)).expect("set");
    stream.write_all(b"said").expect("writes");
    thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    let (got, result) = listener.join().expect("ends");
    result.expect("no error");
    assert_eq!(got, b"said");
    assert_eq!(stream.read(&mut [0; 1]).expect("an end, and no reset"), 0);
}
