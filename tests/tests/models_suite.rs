//! The suite for echoes, held to echoes that are right and wrong.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use weir_tests::echo::{CHECKS, Echo, suite};

/// A server with a thread a connection.
fn server(serve: fn(&TcpStream) -> io::Result<()>) -> Echo {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let address: SocketAddr = listener.local_addr().expect("has an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(&stream));
        }
    });
    Echo {
        address,
        patience: Duration::from_secs(2),
    }
}

fn right(stream: &TcpStream) -> io::Result<()> {
    let (mut reading, mut writing) = (stream, stream);
    io::copy(&mut reading, &mut writing)?;
    stream.shutdown(Shutdown::Write)
}

/// What one check says of an echo.
fn check(name: &str, echo: Echo) -> Result<(), String> {
    let (_, check) = CHECKS.iter().find(|c| c.0 == name).expect("a check");
    check(echo)
}

#[test]
fn one_that_is_right_passes() {
    suite(Echo {
        patience: Duration::from_secs(20),
        ..server(right)
    })
    .expect("all is well");
}

#[test]
fn one_that_changes_a_byte_fails() {
    let echo = server(|stream| {
        let (mut reading, mut writing) = (stream, stream);
        let mut buffer = [0; 4096];
        let mut seen = 0;
        loop {
            let count = reading.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            seen += count;
            if seen > 1000 {
                buffer[count - 1] ^= 1;
            }
            writing.write_all(&buffer[..count])?;
        }
    });
    check("one byte", echo).expect("it is right at first");
    let why = check("a megabyte", echo).expect_err("a byte differs");
    assert!(why.contains("differs"), "{why}");
}

#[test]
fn one_that_closes_at_a_half_close_fails() {
    let echo = server(|stream| {
        let (mut reading, mut writing) = (stream, stream);
        let mut whole = Vec::new();
        reading.read_to_end(&mut whole)?;
        // Only half of what it owes.
        writing.write_all(&whole[..whole.len() / 2])
    });
    check("half close", echo).expect_err("bytes are missing");
}

#[test]
fn one_that_keeps_what_is_not_read_fails() {
    let echo = server(|stream| {
        let mut reading = stream;
        let mut kept = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = reading.read(&mut buffer)?;
            if count == 0 {
                let mut writing = stream;
                return writing.write_all(&kept);
            }
            kept.extend_from_slice(&buffer[..count]);
        }
    });
    let why = check("a client that never reads", echo).expect_err("it keeps all");
    assert!(why.contains("keeps them itself"), "{why}");
}

#[test]
fn one_that_serves_one_after_the_other_fails() {
    static TURN: Mutex<()> = Mutex::new(());
    let echo = server(|stream| {
        let _mine = TURN.lock();
        right(stream)
    });
    check("one byte", echo).expect("a single client is answered");
    check("a client that never reads", echo).expect_err("others wait");
}
