//! The examples of the client library, as Windows programs on the real driver,
//! each with somebody else's program at the other end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use weir_lab_harness::windows_path;
use weir_tests::clients::{Background, connect, free_port, noise, run, until_listening};
use weir_tests::lab::{Fixture, root};
use weir_tests::services::until_no_socket;
use xtask::parts;

/// Builds them; where they are then.
fn examples() -> PathBuf {
    let root = root();
    let built = parts::cargo(&root, "build", parts::TARGET, &["weir-client"])
        .arg("--examples")
        .status()
        .expect("cargo runs");
    assert!(built.success(), "{built}");
    let target = parts::dir(&root).join("../parts");
    target.join(parts::TARGET).join("lab/examples")
}

#[test]
fn each_example_does_what_it_says() {
    let folder = examples();
    let fixture = Fixture::weir("examples");
    let example = |name: &str, arguments: &[&str]| {
        let program = windows_path(&folder.join(format!("{name}.exe")));
        let mut command = fixture.lab.command(&program);
        command.args(arguments).stdin(Stdio::null());
        Background::start(&mut command)
    };

    // A client: nc is the server.
    let port = free_port();
    let mut server =
        Background::start(Command::new("nc").args(["-lN", "127.0.0.1", &port.to_string()]));
    until_listening(port);
    let client = example("tcp_client", &[&format!("127.0.0.1:{port}"), "hello"]);
    let mut got = [0; 5];
    server.read_exact(&mut got);
    assert_eq!(&got, b"hello");
    server.tell(b"hello to you");
    let answer = client.output();
    assert_eq!(String::from_utf8_lossy(&answer).trim(), "hello to you");

    // Two servers: nc is the client.
    let text = noise(300_000);
    for name in ["tcp_server", "async_echo"] {
        let mut server = example(name, &["127.0.0.1:0"]);
        let line = server.first_line();
        let at = line.strip_prefix("listening on ").expect("where");
        let at: SocketAddr = at.parse().expect("an address");
        let held = connect(at);
        let (host, port) = (at.ip().to_string(), at.port().to_string());
        let out = run("nc", &["-N", "-w", "20", &host, &port], &text);
        assert!(out.stdout == text, "{name}: {} bytes", out.stdout.len());
        assert_eq!(server.first_line(), "300000 bytes echoed");
        drop(held);
        server.kill();
    }

    // Many connections on few workers: socat starts an echo for each.
    let port = free_port();
    let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=50");
    let mut server = Background::start(Command::new("socat").args([&listen, "EXEC:cat"]));
    until_listening(port);
    let at = format!("127.0.0.1:{port}");
    let client = example("workers", &[&at, "20", "50", "3"]);
    let told = String::from_utf8_lossy(&client.output()).into_owned();
    assert!(told.starts_with("20 connections, 3 workers: "), "{told}");
    // It is there at once, so this is tried once.
    let client = example("retry", &["localhost", &port.to_string()]);
    let told = String::from_utf8_lossy(&client.output()).into_owned();
    assert!(
        told.starts_with(&format!("connected to {at} as ")),
        "{told}"
    );
    server.kill();

    // A member of a group, on the interface the host takes for it.
    let group = "239.77.1.9";
    let port = free_port();
    let member = example("udp", &[&format!("{group}:{port}"), "anybody there?"]);
    let answer = String::from_utf8_lossy(&member.output()).into_owned();
    assert!(answer.contains("anybody there?"), "{answer}");

    // A guest of a chat that nc listens to.
    let mut server = Background::weirctl(&fixture, &["chat", "serve", "127.0.0.1:0"]);
    let line = server.first_line();
    let at = line.strip_prefix("chat on ").expect("where").to_owned();
    let (host, port) = at.split_once(':').expect("a port");
    let mut nc = Background::start(Command::new("nc").args([host, port]));
    let input = nc.input.as_mut().expect("an input");
    std::io::Write::write_all(input, b"join listener lobby\n").expect("it reads");
    assert_eq!(nc.first_line(), "* listener joined lobby (1 here)");
    let mut guest = example("chat_client", &[&at, "guest", "lobby", "hello"]);
    assert_eq!(nc.first_line(), "* guest joined lobby (2 here)");
    assert_eq!(nc.first_line(), "<guest> hello");
    assert_eq!(guest.first_line(), "* guest joined lobby (2 here)");
    std::io::Write::write_all(nc.input.as_mut().expect("an input"), b"hello, guest\n")
        .expect("it reads");
    assert_eq!(guest.first_line(), "<listener> hello, guest");
    guest.kill();
    nc.kill();
    server.kill();
    until_no_socket(&fixture);
    fixture.unload();
}
