//! Ethernet frames with IPv4, TCP and UDP in them, right checksums and all.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Address of the adapter of every lab: the host's.
pub const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Address of whom it talks to.
pub const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The host's IP address in these frames.
pub const HOST_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Its peer's.
pub const PEER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    /// Received by the host.
    Up,
    /// Sent by it.
    Down,
}

impl Dir {
    /// As the lab's commands and files call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Dir::Up => "up",
            Dir::Down => "down",
        }
    }

    /// As weirctl calls it.
    #[must_use]
    pub const fn weirctl(self) -> &'static str {
        match self {
            Dir::Up => "in",
            Dir::Down => "out",
        }
    }
}

/// Flags of a TCP header, RFC 9293 section 3.1.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgment is significant.
    pub const ACK: u8 = 0x10;
}

/// RFC 1071, the plain way.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        let word = [pair[0], pair.get(1).copied().unwrap_or(0)];
        sum += u32::from(u16::from_be_bytes(word));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn ipv4(
    way: Dir,
    protocol: u8,
    from: Ipv4Addr,
    to: Ipv4Addr,
    id: u16,
    mut inner: Vec<u8>,
    sum_at: usize,
) -> Vec<u8> {
    let length = u16::try_from(inner.len()).expect("short");
    let addresses = [from.octets(), to.octets()].concat();
    let mut covered = addresses.clone();
    covered.extend_from_slice(&[0, protocol]);
    covered.extend_from_slice(&length.to_be_bytes());
    covered.extend_from_slice(&inner);
    // To UDP, 0 is no checksum at all (RFC 768); TCP knows no difference.
    let checksum = match sum(&covered) {
        0 => 0xffff,
        other => other,
    };
    inner[sum_at..sum_at + 2].copy_from_slice(&checksum.to_be_bytes());

    let mut ip = vec![0x45, 0];
    ip.extend_from_slice(&(20 + length).to_be_bytes());
    ip.extend_from_slice(&id.to_be_bytes());
    ip.extend_from_slice(&[0x40, 0, 64, protocol, 0, 0]);
    ip.extend_from_slice(&addresses);
    let checksum = sum(&ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());

    let (sender, receiver) = match way {
        Dir::Up => (PEER, HOST),
        Dir::Down => (HOST, PEER),
    };
    [&receiver[..], &sender, &[0x08, 0x00], &ip, &inner].concat()
}

/// A UDP datagram in a frame.
#[must_use]
pub fn udp(way: Dir, from: SocketAddrV4, to: SocketAddrV4, id: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("short");
    let mut udp = Vec::new();
    udp.extend_from_slice(&from.port().to_be_bytes());
    udp.extend_from_slice(&to.port().to_be_bytes());
    udp.extend_from_slice(&length.to_be_bytes());
    udp.extend_from_slice(&[0, 0]);
    udp.extend_from_slice(payload);
    ipv4(way, 17, *from.ip(), *to.ip(), id, udp, 6)
}

/// A TCP segment in a frame, without options or data.
#[must_use]
pub fn tcp(
    way: Dir,
    from: SocketAddrV4,
    to: SocketAddrV4,
    flags: u8,
    seq: u32,
    ack: u32,
) -> Vec<u8> {
    let mut tcp = Vec::new();
    tcp.extend_from_slice(&from.port().to_be_bytes());
    tcp.extend_from_slice(&to.port().to_be_bytes());
    tcp.extend_from_slice(&seq.to_be_bytes());
    tcp.extend_from_slice(&ack.to_be_bytes());
    tcp.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    ipv4(way, 6, *from.ip(), *to.ip(), 0, tcp, 16)
}

#[cfg(test)]
mod tests {
    use weir_engine::wire::checksum::{Check, verify};
    use weir_engine::wire::dissect;

    use super::*;

    #[test]
    fn checksums_are_right() {
        let (host, peer) = (
            SocketAddrV4::new(HOST_IP, 40_000),
            SocketAddrV4::new(PEER_IP, 80),
        );
        for frame in [
            udp(Dir::Down, host, peer, 7, b"odd"),
            tcp(Dir::Up, peer, host, flag::SYN | flag::ACK, 1, 2),
        ] {
            let headers = dissect(&frame, u32::try_from(frame.len()).expect("short"));
            let checks = verify(&headers, &frame);
            assert_eq!(checks.network, Check::Good);
            assert_eq!(checks.transport, Check::Good);
            assert!(headers.ip_addresses().is_some());
        }
    }
}
