//! The client against servers that do what is wanted of them.

use std::io::{Read as _, Write as _};

use super::*;
use std::net::TcpListener;

/// Nobody stops it.
static NEVER: AtomicBool = AtomicBool::new(false);

/// A server with a thread a connection, which does `serve` with each.
fn server(serve: fn(std::net::TcpStream) -> io::Result<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let address = listener.local_addr().expect("has an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn echo(stream: std::net::TcpStream) -> io::Result<()> {
    io::copy(&mut &stream, &mut &stream).map(drop)
}

fn plan(address: SocketAddr, connections: usize, size: usize) -> Plan {
    Plan {
        address,
        connections,
        size,
        warm_up: Duration::from_millis(20),
        duration: Duration::from_millis(200),
        threads: 2,
    }
}

#[test]
fn an_echo_is_measured_between_the_moments() {
    let mut moments = Vec::new();
    for (connections, size) in [(1, 1), (20, 100), (3, 300_000)] {
        moments.clear();
        let plan = plan(server(echo), connections, size);
        let report = plan
            .run(&NEVER, |moment| moments.push(moment))
            .expect("runs");
        assert!(report.messages > 0, "{connections} x {size}");
        assert_eq!(report.messages, report.latency.len());
        let evenly = report.messages / connections as u64;
        assert!(report.fewest <= evenly && report.most >= evenly && report.most > 0);
        assert!(report.elapsed >= plan.duration);
        assert!(report.latency.max() < 1_000_000_000 * 5);
        assert_eq!(moments, [Moment::Connected, Moment::Began, Moment::Ended]);
    }
}

#[test]
fn what_is_no_echo_is_an_error() {
    let wrong = server(|mut stream| {
        let mut buffer = [0; 64];
        stream.read_exact(&mut buffer[..1])?;
        stream.write_all(&buffer[..1])?;
        let count = stream.read(&mut buffer)?;
        buffer[count - 1] ^= 1;
        stream.write_all(&buffer[..count])?;
        thread::sleep(Duration::from_secs(1));
        Ok(())
    });
    let error = plan(wrong, 2, 10).run(&NEVER, |_| ()).expect_err("no echo");
    assert!(matches!(error, Error::Wrong { .. }), "{error}");
    let closing = server(|mut stream| {
        let mut buffer = [0; 5];
        stream.read_exact(&mut buffer[..1])?;
        stream.write_all(&buffer[..1])?;
        stream.read(&mut buffer).map(drop)
    });
    let error = plan(closing, 2, 10)
        .run(&NEVER, |_| ())
        .expect_err("no echo");
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    let mute = server(|mut stream| stream.read(&mut [0]).map(drop));
    let error = plan(mute, 2, 10).run(&NEVER, |_| ()).expect_err("no echo");
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

/// A thread that fails ends the others in the middle of setting connections up; what
/// they have begun is no error, and none of theirs takes the place of the first.
#[test]
fn of_several_threads_the_first_error_is_told() {
    let worker = Worker {
        plan: plan(server(echo), 64, 10),
        message: pattern(10).into(),
        phase: Arc::new(AtomicU8::new(END)),
    };
    let (tell, _told) = mpsc::channel();
    let tally = worker.run(64, &tell).expect("ended by another");
    assert_eq!(tally.latency.len(), 0);

    let closes_one = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("has an address");
        thread::spawn(move || {
            drop(listener.accept());
            for stream in listener.incoming().flatten() {
                thread::spawn(move || echo(stream));
            }
        });
        address
    };
    for _ in 0..5 {
        let error = plan(closes_one(), 64, 10)
            .run(&NEVER, |_| ())
            .expect_err("closed");
        assert!(matches!(error, Error::Connect { .. }), "{error}");
    }
}

#[test]
fn nobody_there_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let address = listener.local_addr().expect("has an address");
    drop(listener);
    let error = plan(address, 1, 1)
        .run(&NEVER, |_| ())
        .expect_err("refused");
    assert!(error.to_string().contains("nothing listens"), "{error}");
    let error = plan(address, 0, 1).run(&NEVER, |_| ()).expect_err("none");
    assert!(matches!(error, Error::Bound { .. }), "{error}");
}

/// An answer takes as long as the server takes for it, whatever the others do.
#[test]
fn latencies_are_those_of_the_server() {
    let slow = server(|mut stream| {
        let mut buffer = [0; 64];
        loop {
            let count = stream.read(&mut buffer)?;
            thread::sleep(Duration::from_millis(10));
            stream.write_all(&buffer[..count])?;
        }
    });
    let report = plan(slow, 8, 10).run(&NEVER, |_| ()).expect("runs");
    assert!(report.latency.min() >= 10_000_000, "{:?}", report.latency);
    // Each of the 8 has at most one answer in 10 ms.
    let most = 8 * (1 + report.elapsed.as_millis() as u64 / 10);
    assert!(report.messages <= most, "{} of {most}", report.messages);
    assert!(report.fewest >= 1 && report.most <= most / 8);
}

#[test]
fn it_stops_when_told_whatever_it_is_doing() {
    let stop = AtomicBool::new(false);
    let long = |address| Plan {
        duration: Duration::MAX,
        ..plan(address, 3, 10)
    };
    // While messages count, and while nobody answers a first time.
    let mute = server(|stream| {
        thread::sleep(Duration::from_secs(5));
        drop(stream);
        Ok(())
    });
    for address in [server(echo), mute] {
        stop.store(false, Ordering::Relaxed);
        let start = Instant::now();
        let error = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(300));
                stop.store(true, Ordering::Relaxed);
            });
            long(address).run(&stop, |_| ()).expect_err("stopped")
        });
        assert!(matches!(error, Error::Stopped), "{error}");
        assert!(start.elapsed() < Duration::from_secs(4));
    }
}

/// The percentiles against those of the sorted latencies: no more than a
/// thousandth off, whatever they are like.
#[test]
fn percentiles_are_those_of_the_sorted_latencies() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let even: Vec<u64> = (1..=100_000).map(|n| n * 1000).collect();
    // Most of them fast, a few of them slow: what servers are like.
    let tailed: Vec<u64> = (0..100_000)
        .map(|_| (20_000.0 - 50_000.0 * random().ln() + 1e9 * random().powi(300)) as u64)
        .collect();
    let two: Vec<u64> = (0..10_000)
        .map(|n| if n % 100 == 0 { 40_000_000 } else { 90_000 })
        .collect();
    for mut latencies in [even, tailed, two, vec![77]] {
        let mut halves = [histogram().expect("made"), histogram().expect("made")];
        for (at, latency) in latencies.iter().enumerate() {
            halves[at % 2].saturating_record(*latency);
        }
        // As those of several threads are put together.
        let [mut all, other] = halves;
        all += other;
        latencies.sort_unstable();
        for quantile in [0.5, 0.9, 0.99, 0.999, 1.0] {
            let rank = (quantile * latencies.len() as f64).ceil() as usize;
            let exact = latencies[rank.max(1) - 1] as f64;
            let told = all.value_at_quantile(quantile) as f64;
            assert!(
                (told - exact).abs() <= exact / 1000.0 + 1.0,
                "{quantile}: {told}, not {exact}"
            );
        }
        assert_eq!(all.len(), latencies.len() as u64);
    }
}
