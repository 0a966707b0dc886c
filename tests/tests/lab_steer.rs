//! Rules, flows, divert, inject and what weirctl says of them, as a user runs
//! them: the Windows program against the driver.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use weir_lab_harness::windows_path;
use weir_tests::frames::{self, Frame};
use weir_tests::lab::{ADAPTER, Accounts, Fixture, capture, ctrl_c, said};
use weir_tests::packet::{self, Dir, HOST_IP, PEER_IP, flag};

/// Of the frames of [`some`], those to this port are diverted where rules say so.
const DIVERTED: u16 = 2004;

fn at(ip: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip, port)
}

/// A numbered UDP frame to a port.
fn one(way: Dir, port: u16, number: u16) -> Vec<u8> {
    let (from, to) = match way {
        Dir::Up => (PEER_IP, HOST_IP),
        Dir::Down => (HOST_IP, PEER_IP),
    };
    let payload = number.to_be_bytes().repeat(40);
    packet::udp(way, at(from, 40_000), at(to, port), number, &payload)
}

/// So many of them.
fn some(way: Dir, port: u16, count: u16) -> Vec<Vec<u8>> {
    (0..count).map(|n| one(way, port, n)).collect()
}

fn rules(folder: &Path, text: &str) -> String {
    let file = folder.join("steer.rules");
    std::fs::write(&file, text).expect("written");
    windows_path(&file)
}

fn load(fixture: &Fixture, folder: &Path, text: &str) -> Value {
    fixture.json(&["rules", "load", &rules(folder, text)])
}

/// What weirctl prints for a person.
fn text(fixture: &Fixture, arguments: &[&str]) -> String {
    let out = fixture.weirctl(arguments);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(out.stdout)
        .expect("UTF-8")
        .replace('\r', "")
}

fn number(value: &Value, path: &str) -> u64 {
    value
        .pointer(path)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no {path} in {value}"))
}

#[test]
fn rules_are_loaded_shown_counted_and_cleared() {
    let fixture = Fixture::weir("steer-rules");
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(text(&fixture, &["rules", "show"]), "default pass\n");
    let none = "no rules in force: every frame passes\n";
    assert_eq!(text(&fixture, &["rules", "stats"]), none);

    let good = "# a comment\n\
                rule smb   drop in  tcp port 445 or udp dst port 2001\n\
                rule seen  count any udp\n\
                default pass\n";
    let loaded = text(&fixture, &["rules", "load", &rules(folder.path(), good)]);
    assert!(
        loaded.starts_with("2 rules in force (generation "),
        "{loaded}"
    );
    let shown = "rule smb drop in tcp port 445 or udp dst port 2001\n\
                 rule seen count any udp\n\
                 default pass\n";
    assert_eq!(text(&fixture, &["rules", "show"]), shown);

    fixture.offer(Dir::Up, &some(Dir::Up, 2001, 5));
    fixture.offer(Dir::Down, &some(Dir::Down, 2001, 7));
    let stats = fixture.json(&["rules", "stats"]);
    let length = one(Dir::Up, 2001, 0).len() as u64;
    for (path, wanted) in [
        ("/rules/0/frames", 5),
        ("/rules/0/bytes", 5 * length),
        // Only what the rule before it let through.
        ("/rules/1/frames", 7),
        ("/default/frames", 7),
        ("/default/bytes", 7 * length),
        ("/seen/frames", 12),
    ] {
        assert_eq!(number(&stats, path), wanted, "{path}: {stats}");
    }
    let table = text(&fixture, &["rules", "stats"]);
    for word in [
        "smb",
        "seen",
        "12 frames seen since generation",
        ": balanced",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
    fixture.accounts().rules_saw_every_frame();

    // A bad file: each mistake where it is; what is in force stays, and counts on.
    let bad = "rule smb drop in tcp prot 445\n\
               rule smb2 pas any udp\n\
               rule seen count any net 10.0.0.1/8\n";
    let path = rules(folder.path(), bad);
    let (code, errors) = fixture.fails(&["rules", "load", &path]);
    assert_eq!(code, 1, "{errors}");
    for word in ["3 errors", ":1:", ":2:", ":3:", "tcp prot 445", "^"] {
        assert!(errors.contains(word), "{word}: {errors}");
    }
    let (code, _) = fixture.fails(&["rules", "load", "C:\\no such.rules"]);
    assert_eq!(code, 1);
    fixture.offer(Dir::Up, &some(Dir::Up, 2001, 2));
    let after = fixture.json(&["rules", "stats"]);
    assert_eq!(after["generation"], stats["generation"]);
    assert_eq!(number(&after, "/rules/0/frames"), 7, "{after}");
    assert_eq!(text(&fixture, &["rules", "show"]), shown);

    assert_eq!(text(&fixture, &["rules", "clear"]), none);
    assert_eq!(text(&fixture, &["rules", "stats"]), none);
    fixture.offer(Dir::Up, &some(Dir::Up, 2001, 3));
    let accounts = fixture.accounts();
    assert_eq!((accounts.all.seen, accounts.all.dropped), (17, 7));
    fixture.unload();
}

#[test]
fn rules_are_swapped_while_frames_pass() {
    let fixture = Fixture::weir("steer-swap");
    let folder = tempfile::tempdir().expect("a folder");
    // Under each of them every frame is dropped, or none.
    let [all, none] = ["default drop\n", "rule all pass any\ndefault drop\n"];
    load(&fixture, folder.path(), all);
    let file = folder.path().join("in.pcap");
    let both = [some(Dir::Up, 2000, 200), some(Dir::Down, 2000, 200)].concat();
    let both: Vec<Frame> = both.iter().map(|f| Frame::new(f)).collect();
    frames::save(&file, &both);
    fixture.ask(&json!({
        "cmd": "replay", "adapter": ADAPTER, "file": windows_path(&file),
        "speed": 0, "loops": 0, "wait": false,
    }));
    let mut generation = 0;
    let mut dropped = 0;
    for round in 0..8 {
        let loaded = load(&fixture, folder.path(), [none, all][round % 2]);
        assert!(number(&loaded, "/generation") > generation, "{loaded}");
        generation = number(&loaded, "/generation");
        let stats = fixture.json(&["stats"]);
        let now: u64 = ["in", "out"]
            .iter()
            .map(|d| number(&stats["adapters"][0][d]["balance"], "/dropped"))
            .sum();
        assert!(
            round % 2 == 0 || now > dropped,
            "round {round}: nothing is dropped"
        );
        dropped = now;
    }
    fixture.ask(&json!({"cmd": "replay_stop", "adapter": ADAPTER}));
    let accounts = fixture.accounts();
    let rules = accounts.rules.expect("rules are in force");
    // The last ones dropped all they were asked about, and saw not all there was.
    assert_eq!(rules.drop, rules.seen);
    assert!(rules.seen < accounts.all.seen, "{accounts:?}");
    assert!(accounts.all.passed > 0 && accounts.all.dropped >= rules.drop);
    fixture.unload();
}

#[test]
fn flows_are_listed_with_ports_names_and_owners() {
    let fixture = Fixture::weir("steer-flows");
    let echo = fixture.json(&["service", "start", "echo", "--udp", "0.0.0.0:0"]);
    let listens = echo["address"].as_str().and_then(|a| a.rsplit_once(':'));
    let port: u16 = listens.and_then(|l| l.1.parse().ok()).expect("a port");

    // A web server far away, once opened and once reset; the service; no ports at all.
    let (web, client) = (at(PEER_IP, 443), at(HOST_IP, 50_000));
    let other = at(HOST_IP, 3000);
    let segments = [
        (Dir::Down, client, web, flag::SYN, 10, 0),
        (Dir::Up, web, client, flag::SYN | flag::ACK, 90, 11),
        (Dir::Down, client, web, flag::ACK, 11, 91),
        (Dir::Down, other, web, flag::SYN, 10, 0),
        (Dir::Up, web, other, flag::RST | flag::ACK, 0, 11),
    ];
    for (way, from, to, flags, seq, ack) in segments {
        fixture.offer(way, &[packet::tcp(way, from, to, flags, seq, ack)]);
    }
    fixture.offer(Dir::Up, &some(Dir::Up, port, 9));

    let all = fixture.json(&["flows", "--sort", "id"]);
    let flows = all["flows"].as_array().expect("flows");
    assert_eq!(flows.len(), 3, "{all}");
    let unsure = "certainty";
    for (flow, path, wanted) in [
        (0, "/id", json!(1)),
        (0, "/adapter", json!(ADAPTER)),
        (0, "/protocol", json!("tcp")),
        (0, "/state", json!("established")),
        (0, "/initiator/address", json!("10.0.0.1")),
        (0, "/initiator/port", json!(50_000)),
        (0, "/initiator_port_class", json!("dynamic")),
        (0, "/responder_port_class", json!("well-known")),
        (0, "/responder/service", json!("https")),
        (0, "/sent/packets", json!(2)),
        (0, "/received/packets", json!(1)),
        (1, "/state", json!("reset")),
        (1, "/initiator_port_class", json!("registered")),
        (2, "/protocol", json!("udp")),
        (2, "/sent/packets", json!(9)),
        (2, "/owner/service", echo["id"].clone()),
        // A process can have this port of another address.
        (2, "/owner/certainty", json!("likely")),
    ] {
        assert_eq!(
            flows[flow].pointer(path),
            Some(&wanted),
            "{path}: {}",
            flows[flow]
        );
    }
    // No process of this lab has these sockets: who has them isn't known, and why.
    for flow in &flows[..2] {
        let owner = &flow["owner"];
        assert_eq!(
            (&owner[unsure], &owner["pid"]),
            (&json!("unknown"), &json!(null))
        );
        assert!(
            owner["why"].as_str().is_some_and(|why| !why.is_empty()),
            "{owner}"
        );
    }
    assert!(flows[2]["owner"]["why"].is_string());

    let table = text(&fixture, &["flows"]);
    let rows: Vec<&str> = table.lines().collect();
    let row = |id: &str| {
        let row = rows.iter().find(|r| r.trim_start().starts_with(id));
        *row.unwrap_or_else(|| panic!("no flow {id} in {table}"))
    };
    for word in [
        "10.0.0.1:50000",
        "10.0.0.2:443",
        "https",
        "established",
        "unknown",
    ] {
        assert!(row("1 ").contains(word), "{word}: {table}");
    }
    let service = format!("weir service {}", echo["id"]);
    assert!(row("3 ").ends_with(&service), "{table}");
    // The most bytes first.
    assert!(rows[1].trim_start().starts_with("3 "), "{table}");
    let known = format!("{ADAPTER}: 3 flows of 16384, 0 half open; 3 created");
    assert!(table.contains(&known), "{table}");

    let limited = fixture.json(&["flows", "--limit", "1", "-i", ADAPTER]);
    assert_eq!(
        (
            number(&limited, "/more"),
            limited["flows"].as_array().map(Vec::len)
        ),
        (2, Some(1))
    );
    let (code, errors) = fixture.fails(&["flows", "-i", "nosuch"]);
    assert!(code == 1 && errors.contains(ADAPTER), "{code}: {errors}");
    fixture.unload();
}

/// Diverts with these options while `frames` come, and ends it: what it said.
fn divert(fixture: &Fixture, to: &str, frames: &[Vec<u8>]) -> Value {
    let child = fixture.spawn(&[
        "divert",
        "-i",
        ADAPTER,
        "--to",
        to,
        "--duration",
        "60",
        "--json",
    ]);
    fixture.until("diverters", 1);
    fixture.offer(Dir::Up, frames);
    ctrl_c(&child);
    let said = said(child);
    fixture.until("diverters", 0);
    Accounts::reader(&said);
    said
}

#[test]
fn diverted_frames_go_back_or_nowhere() {
    let fixture = Fixture::weir("steer-divert");
    let folder = tempfile::tempdir().expect("a folder");
    load(
        &fixture,
        folder.path(),
        "rule some divert any udp dst port 2004\n",
    );
    let frames = some(Dir::Up, DIVERTED, 40);
    for (to, up, down) in [("onward", 40, 0), ("back", 0, 40), ("nowhere", 0, 0)] {
        fixture.watch(folder.path());
        let said = divert(&fixture, to, &frames);
        let returned = up + down;
        for (path, wanted) in [
            ("/frames", 40),
            ("/reader/seen", 40),
            ("/reader/delivered", 40),
            ("/reader/returned", returned),
            ("/reader/lost", 0),
        ] {
            assert_eq!(number(&said, path), wanted, "{to}, {path}: {said}");
        }
        let kept = number(&said, "/reader/outstanding") + number(&said, "/reader/unreturned");
        assert_eq!(kept, 40 - returned, "{to}: {said}");
        for (way, count) in [(Dir::Up, up), (Dir::Down, down)] {
            let out = fixture.came_out(folder.path(), way);
            assert_eq!(out.len() as u64, count, "{to}, {way:?}");
            assert!(out.is_empty() || out == frames, "{to}: the frames differ");
        }
    }
    let accounts = fixture.accounts();
    accounts.rules_saw_every_frame();
    assert_eq!((accounts.all.seen, accounts.all.diverted), (120, 120));
    fixture.unload();
}

/// A program that is killed with frames it never gave back: they were diverted,
/// nothing of them stays in the driver, and the next ones pass.
#[test]
fn a_killed_reader_keeps_nothing() {
    let fixture = Fixture::weir("steer-killed");
    let folder = tempfile::tempdir().expect("a folder");
    load(
        &fixture,
        folder.path(),
        "rule some divert any udp dst port 2004\n",
    );
    let frames = some(Dir::Up, DIVERTED, 60);
    // One that has read its frames, and one that was stopped before it could.
    for stopped in [false, true] {
        let arguments = ["divert", "--to", "nowhere", "--duration", "60"];
        let mut child = fixture.spawn(&arguments);
        fixture.until("diverters", 1);
        if stopped {
            use nix::sys::signal::{Signal, kill};
            let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
            kill(pid, Signal::SIGSTOP).expect("it runs");
        }
        fixture.offer(Dir::Up, &frames);
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
        fixture.until("diverters", 0);
    }
    let diverted = fixture.accounts();
    assert_eq!(diverted.all.diverted, 120, "{diverted:?}");
    fixture.offer(Dir::Up, &frames);
    let accounts = fixture.accounts();
    accounts.rules_saw_every_frame();
    assert_eq!((accounts.all.seen, accounts.all.passed), (180, 60));
    fixture.unload();
}

#[test]
fn injected_frames_go_in_and_out_and_are_not_diverted() {
    let fixture = Fixture::weir("steer-inject");
    let folder = tempfile::tempdir().expect("a folder");
    load(&fixture, folder.path(), "rule all divert any\n");
    let arguments = ["divert", "--to", "nowhere", "--duration", "60", "--json"];
    let diverter = fixture.spawn(&arguments);
    fixture.until("diverters", 1);
    fixture.watch(folder.path());
    // Every kind there is, with some that are too short for a header.
    let odd = capture("odd.pcap");
    let all: Vec<Vec<u8>> = frames::of(&odd).into_iter().map(|f| f.data).collect();
    let whole: Vec<Vec<u8>> = all.iter().filter(|f| f.len() >= 14).cloned().collect();
    let file = windows_path(&odd);
    // One of them is longer than what the adapter sends, if it has said what that is.
    let mtu = number(&fixture.json(&["adapters"]), "/adapters/0/mtu") as usize;
    assert!(mtu == 0 || mtu == 1500, "{mtu}");
    let longest = if mtu == 0 { usize::MAX } else { mtu + 22 };
    let sent: Vec<Vec<u8>> = whole
        .iter()
        .filter(|f| f.len() <= longest)
        .cloned()
        .collect();
    assert_eq!(whole.len() - sent.len(), usize::from(mtu > 0));
    for (direction, way, whole) in [("in", Dir::Up, &whole), ("out", Dir::Down, &sent)] {
        let said = fixture.json(&["inject", "-i", ADAPTER, "--direction", direction, &file]);
        assert_eq!(number(&said, "/frames"), whole.len() as u64, "{said}");
        assert_eq!(
            number(&said, "/skipped"),
            (all.len() - whole.len()) as u64,
            "{said}"
        );
        assert!(
            fixture.came_out(folder.path(), way) == *whole,
            "{direction}: the frames differ"
        );
    }
    let told = text(
        &fixture,
        &[
            "inject",
            "-i",
            ADAPTER,
            "--direction",
            "in",
            "-c",
            "3",
            &file,
        ],
    );
    assert!(
        told.starts_with("3 frames injected on lab0 (in), "),
        "{told}"
    );
    ctrl_c(&diverter);
    let diverter = said(diverter);
    Accounts::reader(&diverter);
    assert_eq!(number(&diverter, "/frames"), 0, "{diverter}");

    let stats = fixture.json(&["stats"]);
    let count = whole.len() as u64;
    let adapter = &stats["adapters"][0];
    assert_eq!(number(adapter, "/in/injected"), count + 3, "{adapter}");
    assert_eq!(
        number(adapter, "/out/injected"),
        sent.len() as u64,
        "{adapter}"
    );
    let accounts = Accounts::check(&stats);
    assert_eq!(accounts.all.seen, 0, "they are no part of the balance");
    let shown = text(&fixture, &["stats"]);
    assert!(
        shown.contains(&format!("injected out: {}, failed 0", sent.len())),
        "{shown}"
    );

    let file = windows_path(&folder.path().join("no such.pcap"));
    let (code, _) = fixture.fails(&["inject", "-i", ADAPTER, "--direction", "in", &file]);
    assert_eq!(code, 1);
    fixture.unload();
}

#[test]
fn floods_and_scans_give_alarm() {
    let fixture = Fixture::weir("steer-alarms");
    let server = at(HOST_IP, 80);
    let syn = |from: SocketAddrV4, to| packet::tcp(Dir::Up, from, to, flag::SYN, 1, 0);
    let flood: Vec<Vec<u8>> = (0..400_u16)
        .map(|n| {
            syn(
                at(Ipv4Addr::new(192, 0, 2, (n % 250) as u8), 1024 + n),
                server,
            )
        })
        .collect();
    let scanner = Ipv4Addr::new(198, 51, 100, 7);
    let scan: Vec<Vec<u8>> = (1..300_u16)
        .map(|port| syn(at(scanner, 55_555), at(HOST_IP, 2000 + port)))
        .collect();
    for frames in [flood, scan] {
        fixture.offer(Dir::Up, &frames);
    }
    // The driver collects them once a second.
    let mut shown = String::new();
    for _ in 0..30 {
        shown = text(&fixture, &["flows", "--limit", "3"]);
        if shown.matches("alarm: ").count() >= 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    for word in [
        "lab0  SYN flood at 10.0.0.1:80: ",
        "lab0  port scan by 198.51.100.7: about ",
        "and 696 more (--limit)",
    ] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let all = fixture.json(&["flows"]);
    let alarms = all["alarms"].as_array().expect("alarms");
    let sequences: Vec<u64> = alarms.iter().map(|a| number(a, "/sequence")).collect();
    // One that spans two windows of time may be told twice.
    let each: Vec<u64> = (1..).take(sequences.len()).collect();
    assert!(sequences == each && (2..=4).contains(&each.len()), "{all}");
    fixture.unload();
}

/// The lines in which tshark shows the options of the statistics blocks.
fn statistics(file: &Path) -> Vec<String> {
    // As the file it is, not as the frames in it.
    let blocks = ["-X", "read_format:MIME Files Format", "-V", "-r"];
    let out = Command::new("tshark")
        .args(blocks)
        .arg(file)
        .output()
        .expect("tshark is installed");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    let lines = text.lines().map(str::trim);
    lines
        .skip_while(|line| *line != "Block: Interface Statistics Block")
        .filter(|line| line.starts_with("Option: "))
        .map(|line| line["Option: ".len()..].to_owned())
        .collect()
}

#[test]
fn a_capture_file_says_what_became_of_every_frame() {
    let fixture = Fixture::weir("steer-file");
    let folder = tempfile::tempdir().expect("a folder");
    let text = "rule web drop in udp dst port 2001\n\
                rule some divert in udp dst port 2004\n\
                rule log log any udp dst port 2005\n";
    load(&fixture, folder.path(), text);
    // Before the capture: not in its sums.
    fixture.offer(Dir::Up, &some(Dir::Up, 2001, 3));
    let arguments = ["divert", "--to", "nowhere", "--duration", "60", "--json"];
    let diverter = fixture.spawn(&arguments);
    fixture.until("diverters", 1);
    let [all, logged] = ["all.pcapng", "logged.pcapng"].map(|f| folder.path().join(f));
    let start = |file: &PathBuf, more: &[&str]| {
        let file = windows_path(file);
        let arguments = [
            "capture",
            "-i",
            ADAPTER,
            "--duration",
            "60",
            "-w",
            &file,
            "--json",
        ];
        fixture.spawn(&[&arguments[..], more].concat())
    };
    let readers = [start(&all, &[]), start(&logged, &["--logged"])];
    fixture.until("readers", 2);
    for (way, port, count) in [
        (Dir::Up, 2000, 11),
        (Dir::Up, 2001, 7),
        (Dir::Up, DIVERTED, 5),
        (Dir::Up, 2005, 4),
        (Dir::Down, 2001, 2),
        (Dir::Down, 2005, 6),
    ] {
        fixture.offer(way, &some(way, port, count));
    }
    let [whole, part] = readers.map(|reader| {
        ctrl_c(&reader);
        said(reader)
    });
    ctrl_c(&diverter);
    for reader in [&whole, &part, &said(diverter)] {
        Accounts::reader(reader);
    }
    assert_eq!(
        (number(&whole, "/frames"), number(&part, "/frames")),
        (35, 10)
    );

    let comment = "Comment = in: seen 27 = passed 15 + dropped 7 + diverted 5 + lost 0";
    let out = "out: seen 8 = passed 8 + dropped 0 + diverted 0 + lost 0";
    for (file, count) in [(&all, 35), (&logged, 10)] {
        let options = statistics(file);
        let reader = format!("reader: seen {count} = delivered {count} + queued 0 + lost 0");
        for wanted in [
            "Number of Received Packets = 35".to_owned(),
            "Number of Dropped Packets = 0".to_owned(),
            format!("Number of Accepted Packets = {count}"),
            "Number of Packets Dropped by OS = 0".to_owned(),
            format!("Number of Packets Delivered to the User = {count}"),
        ] {
            assert!(options.contains(&wanted), "{wanted}: {options:?}");
        }
        let told = options.iter().find(|o| o.starts_with("Comment = "));
        let told = told.unwrap_or_else(|| panic!("no comment: {options:?}"));
        for wanted in [comment, out, &reader] {
            assert!(told.contains(wanted), "{wanted}: {told}");
        }
        let capinfos = Command::new("capinfos").arg("-Mc").arg(file).output();
        let capinfos = capinfos.expect("capinfos is installed");
        let said = String::from_utf8_lossy(&capinfos.stdout);
        assert!(
            said.contains(&format!("Number of packets:   {count}\n")),
            "{said}"
        );
    }
    let ports = |file: &Path| -> Vec<u16> {
        let to = |f: &Frame| u16::from_be_bytes([f.data[36], f.data[37]]);
        frames::of(file).iter().map(to).collect()
    };
    assert!(ports(&logged).iter().all(|port| *port == 2005));
    fixture.unload();
}

/// As `weirctl … | head`: enough was read, and nothing is wrong.
#[test]
fn nobody_reads_to_the_end() {
    let fixture = Fixture::weir("steer-unread");
    let folder = tempfile::tempdir().expect("a folder");
    load(&fixture, folder.path(), "rule all log any\n");
    fixture.replay(&capture("odd.pcap"));
    let file = windows_path(&capture("mixed.pcap"));
    for (lines, arguments) in [
        (2, &["inspect", "--packets", &file][..]),
        (0, &["match", "ip", &file]),
        (0, &["stats"]),
        (0, &["rules", "show"]),
        (0, &["flows", "--json"]),
        (
            0,
            &["capture", "-w", "-", "-c", "100000", "--duration", "20"],
        ),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut reader = (lines > 0).then(|| BufReader::new(reader));
        let mut command = fixture.command(arguments);
        command.stdout(writer).stderr(Stdio::piped());
        let mut child = command.spawn().expect("wine runs");
        drop(command);
        for _ in 0..lines {
            let mut line = String::new();
            let reader = reader.as_mut().expect("lines are to be read");
            assert!(reader.read_line(&mut line).expect("a line") > 0);
        }
        drop(reader);
        let mut errors = String::new();
        let stderr = child.stderr.as_mut().expect("a pipe");
        stderr.read_to_string(&mut errors).expect("UTF-8");
        let status = child.wait().expect("it ends");
        assert_eq!(errors, "", "{arguments:?}");
        assert!(status.success(), "{arguments:?}: {status}");
    }
    fixture.unload();
}
