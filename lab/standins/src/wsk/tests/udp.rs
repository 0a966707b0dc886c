//! UDP: sending, receiving, fixed addresses, lists of datagrams.

use super::super::status;
use super::*;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicPtr, Ordering};

fn table(socket: *mut WskSocket) -> &'static DatagramDispatch {
    table_of(socket)
}

fn bound(
    client: &Client,
    v6: bool,
    context: *mut c_void,
    dispatch: *const c_void,
) -> (*mut WskSocket, SocketAddr) {
    let socket = client.socket(v6, WSK_FLAG_DATAGRAM_SOCKET, context, dispatch);
    let table = table(socket);
    match bind_with(table.bind, table.get_local_address, socket, loopback(v6)) {
        Ok(address) => (socket, address),
        Err(status) => panic!("bind: {status:#x}"),
    }
}

fn host(v6: bool) -> UdpSocket {
    let host = UdpSocket::bind(loopback(v6)).unwrap_or_else(|e| panic!("{e}"));
    host.set_read_timeout(Some(PATIENCE))
        .unwrap_or_else(|e| panic!("{e}"));
    host
}

struct Received {
    status: NtStatus,
    data: Vec<u8>,
    from: SocketAddr,
    flags: u32,
}

fn receive(socket: *mut WskSocket, room: usize) -> Received {
    let mut memory = Memory::new(&vec![0; room]);
    let (mut from, mut length, mut flags) = ([0u8; 28], 77u32, 77u32);
    let (status, bytes) = call(|irp| {
        // SAFETY: WskReceiveFrom as documented; all of it outlives the IRP.
        unsafe {
            (table(socket).receive_from)(
                socket,
                memory.buf(),
                0,
                from.as_mut_ptr().cast(),
                &mut length,
                null_mut(),
                &mut flags,
                irp,
            )
        }
    });
    assert_eq!(length, 0, "no control information");
    Received {
        status,
        data: memory.bytes.iter().take(bytes).copied().collect(),
        from: address(&from),
        flags,
    }
}

fn send(socket: *mut WskSocket, data: &[u8], to: SocketAddr) -> (NtStatus, usize) {
    let mut memory = Memory::new(data);
    let mut to = sockaddr(to);
    call(|irp| {
        // SAFETY: WskSendTo as documented; the memory outlives the IRP.
        unsafe {
            (table(socket).send_to)(
                socket,
                memory.buf(),
                0,
                to.as_mut_ptr().cast(),
                0,
                null_mut(),
                irp,
            )
        }
    })
}

#[test]
fn datagrams_go_and_come_on_both_families() {
    let _alone = alone();
    let client = Client::new();
    for v6 in [false, true] {
        let (socket, at) = bound(&client, v6, null_mut(), null());
        let host = host(v6);
        let own = host.local_addr().unwrap_or(at);
        for size in [0, 1, 1472, 9000] {
            let data: Vec<u8> = (0..size).map(|i| i as u8).collect();
            host.send_to(&data, at).unwrap_or_else(|e| panic!("{e}"));
            let got = receive(socket, 16_000);
            assert_eq!((got.status, got.from, got.flags), (status::SUCCESS, own, 0));
            assert!(got.data == data);
            assert_eq!(send(socket, &data, own), (status::SUCCESS, size));
            let mut back = vec![0; 16_000];
            let (bytes, from) = host.recv_from(&mut back).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(from, at);
            assert!(back.get(..bytes) == Some(&data[..]));
        }
        close(socket);
    }
}

#[test]
fn a_datagram_too_large_for_its_buffer_is_cut_and_said_to_be() {
    let _alone = alone();
    let client = Client::new();
    let (socket, at) = bound(&client, false, null_mut(), null());
    let host = host(false);
    host.send_to(b"0123456789", at)
        .unwrap_or_else(|e| panic!("{e}"));
    let got = receive(socket, 4);
    assert_eq!(got.status, status::BUFFER_OVERFLOW);
    assert_eq!((&got.data[..], got.flags), (&b"0123"[..], MSG_TRUNC));
    close(socket);
}

#[test]
fn a_pending_receive_ends_with_its_socket() {
    let _alone = alone();
    let client = Client::new();
    let (socket, _) = bound(&client, false, null_mut(), null());
    let mut memory = Memory::new(&[0; 64]);
    let request = Request::new();
    // SAFETY: WskReceiveFrom as documented; waited for below.
    unsafe {
        (table(socket).receive_from)(
            socket,
            memory.buf(),
            0,
            null_mut(),
            null_mut(),
            null_mut(),
            null_mut(),
            request.irp(),
        )
    };
    close(socket);
    assert_eq!(request.wait().0, status::CANCELLED);
}

/// What the receive callback got, and the list it kept last.
struct Sink {
    datagrams: Mutex<Vec<Vec<u8>>>,
    changed: Condvar,
    keep: bool,
    kept: AtomicPtr<WskDatagramIndication>,
}

unsafe extern "system" fn receive_from_event(
    context: *mut c_void,
    _flags: u32,
    list: *mut WskDatagramIndication,
) -> NtStatus {
    // SAFETY: the context is the test's Sink.
    let sink = unsafe { &*context.cast::<Sink>() };
    if !sink.kept.load(Ordering::SeqCst).is_null() {
        return status::DATA_NOT_ACCEPTED;
    }
    let mut now = list;
    // SAFETY: the provider's list, valid during the call at least.
    while let Some(one) = unsafe { now.as_ref() } {
        // SAFETY: an element of the list.
        let data = unsafe { bytes_of(&one.buffer) };
        engine::lock(&sink.datagrams).push(data);
        now = one.next;
    }
    sink.changed.notify_all();
    if sink.keep {
        sink.kept.store(list, Ordering::SeqCst);
        status::PENDING
    } else {
        status::SUCCESS
    }
}

#[test]
fn the_receive_callback_gets_every_datagram() {
    let _alone = alone();
    let client = Client::new();
    for keep in [false, true] {
        let sink = Sink {
            datagrams: Mutex::default(),
            changed: Condvar::new(),
            keep,
            kept: AtomicPtr::new(null_mut()),
        };
        let dispatch = WskClientDatagramDispatch {
            receive_from_event: Some(receive_from_event),
        };
        let context = (&raw const sink).cast_mut().cast();
        let (socket, at) = bound(&client, false, context, (&raw const dispatch).cast());
        let host = host(false);
        assert_eq!(
            super::events(socket, WSK_EVENT_RECEIVE_FROM),
            status::SUCCESS
        );
        let mut wanted = Vec::new();
        for number in 0..40u8 {
            let data = vec![number; usize::from(number) + 1];
            host.send_to(&data, at).unwrap_or_else(|e| panic!("{e}"));
            wanted.push(data);
            let got = engine::lock(&sink.datagrams);
            let enough = |got: &mut Vec<Vec<u8>>| got.len() <= usize::from(number);
            let (guard, timeout) = sink
                .changed
                .wait_timeout_while(got, PATIENCE, enough)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            assert!(!timeout.timed_out(), "datagram {number} was not indicated");
            drop(guard);
            if keep {
                // The callback may still be on its way back.
                let mut list = null_mut::<WskDatagramIndication>();
                while list.is_null() {
                    list = sink.kept.swap(null_mut(), Ordering::SeqCst);
                    std::thread::yield_now();
                }
                // SAFETY: kept by the callback, released once.
                let released = unsafe { (table(socket).release)(socket, list) };
                assert_eq!(released, status::SUCCESS);
            }
        }
        assert!(*engine::lock(&sink.datagrams) == wanted);
        close(socket);
    }
}
