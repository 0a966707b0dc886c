//! `tcp`, `udp`, `chat`, `sockets` against a driver in memory, whose sockets are
//! the host's; the other side is the host's own.

use std::io::{Cursor, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser as _;
use serde_json::json;
use weir_client::fake::FakeDriver;

use crate::cli::{Cli, Command};
use crate::commands::tcp::{self, TcpCommand};
use crate::commands::udp::{self, UdpCommand};
use crate::error::CtlError;
use crate::output::Output;
use crate::tests::{json_of, open, run};

const SOON: Duration = Duration::from_secs(20);

fn command(line: &str) -> Command {
    Cli::parse_from(std::iter::once("weirctl").chain(line.split_whitespace())).command
}

/// An address nobody has.
pub(crate) fn free() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").expect("binds");
    socket.local_addr().expect("bound")
}

/// An input that stays open until it is told to end.
struct Held(std::sync::mpsc::Receiver<Vec<u8>>, Cursor<Vec<u8>>);

impl Read for Held {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.1.read(buf)? {
                0 => match self.0.recv() {
                    Ok(bytes) => self.1 = Cursor::new(bytes),
                    Err(_) => return Ok(0),
                },
                n => return Ok(n),
            }
        }
    }
}

fn held() -> (std::sync::mpsc::Sender<Vec<u8>>, Held) {
    let (give, take) = std::sync::mpsc::channel();
    (give, Held(take, Cursor::default()))
}

/// `tcp connect`; what came, and how it ended.
fn connect(
    driver: &FakeDriver,
    line: &str,
    input: impl Read + Send + 'static,
    terminal: bool,
) -> (Vec<u8>, Result<(), CtlError>) {
    let Command::Tcp(TcpCommand::Connect(args)) = command(&format!("tcp connect {line}")) else {
        panic!("another command");
    };
    let mut got = Vec::new();
    let mut out = Output::new(false, Box::new(&mut got));
    let result = tcp::connect(&open(driver), &args, input, terminal, &mut out);
    drop(out);
    (got, result)
}

type Listened = (Vec<u8>, Result<(), CtlError>);

/// `tcp listen` in a thread, when it listens.
fn listen(
    driver: &FakeDriver,
    line: &str,
    input: impl Read + Send + 'static,
    stop: &Arc<AtomicBool>,
) -> thread::JoinHandle<Listened> {
    let Command::Tcp(TcpCommand::Listen(args)) = command(&format!("tcp listen {line}")) else {
        panic!("another command");
    };
    let (driver, stop) = (driver.clone(), Arc::clone(stop));
    let before = open(&driver).sockets().expect("a list").len();
    let watched = driver.clone();
    let thread = thread::spawn(move || {
        let mut got = Vec::new();
        let mut out = Output::new(false, Box::new(&mut got));
        let result = tcp::listen(&open(&driver), &args, input, false, &stop, &mut out);
        drop(out);
        (got, result)
    });
    let until = Instant::now() + SOON;
    while open(&watched).sockets().expect("a list").len() == before && !thread.is_finished() {
        assert!(Instant::now() < until, "it doesn't listen");
        thread::sleep(Duration::from_millis(5));
    }
    thread
}

#[test]
fn connect_ends_its_side_at_the_end_of_input_and_shows_what_still_comes() {
    let driver = FakeDriver::default();
    let peer = TcpListener::bind("127.0.0.1:0").expect("binds");
    let at = peer.local_addr().expect("bound");
    let all: Vec<u8> = (0..500_000_u32).map(|n| (n * 3) as u8).collect();
    let want = all.clone();
    let peer = thread::spawn(move || {
        let (mut stream, _) = peer.accept().expect("accepts");
        let mut got = Vec::new();
        stream.read_to_end(&mut got).expect("an end");
        stream.write_all(b"after the end: ").expect("writes");
        stream.write_all(&got).expect("writes");
    });
    // Once as one word, once as two.
    let (got, result) = connect(&driver, &at.to_string(), Cursor::new(all), false);
    result.expect("good");
    peer.join().expect("good");
    assert!(got.starts_with(b"after the end: "));
    assert!(got[15..] == want);
    let line = format!("{} {}", at.ip(), at.port());
    let (_, result) = connect(&driver, &line, Cursor::new([]), false);
    let error = result.expect_err("nobody listens any more");
    assert!(
        error
            .to_string()
            .starts_with(&format!("connecting to {at}: nobody listens"))
    );
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn at_a_terminal_connect_ends_with_its_peer() {
    let driver = FakeDriver::default();
    let peer = TcpListener::bind("127.0.0.1:0").expect("binds");
    let at = peer.local_addr().expect("bound");
    let peer = thread::spawn(move || {
        let (mut stream, _) = peer.accept().expect("accepts");
        stream.write_all(b"bye").expect("writes");
    });
    let (_typing, input) = held();
    let (got, result) = connect(&driver, &at.to_string(), input, true);
    result.expect("good");
    assert_eq!(got, b"bye");
    peer.join().expect("good");
}

#[test]
fn a_connection_where_nothing_moves_ends_in_its_time() {
    let driver = FakeDriver::default();
    let peer = TcpListener::bind("127.0.0.1:0").expect("binds");
    let (_typing, input) = held();
    let before = Instant::now();
    let line = format!("-w 0.2 {}", peer.local_addr().expect("bound"));
    let (_, result) = connect(&driver, &line, input, false);
    result.expect("that is no error");
    assert!(before.elapsed() >= Duration::from_millis(200));
    assert!(before.elapsed() < SOON);
}

#[test]
fn a_reset_is_told() {
    let driver = FakeDriver::default();
    let peer = TcpListener::bind("127.0.0.1:0").expect("binds");
    let at = peer.local_addr().expect("bound");
    let peer = thread::spawn(move || {
        let (stream, _) = peer.accept().expect("accepts");
        // Unread bytes make a reset of a close.
        thread::sleep(Duration::from_millis(200));
        drop(stream);
    });
    let (typing, input) = held();
    typing.send(b"not read".to_vec()).expect("open");
    let (_, result) = connect(&driver, &at.to_string(), input, false);
    let error = result.expect_err("reset").to_string();
    assert!(error.contains("the peer reset the connection"), "{error}");
    drop(typing);
    peer.join().expect("good");
}

#[test]
fn listen_takes_one_connection_and_with_k_many() {
    let driver = FakeDriver::default();
    let never = Arc::new(AtomicBool::new(false));
    let at = free();
    let listener = listen(
        &driver,
        &at.to_string(),
        Cursor::new(b"hello".to_vec()),
        &never,
    );
    let mut client = TcpStream::connect(at).expect("connects");
    client.write_all(b"one").expect("writes");
    client.shutdown(std::net::Shutdown::Write).expect("ends");
    let mut got = Vec::new();
    client.read_to_end(&mut got).expect("an end");
    assert_eq!(got, b"hello");
    let (got, result) = listener.join().expect("ends");
    result.expect("good");
    assert_eq!(got, b"one");

    let stop = Arc::new(AtomicBool::new(false));
    let at = free();
    let (typing, input) = held();
    let line = format!("-k --accept-by irp {at}");
    let listener = listen(&driver, &line, input, &stop);
    for i in 0..5_u8 {
        let mut client = TcpStream::connect(at).expect("connects");
        client.write_all(&[b'0' + i]).expect("writes");
        client.shutdown(std::net::Shutdown::Write).expect("ends");
        client.set_read_timeout(Some(SOON)).expect("set");
        assert_eq!(client.read(&mut [0; 1]).expect("an end"), 0);
    }
    stop.store(true, Ordering::Relaxed);
    let (got, result) = listener.join().expect("ends");
    result.expect("good");
    assert_eq!(got, b"01234");
    drop(typing);
}

/// A certificate of one's own, and the files it is in.
fn certificate(dir: &std::path::Path) -> (String, String) {
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
        tcp::connect(&open(&client_driver), &args, input, true, &mut out)
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

fn send(driver: &FakeDriver, line: &str, input: &[u8]) -> (String, Result<(), CtlError>) {
    let Command::Udp(UdpCommand::Send(args)) = command(&format!("udp send {line}")) else {
        panic!("another command");
    };
    let mut got = Vec::new();
    let mut out = Output::new(false, Box::new(&mut got));
    let result = udp::send(&open(driver), &args, Cursor::new(input.to_vec()), &mut out);
    drop(out);
    (String::from_utf8(got).expect("text"), result)
}

#[test]
fn udp_sends_lines_or_chunks_and_shows_answers() {
    let driver = FakeDriver::default();
    let peer = UdpSocket::bind("127.0.0.1:0").expect("binds");
    peer.set_read_timeout(Some(SOON)).expect("set");
    let at = peer.local_addr().expect("bound");
    let mut buf = [0; 100];
    let (_, result) = send(&driver, &at.to_string(), b"one\ntwo\nthree");
    result.expect("sent");
    for want in ["one\n", "two\n", "three"] {
        let n = peer.recv(&mut buf).expect("a datagram");
        assert_eq!(&buf[..n], want.as_bytes());
    }
    let (_, result) = send(&driver, &format!("--chunk 4 {at}"), b"12345\n789");
    result.expect("sent");
    for want in ["1234", "5\n78", "9"] {
        let n = peer.recv(&mut buf).expect("a datagram");
        assert_eq!(&buf[..n], want.as_bytes());
    }
    let answers = thread::spawn(move || {
        let (n, from) = peer.recv_from(&mut buf).expect("a datagram");
        peer.send_to(&buf[..n], from).expect("sends");
        peer.send_to(b"!\n", from).expect("sends");
    });
    let (got, result) = send(&driver, &format!("-d ping -w 0.3 {at}"), b"");
    result.expect("sent");
    assert_eq!(got, "ping!\n");
    answers.join().expect("good");
}

#[test]
fn udp_listen_joins_groups_and_shows_what_comes() {
    let driver = FakeDriver::default();
    let at = free();
    let line = format!(
        "udp listen 0.0.0.0:{} --join 239.77.1.2 -i 1 -n 2",
        at.port()
    );
    let line = line.replace("-n 2", "-c 2");
    let Command::Udp(UdpCommand::Listen(args)) = command(&line) else {
        panic!("another command");
    };
    let listening = driver.clone();
    let listener = thread::spawn(move || {
        let mut got = Vec::new();
        let mut out = Output::new(true, Box::new(&mut got));
        let never = AtomicBool::new(false);
        udp::listen(&open(&listening), &args, &never, &mut out).expect("listens");
        drop(out);
        String::from_utf8(got).expect("text")
    });
    // The group, on the loopback; until both have come.
    let group = format!("239.77.1.2 {} -i 1 -d in-the-group", at.port());
    let plain = format!("{at} -d directly");
    let until = Instant::now() + SOON;
    while !listener.is_finished() {
        send(&driver, &group, b"").1.expect("sent");
        thread::sleep(Duration::from_millis(30));
        send(&driver, &plain, b"").1.expect("sent");
        assert!(Instant::now() < until, "nothing comes");
    }
    let shown = listener.join().expect("good");
    let texts: Vec<serde_json::Value> = shown
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(texts.len(), 2);
    assert!(
        texts.iter().any(|t| t["text"] == json!("in-the-group")),
        "{shown}"
    );
}

#[test]
fn a_group_that_is_none_and_a_port_in_use_are_told() {
    let driver = FakeDriver::default();
    let error = json_of(&driver, "udp listen 127.0.0.1:0 --join 10.0.0.1 -w 1");
    let message = error["error"]["message"].as_str().expect("a message");
    assert!(
        message.starts_with("the membership in 10.0.0.1: "),
        "{message}"
    );
    assert!(message.contains("no multicast group"), "{message}");
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let at = taken.local_addr().expect("bound");
    let stop = Arc::new(AtomicBool::new(true));
    let (_, result) = listen(&driver, &at.to_string(), Cursor::new([]), &stop)
        .join()
        .expect("ends");
    let message = result.expect_err("taken").to_string();
    assert!(
        message.starts_with(&format!("listening on {at}: ")),
        "{message}"
    );
    assert!(message.contains("choose another port"), "{message}");
    assert!(open(&driver).sockets().expect("a list").is_empty());
}

#[test]
fn sockets_are_listed_with_their_owners() {
    let driver = FakeDriver::default();
    assert_eq!(run(&driver, "sockets"), ("no sockets\n".to_owned(), 0));
    let device = open(&driver);
    let listener = weir_client::net::TcpListener::bind(&device, free()).expect("listens");
    let mut client =
        weir_client::net::TcpStream::connect(&device, listener.local_addr()).expect("connects");
    let (mut server, _) = listener.accept().expect("accepts");
    client.write_all(b"four").expect("writes");
    server.read_exact(&mut [0; 4]).expect("reads");
    let object = json_of(&driver, "sockets");
    let list = object["sockets"].as_array().expect("a list");
    let states: Vec<_> = list
        .iter()
        .map(|s| s["state"].as_str().expect("a state"))
        .collect();
    assert_eq!(states, ["listening", "connected", "connected"]);
    assert_eq!(list[2]["bytes_in"], json!(4));
    assert_eq!(list[1]["remote"], json!(listener.local_addr().to_string()));
    assert_eq!(list[0]["owner"], json!(std::process::id()));
    let (text, _) = run(&driver, "sockets");
    assert!(
        text.lines().nth(1).expect("a row").contains(" listening "),
        "{text}"
    );
}

#[test]
fn a_relay_has_a_target_and_others_have_none() {
    let driver = FakeDriver::default();
    let (text, code) = run(
        &driver,
        "service start relay --tcp 127.0.0.1:9001 --to 127.0.0.1:9000",
    );
    assert_eq!(code, 0);
    assert_eq!(
        text,
        "service 1 started: relay on tcp 127.0.0.1:9001 to 127.0.0.1:9000\n"
    );
    let object = json_of(&driver, "service list");
    assert_eq!(object["services"][0]["to"], json!("127.0.0.1:9000"));
    let (text, _) = run(&driver, "service list");
    assert!(text.contains("127.0.0.1:9001 to 127.0.0.1:9000"), "{text}");
    assert_eq!(run(&driver, "service start discard --udp 127.0.0.1:9").1, 0);
    let line = "service start echo --tcp 127.0.0.1:7 --to 127.0.0.1:8";
    assert_eq!(run(&driver, line).1, 1);
    let line = [
        "weirctl",
        "service",
        "start",
        "relay",
        "--tcp",
        "127.0.0.1:9001",
    ];
    assert_eq!(
        Cli::try_parse_from(line)
            .expect_err("no target")
            .exit_code(),
        2
    );
}

/// A writer that many may look at.
#[derive(Clone, Default)]
pub(crate) struct Shown(Arc<Mutex<Vec<u8>>>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shown {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("whole").clone()).expect("text")
    }
}

mod chat {
    use super::*;
    use crate::commands::chat::{self, ChatCommand};
    use std::io::{BufRead as _, BufReader};

    struct Server {
        at: SocketAddr,
        stop: Arc<AtomicBool>,
        thread: Option<thread::JoinHandle<()>>,
    }

    impl Server {
        fn start(driver: &FakeDriver, extra: &str) -> Server {
            let at = free();
            let line = format!("chat serve {at} {extra}");
            let Command::Chat(ChatCommand::Serve(args)) = command(&line) else {
                panic!("another command");
            };
            let stop = Arc::new(AtomicBool::new(false));
            let (driver, stopped) = (driver.clone(), Arc::clone(&stop));
            let shown = Shown::default();
            let out = shown.clone();
            let thread = thread::spawn(move || {
                let mut out = Output::new(false, Box::new(out));
                chat::serve(&open(&driver), &args, &stopped, &mut out).expect("serves");
            });
            let until = Instant::now() + SOON;
            while shown.text().is_empty() {
                assert!(Instant::now() < until, "it doesn't listen");
                thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(shown.text(), format!("chat on {at}\n"));
            let thread = Some(thread);
            Server { at, stop, thread }
        }

        /// A member over a socket of the host's, as `nc` is one.
        fn member(&self, hello: &str) -> Member {
            let stream = TcpStream::connect(self.at).expect("connects");
            stream.set_read_timeout(Some(SOON)).expect("set");
            (&stream)
                .write_all(format!("{hello}\n").as_bytes())
                .expect("writes");
            Member(BufReader::new(stream))
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.stop.store(true, Ordering::Relaxed);
            if let Some(thread) = self.thread.take() {
                thread.join().expect("ends well");
            }
        }
    }

    struct Member(BufReader<TcpStream>);

    impl Member {
        fn say(&self, text: &str) {
            self.0
                .get_ref()
                .write_all(format!("{text}\n").as_bytes())
                .expect("writes");
        }

        /// The next line; empty at the end.
        fn hears(&mut self) -> String {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("a line");
            line.trim_end().to_owned()
        }
    }

    #[test]
    fn rooms_names_and_what_is_wrong_with_them() {
        let driver = FakeDriver::default();
        let server = Server::start(&driver, "");
        let mut ann = server.member("join Ann lobby");
        assert_eq!(ann.hears(), "* Ann joined lobby (1 here)");
        let mut bob = server.member("join bob");
        assert_eq!(bob.hears(), "* bob joined lobby (2 here)");
        assert_eq!(ann.hears(), "* bob joined lobby (2 here)");
        for (hello, why) in [
            (
                "join ANN lobby",
                "! somebody has this name already; choose another",
            ),
            ("join a/b lobby", "! a name has 1 to 32 letters"),
            ("join x bad/room", "! a name has 1 to 32 letters"),
            ("hello", "! say `join NAME ROOM` first"),
            (&"x".repeat(5000), "! say `join NAME ROOM` first"),
        ] {
            let mut refused = server.member(hello);
            assert!(refused.hears().starts_with(why), "{hello}");
            assert_eq!(refused.hears(), "", "it is over");
        }
        bob.say("hello, Ann");
        assert_eq!(ann.hears(), "<bob> hello, Ann");
        ann.say(&"y".repeat(1025));
        assert!(
            ann.hears()
                .starts_with("! that line has more than 1024 bytes")
        );
        ann.say("/who");
        assert_eq!(ann.hears(), "= 2 here: Ann bob");
        ann.say("/dance");
        assert!(ann.hears().starts_with("! there is /room"));
        ann.say("/room kitchen");
        assert_eq!(bob.hears(), "* Ann left lobby: to kitchen");
        assert_eq!(ann.hears(), "* Ann joined kitchen (1 here)");
        ann.say("/room lobby");
        assert_eq!(bob.hears(), "* Ann joined lobby (2 here)");
        bob.say("/quit");
        assert_eq!(bob.hears(), "");
        assert_eq!(ann.hears(), "* Ann joined lobby (2 here)");
        assert_eq!(ann.hears(), "* bob left lobby: left");
        drop(server);
        assert_eq!(ann.hears(), "! the server stops");
        assert_eq!(ann.hears(), "");
    }

    #[test]
    fn the_client_shows_what_is_said_and_is_told_why_it_may_not_come_in() {
        let driver = FakeDriver::default();
        let server = Server::start(&driver, "");
        let mut ann = server.member("join ann");
        assert_eq!(ann.hears(), "* ann joined lobby (1 here)");
        let join = |name: &str, input: Held| {
            let line = format!("chat join {} --name {name}", server.at);
            let Command::Chat(ChatCommand::Join(args)) = command(&line) else {
                panic!("another command");
            };
            let (driver, shown) = (driver.clone(), Shown::default());
            let out = shown.clone();
            let thread = thread::spawn(move || {
                let mut out = Output::new(false, Box::new(out));
                chat::join(&open(&driver), &args, input, false, &mut out)
            });
            (thread, shown)
        };
        let (typing, input) = held();
        let (client, shown) = join("bob", input);
        assert_eq!(ann.hears(), "* bob joined lobby (2 here)");
        typing.send(b"hi\n".to_vec()).expect("open");
        assert_eq!(ann.hears(), "<bob> hi");
        ann.say("hello \x07bob");
        let until = Instant::now() + SOON;
        while !shown.text().contains("<ann>") {
            assert!(Instant::now() < until, "{}", shown.text());
            thread::sleep(Duration::from_millis(5));
        }
        drop(typing);
        assert_eq!(ann.hears(), "* bob left lobby: left");
        client.join().expect("ends").expect("good");
        assert_eq!(
            shown.text(),
            "* bob joined lobby (2 here)\n<ann> hello bob\n"
        );

        let (_typing, input) = held();
        let (client, _) = join("ANN", input);
        let error = client.join().expect("ends").expect_err("taken").to_string();
        assert_eq!(
            error,
            "not let in: somebody has this name already; choose another"
        );
    }

    #[test]
    fn a_thousand_members_hear_each_other_and_one_that_does_not_read_holds_up_nobody() {
        const MEMBERS: usize = 1000;
        let driver = FakeDriver::default();
        let server = Server::start(&driver, "--queue 2048");
        // Reads nothing from now on.
        let deaf = server.member("join deaf big");
        let ready = Arc::new(std::sync::Barrier::new(5));
        let at = server.at;
        let readers: Vec<_> = (0..4_usize)
            .map(|part| {
                let ready = Arc::clone(&ready);
                thread::spawn(move || {
                    let mut members: Vec<Member> = (0..MEMBERS / 4)
                        .map(|i| {
                            let stream = TcpStream::connect(at).expect("connects");
                            stream
                                .set_read_timeout(Some(Duration::from_secs(60)))
                                .expect("set");
                            let hello = format!("join m{part}-{i} big\n");
                            (&stream).write_all(hello.as_bytes()).expect("writes");
                            Member(BufReader::new(stream))
                        })
                        .collect();
                    ready.wait();
                    // The speaker's last words end it.
                    for member in &mut members {
                        let mut said = 0;
                        loop {
                            let line = member.hears();
                            assert!(!line.is_empty(), "thrown out");
                            said += usize::from(line.starts_with("<speaker> "));
                            if line == "<speaker> done" {
                                break;
                            }
                        }
                        assert_eq!(said, 51);
                    }
                })
            })
            .collect();
        ready.wait();
        let mut speaker = server.member("join speaker big");
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            speaker.say("/who");
            let line = loop {
                let line = speaker.hears();
                if line.starts_with('=') {
                    break line;
                }
            };
            // All of them, the speaker, and who doesn't read if it is there yet.
            let here: usize = line
                .split_whitespace()
                .nth(1)
                .expect("a number")
                .parse()
                .expect("one");
            if here > MEMBERS {
                break;
            }
            assert!(Instant::now() < until, "{here} of {MEMBERS}");
            thread::sleep(Duration::from_millis(50));
        }
        for _ in 0..50 {
            speaker.say(&"z".repeat(1000));
        }
        speaker.say("done");
        for reader in readers {
            reader.join().expect("heard all of it");
        }
        drop(deaf);
    }
}
