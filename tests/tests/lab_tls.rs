//! TLS over kernel sockets, with openssl at the other end, and what is said when
//! a certificate isn't the one that was wanted.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use weir_lab_harness::windows_path;
use weir_tests::clients::{Background, accept, connect, free_port, until_listening};
use weir_tests::lab::Fixture;
use weir_tests::services::until_no_socket;

fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let made = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("openssl");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{arguments:?}: {said}");
    String::from_utf8_lossy(&made.stdout).into_owned()
}

/// An authority of openssl's making: `NAME.pem` and `NAME.key`.
fn authority(folder: &Path, name: &str) {
    let (subject, key, cert) = (
        format!("/CN={name}"),
        format!("{name}.key"),
        format!("{name}.pem"),
    );
    let new = [
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
    ];
    let more = ["-subj", &subject, "-keyout", &key, "-out", &cert];
    openssl(folder, &[&new[..], &more].concat());
}

/// A key and a certificate for `localhost` that an authority has signed; with no
/// days, it ends as it begins.
fn signed(folder: &Path, by: &str, name: &str, days: &str) {
    let [key, request, cert] = ["key", "csr", "pem"].map(|kind| format!("{name}.{kind}"));
    let [ca_key, ca] = ["key", "pem"].map(|kind| format!("{by}.{kind}"));
    let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
    let leaf = "basicConstraints=critical,CA:FALSE";
    let new = [
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=localhost",
    ];
    let more = [
        "-addext", names, "-addext", leaf, "-keyout", &key, "-out", &request,
    ];
    openssl(folder, &[&new[..], &more].concat());
    let sign = ["x509", "-req", "-days", days, "-copy_extensions", "copyall"];
    let more = [
        "-CA", &ca, "-CAkey", &ca_key, "-in", &request, "-out", &cert,
    ];
    openssl(folder, &[&sign[..], &more].concat());
}

/// SHA-256 of a certificate.
fn pin(folder: &Path, name: &str) -> String {
    let cert = format!("{name}.pem");
    let print = openssl(
        folder,
        &["x509", "-noout", "-fingerprint", "-sha256", "-in", &cert],
    );
    let (_, pin) = print.trim().split_once('=').expect("a fingerprint");
    pin.replace(':', "").to_lowercase()
}

/// openssl's own server, which answers any request with a page.
fn s_server(folder: &Path, name: &str) -> (Background, String) {
    let port = free_port();
    let text = port.to_string();
    let (key, cert) = (format!("{name}.key"), format!("{name}.pem"));
    let server = Background::start(
        Command::new("openssl")
            .args(["s_server", "-www", "-key", &key, "-cert", &cert])
            .args(["-accept", &text])
            .current_dir(folder),
    );
    until_listening(port);
    (server, text)
}

#[test]
fn openssl_is_spoken_to_on_both_sides() {
    let fixture = Fixture::weir("tls-both");
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    authority(folder, "ca");
    signed(folder, "ca", "server", "2");
    // s_client on a listener with a certificate of its own making.
    let mut listener = Background::weirctl(&fixture, &["tcp", "listen", "127.0.0.1:0", "--tls"]);
    let at = listener.listening().to_string();
    let own = listener.says("certificate pin ");
    assert!(own.len() >= 64, "{own}");
    listener.tell(b"from the kernel's side\n");
    let mut client =
        Background::start(Command::new("openssl").args(["s_client", "-quiet", "-connect", &at]));
    let input = client.input.as_mut().expect("an input");
    input.write_all(b"hello\n").expect("it reads");
    let mut got = [0; 23];
    client.read_exact(&mut got);
    assert_eq!(&got, b"from the kernel's side\n");
    client.kill();
    assert_eq!(listener.output(), b"hello\n");

    // And on one with a certificate that it believes.
    let [cert, key] = ["server.pem", "server.key"].map(|f| windows_path(&folder.join(f)));
    let arguments = [
        "tcp",
        "listen",
        "127.0.0.1:0",
        "--tls",
        "--cert",
        &cert,
        "--key",
        &key,
    ];
    let mut listener = Background::weirctl(&fixture, &arguments);
    let at = listener.listening().to_string();
    assert_eq!(listener.says("certificate pin "), pin(folder, "server"));
    listener.tell(b"believed\n");
    let mut client = Background::start(
        Command::new("openssl")
            .args([
                "s_client",
                "-quiet",
                "-verify_return_error",
                "-connect",
                &at,
            ])
            .args(["-CAfile", "ca.pem", "-verify_hostname", "localhost"])
            .current_dir(folder),
    );
    let mut got = [0; 9];
    client.read_exact(&mut got);
    assert_eq!(&got, b"believed\n");
    client.kill();
    assert_eq!(listener.output(), b"");

    // s_server, believed by its authority and by its pin.
    let (_server, port) = s_server(folder, "server");
    let authority = windows_path(&folder.join("ca.pem"));
    let own = pin(folder, "server");
    for (host, trust) in [
        ("localhost", ["--ca", authority.as_str()]),
        ("127.0.0.1", ["--ca", authority.as_str()]),
        ("localhost", ["--pin", own.as_str()]),
    ] {
        let to = ["tcp", "connect", host, port.as_str(), "--tls"];
        let mut client = Background::weirctl(&fixture, &[&to[..], &trust].concat());
        client.tell(b"GET / HTTP/1.0\r\n\r\n");
        let page = client.output();
        let page = String::from_utf8_lossy(&page);
        assert!(page.contains("TLSv1.3"), "{trust:?}: {page}");
    }
    until_no_socket(&fixture);
    fixture.unload();
}

/// Nothing is said to it, and one error says what was wrong and what to do.
#[test]
fn a_server_that_is_not_the_one_wanted_is_not_spoken_to() {
    let fixture = Fixture::weir("tls-wrong");
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    authority(folder, "ca");
    authority(folder, "another");
    // Good until the second in which it is made has passed.
    signed(folder, "ca", "old", "0");
    std::thread::sleep(std::time::Duration::from_secs(2));
    signed(folder, "ca", "server", "2");
    std::fs::write(folder.join("text.pem"), "no certificate").expect("a file");
    let (_server, port) = s_server(folder, "server");
    let (_old, old) = s_server(folder, "old");
    let file = |name: &str| windows_path(&folder.join(name));
    let (ca, another, text, nothing) = (
        file("ca.pem"),
        file("another.pem"),
        file("text.pem"),
        file("nothing.pem"),
    );
    let zeros = "00".repeat(32);
    let own = pin(folder, "server");
    let to = ["localhost", &port];
    for (to, trust, code, wanted) in [
        (
            to,
            &["--ca", &another][..],
            1,
            "no authority in the file of --ca",
        ),
        (to, &["--pin", &zeros], 1, own.as_str()),
        (
            to,
            &["--ca", &ca, "--server-name", "other.test"],
            1,
            "other.test",
        ),
        (["127.0.0.2", &port], &["--ca", &ca], 1, "127.0.0.2"),
        (["localhost", &old], &["--ca", &ca], 1, "expired"),
        (to, &["--ca", &text], 1, "no certificate"),
        (to, &["--ca", &nothing], 1, "nothing.pem"),
        (to, &["--pin", "00"], 2, "64 hex digits"),
        (
            to,
            &["--ca", &ca, "--server-name", "a b"],
            2,
            "--server-name",
        ),
        (to, &[], 2, "--pin"),
    ] {
        let arguments = [&["tcp", "connect"][..], &to, &["--tls"], trust].concat();
        let (got, said) = fixture.fails(&arguments);
        assert_eq!(got, code, "{arguments:?}: {said}");
        assert!(said.contains(wanted), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    // One that speaks no TLS at all.
    let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = plain.local_addr().expect("an address").port().to_string();
    let client = Background::weirctl(
        &fixture,
        &[
            "tcp",
            "connect",
            "127.0.0.1",
            &port,
            "--tls",
            "--pin",
            &zeros,
        ],
    );
    let mut peer = accept(&plain);
    peer.write_all(b"220 welcome to a mail server\r\n")
        .expect("it reads");
    let (code, said) = client.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("TLS"), "{said}");
    until_no_socket(&fixture);
    fixture.unload();
}

#[test]
fn a_listener_says_who_did_not_believe_it_and_goes_on() {
    let fixture = Fixture::weir("tls-doubted");
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    authority(folder, "ca");
    authority(folder, "another");
    signed(folder, "ca", "server", "2");
    let file = |name: &str| windows_path(&folder.join(name));
    let listen = ["tcp", "listen", "127.0.0.1:0", "--tls"];
    // A key of another certificate, and what is no key.
    for (key, wanted) in [
        ("another.key", "another certificate or key"),
        ("ca.pem", "ca.pem"),
    ] {
        let more = ["--cert", &file("server.pem"), "--key", &file(key)];
        let (code, said) = fixture.fails(&[&listen[..], &more].concat());
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(wanted), "{said}");
    }
    let more = [
        "--cert",
        &file("server.pem"),
        "--key",
        &file("server.key"),
        "-k",
    ];
    let mut listener = Background::weirctl(&fixture, &[&listen[..], &more].concat());
    let at = listener.listening();
    let text = at.to_string();
    let client = |authority: &str| {
        Background::start(
            Command::new("openssl")
                .args([
                    "s_client",
                    "-quiet",
                    "-verify_return_error",
                    "-connect",
                    &text,
                ])
                .args(["-CAfile", authority])
                .current_dir(folder),
        )
    };
    // Who doesn't believe it, and who speaks no TLS, is told of; the next is served.
    let (code, _) = client("another.pem").end();
    assert_ne!(code, Some(0));
    let said = listener.says("weirctl: 127.0.0.1:");
    assert!(said.contains("UnknownCA"), "{said}");
    let mut plain = connect(at);
    plain
        .write_all(b"GET / HTTP/1.0\r\n\r\n")
        .expect("it takes data");
    let said = listener.says("weirctl: 127.0.0.1:");
    assert!(said.contains("TLS"), "{said}");
    drop(plain);
    let mut believer = client("ca.pem");
    believer.tell(b"I do\n");
    let mut got = [0; 5];
    listener.read_exact(&mut got);
    assert_eq!(&got, b"I do\n");
    believer.kill();
    listener.kill();
    until_no_socket(&fixture);
    fixture.unload();
}
