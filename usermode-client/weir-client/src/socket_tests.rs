//! Sockets over the driver in memory: the library on one side, the host's own
//! sockets on the other.

use std::io::{self, Read, Write};
use std::net::{self as host, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::{ThreadPool, block_on};
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use futures::{FutureExt as _, task::SpawnExt as _};
use weir_abi::{DatagramFlags, SocketFlags, SocketKind, SocketOption, SocketSetting, SocketState};

use crate::fake::FakeDriver;
use crate::net::{OpenOptions, TcpListener, TcpStream, UdpSocket, wait_ended};
use crate::{Device, Error, ErrorKind, aio};

const SOON: Duration = Duration::from_secs(20);
const LOCAL: &str = "127.0.0.1:0";

fn device() -> Device {
    Device::connect(Arc::new(FakeDriver::default())).expect("opens")
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A stream of ours and its peer on the host.
fn pair(device: &Device) -> (TcpStream, host::TcpStream) {
    let listener = host::TcpListener::bind(LOCAL).expect("binds");
    let ours = TcpStream::connect(device, listener.local_addr().expect("bound")).expect("connects");
    let (theirs, from) = listener.accept().expect("accepts");
    assert_eq!(from, ours.local_addr());
    theirs.set_read_timeout(Some(SOON)).expect("set");
    ours.set_read_timeout(Some(SOON));
    (ours, theirs)
}

#[track_caller]
fn kind(error: impl Into<io::Error>) -> ErrorKind {
    let error = Error::from_io(error.into()).expect("one of ours");
    assert!(error.to_string().contains(';'), "says what to do: {error}");
    error.kind()
}

#[test]
fn bytes_go_both_ways_and_each_side_ends_by_itself() {
    let device = device();
    let (mut ours, mut theirs) = pair(&device);
    ours.write_all(b"to the peer").expect("writes");
    ours.shutdown().expect("shuts down");
    let mut got = Vec::new();
    theirs.read_to_end(&mut got).expect("reads to the end");
    assert_eq!(got, b"to the peer");
    assert_eq!(
        kind(ours.write(b"x").expect_err("shut")),
        ErrorKind::BrokenPipe
    );
    theirs.write_all(b"and back").expect("writes");
    drop(theirs);
    let mut back = String::new();
    ours.read_to_string(&mut back).expect("reads to the end");
    assert_eq!(back, "and back");
    assert_eq!(ours.read(&mut [0; 4]).expect("the end again"), 0);
    let info = ours.socket().info().expect("information");
    assert_eq!((info.bytes_in, info.bytes_out), (8, 11));
    assert_eq!(info.state, SocketState::Closing);
}

#[test]
fn reads_and_writes_of_nothing_touch_nothing() {
    let device = device();
    let (mut ours, mut theirs) = pair(&device);
    assert_eq!(ours.read(&mut []).expect("nothing"), 0);
    assert_eq!(ours.write(&[]).expect("nothing"), 0);
    theirs.write_all(b"x").expect("writes");
    assert_eq!(ours.read(&mut [0; 9]).expect("reads"), 1);
}

#[test]
fn parts_are_written_as_one() {
    let device = device();
    let (mut ours, mut theirs) = pair(&device);
    let all: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    let parts = [&all[..3], &[], &all[3..40_000], &all[40_000..]].map(io::IoSlice::new);
    // As much as one operation takes.
    let n = ours.write_vectored(&parts).expect("writes");
    assert!(n > 64_000 && n < all.len(), "{n}");
    assert_eq!(ours.socket().info().expect("information").writes, 1);
    let mut got = vec![0; n];
    theirs.read_exact(&mut got).expect("reads");
    assert!(got == all[..n]);
    assert_eq!(
        ours.write_vectored(&[io::IoSlice::new(&[])])
            .expect("nothing"),
        0
    );
    let mut ours = ours.into_async();
    let parts = [b"ab", b"cd"].map(|part| io::IoSlice::new(part));
    assert_eq!(block_on(ours.write_vectored(&parts)).expect("writes"), 4);
    theirs.read_exact(&mut got[..4]).expect("reads");
    assert_eq!(&got[..4], b"abcd");
}

#[test]
fn a_read_that_is_given_up_loses_nothing() {
    let device = device();
    let (mut ours, mut theirs) = pair(&device);
    ours.set_read_timeout(Some(Duration::from_millis(20)));
    let mut got = Vec::new();
    let writer = thread::spawn(move || {
        for i in 0..200_u8 {
            theirs.write_all(&[i]).expect("writes");
            thread::sleep(Duration::from_micros(u64::from(i % 7) * 5_000));
        }
    });
    let mut late = 0;
    while got.len() < 200 {
        let mut buf = [0; 3];
        match ours.read(&mut buf) {
            Ok(n) => got.extend_from_slice(&buf[..n]),
            Err(e) => {
                assert_eq!(kind(e), ErrorKind::TimedOut);
                late += 1;
            }
        }
    }
    writer.join().expect("ends");
    assert!(late > 0, "no read was ever given up");
    assert_eq!(got, (0..200).collect::<Vec<u8>>());
}

#[test]
fn a_peer_that_never_reads_holds_up_its_own_writer_alone() {
    let device = device();
    let (mut ours, mut theirs) = pair(&device);
    ours.set_write_timeout(Some(Duration::from_millis(100)));
    let chunk: Vec<u8> = (0..65_000).map(|i| i as u8).collect();
    let mut taken = 0_usize;
    let error = loop {
        let at = taken % chunk.len();
        match ours.write(&chunk[at..]) {
            Ok(n) => taken += n,
            Err(error) => break error,
        }
        assert!(taken < 64 * 1024 * 1024, "there is no end to what is taken");
    };
    assert_eq!(kind(error), ErrorKind::TimedOut);
    let held = ours.socket().info().expect("information").queued;
    assert!(held <= 256 * 1024, "{held} bytes held");
    // Exactly what was taken comes, once it is read.
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).map(|_| all)
    });
    ours.set_write_timeout(Some(SOON));
    ours.shutdown().expect("ends");
    let all = reader.join().expect("ends").expect("reads");
    assert_eq!(all.len(), taken);
    let repeated = chunk.iter().cycle();
    assert!(all.iter().zip(repeated).all(|(a, b)| a == b));
}

#[test]
fn a_dropped_stream_sends_what_was_written_and_ends_in_order() {
    let device = device();
    let (mut ours, mut theirs) = pair(&device);
    let all: Vec<u8> = (0..2_000_000_u32).map(|i| (i / 7) as u8).collect();
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        // Something it never reads must not make a reset of the end.
        theirs.write_all(b"unread").expect("writes");
        theirs.read_to_end(&mut got).map(|_| got)
    });
    ours.write_all(&all).expect("writes");
    drop(ours);
    let got = reader.join().expect("ends").expect("no reset");
    assert!(got == all, "{} of {} bytes", got.len(), all.len());
    // Those of other tests too: each has half a minute.
    assert!(wait_ended(Duration::from_secs(40)));
    assert!(device.sockets().expect("a list").is_empty());
}

// Wine's own sockets end in order where a linger of no time means a reset.
#[cfg(unix)]
#[test]
fn an_abort_is_a_reset_for_the_peer() {
    let device = device();
    let (mut ours, mut theirs) = pair(&device);
    ours.write_all(b"x").expect("writes");
    ours.flush().expect("sent");
    ours.abort().expect("aborts");
    let mut buf = Vec::new();
    let error = theirs.read_to_end(&mut buf).expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(
        kind(ours.read(&mut [0; 1]).expect_err("gone")),
        ErrorKind::Aborted
    );
    assert_eq!(
        kind(
            ours.write(b"x")
                .and_then(|_| ours.flush())
                .expect_err("gone")
        ),
        ErrorKind::Aborted
    );
}

// Wine's own sockets end in order where a linger of no time means a reset.
#[cfg(unix)]
#[test]
fn a_reset_by_the_peer_is_told_as_one() {
    let device = device();
    let (mut ours, theirs) = pair(&device);
    socket2::SockRef::from(&theirs)
        .set_linger(Some(Duration::ZERO))
        .expect("set");
    drop(theirs);
    assert_eq!(
        kind(ours.read(&mut [0; 1]).expect_err("reset")),
        ErrorKind::Reset
    );
}

#[test]
fn a_reader_and_a_writer_share_a_stream() {
    let device = device();
    let (ours, theirs) = pair(&device);
    let echo = thread::spawn(move || {
        let (mut from, mut to) = (&theirs, &theirs);
        io::copy(&mut from, &mut to).expect("copies");
        theirs.shutdown(host::Shutdown::Write).expect("ends");
    });
    let all: Vec<u8> = (0..1_000_000_u32).map(|i| (i * 7) as u8).collect();
    let (writer, sent) = (ours.try_clone(), all.clone());
    let writer = thread::spawn(move || {
        (&writer).write_all(&sent).expect("writes");
        writer.shutdown().expect("ends");
    });
    let mut got = Vec::new();
    (&ours).read_to_end(&mut got).expect("reads");
    writer.join().expect("ends");
    echo.join().expect("ends");
    assert!(got == all);
}

#[test]
fn listeners_accept_and_lose_no_connection() {
    for flags in [SocketFlags::empty(), SocketFlags::ACCEPT_BY_REQUEST] {
        accepts_and_loses_none(flags);
    }
}

fn accepts_and_loses_none(flags: SocketFlags) {
    let device = device();
    let options = OpenOptions {
        flags,
        ..OpenOptions::default()
    };
    let listener = TcpListener::bind_with(&device, addr(LOCAL), &options).expect("listens");
    let at = listener.local_addr();
    assert_ne!(at.port(), 0);
    let none = listener.accept_within(Some(Duration::from_millis(20)));
    assert!(none.expect("no error").is_none());
    // This one goes to the accept that was given up and started again.
    let mut theirs = host::TcpStream::connect(at).expect("connects");
    let (mut ours, peer) = listener.accept().expect("accepts");
    assert_eq!(peer, theirs.local_addr().expect("bound"));
    assert_eq!(ours.peer_addr().expect("a peer"), peer);
    theirs.write_all(b"hi").expect("writes");
    let mut buf = [0; 2];
    ours.read_exact(&mut buf).expect("reads");
    assert_eq!(&buf, b"hi");
    let other = TcpListener::bind(&device, at).expect_err("taken");
    assert_eq!(kind(other), ErrorKind::AddressInUse);
    drop(listener);
    // Wine closes the host's own listener when its last poll has ended.
    let until = Instant::now() + SOON;
    let refused = loop {
        match host::TcpStream::connect(at) {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < until, "it listens still"),
        }
    };
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn what_cannot_be_is_told_by_kind() {
    let device = device();
    let free = host::TcpListener::bind(LOCAL).expect("binds");
    let nobody = free.local_addr().expect("bound");
    drop(free);
    let refused = TcpStream::connect(&device, nobody).expect_err("nobody");
    assert!(
        refused
            .to_string()
            .starts_with(&format!("connecting to {nobody}: "))
    );
    assert_eq!(kind(refused), ErrorKind::Refused);
    let foreign = TcpListener::bind(&device, addr("192.0.2.1:0")).expect_err("not ours");
    assert_eq!(kind(foreign), ErrorKind::AddressNotAvailable);
    let group = TcpListener::bind(&device, addr("224.0.0.1:80")).expect_err("multicast");
    assert_eq!(kind(group), ErrorKind::InvalidInput);
    let zero = TcpStream::connect(&device, addr("127.0.0.1:0")).expect_err("port 0");
    assert_eq!(kind(zero), ErrorKind::InvalidInput);
    let many = OpenOptions {
        backlog: 1 << 20,
        ..OpenOptions::default()
    };
    let many = TcpListener::bind_with(&device, addr(LOCAL), &many).expect_err("backlog");
    assert_eq!(kind(many), ErrorKind::InvalidInput);
    let udp = UdpSocket::bind(&device, addr(LOCAL)).expect("binds");
    let group = udp.join("10.0.0.1".parse().expect("an address"), 0);
    assert_eq!(kind(group.expect_err("no group")), ErrorKind::InvalidInput);
    let long = udp.send_to(&vec![0; 65_528], nobody).expect_err("too long");
    assert_eq!(kind(long), ErrorKind::InvalidInput);
    let nowhere = udp.send(b"x").expect_err("not connected");
    assert_eq!(kind(nowhere), ErrorKind::NotConnected);
    let nodelay = udp.socket().set(SocketSetting::NoDelay(true));
    assert_eq!(kind(nodelay.expect_err("TCP's")), ErrorKind::Unsupported);
    for name in ["", "a\u{7}b", &"x".repeat(256)] {
        let error = device.resolve(name, 1, None).expect_err("no name");
        assert_eq!(kind(error), ErrorKind::InvalidInput);
    }
    let error = device
        .resolve("nothing.invalid", 1, None)
        .expect_err("no such");
    assert_eq!(kind(error), ErrorKind::NotFound);
    // None of these left a socket but the one that is there.
    let left: Vec<_> = device
        .sockets()
        .expect("a list")
        .iter()
        .map(|s| s.kind)
        .collect();
    assert_eq!(left, [SocketKind::Udp]);
}

#[test]
fn a_connect_that_is_given_up_leaves_nothing() {
    let driver = FakeDriver::default();
    let device = Device::connect(Arc::new(driver.clone())).expect("opens");
    // A listener whose queue is full doesn't answer.
    let full =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    full.bind(&addr(LOCAL).into()).expect("binds");
    full.listen(0).expect("listens");
    let at = full.local_addr().expect("bound").as_socket().expect("IP");
    let mut there = Vec::new();
    let error = loop {
        let wait = Some(Duration::from_millis(150));
        match TcpStream::connect_with(&device, at, &OpenOptions::default(), wait) {
            Ok(stream) => there.push(stream),
            Err(error) => break error,
        }
        assert!(there.len() < 64, "the queue is never full");
    };
    assert_eq!(kind(error), ErrorKind::TimedOut);
    assert_eq!(device.sockets().expect("a list").len(), there.len());
    assert_eq!(driver.handles() as usize, 1 + there.len());
    drop(full);
}

#[test]
fn options_are_set_and_read() {
    let device = device();
    let (ours, _theirs) = pair(&device);
    assert!(!ours.nodelay().expect("read"));
    ours.set_nodelay(true).expect("set");
    assert!(ours.nodelay().expect("read"));
    ours.set_keepalive(true).expect("set");
    assert_eq!(ours.socket().get(SocketOption::KeepAlive).expect("read"), 1);
    ours.socket().set(SocketSetting::Ttl(9)).expect("set");
    assert_eq!(ours.socket().get(SocketOption::Ttl).expect("read"), 9);
    let error = ours
        .socket()
        .set(SocketSetting::Ttl(0))
        .expect_err("no hops");
    assert_eq!(kind(error), ErrorKind::InvalidInput);
    let options = OpenOptions {
        flags: SocketFlags::NO_DELAY,
        ..OpenOptions::default()
    };
    let to = ours.local_addr();
    let other = TcpStream::connect_with(&device, to, &options, None);
    assert_eq!(
        kind(other.expect_err("a stream's port")),
        ErrorKind::Refused
    );
}

#[test]
fn datagrams_keep_their_bounds_and_their_senders() {
    let device = device();
    let ours = UdpSocket::bind(&device, addr(LOCAL)).expect("binds");
    ours.set_read_timeout(Some(SOON));
    let theirs = host::UdpSocket::bind(LOCAL).expect("binds");
    theirs.set_read_timeout(Some(SOON)).expect("set");
    let from = theirs.local_addr().expect("bound");
    for len in [0, 1, 1400, 60_000] {
        theirs
            .send_to(&vec![len as u8; len], ours.local_addr())
            .expect("sends");
        let mut buf = vec![0; 65_535];
        let got = ours.recv_from(&mut buf).expect("receives");
        assert_eq!(
            (got.len, got.from, got.flags),
            (len, from, DatagramFlags::empty())
        );
        assert!(buf[..len].iter().all(|b| *b == len as u8));
        assert_eq!(ours.send_to(&buf[..len], from).expect("sends"), len);
        assert_eq!(theirs.recv(&mut buf).expect("receives"), len);
    }
    theirs
        .send_to(b"too long for it", ours.local_addr())
        .expect("sends");
    let mut short = [0; 3];
    let got = ours.recv_from(&mut short).expect("receives");
    assert_eq!((&short, got.len), (b"too", 3));
    assert!(got.flags.contains(DatagramFlags::TRUNCATED));
    ours.set_read_timeout(Some(Duration::from_millis(20)));
    assert_eq!(
        kind(ours.recv_from(&mut short).expect_err("none")),
        ErrorKind::TimedOut
    );
    theirs.send_to(b"now", ours.local_addr()).expect("sends");
    ours.set_read_timeout(Some(SOON));
    assert_eq!(ours.recv_from(&mut short).expect("the next").len, 3);
}

#[test]
fn a_connected_udp_socket_hears_its_peer_alone() {
    let device = device();
    let theirs = host::UdpSocket::bind(LOCAL).expect("binds");
    let peer = theirs.local_addr().expect("bound");
    let ours = UdpSocket::connect(&device, peer, &OpenOptions::default()).expect("connects");
    ours.set_read_timeout(Some(SOON));
    assert_eq!(ours.socket().peer_addr(), Some(peer));
    ours.send(b"hello").expect("sends");
    let other = host::UdpSocket::bind(LOCAL).expect("binds");
    other.send_to(b"no", ours.local_addr()).expect("sends");
    theirs.send_to(b"yes", ours.local_addr()).expect("sends");
    let mut buf = [0; 9];
    let got = ours.recv_from(&mut buf).expect("receives");
    assert_eq!((&buf[..got.len], got.from), (&b"yes"[..], peer));
}

#[test]
fn names_are_looked_up() {
    let device = device();
    let found = device.resolve("127.0.0.1", 80, None).expect("an address");
    assert_eq!(found, [addr("127.0.0.1:80")]);
    let found = device.resolve("localhost", 7, Some(weir_abi::IpVersion::V4));
    assert_eq!(found.expect("found"), [addr("127.0.0.1:7")]);
}

#[test]
fn sockets_are_listed_over_several_parts() {
    let device = device();
    let all: Vec<UdpSocket> = (0..600)
        .map(|_| UdpSocket::bind(&device, addr(LOCAL)).expect("binds"))
        .collect();
    let listed: Vec<u64> = device
        .sockets()
        .expect("a list")
        .iter()
        .map(|s| s.id)
        .collect();
    let ids: Vec<u64> = all.iter().map(|s| s.socket().id()).collect();
    assert_eq!(listed, ids);
    drop(all);
    assert!(device.sockets().expect("a list").is_empty());
}

async fn echo(mut stream: aio::TcpStream) -> io::Result<()> {
    let mut buf = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buf).await? {
            0 => return stream.close().await,
            n => stream.write_all(&buf[..n]).await?,
        }
    }
}

#[test]
fn tasks_serve_many_connections() {
    let device = device();
    let pool = ThreadPool::builder().pool_size(2).create().expect("a pool");
    let listener = block_on(aio::TcpListener::bind(&device, addr(LOCAL))).expect("listens");
    let at = listener.local_addr();
    let spawner = pool.clone();
    let server = async move {
        loop {
            let stream = listener.accept().await.expect("accepts");
            spawner
                .spawn(echo(stream).map(|r| r.expect("echoes")))
                .expect("spawns");
        }
    };
    pool.spawn(server).expect("spawns");
    let clients: Vec<_> = (0..50_usize)
        .map(|i| {
            let len = [1, 100, 70_000, 300_000][i % 4];
            thread::spawn(move || {
                let mut stream = host::TcpStream::connect(at).expect("connects");
                stream.set_read_timeout(Some(SOON)).expect("set");
                let all: Vec<u8> = (0..len).map(|n| (n * i) as u8).collect();
                let (mut writer, sent) = (stream.try_clone().expect("clones"), all.clone());
                let writer = thread::spawn(move || {
                    writer.write_all(&sent).expect("writes");
                    writer.shutdown(host::Shutdown::Write).expect("ends");
                });
                let mut got = Vec::new();
                stream.read_to_end(&mut got).expect("reads");
                writer.join().expect("ends");
                assert!(got == all, "client {i}");
            })
        })
        .collect();
    for client in clients {
        client.join().expect("good");
    }
}

#[test]
fn a_dropped_future_loses_nothing() {
    let device = device();
    let (ours, mut theirs) = pair(&device);
    let mut ours = ours.into_async();
    let mut buf = [0; 8];
    for round in 0..50_u8 {
        // Starts a read, and goes.
        assert!(ours.read(&mut buf).now_or_never().is_none());
        theirs.write_all(&[round, round]).expect("writes");
        let n = block_on(ours.read(&mut buf[..1])).expect("reads");
        assert_eq!((n, buf[0]), (1, round));
        let n = block_on(ours.read(&mut buf)).expect("reads");
        assert_eq!((n, buf[0]), (1, round));
    }
    // What is outstanding is for the blocking type, too.
    assert!(ours.read(&mut buf).now_or_never().is_none());
    let mut ours = ours.into_blocking();
    theirs.write_all(b"x").expect("writes");
    ours.set_read_timeout(Some(SOON));
    assert_eq!(ours.read(&mut buf).expect("reads"), 1);
}

#[test]
fn a_dropped_accept_loses_no_connection() {
    let device = device();
    let listener = block_on(aio::TcpListener::bind(&device, addr(LOCAL))).expect("listens");
    assert!(listener.accept().now_or_never().is_none());
    let theirs = host::TcpStream::connect(listener.local_addr()).expect("connects");
    let until = Instant::now() + SOON;
    let ours = loop {
        if let Some(accepted) = listener.accept().now_or_never() {
            break accepted.expect("accepts");
        }
        assert!(Instant::now() < until, "nobody came");
        thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(ours.peer_addr(), theirs.local_addr().ok());
}

#[test]
fn a_dropped_connect_is_cancelled() {
    let driver = FakeDriver::default();
    let device = Device::connect(Arc::new(driver.clone())).expect("opens");
    let listener = host::TcpListener::bind(LOCAL).expect("binds");
    let at = listener.local_addr().expect("bound");
    // Whether it was there already or not: nothing stays.
    drop(aio::TcpStream::connect(&device, at).now_or_never());
    drop(listener);
    let until = Instant::now() + SOON;
    while driver.handles() > 1 || !device.sockets().expect("a list").is_empty() {
        assert!(Instant::now() < until, "a socket stays");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn tasks_exchange_datagrams() {
    let device = device();
    let options = OpenOptions::default();
    let done = async {
        let one = aio::UdpSocket::bind(&device, addr(LOCAL), &options).await?;
        let two = aio::UdpSocket::connect(&device, one.local_addr(), &options).await?;
        two.send(b"ping").await?;
        let mut buf = [0; 16];
        let got = one.recv_from(&mut buf).await?;
        assert_eq!(
            (&buf[..got.len], got.from),
            (&b"ping"[..], two.local_addr())
        );
        one.send_to(b"pong", got.from).await?;
        let got = two.recv_from(&mut buf).await?;
        assert_eq!(&buf[..got.len], b"pong");
        Ok::<_, Error>(())
    };
    block_on(done).expect("exchanged");
}
