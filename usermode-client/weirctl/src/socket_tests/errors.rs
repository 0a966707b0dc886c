//! What can't be: one clear error each, with what to do, and nothing left behind.

use super::tls::certificate;
use super::*;
use crate::commands::chat::{self, ChatCommand};

/// Runs a line that must fail.
#[track_caller]
fn fails(driver: &FakeDriver, words: &[&str]) -> CtlError {
    let device = open(driver);
    let line = std::iter::once("weirctl").chain(words.iter().copied());
    let cli = Cli::try_parse_from(line).expect("the grammar is good");
    let mut out = Output::new(false, Box::new(std::io::sink()));
    let input = || Cursor::new(b"said\n".to_vec());
    let stop = AtomicBool::new(false);
    let result = match &cli.command {
        Command::Tcp(TcpCommand::Connect(args)) => {
            tcp::connect(&device, args, input(), false, &never, &mut out)
        }
        Command::Tcp(TcpCommand::Listen(args)) => {
            tcp::listen(&device, args, input(), false, &stop, &mut out)
        }
        Command::Udp(UdpCommand::Send(args)) => udp::send(&device, args, input(), &mut out),
        Command::Udp(UdpCommand::Listen(args)) => udp::listen(&device, args, &stop, &mut out),
        Command::Chat(ChatCommand::Serve(args)) => chat::serve(&device, args, &stop, &mut out),
        Command::Chat(ChatCommand::Join(args)) => {
            chat::join(&device, args, input(), false, &never, &mut out)
        }
        other => panic!("{other:?}"),
    };
    result.expect_err(&words.join(" "))
}

#[test]
fn each_mistake_has_one_error_that_says_what_to_do() {
    let driver = FakeDriver::default();
    let dir = tempfile::tempdir().expect("a directory");
    let (pin, _) = certificate(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let taken = taken
        .local_addr()
        .map(|at| (at.to_string(), taken))
        .expect("bound");
    let taken_udp = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let taken_udp = taken_udp
        .local_addr()
        .map(|at| (at.to_string(), taken_udp))
        .expect("bound");
    let nobody = free().to_string();
    let long = "x".repeat(65_528);
    std::fs::write(file("empty.pem"), "").expect("written");
    let (no_file, empty) = (file("none.pem"), file("empty.pem"));
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let another = rcgen::generate_simple_self_signed(["x".to_owned()]).expect("made");
    std::fs::write(file("other.pem"), another.signing_key.serialize_pem()).expect("written");
    let other_key = file("other.pem");
    // The words; the exit code; what is wrong; what to do.
    let all: &[(&[&str], u8, &str, &str)] = &[
        (
            &["tcp", "listen", "192.0.2.1:0"],
            1,
            "listening on 192.0.2.1:0: ",
            "address",
        ),
        (
            &["tcp", "listen", "224.0.0.1:80"],
            1,
            "multicast",
            "use a unicast address",
        ),
        (
            &["tcp", "listen", &taken.0],
            1,
            "listening on",
            "choose another port",
        ),
        (
            &["chat", "serve", &taken.0],
            1,
            "listening on",
            "choose another port",
        ),
        (
            &["udp", "listen", &taken_udp.0],
            1,
            "binding to",
            "choose another port",
        ),
        (
            &["udp", "listen", "127.0.0.1:0", "-j", "10.0.0.1"],
            1,
            "no multicast group",
            "224.0.0.0/4",
        ),
        (
            &["udp", "listen", "127.0.0.1:0", "-j", "ff02::1"],
            1,
            "the membership",
            "IPv4 socket",
        ),
        (
            &[
                "udp",
                "listen",
                "127.0.0.1:0",
                "-i",
                "lan9",
                "-j",
                "239.1.1.1",
            ],
            1,
            "adapter",
            "bound",
        ),
        (&["tcp", "connect", &nobody], 1, "nobody listens", "start"),
        (
            &["chat", "join", &nobody, "-n", "me"],
            1,
            "nobody listens",
            "start",
        ),
        (
            &["tcp", "connect", "nothing.invalid", "80"],
            1,
            "nothing.invalid",
            "name",
        ),
        (
            &["udp", "send", "nothing.invalid", "80"],
            1,
            "nothing.invalid",
            "name",
        ),
        (
            &["tcp", "connect", "224.0.0.1", "80"],
            1,
            "multicast",
            "unicast address",
        ),
        (
            &["tcp", "connect", "0.0.0.0", "80"],
            1,
            "unspecified",
            "unicast address",
        ),
        (
            &["tcp", "connect", "-6", "127.0.0.1", "80"],
            1,
            "no IPv6 address",
            "leave out -6",
        ),
        (
            &["tcp", "connect", "127.0.0.1"],
            2,
            "has no port",
            "HOST:PORT",
        ),
        (
            &["tcp", "connect", "-s", "[::1]:0", "127.0.0.1:9"],
            2,
            "version of IP",
            "--source",
        ),
        // Wine's own UDP sockets bind to any address.
        #[cfg(unix)]
        (
            &["udp", "send", "-s", "192.0.2.1:0", "127.0.0.1:9"],
            1,
            "binding to",
            "address",
        ),
        (
            &["udp", "send", "255.255.255.255:9"],
            1,
            "broadcast address",
            "--broadcast",
        ),
        (
            &["udp", "send", "127.0.0.1:9", "-d", &long],
            1,
            "65528 bytes",
            "send less",
        ),
        (
            &["tcp", "connect", "--tls", &nobody],
            2,
            "whom to believe",
            "--pin SHA256",
        ),
        (
            &["tcp", "connect", "--tls", "--ca", &no_file, &nobody],
            1,
            "none.pem",
            "PEM",
        ),
        (
            &["tcp", "connect", "--tls", "--ca", &empty, &nobody],
            1,
            "no certificate",
            "PEM",
        ),
        (
            &[
                "tcp",
                "connect",
                "--tls",
                "--pin",
                &pin,
                "--server-name",
                "a b",
                &nobody,
            ],
            2,
            "a b",
            "--server-name",
        ),
        (
            &[
                "tcp",
                "listen",
                "--tls",
                "--cert",
                &no_file,
                "--key",
                &key,
                "127.0.0.1:0",
            ],
            1,
            "none.pem",
            "PEM",
        ),
        (
            &[
                "tcp",
                "listen",
                "--tls",
                "--cert",
                &cert,
                "--key",
                &empty,
                "127.0.0.1:0",
            ],
            1,
            "empty.pem",
            "PEM",
        ),
        (
            &[
                "tcp",
                "listen",
                "--tls",
                "--cert",
                &cert,
                "--key",
                &other_key,
                "127.0.0.1:0",
            ],
            1,
            "TLS",
            "give another certificate or key",
        ),
    ];
    let before = open(&driver).sockets().expect("a list");
    assert!(before.is_empty());
    for (words, code, what, advice) in all {
        let error = fails(&driver, words);
        let text = error.to_string();
        let line: String = words.join(" ").chars().take(100).collect();
        assert_eq!(error.exit_code(), *code, "{line}: {text}");
        assert!(text.contains(what), "{line}: {text}");
        let (_, to_do) = text.split_once(what).unwrap_or_default();
        assert!(
            to_do.contains(advice) || text.contains(advice),
            "{line}: {text}"
        );
        assert_eq!(text.lines().count(), 1, "{line}: {text}");
        assert!(
            !text.contains("no meaning of its own"),
            "a status without a meaning: {line}: {text}"
        );
        assert!(
            open(&driver).sockets().expect("a list").is_empty(),
            "{line}"
        );
    }
    // Nobody else's socket was touched.
    TcpStream::connect(&taken.0).expect("still listens");
}

#[test]
fn an_error_is_one_json_object_with_its_codes() {
    let driver = FakeDriver::default();
    let nobody = free();
    let object = json_of(&driver, &format!("tcp connect {nobody}"));
    let error = &object["error"];
    assert_eq!(error["exit_code"], json!(1));
    assert_eq!(error["status"], json!("STATUS_CONNECTION_REFUSED"));
    assert_eq!(error["ntstatus"], json!("0xc0000236"));
    let object = json_of(&driver, "tcp connect -6 127.0.0.1 9");
    assert_eq!(object["error"]["status"], json!(null));
}
