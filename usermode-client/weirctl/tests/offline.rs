//! The commands on capture files, as programs, judged by Wireshark's and
//! tcpdump's own programs. `cargo xtask setup` installs these.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/captures")
}

fn weirctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weirctl"))
        .args(arguments)
        .output()
        .expect("weirctl starts")
}

/// Runs a tool to its end; what it printed.
#[track_caller]
fn tool(name: &str, arguments: &[&str]) -> String {
    let out = Command::new(name).args(arguments).output();
    let out = out.unwrap_or_else(|e| panic!("{name}: {e} (cargo xtask setup installs it)"));
    assert!(
        out.status.success(),
        "{name} {arguments:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let out = weirctl(arguments);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{arguments:?}: {errors}");
    // No bar where nobody looks, and nothing else to say.
    assert_eq!(errors, "", "{arguments:?}");
    String::from_utf8(out.stdout).expect("UTF-8")
}

#[track_caller]
fn object(arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(arguments)).expect("one object")
}

#[track_caller]
fn lines(arguments: &[&str]) -> Vec<Value> {
    printed(arguments)
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of letters")
}

/// tshark's fields of each frame.
fn tshark(file: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut arguments = vec!["-r", text(file), "-T", "fields"];
    for field in fields {
        arguments.extend(["-e", field]);
    }
    tool("tshark", &arguments)
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

/// Seconds since 1970 with nine decimals, as tshark shows a time, in 100 ns.
fn units(epoch: &str) -> u64 {
    let (seconds, fraction) = epoch.split_once('.').expect("a fraction");
    let seconds: u64 = seconds.parse().expect("seconds");
    seconds * 10_000_000 + fraction[..7].parse::<u64>().expect("a fraction")
}

/// The seconds of a day and 100 ns of an RFC 3339 time: enough to compare two
/// times of one capture by.
fn day_units(time: &str) -> u64 {
    let digits = |at: usize, len: usize| time[at..at + len].parse::<u64>().expect("digits");
    ((digits(11, 2) * 60 + digits(14, 2)) * 60 + digits(17, 2)) * 10_000_000 + digits(20, 7)
}

/// Numbers, lengths and times of a file's frames are those that tshark shows.
#[track_caller]
fn agrees_with_tshark(file: &Path) -> usize {
    let fields = [
        "frame.number",
        "frame.len",
        "frame.cap_len",
        "frame.time_epoch",
    ];
    let want = tshark(file, &fields);
    let got = lines(&["inspect", "--packets", "--json", text(file)]);
    assert_eq!(got.len(), want.len(), "{}", file.display());
    for (got, want) in got.iter().zip(&want) {
        let numbers: Vec<String> = ["frame", "len", "captured"]
            .iter()
            .map(|name| got[name].to_string())
            .collect();
        assert_eq!(numbers, want[..3], "{}", file.display());
        let day = units(&want[3]) % (24 * 3600 * 10_000_000);
        assert_eq!(
            day_units(got["time"].as_str().expect("a time")),
            day,
            "{got}"
        );
    }
    let summary = object(&["inspect", "--json", text(file)]);
    let bytes: u64 = want
        .iter()
        .map(|f| f[1].parse::<u64>().expect("a length"))
        .sum();
    assert_eq!(summary["frames"], json!(want.len()));
    assert_eq!(summary["bytes"], json!(bytes));
    assert_eq!(summary["balance"]["balanced"], json!(true));
    want.len()
}

#[test]
fn every_format_is_read_as_wireshark_reads_it() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["mixed", "odd"] {
        let source = captures().join(format!("{name}.pcap"));
        let frames = agrees_with_tshark(&source);
        for (i, options) in [
            &["-F", "pcap"][..],
            &["-F", "nsecpcap"],
            &["-F", "modpcap"],
            &["-F", "pcapng"],
            &["-F", "pcapng", "-s", "60"],
            &["-F", "pcap", "-s", "96"],
            &["-F", "nsecpcap", "-t", "0.000000123"],
        ]
        .into_iter()
        .enumerate()
        {
            let file = folder.path().join(format!("{name}-{i}"));
            tool(
                "editcap",
                &[options, &[text(&source), text(&file)]].concat(),
            );
            assert_eq!(agrees_with_tshark(&file), frames, "{options:?}");
        }
    }
}

#[test]
fn packed_files_and_standard_input() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = captures().join("mixed.pcap");
    let want = object(&["inspect", "--json", text(&plain)]);
    let packed = folder.path().join("mixed.pcap.gz");
    let bytes = Command::new("gzip")
        .arg("-c")
        .arg(&plain)
        .output()
        .expect("gzip")
        .stdout;
    std::fs::write(&packed, &bytes).expect("writes");
    let got = object(&["inspect", "--json", text(&packed)]);
    assert_eq!(got["files"][0]["gzip"], json!(true));
    for field in [
        "frames",
        "bytes",
        "first",
        "last",
        "protocols",
        "tcp",
        "balance",
    ] {
        assert_eq!(got[field], want[field], "{field}");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_weirctl"))
        .args(["inspect", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(&bytes).expect("writes");
    drop(input);
    let out = child.wait_with_output().expect("ends");
    let got: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(
        (&got["frames"], &got["bytes"]),
        (&want["frames"], &want["bytes"])
    );
}

/// The flow table takes some 40 MB; what is read does not add to it.
#[test]
fn memory_does_not_grow_with_the_file() {
    let script = format!(
        "ulimit -v 150000; exec '{}' inspect --json -",
        env!("CARGO_BIN_EXE_weirctl")
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mixed = std::fs::read(captures().join("mixed.pcap")).expect("reads");
    let (header, frames) = mixed.split_at(24);
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(header).expect("writes");
    const TIMES: usize = 200;
    for _ in 0..TIMES {
        input.write_all(frames).expect("it reads on");
    }
    drop(input);
    let out = child.wait_with_output().expect("ends");
    let got: Value = serde_json::from_slice(&out.stdout).expect("a result");
    assert_eq!(got["frames"], json!(5429 * TIMES));
}

#[test]
fn sections_interfaces_and_link_types() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (mixed, odd) = (captures().join("mixed.pcap"), captures().join("odd.pcap"));
    // Frames of another link type, beside Ethernet in one file.
    let raw = at("raw.pcap");
    tool(
        "editcap",
        &["-F", "pcap", "-T", "rawip4", text(&odd), text(&raw)],
    );
    let merged = at("merged.pcapng");
    tool(
        "mergecap",
        &["-F", "pcapng", "-w", text(&merged), text(&odd), text(&raw)],
    );
    let out = weirctl(&["inspect", "--json", text(&merged)]);
    assert!(out.status.success());
    let got: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(got["frames"], json!(36));
    assert_eq!(got["balance"]["skipped"], json!(36));
    let skipped = &got["files"][0]["skipped"][0];
    assert_eq!(
        (&skipped["link_type"], &skipped["frames"]),
        (&json!(228), &json!(36))
    );
    assert_eq!(skipped["name"], json!("IPV4 (link type 228)"));
    // To a person it is said, and the numbers are the file's.
    let out = weirctl(&["match", "arp", text(&merged)]);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(
        errors.contains("36 frames of IPV4 (link type 228) skipped"),
        "{errors}"
    );
    assert_eq!(out.status.code(), Some(0));
    let types = tshark(&merged, &["frame.number", "eth.type"]);
    let want: String = types
        .iter()
        .filter(|f| f.get(1).is_some_and(|t| t == "0x00000806" || t == "0x0806"))
        .map(|f| format!("{}\n", f[0]))
        .collect();
    assert!(!want.is_empty());
    assert_eq!(String::from_utf8_lossy(&out.stdout), want);

    // Two sections in one file.
    let (one, two) = (at("1.pcapng"), at("2.pcapng"));
    tool("editcap", &["-F", "pcapng", text(&mixed), text(&one)]);
    tool("editcap", &["-F", "pcapng", text(&odd), text(&two)]);
    let mut both = std::fs::read(&one).expect("reads");
    both.extend(std::fs::read(&two).expect("reads"));
    let sections = at("sections.pcapng");
    std::fs::write(&sections, both).expect("writes");
    agrees_with_tshark(&sections);
}

#[test]
fn what_is_whole_in_a_cut_file_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let odd = captures().join("odd.pcap");
    let ng = folder.path().join("odd.pcapng");
    tool("editcap", &["-F", "pcapng", text(&odd), text(&ng)]);
    for source in [&odd, &ng] {
        let bytes = std::fs::read(source).expect("reads");
        let file = folder.path().join("cut");
        for part in 1..12 {
            // Never at a frame's end, whose last bytes no cut leaves alone here.
            let cut = bytes.len() * part / 12 - 1;
            std::fs::write(&file, &bytes[..cut]).expect("writes");
            let out = weirctl(&["inspect", "--json", text(&file)]);
            assert_eq!(out.status.code(), Some(1), "cut at {cut}");
            let got: Value = serde_json::from_slice(&out.stdout).expect("the result");
            let judge = Command::new("tshark")
                .args(["-r", text(&file), "-T", "fields", "-e", "frame.number"])
                .output()
                .expect("tshark");
            let want = String::from_utf8_lossy(&judge.stdout).lines().count();
            assert_eq!(got["frames"], json!(want), "cut at {cut}");
            let errors = String::from_utf8_lossy(&out.stderr);
            assert!(errors.contains(": at byte "), "{errors}");
            assert_eq!(errors.lines().count(), 1, "{errors}");
        }
    }
}

#[test]
fn files_that_are_none_and_files_of_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let none = folder.path().join("none.pcap");
    // pcap's header alone.
    let odd = captures().join("odd.pcap");
    std::fs::write(&none, &std::fs::read(&odd).expect("reads")[..24]).expect("writes");
    assert!(printed(&["inspect", text(&none)]).contains("no frames"));
    assert_eq!(printed(&["match", "ip", text(&none), "--count"]), "0\n");
    assert_eq!(printed(&["match", "ip", text(&none)]), "");

    let no_capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let missing = folder.path().join("missing");
    for (file, want) in [
        (&no_capture, "this is no pcap or pcapng file"),
        (&missing, "opening failed"),
        (&folder.path().to_owned(), "it is a folder"),
    ] {
        let out = weirctl(&["--json", "inspect", text(file)]);
        assert_eq!(out.status.code(), Some(1));
        let got: Value = serde_json::from_slice(&out.stdout).expect("an error");
        let message = got["error"]["message"].as_str().expect("a message");
        assert!(message.contains(want), "{message}");
        // The others are read all the same.
        let out = weirctl(&["--json", "inspect", text(file), text(&odd)]);
        assert_eq!(out.status.code(), Some(1));
        let got: Value = serde_json::from_slice(&out.stdout).expect("a result");
        assert_eq!(
            (&got["frames"], &got["files"][1]["error"]),
            (&json!(36), &Value::Null)
        );
        assert!(
            got["files"][0]["error"]
                .as_str()
                .is_some_and(|e| e.contains(want))
        );
    }
}

/// Each record of a little-endian pcap file of microseconds.
fn records(bytes: &[u8]) -> Vec<&[u8]> {
    let mut rest = &bytes[24..];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[8..12].try_into().expect("four bytes"));
        let (record, after) = rest.split_at(16 + len as usize);
        records.push(record);
        rest = after;
    }
    records
}

/// The numbers of the frames that tcpdump takes. It writes records as they are,
/// in order.
fn tcpdump(file: &Path, expression: &str) -> Vec<u64> {
    let out = Command::new("tcpdump")
        .args(["-r", text(file), "-w", "-"])
        .args((!expression.is_empty()).then_some(expression))
        .output()
        .expect("tcpdump (cargo xtask setup installs it)");
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{expression}: {errors}");
    let source = std::fs::read(file).expect("reads");
    let mut numbers = Vec::new();
    let mut taken = records(&out.stdout).into_iter().peekable();
    for (number, record) in (1..).zip(records(&source)) {
        if taken.next_if(|t| *t == record).is_some() {
            numbers.push(number);
        }
    }
    assert!(taken.peek().is_none(), "{expression}: records out of order");
    numbers
}

#[test]
fn expressions_match_what_tcpdump_matches() {
    let expressions = [
        "",
        "tcp",
        "ip6",
        "arp or icmp6",
        "tcp port 80",
        "udp port 53",
        "host 10.77.0.1",
        "src net 10.0.0.0/8 and tcp",
        "net 10.77.0.0/24 and not port 80",
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "ip[6:2] & 0x1fff != 0",
        "ip[0] & 0xf != 5",
        "greater 500",
        "len <= 100 and udp",
        "ether host 02:00:00:00:00:01",
        "ether multicast",
        "vlan",
        "vlan and ip",
        "portrange 1-1024",
        "icmp[icmptype] == icmp-echo",
        "ip6 proto 58",
        "ether proto 0x88cc",
        "not ip and not ip6",
        "tcp or udp and not port 80",
    ];
    let mut matched = 0;
    for name in ["mixed", "odd"] {
        let file = captures().join(format!("{name}.pcap"));
        for expression in expressions {
            let want = tcpdump(&file, expression);
            let got: Vec<u64> = printed(&["match", expression, text(&file)])
                .lines()
                .map(|n| n.parse().expect("a number"))
                .collect();
            assert_eq!(got, want, "{expression} on {name}");
            let count = printed(&["match", "--count", expression, text(&file)]);
            assert_eq!(count.trim(), want.len().to_string());
            matched += want.len();
        }
    }
    assert!(
        matched > 10_000,
        "expressions that match nothing prove nothing: {matched}"
    );
    let odd = captures().join("odd.pcap");
    let twice = printed(&["match", "arp", text(&odd), text(&odd)]);
    let first = twice.lines().next().expect("a match");
    assert!(first.starts_with(&format!("{}:", text(&odd))), "{first}");
    let got = object(&["--json", "match", "arp", text(&odd)]);
    assert_eq!(got["files"][0]["numbers"], json!(tcpdump(&odd, "arp")));
}

#[test]
fn a_wrong_expression_is_a_wrong_command_line() {
    let out = weirctl(&["match", "tcp prt 80", "nofile"]);
    assert_eq!(out.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(
        errors.contains("1 | tcp prt 80") && errors.contains("    ^^^"),
        "{errors}"
    );
    let out = weirctl(&["--json", "match", "tcp prt 80", "nofile"]);
    let got: Value = serde_json::from_slice(&out.stdout).expect("an error");
    assert_eq!(got["error"]["exit_code"], json!(2));
}

const RULES: &str = "\
# what each action does
rule syns   log    any  tcp[tcpflags] & tcp-syn != 0
rule v6     count  any  ip6
rule web    drop   any  tcp port 80
rule iperf  divert any  port 5201
rule arps   pass   any  arp
rule late   count  any  udp
default drop
";

#[test]
fn verdicts_are_first_match_of_what_tcpdump_matches() {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("test.rules");
    std::fs::write(&rules, RULES).expect("writes");
    let file = captures().join("mixed.pcap");
    let table: Vec<(&str, &str, Vec<u64>)> = RULES
        .lines()
        .filter_map(|line| line.strip_prefix("rule "))
        .map(|line| {
            let (name, rest) = line.split_once(' ').expect("a name");
            let (action, rest) = rest.trim().split_once(' ').expect("an action");
            let (_, expression) = rest.trim().split_once(' ').expect("a direction");
            (name, action, tcpdump(&file, expression.trim()))
        })
        .collect();
    assert!(table.iter().all(|(_, _, frames)| !frames.is_empty()));
    let mut hits: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let packets = lines(&[
        "inspect",
        "--packets",
        "--json",
        "--rules",
        text(&rules),
        text(&file),
    ]);
    for packet in &packets {
        let (number, len) = (
            packet["frame"].as_u64().expect("a number"),
            packet["len"].as_u64().expect("a length"),
        );
        let (mut logged, mut counted) = (vec![], vec![]);
        let mut decided = ("default", "drop");
        for (name, action, frames) in &table {
            if frames.binary_search(&number).is_err() {
                continue;
            }
            match *action {
                "log" => logged.push(*name),
                "count" => counted.push(*name),
                action => {
                    decided = (name, action);
                    break;
                }
            }
        }
        for name in logged.iter().chain(&counted).chain([&decided.0]) {
            let sum = hits.entry(*name).or_default();
            *sum = (sum.0 + 1, sum.1 + len);
        }
        assert_eq!(packet["verdict"], json!(decided.1), "{packet}");
        let rule = (decided.0 != "default").then_some(decided.0);
        assert_eq!(packet["rule"], json!(rule), "{packet}");
        assert_eq!(packet["logged"], json!(logged), "{packet}");
        assert_eq!(packet["counted"], json!(counted), "{packet}");
    }
    let summary = object(&["inspect", "--json", "--rules", text(&rules), text(&file)]);
    let sum = |name: &str, rule: &Value| {
        let want = hits.get(name).copied().unwrap_or_default();
        assert_eq!(rule["frames"], json!(want.0), "{name}");
        assert_eq!(rule["bytes"], json!(want.1), "{name}");
        want.0
    };
    let list = summary["rules"]["rules"].as_array().expect("rules");
    assert_eq!(list.len(), table.len());
    for rule in list {
        sum(rule["name"].as_str().expect("a name"), rule);
    }
    let by_default = sum("default", &summary["rules"]["default"]);
    assert_eq!(summary["rules"]["balanced"], json!(true));
    let balance = &summary["balance"];
    assert_eq!(balance["seen"], json!(packets.len()));
    assert_eq!(balance["dropped"], json!(hits["web"].0 + by_default));
    assert_eq!(balance["diverted"], json!(hits["iperf"].0));
    assert_eq!(balance["passed"], json!(hits["arps"].0));
    assert_eq!(balance["balanced"], json!(true));
}

#[test]
fn directions_come_from_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("test.rules");
    std::fs::write(&rules, "rule to drop in ip\nrule from divert out ip\n").expect("writes");
    let file = captures().join("mixed.pcap");
    let run = |more: &[&str]| {
        let arguments = ["inspect", "--json", "--rules", text(&rules), text(&file)];
        object(&[&arguments, more].concat())["balance"].clone()
    };
    let ip = json!(tcpdump(&file, "ip").len());
    let b = run(&[]);
    assert_eq!((&b["unknown"]["seen"], &b["dropped"]), (&b["seen"], &ip));
    let b = run(&["--direction", "out"]);
    assert_eq!(
        (&b["out"]["seen"], &b["diverted"], &b["dropped"]),
        (&b["seen"], &ip, &json!(0))
    );
    let b = run(&["--host", "10.77.0.1"]);
    let sent = tcpdump(&file, "ip and src host 10.77.0.1").len();
    assert_eq!(b["diverted"], json!(sent));
    assert!(sent > 100);
    let b = run(&["--host", "02:00:00:00:00:01"]);
    let sent = tcpdump(&file, "ether src 02:00:00:00:00:01").len();
    assert_eq!(b["out"]["seen"], json!(sent));
    assert!(sent > 100);
}

/// The numbers in the sums are those of the lines.
#[test]
fn sums_are_those_of_the_frames() {
    let file = captures().join("mixed.pcap");
    let summary = object(&["inspect", "--json", text(&file)]);
    let mut tags: BTreeMap<String, u64> = BTreeMap::new();
    let mut protocols: BTreeMap<String, u64> = BTreeMap::new();
    let mut flows: BTreeMap<u64, u64> = BTreeMap::new();
    for packet in lines(&["inspect", "--packets", "--json", text(&file)]) {
        let names = |field: &str| -> Vec<String> {
            let list = packet[field].as_array().expect("a list");
            list.iter()
                .map(|n| n.as_str().expect("a name").to_owned())
                .collect()
        };
        for name in names("tcp") {
            *tags.entry(name).or_default() += 1;
        }
        for name in names("protocols") {
            *protocols.entry(name).or_default() += 1;
        }
        if let Some(flow) = packet["flow"].as_u64() {
            *flows.entry(flow).or_default() += packet["len"].as_u64().expect("a length");
        }
        assert_eq!(
            packet["flow"].is_u64(),
            packet["source"].is_object(),
            "{packet}"
        );
    }
    for (name, count) in summary["tcp"]["tags"].as_object().expect("tags") {
        assert_eq!(
            count,
            &json!(tags.get(name).copied().unwrap_or(0)),
            "{name}"
        );
    }
    for (name, amount) in summary["protocols"].as_object().expect("protocols") {
        assert_eq!(amount["frames"], json!(protocols[name]), "{name}");
    }
    assert_eq!(summary["flows"]["created"], json!(flows.len()));
    // The largest, those that the table forgot long ago among them.
    let mut sizes: Vec<u64> = flows.into_values().collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let top: Vec<u64> = summary["flows"]["top"]
        .as_array()
        .expect("flows")
        .iter()
        .map(|f| {
            f["sent"]["bytes"].as_u64().expect("n") + f["received"]["bytes"].as_u64().expect("n")
        })
        .collect();
    assert_eq!(top, sizes[..10]);
    // A table that is too small tells so.
    let summary = object(&["inspect", "--json", "--flows", "16", text(&file)]);
    assert!(
        summary["flows"]["evicted"].as_u64() > Some(0),
        "{}",
        summary["flows"]
    );
}

#[test]
fn rule_files_are_checked_and_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("test.rules");
    std::fs::write(&rules, RULES).expect("writes");
    let good = object(&["--json", "rules", "check", text(&rules)]);
    assert_eq!(
        (&good["valid"], &good["rules"], &good["default"]),
        (&json!(true), &json!(6), &json!("drop"))
    );
    let parts = good["by_hash"].as_u64().zip(good["linear"].as_u64());
    assert_eq!(parts.map(|(a, b)| a + b), Some(6));
    assert!(printed(&["rules", "check", text(&rules)]).contains("6 rules, "));
    let explained = object(&["--json", "rules", "explain", text(&rules)]);
    assert_eq!(explained["rules"].as_array().map(Vec::len), Some(6));
    assert!(printed(&["rules", "explain", text(&rules)]).contains("web"));

    std::fs::write(
        &rules,
        "rule a drop in tcp\nrule b drip in tcp\nrule c drop in prt 5\n",
    )
    .expect("writes");
    let out = weirctl(&["rules", "check", text(&rules)]);
    assert_eq!(out.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(
        errors.contains("has 2 errors") && errors.contains("test.rules:2:8"),
        "{errors}"
    );
    assert!(errors.contains("^^^^"), "{errors}");
    let out = weirctl(&["--json", "rules", "check", text(&rules)]);
    assert_eq!(out.status.code(), Some(1));
    let got: Value = serde_json::from_slice(&out.stdout).expect("one object");
    assert_eq!(
        (&got["valid"], &got["errors"][0]["line"]),
        (&json!(false), &json!(2))
    );
    assert_eq!(got["errors"][1]["line"], json!(3));
    // Nothing is inspected by rules that are wrong.
    let odd = captures().join("odd.pcap");
    let out = weirctl(&["inspect", "--rules", text(&rules), text(&odd)]);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(1), 0));
}
