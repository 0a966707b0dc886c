//! `weirctl bench` against an echo of the host's, and what it says of runs whose
//! numbers are known.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::thread;

use clap::Parser as _;
use hdrhistogram::Histogram;
use serde_json::Value;
use weir_io_models::load::Report;

use super::view::{Spent, Whose};
use super::*;
use crate::cli::{Cli, Command};

fn parse(line: &str) -> EchoArgs {
    let words = ["weirctl", "bench", "echo"].into_iter();
    let cli = Cli::try_parse_from(words.chain(line.split_whitespace())).expect("parses");
    match cli.command {
        Command::Bench(BenchCommand::Echo(args)) => args,
        other => panic!("{other:?}"),
    }
}

/// What it prints, as text or JSON, and how it ends.
fn bench(line: &str, json: bool, stop: bool) -> (String, Result<(), CtlError>) {
    let mut printed = Vec::new();
    let ended = {
        let mut out = Output::new(json, Box::new(&mut printed));
        echo(&parse(line), &AtomicBool::new(stop), &mut out)
    };
    (String::from_utf8(printed).expect("UTF-8"), ended)
}

/// An echo with a thread a connection.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let address = listener.local_addr().expect("has an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    address.to_string()
}

/// A run whose latencies are 1 to 1,000 ms, so many times.
fn run(against: &'static str, connections: usize, times: u64) -> Run {
    let mut latency = Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("made");
    for ms in 1..=1000 {
        latency.record_n(ms * 1_000_000, times).expect("fits");
    }
    let report = Report {
        connecting: Duration::from_millis(250),
        elapsed: Duration::from_secs(2),
        messages: latency.len(),
        latency,
        fewest: 3,
        most: 30,
    };
    let plan = Plan {
        address: "127.0.0.1:7".parse().expect("an address"),
        connections,
        size: 64,
        warm_up: Duration::ZERO,
        duration: Duration::from_secs(2),
        threads: 1,
    };
    Run::new(against, &plan, &report, |whose| match whose {
        Whose::Server => Spent {
            cpu: Some(Duration::from_millis(20)),
            memory: Some(4096 * connections as u64),
        },
        Whose::Others => Spent {
            cpu: Some(Duration::from_millis(5)),
            memory: None,
        },
    })
}

fn of(line: &str, others: Vec<Named>, runs: Vec<Run>) -> Bench {
    Bench::new(&parse(line), others, runs)
}

fn names(value: &Value) -> BTreeSet<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

/// Programs read these names: they stay.
#[test]
fn the_json_has_the_names_it_always_has() {
    let line = format!(
        "--connect {} --connections 1,3 --duration 0.1 --warm-up 0 --rounds 2",
        server()
    );
    let (text, ended) = bench(&line, true, false);
    ended.expect("measures");
    let bench: Value = serde_json::from_str(&text).expect("one object");
    let all = "size duration_seconds threads rounds others notes runs";
    assert_eq!(names(&bench), all.split(' ').collect());
    let runs = bench["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 2, "one of two rounds each: {bench}");
    let all = "against connections connecting_seconds messages messages_per_second \
               slowest_per_second fastest_per_second bytes_per_second p50_us p99_us p999_us \
               max_us fewest most server_cpu_us_per_message others_cpu_us_per_message \
               server_bytes_per_connection others_bytes_per_connection";
    for run in runs {
        assert_eq!(names(run), all.split(' ').collect());
        let number = |name: &str| run[name].as_f64().expect("a number");
        assert!(number("messages") > 0.0);
        assert!(number("slowest_per_second") <= number("messages_per_second"));
        assert!(number("messages_per_second") <= number("fastest_per_second"));
        assert!(number("p50_us") <= number("p99_us") && number("p999_us") <= number("max_us"));
        assert_eq!(run["server_cpu_us_per_message"], Value::Null);
    }
    assert_eq!(bench["others"], serde_json::json!([]));
    let notes = bench["notes"].to_string();
    assert!(notes.contains("closed loop"), "{notes}");
}

#[test]
fn numbers_are_what_was_measured() {
    let bench = of("--against iocp", Vec::new(), vec![run("iocp", 100, 10)]);
    let json = serde_json::to_value(&bench).expect("JSON");
    let run = &json["runs"][0];
    let is = |name: &str, value: f64| {
        let told = run[name].as_f64().expect("a number");
        // As exact as the histogram.
        assert!((told - value).abs() <= value / 500.0, "{name}: {told}");
    };
    is("messages", 10_000.0);
    is("messages_per_second", 5_000.0);
    is("bytes_per_second", 320_000.0);
    is("p50_us", 500_000.0);
    is("p99_us", 990_000.0);
    is("p999_us", 999_000.0);
    is("max_us", 1_000_000.0);
    is("server_cpu_us_per_message", 2.0);
    is("others_cpu_us_per_message", 0.5);
    is("server_bytes_per_connection", 4096.0);
    assert_eq!(run["others_bytes_per_connection"], Value::Null);
    assert!(
        bench
            .markdown()
            .contains("\n| iocp | 100 | 5,000 | 500 | 990 | 999 | 3 to 30 | 2.0 | 0.5 | 4.0 |\n"),
        "{}",
        bench.markdown()
    );
}

#[test]
fn of_several_rounds_the_middle_is_shown() {
    let rounds = [3, 9, 1].map(|times| [run("iocp", 1, times), run("kernel", 1, times * 2)]);
    let bench = of(
        "--against iocp,kernel --rounds 3",
        Vec::new(),
        rounds.into_iter().flatten().collect(),
    );
    let json = serde_json::to_value(&bench).expect("JSON");
    assert_eq!(json["runs"].as_array().expect("runs").len(), 2);
    for (at, messages) in [(0, 3000.0), (1, 6000.0)] {
        let run = &json["runs"][at];
        assert_eq!(run["messages"].as_f64(), Some(messages));
        assert_eq!(run["slowest_per_second"].as_f64(), Some(messages / 6.0));
        assert_eq!(run["fastest_per_second"].as_f64(), Some(messages * 1.5));
    }
    assert!(bench.markdown().contains("| 1,500 (500 to 4,500) |"));
    let how = "messages of 64 bytes, 5 s a run, of 3 rounds the middle one";
    assert!(bench.markdown().contains(how), "{}", bench.markdown());
    let beside = "kernel beside iocp: 2.0 times the messages at 1, 0.50 of the processor time each";
    assert!(bench.markdown().contains(beside), "{}", bench.markdown());
}

/// Whose costs are known is said, and what to do where they aren't.
#[test]
fn what_is_not_known_is_said() {
    let text = |bench: &Bench| {
        let mut out = Vec::new();
        crate::output::View::text(bench, &mut out).expect("writes");
        String::from_utf8(out).expect("UTF-8")
    };
    let nobody = of(
        "--against iocp,kernel",
        Vec::new(),
        vec![run("kernel", 1, 1)],
    );
    assert!(text(&nobody).contains("note: processor time and memory of kernel and relay"));
    assert!(text(&nobody).contains("--pid") && text(&nobody).contains("closed loop"));
    let models = of("--against models", Vec::new(), vec![run("iocp", 1, 1)]);
    assert!(!text(&models).contains("--pid"));
    let system = Named {
        process: 4,
        name: "System".to_owned(),
    };
    let known = of("--against relay", vec![system], vec![run("relay", 1, 1)]);
    let said = text(&known);
    assert!(said.contains("non-paged pool"), "{said}");
    assert!(!text(&models).contains("non-paged pool"));
    assert!(
        said.contains("others: System 4") && !said.contains("--pid"),
        "{said}"
    );
    assert!(
        said.contains("goes through the driver three times"),
        "{said}"
    );
    let elsewhere = of(
        "--against relay --to 192.0.2.1:7",
        Vec::new(),
        vec![run("relay", 1, 1)],
    );
    assert!(text(&elsewhere).contains("to 192.0.2.1:7"));
}

/// Windows' own process tells of the driver's processor time, not of its memory.
#[test]
fn pool_is_no_processs_memory() {
    let named = |name: &str| Named {
        process: std::process::id(),
        name: name.to_owned(),
    };
    let cost = |others: &[Named]| {
        let costs = Costs::now(None, others).expect("known");
        costs.others.expect("some")
    };
    assert!(cost(&[named("winedevice.exe")]).memory.is_some());
    assert!(cost(&[named("System")]).memory.is_none());
    let both = cost(&[named("winedevice.exe"), named("System")]);
    assert!(both.memory.is_none() && both.cpu > Duration::ZERO);
}

/// An XML reader takes the drawing, and each bar is in it.
#[test]
fn the_drawing_is_well_formed_and_has_a_bar_for_each_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bench.svg");
    let mut runs = Vec::new();
    for against in ["iocp", "kernel", "relay"] {
        runs.extend([1, 100, 1000].map(|connections| run(against, connections, 5)));
    }
    plot::draw(&of("--against all", Vec::new(), runs), &path).expect("draws");
    let text = std::fs::read_to_string(&path).expect("written");
    let drawing = roxmltree::Document::parse(&text).expect("well-formed");
    assert_eq!(drawing.root_element().tag_name().name(), "svg");
    let said: BTreeSet<&str> = drawing
        .descendants()
        .filter_map(|node| node.text().map(str::trim))
        .collect();
    for word in [
        "iocp",
        "kernel",
        "relay",
        "1 connection",
        "100 connections",
        "1000 connections",
        "messages a second",
        "processor time a message, µs",
        "memory a connection, KiB",
    ] {
        assert!(said.contains(word), "no {word} in {said:?}");
    }
    let bars = |colour: &str| {
        let rectangles = drawing.descendants().filter(|n| n.has_tag_name("rect"));
        let filled = rectangles.filter(|n| n.attribute("fill") == Some(colour));
        filled.count()
    };
    // Four panels with a bar for each server, and one in each legend.
    for colour in ["#0072B2", "#E69F00", "#009E73"] {
        assert_eq!(bars(colour), 4 * (3 + 1), "{colour}");
    }
}

#[test]
fn a_stop_ends_it_and_what_fails_is_told() {
    let line = format!("--connect {} --connections 2 --duration 60", server());
    let (text, ended) = bench(&line, true, true);
    let error = ended.expect_err("stopped");
    assert!(error.to_string().contains("stopped"), "{error}");
    assert_eq!(text, "");
    let (_, ended) = bench("--against iocp --to 127.0.0.1:7", false, false);
    let error = ended.expect_err("no relay");
    assert_eq!(error.exit_code(), 2, "{error}");
    let line = format!("--against all --connect {}", server());
    let (_, ended) = bench(&line, false, false);
    let error = ended.expect_err("one of which nobody knows which");
    assert_eq!(error.exit_code(), 2, "{error}");
    let line = format!("--against iocp --connect {} --duration 0.1", server());
    let (text, ended) = bench(&line, false, false);
    ended.expect("one name is one to call it by");
    assert!(text.contains("\niocp "), "{text}");
    let (_, ended) = bench(
        "--against kernel --weirctl /nonexistent/weirctl",
        false,
        false,
    );
    let error = ended.expect_err("no such program").to_string();
    assert!(error.contains("/nonexistent/weirctl"), "{error}");
}
