//! `tcp`, `udp`, `chat`, `sockets` against a driver in memory, whose sockets are
//! the host's; the other side is the host's own.

mod chat;
mod ends;
mod errors;
mod limits;
mod tls;

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

/// No Ctrl-C.
fn never() -> Result<Arc<AtomicBool>, CtlError> {
    Ok(Arc::default())
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
    let result = tcp::connect(&open(driver), &args, input, terminal, &never, &mut out);
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
    // Others may go meanwhile.
    let ids = |driver: &FakeDriver| -> Vec<u64> {
        let list = open(driver).sockets().expect("a list");
        list.iter().map(|socket| socket.id).collect()
    };
    let before = ids(&driver);
    let watched = driver.clone();
    let thread = thread::spawn(move || {
        let mut got = Vec::new();
        let mut out = Output::new(false, Box::new(&mut got));
        let result = tcp::listen(&open(&driver), &args, input, false, &stop, &mut out);
        drop(out);
        (got, result)
    });
    let until = Instant::now() + SOON;
    while ids(&watched).iter().all(|id| before.contains(id)) && !thread.is_finished() {
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

// Wine's own sockets end in order when they are closed with unread bytes.
#[cfg(unix)]
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
