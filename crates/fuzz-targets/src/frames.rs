//! Frames out of a fuzzer's bytes: few hosts and ports, so that they meet, and
//! all that a header can say.

use crate::bytes::Bytes;

/// Last bytes of the hosts' addresses, and their ports.
pub(crate) const HOSTS: [u8; 4] = [1, 2, 3, 200];
pub(crate) const PORTS: [u16; 5] = [53, 80, 443, 1024, 50_000];

/// One frame. About one in four is bytes as they come.
pub(crate) fn frame(from: &mut Bytes<'_>) -> Vec<u8> {
    let shape = from.u8();
    if shape & 3 == 3 {
        let len = usize::from(from.u8());
        return from.take(len).to_vec();
    }
    let mut frame = macs(from.u8());
    for tag in 0..(shape >> 2) & 3 {
        frame.extend(if tag == 0 { [0x81, 0] } else { [0x88, 0xa8] });
        frame.extend([0, from.u8() & 3]);
    }
    match (shape >> 4) & 7 {
        0 => arp(from, &mut frame),
        1..=3 => ipv6(from, &mut frame),
        _ => ipv4(from, &mut frame),
    }
    if shape & 0x80 != 0 {
        // Padding, or an end too early.
        let len = usize::from(from.u8());
        frame.resize(if len < 60 { len } else { frame.len().max(60) }, 0);
    }
    frame
}

fn macs(hosts: u8) -> Vec<u8> {
    let mac = |host: u8| [2, 0, 0, 0, 0, HOSTS[usize::from(host & 3)]];
    [mac(hosts), mac(hosts >> 2)].concat()
}

fn arp(from: &mut Bytes<'_>, frame: &mut Vec<u8>) {
    let (a, b) = hosts(from);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, a, 10, 0, 0, a]);
    frame.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, b]);
}

fn hosts(from: &mut Bytes<'_>) -> (u8, u8) {
    let both = from.u8();
    let host = |n: u8| HOSTS[usize::from(n & 3)];
    (host(both), host(both >> 2))
}

fn ipv4(from: &mut Bytes<'_>, frame: &mut Vec<u8>) {
    let (a, b) = hosts(from);
    let how = from.u8();
    let (protocol, payload) = transport(from);
    let options = [1u8; 8];
    let options = if how & 1 != 0 { &options[..] } else { &[] };
    let total = u16::try_from(20 + options.len() + payload.len()).unwrap_or(0);
    // Not a fragment, the first, a later one, and a length left to the adapter.
    let fragment: u16 = match how & 6 {
        2 => 0x2000,
        4 => 0x2010,
        _ => 0x4000,
    };
    let total = if how & 0x38 == 0x38 { 0 } else { total };
    frame.extend([8, 0, 0x45 + u8::try_from(options.len() / 4).unwrap_or(0), 0]);
    frame.extend(total.to_be_bytes());
    frame.extend([0, how]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, protocol, 0, 0, 10, 0, 0, a, 10, 0, 0, b]);
    frame.extend(options);
    frame.extend(payload);
}

fn ipv6(from: &mut Bytes<'_>, frame: &mut Vec<u8>) {
    let (a, b) = hosts(from);
    let how = from.u8();
    let (protocol, payload) = transport(from);
    let mut next = protocol;
    let mut headers = Vec::new();
    // Options, routing, fragment, authentication; innermost first.
    for (bit, kind, second) in [(1u8, 60u8, 0u8), (2, 43, 0), (4, 44, 0), (8, 51, 4)] {
        if how & bit != 0 {
            let mut header = vec![next, second, 0, 0, 0, 0, 0, how];
            if kind == 51 {
                header.resize(24, 7);
            } else if kind == 44 && how & 0x10 != 0 {
                header[3] = how >> 4 & 9;
            }
            headers.splice(0..0, header);
            next = kind;
        }
    }
    let total = u16::try_from(headers.len() + payload.len()).unwrap_or(0);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(total.to_be_bytes());
    frame.extend([next, 64]);
    for host in [a, b] {
        frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    frame.extend(headers);
    frame.extend(payload);
}

/// A protocol and the bytes of its packet.
fn transport(from: &mut Bytes<'_>) -> (u8, Vec<u8>) {
    let kind = from.u8();
    let ports = || {
        let mut ports = PORTS[usize::from(kind >> 4) % PORTS.len()]
            .to_be_bytes()
            .to_vec();
        ports.extend(PORTS[usize::from(kind >> 2 & 3)].to_be_bytes());
        ports
    };
    match kind & 3 {
        0 | 1 => (6, tcp(from, ports())),
        2 => {
            let len = usize::from(from.u8());
            let mut packet = ports();
            packet.extend(u16::try_from(8 + len).unwrap_or(0).to_be_bytes());
            packet.extend([0, 0]);
            packet.resize(8 + len, 0x55);
            (17, packet)
        }
        _ => {
            // ICMP and ICMPv6, whose errors quote what follows; SCTP; others.
            let protocol = from.pick(&[1, 58, 132, 47, 59, 0]);
            let len = usize::from(from.u8());
            let mut packet = match protocol {
                1 | 58 => vec![from.u8(), 0, 0, 0, 0, kind, 0, from.u8()],
                132 => ports(),
                _ => vec![],
            };
            packet.extend(from.take(len));
            (protocol, packet)
        }
    }
}

fn tcp(from: &mut Bytes<'_>, mut packet: Vec<u8>) -> Vec<u8> {
    // Close together, so that segments meet; sometimes at the end of the space.
    let place = from.u8();
    let base: u32 = if place & 0x80 == 0 { 1000 } else { 0xffff_ff80 };
    let seq = base.wrapping_add(u32::from(from.u8()));
    let ack = base.wrapping_add(u32::from(from.u8()));
    let flags = from.u8();
    let options: &[u8] = match place & 7 {
        1 => &[2, 4, 5, 0xb4, 1, 3, 3, 7],
        2 => &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        3 => &[1, 1, 5, 10, 0, 0, 4, 0, 0, 0, 4, 8],
        4 => &[4, 2, 2, 3],
        _ => &[],
    };
    packet.extend(seq.to_be_bytes());
    packet.extend(ack.to_be_bytes());
    packet.extend([
        0x50 + (u8::try_from(options.len()).unwrap_or(0) << 2),
        flags,
    ]);
    packet.extend(from.pick(&[0u16, 1, 64, 1000, 65_535]).to_be_bytes());
    packet.extend([0, 0, 0, 0]);
    packet.extend(options);
    let len = packet.len() + usize::from(from.pick(&[0u8, 0, 1, 8, 16, 100]));
    packet.resize(len, 0x55);
    packet
}
