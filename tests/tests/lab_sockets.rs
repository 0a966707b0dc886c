//! `weirctl tcp` and `udp`: kernel sockets of programs, against clients and
//! servers nobody here wrote.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use weir_lab_harness::windows_path;
use weir_tests::clients::{
    Background, PATIENCE, connect, free_port, listening, noise, run, until_listening,
};
use weir_tests::lab::{Fixture, SERVICE, config, weir_sys};
use weir_tests::services::{sockets, until_no_socket};

#[test]
fn nc_and_weirctl_talk_and_each_may_end_first() {
    let fixture = Fixture::weir("sockets-nc");
    let text = noise(2_000_000);
    // weirctl listens; nc sends, ends its direction, and gets the answer.
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let mut listener = Background::weirctl(&fixture, &["tcp", "listen", any]);
        let at = listener.listening();
        listener.tell(b"from the kernel's side");
        let (host, port) = (at.ip().to_string(), at.port().to_string());
        let out = run("nc", &["-N", "-w", "20", &host, &port], &text);
        assert_eq!(out.stdout, b"from the kernel's side");
        assert!(listener.output() == text, "what nc sent");
    }
    // weirctl connects.
    let port = free_port();
    let port_text = port.to_string();
    let mut server = Background::start(Command::new("nc").args(["-lN", "127.0.0.1", &port_text]));
    until_listening(port);
    let mut client = Background::weirctl(&fixture, &["tcp", "connect", "127.0.0.1", &port_text]);
    client.tell(&text);
    server.tell(b"from nc");
    assert_eq!(client.output(), b"from nc");
    assert!(server.output() == text, "what weirctl sent");
    until_no_socket(&fixture);
    fixture.unload();
}

#[test]
fn names_are_resolved_and_what_cannot_be_is_said() {
    let fixture = Fixture::weir("sockets-bad");
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("an address").port().to_string();
    let mut client = Background::weirctl(&fixture, &["tcp", "connect", "localhost", &port]);
    client.tell(b"by name");
    let (mut peer, _) = server.accept().expect("it connects");
    let mut all = Vec::new();
    peer.read_to_end(&mut all).expect("its end");
    assert_eq!(all, b"by name");
    drop(peer);
    assert_eq!(client.output(), b"");
    let taken = format!("127.0.0.1:{port}");
    let nobody = free_port().to_string();
    let cases: [&[&str]; 6] = [
        &["tcp", "connect", "no-such-name.invalid", "7"],
        &["tcp", "connect", "127.0.0.1", &nobody],
        &["tcp", "listen", &taken],
        &["tcp", "listen", "192.0.2.1:0"],
        &["udp", "listen", "0.0.0.0:0", "--join", "10.1.2.3"],
        &["service", "start", "echo", "--tcp", &taken],
    ];
    for arguments in cases {
        let (code, said) = fixture.fails(arguments);
        assert!(code != 0 && !said.trim().is_empty(), "{arguments:?}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        until_no_socket(&fixture);
    }
    fixture.unload();
}

/// An authority of openssl's making, and a key and certificate for `localhost`
/// that it has signed.
fn certificate(folder: &Path) {
    let new = [
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
    ];
    let authority = [
        "-subj",
        "/CN=some authority",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ];
    let server = [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
    ];
    for what in [&authority[..], &server] {
        let made = Command::new("openssl")
            .args(new)
            .args(what)
            .current_dir(folder)
            .output()
            .expect("openssl");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
    }
}

#[test]
fn openssl_is_spoken_to_on_both_sides() {
    let fixture = Fixture::weir("sockets-tls");
    let folder = tempfile::tempdir().expect("a folder");
    certificate(folder.path());
    // s_client on a listener with a certificate of its own making.
    let mut listener = Background::weirctl(&fixture, &["tcp", "listen", "127.0.0.1:0", "--tls"]);
    let at = listener.listening().to_string();
    let pin = listener.says("certificate pin ");
    listener.tell(b"from the kernel's side\n");
    let mut client =
        Background::start(Command::new("openssl").args(["s_client", "-quiet", "-connect", &at]));
    client
        .input
        .as_mut()
        .expect("an input")
        .write_all(b"hello\n")
        .expect("it reads");
    let mut got = [0; 23];
    client.read_exact(&mut got);
    assert_eq!(&got, b"from the kernel's side\n");
    client.kill();
    assert_eq!(listener.output(), b"hello\n");
    assert!(pin.len() >= 64, "{pin}");
    // s_server, believed by its authority, by its pin, and not at all.
    let port = free_port();
    let port_text = port.to_string();
    let server = Background::start(
        Command::new("openssl")
            .args(["s_server", "-www", "-key", "key.pem", "-cert", "cert.pem"])
            .args(["-accept", &port_text])
            .current_dir(folder.path()),
    );
    until_listening(port);
    let authority = windows_path(&folder.path().join("ca.pem"));
    let print = run(
        "openssl",
        &["x509", "-noout", "-fingerprint", "-sha256", "-in"]
            .iter()
            .copied()
            .chain([folder.path().join("cert.pem").to_str().expect("a path")])
            .collect::<Vec<_>>(),
        b"",
    );
    let print = String::from_utf8_lossy(&print.stdout).into_owned();
    let pin = print
        .trim()
        .split_once('=')
        .expect("a fingerprint")
        .1
        .replace(':', "")
        .to_lowercase();
    let wrong = "00".repeat(32);
    let to = ["tcp", "connect", "localhost", port_text.as_str(), "--tls"];
    for (trust, believed) in [
        (["--ca", authority.as_str()], true),
        (["--pin", pin.as_str()], true),
        (["--pin", wrong.as_str()], false),
    ] {
        let mut client = Background::weirctl(&fixture, &[&to[..], &trust].concat());
        if believed {
            client.tell(b"GET / HTTP/1.0\r\n\r\n");
            let page = client.output();
            let page = String::from_utf8_lossy(&page);
            assert!(page.contains("TLSv1.3"), "{trust:?}: {page}");
        } else {
            assert_eq!(client.output(), b"", "{trust:?}");
        }
    }
    drop(server);
    until_no_socket(&fixture);
    fixture.unload();
}

const PYTHON_SEND: &str = "
import socket, sys
to, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if kind == 'broadcast':
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
else:
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('127.0.0.1'))
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
s.sendto(kind.encode(), (to, port))
";

const PYTHON_JOIN: &str = "
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(30)
s.bind(('', int(sys.argv[2])))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
             socket.inet_aton(sys.argv[1]) + socket.inet_aton('127.0.0.1'))
print('listening on x', file=sys.stderr, flush=True)
data, peer = s.recvfrom(100)
print(data.decode(), end='')
";

/// The loopback interface's index is 1 on every Linux.
#[test]
fn groups_and_broadcasts_reach_and_come_from_python() {
    let fixture = Fixture::weir("sockets-groups");
    let group = "239.77.1.2";
    for (kind, to) in [("multicast", group), ("broadcast", "127.255.255.255")] {
        let mut arguments = vec!["udp", "listen", "0.0.0.0:0", "--count", "1", "--json"];
        if kind == "multicast" {
            arguments.extend(["--join", group, "--interface", "1"]);
        }
        let listener = Background::weirctl(&fixture, &arguments);
        let said: Value = serde_json::from_str(&listener.says("")).expect("JSON");
        let port = said["port"].as_u64().expect("a port").to_string();
        let sent = run("python3", &["-c", PYTHON_SEND, to, &port, kind], b"");
        assert!(
            sent.status.success(),
            "{}",
            String::from_utf8_lossy(&sent.stderr)
        );
        let got: Value = serde_json::from_slice(&listener.output()).expect("JSON");
        assert_eq!(got["text"], kind, "{got}");
        assert_eq!(got[kind], true, "{got}");
    }
    let port = free_port().to_string();
    let python = Background::start(Command::new("python3").args(["-c", PYTHON_JOIN, group, &port]));
    assert_eq!(python.says("listening on "), "x");
    let sent = fixture.weirctl(&[
        "udp",
        "send",
        group,
        &port,
        "--data",
        "to all",
        "--interface",
        "1",
    ]);
    assert!(
        sent.status.success(),
        "{}",
        String::from_utf8_lossy(&sent.stderr)
    );
    assert_eq!(python.output(), b"to all");
    until_no_socket(&fixture);
    fixture.unload();
}

#[test]
fn the_list_says_what_ss_says_and_a_killed_program_leaves_nothing() {
    let fixture = Fixture::weir("sockets-list");
    let mut listener = Background::weirctl(&fixture, &["tcp", "listen", "127.0.0.1:0", "-k"]);
    let at = listener.listening();
    let mut datagrams = Background::weirctl(&fixture, &["udp", "listen", "127.0.0.1:0"]);
    let udp = datagrams.listening();
    let mut peer = connect(at);
    peer.write_all(b"four").expect("it takes data");
    let mut got = [0; 4];
    listener.read_exact(&mut got);
    let list = sockets(&fixture);
    let find = |kind: &str| {
        let found = list.iter().find(|one| one["kind"] == kind);
        found.unwrap_or_else(|| panic!("no {kind} in {list:?}"))
    };
    let stream = list.iter().find(|one| one["remote"].is_string());
    let stream = stream.expect("the connection is listed");
    let own = peer.local_addr().expect("an address").to_string();
    assert_eq!(stream["remote"], own, "{stream}");
    assert_eq!(stream["local"], at.to_string(), "{stream}");
    assert_eq!(stream["bytes_in"], 4, "{stream}");
    assert!(stream["owner"].as_u64() > Some(0), "{stream}");
    assert!(
        list.iter().any(|one| one["local"] == udp.to_string()),
        "{list:?}"
    );
    let _listed = find(list[0]["kind"].as_str().expect("a kind"));
    let seen = listening();
    for bound in [at, udp] {
        assert!(seen.contains(&format!("{bound} ")), "{bound} in {seen}");
    }
    listener.kill();
    datagrams.kill();
    until_no_socket(&fixture);
    let gone = peer.read(&mut got);
    assert!(!matches!(gone, Ok(1..)), "{gone:?}");
    let seen = listening();
    for bound in [at, udp] {
        assert!(!seen.contains(&format!("{bound} ")), "{bound} in {seen}");
    }
    fixture.unload();
}

/// A peer that doesn't read holds the sender back, and nobody else.
#[test]
fn a_peer_that_does_not_read_is_waited_for() {
    let fixture = Fixture::weir("sockets-slow");
    let mut listener = Background::weirctl(&fixture, &["tcp", "listen", "127.0.0.1:0"]);
    let at = listener.listening();
    let text = noise(12_000_000);
    let mut input = listener.input.take().expect("an input");
    let whole = text.clone();
    let feeder = std::thread::spawn(move || input.write_all(&whole));
    let mut slow = connect(at);
    let (mut all, mut part) = (Vec::new(), vec![0; 100_000]);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!feeder.is_finished(), "12 MB fit nowhere on the way");
    while all.len() < text.len() {
        match slow.read(&mut part) {
            Ok(0) => break,
            Ok(got) => all.extend_from_slice(&part[..got]),
            Err(error) => panic!("{error} after {} bytes", all.len()),
        }
    }
    assert!(all == text, "{} bytes came", all.len());
    feeder.join().expect("a feeder").expect("it reads");
    drop(slow);
    assert_eq!(listener.output(), b"");
    fixture.unload();
}

/// A peer that a rule in force drops is refused before anybody has it.
#[test]
fn a_rule_refuses_a_peer_of_a_conditional_listener() {
    let fixture = Fixture::weir("sockets-refused");
    let mut listener = Background::weirctl(
        &fixture,
        &["tcp", "listen", "127.0.0.1:0", "--conditional", "-k"],
    );
    let at = listener.listening();
    let mut before = connect(at);
    before.write_all(b"one").expect("it takes data");
    let mut got = [0; 3];
    listener.read_exact(&mut got);
    drop(before);
    let port = at.port().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("refuse.rules");
    let text = format!("rule refuse drop in tcp dst port {port}\n");
    std::fs::write(&file, text).expect("a rule file");
    let rules = fixture.weirctl(&["rules", "load", &windows_path(&file)]);
    assert!(
        rules.status.success(),
        "{}",
        String::from_utf8_lossy(&rules.stderr)
    );
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, at.port())).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read(&mut [0])
    });
    assert!(refused.is_err(), "{refused:?}");
    listener.kill();
    until_no_socket(&fixture);
    fixture.unload();
}

/// Another implementation's opinion on the driver's use of the interface: as far
/// as Wine's own WSK goes, which is connecting, sending, receiving, closing.
#[test]
fn a_stream_works_on_wines_own_wsk_too() {
    let fixture = Fixture::bare("sockets-wine");
    let mut config = config();
    config.wsk.provider = Some("wine".into());
    fixture.lab.configure(&config).expect("a configuration");
    let image = weir_sys();
    let installed = fixture.lab.install_driver(SERVICE, &image);
    installed.expect("the driver is installed");
    fixture
        .lab
        .start_driver(SERVICE)
        .expect("the driver starts");
    let text = noise(1_000_000);
    let port = free_port();
    let port_text = port.to_string();
    let mut server = Background::start(Command::new("nc").args(["-lN", "127.0.0.1", &port_text]));
    until_listening(port);
    let mut client = Background::weirctl(&fixture, &["tcp", "connect", "127.0.0.1", &port_text]);
    client.tell(&text);
    server.tell(b"from nc");
    assert_eq!(client.output(), b"from nc");
    assert!(server.output() == text, "what weirctl sent");
    // What Wine has not is said to be missing, and nothing hangs.
    let (_, said) = fixture.fails(&["tcp", "listen", "127.0.0.1:0"]);
    assert!(said.contains("NOT_SUPPORTED"), "{said}");
    let events = fixture.lab.events();
    assert!(events.iter().any(|event| event.0["provider"] == "wine"));
    until_no_socket(&fixture);
    fixture.unload();
}
