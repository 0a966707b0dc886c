//! `weirctl udp`: kernel sockets for datagrams, groups and broadcasts, with
//! Python and nc at the other end.

use std::net::UdpSocket;
use std::process::Command;

use serde_json::Value;
use weir_tests::clients::{Background, PATIENCE, free_port, run};
use weir_tests::lab::Fixture;
use weir_tests::services::until_no_socket;

const PYTHON_SEND: &str = "
import socket, sys
to, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if ':' in to:
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, int(sys.argv[4]))
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
else:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if kind == 'broadcast':
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    else:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('127.0.0.1'))
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
s.sendto(kind.encode(), (to, port))
";

const PYTHON_JOIN: &str = "
import socket, struct, sys
group, port = sys.argv[1], int(sys.argv[2])
v6 = ':' in group
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(30)
s.bind(('', port))
if v6:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                 socket.inet_pton(socket.AF_INET6, group) + struct.pack('=I', int(sys.argv[3])))
else:
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                 socket.inet_aton(group) + socket.inet_aton('127.0.0.1'))
print('listening on x', file=sys.stderr, flush=True)
data, peer = s.recvfrom(100)
print(data.decode(), end='')
";

/// The loopback interface's index is 1 on every Linux.
const LOOPBACK: &str = "1";

/// An interface that takes multicasts over IPv6: Linux has a route for them on each
/// that is up and has not only itself to talk to.
fn multicast_v6() -> Option<String> {
    let routes = run("ip", &["-6", "route", "show", "table", "local"], b"");
    let routes = String::from_utf8_lossy(&routes.stdout).into_owned();
    let route = routes
        .lines()
        .find(|r| r.starts_with("multicast ff00::/8"))?;
    let name = route.split(" dev ").nth(1)?.split(' ').next()?;
    let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"));
    Some(index.ok()?.trim().to_owned())
}

/// What of a group or of all comes to weirctl from Python.
fn from_python(fixture: &Fixture, kind: &str, to: &str, interface: &str) {
    let any = if to.contains(':') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let mut arguments = vec!["udp", "listen", any, "--count", "1", "--json"];
    if kind == "multicast" {
        arguments.extend(["--join", to, "--interface", interface]);
    }
    let listener = Background::weirctl(fixture, &arguments);
    let said: Value = serde_json::from_str(&listener.says("")).expect("JSON");
    let port = said["port"].as_u64().expect("a port").to_string();
    let sent = run(
        "python3",
        &["-c", PYTHON_SEND, to, &port, kind, interface],
        b"",
    );
    let said = String::from_utf8_lossy(&sent.stderr);
    assert!(sent.status.success(), "{said}");
    let got: Value = serde_json::from_slice(&listener.output()).expect("JSON");
    assert_eq!(got["text"], kind, "{got}");
    assert_eq!(got[kind], true, "{got}");
}

/// What weirctl sends to a group comes to Python.
fn to_python(fixture: &Fixture, group: &str, interface: &str) {
    let port = free_port().to_string();
    let python = ["-c", PYTHON_JOIN, group, &port, interface];
    let python = Background::start(Command::new("python3").args(python));
    assert_eq!(python.says("listening on "), "x");
    let arguments = [
        "udp",
        "send",
        group,
        &port,
        "--data",
        "to all",
        "--interface",
        interface,
    ];
    let sent = fixture.weirctl(&arguments);
    let said = String::from_utf8_lossy(&sent.stderr);
    assert!(sent.status.success(), "{said}");
    assert_eq!(python.output(), b"to all");
}

/// One that wants no multicasts of this machine gets what is sent to it alone.
fn only_of_others(fixture: &Fixture, group: &str) {
    let arguments = [
        "udp",
        "listen",
        "0.0.0.0:0",
        "-c",
        "1",
        "-j",
        group,
        "-i",
        LOOPBACK,
        "--loop",
        "false",
    ];
    let listener = Background::weirctl(fixture, &arguments);
    let at = listener.listening();
    let port = at.port().to_string();
    let send = ["-c", PYTHON_SEND, group, &port, "multicast", LOOPBACK];
    assert!(run("python3", &send, b"").status.success());
    let alone = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let sent = alone.send_to(b"to it alone", ("127.0.0.1", at.port()));
    sent.expect("it goes out");
    assert_eq!(listener.output(), b"to it alone");
}

#[test]
fn groups_and_broadcasts_reach_and_come_from_python() {
    let fixture = Fixture::weir("udp-groups");
    from_python(&fixture, "multicast", "239.77.1.2", LOOPBACK);
    from_python(&fixture, "broadcast", "127.255.255.255", LOOPBACK);
    to_python(&fixture, "239.77.1.2", LOOPBACK);
    only_of_others(&fixture, "239.77.1.2");
    match multicast_v6() {
        // Of this scope nothing leaves the host, RFC 4291 section 2.7.
        Some(interface) => {
            from_python(&fixture, "multicast", "ff01::77:1", &interface);
            to_python(&fixture, "ff01::77:1", &interface);
        }
        None => println!("no interface takes multicasts over IPv6 here"),
    }
    until_no_socket(&fixture);
    fixture.unload();
}

#[test]
fn datagrams_are_sent_back_over_both_families() {
    let fixture = Fixture::weir("udp-both");
    for (any, host) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        // nc asks, weirctl echoes.
        let echo = Background::weirctl(&fixture, &["udp", "listen", any, "--echo", "-c", "1"]);
        let at = echo.listening();
        let port = at.port().to_string();
        let out = run("nc", &["-u", "-w", "1", host, &port], b"one datagram");
        assert_eq!(out.stdout, b"one datagram");
        assert_eq!(echo.output(), b"one datagram");
        // weirctl asks, and shows the answers: each line is a datagram.
        let host_socket = UdpSocket::bind((host, 0)).expect("a port");
        host_socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a time-out");
        let port = host_socket
            .local_addr()
            .expect("an address")
            .port()
            .to_string();
        let mut asking = Background::weirctl(&fixture, &["udp", "send", host, &port, "-w", "1"]);
        asking.tell(b"first\nsecond\n");
        for line in [&b"first\n"[..], b"second\n"] {
            let mut got = [0; 100];
            let (len, from) = host_socket.recv_from(&mut got).expect("a datagram");
            assert_eq!(&got[..len], line);
            assert_eq!(from.ip().to_string(), host);
            let sent = host_socket.send_to(&got[..len], from);
            sent.expect("it goes out");
        }
        assert_eq!(asking.output(), b"first\nsecond\n");
    }
    until_no_socket(&fixture);
    fixture.unload();
}
