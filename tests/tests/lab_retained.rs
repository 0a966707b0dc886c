//! Data that the driver's services keep where the transport has put them: sent from
//! there, given back each once, never more than is said, and nothing else of what
//! comes in bulk but what may not be kept.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_lab_harness::Config;
use weir_tests::lab::{Fixture, SERVICE, config, weir_sys};
use weir_tests::services::{relay, start, until};

const PATIENCE: Duration = Duration::from_secs(20);
/// Most that a direction of a relay's connection keeps (`tcp/state/gate.rs`).
const HELD: u64 = 4;

/// A lab with weir.sys in it, whose provider does as it is told.
fn fixture(name: &str, set: impl FnOnce(&mut Config)) -> Fixture {
    let fixture = Fixture::bare(name);
    let mut config = config();
    set(&mut config);
    fixture.lab.configure(&config).expect("configured");
    fixture
        .lab
        .install_driver(SERVICE, &weir_sys())
        .expect("the driver is installed");
    fixture.lab.start_driver(SERVICE).expect("it loads");
    fixture
}

fn counts(fixture: &Fixture) -> Value {
    fixture.ask(&json!({"cmd": "wsk"}))
}

fn count(counts: &Value, name: &str) -> u64 {
    let count = counts[name].as_u64();
    count.unwrap_or_else(|| panic!("no {name} in {counts}"))
}

/// Bytes that tell where in the stream they are.
fn pattern(len: usize) -> Vec<u8> {
    let words = (0_u32..).flat_map(u32::to_le_bytes);
    words.take(len).collect()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it is accepted");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time-out of reads");
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("a time-out of writes");
    stream
}

/// Sends `data` both ways at once, each side's end after it, and compares.
fn both_ways(client: &TcpStream, target: &TcpStream, data: &[u8]) {
    std::thread::scope(|scope| {
        for (mut from, mut to) in [(client, target), (target, client)] {
            scope.spawn(move || {
                from.write_all(data).expect("it takes data");
                from.shutdown(Shutdown::Write).expect("its end");
            });
            scope.spawn(move || {
                let mut got = Vec::new();
                to.read_to_end(&mut got).expect("up to the end");
                assert!(got == data, "{} of {} bytes", got.len(), data.len());
            });
        }
    });
}

/// The id of a relay, a client of it, and what it has connected to.
fn relayed(fixture: &Fixture) -> (u64, TcpStream, TcpStream) {
    let target = TcpListener::bind("127.0.0.1:0").expect("a target");
    let to = target.local_addr().expect("its address").port();
    let (id, at) = relay(fixture, "--tcp", "127.0.0.1:0", to);
    let client = connect(at);
    let (served, _) = target.accept().expect("the relay connects");
    served
        .set_read_timeout(Some(PATIENCE))
        .expect("a time-out of reads");
    (id, client, served)
}

#[test]
fn a_relay_sends_bulk_from_where_it_is_and_gives_all_of_it_back() {
    // Lists of many elements, which no send takes all at once.
    let fixture = fixture("retained", |config| {
        config.wsk.asap = Some(0);
        config.wsk.element = Some(1460);
    });
    let (id, client, served) = relayed(&fixture);
    let data = pattern(6_000_000);
    both_ways(&client, &served, &data);
    until(&fixture, id, "/connections", 0);
    let counts = counts(&fixture);
    // Most come while the step that lets them be kept hasn't run yet, and are
    // received.
    let retained = count(&counts, "retained");
    assert!(retained > 0, "{counts}");
    assert!(
        count(&counts, "indicated_elements") > 2 * count(&counts, "indications"),
        "{counts}"
    );
    assert_eq!(count(&counts, "released"), retained, "{counts}");
    fixture.unload();
}

#[test]
fn what_should_not_be_kept_is_not_and_comes_all_the_same() {
    let fixture = fixture("retained-asap", |config| config.wsk.asap = Some(100));
    let (id, client, served) = relayed(&fixture);
    both_ways(&client, &served, &pattern(2_000_000));
    until(&fixture, id, "/connections", 0);
    let counts = counts(&fixture);
    assert!(count(&counts, "not_accepted") > 0, "{counts}");
    assert_eq!(count(&counts, "retained"), 0, "{counts}");
    fixture.unload();
}

#[test]
fn a_reader_that_is_slow_holds_the_sender_back_and_little_is_kept() {
    let fixture = fixture("retained-slow", |config| config.wsk.asap = Some(0));
    let (id, client, mut served) = relayed(&fixture);
    let data = pattern(16_000_000);
    // The target reads nothing until the client can't write any more.
    std::thread::scope(|scope| {
        let mut sender = &client;
        let data = &data;
        let sending = scope.spawn(move || {
            sender.write_all(data).expect("it takes data in the end");
            sender.shutdown(Shutdown::Write).expect("its end");
        });
        let deadline = Instant::now() + PATIENCE;
        let mut before = u64::MAX;
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let counts = counts(&fixture);
            let kept = count(&counts, "retained") - count(&counts, "released");
            assert!(kept <= HELD, "{counts}");
            // Nothing has moved since the last time: it is full.
            let indicated = count(&counts, "indicated_bytes");
            if indicated == before && indicated > 0 {
                break;
            }
            before = indicated;
            if Instant::now() >= deadline {
                break;
            }
        }
        let held_back = !sending.is_finished();
        let mut got = Vec::new();
        served.read_to_end(&mut got).expect("up to the end");
        assert!(got == *data, "{} of {} bytes", got.len(), data.len());
        assert!(held_back, "nobody held the sender back");
        served.shutdown(Shutdown::Write).expect("its end");
    });
    until(&fixture, id, "/connections", 0);
    let counts = counts(&fixture);
    assert!(count(&counts, "not_accepted") > 0, "{counts}");
    assert_eq!(
        count(&counts, "released"),
        count(&counts, "retained"),
        "{counts}"
    );
    fixture.unload();
}

#[test]
fn a_stop_while_neither_side_reads_gives_back_what_is_kept() {
    let fixture = fixture("retained-stop", |config| config.wsk.asap = Some(0));
    let (id, client, served) = relayed(&fixture);
    // Neither reads: each direction fills up.
    let data = pattern(24_000_000);
    std::thread::scope(|scope| {
        for mut stream in [&client, &served] {
            let data = &data;
            scope.spawn(move || stream.write_all(data).expect_err("it is reset"));
        }
        let mut before = u64::MAX;
        let deadline = Instant::now() + PATIENCE;
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let counts = counts(&fixture);
            let kept = count(&counts, "retained") - count(&counts, "released");
            assert!(kept <= 2 * HELD, "{counts}");
            let indicated = count(&counts, "indicated_bytes");
            if (indicated == before && indicated > 0) || Instant::now() >= deadline {
                break;
            }
            before = indicated;
        }
        let stopped = fixture.weirctl(&["service", "stop", &id.to_string()]);
        assert!(stopped.status.success());
    });
    let counts = counts(&fixture);
    assert_eq!(
        count(&counts, "released"),
        count(&counts, "retained"),
        "{counts}"
    );
    fixture.unload();
}

#[test]
fn a_discard_takes_all_in_its_events_and_counts_each_byte() {
    let fixture = fixture("retained-discard", |config| config.wsk.asap = Some(50));
    let (id, at) = start(&fixture, &["discard", "--tcp", "127.0.0.1:0"]);
    let data = pattern(3_000_001);
    let mut client = connect(at);
    client.write_all(&data).expect("it takes data");
    client.shutdown(Shutdown::Write).expect("its end");
    let mut nothing = Vec::new();
    client.read_to_end(&mut nothing).expect("its end");
    assert_eq!(nothing, b"");
    until(&fixture, id, "/connections", 0);
    until(&fixture, id, "/bytes_in", data.len() as u64);
    let counts = counts(&fixture);
    assert_eq!(count(&counts, "indicated_bytes"), data.len() as u64);
    assert_eq!(count(&counts, "accepted"), count(&counts, "indications"));
    assert_eq!(count(&counts, "disconnects_graceful"), 1, "{counts}");
    fixture.unload();
}
