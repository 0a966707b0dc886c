//! `weirctl bench` in the lab: a model and the driver's echo side by side, once
//! with the client on the host and once with all of it under Wine. What it
//! measures is shown; that it measures is what is checked.
//!
//! For numbers to keep, `WEIR_BENCH` has the options of `weirctl bench echo`; the
//! drawing is then put in `target/bench-echo.svg`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use weir_lab_harness::windows_path;
use weir_tests::lab::{Fixture, root};

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

/// Processes of the lab whose program's name has this in it.
fn processes(fixture: &Fixture, name: &str) -> Vec<String> {
    let prefix = fixture.lab.prefix();
    let inode = fs::metadata(&prefix).expect("the prefix").ino();
    let wanted = format!("WINEPREFIX={}", prefix.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("proc").flatten() {
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).into_owned();
        let environment = read("environ");
        let mut variables = environment.split(|byte| *byte == 0);
        // The server's folder is named after the prefix's device and inode.
        let served = fs::read_link(entry.path().join("cwd"))
            .is_ok_and(|cwd| cwd.to_string_lossy().ends_with(&format!("-{inode:x}")));
        if command.split('\0').next().is_some_and(|c| c.contains(name))
            && (served || variables.any(|v| v == wanted.as_bytes()))
        {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
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
        assert_eq!(server.is_some(), run["against"] != "kernel", "{run}");
    }
}

fn svg(path: &Path) {
    let svg = fs::read_to_string(path).expect("the drawing");
    for said in [
        "<svg",
        "iocp",
        "kernel",
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
    let to_keep = std::env::var("WEIR_BENCH").ok();
    let small = "--against iocp,kernel --connections 1,100 --duration 1 --warm-up 0.2";
    let asked = to_keep.as_deref().unwrap_or(small);
    let fixed: Vec<&str> = asked.split_whitespace().collect();

    // The client on the host, the servers under Wine; what the servers cost
    // Wine's own server and the driver's process counts too.
    let exe = root().join("target/weir/lab/weirctl.exe");
    let mut command = Command::new(host_weirctl(match to_keep {
        None => "dev",
        Some(_) => "lab",
    }));
    command
        .args(["bench", "echo", "--svg"])
        .arg(file("host.svg"));
    command.args(&fixed);
    if to_keep.is_none() {
        command.arg("--json");
    }
    command.args(["--weirctl", &format!("wine {}", windows_path(&exe))]);
    for process in [
        processes(&fixture, "wineserver"),
        processes(&fixture, "winedevice"),
    ]
    .concat()
    {
        command.args(["--pid", &process]);
    }
    for (name, value) in fixture.lab.environment() {
        command.env(name, value);
    }
    let out = command.output().expect("weirctl runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    println!("{}", String::from_utf8_lossy(&out.stdout));
    if to_keep.is_some() {
        fs::copy(file("host.svg"), root().join("target/bench-echo.svg")).expect("copies");
        fixture.unload();
        return;
    }
    let bench: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    check(&bench, 4);
    for run in bench["runs"].as_array().expect("runs") {
        let others = run["others_cpu_us_per_message"].as_f64().expect("--pid");
        assert!(others > 0.0, "{run}");
    }
    svg(&file("host.svg"));

    // All of it as Windows programs.
    let drawing = windows_path(&file("lab.svg"));
    let bench = fixture.json(&[&["bench", "echo", "--svg", &drawing], &fixed[..]].concat());
    check(&bench, 4);
    svg(&file("lab.svg"));
    // No service stays behind.
    assert_eq!(fixture.status("services"), 0);
    fixture.unload();
}
