//! Datagrams by the client library: more at once than the driver has room for.

use std::net::SocketAddr;

use futures::FutureExt as _;
use futures::executor::block_on;
use futures::future::try_join_all;
use weir_abi::limits::MAX_SOCKET_WRITES;
use weir_client::Device;
use weir_client::aio::UdpSocket;
use weir_client::net::OpenOptions;

/// Sends so many, each with its number: the first, as many as there is room for, are
/// started and left to themselves, and the others wait for room behind them.
pub(crate) fn sends(to: SocketAddr, count: u32) {
    let device = Device::open().expect("the driver");
    let from = SocketAddr::from(([127, 0, 0, 1], 0));
    let socket = block_on(UdpSocket::bind(&device, from, &OpenOptions::default()));
    let socket = socket.expect("a socket");
    let mut left = 0;
    for n in 0..MAX_SOCKET_WRITES {
        match socket.send_to(&n.to_le_bytes(), to).now_or_never() {
            None => left += 1,
            Some(sent) => assert_eq!(sent.expect("sent"), 4),
        }
    }
    let numbers: Vec<[u8; 4]> = (MAX_SOCKET_WRITES..count).map(u32::to_le_bytes).collect();
    let sends = numbers.iter().map(|bytes| socket.send_to(bytes, to));
    let sent = block_on(try_join_all(sends)).expect("all are sent");
    println!("{{\"waited_for\": {}, \"left\": {left}}}", sent.len());
}
