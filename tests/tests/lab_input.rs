//! Bad input: each kind gets an NTSTATUS of its own, weirctl says it clearly,
//! and nothing changes.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::Value;
use weir_tests::clients::{Background, accept, connect, free_port, reset};
use weir_tests::lab::{Fixture, root};
use weir_tests::services::{sockets, start};

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

/// What can't be done with sockets: one line says what was wrong, and what to do;
/// nothing is left, and no other socket is touched.
#[test]
fn what_sockets_cannot_do_is_told() {
    let fixture = Fixture::weir("input-sockets");
    let owner = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = owner.local_addr().expect("its address").to_string();
    let nobody = format!("127.0.0.1:{}", free_port());
    let (_, echo) = start(&fixture, &["echo", "--tcp", "127.0.0.1:0"]);
    let mut bystander = connect(echo);
    let mut alive = |what: &[&str]| {
        bystander.write_all(b"alive").expect("it takes data");
        let mut back = [0; 5];
        bystander.read_exact(&mut back).expect("it answers");
        let left = sockets(&fixture);
        // The service's listener, and the bystander's connection.
        assert_eq!(left.len(), 2, "{what:?}: {left:?}");
    };
    alive(&[]);
    let tcp = ["127.0.0.1:0", "--to"];
    for (arguments, code, says) in [
        // Addresses that can't be bound, and ports in use.
        (
            &["tcp", "listen", "192.0.2.1:0"][..],
            1,
            ["not one of this machine", "use an address"],
        ),
        (
            &["udp", "listen", "192.0.2.1:0"],
            1,
            ["not one of this machine", "use an address"],
        ),
        (
            &["tcp", "listen", "239.1.2.3:0"],
            1,
            ["multicast", "use a unicast address"],
        ),
        (
            &["tcp", "listen", "127.0.0.1:0", "--dual"],
            1,
            ["dual-stack", "[::]"],
        ),
        (
            &["tcp", "listen", &taken],
            1,
            ["has the port", "choose another port"],
        ),
        (
            &["chat", "serve", &taken],
            1,
            ["has the port", "choose another port"],
        ),
        (
            &["tcp", "connect", &nobody, "-s", "192.0.2.1:0"],
            1,
            ["not one of", "use an address"],
        ),
        // Names, and addresses that are none.
        (
            &["tcp", "connect", "no-such-name.invalid:7"],
            1,
            ["has no address", "look at the name"],
        ),
        (
            &["udp", "send", "no-such-name.invalid", "7"],
            1,
            ["has no address", "look at the name"],
        ),
        (
            &["chat", "join", "no-such-name.invalid:7", "-n", "a"],
            1,
            ["no address", "the name"],
        ),
        (
            &["tcp", "connect", "127.0.0.1"],
            2,
            ["has no port", "HOST:PORT"],
        ),
        (
            &["tcp", "connect", "255.255.255.255:7"],
            1,
            ["broadcast", "unicast"],
        ),
        (
            &["tcp", "connect", "127.0.0.1:7", "-s", "[::1]:0"],
            2,
            ["--source", "leave"],
        ),
        // Peers that aren't there.
        (
            &["tcp", "connect", &nobody],
            1,
            ["nobody listens", "start the server"],
        ),
        (
            &["chat", "join", &nobody, "-n", "a"],
            1,
            ["nobody listens", "start the server"],
        ),
        // Groups and broadcasts.
        (
            &["udp", "listen", "0.0.0.0:0", "-j", "10.1.2.3"],
            1,
            ["no multicast group", "join a"],
        ),
        (
            &["udp", "listen", "0.0.0.0:0", "-j", "ff02::1"],
            1,
            ["socket's family", "join a group"],
        ),
        (
            &[
                "udp",
                "listen",
                "0.0.0.0:0",
                "-j",
                "239.1.2.3",
                "-i",
                "4000",
            ],
            1,
            ["no interface", "give the index"],
        ),
        (
            &[
                "udp",
                "listen",
                "0.0.0.0:0",
                "-j",
                "239.1.2.3",
                "-i",
                "nowhere",
            ],
            1,
            ["no adapter is called nowhere", "there are: lab0"],
        ),
        (
            &["udp", "send", "127.255.255.255", "7", "-d", "x"],
            1,
            ["broadcast address", "--broadcast"],
        ),
        // Sizes.
        (
            &["udp", "send", &nobody, "-c", "65528"],
            2,
            ["65528", "1..=65527"],
        ),
        (&["udp", "send", &nobody, "-c", "0"], 2, ["0", "1..=65527"]),
        (
            &["udp", "send", &nobody, "--ttl", "256", "-d", "x"],
            2,
            ["256", "0..=255"],
        ),
        (
            &["chat", "serve", "127.0.0.1:0", "--members", "0"],
            2,
            ["0", "1..=100000"],
        ),
        (
            &["chat", "join", &nobody, "-n", "a b"],
            2,
            ["1 to 32", "choose another"],
        ),
        // Services, models, benches.
        (
            &["service", "start", "relay", "--tcp", tcp[0]],
            2,
            ["required", "--to"],
        ),
        (
            &[
                "service",
                "start",
                "relay",
                "--tcp",
                tcp[0],
                tcp[1],
                "127.0.0.1:0",
            ],
            1,
            ["address", "with a port"],
        ),
        (
            &["serve", "--model", "epoll", "--listen", tcp[0]],
            2,
            ["epoll", "there are: select"],
        ),
        (
            &["bench", "echo", "--against", "epoll"],
            2,
            ["epoll", "there are: select"],
        ),
    ] {
        let (got, said) = fixture.fails(arguments);
        assert_eq!(got, code, "{arguments:?}: {said}");
        for words in says {
            assert!(
                said.contains(words),
                "{arguments:?}: no {words:?} in {said}"
            );
        }
        let errors = said
            .lines()
            .filter(|l| l.starts_with("weirctl: ") || l.starts_with("error: "));
        assert_eq!(errors.count(), 1, "one error: {said}");
        alive(arguments);
    }
    // A datagram that is too long for IPv4, but not for the contract.
    let mut long = Background::weirctl(&fixture, &["udp", "send", &nobody, "-c", "65520"]);
    long.tell(&[0; 65_520]);
    let (code, said) = long.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("65507 bytes at most"), "{said}");
    // A peer that resets what it has accepted.
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = server.local_addr().expect("its address").to_string();
    for arguments in [
        &["tcp", "connect", &at][..],
        &["chat", "join", &at, "-n", "a"],
    ] {
        let client = Background::weirctl(&fixture, arguments);
        reset(accept(&server));
        let (code, said) = client.end();
        assert_eq!(code, Some(1), "{said}");
        let told = said.contains("the peer reset the connection") && said.contains("see why");
        assert!(told, "{arguments:?}: {said}");
    }
    alive(&["the end"]);
    fixture.unload();
}
