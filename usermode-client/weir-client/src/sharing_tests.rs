//! Sockets that several threads and tasks have at once, and waits that are given
//! up: nothing is lost, and nobody waits for another.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{self as host, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::executor::block_on;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fake::FakeDriver;
use crate::net::{OpenOptions, TcpListener, TcpStream, UdpSocket};
use crate::{Device, Error, ErrorKind, aio};

const SOON: Duration = Duration::from_secs(20);

fn local() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

fn device() -> Device {
    Device::connect(Arc::new(FakeDriver::default())).expect("opens")
}

fn pair(device: &Device) -> (TcpStream, host::TcpStream) {
    let listener = host::TcpListener::bind(local()).expect("binds");
    let at = listener.local_addr().expect("bound");
    let ours = TcpStream::connect(device, at).expect("connects");
    let (theirs, _) = listener.accept().expect("accepts");
    theirs.set_read_timeout(Some(SOON)).expect("set");
    (ours, theirs)
}

fn kind(error: std::io::Error) -> ErrorKind {
    Error::from_io(error).expect("one of ours").kind()
}

/// Waits until a thread sleeps in what it was started for.
fn settle() {
    thread::sleep(Duration::from_millis(50));
}

#[test]
fn a_connection_for_who_gave_up_goes_to_who_waits() {
    let device = device();
    let listener = Arc::new(TcpListener::bind(&device, local()).expect("listens"));
    let tasks = block_on(aio::TcpListener::bind(&device, local())).expect("listens");
    let at = tasks.local_addr();
    // The first in the queue, which the connection comes to.
    let mut first = Box::pin(tasks.accept());
    assert!(first.as_mut().now_or_never().is_none());
    thread::scope(|scope| {
        let second = scope.spawn(|| block_on(tasks.accept()));
        settle();
        let theirs = host::TcpStream::connect(at).expect("connects");
        settle();
        assert!(!second.is_finished(), "it came to the first");
        drop(first);
        let ours = second.join().expect("ends").expect("accepts");
        assert_eq!(ours.peer_addr(), theirs.local_addr().ok());
    });
    // Of threads, as well.
    let waits = Arc::clone(&listener);
    let waits = thread::spawn(move || waits.accept());
    settle();
    let given_up = listener.accept_within(Some(Duration::from_millis(10)));
    assert!(given_up.expect("no error").is_none());
    for _ in 0..2 {
        let theirs = host::TcpStream::connect(listener.local_addr()).expect("connects");
        drop(theirs);
    }
    waits.join().expect("ends").expect("the one");
    listener.accept().expect("the other");
}

#[test]
fn a_connection_nobody_took_is_closed_with_its_listener() {
    let driver = FakeDriver::default();
    let device = Device::connect(Arc::new(driver.clone())).expect("opens");
    let listener = TcpListener::bind(&device, local()).expect("listens");
    let none = listener.accept_within(Some(Duration::ZERO));
    assert!(none.expect("no error").is_none());
    let mut theirs = host::TcpStream::connect(listener.local_addr()).expect("connects");
    theirs.set_read_timeout(Some(SOON)).expect("set");
    let until = Instant::now() + SOON;
    while device.sockets().expect("a list").len() < 2 {
        assert!(Instant::now() < until, "it isn't accepted");
        thread::sleep(Duration::from_millis(1));
    }
    drop(listener);
    // A reset, or where the host knows none, an end.
    match theirs.read(&mut [0; 1]) {
        Ok(n) => assert_eq!(n, 0),
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset),
    }
    assert!(device.sockets().expect("a list").is_empty());
    assert_eq!(driver.handles(), 1);
}

#[test]
fn accepts_that_are_given_up_at_any_time_lose_no_connection() {
    const CLIENTS: u32 = 400;
    let device = device();
    let listener = TcpListener::bind(&device, local()).expect("listens");
    let at = listener.local_addr();
    let served = Mutex::new(BTreeSet::new());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for n in 0..4_u64 {
            let (listener, served, done) = (&listener, &served, &done);
            scope.spawn(move || {
                let mut round = n;
                while !done.load(Ordering::Relaxed) {
                    round = round
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let wait = Duration::from_micros(round >> 54);
                    let accepted = listener.accept_within(Some(wait)).expect("no error");
                    let Some((mut stream, _)) = accepted else {
                        continue;
                    };
                    let mut number = [0; 4];
                    stream.read_exact(&mut number).expect("reads");
                    let new = served
                        .lock()
                        .expect("whole")
                        .insert(u32::from_le_bytes(number));
                    assert!(new, "once each");
                }
            });
        }
        for i in 0..CLIENTS {
            let mut theirs = host::TcpStream::connect(at).expect("connects");
            theirs.write_all(&i.to_le_bytes()).expect("writes");
        }
        let until = Instant::now() + SOON;
        while served.lock().expect("whole").len() < CLIENTS as usize {
            let late = Instant::now() >= until;
            if late {
                done.store(true, Ordering::Relaxed);
            }
            assert!(!late, "{} served", served.lock().expect("whole").len());
            thread::sleep(Duration::from_millis(2));
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn datagrams_come_to_one_each_of_many_that_wait() {
    const DATAGRAMS: u32 = 300;
    let device = device();
    let socket = UdpSocket::bind(&device, local()).expect("binds");
    socket.set_read_timeout(Some(Duration::from_millis(3)));
    let tasks = socket.clone().into_async();
    let at = socket.local_addr();
    let got = Mutex::new(Vec::new());
    let all = || got.lock().expect("whole").len() >= DATAGRAMS as usize;
    let take = |bytes: &[u8]| {
        let number = bytes
            .try_into()
            .map(u32::from_le_bytes)
            .expect("four bytes");
        got.lock().expect("whole").push(number);
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut buf = [0; 8];
                while !all() {
                    match socket.recv_from(&mut buf) {
                        Ok(there) => take(&buf[..there.len]),
                        Err(e) => assert_eq!(e.kind(), ErrorKind::TimedOut),
                    }
                }
            });
            scope.spawn(|| {
                let mut buf = [0; 8];
                while !all() {
                    // Each starts a read or waits for another's, and goes.
                    if let Some(there) = tasks.recv_from(&mut buf).now_or_never() {
                        take(&buf[..there.expect("receives").len]);
                    }
                    thread::yield_now();
                }
            });
        }
        let theirs = host::UdpSocket::bind(local()).expect("binds");
        let until = Instant::now() + SOON;
        for i in 0..DATAGRAMS {
            theirs.send_to(&i.to_le_bytes(), at).expect("sends");
            // A host's queue is short.
            while got.lock().expect("whole").len() + 50 < i as usize {
                assert!(Instant::now() < until, "they don't come");
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let mut got = got.into_inner().expect("whole");
    got.sort_unstable();
    assert_eq!(got, (0..DATAGRAMS).collect::<Vec<_>>());
}

#[test]
fn two_tasks_that_wait_for_datagrams_get_one_each() {
    let device = device();
    let socket = UdpSocket::bind(&device, local()).expect("binds");
    let (at, socket) = (socket.local_addr(), socket.into_async());
    let theirs = host::UdpSocket::bind(local()).expect("binds");
    let both: Vec<_> = (0..2)
        .map(|_| {
            let socket = socket.clone();
            thread::spawn(move || block_on(socket.recv_from(&mut [0; 8])))
        })
        .collect();
    settle();
    for _ in 0..2 {
        theirs.send_to(b"x", at).expect("sends");
    }
    for waits in both {
        assert_eq!(waits.join().expect("ends").expect("receives").len, 1);
    }
}

#[test]
fn who_reads_without_a_limit_holds_up_no_other() {
    let device = device();
    let (ours, mut theirs) = pair(&device);
    let patient = ours.clone();
    let patient = thread::spawn(move || (&patient).read(&mut [0; 1]));
    settle();
    // A task is not held up by a thread that waits.
    let before = Instant::now();
    let mut task = ours.clone().into_async();
    assert!(task.read(&mut [0; 1]).now_or_never().is_none());
    // A thread that waits less long is late alone.
    let limited = ours.clone().into_async().into_blocking();
    limited.set_read_timeout(Some(Duration::from_millis(20)));
    let late = (&limited).read(&mut [0; 1]).expect_err("nothing comes");
    assert_eq!(kind(late), ErrorKind::TimedOut);
    assert!(before.elapsed() < SOON);
    // One byte for each that waits.
    theirs.write_all(b"ab").expect("writes");
    assert_eq!(patient.join().expect("ends").expect("reads"), 1);
    assert_eq!(block_on(task.read(&mut [0; 1])).expect("reads"), 1);
}

#[test]
fn a_writer_that_waits_for_room_holds_up_no_other_and_an_abort_frees_it() {
    let device = device();
    let (ours, theirs) = pair(&device);
    let writer = ours.clone();
    let writer = thread::spawn(move || {
        let chunk = vec![7; 65_536];
        loop {
            if let Err(error) = (&writer).write_all(&chunk) {
                return error;
            }
        }
    });
    // Until the peer's side and the window are full.
    let queued = || ours.socket().info().expect("information").queued;
    let until = Instant::now() + SOON;
    let mut last = 0;
    while queued() == 0 || queued() != std::mem::replace(&mut last, queued()) {
        assert!(Instant::now() < until, "there is no end to what is taken");
        settle();
    }
    let limited = ours.clone().into_async().into_blocking();
    limited.set_write_timeout(Some(Duration::from_millis(50)));
    let before = Instant::now();
    assert_eq!(
        limited.shutdown().expect_err("not taken").kind(),
        ErrorKind::TimedOut
    );
    assert!(
        (&ours.clone().into_async())
            .flush()
            .now_or_never()
            .is_none()
    );
    assert!(before.elapsed() < SOON, "nor is a task held up");
    ours.abort().expect("aborts");
    let error = writer.join().expect("ends");
    assert_eq!(kind(error), ErrorKind::Aborted);
    drop(theirs);
}

#[test]
fn an_abort_of_a_task_does_not_wait_and_ends_what_does() {
    let device = device();
    let (ours, mut theirs) = pair(&device);
    let mut ours = ours.into_async();
    let other = ours.clone();
    let reader = thread::spawn(move || block_on((&mut &other).read(&mut [0; 1])));
    settle();
    ours.abort().expect("aborts");
    let error = reader.join().expect("ends").expect_err("aborted");
    assert_eq!(kind(error), ErrorKind::Aborted);
    let error = block_on(ours.read(&mut [0; 1])).expect_err("aborted");
    assert_eq!(kind(error), ErrorKind::Aborted);
    // A reset, or where the host knows none, an end.
    assert!(matches!(theirs.read(&mut [0; 1]), Ok(0) | Err(_)));
}

#[test]
fn a_shutdown_that_is_given_up_is_done_later_and_once() {
    let device = device();
    let (ours, mut theirs) = pair(&device);
    ours.set_write_timeout(Some(Duration::from_millis(30)));
    let mut taken = 0;
    while let Ok(n) = (&ours).write(&[1; 60_000]) {
        taken += n;
    }
    let late = ours.shutdown().expect_err("the peer doesn't read");
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).map(|_| all.len())
    });
    ours.set_write_timeout(Some(SOON));
    ours.shutdown().expect("it is read now");
    ours.shutdown().expect("nothing is left to do");
    block_on((&ours.clone().into_async()).close()).expect("nor here");
    assert_eq!(reader.join().expect("ends").expect("reads"), taken);
    let error = (&ours).write(b"x").expect_err("shut");
    assert_eq!(kind(error), ErrorKind::BrokenPipe);
}

#[test]
fn sends_beyond_the_drivers_room_wait_for_it() {
    const ALL: u32 = 200;
    let driver = FakeDriver::default();
    let device = Device::connect(Arc::new(driver.clone())).expect("opens");
    let socket = UdpSocket::bind(&device, local()).expect("binds");
    let tasks = socket.clone().into_async();
    let theirs = host::UdpSocket::bind(local()).expect("binds");
    theirs.set_read_timeout(Some(SOON)).expect("set");
    let to = theirs.local_addr().expect("bound");
    let mut got = Vec::new();
    let mut receive = |n: u32| {
        for _ in 0..n {
            let mut buf = [0; 4];
            assert_eq!(theirs.recv(&mut buf).expect("a datagram"), 4);
            got.push(u32::from_le_bytes(buf));
        }
    };
    driver.hold_writes(true);
    // Some are started, and nobody waits for their ends.
    for n in 0..40_u32 {
        assert!(tasks.send_to(&n.to_le_bytes(), to).now_or_never().is_none());
    }
    let numbers: Vec<[u8; 4]> = (40..ALL).map(u32::to_le_bytes).collect();
    let sends = numbers.iter().map(|bytes| tasks.send_to(bytes, to));
    let mut sends = Box::pin(futures::future::try_join_all(sends));
    assert!(sends.as_mut().now_or_never().is_none());
    let most = crate::abi::limits::MAX_SOCKET_WRITES;
    let info = socket.socket().info().expect("information");
    assert_eq!(info.pending_writes, most);
    // One of those that wait is given up, and takes nobody's turn.
    assert!(tasks.send_to(b"lost", to).now_or_never().is_none());
    driver.hold_writes(false);
    receive(most);
    let sent = block_on(sends).expect("sent");
    assert_eq!(sent.len(), numbers.len());
    receive(ALL - most);
    got.sort_unstable();
    assert_eq!(got, (0..ALL).collect::<Vec<_>>());
    drop(device);
}

#[test]
fn a_send_that_waits_alone_is_woken_by_the_ends_of_the_others() {
    let driver = FakeDriver::default();
    let device = Device::connect(Arc::new(driver.clone())).expect("opens");
    let socket = block_on(aio::UdpSocket::bind(
        &device,
        local(),
        &OpenOptions::default(),
    ));
    let socket = socket.expect("binds");
    let theirs = host::UdpSocket::bind(local()).expect("binds");
    theirs.set_read_timeout(Some(SOON)).expect("set");
    let to = theirs.local_addr().expect("bound");
    driver.hold_writes(true);
    // All the driver has room for: some whose futures are kept, and asked no more.
    let most = crate::abi::limits::MAX_SOCKET_WRITES;
    let mut kept: Vec<_> = (0..most)
        .map(|_| Box::pin(socket.send_to(b"1", to)))
        .collect();
    for send in &mut kept {
        assert!(send.as_mut().now_or_never().is_none());
    }
    let alone = socket.clone();
    let alone = thread::spawn(move || block_on(alone.send_to(b"2", to)));
    settle();
    assert!(!alone.is_finished(), "there is no room for it");
    driver.hold_writes(false);
    assert_eq!(alone.join().expect("ends").expect("sent"), 1);
    for _ in 0..=most {
        assert_eq!(theirs.recv(&mut [0; 4]).expect("a datagram"), 1);
    }
    for send in kept {
        assert_eq!(block_on(send).expect("sent"), 1);
    }
    // And all the room is there again.
    driver.hold_writes(true);
    for _ in 0..most {
        assert!(socket.send_to(b"3", to).now_or_never().is_none());
    }
    driver.hold_writes(false);
    for _ in 0..most {
        assert_eq!(theirs.recv(&mut [0; 4]).expect("a datagram"), 1);
    }
}

#[test]
fn sockets_and_their_futures_go_to_any_thread() {
    fn any<T: Send + Sync + Unpin>() {}
    fn sent<T: Send>(_: &T) {}
    any::<aio::TcpStream>();
    any::<aio::TcpListener>();
    any::<aio::UdpSocket>();
    any::<TcpStream>();
    any::<TcpListener>();
    any::<UdpSocket>();
    let device = device();
    let socket = UdpSocket::bind(&device, local()).expect("binds");
    let tasks = socket.into_async();
    let mut buf = [0; 1];
    sent(&tasks.recv_from(&mut buf));
    sent(&tasks.send_to(b"x", local()));
    sent(&aio::TcpStream::connect(&device, local()));
    let listener = block_on(aio::TcpListener::bind(&device, local())).expect("listens");
    sent(&listener.accept());
}
