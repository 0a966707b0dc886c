//! The kernel's services, asked by clients nobody here wrote.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_tests::clients::{
    Background, PATIENCE, connect, free_port, listening, nginx, noise, reset, run, until_listening,
};
use weir_tests::lab::Fixture;
use weir_tests::services::{relay, service, start, until};

fn socat(address: SocketAddr, input: &[u8]) -> Vec<u8> {
    let target = match address {
        SocketAddr::V4(at) => format!("TCP4:{at}"),
        SocketAddr::V6(at) => format!("TCP6:{at}"),
    };
    let out = run("socat", &["-t", "20", "-", &target], input);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

/// socat ends its direction after the last byte and gets the rest: half close.
#[test]
fn socat_gets_back_what_it_sends_and_nothing_of_a_discard() {
    let fixture = Fixture::weir("services-socat");
    let text = noise(3_000_000);
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let (id, at) = start(&fixture, &["echo", "--tcp", any]);
        assert!(socat(at, &text) == text, "echo on {any}");
        until(&fixture, id, "/bytes_out", text.len() as u64);
        let (id, at) = start(&fixture, &["discard", "--tcp", any]);
        assert_eq!(socat(at, &text), b"", "discard on {any}");
        until(&fixture, id, "/bytes_in", text.len() as u64);
        // A peer that goes with a reset is no failure of the service.
        let mut rude = connect(at);
        rude.write_all(b"x").expect("it takes data");
        // Not before the service has it: nobody would hear of it.
        until(&fixture, id, "/bytes_in", text.len() as u64 + 1);
        reset(rude);
        until(&fixture, id, "/ended/reset_by_client", 1);
        assert_eq!(socat(at, b"y"), b"");
        until(&fixture, id, "/connections", 0);
    }
    fixture.unload();
}

#[test]
fn files_come_through_the_relay_as_curl_would_get_them_without() {
    let fixture = Fixture::weir("services-curl");
    let folder = tempfile::tempdir().expect("a folder");
    let files = [("one", 1), ("some", 100_000), ("large", 40_000_000)];
    for (name, size) in files {
        std::fs::write(folder.path().join(name), noise(size)).expect("a file");
    }
    let (_server, port) = nginx(folder.path());
    let (id, at) = relay(&fixture, "--tcp", "127.0.0.1:0", port);
    let urls: Vec<String> = files
        .iter()
        .map(|f| format!("http://{at}/{}", f.0))
        .collect();
    // All at once, and then over one connection, one after the other.
    for parallel in [true, false] {
        let to = tempfile::tempdir().expect("a folder");
        let mut curl = Command::new("curl");
        curl.args(["-sSf", "--max-time", "30"])
            .current_dir(to.path());
        if parallel {
            curl.args(["--parallel", "--parallel-immediate"]);
        }
        for url in &urls {
            curl.args(["-O", url]);
        }
        let out = curl.output().expect("curl");
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        for (name, size) in files {
            let got = std::fs::read(to.path().join(name)).expect("a file");
            assert!(got == noise(size), "{name}: {} bytes", got.len());
        }
    }
    until(&fixture, id, "/connections", 0);
    let ended = service(&fixture, id);
    assert_eq!(ended["ended"]["failed"], 0, "{ended}");
    fixture.unload();
}

#[test]
fn iperf3_measures_through_the_relay() {
    let fixture = Fixture::weir("services-iperf");
    for udp in [false, true] {
        let port = free_port();
        let port_text = port.to_string();
        let _server =
            Background::start(Command::new("iperf3").args(["-s", "-1", "-p", &port_text]));
        until_listening(port);
        // iperf3 speaks TCP and UDP on one port.
        let (_, at) = relay(&fixture, "--tcp", "127.0.0.1:0", port);
        let (id, _) = relay(&fixture, "--udp", &at.to_string(), port);
        let through = at.port().to_string();
        let mut arguments = vec!["-c", "127.0.0.1", "-p", &through, "-t", "1", "-J"];
        if udp {
            arguments.extend(["-u", "-b", "8M", "-l", "1200"]);
        }
        let out = run("iperf3", &arguments, b"");
        let report: Value = serde_json::from_slice(&out.stdout).expect("iperf3 -J prints JSON");
        assert!(out.status.success(), "{report}");
        let end = &report["end"];
        if udp {
            let (sent, lost) = (&end["sum"]["packets"], &end["sum"]["lost_packets"]);
            let (sent, lost) = (
                sent.as_u64().unwrap_or(0),
                lost.as_u64().unwrap_or(u64::MAX),
            );
            assert!(
                sent > 100 && lost * 20 <= sent,
                "{lost} of {sent} lost: {end}"
            );
            assert!(service(&fixture, id)["bytes_in"].as_u64() > Some(100_000));
        } else {
            let got = end["sum_received"]["bytes"].as_u64();
            assert!(got > Some(1_000_000), "{end}");
        }
    }
    fixture.unload();
}

const PYTHON_ECHO: &str = "
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', int(sys.argv[1])))
while True:
    data, peer = s.recvfrom(65536)
    s.sendto(data, peer)
";

#[test]
fn datagrams_of_each_client_come_back_to_it_through_the_relay() {
    let fixture = Fixture::weir("services-udp-relay");
    let port = free_port();
    let _server =
        Background::start(Command::new("python3").args(["-c", PYTHON_ECHO, &port.to_string()]));
    until_listening(port);
    let (id, at) = relay(&fixture, "--udp", "127.0.0.1:0", port);
    let clients: Vec<UdpSocket> = (0..20)
        .map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
            socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            socket.connect(at).expect("an address");
            socket
        })
        .collect();
    for round in 0..3 {
        for (number, client) in clients.iter().enumerate() {
            let text = format!("{number} in {round}");
            client.send(text.as_bytes()).expect("it is sent");
        }
        for (number, client) in clients.iter().enumerate() {
            let mut back = [0; 64];
            let got = client.recv(&mut back).expect("an answer");
            assert_eq!(back[..got], *format!("{number} in {round}").as_bytes());
        }
    }
    assert!(service(&fixture, id)["bytes_in"].as_u64() > Some(0));
    fixture.unload();
}

#[test]
fn what_is_bound_is_what_ss_sees() {
    let fixture = Fixture::weir("services-ss");
    let arguments: [&[&str]; 4] = [
        &["echo", "--tcp", "127.0.0.1:0"],
        &["echo", "--udp", "127.0.0.1:0"],
        &["discard", "--tcp", "[::1]:0"],
        &["discard", "--udp", "0.0.0.0:0"],
    ];
    for arguments in arguments {
        let (id, at) = start(&fixture, arguments);
        let mine = |line: &&str| line.contains(&format!("{at} "));
        let seen = listening();
        let line = seen
            .lines()
            .find(mine)
            .unwrap_or_else(|| panic!("{at} in {seen}"));
        let transport = if arguments[1] == "--tcp" {
            "tcp"
        } else {
            "udp"
        };
        assert!(line.starts_with(transport), "{line}");
        let id = id.to_string();
        assert!(fixture.weirctl(&["service", "stop", &id]).status.success());
        let seen = listening();
        assert!(!seen.lines().any(|line| mine(&line)), "{at} in {seen}");
    }
    fixture.unload();
}

/// Everything is under way when the driver goes, and nothing is left.
#[test]
fn the_driver_stops_under_load() {
    const CLIENTS: usize = 60;
    let fixture = Fixture::weir("services-load");
    let (_, echo) = start(&fixture, &["echo", "--tcp", "127.0.0.1:0"]);
    let (_, relayed) = relay(&fixture, "--tcp", "127.0.0.1:0", echo.port());
    let (over, through) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (over, through) = (&over, &through);
            let mut stream = connect(if number % 2 == 0 { echo } else { relayed });
            scope.spawn(move || {
                let block = noise(20_000);
                let mut back = vec![0; block.len()];
                while !over.load(Ordering::Relaxed) {
                    if stream.write_all(&block).is_err() || stream.read_exact(&mut back).is_err() {
                        return;
                    }
                    assert!(back == block, "the data changed on its way");
                    through.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let deadline = Instant::now() + PATIENCE;
        while through.load(Ordering::Relaxed) < 20 * CLIENTS as u64 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        fixture.unload();
        over.store(true, Ordering::Relaxed);
    });
    assert!(through.load(Ordering::Relaxed) >= 20 * CLIENTS as u64);
}

/// One question, and all that comes for it.
fn ping(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut client = TcpStream::connect_timeout(&address, PATIENCE)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.write_all(b"ping")?;
    client.shutdown(Shutdown::Write)?;
    let mut all = Vec::new();
    client.read_to_end(&mut all)?;
    Ok(all)
}

/// The driver's allocations fail, one after the other, while a relay is started,
/// and while it makes, carries and ends connections.
#[test]
fn each_allocation_of_a_relay_may_fail() {
    let fixture = Fixture::weir("services-allocations");
    let fail = |number: Option<u64>| {
        fixture.ask(&json!({
            "cmd": "faults", "alloc": number, "relative": true, "points": [],
        }));
    };
    let injected = || {
        let events = fixture.lab.events();
        events
            .iter()
            .filter(|event| event.kind() == "fault")
            .count()
    };
    let (_, echo) = start(&fixture, &["echo", "--tcp", "127.0.0.1:0"]);
    let to = echo.to_string();
    for number in [1, 2, 3, 5, 8, 13] {
        fail(Some(number));
        let arguments = [
            "service",
            "start",
            "relay",
            "--tcp",
            "127.0.0.1:0",
            "--to",
            &to,
        ];
        let started = fixture.weirctl(&arguments);
        fail(None);
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(started.status.success() || !said.is_empty());
        assert!(!said.contains("panicked"), "{said}");
    }
    let at_start = injected();
    assert!(at_start > 0, "a start allocates");
    let (id, relayed) = relay(&fixture, "--tcp", "127.0.0.1:0", echo.port());
    for number in 1..=60 {
        fail(Some(number));
        // It may be ended at any point, but must not hang.
        let _ended = ping(relayed);
        fail(None);
        let answer = ping(relayed);
        assert_eq!(answer.ok().as_deref(), Some(&b"ping"[..]), "after {number}");
    }
    assert!(injected() > at_start, "a connection allocates");
    until(&fixture, id, "/connections", 0);
    fixture.unload();
}
