//! How connections end: by Ctrl-C in order, with what is lost told; and what keeps
//! a listener from going on.

use super::*;

/// A peer's connection that doesn't wait for ever.
fn peer(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).expect("connects");
    stream.set_read_timeout(Some(SOON)).expect("set");
    stream
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_listener_that_is_to_stop_ends_its_connection_in_order() {
    for keep in ["", "-k "] {
        let driver = FakeDriver::default();
        let stop = Arc::new(AtomicBool::new(false));
        let at = free();
        let (typing, input) = held();
        let listener = listen(&driver, &format!("{keep}{at}"), input, &stop);
        let mut client = peer(at);
        typing.send(b"before".to_vec()).expect("open");
        client.read_exact(&mut [0; 6]).expect("comes");
        stop.store(true, Ordering::Relaxed);
        // The end of the stream, where a reset would be an error.
        assert_eq!(client.read(&mut [0; 1]).expect("in order"), 0);
        let before = Instant::now();
        let (_, result) = listener.join().expect("ends");
        result.expect("that is no failure");
        assert!(before.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_handshake_that_is_under_way_ends_with_the_command() {
    for keep in ["", "-k "] {
        let driver = FakeDriver::default();
        let stop = Arc::new(AtomicBool::new(false));
        let at = free();
        let (_typing, input) = held();
        let listener = listen(&driver, &format!("{keep}--tls {at}"), input, &stop);
        let client = peer(at);
        let device = open(&driver);
        let taken = || device.sockets().expect("a list").len() > 1;
        if keep.is_empty() {
            // It listens no longer, so the connection is the only socket.
            let connected = || {
                let list = device.sockets().expect("a list");
                list.iter().any(|s| s.remote.is_some())
            };
            until("it isn't accepted", connected);
        } else {
            until("it isn't accepted", taken);
        }
        stop.store(true, Ordering::Relaxed);
        let before = Instant::now();
        let (_, result) = listener.join().expect("ends");
        result.expect("nothing is wrong");
        assert!(before.elapsed() < Duration::from_secs(10));
        drop(client);
    }
}

// Wine's own sockets end in order when they are closed with unread bytes.
#[cfg(unix)]
#[test]
fn input_that_a_peer_does_not_take_is_told_as_lost() {
    let driver = FakeDriver::default();
    let never = Arc::new(AtomicBool::new(false));
    let at = free();
    let all = Cursor::new(vec![7; 64 << 20]);
    let listener = listen(&driver, &at.to_string(), all, &never);
    let client = peer(at);
    client.shutdown(std::net::Shutdown::Write).expect("ends");
    thread::sleep(Duration::from_millis(300));
    // With unread bytes, this is a reset.
    drop(client);
    let (_, result) = listener.join().expect("ends");
    let error = result.expect_err("it was not delivered").to_string();
    assert!(error.contains("the peer reset the connection"), "{error}");
}

#[test]
fn with_k_a_connection_that_cannot_be_taken_ends_nothing() {
    for tls in ["", "--tls "] {
        let driver = FakeDriver::default();
        driver.fail_accepts(Some(weir_client::abi::status::QUOTA_EXCEEDED));
        let stop = Arc::new(AtomicBool::new(false));
        let at = free();
        let (_typing, input) = held();
        let listener = listen(&driver, &format!("-k {tls}{at}"), input, &stop);
        // Several times.
        thread::sleep(Duration::from_millis(500));
        assert!(!listener.is_finished(), "the first failure ended it");
        driver.fail_accepts(None);
        let mut client = peer(at);
        client.write_all(b"x").expect("writes");
        client.shutdown(std::net::Shutdown::Write).expect("ends");
        let mut rest = Vec::new();
        // It is served: of TLS, told what is wrong with it.
        client.read_to_end(&mut rest).expect("an end");
        stop.store(true, Ordering::Relaxed);
        let (got, result) = listener.join().expect("ends");
        result.expect("good");
        assert_eq!(got == b"x", tls.is_empty());
    }
}

#[test]
fn without_k_nobody_else_can_connect() {
    let driver = FakeDriver::default();
    let never = Arc::new(AtomicBool::new(false));
    let at = free();
    let (typing, input) = held();
    let listener = listen(&driver, &at.to_string(), input, &never);
    let mut client = peer(at);
    typing.send(b"there".to_vec()).expect("open");
    client.read_exact(&mut [0; 5]).expect("comes");
    assert!(TcpStream::connect(at).is_err());
    drop(typing);
    drop(client);
    listener.join().expect("ends").1.expect("good");
}
