//! The echo servers of user mode, each in its I/O model, under Wine without a
//! driver: the suite every echo passes, and the limits of each model.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_tests::echo::{CLIENTS, Echo, suite};
use weir_tests::lab::Fixture;

const PATIENCE: Duration = Duration::from_secs(20);

const MODELS: [&str; 6] = [
    "select",
    "async-select",
    "event-select",
    "overlapped-event",
    "overlapped-routine",
    "iocp",
];

/// `weirctl serve`, running.
struct Served {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Served {
    fn start(fixture: &Fixture, model: &str, more: &[&str]) -> Served {
        let fixed = ["serve", "--model", model, "--listen", "127.0.0.1:0"];
        let mut child = fixture
            .command(&[&fixed, more, &["--control", "--json"]].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("wine runs");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut served = Served {
            child,
            input,
            output,
            address: SocketAddr::from(([0; 4], 0)),
        };
        let listening = served.line();
        let address = listening["address"].as_str().expect("an address");
        served.address = address.parse().expect("an address");
        assert_eq!(listening["model"], model);
        served
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it says something");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"))
    }

    fn stats(&mut self) -> Value {
        writeln!(self.input, "stats").expect("it listens");
        self.line()
    }

    fn number(&mut self, name: &str) -> u64 {
        let stats = self.stats();
        let number = stats[name].as_u64();
        number.unwrap_or_else(|| panic!("no {name} in {stats}"))
    }

    fn echo(&self) -> Echo {
        Echo {
            address: self.address,
            patience: PATIENCE,
        }
    }

    /// Waits until nobody is connected any more.
    fn until_empty(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.number("connections") != 0 {
            assert!(Instant::now() < deadline, "{}", self.stats());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Tells it to stop, with clients connected: they see the end, and it ends
    /// well.
    fn stop(mut self) {
        let clients = self.echo().hold(70).expect("70 are answered");
        writeln!(self.input, "stop").expect("it listens");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waits") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not stop");
            thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{status}");
        let last = self.line();
        assert_eq!(last["connections"], 0, "{last}");
        for mut client in clients {
            assert_eq!(client.read(&mut [0]).expect("the end is told"), 0);
        }
        let _refused = TcpStream::connect(self.address).expect_err("nobody listens");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The suite, then so many clients at once: what the model has grown to by then.
fn model(name: &str, more: &[&str], clients: u32, threads: u64, room: Option<u64>) {
    let fixture = Fixture::bare(&format!("models-{name}"));
    let mut served = Served::start(&fixture, name, &[]);
    suite(served.echo()).unwrap_or_else(|why| panic!("{name}: {why}"));
    served.until_empty();
    let stats = served.stats();
    let number = |field: &str| stats[field].as_u64().expect("a number");
    assert_eq!(number("failed"), 0, "{stats}");
    // A client that has reset before it was accepted can't be any more.
    assert_eq!(
        number("accepted") + number("accept_errors"),
        CLIENTS,
        "{stats}"
    );
    assert_eq!(
        number("finished") + number("reset"),
        number("accepted"),
        "{stats}"
    );
    // Where readiness is asked for, Wine takes the error off the socket, and the
    // receive that follows sees an end like any other.
    let told = name.starts_with("overlapped") || name == "iocp";
    assert!(
        !told || number("reset") + number("accept_errors") >= 20,
        "twenty reset: {stats}"
    );
    served.stop();

    let mut served = Served::start(&fixture, name, more);
    let held = served
        .echo()
        .hold(clients)
        .unwrap_or_else(|why| panic!("{name}: {why}"));
    let stats = served.stats();
    assert_eq!(
        stats["connections"].as_u64(),
        Some(u64::from(clients)),
        "{stats}"
    );
    assert_eq!(stats["threads"].as_u64(), Some(threads), "{stats}");
    assert_eq!(stats["room"].as_u64(), room, "{stats}");
    // The first half goes; those left are moved to other places, and answered.
    let mut held = held;
    drop(held.drain(..held.len() / 2));
    for client in &mut held {
        client.write_all(b"still there").expect("sends");
    }
    for client in &mut held {
        let mut back = [0; 11];
        client.read_exact(&mut back).expect("is answered");
        assert_eq!(&back, b"still there");
    }
    // Where others were there is room again: no further thread.
    let again = served.echo().hold(clients / 2).expect("are answered");
    assert_eq!(served.number("threads"), threads);
    drop((held, again));
    served.until_empty();
    served.stop();
}

/// Sets of 64 that grow: the listener, the socket that wakes, and 200.
#[test]
fn select_grows_its_sets() {
    model("select", &[], 200, 1, Some(256));
}

/// A window a thread; with 50 connections each, 120 want three.
#[test]
fn async_select_begins_another_window() {
    model(
        "async-select",
        &["--per-thread", "50"],
        120,
        1 + 3,
        Some(150),
    );
}

/// 64 events a thread, one of which wakes it: 130 want three.
#[test]
fn event_select_begins_another_thread() {
    model("event-select", &[], 130, 1 + 3, Some(189));
}

#[test]
fn overlapped_event_begins_another_thread() {
    model("overlapped-event", &[], 130, 1 + 3, Some(189));
}

/// One thread, whatever comes.
#[test]
fn overlapped_routine_has_one_thread() {
    model("overlapped-routine", &[], 300, 1, None);
}

/// As many workers as asked for, more clients than accepts in flight.
#[test]
fn iocp_has_its_workers() {
    model("iocp", &["--workers", "3"], 1000, 3, None);
}

/// With a packet for each operation it does the same.
#[test]
fn iocp_with_every_packet_passes_the_suite() {
    let fixture = Fixture::bare("models-iocp-packets");
    let mut served = Served::start(&fixture, "iocp", &["--every-packet"]);
    suite(served.echo()).unwrap_or_else(|why| panic!("iocp --every-packet: {why}"));
    served.until_empty();
    assert_eq!(served.number("failed"), 0);
    served.stop();
}

/// Sockets' numbers are given again as soon as they are closed: messages about
/// those that had them before, resets among them, are no news of the new ones.
#[test]
fn async_select_knows_whom_a_message_is_about() {
    let fixture = Fixture::bare("models-reused");
    let mut served = Served::start(&fixture, "async-select", &[]);
    let echo = served.echo();
    let clients: Vec<_> = (0..4)
        .map(|n: u8| {
            thread::spawn(move || {
                for turn in 0..250_u32 {
                    let mut stream = echo.connect().expect("connects");
                    let asked = [n; 9];
                    stream.write_all(&asked).expect("sends");
                    let mut back = [0; 9];
                    stream.read_exact(&mut back).expect("is answered");
                    assert_eq!(back, asked);
                    if turn % 2 == 0 {
                        // A reset, with bytes on their way.
                        stream.write_all(&[1; 5000]).expect("sends");
                        let socket = socket2::Socket::from(stream);
                        socket.set_linger(Some(Duration::ZERO)).expect("lingers");
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("no panic");
    }
    served.until_empty();
    let stats = served.stats();
    assert_eq!(stats["failed"], 0, "{stats}");
    let number = |field: &str| stats[field].as_u64().expect("a number");
    assert_eq!(
        number("finished") + number("reset"),
        number("accepted"),
        "{stats}"
    );
    assert_eq!(
        number("accepted") + number("accept_errors"),
        1000,
        "{stats}"
    );
    served.stop();
}

/// Wine's server, which has the sockets of all programs of this lab.
fn wine_server(fixture: &Fixture) -> String {
    let prefix = fs::metadata(fixture.lab.prefix()).expect("the prefix");
    // Its folder is named after the prefix's device and inode.
    let folder = format!("-{:x}", prefix.ino());
    let mut processes = fs::read_dir("/proc").expect("proc").flatten();
    let server = processes.find(|entry| {
        fs::read_link(entry.path().join("cwd"))
            .is_ok_and(|cwd| cwd.to_string_lossy().ends_with(&folder))
    });
    let server = server.expect("Wine's server runs");
    server.file_name().to_string_lossy().into_owned()
}

/// How many files it may have open.
fn files_limit(process: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).expect("proc");
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    soft.expect("a limit").to_owned()
}

/// Sets that.
fn limit_files(process: &str, files: &str) {
    let limit = format!("--nofile={files}:");
    let mut set = Command::new("prlimit");
    set.args(["--pid", process, &limit]);
    assert!(set.status().expect("prlimit runs").success());
}

/// With no more files to be had nobody can be accepted. Who is connected is
/// answered as before, and those who wait are when there are files again.
#[test]
fn what_is_missing_to_accept_keeps_nobody_waiting_who_is_connected() {
    let fixture = Fixture::bare("models-files");
    let server = wine_server(&fixture);
    let enough = files_limit(&server);
    for name in MODELS {
        let mut served = Served::start(&fixture, name, &[]);
        let echo = served.echo();
        let mut known = echo.hold(3).expect("are answered");
        let open = fs::read_dir(format!("/proc/{server}/fd")).expect("proc");
        limit_files(&server, &open.count().to_string());
        let waiting: Vec<_> = (0..3).map(|_| echo.connect().expect("connects")).collect();
        let deadline = Instant::now() + PATIENCE;
        while served.number("accept_errors") == 0 {
            assert!(Instant::now() < deadline, "{name}: {}", served.stats());
            thread::sleep(Duration::from_millis(20));
        }
        let start = Instant::now();
        for turn in 0..200_u32 {
            let client = &mut known[turn as usize % 3];
            client.write_all(&turn.to_be_bytes()).expect("sends");
            let mut back = [0; 4];
            client.read_exact(&mut back).expect("is answered");
            assert_eq!(back, turn.to_be_bytes());
        }
        println!("{name}: 200 answers in {:?}", start.elapsed());
        limit_files(&server, &enough);
        for mut client in waiting {
            client.write_all(b"at last").expect("sends");
            let mut back = [0; 7];
            client.read_exact(&mut back).expect("is answered");
        }
        drop(known);
        served.until_empty();
        served.stop();
    }
}

/// The driver's echo passes the suite of the models.
#[test]
fn the_kernel_passes_the_same_suite() {
    let fixture = Fixture::weir("models-kernel");
    let started = fixture.json(&["service", "start", "echo", "--tcp", "127.0.0.1:0"]);
    let address = started["address"].as_str().expect("an address");
    let echo = Echo {
        address: address.parse().expect("an address"),
        patience: PATIENCE,
    };
    suite(echo).unwrap_or_else(|why| panic!("kernel: {why}"));
    drop(echo.hold(200).expect("200 are answered"));
    let id = started["id"].to_string();
    let stopped = fixture.json(&["service", "stop", &id]);
    assert_eq!(stopped["stopped"], true, "{stopped}");
    fixture.unload();
}

/// One clear error each, and what to do.
#[test]
fn what_cannot_be_served_is_told() {
    let fixture = Fixture::bare("models-wrong");
    let fails = |arguments: &[&str]| {
        let (code, said) = fixture.fails(&[&["serve"], arguments].concat());
        (code, said)
    };
    let (code, said) = fails(&["--model", "epoll", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("epoll") && said.contains("overlapped-routine"),
        "{said}"
    );
    let (code, said) = fails(&["--model", "iocp", "--listen", "localhost:7"]);
    assert_eq!(code, 2, "{said}");
    let (code, said) = fails(&[
        "--model",
        "event-select",
        "--listen",
        "127.0.0.1:0",
        "--per-thread",
        "64",
    ]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("1 to 63"), "{said}");
    let windows = ["--listen", "127.0.0.1:0", "--per-thread", "1901"];
    let (code, said) = fails(&[&["--model", "async-select"], &windows[..]].concat());
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("1 to 1900"), "{said}");

    let served = Served::start(&fixture, "iocp", &[]);
    let taken = served.address.to_string();
    let (code, said) = fails(&["--model", "select", "--listen", &taken]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&taken) && said.contains("port 0"), "{said}");
    let (code, said) = fails(&["--model", "select", "--listen", "203.0.113.1:0"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("one of this host"), "{said}");
    served.stop();
}
