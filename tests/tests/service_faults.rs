//! The driver's services when something fails: each call of WSK, each allocation,
//! either peer, the service itself under load. What is to go wrong, goes wrong;
//! all that is asked is that the driver survives, forgets nothing and unloads,
//! and that what it says of how connections ended is so.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;
use weir_lab_harness::{Error, PointFault};
use weir_tests::lab::{Fixture, SERVICE, config};

const PATIENCE: Duration = Duration::from_secs(5);

/// Starts a service; none if the driver refuses.
fn start(fixture: &Fixture, arguments: &[&str]) -> Option<SocketAddr> {
    let mut all = vec!["service", "start"];
    all.extend_from_slice(arguments);
    all.push("--json");
    let out = fixture.weirctl(&all);
    let started: Value = serde_json::from_slice(&out.stdout).ok()?;
    started["address"].as_str()?.parse().ok()
}

fn relay(fixture: &Fixture, transport: &str, to: SocketAddr) -> Option<SocketAddr> {
    let to = to.to_string();
    start(
        fixture,
        &["relay", transport, "127.0.0.1:0", "--to", to.as_str()],
    )
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends `data`, shuts down, and reads what comes back.
fn exchange(address: SocketAddr, data: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = connect(address)?;
    let mut sender = stream.try_clone()?;
    let mut back = Vec::new();
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            sender.write_all(data)?;
            sender.shutdown(Shutdown::Write)
        });
        let read = stream.read_to_end(&mut back);
        sending.join().expect("the sender ends")?;
        read
    })?;
    Ok(back)
}

fn exchange_datagram(address: SocketAddr, data: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    socket.send_to(data, address)?;
    let mut back = vec![0; 2048];
    let len = socket.recv(&mut back)?;
    back.truncate(len);
    Ok(back)
}

/// What the driver says of the service that listens there.
fn info(fixture: &Fixture, address: SocketAddr) -> Value {
    let list = fixture.json(&["service", "list"]);
    let services = list["services"].as_array().expect("services").clone();
    let at = |service: &Value| service["address"] == address.to_string();
    services
        .into_iter()
        .find(at)
        .expect("the service is listed")
}

/// Waits until a number of the service is what it is to be.
fn until(fixture: &Fixture, address: SocketAddr, field: &str, wanted: u64) {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = info(fixture, address)[field].as_u64();
        if found == Some(wanted) {
            return;
        }
        assert!(
            Instant::now() < end,
            "{field} is {found:?} and not {wanted}: {}",
            info(fixture, address)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_relay_carries_data_both_ends_and_every_way_to_end() {
    let fixture = Fixture::weir("service-relay");
    let target = TcpListener::bind("127.0.0.1:0").expect("a target");
    let to = target.local_addr().expect("its address");
    let relay_at = relay(&fixture, "--tcp", to).expect("the relay starts");

    // The client's end arrives first, and the target goes on for a while.
    let mut client = connect(relay_at).expect("it is accepted");
    client.write_all(b"question").expect("it takes data");
    client.shutdown(Shutdown::Write).expect("half of it ends");
    let (mut served, _) = target.accept().expect("the relay connects");
    served.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut question = String::new();
    served.read_to_string(&mut question).expect("up to the end");
    assert_eq!(question, "question");
    served
        .write_all(b"answer, after your end")
        .expect("it answers");
    drop(served);
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("up to the end");
    assert_eq!(answer, "answer, after your end");
    until(&fixture, relay_at, "connections", 0);

    // A reset of either side reaches the other as one.
    for by_client in [true, false] {
        let mut client = connect(relay_at).expect("it is accepted");
        let (mut served, _) = target.accept().expect("the relay connects");
        served.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let (gone, mut left) = if by_client {
            (client, served)
        } else {
            client.write_all(b"x").expect("it takes data");
            served.read_exact(&mut [0]).expect("they arrive");
            (served, client)
        };
        SockRef::from(&gone)
            .set_linger(Some(Duration::ZERO))
            .expect("a reset at close");
        drop(gone);
        let ended = left.read(&mut [0; 8]).expect_err("no orderly end");
        assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
        until(&fixture, relay_at, "connections", 0);
    }

    // Nobody there: the client is reset, perhaps before it knows it is connected.
    drop(target);
    if let Ok(mut client) = connect(relay_at) {
        let ended = client.read(&mut [0; 8]);
        assert!(!matches!(ended, Ok(n) if n > 0));
    }
    let end = Instant::now() + PATIENCE;
    while info(&fixture, relay_at)["ended"]["target_refused"] != 1 {
        assert!(Instant::now() < end, "{}", info(&fixture, relay_at));
    }
    until(&fixture, relay_at, "connections", 0);
    let info = info(&fixture, relay_at);
    assert_eq!(info["accepted"], 4);
    for (why, times) in [
        ("finished", 1),
        ("reset_by_client", 1),
        ("reset_by_target", 1),
        ("target_refused", 1),
        ("timed_out", 0),
        ("failed", 0),
    ] {
        assert_eq!(info["ended"][why], times, "{why}: {info}");
    }
    fixture.unload();
}

#[test]
fn a_service_is_stopped_under_load_and_nobody_is_left() {
    let fixture = Fixture::weir("service-load");
    for _ in 0..3 {
        let echo = start(&fixture, &["echo", "--tcp", "127.0.0.1:0"]).expect("the echo starts");
        let front = relay(&fixture, "--tcp", echo).expect("the relay starts");
        let datagrams = start(&fixture, &["echo", "--udp", "127.0.0.1:0"]).expect("starts");
        let udp = relay(&fixture, "--udp", datagrams).expect("the relay starts");
        let over = AtomicBool::new(false);
        let going = || !over.load(Ordering::Relaxed);
        let stopped = std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let data = vec![7; 200_000];
                    while going() && exchange(front, &data).is_ok_and(|back| back == data) {}
                });
            }
            for _ in 0..4 {
                scope.spawn(|| while going() && exchange_datagram(udp, b"datagram").is_ok() {});
            }
            std::thread::sleep(Duration::from_millis(700));
            let stop = |service: &Value| {
                let id = service["id"].to_string();
                let out = fixture.weirctl(&["service", "stop", &id]);
                (id, out)
            };
            let list = fixture.weirctl(&["service", "list", "--json"]);
            let services: Result<Value, _> = serde_json::from_slice(&list.stdout);
            let stopped: Vec<_> = services
                .iter()
                .filter_map(|list| list["services"].as_array())
                .flatten()
                .map(stop)
                .collect();
            over.store(true, Ordering::Relaxed);
            stopped
        });
        assert_eq!(stopped.len(), 4, "not all were listed");
        for (id, out) in stopped {
            assert!(out.status.success(), "service {id} doesn't stop: {out:?}");
        }
        let list = fixture.json(&["service", "list"]);
        assert_eq!(list["services"], Value::Array(Vec::new()));
    }
    fixture.unload();
}

/// Everything services do, whatever fails on the way.
fn try_everything(fixture: &Fixture) -> Result<(), Error> {
    let started = fixture.lab.start_driver(SERVICE);
    if started.is_ok() {
        let target = TcpListener::bind("127.0.0.1:0").expect("a target");
        let to = target.local_addr().expect("its address");
        let echo = UdpSocket::bind("127.0.0.1:0").expect("a target");
        echo.set_read_timeout(Some(Duration::from_millis(600)))
            .expect("a time-out");
        let echo_at = echo.local_addr().expect("its address");
        let to = to.to_string();
        let tcp = [
            "relay",
            "--tcp",
            "127.0.0.1:0",
            "--to",
            &to,
            "--conditional",
        ];
        let front = start(fixture, &tcp);
        let udp = relay(fixture, "--udp", echo_at);
        std::thread::scope(|scope| {
            target.set_nonblocking(true).expect("it may wait");
            scope.spawn(|| {
                let end = Instant::now() + Duration::from_millis(1500);
                while Instant::now() < end {
                    let Ok((mut served, _)) = target.accept() else {
                        std::thread::sleep(Duration::from_millis(5));
                        continue;
                    };
                    let _ = served.set_nonblocking(false);
                    let _ = served.set_read_timeout(Some(Duration::from_millis(600)));
                    let mut data = [0; 4096];
                    while let Ok(len @ 1..) = served.read(&mut data) {
                        let _lost = served.write_all(&data[..len]);
                    }
                    return;
                }
            });
            scope.spawn(|| {
                let mut data = [0; 64];
                if let Ok((len, from)) = echo.recv_from(&mut data) {
                    let _lost = echo.send_to(&data[..len], from);
                }
            });
            if let Some(front) = front {
                let _refused = short_exchange(front);
            }
            if let Some(udp) = udp {
                let _lost = exchange_datagram(udp, b"datagram");
            }
        });
        fixture.lab.stop_driver(SERVICE)?;
    }
    fixture.lab.check()?;
    match started {
        Err(e @ Error::Violation { .. }) => Err(e),
        _ => Ok(()),
    }
}

/// As [`exchange`], with less patience: the other side may never answer.
fn short_exchange(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_millis(800)))?;
    stream.write_all(b"through the relay")?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

#[test]
fn each_refused_call_of_a_relay_is_survived() {
    let fixture = Fixture::installed("service-refused");
    for (point, calls) in [
        ("wsk.WskSocket", 3),
        ("wsk.WskBind", 3),
        ("wsk.WskSocketConnect", 1),
        ("wsk.WskControlSocket", 5),
        ("wsk.WskGetLocalAddress", 2),
        ("wsk.WskReceive", 4),
        ("wsk.WskSend", 2),
        ("wsk.WskDisconnect", 2),
        ("wsk.WskReceiveFrom", 3),
        ("wsk.WskSendTo", 2),
        ("wsk.WskAcceptEvent", 1),
        ("wsk.WskInspectEvent", 1),
    ] {
        for nth in 1..=calls {
            let mut config = config();
            config.faults.points.push(PointFault {
                point: point.into(),
                nth,
                status: u32::cast_signed(0xC000_009A),
            });
            fixture.configure(&config);
            let before = fixture.lab.events().len();
            try_everything(&fixture).unwrap_or_else(|e| panic!("{point}, call {nth}: {e}"));
            let events = fixture.lab.events();
            let refused = events.iter().skip(before).any(|e| e.kind() == "fault");
            assert!(refused || nth > 1, "{point} was never called");
        }
    }
}

/// One allocation in so many fails in a run; `WEIR_EVERY=1` takes its minutes and
/// tries all. (`lab_services` has the first sixty of a connection, each.)
fn every() -> usize {
    let every = std::env::var("WEIR_EVERY").ok();
    every.and_then(|n| n.parse().ok()).unwrap_or(5).max(1)
}

#[test]
fn failing_allocations_of_a_relay_are_survived() {
    let fixture = Fixture::installed("service-allocations");
    let mut config = config();
    let allocations = |config: &weir_lab_harness::Config| {
        fixture.configure(config);
        let events = fixture.lab.events();
        let unload = events.into_iter().rev().find(|e| e.kind() == "unload");
        unload.map_or(0, |unload| unload.number("allocs"))
    };
    // What loading alone takes is tried elsewhere.
    fixture.configure(&config);
    fixture.start();
    fixture.lab.stop_driver(SERVICE).expect("it unloads");
    let loading = allocations(&config);
    try_everything(&fixture).expect("it works when nothing fails");
    let total = allocations(&config);
    assert!(total > loading + 20, "only {total} allocations");
    let (mut failed, mut tried) = (0, 0);
    for n in (loading + 1..=total + 1).step_by(every()) {
        tried += 1;
        config.faults.alloc = Some(n);
        fixture.configure(&config);
        try_everything(&fixture).unwrap_or_else(|e| panic!("allocation {n} failing: {e}"));
        let events = fixture.lab.events();
        let run = events.iter().rev().take_while(|e| e.kind() != "load");
        failed += u64::from(run.into_iter().any(|e| e.kind() == "fault"));
    }
    assert!(
        failed + 3 >= tried,
        "only {failed} of {tried} allocations were made to fail"
    );
    config.faults.alloc = None;
    fixture.configure(&config);
    try_everything(&fixture).expect("it works again");
}
