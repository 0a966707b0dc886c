//! Load, traffic, unload: again and again, with clients killed in the middle,
//! and with each allocation failing in its turn.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use weir_lab_harness::{Error, windows_path};
use weir_tests::lab::{ADAPTER, Balance, Fixture, SERVICE, capture};

/// One echo over TCP, within the host alone.
fn echo(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"ping")?;
    let mut back = [0; 4];
    stream.read_exact(&mut back)
}

/// One echo over UDP, within the host alone.
fn echo_datagram(address: SocketAddr) -> std::io::Result<usize> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    socket.send_to(b"ping", address)?;
    socket.recv(&mut [0; 4])
}

fn start_echo(fixture: &Fixture, transport: &str) -> Option<SocketAddr> {
    let out = fixture.weirctl(&[
        "service",
        "start",
        "echo",
        transport,
        "127.0.0.1:0",
        "--json",
    ]);
    let started: Value = serde_json::from_slice(&out.stdout).ok()?;
    started["address"].as_str()?.parse().ok()
}

#[test]
fn fifty_rounds_leave_nothing() {
    let fixture = Fixture::installed("life-rounds");
    for round in 0..50 {
        fixture.start();
        let address = start_echo(&fixture, "--tcp").expect("the service starts");
        // A connection that is still open when the driver goes.
        let mut held = TcpStream::connect(address).expect("the service accepts");
        held.write_all(b"held").expect("it takes data");
        fixture.replay(&capture(if round % 10 == 0 {
            "mixed.pcap"
        } else {
            "odd.pcap"
        }));
        echo(address).expect("the service answers");
        let (up, down) = (fixture.balance("in"), fixture.balance("out"));
        assert_eq!(
            up.seen + down.seen,
            up.passed + down.passed,
            "round {round}"
        );
        fixture.unload();
    }
}

#[test]
fn a_killed_client_leaves_a_driver_that_unloads() {
    let fixture = Fixture::weir("life-killed");
    let dir = tempfile::tempdir().expect("a folder");
    let file = windows_path(&dir.path().join("out.pcapng"));
    for _ in 0..5 {
        let mut child = fixture
            .command(&["capture", "-i", ADAPTER, "-w", &file])
            .spawn()
            .expect("weirctl starts");
        fixture.until("readers", 1);
        fixture.replay(&capture("odd.pcap"));
        child.kill().expect("it is killed");
        child.wait().expect("it is gone");
        fixture.until("readers", 0);
    }
    // In the middle of a service: the program that started it is long gone, its
    // connections' peers go now.
    let address = start_echo(&fixture, "--tcp").expect("the service starts");
    let held: Vec<TcpStream> = (0..50)
        .map(|_| TcpStream::connect(address).expect("the service accepts"))
        .collect();
    drop(held);
    fixture.unload();
}

/// Open handles, reads that wait, live connections and frames in flight.
struct Busy {
    reader: Child,
    _connections: Vec<TcpStream>,
    _dir: tempfile::TempDir,
}

fn busy(fixture: &Fixture) -> Busy {
    let dir = tempfile::tempdir().expect("a folder");
    let file = windows_path(&dir.path().join("out.pcapng"));
    let reader = fixture
        .command(&["capture", "-i", ADAPTER, "-w", &file])
        .stderr(Stdio::null())
        .spawn()
        .expect("weirctl starts");
    fixture.until("readers", 1);
    let tcp = start_echo(fixture, "--tcp").expect("the service starts");
    start_echo(fixture, "--udp").expect("the service starts");
    let connections = (0..20)
        .map(|_| TcpStream::connect(tcp).expect("the service accepts"))
        .collect();
    fixture.ask(&json!({
        "cmd": "replay", "adapter": ADAPTER, "file": windows_path(&capture("mixed.pcap")),
        "speed": 0, "loops": 0, "wait": false,
    }));
    std::thread::sleep(Duration::from_millis(300));
    Busy {
        reader,
        _connections: connections,
        _dir: dir,
    }
}

/// As on Windows, the driver waits until the last handle is closed, here by the
/// end of the program that holds it.
#[test]
fn unload_waits_for_open_handles() {
    let fixture = Fixture::weir("life-busy");
    let mut busy = busy(&fixture);
    std::thread::scope(|scope| {
        let unloading = scope.spawn(|| fixture.unload());
        std::thread::sleep(Duration::from_secs(2));
        assert!(!unloading.is_finished(), "unloaded with a handle open");
        busy.reader.kill().expect("weirctl is killed");
        busy.reader.wait().expect("weirctl is gone");
        unloading.join().expect("it unloads now");
    });
}

/// Should it be unloaded with handles open all the same, it ends what they have
/// under way and leaves nothing.
#[test]
fn unload_with_handles_open_is_orderly() {
    let fixture = Fixture::configured("life-forced", |config| config.unload.wait_ms = Some(0));
    let mut busy = busy(&fixture);
    fixture.unload();
    // The program was told that its reads have ended.
    let ended = busy.reader.wait().expect("weirctl ends by itself");
    assert!(
        !ended.success(),
        "weirctl took the end of the driver for a success"
    );
}

/// Load, traffic, unload, whatever fails on the way; nothing here may assert
/// that a step succeeds.
fn try_everything(fixture: &Fixture) -> Result<(), Error> {
    let started = fixture.lab.start_driver(SERVICE);
    if started.is_ok() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = windows_path(&dir.path().join("out.pcapng"));
        let mut reader = fixture
            .command(&[
                "capture",
                "-i",
                ADAPTER,
                "-c",
                "36",
                "--duration",
                "5",
                "-w",
                &file,
            ])
            .stderr(Stdio::null())
            .spawn()
            .expect("weirctl starts");
        let addresses = [start_echo(fixture, "--tcp"), start_echo(fixture, "--udp")];
        if let Some(address) = addresses[0] {
            let _refused = echo(address);
        }
        if let Some(address) = addresses[1] {
            let _lost = echo_datagram(address);
        }
        let replay = json!({
            "cmd": "replay", "adapter": ADAPTER, "file": windows_path(&capture("odd.pcap")),
            "speed": 0, "loops": 1, "wait": true,
        });
        // An adapter the filter could not attach to carries nothing, and says so.
        let replayed = fixture.lab.ask(&replay);
        // Whatever failed: where there is a balance, it closes.
        let stats = fixture.weirctl(&["stats", "--json"]);
        if stats.status.success() {
            Balance::check_all(&serde_json::from_slice(&stats.stdout).expect("JSON"));
        }
        let oid = json!({"cmd": "oid", "adapter": ADAPTER, "type": "query", "oid": 0x0001_0106, "len": 4});
        let asked = fixture.lab.ask(&oid);
        let _ended = reader.kill();
        let _reaped = reader.wait();
        for answer in [replayed, asked] {
            if let Err(e @ Error::Violation { .. }) = answer {
                return Err(e);
            }
        }
        fixture.lab.stop_driver(SERVICE)?;
    }
    fixture.lab.check()?;
    match started {
        Err(e @ Error::Violation { .. }) => Err(e),
        _ => Ok(()),
    }
}

/// Allocation N fails, for each N there is.
#[test]
fn each_failing_allocation_is_survived() {
    let fixture = Fixture::installed("life-allocations");
    let mut config = weir_tests::lab::config();
    fixture.configure(&config);
    try_everything(&fixture).expect("it works when nothing fails");
    let unload = fixture
        .lab
        .events()
        .into_iter()
        .rev()
        .find(|e| e.kind() == "unload");
    let total = unload.expect("an unload").number("allocs");
    assert!(
        total > 10,
        "only {total} allocations: traffic did not happen"
    );
    // A few beyond the last: the count differs from run to run.
    let mut failed = 0;
    for n in 1..=total + 2 {
        config.faults.alloc = Some(n);
        fixture.configure(&config);
        try_everything(&fixture).unwrap_or_else(|e| panic!("allocation {n} failing: {e}"));
        let events = fixture.lab.events();
        failed += u64::from(
            events
                .iter()
                .rev()
                .take_while(|e| e.kind() != "load")
                .any(|e| e.kind() == "fault"),
        );
    }
    assert!(
        failed >= total - 2,
        "only {failed} of {total} allocations were made to fail"
    );
    config.faults.alloc = None;
    fixture.configure(&config);
    try_everything(&fixture).expect("it works again");
}

/// Each call to the system that can be refused is refused in its turn.
#[test]
fn each_refused_call_is_survived() {
    let fixture = Fixture::installed("life-refused");
    let unsuccessful = u32::cast_signed(0xC000_009A);
    for point in [
        "ndis.NdisFRegisterFilterDriver",
        "ndis.attach",
        "ndis.NdisFSetAttributes",
        "ndis.NdisAllocateCloneOidRequest",
        "wsk.WskRegister",
        "wsk.WskCaptureProviderNPI",
        "wsk.WskSocket",
        "wsk.WskBind",
        "wsk.WskReceive",
        "wsk.WskSend",
        "wsk.WskReceiveFrom",
        "wsk.WskSendTo",
        "wsk.WskDisconnect",
        "wsk.WskControlSocket",
        "wsk.WskGetLocalAddress",
    ] {
        for nth in 1..=2 {
            let mut config = weir_tests::lab::config();
            config.faults.points.push(weir_lab_harness::PointFault {
                point: point.into(),
                nth,
                status: unsuccessful,
            });
            fixture.configure(&config);
            let before = fixture.lab.events().len();
            try_everything(&fixture).unwrap_or_else(|e| panic!("{point}, call {nth}: {e}"));
            let refused = fixture
                .lab
                .events()
                .iter()
                .skip(before)
                .any(|e| e.kind() == "fault");
            assert!(refused || nth > 1, "{point} was never called");
        }
    }
}
