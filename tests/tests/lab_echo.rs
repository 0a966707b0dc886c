//! The kernel's echo services, asked by the host's own clients.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_tests::clients::{PATIENCE, connect, reset, run};
use weir_tests::lab::Fixture;
use weir_tests::services::{self, service};

/// Starts an echo service and returns its id and where it listens.
fn start(fixture: &Fixture, transport: &str, address: &str) -> (u64, SocketAddr) {
    services::start(fixture, &["echo", transport, address])
}

/// What nc gets back for what it sends.
fn nc(options: &[&str], address: SocketAddr, text: &[u8]) -> Vec<u8> {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let arguments = [options, &[&host, &port]].concat();
    run("nc", &arguments, text).stdout
}

#[test]
fn nc_gets_back_what_it_sends() {
    let fixture = Fixture::weir("echo-nc");
    let long: Vec<u8> = (0..2_000_000_u32).map(|i| (i % 251) as u8).collect();
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let (id, address) = start(&fixture, "--tcp", any);
        for text in [&b"x"[..], b"hello, kernel\n", &long] {
            assert!(
                nc(&["-N", "-w", "20"], address, text) == text,
                "{} bytes",
                text.len()
            );
        }
        let counted = service(&fixture, id);
        let bytes = 1 + 14 + long.len() as u64;
        assert_eq!(counted["bytes_in"].as_u64(), Some(bytes), "{counted}");
        assert_eq!(counted["bytes_out"].as_u64(), Some(bytes), "{counted}");
        let (_, address) = start(&fixture, "--udp", any);
        assert_eq!(
            nc(&["-u", "-w", "1"], address, b"one datagram"),
            b"one datagram"
        );
    }
    fixture.unload();
}

#[test]
fn a_thousand_connections_at_once_and_none_left() {
    let fixture = Fixture::weir("echo-many");
    let (id, address) = start(&fixture, "--tcp", "127.0.0.1:0");
    let mut open: Vec<TcpStream> = (0..1000).map(|_| connect(address)).collect();
    for round in 0..3_u32 {
        for (i, stream) in open.iter_mut().enumerate() {
            write!(stream, "{round:04}{i:08}").expect("it takes data");
        }
        for (i, stream) in open.iter_mut().enumerate() {
            let mut back = [0; 12];
            stream.read_exact(&mut back).expect("it answers");
            assert_eq!(back, *format!("{round:04}{i:08}").as_bytes());
        }
    }
    assert_eq!(fixture.status("connections"), 1000);
    // Half are closed in good order, half reset.
    for (i, stream) in open.drain(..).enumerate() {
        if i % 2 == 0 {
            stream.shutdown(Shutdown::Write).expect("still open");
            let mut rest = Vec::new();
            let end = (&stream)
                .read_to_end(&mut rest)
                .expect("the other side closes too");
            assert_eq!(end, 0);
        } else {
            reset(stream);
        }
    }
    fixture.until("connections", 0);
    assert_eq!(service(&fixture, id)["accepted"].as_u64(), Some(1000));
    fixture.unload();
}

/// A client that sends and never reads holds up nobody, itself included.
#[test]
fn a_client_that_never_reads_is_held_back() {
    let fixture = Fixture::weir("echo-backpressure");
    let (id, address) = start(&fixture, "--tcp", "127.0.0.1:0");
    let mut greedy = connect(address);
    greedy
        .set_write_timeout(Some(Duration::from_secs(2)))
        .expect("a timeout is set");
    let block = vec![7_u8; 1 << 20];
    let mut sent = 0_u64;
    // What fits in the sockets' buffers goes, then no more.
    let stuck = (0..256).any(|_| match greedy.write(&block) {
        Ok(n) => {
            sent += n as u64;
            false
        }
        Err(_) => true,
    });
    assert!(
        stuck,
        "{sent} bytes went to a service that can't answer them"
    );
    let mut other = connect(address);
    other
        .write_all(b"still here")
        .expect("another connection is served");
    let mut back = [0; 10];
    other.read_exact(&mut back).expect("and answered");
    assert_eq!(&back, b"still here");
    // Stopped with both connections open: nothing is left.
    let stopped = fixture.weirctl(&["service", "stop", &id.to_string()]);
    assert!(stopped.status.success());
    assert_eq!(fixture.status("connections"), 0);
    assert_eq!(fixture.status("services"), 0);
    fixture.unload();
}

#[test]
fn datagrams_of_every_size_come_back() {
    let fixture = Fixture::weir("echo-udp");
    for (any, own) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0")] {
        let (_, address) = start(&fixture, "--udp", any);
        let socket = UdpSocket::bind(own).expect("a socket");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout is set");
        for size in [0, 1, 1472, 9000, 65_000] {
            let sent = vec![size as u8; size];
            socket.send_to(&sent, address).expect("it goes out");
            let mut back = vec![0; 70_000];
            let (n, from) = socket.recv_from(&mut back).expect("it comes back");
            assert_eq!((n, from), (size, address));
            assert!(back[..n] == sent[..]);
        }
        // A peer that is gone when the answer comes must not end the service.
        for _ in 0..20 {
            let gone = UdpSocket::bind(own).expect("a socket");
            gone.send_to(b"bye", address).expect("it goes out");
        }
        socket.send_to(b"after", address).expect("it goes out");
        let mut back = [0; 16];
        assert_eq!(socket.recv(&mut back).expect("still served"), 5);
    }
    fixture.unload();
}

/// STATUS_FILE_FORCED_CLOSED.
const FORCED_CLOSED: i32 = 0xC000_00B6_u32.cast_signed();

/// Makes calls 1 to `count`, from now on, at a point of the stand-ins fail.
fn fail(fixture: &Fixture, point: &str, count: u64) {
    let points: Vec<Value> = (1..=count)
        .map(|nth| json!({"point": point, "nth": nth, "status": FORCED_CLOSED}))
        .collect();
    fixture.ask(&json!({"cmd": "faults", "alloc": null, "points": points}));
}

fn until_failed(fixture: &Fixture, id: u64) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = service(fixture, id);
        if now["state"] == json!("failed") {
            return now;
        }
        assert_eq!(
            (&now["state"], &now["status"]),
            (&json!("running"), &Value::Null)
        );
        assert!(Instant::now() < deadline, "it still seems to run: {now}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The provider gives up a listening socket by an accept event without a socket.
#[test]
fn a_service_whose_listener_fails_says_so_and_makes_room_for_another() {
    a_listener_fails("echo-listener-fails", "wsk.WskAcceptEvent", &[]);
}

/// Or, where its peers are asked about first, by an inspect event without an id.
#[test]
fn a_service_whose_listener_fails_at_an_inspection_says_so_too() {
    let conditional = ["--conditional"];
    a_listener_fails("echo-inspection-fails", "wsk.WskInspectEvent", &conditional);
}

fn a_listener_fails(name: &str, event: &str, more: &[&str]) {
    let fixture = Fixture::weir(name);
    let (id, address) = services::start(
        &fixture,
        &[&["echo", "--tcp", "127.0.0.1:0"], more].concat(),
    );
    let mut before = connect(address);
    before.write_all(b"one").expect("it takes data");
    let mut back = [0; 3];
    before.read_exact(&mut back).expect("it answers");
    assert_eq!(service(&fixture, id)["state"], json!("running"));

    fail(&fixture, event, 1);
    // Refused where it is asked about, and connected first where it is accepted.
    let refused = TcpStream::connect(address);
    let failed = until_failed(&fixture, id);
    assert_eq!(failed["status"], json!("STATUS_FILE_FORCED_CLOSED"));
    drop(refused);
    let shown = fixture.weirctl(&["service", "list"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("failed: STATUS_FILE_FORCED_CLOSED"),
        "{shown}"
    );

    // What was connected before goes on.
    before.write_all(b"two").expect("it takes data");
    before.read_exact(&mut back).expect("it answers");
    assert_eq!(&back, b"two");
    // Not closed in good order: its port would stay taken for minutes.
    reset(before);
    fixture.until("connections", 0);

    // It holds its address until it is stopped.
    let at = address.to_string();
    let (_, said) = fixture.fails(&["service", "start", "echo", "--tcp", &at]);
    assert!(said.contains("STATUS_OBJECT_NAME_COLLISION"), "{said}");
    let stopped = fixture.weirctl(&["service", "stop", &id.to_string()]);
    assert!(stopped.status.success());
    assert_eq!(fixture.status("services"), 0);

    let (again, same) = start(&fixture, "--tcp", &at);
    assert_eq!(same, address);
    assert_ne!(again, id);
    assert_eq!(service(&fixture, again)["state"], json!("running"));
    assert_eq!(nc(&["-N", "-w", "20"], address, b"anew"), b"anew");
    fixture.unload();
}

#[test]
fn a_udp_service_fails_when_all_its_receives_have() {
    let fixture = Fixture::weir("echo-udp-fails");
    // Each of its 16 buffers receives at once when the service starts.
    fail(&fixture, "wsk.WskReceiveFrom", 15);
    let (id, address) = start(&fixture, "--udp", "127.0.0.1:0");
    assert_eq!(
        nc(&["-u", "-w", "1"], address, b"one buffer is left"),
        b"one buffer is left"
    );
    let counted = service(&fixture, id);
    assert_eq!(counted["errors"], json!(15), "{counted}");
    assert_eq!(counted["state"], json!("running"), "{counted}");
    let stop = |id: u64| {
        let stopped = fixture.weirctl(&["service", "stop", &id.to_string()]);
        assert!(stopped.status.success());
    };
    stop(id);

    fail(&fixture, "wsk.WskReceiveFrom", 16);
    let (id, _) = start(&fixture, "--udp", &address.to_string());
    let failed = until_failed(&fixture, id);
    assert_eq!(failed["status"], json!("STATUS_FILE_FORCED_CLOSED"));
    assert_eq!(failed["errors"], json!(16));
    stop(id);

    let (_, same) = start(&fixture, "--udp", &address.to_string());
    assert_eq!(same, address);
    assert_eq!(nc(&["-u", "-w", "1"], address, b"anew"), b"anew");
    fixture.unload();
}
