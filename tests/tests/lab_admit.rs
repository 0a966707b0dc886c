//! Conditional accept, as a peer and the wire see it: who is refused gets a reset
//! in place of the handshake's answer, who is let in never notices.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use weir_lab_harness::windows_path;
use weir_tests::clients::{Background, PATIENCE, free_port, noise};
use weir_tests::lab::Fixture;
use weir_tests::services::{service, start, until_no_socket};

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// linux/if_ether.h and bits/socket.h.
const ETH_P_ALL: u16 = 3;
const AF_PACKET: i32 = 17;

/// One TCP segment that went over the host's network: its ports and flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Segment {
    from: u16,
    to: u16,
    flags: u8,
}

/// Everything the host sends and receives, TCP alone.
struct Wire {
    stop: Arc<AtomicBool>,
    seen: JoinHandle<Vec<Segment>>,
}

impl Wire {
    fn tap() -> Self {
        let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let mut socket = Socket::new(Domain::from(AF_PACKET), Type::DGRAM, Some(all))
            .expect("packets are seen: the lab's tests run as root");
        let often = Some(Duration::from_millis(50));
        socket.set_read_timeout(often).expect("a timeout");
        // What other programs send meanwhile must not push ours out.
        let _as_much_as_may_be = socket.set_recv_buffer_size(16 << 20);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let seen = std::thread::spawn(move || {
            let mut seen = Vec::new();
            let mut packet = [0; 2048];
            loop {
                match socket.read(&mut packet) {
                    Ok(len) => seen.extend(packet.get(..len).and_then(segment)),
                    // Nothing is left of what came before it was stopped.
                    Err(_) if stopped.load(Ordering::Relaxed) => return seen,
                    Err(_) => {}
                }
            }
        });
        Self { stop, seen }
    }

    /// What was seen of connections to `port`, each packet as often as it was.
    fn seen(self, port: u16) -> Vec<Segment> {
        self.stop.store(true, Ordering::Relaxed);
        let mut seen = self.seen.join().expect("the wire is watched");
        seen.retain(|segment| segment.from == port || segment.to == port);
        seen
    }
}

/// A TCP segment in a packet without its link's header.
fn segment(packet: &[u8]) -> Option<Segment> {
    let (protocol, at) = match packet.first()? >> 4 {
        4 => (*packet.get(9)?, usize::from(packet.first()? & 15) * 4),
        6 => (*packet.get(6)?, 40),
        _ => return None,
    };
    let header = packet.get(at..at + 20).filter(|_| protocol == 6)?;
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    Some(Segment {
        from: port(0),
        to: port(2),
        flags: header[13] & (SYN | RST | ACK),
    })
}

/// Connects from a port.
fn connect_from(port: u16, to: SocketAddr) -> Result<TcpStream, ErrorKind> {
    let ip: IpAddr = to.ip();
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    let from = SocketAddr::new(ip, port);
    socket.bind(&from.into()).expect("the port is free");
    socket.connect(&to.into()).map_err(|error| error.kind())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    Ok(stream)
}

/// Rules that drop what comes from `refused` to any of the ports.
fn refuse(fixture: &Fixture, refused: u16, ports: &[u16]) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("refuse.rules");
    let mut text = String::new();
    for port in ports {
        text +=
            &format!("rule refuse{port} drop in tcp dst port {port} and tcp src port {refused}\n");
    }
    std::fs::write(&file, text).expect("a rule file");
    let loaded = fixture.weirctl(&["rules", "load", &windows_path(&file)]);
    assert!(loaded.status.success(), "{loaded:?}");
}

/// The refused peer is refused and the other connected; then `talk` has it.
fn one_of_two(at: SocketAddr, refused: u16, talk: impl FnOnce(&mut TcpStream)) {
    let wire = Wire::tap();
    let outcome = connect_from(refused, at).map(drop);
    assert_eq!(outcome, Err(ErrorKind::ConnectionRefused), "{at}");
    let allowed = free_port();
    let mut stream = connect_from(allowed, at).expect("it is let in");
    talk(&mut stream);
    drop(stream);
    let seen = wire.seen(at.port());
    let of = |port: u16, flags: u8| {
        let wanted = |s: &&Segment| (s.from == port || s.to == port) && s.flags == flags;
        seen.iter().filter(wanted).count()
    };
    assert!(of(refused, SYN) > 0, "it asked: {seen:?}");
    assert_eq!(of(refused, SYN | ACK), 0, "it was answered: {seen:?}");
    assert!(of(refused, RST | ACK) > 0, "it was told: {seen:?}");
    assert!(of(allowed, SYN | ACK) > 0, "the other was: {seen:?}");
}

#[test]
fn a_service_refuses_a_peer_before_the_handshake_is_answered() {
    let fixture = Fixture::weir("admit-service");
    let services: Vec<SocketAddr> = ["127.0.0.1:0", "[::1]:0"]
        .iter()
        .map(|any| {
            let (id, at) = start(&fixture, &["echo", "--tcp", any, "--conditional"]);
            assert_eq!(service(&fixture, id)["conditional"], json!(true));
            at
        })
        .collect();
    let refused = free_port();
    let ports: Vec<u16> = services.iter().map(SocketAddr::port).collect();
    refuse(&fixture, refused, &ports);
    let text = noise(300_000);
    for at in services {
        one_of_two(at, refused, |stream| {
            let mut sender = stream.try_clone().expect("a second handle");
            std::thread::scope(|scope| {
                scope.spawn(|| sender.write_all(&text).expect("it takes data"));
                let mut back = vec![0; text.len()];
                stream.read_exact(&mut back).expect("its echo");
                assert!(back == text, "the echo is the same");
            });
        });
    }
    judged(&fixture, 2, 2);
    fixture.unload();
}

/// Nobody is asked about where that wasn't asked for: a rule that would refuse the
/// peer of a conditional service doesn't keep it out of another.
#[test]
fn a_service_that_is_not_conditional_lets_every_peer_in() {
    let fixture = Fixture::weir("admit-unasked");
    let (id, at) = start(&fixture, &["echo", "--tcp", "127.0.0.1:0"]);
    let dropped = free_port();
    refuse(&fixture, dropped, &[at.port()]);
    let mut stream = connect_from(dropped, at).expect("it is let in");
    stream.write_all(b"let in").expect("it takes data");
    let mut back = [0; 6];
    stream.read_exact(&mut back).expect("its echo");
    assert_eq!(&back, b"let in");
    drop(stream);
    let shown = service(&fixture, id);
    assert_eq!(shown["conditional"], json!(false), "{shown}");
    assert_eq!(shown["accepted"], json!(1), "{shown}");
    assert_eq!(shown["dropped"], json!(0), "{shown}");
    judged(&fixture, 0, 0);
    fixture.unload();
}

#[test]
fn a_handles_listener_refuses_a_peer_before_the_handshake_is_answered() {
    let fixture = Fixture::weir("admit-handle");
    for (any, by) in [
        ("127.0.0.1:0", "event"),
        ("[::1]:0", "event"),
        ("127.0.0.1:0", "irp"),
    ] {
        let arguments = [
            "tcp",
            "listen",
            any,
            "--conditional",
            "-k",
            "--accept-by",
            by,
        ];
        let mut listener = Background::weirctl(&fixture, &arguments);
        let at = listener.listening();
        let refused = free_port();
        refuse(&fixture, refused, &[at.port()]);
        one_of_two(at, refused, |stream| {
            stream.write_all(b"let in").expect("it takes data");
            let mut got = [0; 6];
            listener.read_exact(&mut got);
            assert_eq!(&got, b"let in");
        });
        listener.kill();
        until_no_socket(&fixture);
    }
    judged(&fixture, 3, 3);
    fixture.unload();
}

/// Each peer was asked about once.
fn judged(fixture: &Fixture, accepted: u64, rejected: u64) {
    let counts = fixture.ask(&json!({"cmd": "wsk"}));
    assert_eq!(counts["inspected_accepted"], accepted, "{counts}");
    assert_eq!(counts["inspected_rejected"], rejected, "{counts}");
    assert_eq!(counts["inspected_aborted"], 0, "{counts}");
}
