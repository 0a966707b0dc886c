//! Bad input: each kind gets an NTSTATUS of its own, weirctl says it clearly,
//! and nothing changes.

use serde_json::Value;
use weir_tests::lab::{Fixture, root};

/// What must not change: everything `status` and `service list` say, but the clock.
fn state(fixture: &Fixture) -> (Value, Value) {
    let mut status = fixture.json(&["status"]);
    if let Some(fields) = status.as_object_mut() {
        fields.retain(|name, _| !name.contains("uptime"));
    }
    (status, fixture.json(&["service", "list"]))
}

#[test]
fn each_bad_request_gets_its_status() {
    let fixture = Fixture::weir("input-ioctl");
    let before = state(&fixture);
    let table =
        std::fs::read_to_string(root().join("tests/golden/bad-input.txt")).expect("the table");
    let mut checked = 0;
    for line in table
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, code, out, status, bytes] = words[..] else {
            panic!("{line}: five columns are wanted");
        };
        let bytes = if bytes == "-" { "" } else { bytes };
        let said = fixture.weirctl(&[
            "debug",
            "ioctl",
            "--code",
            code,
            "--in",
            bytes,
            "--out-len",
            out,
            "--json",
        ]);
        let text = String::from_utf8_lossy(&said.stdout).into_owned()
            + &String::from_utf8_lossy(&said.stderr);
        assert!(
            text.contains(status),
            "{name}: wanted {status}, weirctl said {text}"
        );
        checked += 1;
    }
    assert!(checked > 40, "only {checked} rows");
    assert_eq!(state(&fixture), before);
    fixture.unload();
}

/// What a handle with the capture role is refused.
#[test]
fn a_reader_is_refused_what_is_not_its_own() {
    let fixture = Fixture::weir("input-reader");
    let before = state(&fixture);
    // A good OPEN_CAPTURE of the table's layout: all adapters, whole frames,
    // 4 MiB of backlog, 100 ms, both directions.
    let again = "0100000020000000000000000000000000004000640000000300000000000000";
    let ioctl = ["debug", "ioctl", "--capture", "--out-len", "400", "--code"];
    let read = ["debug", "read", "--capture", "--len"];
    for (arguments, status) in [
        // A read smaller than one record.
        ([&read[..], &["0"]].concat(), "STATUS_BUFFER_TOO_SMALL"),
        ([&read[..], &["47"]].concat(), "STATUS_BUFFER_TOO_SMALL"),
        ([&read[..], &["65536"]].concat(), "STATUS_BUFFER_TOO_SMALL"),
        // A second role.
        (
            [&ioctl[..], &["0x0012e010", "--in", again]].concat(),
            "STATUS_INVALID_DEVICE_STATE",
        ),
        (
            [&ioctl[..], &["0x0012e064", "--in", "0100000008000000"]].concat(),
            "STATUS_INVALID_DEVICE_REQUEST",
        ),
        // A good read, given up: nothing came.
        (
            [&read[..], &["1048576", "--timeout-ms", "50"]].concat(),
            "STATUS_CANCELLED",
        ),
    ] {
        let (code, said) = fixture.fails(&arguments);
        assert!(
            said.contains(status),
            "{arguments:?}: wanted {status}: {said}"
        );
        assert_eq!(code, 1, "{arguments:?}: {said}");
        assert_eq!(state(&fixture), before, "{arguments:?}");
    }
    fixture.unload();
}

#[test]
fn weirctl_says_what_is_wrong() {
    let fixture = Fixture::weir("input-weirctl");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its address").to_string();
    let started = fixture.json(&["service", "start", "echo", "--tcp", "127.0.0.1:0"]);
    let running = started["address"].as_str().expect("an address").to_owned();
    let before = state(&fixture);
    for (arguments, status) in [
        (
            vec!["service", "start", "echo", "--tcp", &running],
            "STATUS_OBJECT_NAME_COLLISION",
        ),
        (
            vec!["service", "start", "echo", "--tcp", &taken],
            "STATUS_ADDRESS_ALREADY_EXISTS",
        ),
        (
            vec!["service", "start", "echo", "--tcp", "192.0.2.1:7"],
            "STATUS_INVALID_ADDRESS",
        ),
        (
            vec!["service", "start", "echo", "--udp", "192.0.2.1:7"],
            "STATUS_INVALID_ADDRESS",
        ),
        (vec!["service", "stop", "4000000000"], "STATUS_NOT_FOUND"),
        (
            vec!["debug", "read", "--len", "65536"],
            "STATUS_INVALID_DEVICE_STATE",
        ),
    ] {
        let (code, said) = fixture.fails(&arguments);
        assert!(
            said.contains(status),
            "{arguments:?}: wanted {status}: {said}"
        );
        assert_eq!(code, 1, "{arguments:?}: {said}");
    }
    for arguments in [
        vec!["service", "start", "echo", "--tcp", "nowhere"],
        vec!["service", "start", "echo"],
        vec!["capture", "-s", "999999", "-w", "x.pcapng"],
        vec!["capture"],
        vec!["frobnicate"],
    ] {
        let (code, said) = fixture.fails(&arguments);
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(!said.is_empty());
    }
    let (_, said) = fixture.fails(&["capture", "-i", "no-such-adapter", "-w", "x.pcapng"]);
    assert!(said.contains("no-such-adapter"), "{said}");
    assert_eq!(state(&fixture), before);
    fixture.unload();
}

#[test]
fn without_a_driver_weirctl_says_so() {
    let fixture = Fixture::bare("input-absent");
    let (code, said) = fixture.fails(&["status"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("sc start weir"), "{said}");
}
