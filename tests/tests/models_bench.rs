//! `weirctl bench` in the lab: a model, the driver's echo and its relay side by
//! side, once with the client on the host and once with all of it under Wine. What
//! it measures is shown; that it measures, and leaves nothing behind, is what is
//! checked.
//!
//! For numbers to keep, `WEIR_BENCH` has the options of `weirctl bench echo`, or is
//! `table` for those of the table in docs/io-models.md; the results are then put in
//! `target/bench-echo.md`, `.json` and `.svg`, and those of `table` in docs, too.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use weir_lab_harness::windows_path;
use weir_tests::lab::{Fixture, ctrl_c, root};

/// weirctl for this host, of this profile, built if it isn't yet.
fn host_weirctl(profile: &str) -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["build", "--locked", "--quiet", "--package", "weirctl"])
        .args(["--profile", profile])
        .status();
    assert!(built.expect("cargo runs").success());
    // Of this test: target/debug/deps/name.
    let test = std::env::current_exe().expect("known");
    let target = test.ancestors().nth(3).expect("within a target folder");
    target
        .join(if profile == "dev" { "debug" } else { profile })
        .join("weirctl")
}

/// What is in the table of docs/io-models.md.
const TABLE: &str = "--against all,iocp-packets --connections 1,100,1000";
/// How it is measured, unless `WEIR_BENCH` says so after `table`.
const CAREFULLY: &str = "--duration 3 --rounds 3";

/// Between which marks it stands there.
const TABLE_BEGINS: &str = "<!-- measured -->";
const TABLE_ENDS: &str = "<!-- /measured -->";

/// `weirctl bench echo` of this host, with the servers under Wine.
fn on_host(fixture: &Fixture, profile: &str) -> Command {
    let exe = root().join("target/weir/lab/weirctl.exe");
    let mut command = Command::new(host_weirctl(profile));
    command.args(["bench", "echo", "--json"]);
    command.args(["--weirctl", &format!("wine {}", windows_path(&exe))]);
    for (name, value) in fixture.lab.environment() {
        command.env(name, value);
    }
    command.stdout(Stdio::piped());
    command
}

/// Every run has what it should have.
fn check(bench: &Value, runs: usize) {
    let list = bench["runs"].as_array().expect("runs");
    assert_eq!(list.len(), runs, "{bench}");
    for run in list {
        let number = |field: &str| {
            let number = run[field].as_f64();
            number.unwrap_or_else(|| panic!("no {field} in {run}"))
        };
        assert!(number("messages") > 0.0, "{run}");
        assert!(number("p50_us") <= number("p99_us"), "{run}");
        assert!(number("p99_us") <= number("p999_us"), "{run}");
        let server = run["server_cpu_us_per_message"].as_f64();
        let drivers = run["against"] == "kernel" || run["against"] == "relay";
        assert_eq!(server.is_some(), !drivers, "{run}");
        // Found without being named: where the driver runs.
        assert!(number("others_cpu_us_per_message") > 0.0, "{run}");
    }
    let others = bench["others"].to_string();
    assert!(others.contains("winedevice.exe"), "{others}");
}

fn svg(path: &Path) {
    let svg = fs::read_to_string(path).expect("the drawing");
    for said in [
        "<svg",
        "iocp",
        "kernel",
        "relay",
        "100 connections",
        "messages a second",
    ] {
        assert!(svg.contains(said), "no {said} in {}", path.display());
    }
}

#[test]
fn models_and_kernel_are_measured_side_by_side() {
    let fixture = Fixture::weir("models-bench");
    let file = |name: &str| -> PathBuf { fixture.lab.file(name) };
    // One that somebody else has started.
    let theirs = fixture.json(&["service", "start", "echo", "--tcp", "127.0.0.1:0"]);
    let small = "--against iocp,kernel,relay --connections 1,100 --duration 1 --warm-up 0.2";
    let small: Vec<&str> = small.split(' ').collect();

    // The client on the host, the servers under Wine.
    let mut command = on_host(&fixture, "dev");
    command.args(&small).arg("--svg").arg(file("host.svg"));
    let out = command.output().expect("weirctl runs");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    println!("{}", String::from_utf8_lossy(&out.stdout));
    let bench: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    check(&bench, 6);
    svg(&file("host.svg"));

    // All of it as Windows programs.
    let drawing = windows_path(&file("lab.svg"));
    let bench = fixture.json(&[&["bench", "echo", "--svg", &drawing], &small[..]].concat());
    check(&bench, 6);
    svg(&file("lab.svg"));

    // A relay to an echo that is there already; then a Ctrl-C while it is
    // measured, and an address that nobody listens on.
    let address = theirs["address"].as_str().expect("an address");
    let to = ["--against", "relay", "--to", address];
    let mut command = on_host(&fixture, "dev");
    command.args(to).args(["--duration", "1", "--warm-up", "0"]);
    let out = command.output().expect("weirctl runs");
    let bench: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    check(&bench, 1);
    assert!(bench["notes"].to_string().contains(address), "{bench}");

    let mut command = on_host(&fixture, "dev");
    command.args(["--against", "relay", "--duration", "600"]);
    let child = command.spawn().expect("weirctl runs");
    fixture.until("services", 3);
    ctrl_c(&child);
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(1), "{}", out.status);

    let nobody = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = nobody.local_addr().expect("an address").to_string();
    drop(nobody);
    let mut command = on_host(&fixture, "dev");
    command.args(["--against", "relay", "--to", &address]);
    let out = command.output().expect("weirctl runs");
    assert_eq!(out.status.code(), Some(1), "{}", out.status);

    // Nothing of it stays behind, and theirs is there as it was.
    assert_eq!(fixture.status("services"), 1);
    let stopped = fixture.json(&["service", "stop", &theirs["id"].to_string()]);
    assert_eq!(stopped["stopped"], true, "{stopped}");
    fixture.unload();
}

/// Numbers to keep, for those who ask.
#[test]
fn numbers_to_keep_are_written_to_files() {
    let Ok(asked) = std::env::var("WEIR_BENCH") else {
        return;
    };
    let fixture = Fixture::weir("models-numbers");
    let how = asked.strip_prefix("table").map(str::trim);
    let asked = match how {
        Some("") => format!("{TABLE} {CAREFULLY}"),
        Some(how) => format!("{TABLE} {how}"),
        None => asked.clone(),
    };
    let kept = |kind: &str| root().join(format!("target/bench-echo.{kind}"));
    let mut command = on_host(&fixture, "lab");
    command.args(asked.split_whitespace());
    command.arg("--svg").arg(kept("svg"));
    command.arg("--markdown").arg(kept("md"));
    command.stderr(Stdio::inherit());
    let out = command.output().expect("weirctl runs");
    assert!(out.status.success(), "{}", out.status);
    fs::write(kept("json"), &out.stdout).expect("writes");
    let measured = fs::read_to_string(kept("md")).expect("reads");
    println!("{measured}");
    fixture.unload();
    if how.is_some() {
        let docs = |name: &str| root().join("docs").join(name);
        fs::copy(kept("svg"), docs("io-models.svg")).expect("copies");
        let page = fs::read_to_string(docs("io-models.md")).expect("reads");
        let (before, rest) = page.split_once(TABLE_BEGINS).expect("the mark");
        let (_old, after) = rest.split_once(TABLE_ENDS).expect("the mark");
        let page = format!("{before}{TABLE_BEGINS}\n{measured}{TABLE_ENDS}{after}");
        fs::write(docs("io-models.md"), page).expect("writes");
    }
}
