//! `weirctl tcp` and `udp`: kernel sockets of programs, against clients and
//! servers nobody here wrote.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use weir_lab_harness::windows_path;
use weir_tests::clients::{
    Background, PATIENCE, accept, connect, free_port, listening, noise, run, until_listening,
};
use weir_tests::lab::Fixture;
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

/// A listener on `[::]` has IPv6 peers, and with `--dual` those of IPv4 too.
#[test]
fn both_families_are_spoken() {
    let fixture = Fixture::weir("sockets-both");
    for dual in [true, false] {
        let mut arguments = vec!["tcp", "listen", "[::]:0", "-k"];
        arguments.extend(dual.then_some("--dual"));
        let mut listener = Background::weirctl(&fixture, &arguments);
        let port = listener.listening().port();
        let mut six = connect((Ipv6Addr::LOCALHOST, port).into());
        six.write_all(b"six").expect("it takes data");
        let mut got = [0; 3];
        listener.read_exact(&mut got);
        assert_eq!(&got, b"six");
        drop(six);
        let four = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        if dual {
            four.expect("it accepts").write_all(b"4th").expect("taken");
            listener.read_exact(&mut got);
            assert_eq!(&got, b"4th");
        } else {
            let refused = four.expect_err("nobody is there");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
        listener.kill();
    }
    // Connecting, with each way to write an address.
    let server = TcpListener::bind("[::1]:0").expect("a port");
    let port = server.local_addr().expect("an address").port().to_string();
    let one_word = format!("[::1]:{port}");
    for to in [
        &["::1", &port][..],
        &[one_word.as_str()],
        &["--source", "[::1]:0", "::1", &port],
    ] {
        let arguments = [&["tcp", "connect"], to].concat();
        let mut client = Background::weirctl(&fixture, &arguments);
        client.tell(b"over IPv6");
        let mut peer = accept(&server);
        let from = peer.peer_addr().expect("an address");
        assert_eq!(from.ip(), Ipv6Addr::LOCALHOST);
        let mut all = Vec::new();
        peer.read_to_end(&mut all).expect("its end");
        assert_eq!(all, b"over IPv6");
        drop(peer);
        assert_eq!(client.output(), b"");
    }
    until_no_socket(&fixture);
    fixture.unload();
}

#[test]
fn names_are_resolved() {
    let fixture = Fixture::weir("sockets-names");
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("an address").port().to_string();
    let mut client = Background::weirctl(&fixture, &["tcp", "connect", "localhost", &port]);
    client.tell(b"by name");
    let mut peer = accept(&server);
    let mut all = Vec::new();
    peer.read_to_end(&mut all).expect("its end");
    assert_eq!(all, b"by name");
    drop(peer);
    assert_eq!(client.output(), b"");
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
    let fixture = Fixture::configured("sockets-wine", |config| {
        config.wsk.provider = Some("wine".into());
    });
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
