//! Options and I/O controls, control information, lists of datagrams, groups,
//! and names.

use super::super::status;
use super::*;
use crate::nt::irp::IoCancelIrp;
use crate::nt::types::UNICODE_STRING;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use windows_sys::Win32::Networking::WinSock as ws;

fn datagrams(socket: *mut WskSocket) -> &'static DatagramDispatch {
    table_of(socket)
}

fn udp(client: &Client, v6: bool, at: SocketAddr) -> (*mut WskSocket, SocketAddr) {
    let socket = client.socket(v6, WSK_FLAG_DATAGRAM_SOCKET, null_mut(), null());
    let table = datagrams(socket);
    match bind_with(table.bind, table.get_local_address, socket, at) {
        Ok(at) => (socket, at),
        Err(status) => panic!("bind: {status:#x}"),
    }
}

/// WskControlSocket: what came out of it.
fn control(
    socket: *mut WskSocket,
    (request, code, level): (u32, u32, i32),
    input: &[u8],
    room: usize,
) -> Result<Vec<u8>, NtStatus> {
    let (mut input, mut output) = (input.to_vec(), vec![0u8; room]);
    let (status, bytes) = call(|irp| {
        // SAFETY: WskControlSocket as documented; the memory outlives the IRP.
        unsafe {
            (super::basic(socket).control_socket)(
                socket,
                request,
                code,
                level.cast_unsigned(),
                input.len(),
                input.as_mut_ptr().cast(),
                output.len(),
                output.as_mut_ptr().cast(),
                null_mut(),
                irp,
            )
        }
    });
    output.truncate(bytes);
    if status == status::SUCCESS {
        Ok(output)
    } else {
        Err(status)
    }
}

fn get(socket: *mut WskSocket, level: i32, name: i32) -> Result<u32, NtStatus> {
    let value = control(
        socket,
        (WSK_GET_OPTION, name.cast_unsigned(), level),
        &[],
        4,
    )?;
    Ok(u32::from_ne_bytes(value.try_into().unwrap_or_default()))
}

#[test]
fn options_are_set_and_read_back() {
    let _alone = alone();
    let client = Client::new();
    let (v4, _) = udp(&client, false, loopback(false));
    let (v6, _) = udp(&client, true, loopback(true));
    let tcp = client.socket(false, WSK_FLAG_CONNECTION_SOCKET, null_mut(), null());
    let bound = super::stream::bind(tcp);
    assert!(bound.is_ok(), "{bound:?}");
    for (socket, level, name, value) in [
        (v4, ws::IPPROTO_IP, ws::IP_TTL, 9),
        (v4, ws::IPPROTO_IP, ws::IP_MULTICAST_TTL, 3),
        (v4, ws::IPPROTO_IP, ws::IP_MULTICAST_LOOP, 0),
        (v6, ws::IPPROTO_IPV6, ws::IPV6_MULTICAST_LOOP, 0),
        (v4, ws::IPPROTO_IP, ws::IP_DONTFRAGMENT, 1),
        (v4, ws::IPPROTO_IP, ws::IP_PKTINFO, 1),
        (v4, ws::SOL_SOCKET, ws::SO_BROADCAST, 1),
        (v4, ws::SOL_SOCKET, ws::SO_RCVBUF, 70_000),
        (v6, ws::IPPROTO_IPV6, ws::IPV6_UNICAST_HOPS, 8),
        (v6, ws::IPPROTO_IPV6, ws::IPV6_MULTICAST_HOPS, 4),
        (tcp, ws::IPPROTO_TCP, ws::TCP_NODELAY, 1),
        (tcp, ws::SOL_SOCKET, ws::SO_KEEPALIVE, 1),
        (tcp, ws::IPPROTO_TCP, ws::TCP_KEEPIDLE, 17),
        (tcp, ws::IPPROTO_TCP, ws::TCP_KEEPINTVL, 5),
        (tcp, ws::IPPROTO_TCP, ws::TCP_KEEPCNT, 6),
    ] {
        assert_eq!(set_option(socket, level, name, value), status::SUCCESS);
        assert_eq!(get(socket, level, name), Ok(value), "{level} {name}");
    }
    // IPv6 alone unless told otherwise.
    let only = (ws::IPPROTO_IPV6, ws::IPV6_V6ONLY);
    assert_eq!(get(v6, only.0, only.1), Ok(1));
    let mut vals = Vec::new();
    for value in [1u32, 30_000, 2_000] {
        vals.extend(value.to_ne_bytes());
    }
    let set = control(tcp, (WSK_IOCTL, SIO_KEEPALIVE_VALS, 0), &vals, 0);
    assert_eq!(set, Ok(Vec::new()));
    assert_eq!(get(tcp, ws::IPPROTO_TCP, ws::TCP_KEEPIDLE), Ok(30));
    assert_eq!(get(tcp, ws::IPPROTO_TCP, ws::TCP_KEEPINTVL), Ok(2));
    // Not a group.
    let bad = [10, 0, 0, 1, 127, 0, 0, 1];
    let join = (
        WSK_SET_OPTION,
        ws::IP_ADD_MEMBERSHIP.cast_unsigned(),
        ws::IPPROTO_IP,
    );
    assert_eq!(control(v4, join, &bad, 0), Err(status::INVALID_PARAMETER));
    for socket in [v4, v6, tcp] {
        close(socket);
    }
}

#[test]
fn the_hosts_addresses_are_listed_and_their_change_is_waited_for() {
    let _alone = alone();
    let client = Client::new();
    for v6 in [false, true] {
        let (socket, _) = udp(&client, v6, loopback(v6));
        let query = (WSK_IOCTL, SIO_ADDRESS_LIST_QUERY, 0);
        assert_eq!(
            control(socket, query, &[], 4),
            Err(status::BUFFER_TOO_SMALL)
        );
        let list = control(socket, query, &[], 8192).unwrap_or_default();
        let count = list.first().copied().map_or(0, usize::from);
        let (size, head) = (if v6 { 28 } else { 16 }, 8 + count * 16);
        let found = (0..count).any(|number| {
            let at = head + number * 32;
            list.get(at..at + size)
                .is_some_and(|bytes| address(bytes).ip() == loopback(v6).ip())
        });
        assert!(found, "{count} addresses: {list:?}");
        close(socket);
    }
    let (socket, _) = udp(&client, false, loopback(false));
    let change = Request::new();
    // SAFETY: WskControlSocket as documented; waited for below.
    let pending = unsafe {
        (super::basic(socket).control_socket)(
            socket,
            WSK_IOCTL,
            SIO_ADDRESS_LIST_CHANGE,
            0,
            0,
            null_mut(),
            0,
            null_mut(),
            null_mut(),
            change.irp(),
        )
    };
    assert_eq!(pending, status::PENDING);
    // SAFETY: pending, and freed only after its completion.
    unsafe { IoCancelIrp(change.irp()) };
    assert_eq!(change.wait().0, status::CANCELLED);
    close(socket);
}

struct Got {
    data: Vec<u8>,
    control: Vec<u8>,
    flags: u32,
}

fn receive(socket: *mut WskSocket, room: u32) -> Got {
    let mut memory = Memory::new(&[0; 64]);
    let mut info = vec![0u8; 256];
    let (mut length, mut flags) = (room, 0u32);
    let (status, bytes) = call(|irp| {
        // SAFETY: WskReceiveFrom as documented; all of it outlives the IRP.
        unsafe {
            (datagrams(socket).receive_from)(
                socket,
                memory.buf(),
                0,
                null_mut(),
                &mut length,
                info.as_mut_ptr().cast(),
                &mut flags,
                irp,
            )
        }
    });
    assert_eq!(status, status::SUCCESS);
    info.truncate(length as usize);
    Got {
        data: memory.bytes.iter().take(bytes).copied().collect(),
        control: info,
        flags,
    }
}

/// IN_PKTINFO or IN6_PKTINFO of control information: the address.
fn packet_info(control: &[u8]) -> Option<IpAddr> {
    let level = i32::from_ne_bytes(control.get(8..12)?.try_into().ok()?);
    if level == ws::IPPROTO_IP {
        let bytes: [u8; 4] = control.get(16..20)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes).into())
    } else {
        let bytes: [u8; 16] = control.get(16..32)?.try_into().ok()?;
        Some(std::net::Ipv6Addr::from(bytes).into())
    }
}

#[test]
fn control_information_comes_and_goes() {
    let _alone = alone();
    let client = Client::new();
    for v6 in [false, true] {
        let any = if v6 { "[::]:0" } else { "0.0.0.0:0" };
        let (socket, at) = udp(&client, v6, any.parse().unwrap_or(loopback(v6)));
        let (level, name) = if v6 {
            (ws::IPPROTO_IPV6, ws::IPV6_PKTINFO)
        } else {
            (ws::IPPROTO_IP, ws::IP_PKTINFO)
        };
        assert_eq!(set_option(socket, level, name, 1), status::SUCCESS);
        let host = UdpSocket::bind(loopback(v6)).unwrap_or_else(|e| panic!("{e}"));
        let _ = host.set_read_timeout(Some(PATIENCE));
        let to = SocketAddr::new(loopback(v6).ip(), at.port());
        host.send_to(b"in", to).unwrap_or_else(|e| panic!("{e}"));
        let got = receive(socket, 256);
        assert_eq!((&got.data[..], got.flags), (&b"in"[..], 0));
        assert_eq!(packet_info(&got.control), Some(to.ip()));
        // Too little room for it.
        host.send_to(b"in", to).unwrap_or_else(|e| panic!("{e}"));
        let cut = receive(socket, 8);
        assert_eq!((cut.control.len(), cut.flags), (0, MSG_CTRUNC));
        // The same, given to a send, is where it comes from.
        let mut memory = Memory::new(b"out");
        let mut own = sockaddr(host.local_addr().unwrap_or(to));
        let mut control = got.control.clone();
        let sent = call(|irp| {
            // SAFETY: WskSendTo as documented; all of it outlives the IRP.
            unsafe {
                (datagrams(socket).send_to)(
                    socket,
                    memory.buf(),
                    0,
                    own.as_mut_ptr().cast(),
                    control.len() as u32,
                    control.as_mut_ptr().cast(),
                    irp,
                )
            }
        });
        assert_eq!(sent, (status::SUCCESS, 3));
        let (_, from) = host
            .recv_from(&mut [0; 8])
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(from, to);
        close(socket);
    }
}

#[test]
fn groups_are_joined_and_left_and_each_datagram_says_that_it_is_of_one() {
    let _alone = alone();
    let client = Client::new();
    let any = "0.0.0.0:0".parse().unwrap_or(loopback(false));
    let (socket, at) = udp(&client, false, any);
    // 239.7.7.7 on the interface with index 1, the loopback.
    let group = [239, 7, 7, 7, 0, 0, 0, 1];
    for (name, come) in [
        (ws::IP_ADD_MEMBERSHIP, true),
        (ws::IP_DROP_MEMBERSHIP, false),
    ] {
        let set = (WSK_SET_OPTION, name.cast_unsigned(), ws::IPPROTO_IP);
        assert_eq!(control(socket, set, &group, 0), Ok(Vec::new()));
        let interface = (
            WSK_SET_OPTION,
            ws::IP_MULTICAST_IF.cast_unsigned(),
            ws::IPPROTO_IP,
        );
        assert_eq!(control(socket, interface, &[0, 0, 0, 1], 0), Ok(Vec::new()));
        let mut memory = Memory::new(b"to all");
        let mut to = sockaddr(SocketAddr::new(
            Ipv4Addr::new(239, 7, 7, 7).into(),
            at.port(),
        ));
        let sent = call(|irp| {
            // SAFETY: WskSendTo as documented; all of it outlives the IRP.
            unsafe {
                (datagrams(socket).send_to)(
                    socket,
                    memory.buf(),
                    0,
                    to.as_mut_ptr().cast(),
                    0,
                    null_mut(),
                    irp,
                )
            }
        });
        assert_eq!(sent, (status::SUCCESS, 6));
        let (query, none) = (SIO_WSK_QUERY_RECEIVE_BACKLOG, Vec::new());
        std::thread::sleep(Duration::from_millis(50));
        let waiting = control(socket, (WSK_IOCTL, query, 0), &none, 8).unwrap_or_default();
        assert_eq!(waiting.iter().any(|byte| *byte != 0), come);
        if come {
            let got = receive(socket, 0);
            assert_eq!((&got.data[..], got.flags), (&b"to all"[..], MSG_MCAST));
        }
    }
    close(socket);
}

#[test]
fn each_of_a_list_is_a_datagram() {
    let _alone = alone();
    let client = Client::new();
    let (socket, _) = udp(&client, false, loopback(false));
    let host = UdpSocket::bind(loopback(false)).unwrap_or_else(|e| panic!("{e}"));
    let _ = host.set_read_timeout(Some(PATIENCE));
    let mut to = sockaddr(host.local_addr().unwrap_or_else(|e| panic!("{e}")));
    let mut memories: Vec<_> = [&b"one"[..], b"", b"three"].map(Memory::new).into();
    let mut list: Vec<WskBufList> = memories
        .iter_mut()
        .map(|memory| WskBufList {
            next: null_mut(),
            // SAFETY: the memory's own WSK_BUF.
            buffer: unsafe { *memory.buf() },
        })
        .collect();
    for at in 1..list.len() {
        list[at - 1].next = &raw mut list[at];
    }
    let sent = call(|irp| {
        // SAFETY: WskSendMessages as documented; all of it outlives the IRP.
        unsafe {
            (datagrams(socket).send_messages)(
                socket,
                list.as_mut_ptr(),
                0,
                to.as_mut_ptr().cast(),
                0,
                null_mut(),
                irp,
            )
        }
    });
    assert_eq!(sent, (status::SUCCESS, 8));
    for wanted in [&b"one"[..], b"", b"three"] {
        let mut back = [0; 16];
        let got = host.recv(&mut back).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(back.get(..got), Some(wanted));
    }
    close(socket);
}

#[test]
fn names_are_looked_up_and_results_given_back() {
    let _alone = alone();
    let client = Client::new();
    let look_up = |name: &str| {
        let mut text: Vec<u16> = name.encode_utf16().collect();
        let length = (text.len() * 2) as u16;
        let node = UNICODE_STRING {
            Length: length,
            MaximumLength: length,
            Buffer: text.as_mut_ptr(),
        };
        let mut list = null_mut();
        let (status, _) = call(|irp| {
            // SAFETY: WskGetAddressInfo as documented; all outlives the IRP.
            unsafe {
                (client.dispatch().get_address_info)(
                    client.handle(),
                    &raw const node,
                    null(),
                    0,
                    null(),
                    null(),
                    &mut list,
                    null_mut(),
                    null_mut(),
                    irp,
                )
            }
        });
        (status, list)
    };
    let (status, list) = look_up("localhost");
    assert_eq!(status, status::SUCCESS);
    let mut found = Vec::new();
    let mut now = list.cast::<ws::ADDRINFOEXW>();
    // SAFETY: the provider's list, alive until it is freed below.
    while let Some(info) = unsafe { now.as_ref() } {
        // SAFETY: the address of an entry, of this length.
        let bytes =
            unsafe { std::slice::from_raw_parts(info.ai_addr.cast::<u8>(), info.ai_addrlen) };
        found.push(address(bytes).ip());
        now = info.ai_next;
    }
    assert!(found.iter().any(IpAddr::is_loopback), "{found:?}");
    // SAFETY: a result, freed once.
    unsafe { (client.dispatch().free_address_info)(client.handle(), list) };
    assert_eq!(look_up("no-such-name.invalid").0, status::NO_MATCH);
}
