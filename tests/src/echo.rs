//! What every TCP echo has to do, whoever serves it: one suite for the models of
//! user mode and for the kernel's service.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

/// What is wrong, if something is.
pub type Check = Result<(), String>;

/// More than the buffers of both hosts' sockets, in both directions, hold: an
/// echo that takes so much from a client that doesn't read keeps it itself.
const TOO_MUCH: usize = 96 * 1024 * 1024;

/// A client is stuck when it could send nothing for so long.
const STUCK: Duration = Duration::from_millis(300);

/// An echo under test.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    /// Where it listens.
    pub address: SocketAddr,
    /// How long an answer may take.
    pub patience: Duration,
}

/// Runs all checks. What is wrong is told by the check's name.
///
/// # Errors
/// The first check that fails.
pub fn suite(echo: Echo) -> Check {
    for (name, check) in CHECKS {
        let start = Instant::now();
        check(echo).map_err(|why| format!("{name}: {why}"))?;
        println!("  {name}: {:.2} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// A check with its name.
pub type Named = (&'static str, fn(Echo) -> Check);

/// Every check, the simplest first.
pub const CHECKS: [Named; 8] = [
    ("one byte", one_byte),
    ("a megabyte", a_megabyte),
    ("half close", half_close),
    ("200 clients", two_hundred_clients),
    ("reset in the middle", reset_in_the_middle),
    ("a client that never reads", never_reads),
    ("a client that trickles", trickles),
    ("clients that come and go", come_and_go),
];

/// Connections that all of them make.
pub const CLIENTS: u64 = 1 + 1 + 4 + 200 + 21 + 8 + 2 + 201;

/// Bytes in which no two stretches are alike.
#[must_use]
pub fn pattern(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(byte).collect()
}

fn said<T>(what: &str, result: io::Result<T>) -> Result<T, String> {
    result.map_err(|e| format!("{what}: {e}"))
}

impl Echo {
    /// A client.
    ///
    /// # Errors
    /// It isn't accepted in time.
    pub fn connect(self) -> Result<TcpStream, String> {
        let stream = said(
            "connecting",
            TcpStream::connect_timeout(&self.address, self.patience),
        )?;
        said("time-out", stream.set_read_timeout(Some(self.patience)))?;
        said("time-out", stream.set_write_timeout(Some(self.patience)))?;
        said("no delay", stream.set_nodelay(true))?;
        Ok(stream)
    }

    /// So many clients at once, each answered while all are there.
    ///
    /// # Errors
    /// One isn't accepted, or isn't answered.
    pub fn hold(self, count: u32) -> Result<Vec<TcpStream>, String> {
        let clients = (0..count).map(|_| self.connect());
        let mut clients = clients.collect::<Result<Vec<_>, _>>()?;
        // All ask before the first answer is read: none may hold up another.
        for (n, client) in (0_u32..).zip(&mut clients) {
            said("asking", client.write_all(&n.to_be_bytes()))?;
        }
        for (n, client) in (0_u32..).zip(&mut clients) {
            let mut back = [0; 4];
            said(
                &format!("client {n} of {count}"),
                client.read_exact(&mut back),
            )?;
            if back != n.to_be_bytes() {
                return Err(format!("client {n} got another's answer: {back:?}"));
            }
        }
        Ok(clients)
    }
}

/// Sends `text` in one thread and reads as much in another.
fn exchange(stream: &TcpStream, text: &[u8]) -> Check {
    thread::scope(|scope| {
        let mut writing = stream;
        let writer = scope.spawn(move || writing.write_all(text));
        let mut back = vec![0; text.len()];
        let mut reading = stream;
        let read = reading.read_exact(&mut back);
        said("sending", writer.join().expect("no panic"))?;
        said("reading", read)?;
        same(text, &back)
    })
}

fn same(sent: &[u8], back: &[u8]) -> Check {
    if sent == back {
        return Ok(());
    }
    let at = sent.iter().zip(back).position(|(a, b)| a != b);
    Err(format!(
        "{} bytes sent, {} came back, the first that differs is {at:?}",
        sent.len(),
        back.len()
    ))
}

fn one_byte(echo: Echo) -> Check {
    let stream = echo.connect()?;
    for byte in [0, 10, 255] {
        exchange(&stream, &[byte])?;
    }
    Ok(())
}

fn a_megabyte(echo: Echo) -> Check {
    exchange(&echo.connect()?, &pattern(1, 1 << 20))
}

/// All that was sent before the half close comes back, and then the end.
fn half_close(echo: Echo) -> Check {
    for len in [0, 1, 100_000, 1 << 20] {
        let text = pattern(2, len);
        let stream = echo.connect()?;
        let back = thread::scope(|scope| {
            let mut writing = &stream;
            let text = &text;
            let writer = scope.spawn(move || {
                writing.write_all(text)?;
                writing.shutdown(Shutdown::Write)
            });
            let mut back = Vec::new();
            let mut reading = &stream;
            let read = reading.read_to_end(&mut back);
            said("sending", writer.join().expect("no panic"))?;
            said(&format!("reading to the end, {len} bytes"), read)?;
            Ok::<_, String>(back)
        })?;
        same(&text, &back)?;
    }
    Ok(())
}

/// Small and large messages at the same time, several of each client, who are
/// all there before the first one sends.
fn two_hundred_clients(echo: Echo) -> Check {
    const CLIENTS: u32 = 200;
    let start = Arc::new(Barrier::new(CLIENTS as usize));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let start = Arc::clone(&start);
            thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn(move || {
                    let stream = echo.connect();
                    start.wait();
                    let stream = stream?;
                    for round in 0..3 {
                        let len =
                            [1, 3, 64, 1000, 1460, 5000, 16_384, 40_000][(n + round) as usize % 8];
                        exchange(&stream, &pattern(n * 3 + round, len))
                            .map_err(|why| format!("client {n}, {len} bytes: {why}"))?;
                    }
                    Ok(())
                })
                .expect("a thread")
        })
        .collect();
    let mut all = Ok(());
    for client in clients {
        all = all.and(client.join().expect("no panic"));
    }
    all
}

/// A client that resets, with bytes on their way both ways, harms nobody.
fn reset_in_the_middle(echo: Echo) -> Check {
    let bystander = echo.connect()?;
    for n in 0..20 {
        let mut stream = echo.connect()?;
        let text = pattern(n, 50_000);
        said("sending", stream.write_all(&text))?;
        if n % 2 == 0 {
            let mut some = [0; 1000];
            said("reading", stream.read_exact(&mut some))?;
            same(&text[..1000], &some)?;
        }
        let socket = socket2::Socket::from(stream);
        said("linger", socket.set_linger(Some(Duration::ZERO)))?;
        drop(socket);
        exchange(&bystander, &pattern(n, 100)).map_err(|why| format!("a bystander: {why}"))?;
    }
    Ok(())
}

/// Sends until nothing more is taken; how many bytes of the endless `pattern`.
fn fill(stream: &mut TcpStream, text: &[u8]) -> Result<usize, String> {
    said("no blocking", stream.set_nonblocking(true))?;
    let (mut sent, mut moved) = (0, Instant::now());
    while moved.elapsed() < STUCK {
        match stream.write(&text[sent % text.len()..]) {
            Ok(count) => {
                sent += count;
                moved = Instant::now();
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(e) => return Err(format!("sending without reading: {e}")),
        }
        if sent > TOO_MUCH {
            return Err(format!(
                "it took {sent} bytes of a client that reads nothing: it keeps them itself"
            ));
        }
    }
    said("blocking", stream.set_nonblocking(false))?;
    Ok(sent)
}

/// What a client doesn't read fills the buffers and no more; others are answered
/// meanwhile; and it gets all of it once it reads.
fn never_reads(echo: Echo) -> Check {
    let text = pattern(5, 1 << 20);
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let mut stream = echo.connect()?;
        let sent = fill(&mut stream, &text)?;
        stuck.push((stream, sent));
    }
    // Who was there before and who comes now.
    for n in 0..5 {
        exchange(&echo.connect()?, &pattern(n, 10_000))
            .map_err(|why| format!("another client: {why}"))?;
    }
    let (mut late, sent) = stuck.pop().ok_or("there are three")?;
    said("shutting down", late.shutdown(Shutdown::Write))?;
    let mut back = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = said("reading late", late.read(&mut buffer))?;
        if count == 0 {
            break;
        }
        for byte in &buffer[..count] {
            if *byte != text[back % text.len()] {
                return Err(format!("read late, byte {back} differs"));
            }
            back += 1;
        }
    }
    if back != sent {
        return Err(format!(
            "{sent} bytes sent, {back} came back to one that read late"
        ));
    }
    Ok(())
}

/// A byte now and then, and its answer at once; a megabyte of another client
/// comes back in between.
fn trickles(echo: Echo) -> Check {
    let slow = echo.connect()?;
    thread::scope(|scope| {
        let other = scope.spawn(|| a_megabyte(echo));
        for byte in 0..60 {
            exchange(&slow, &[byte])?;
            thread::sleep(Duration::from_millis(5));
        }
        other
            .join()
            .expect("no panic")
            .map_err(|why| format!("another client: {why}"))
    })?;
    // Reads a byte at a time what came at once.
    let text = pattern(7, 3000);
    let mut slow = slow;
    said("sending", slow.write_all(&text))?;
    for (at, sent) in text.iter().enumerate() {
        let mut byte = [0];
        said("reading", slow.read_exact(&mut byte))?;
        if byte[0] != *sent {
            return Err(format!("byte {at} differs"));
        }
    }
    Ok(())
}

/// Clients that say nothing, clients that leave in the middle of a word.
fn come_and_go(echo: Echo) -> Check {
    for n in 0..200 {
        let mut stream = echo.connect()?;
        if n % 2 == 0 {
            said("sending", stream.write_all(&pattern(n, 100)))?;
        }
    }
    one_byte(echo)
}
