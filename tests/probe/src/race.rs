//! What sockets do when things race.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use weir_abi::{SocketFlags, SocketKind, status};

use crate::io::{Call, Canceller, Handle, name};
use crate::socket::{Socket, open_request, send};

/// A number that looks like none in particular (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn spin(turns: u64) {
    for _ in 0..turns {
        std::hint::spin_loop();
    }
}

/// Reads cancelled while their byte is on its way: each ends once, and no byte is
/// lost or comes twice.
pub(crate) fn cancel_reads(rounds: usize) {
    let (near, far) = Socket::pair();
    let (canceller, cancels) = std::sync::mpsc::channel::<(Canceller, u64)>();
    let (reads, cancelled) = std::thread::scope(|scope| {
        scope.spawn(move || {
            for (call, turns) in cancels {
                spin(turns);
                call.cancel();
            }
        });
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let (mut next, mut cancelled) = (0u8, 0usize);
        for round in 0..rounds {
            let expected = next;
            let mut read = near.read(8);
            // The byte comes in this read or, if that is cancelled before, in a
            // later one.
            canceller
                .send((read.canceller(), dice.roll(60_000)))
                .expect("the other thread");
            spin(dice.roll(30_000));
            let write = far.write(&[round as u8]);
            loop {
                let ended = read.wait();
                match ended.status {
                    status::SUCCESS => {
                        assert_eq!(ended.bytes, [expected], "round {round}");
                        next = next.wrapping_add(1);
                        break;
                    }
                    status::CANCELLED => {
                        assert_eq!(ended.length, 0, "a cancelled read has no bytes");
                        cancelled += 1;
                        read = near.read(8);
                    }
                    other => panic!("round {round}: {}", name(other)),
                }
            }
            assert_eq!(write.wait().length, 1);
        }
        drop(canceller);
        (rounds, cancelled)
    });
    let info = near.info();
    assert_eq!(info.bytes_in, rounds as u64, "every byte, once");
    assert_eq!((info.pending_reads, info.status), (0, 0));
    println!("{{\"reads\":{reads},\"cancelled\":{cancelled}}}");
    assert!(
        cancelled > 0 || rounds < 100,
        "none was ever cancelled: no race"
    );
}

/// Accepts cancelled while a connection is on its way: the connection is the
/// accept's, or the next one's. From the driver's backlog, or by request from the
/// transport's.
pub(crate) fn cancel_accepts(rounds: usize, by_request: bool) {
    let listener = if by_request {
        crate::asked::listen("127.0.0.1:0", SocketFlags::empty())
    } else {
        Socket::listen("127.0.0.1:0", 16)
    };
    let mut dice = Dice(7);
    let (mut taken, mut cancelled) = (0, 0);
    for _ in 0..rounds {
        let handle = Handle::open();
        let accept = listener.start_accept(&handle);
        let canceller = accept.canceller();
        let near = Handle::open();
        let request = open_request(SocketKind::TcpStream, None, Some(listener.local));
        let connect = send(&near, &request);
        spin(dice.roll(20_000));
        canceller.cancel();
        let near = Socket::opened(&near, connect.wait());
        let ended = accept.wait();
        let far = match ended.status {
            status::SUCCESS => {
                taken += 1;
                Socket::opened(&handle, ended)
            }
            status::CANCELLED => {
                cancelled += 1;
                // The handle is as it was: it may ask again.
                let ended = listener.start_accept(&handle).wait();
                Socket::opened(&handle, ended)
            }
            other => panic!("{}", name(other)),
        };
        assert_eq!(far.remote, Some(near.local), "the connection it was");
        assert_eq!(near.write(b"x").wait().length, 1);
        assert_eq!(far.read_all(1), b"x");
    }
    println!("{{\"taken\":{taken},\"cancelled\":{cancelled}}}");
}

/// Connects cancelled on their way.
pub(crate) fn cancel_connects(rounds: usize) {
    let listener = Socket::listen("127.0.0.1:0", 64);
    let mut dice = Dice(11);
    let (mut made, mut cancelled) = (0, 0);
    for _ in 0..rounds {
        let handle = Handle::open();
        let request = open_request(SocketKind::TcpStream, None, Some(listener.local));
        let connect = send(&handle, &request);
        spin(dice.roll(20_000));
        connect.cancel();
        let ended = connect.wait();
        match ended.status {
            status::SUCCESS => {
                made += 1;
                let near = Socket::opened(&handle, ended);
                let mut far = listener.accept();
                while far.remote != Some(near.local) {
                    // Of a connect that was cancelled when it was made already.
                    far = listener.accept();
                }
            }
            status::CANCELLED => {
                cancelled += 1;
                let ended = send(&handle, &request).wait();
                let _ = Socket::opened(&handle, ended);
            }
            other => panic!("{}", name(other)),
        }
        while listener.info().queued > 32 {
            drop(listener.accept());
        }
    }
    println!("{{\"made\":{made},\"cancelled\":{cancelled}}}");
}

/// So many sockets with a read each, held until the process is killed.
pub(crate) fn hold(count: usize) {
    let listener = Socket::listen("127.0.0.1:0", 4096);
    let mut held: Vec<(Socket, Call)> = Vec::new();
    while held.len() + 1 < count {
        let near = Socket::connect(listener.local);
        let far = listener.accept();
        for socket in [near, far] {
            let read = socket.read(4096);
            held.push((socket, read));
        }
    }
    println!("holding {}", held.len() + 1);
    loop {
        std::thread::park();
    }
}

/// So many accepts that wait for one listener, until the process is killed.
pub(crate) fn hold_asked(count: usize) {
    let listener = crate::asked::listen("127.0.0.1:0", SocketFlags::empty());
    let held = crate::asked::ask(&listener, u32::try_from(count).expect("a few"));
    println!("holding {} {}", held.len(), listener.local);
    loop {
        std::thread::park();
    }
}

/// A listener that is closed while connections come to accepts that wait: each has
/// one, or is told.
pub(crate) fn close_asked(rounds: usize) {
    let mut dice = Dice(13);
    let (mut taken, mut aborted) = (0, 0);
    for _ in 0..rounds {
        let listener = crate::asked::listen("127.0.0.1:0", SocketFlags::empty());
        let accepts = crate::asked::ask(&listener, 4);
        let request = open_request(SocketKind::TcpStream, None, Some(listener.local));
        let connects: Vec<(Handle, Call)> = (0..4)
            .map(|_| {
                let handle = Handle::open();
                let call = send(&handle, &request);
                (handle, call)
            })
            .collect();
        spin(dice.roll(300_000));
        drop(listener);
        for (handle, call) in accepts {
            let ended = call.wait();
            match ended.status {
                status::SUCCESS => {
                    taken += 1;
                    let far = Socket::opened(&handle, ended);
                    // It is a connection like any other.
                    let sent = far.write(b"x").wait();
                    assert_eq!((sent.status, sent.length), (status::SUCCESS, 1));
                }
                status::CONNECTION_ABORTED => aborted += 1,
                other => panic!("{}", name(other)),
            }
        }
        for (_, call) in connects {
            let _ = call.wait();
        }
    }
    println!("{{\"taken\":{taken},\"aborted\":{aborted}}}");
}

/// Talks with an echo over several sockets until something fails, as it does when
/// the driver stops.
pub(crate) fn churn(echo: SocketAddr) {
    static STARTED: AtomicBool = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let talk = || {
            let mut rounds = 0u64;
            loop {
                let handle = Handle::open();
                let request = open_request(SocketKind::TcpStream, None, Some(echo));
                let ended = send(&handle, &request).wait();
                if ended.status != 0 {
                    return (rounds, ended.status);
                }
                let socket = Socket::opened(&handle, ended);
                for _ in 0..50 {
                    let writes: Vec<Call> = (0..4).map(|_| socket.write(&[3; 1000])).collect();
                    let mut left = 4000;
                    while left > 0 {
                        let ended = socket.read(left).wait();
                        if ended.status != 0 || ended.length == 0 {
                            return (rounds, ended.status);
                        }
                        left -= ended.length;
                    }
                    drop(writes);
                    rounds += 1;
                    if rounds == 20 && !STARTED.swap(true, Ordering::Relaxed) {
                        println!("talking");
                    }
                }
            }
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(talk)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect::<Vec<_>>()
    });
    for (rounds, status) in rounds {
        println!("{rounds} rounds, then {}", name(status));
    }
}
