//! Kernel sockets as handles, worked by bare NT calls in a lab: what they do, what
//! they refuse, and that nothing is lost or left when things race.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_lab_harness::{PointFault, windows_path};
use weir_tests::clients::{Background, noise, run};
use weir_tests::lab::{Fixture, root};

fn probe(fixture: &Fixture, arguments: &[&str]) -> Command {
    let exe = root().join("target/weir/lab/probe.exe");
    let mut command = fixture.lab.command(&windows_path(&exe));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the probe to its good end; what it said.
#[track_caller]
fn good(fixture: &Fixture, arguments: &[&str]) -> String {
    let out = probe(fixture, arguments).output().expect("wine runs");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "probe {arguments:?}: {}\n{said}{}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    println!("probe {arguments:?}: {said}");
    said
}

/// The number behind `field` in a line of JSON.
fn number(said: &str, field: &str) -> u64 {
    let line = said.lines().last().expect("a line");
    let value: Value = serde_json::from_str(line).expect("JSON");
    value[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field} in {line}"))
}

/// How many sockets of handles the driver lists.
fn count(fixture: &Fixture) -> usize {
    let said = good(fixture, &["count"]);
    said.trim().parse().expect("a number")
}

/// Waits until there is none.
#[track_caller]
fn none_left(fixture: &Fixture) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while count(fixture) != 0 {
        assert!(Instant::now() < deadline, "sockets are left");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Starts the probe and waits until it has said a line that starts with `word`.
fn started(fixture: &Fixture, arguments: &[&str], word: &str) -> (Child, String) {
    let mut command = probe(fixture, arguments);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("wine runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let line = lines
        .by_ref()
        .map_while(Result::ok)
        .find(|line| line.starts_with(word))
        .unwrap_or_else(|| panic!("the probe ended without {word}"));
    // The rest is read so that the probe is never held up.
    std::thread::spawn(move || lines.for_each(drop));
    (child, line)
}

#[test]
fn handles_do_what_the_contract_says() {
    let fixture = Fixture::weir("handles");
    for what in ["tcp", "udp", "names", "bounds", "refused", "asked"] {
        good(&fixture, &[what]);
    }
    none_left(&fixture);
    fixture.unload();
}

#[test]
fn sends_beyond_the_drivers_room_wait_and_all_arrive() {
    let fixture = Fixture::configured("handles-sends", |config| {
        // Each ends later than its call, so that many are under way.
        config.wsk.inline = Some(0);
    });
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let patience = Some(Duration::from_secs(30));
    socket.set_read_timeout(patience).expect("set");
    let to = socket.local_addr().expect("bound").to_string();
    // Of which a host's queue holds all.
    let said = good(&fixture, &["sends", &to, "200"]);
    assert_eq!(number(&said, "waited_for"), 200 - 64);
    assert!(number(&said, "left") > 0, "each ended within its call");
    let mut got: Vec<u32> = (0..200)
        .map(|_| {
            let mut bytes = [0; 4];
            assert_eq!(socket.recv(&mut bytes).expect("a datagram"), 4);
            u32::from_le_bytes(bytes)
        })
        .collect();
    got.sort_unstable();
    assert_eq!(got, (0..200).collect::<Vec<_>>());
    none_left(&fixture);
    fixture.unload();
}

#[test]
fn a_cancel_that_races_loses_nothing() {
    let fixture = Fixture::weir("handles-cancel");
    let said = good(&fixture, &["cancel-reads", "10000"]);
    assert_eq!(number(&said, "reads"), 10_000);
    let said = good(&fixture, &["cancel-accepts", "300"]);
    assert_eq!(number(&said, "taken") + number(&said, "cancelled"), 300);
    let said = good(&fixture, &["cancel-asked", "2000"]);
    assert_eq!(number(&said, "taken") + number(&said, "cancelled"), 2000);
    assert!(number(&said, "taken") > 0 && number(&said, "cancelled") > 0);
    let said = good(&fixture, &["close-asked", "300"]);
    assert_eq!(number(&said, "taken") + number(&said, "aborted"), 1200);
    assert!(number(&said, "taken") > 0 && number(&said, "aborted") > 0);
    let said = good(&fixture, &["cancel-connects", "300"]);
    assert_eq!(number(&said, "made") + number(&said, "cancelled"), 300);
    none_left(&fixture);
    fixture.unload();
}

#[test]
fn a_killed_client_leaves_no_socket() {
    let fixture = Fixture::weir("handles-killed");
    let (mut child, said) = started(&fixture, &["hold", "1001"], "holding");
    assert_eq!(said, "holding 1001");
    assert_eq!(count(&fixture), 1001);
    child.kill().expect("the probe runs");
    child.wait().expect("it has ended");
    none_left(&fixture);
    // Accepts that wait in the transport, and their listener.
    let (mut child, _) = started(&fixture, &["hold-asked", "300"], "holding");
    assert_eq!(count(&fixture), 301);
    child.kill().expect("the probe runs");
    child.wait().expect("it has ended");
    none_left(&fixture);
    // And while their connections come.
    for _ in 0..10 {
        let (mut child, said) = started(&fixture, &["hold-asked", "100"], "holding 100 ");
        let to: SocketAddr = said["holding 100 ".len()..].parse().expect("an address");
        let peers = std::thread::spawn(move || {
            let peers = (0..150).map(|_| TcpStream::connect_timeout(&to, Duration::from_secs(5)));
            peers.map_while(Result::ok).count()
        });
        std::thread::sleep(Duration::from_millis(5));
        child.kill().expect("the probe runs");
        child.wait().expect("it has ended");
        println!("{} were connected", peers.join().expect("no panic"));
        none_left(&fixture);
    }
    fixture.unload();
}

/// A TCP echo of the host's.
fn host_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut buffer = [0; 65_536];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn the_driver_stops_under_load() {
    // On Windows it would wait until the last handle is closed.
    let fixture = Fixture::configured("handles-stop", |config| config.unload.wait_ms = Some(0));
    let echo = host_echo().to_string();
    let (mut child, _) = started(&fixture, &["churn", &echo], "talking");
    let (mut waiting, _) = started(&fixture, &["hold-asked", "50"], "holding");
    std::thread::sleep(Duration::from_millis(300));
    // Sockets are open, with reads and writes in the air, and accepts that wait.
    fixture.unload();
    // The probe was told, and ends: by itself, or because it can't open the device
    // any more.
    child.wait().expect("it has ended");
    waiting.kill().expect("it waits");
    waiting.wait().expect("it has ended");
}

/// What the rules drop on its way in doesn't get a connection, though it passes
/// no adapter: within the machine.
#[test]
fn the_rules_refuse_a_peer_before_its_handshake_is_answered() {
    let fixture = Fixture::weir("handles-judged");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("rules");
    let port = free_port();
    let other = free_port();
    let rules = format!("rule no drop in tcp dst port {port}\nrule seen count in tcp\n");
    std::fs::write(&file, rules).expect("a file");
    let loaded = fixture.weirctl(&["rules", "load", &windows_path(&file)]);
    assert!(loaded.status.success(), "{loaded:?}");
    for how in ["event", "asked"] {
        let said = good(&fixture, &["judged", &port.to_string(), how]);
        assert!(said.contains("STATUS_CONNECTION_REFUSED"), "{said}");
        assert_eq!((number(&said, "taken"), number(&said, "refused")), (0, 1));
        let said = good(&fixture, &["judged", &other.to_string(), how]);
        assert!(said.contains("STATUS_SUCCESS"), "{said}");
        assert_eq!((number(&said, "taken"), number(&said, "refused")), (1, 0));
    }
    fixture.unload();
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Has the stand-ins fail what `faults` says, counted from now on.
fn fail(fixture: &Fixture, faults: &Value) {
    let mut request = faults.clone();
    request["cmd"] = json!("faults");
    request["relative"] = json!(true);
    fixture.ask(&request);
}

/// Each allocation of a walk through all roles fails in its turn, and each call to
/// the provider: every request ends, and nothing is left.
#[test]
fn what_fails_on_the_way_is_survived() {
    let fixture = Fixture::weir("handles-faults");
    let count = || {
        fixture
            .ask(&json!({"cmd": "alloc_count"}))
            .as_u64()
            .expect("a number")
    };
    let before = count();
    assert_eq!(good(&fixture, &["survive"]).trim(), "done");
    let total = count() - before;
    assert!(total > 40, "only {total} allocations");
    for n in 1..=total {
        fail(&fixture, &json!({ "alloc": n }));
        assert_eq!(
            good(&fixture, &["survive"]).trim(),
            "done",
            "allocation {n}"
        );
    }
    let refused = u32::cast_signed(0xC000_009A);
    for point in [
        "WskSocket",
        "WskBind",
        "WskAccept",
        "WskConnect",
        "WskControlSocket",
        "WskGetLocalAddress",
        "WskGetRemoteAddress",
        "WskReceive",
        "WskSend",
        "WskDisconnect",
        "WskReceiveFrom",
        "WskSendTo",
        "WskGetAddressInfo",
    ] {
        for nth in 1..=3 {
            let point = format!("wsk.{point}");
            fail(
                &fixture,
                &json!({ "points": [{ "point": point, "nth": nth, "status": refused }] }),
            );
            assert_eq!(good(&fixture, &["survive"]).trim(), "done", "{point} {nth}");
        }
    }
    fail(&fixture, &json!({}));
    none_left(&fixture);
    fixture.unload();
}

/// A listening socket that fails is closed soon, and not when its handle is.
#[test]
fn a_listener_that_fails_is_closed_while_its_handle_is_open() {
    let fixture = Fixture::weir("handles-failed");
    let forced = u32::cast_signed(0xC000_00B6);
    for (point, how) in [
        ("WskAcceptEvent", "event"),
        ("WskAccept", "asked"),
        ("WskInspectEvent", "inspected"),
        ("WskInspectEvent", "asked-inspected"),
    ] {
        let point = format!("wsk.{point}");
        for _ in 0..3 {
            fail(
                &fixture,
                &json!({ "points": [{ "point": point, "nth": 1, "status": forced }] }),
            );
            let said = good(&fixture, &["failed", how]);
            assert_eq!(said.trim(), format!("failed {how}"));
        }
    }
    fail(&fixture, &json!({}));
    none_left(&fixture);
    fixture.unload();
}

/// So does any other that the provider gives up, whatever it is asked for then.
#[test]
fn a_socket_that_fails_is_closed_while_its_handle_is_open() {
    let fixture = Fixture::weir("handles-given-up");
    let forced = u32::cast_signed(0xC000_00B6);
    for (point, nth, how) in [
        ("WskReceiveFrom", 1, "udp-read"),
        ("WskSendTo", 1, "udp-write"),
        ("WskControlSocket", 1, "udp-option"),
        ("WskReceive", 2, "connected-read"),
        ("WskReceive", 2, "accepted-read"),
        ("WskSend", 1, "connected-write"),
        ("WskSend", 1, "accepted-write"),
        ("WskDisconnect", 1, "connected-end"),
        ("WskDisconnect", 1, "accepted-end"),
    ] {
        let point = format!("wsk.{point}");
        fail(
            &fixture,
            &json!({ "points": [{ "point": point, "nth": nth, "status": forced }] }),
        );
        let said = good(&fixture, &["given-up", how]);
        assert_eq!(said.trim(), format!("given up {how}"));
    }
    fail(&fixture, &json!({}));
    none_left(&fixture);
    fixture.unload();
}

/// What a listener is opened with, and told later, is so for its connections.
#[test]
fn a_listeners_options_are_its_connections() {
    let fixture = Fixture::weir("handles-options");
    assert_eq!(good(&fixture, &["passed-on"]).trim(), "passed on");
    // Set before it is bound, as a connection may come from then on.
    let refused = u32::cast_signed(0xC000_009A);
    let bound = u32::cast_signed(0xC000_00BB);
    for what in ["receive-limit", "keep-alive"] {
        let points = json!([
            { "point": "wsk.WskControlSocket", "nth": 1, "status": refused },
            { "point": "wsk.WskBind", "nth": 1, "status": bound },
        ]);
        fail(&fixture, &json!({ "points": points }));
        let said = good(&fixture, &["opens", what]);
        assert!(said.contains("INSUFFICIENT_RESOURCES"), "{what}: {said}");
    }
    // Of two protocols: IPv6 only, what is there before, IPv6's, IPv4's.
    fail(
        &fixture,
        &json!({ "points": [{ "point": "wsk.WskControlSocket", "nth": 4, "status": refused }] }),
    );
    assert_eq!(good(&fixture, &["both-or-none"]).trim(), "both or none");
    fail(&fixture, &json!({}));
    none_left(&fixture);
    fixture.unload();
}

/// While the provider comes up, everybody waits for it.
#[test]
fn a_provider_that_is_late_is_waited_for_by_all() {
    let not_ready = u32::cast_signed(0xC000_00A3);
    let fault = |nth| PointFault {
        point: "wsk.WskCaptureProviderNPI".into(),
        nth,
        status: not_ready,
    };
    // The driver's start doesn't wait; the first use does, in vain.
    let fixture = Fixture::configured("handles-late", |config| {
        config.faults.points = vec![fault(1), fault(2)];
    });
    assert_eq!(good(&fixture, &["late"]).trim(), "late");
    fixture.unload();
}

/// A service that only UDP has is found, too.
#[test]
fn services_of_udp_alone_have_ports() {
    let Ok(services) = std::fs::read_to_string("/etc/services") else {
        println!("this machine knows no services");
        return;
    };
    let lines = services.lines().map(|line| {
        let mut words = line.split_whitespace();
        (words.next().unwrap_or(""), words.next().unwrap_or(""))
    });
    let of_tcp: Vec<&str> = lines
        .clone()
        .filter_map(|(name, at)| at.ends_with("/tcp").then_some(name))
        .collect();
    let udp_alone = lines
        .filter_map(|(name, at)| Some((name, at.strip_suffix("/udp")?)))
        .find(|(name, _)| !of_tcp.contains(name));
    let Some((name, port)) = udp_alone else {
        println!("it knows none of UDP alone");
        return;
    };
    let fixture = Fixture::weir("handles-services");
    assert_eq!(good(&fixture, &["service", name]).trim(), port, "{name}");
    fixture.unload();
}

/// A host that looks at how many hops a datagram may still take.
#[test]
fn hops_are_both_protocols_on_a_dual_stack_socket() {
    const LISTEN: &str = "import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, 12, 1) # IP_RECVTTL of Linux
s.bind(('127.0.0.1', 0))
print('port', s.getsockname()[1], file=sys.stderr)
data, beside, flags, peer = s.recvmsg(100, 100)
print(data.decode(), int.from_bytes(beside[0][2], 'little'), file=sys.stderr)
";
    let fixture = Fixture::weir("handles-dual");
    let host = Background::start(Command::new("python3").args(["-u", "-c", LISTEN]));
    let to = format!("127.0.0.1:{}", host.says("port "));
    assert_eq!(good(&fixture, &["dual", &to]).trim(), "dual");
    assert_eq!(host.says("x"), "9");
    none_left(&fixture);
    fixture.unload();
}

/// A program that gives its accepts up again and again, as it looks for Ctrl-C: no
/// client is lost between two of them.
#[test]
fn one_client_after_the_other_is_asked_for() {
    let fixture = Fixture::weir("handles-one-by-one");
    for (address, host) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        let listening = ["tcp", "listen", address, "-k", "--accept-by", "irp"];
        let mut listener = Background::weirctl(&fixture, &listening);
        let port = listener.listening().port().to_string();
        for turn in 0..20u64 {
            std::thread::sleep(Duration::from_millis(turn * 37 % 250));
            let line = format!("client {turn:02}\n");
            let out = run("nc", &["-N", "-w", "20", host, &port], line.as_bytes());
            assert_eq!(out.stdout, b"");
            let mut got = vec![0; line.len()];
            listener.read_exact(&mut got);
            assert_eq!(String::from_utf8_lossy(&got), line);
        }
        listener.kill();
    }
    none_left(&fixture);
    fixture.unload();
}

/// Another implementation's opinion on listeners: Wine's own WSK has `WskAccept`,
/// and no events. (Nor has it cancelling: one accept at a time, and each gets a
/// connection or ends with its listener.)
#[test]
fn a_listener_works_on_wines_own_wsk_too() {
    let fixture = Fixture::configured("handles-wine", |config| {
        config.wsk.provider = Some("wine".into());
    });
    let text = noise(1_000_000);
    // With -k, so that it stays: Wine closes the connection taken last along with the
    // listener (its acceptor is still noted there).
    let listening = ["tcp", "listen", "-k", "127.0.0.1:0", "--accept-by", "irp"];
    let mut listener = Background::weirctl(&fixture, &listening);
    let at = listener.listening();
    listener.tell(b"from the kernel's side");
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let out = run("nc", &["-N", "-w", "20", &host, &port], &text);
    assert_eq!(out.stdout, b"from the kernel's side");
    let mut got = vec![0; text.len()];
    listener.read_exact(&mut got);
    assert!(got == text, "what nc sent");
    listener.kill();
    let said = good(&fixture, &["asked-one-by-one", "20"]);
    assert_eq!(number(&said, "taken"), 20);
    let events = fixture.lab.events();
    assert!(events.iter().any(|event| event.0["provider"] == "wine"));
    none_left(&fixture);
    fixture.unload();
}
