//! The driver and `weirctl inspect` are one engine: the same frames, with the
//! same times, through weir.sys and then from the file it wrote. Verdicts, hits,
//! balance, flows, TCP health and alarms are the same, frame by frame.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weir_lab_harness::{Shape, windows_path};
use weir_tests::frames::{self, Frame};
use weir_tests::lab::{ADAPTER, Accounts, Fixture, capture, config, ctrl_c, native, said};
use weir_tests::packet::Dir;

/// Something of everything, in frames of every kind: by tuple, by byte, by
/// direction, by what is behind a tag or an extension header.
const RULES: &str = "\
rule arp log any arp
rule tagged count any vlan
rule pieces count any ip[6:2] & 0x3fff != 0
rule extended count any ip6 and ip6[6] != 6 and ip6[6] != 17 and ip6[6] != 58
rule opens log in tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn
rule resets log out tcp[tcpflags] & tcp-rst != 0
rule errors drop in icmp[icmptype] == icmp-unreach or icmp6[icmp6type] == 1
rule pings drop out icmp[icmptype] == icmp-echo
rule web drop in tcp src port 80 and len > 900
rule low drop any tcp portrange 81-95
rule streams divert any tcp port 5201 or tcp port 20001 or tcp port 443
rule rest pass any tcp or udp
rule ours drop out ether src 02:00:00:00:00:01 and not ip and not ip6 and not arp and not vlan
rule long drop any len > 200
";

fn number(value: &Value, path: &str) -> u64 {
    value
        .pointer(path)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no {path} in {value}"))
}

/// What the driver said of the frames, and where they are.
struct Kernel {
    /// What `weirctl capture` wrote: every frame, and the time it had there.
    captured: PathBuf,
    /// What a log rule matched.
    logged: PathBuf,
    /// The host whose frames went out.
    host: String,
    stats: Value,
    flows: Value,
    /// The frames that came out, each way.
    up: Vec<Vec<u8>>,
    down: Vec<Vec<u8>>,
}

/// Replays a file with the rules in force, a reader of each kind beside it.
fn through_the_driver(fixture: &Fixture, dir: &Path, file: &Path, alarms: usize) -> Kernel {
    fixture.start();
    let rules = dir.join("same.rules");
    std::fs::write(&rules, RULES).expect("written");
    let loaded = fixture.json(&["rules", "load", &windows_path(&rules)]);
    assert_eq!(
        number(&loaded, "/rules"),
        RULES.lines().count() as u64,
        "{loaded}"
    );
    let [captured, logged] = ["all.pcapng", "logged.pcapng"].map(|name| dir.join(name));
    let (all, some) = (windows_path(&captured), windows_path(&logged));
    let total = frames::of(file).len();
    let count = total.to_string();
    let reader = ["capture", "-i", ADAPTER, "--backlog", "67108864", "--json"];
    let whole = ["-w", &all, "-c", &count, "--duration", "60"];
    let whole = fixture.spawn(&[&reader[..], &whole].concat());
    let part = ["--logged", "-w", &some, "--duration", "25"];
    let part = fixture.spawn(&[&reader[..], &part].concat());
    let divert = [
        "divert",
        "--to",
        "nowhere",
        "--backlog",
        "67108864",
        "--duration",
        "25",
        "--json",
    ];
    let divert = fixture.spawn(&divert);
    fixture.until("readers", 2);
    fixture.until("diverters", 1);
    fixture.watch(dir);
    let replay = fixture.replay(file);
    assert_eq!(number(&replay, "/sent"), total as u64, "{replay}");
    let whole = said(whole);
    assert_eq!(number(&whole, "/frames"), total as u64, "{whole}");
    // Nobody knows how many frames these two get.
    for reader in [&part, &divert] {
        ctrl_c(reader);
    }
    // At once, before idle flows leave the table; but alarms are collected once
    // a second.
    let mut flows = fixture.json(&["flows", "--limit", "100000", "--sort", "id"]);
    for _ in 0..4 {
        if self::alarms(&flows["alarms"]).len() >= alarms {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
        flows["alarms"] = fixture.json(&["flows", "--limit", "0"])["alarms"].take();
    }
    for reader in [whole, said(part)] {
        Accounts::reader(&reader);
        assert_eq!(number(&reader, "/lost"), 0, "{reader}");
    }
    let divert = said(divert);
    Accounts::reader(&divert);
    assert_eq!(number(&divert, "/reader/lost"), 0, "{divert}");
    let stats = fixture.json(&["stats"]);
    let accounts = Accounts::check(&stats);
    accounts.rules_saw_every_frame();
    let kept = number(&divert, "/frames");
    assert_eq!(accounts.all.diverted, kept, "{divert}");
    Kernel {
        captured,
        logged,
        host: replay["host_mac"].as_str().expect("a MAC").to_owned(),
        stats,
        flows,
        up: fixture.came_out(dir, Dir::Up),
        down: fixture.came_out(dir, Dir::Down),
    }
}

/// `weirctl inspect`, here and not under Wine.
fn offline(files: &[&Path], more: &[&str], dir: &Path) -> Value {
    let rules = dir.join("same.rules");
    let rules = rules.to_str().expect("UTF-8");
    let mut arguments = vec![
        "inspect", "--rules", rules, "--flows", "16384", "--top", "10000",
    ];
    arguments.extend(more);
    arguments.push("--json");
    arguments.extend(files.iter().map(|f| f.to_str().expect("UTF-8")));
    let out = native(&arguments);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).expect("JSON")
}

/// The rules' names, hits and bytes, and the default's.
fn hits(rules: &Value) -> Value {
    json!({ "rules": rules["rules"], "default": rules["default"] })
}

/// The terms both balances have.
fn terms(balance: &Value) -> BTreeMap<&'static str, u64> {
    let terms = [
        "seen",
        "passed",
        "dropped",
        "diverted",
        "lost",
        "seen_bytes",
        "passed_bytes",
    ];
    terms
        .into_iter()
        .map(|term| (term, number(balance, &format!("/{term}"))))
        .collect()
}

/// The flow, without what only the driver knows.
fn flow(mut of: Value) -> Value {
    let fields = of.as_object_mut().expect("a flow");
    for own in ["owner", "initiator_port_class", "responder_port_class"] {
        assert!(fields.remove(own).is_some(), "{own}");
    }
    of
}

/// Alarms, but for what depends on the table's secret: how many different ports a
/// scan has tried; and how many SYNs a listener's window has counted, which begins
/// anew when others, in places the secret chooses, have taken the listener's.
fn alarms(list: &Value) -> Vec<Value> {
    let all = list.as_array().expect("alarms").iter();
    let exact = all.filter(|alarm| alarm["alarm"] != "port_scan");
    let numberless = |alarm: &Value| {
        let mut alarm = alarm.clone();
        alarm["sequence"].take();
        if let Some(syns) = alarm.get_mut("syns").map(Value::take) {
            assert!(syns.as_u64() > Some(0), "{alarm}");
        }
        alarm
    };
    exact.map(numberless).collect()
}

fn compare(kernel: &Kernel, offline: &Value) {
    assert_eq!(
        hits(&kernel.stats["rules"]),
        hits(&offline["rules"]),
        "the rules did not do the same"
    );
    let adapter = &kernel.stats["adapters"][0];
    for direction in ["in", "out"] {
        let online = terms(&adapter[direction]["balance"]);
        assert_eq!(online, terms(&offline["balance"][direction]), "{direction}");
    }
    assert_eq!(number(offline, "/balance/unknown/seen"), 0);
    let sum = |field: &str| {
        let of = |d: &str| number(adapter, &format!("/{d}/protocols/{field}"));
        of("in") + of("out")
    };
    for field in ["arp", "ipv4", "ipv6", "icmp", "icmpv6", "udp", "tcp"] {
        let layer = offline["protocols"].get(field);
        let there = layer.map_or(0, |l| number(l, "/frames"));
        assert_eq!(sum(field), there, "{field}: {}", offline["protocols"]);
    }
    for field in ["truncated", "malformed"] {
        assert_eq!(sum(field), number(&offline["faults"], &format!("/{field}")));
    }
    for layer in ["network", "transport"] {
        let bad = number(&offline["checksums"], &format!("/{layer}/bad"));
        assert_eq!(sum(&format!("bad_{layer}_checksum")), bad, "{layer}");
    }

    let table = &kernel.flows["adapters"][0];
    for field in ["created", "untracked"] {
        let there = number(&offline["flows"], &format!("/{field}"));
        assert_eq!(number(table, &format!("/{field}")), there, "{field}");
    }
    let tags: BTreeMap<String, u64> = serde_json::from_value(table["tcp"].clone()).expect("tags");
    let tags_there: BTreeMap<String, u64> =
        serde_json::from_value(offline["tcp"]["tags"].clone()).expect("tags");
    assert_eq!(tags, tags_there);
    let flows = kernel.flows["flows"].as_array().expect("flows");
    let mut there: BTreeMap<u64, Value> = offline["flows"]["top"]
        .as_array()
        .expect("flows")
        .iter()
        .map(|flow| (number(flow, "/id"), flow.clone()))
        .collect();
    assert_eq!(flows.len() as u64, number(table, "/active"));
    for flow in flows.iter().cloned().map(self::flow) {
        let id = number(&flow, "/id");
        assert_eq!(Some(flow), there.remove(&id), "flow {id}");
    }
    // Whatever is not in the driver's table any more has left it, and was counted.
    let gone = ["expired", "evicted_half_open", "evicted_other"];
    let gone: u64 = gone.iter().map(|f| number(table, &format!("/{f}"))).sum();
    assert_eq!(
        number(table, "/created"),
        flows.len() as u64 + gone,
        "{table}"
    );
    assert_eq!(
        alarms(&kernel.flows["alarms"]),
        alarms(&offline["alarms"]["list"])
    );
}

/// Each frame's verdict, where one can see it: what came out at either end, and
/// what was logged.
fn compare_each(kernel: &Kernel, dir: &Path, all: &[Frame]) {
    let rules = dir.join("same.rules");
    let arguments = ["inspect", "--packets", "--json", "--rules"];
    let files = [rules.as_path(), kernel.captured.as_path()];
    let files = files.map(|f| f.to_str().expect("UTF-8"));
    let out = native(&[&arguments[..], &files].concat());
    let lines: Vec<Value> = serde_json::Deserializer::from_slice(&out.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("one object a line");
    assert_eq!(lines.len(), all.len());
    let those = |keep: &dyn Fn(&Value) -> bool| -> Vec<Vec<u8>> {
        let kept = lines.iter().zip(all).filter(|(line, _)| keep(line));
        kept.map(|(_, frame)| frame.data.clone()).collect()
    };
    let passed = |direction: &str| {
        those(&|line| line["verdict"] == "pass" && line["direction"] == direction)
    };
    assert!(kernel.up == passed("in"), "what reached the host differs");
    assert!(kernel.down == passed("out"), "what was sent differs");
    let logged: Vec<Vec<u8>> = frames::of(&kernel.logged)
        .into_iter()
        .map(|f| f.data)
        .collect();
    assert!(!logged.is_empty());
    assert!(
        logged == those(&|line| line["logged"].as_array().is_some_and(|l| !l.is_empty())),
        "what was logged differs"
    );
}

/// All captures of the lossy wire one after the other, as one file.
fn lossy(dir: &Path) -> PathBuf {
    let folder = capture("lossy");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the captures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "gz"))
        .collect();
    files.sort();
    assert!(files.len() > 50, "{} captures", files.len());
    let all: Vec<Frame> = files.iter().flat_map(|f| frames::of(f)).collect();
    let joined = dir.join("lossy.pcap");
    frames::save(&joined, &all);
    joined
}

fn fixture(name: &str, shape: Shape) -> Fixture {
    let fixture = Fixture::installed(name);
    let mut config = config();
    config.shape = Shape {
        // Offline nobody knows what a NIC has verified or put together.
        offload: Some(false),
        send_fail_percent: Some(0),
        ..shape
    };
    fixture.configure(&config);
    fixture
}

#[test]
fn two_stacks_and_odd_frames() {
    let fixture = fixture("same-mixed", Shape::default());
    for name in ["odd.pcap", "mixed.pcap"] {
        let dir = tempfile::tempdir().expect("a folder");
        let kernel = through_the_driver(&fixture, dir.path(), &capture(name), 0);
        let there = offline(&[&kernel.captured], &[], dir.path());
        compare(&kernel, &there);
        compare_each(&kernel, dir.path(), &frames::of(&kernel.captured));

        // The file itself has other times, and says nothing of directions: what
        // depends on neither is the same all the same.
        let file = capture(name);
        let original = offline(&[&file], &["--host", &kernel.host], dir.path());
        assert_eq!(
            hits(&kernel.stats["rules"]),
            hits(&original["rules"]),
            "{name}"
        );
        for direction in ["in", "out"] {
            let online = terms(&kernel.stats["adapters"][0][direction]["balance"]);
            let mut there = terms(&original["balance"][direction]);
            if direction == "in" {
                // Frames too short for an address come up, in the lab.
                for (term, count) in terms(&original["balance"]["unknown"]) {
                    *there.entry(term).or_default() += count;
                }
            }
            assert_eq!(online, there, "{name}, {direction}");
        }
        assert_eq!(original["protocols"], there["protocols"], "{name}");
        assert_eq!(original["checksums"], there["checksums"], "{name}");

        // The same program for Windows says the same.
        let path = windows_path(&kernel.captured);
        let rules = windows_path(&dir.path().join("same.rules"));
        let under_wine = [
            "inspect", "--rules", &rules, "--flows", "16384", "--top", "10000", &path,
        ];
        let mut under_wine = fixture.json(&under_wine);
        under_wine["files"] = there["files"].clone();
        under_wine["rules"]["file"] = there["rules"]["file"].clone();
        assert_eq!(under_wine, there, "{name}");
        fixture.unload();
    }
}

#[test]
fn a_lossy_wire_and_attacks() {
    let shape = Shape {
        seed: 77,
        split_percent: Some(60),
        max_chain: Some(8),
        max_nbs: Some(4),
        ..Shape::default()
    };
    let fixture = fixture("same-lossy", shape);
    let dir = tempfile::tempdir().expect("a folder");
    let file = lossy(dir.path());
    // A flood, at the least, is among them.
    let kernel = through_the_driver(&fixture, dir.path(), &file, 1);
    let there = offline(&[&kernel.captured], &[], dir.path());
    assert!(!alarms(&there["alarms"]["list"]).is_empty(), "no flood");
    compare(&kernel, &there);
    compare_each(&kernel, dir.path(), &frames::of(&kernel.captured));
    fixture.unload();
}
