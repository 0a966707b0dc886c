//! `tcp` with TLS.

use super::*;

/// A certificate of one's own, and the files it is in.
pub(super) fn certificate(dir: &std::path::Path) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["peer.test".to_owned()]).expect("made");
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let pin = crate::wire::verify::Pin::of(made.cert.der()).to_string();
    let files = format!("--cert {} --key {}", cert.display(), key.display());
    (pin, files)
}

#[test]
fn tls_carries_both_ways_to_who_is_believed_and_to_nobody_else() {
    let driver = FakeDriver::default();
    let dir = tempfile::tempdir().expect("a directory");
    let (pin, files) = certificate(dir.path());
    let ca = dir.path().join("cert.pem");
    let all: Vec<u8> = (0..400_000_u32).map(|n| (n * 5) as u8).collect();
    let good = [
        format!("--pin {pin}"),
        format!("--ca {} --server-name peer.test", ca.display()),
    ];
    for trust in good {
        let at = free();
        let never = Arc::new(AtomicBool::new(false));
        let line = format!("--tls {files} {at}");
        let listener = listen(&driver, &line, Cursor::new(all.clone()), &never);
        let line = format!("--tls {trust} {at}");
        let (got, result) = connect(&driver, &line, Cursor::new(all.clone()), false);
        result.expect("believed");
        assert!(got == all, "{} bytes", got.len());
        let (got, result) = listener.join().expect("ends");
        result.expect("good");
        assert!(got == all, "{} bytes", got.len());
    }
    let other = format!("--pin {}", "0".repeat(64));
    for (trust, want) in [
        (other, "which is not --pin"),
        (format!("--ca {}", ca.display()), "--server-name"),
    ] {
        let at = free();
        let stop = Arc::new(AtomicBool::new(false));
        let (_typing, input) = held();
        let listener = listen(&driver, &format!("--tls {files} {at}"), input, &stop);
        let line = format!("--tls {trust} {at}");
        let (got, result) = connect(&driver, &line, Cursor::new(b"secret".to_vec()), false);
        let error = result.expect_err("not believed").to_string();
        assert!(error.contains(want), "{error}");
        assert!(got.is_empty());
        let (got, result) = listener.join().expect("ends");
        let error = result.expect_err("refused by the client").to_string();
        assert!(error.contains("refused the handshake"), "{error}");
        assert!(got.is_empty(), "nothing was sent");
    }
}

#[test]
fn tls_needs_trust_before_anything_is_said() {
    let driver = FakeDriver::default();
    let (_, result) = connect(&driver, "--tls 127.0.0.1:9", Cursor::new([]), false);
    let error = result.expect_err("whom to believe");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("--pin SHA256"), "{error}");
    assert!(open(&driver).sockets().expect("a list").is_empty());
    // A peer that speaks no TLS.
    let peer = TcpListener::bind("127.0.0.1:0").expect("binds");
    let at = peer.local_addr().expect("bound");
    let peer = thread::spawn(move || {
        let (mut stream, _) = peer.accept().expect("accepts");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .expect("writes");
        let _ = stream.read(&mut [0; 1000]);
    });
    let line = format!("--tls --pin {} {at}", "0".repeat(64));
    let (_, result) = connect(&driver, &line, Cursor::new([]), false);
    let error = result.expect_err("no TLS").to_string();
    assert!(error.contains("doesn't seem to speak TLS"), "{error}");
    peer.join().expect("good");
}

#[test]
fn a_connection_cut_off_under_tls_is_no_end() {
    let driver = FakeDriver::default();
    let dir = tempfile::tempdir().expect("a directory");
    let (pin, files) = certificate(dir.path());
    // A relay in between, that cuts when the client has something.
    let at = free();
    let stop = Arc::new(AtomicBool::new(false));
    let (typing, input) = held();
    let listener = listen(&driver, &format!("--tls {files} {at}"), input, &stop);
    let between = TcpListener::bind("127.0.0.1:0").expect("binds");
    let line = format!(
        "tcp connect --tls --pin {pin} {}",
        between.local_addr().expect("bound")
    );
    let Command::Tcp(TcpCommand::Connect(args)) = command(&line) else {
        panic!("another command");
    };
    let shown = Shown::default();
    let (client_driver, out) = (driver.clone(), shown.clone());
    let (_hold, input) = held();
    let client = thread::spawn(move || {
        let mut out = Output::new(false, Box::new(out));
        tcp::connect(&open(&client_driver), &args, input, true, &never, &mut out)
    });
    let (near, _) = between.accept().expect("accepts");
    let far = TcpStream::connect(at).expect("connects");
    let clone = |stream: &TcpStream| stream.try_clone().expect("clones");
    let (mut near1, mut far1, mut near2, mut far2) =
        (clone(&near), clone(&far), clone(&near), clone(&far));
    let there = thread::spawn(move || std::io::copy(&mut near1, &mut far1));
    let back = thread::spawn(move || std::io::copy(&mut far2, &mut near2));
    typing.send(b"part".to_vec()).expect("open");
    let until = Instant::now() + SOON;
    while shown.text() != "part" {
        assert!(Instant::now() < until, "nothing comes");
        thread::sleep(Duration::from_millis(5));
    }
    near.shutdown(std::net::Shutdown::Both).expect("cut");
    far.shutdown(std::net::Shutdown::Both).expect("cut");
    let error = client
        .join()
        .expect("ends")
        .expect_err("cut off")
        .to_string();
    assert!(error.contains("without ending TLS"), "{error}");
    assert!(listener.join().expect("ends").1.is_err());
    drop((there.join(), back.join()));
}
