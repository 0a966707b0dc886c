//! A gate before a listening socket: connection requests are seen before the
//! host answers them, and then let in or refused.
//!
//! The host runs a listening socket's filter on each segment for it, and drops
//! without a word what the filter doesn't want (`tcp_filter`). The gate's wants
//! no SYN but those with its mark. A packet socket sees the others; one that is
//! let in is sent once more, marked, by a raw socket, and a refused one is
//! answered by a reset, as the host itself answers a SYN to a closed port.
//!
//! A SYN from an IPv6 link-local address passes: sent again it would arrive on
//! another interface than its peer is at, and the answer never find the way.
//!
//! Needs CAP_NET_RAW and CAP_NET_ADMIN.

use super::super::addr::RawAddr;
use super::super::types::{AF_INET, AF_INET6};
use super::sys::{self, Fd, call, plain};
use super::{HOST_INET6, HostAddr, NONBLOCK_CLOEXEC, close};
use std::net::IpAddr;

const AF_PACKET: u16 = 17;
const SOCK_RAW: usize = 3;
const SOCK_DGRAM: usize = 2;
const IPPROTO_RAW: usize = 255;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86DD;
const SOL_SOCKET: usize = 1;
const SO_ATTACH_FILTER: usize = 26;
const SO_DETACH_FILTER: usize = 27;
const SO_RCVBUFFORCE: usize = 33;
const SO_MARK: usize = 36;
/// The mark of what was let in.
const MARK: u32 = 0x4C41_4271;
/// Bytes of requests that the host keeps until they are looked at.
const ROOM: u32 = 16 << 20;

const TCP: u8 = 6;
const HOP_LIMIT: u8 = 64;
const FIN_SYN_RST_ACK: u32 = 0x17;
const SYN: u32 = 0x02;
const RST: u32 = 0x04;
const ACK: u32 = 0x10;

/// Where the host's filters find a packet's network header, the kind of packet,
/// and the mark.
const NETWORK: u32 = (-0x10_0000_i32).cast_unsigned();
const KIND: u32 = (-0x1000_i32 + 4).cast_unsigned();
const MARKED: u32 = (-0x1000_i32 + 20).cast_unsigned();

/// Where a filter goes on.
#[derive(Clone, Copy)]
enum To {
    Next,
    Pass,
    Drop,
}

/// A filter's steps (classic BPF).
#[derive(Clone, Copy)]
enum Step {
    LoadByte(u32),
    LoadHalf(u32),
    LoadWord(u32),
    /// The length of the IPv4 header there goes to the index.
    IndexHeader,
    LoadByteAtIndex(u32),
    LoadHalfAtIndex(u32),
    And(u32),
    /// If equal, the first; else the second.
    Equal(u32, To, To),
    /// If any of these bits is set, the first; else the second.
    Any(u32, To, To),
}

/// `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    len: u16,
    filter: *const Instruction,
}

fn assemble(steps: &[Step]) -> Vec<Instruction> {
    let pass = steps.len();
    let plain = |code, k| Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    let mut out = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let jump = |to: To| match to {
            To::Next => 0,
            To::Pass => (pass - at - 1) as u8,
            To::Drop => (pass - at) as u8,
        };
        let branch = |code, k, yes, no| Instruction {
            code,
            jt: jump(yes),
            jf: jump(no),
            k,
        };
        out.push(match *step {
            Step::LoadByte(k) => plain(0x30, k),
            Step::LoadHalf(k) => plain(0x28, k),
            Step::LoadWord(k) => plain(0x20, k),
            Step::IndexHeader => plain(0xB1, 0),
            Step::LoadByteAtIndex(k) => plain(0x50, k),
            Step::LoadHalfAtIndex(k) => plain(0x48, k),
            Step::And(k) => plain(0x54, k),
            Step::Equal(k, yes, no) => branch(0x15, k, yes, no),
            Step::Any(k, yes, no) => branch(0x45, k, yes, no),
        });
    }
    // All of it, and nothing.
    out.push(plain(0x06, u32::MAX));
    out.push(plain(0x06, 0));
    out
}

/// What a listening socket takes; it is shown segments from the TCP header on.
fn listener_filter() -> Vec<Instruction> {
    assemble(&[
        Step::LoadByte(13),
        Step::And(FIN_SYN_RST_ACK),
        Step::Equal(SYN, To::Next, To::Pass),
        Step::LoadWord(MARKED),
        Step::Equal(MARK, To::Pass, To::Next),
        Step::LoadByte(NETWORK),
        Step::And(0xF0),
        Step::Equal(0x60, To::Next, To::Drop),
        Step::LoadHalf(NETWORK.wrapping_add(8)),
        Step::And(0xFFC0),
        Step::Equal(0xFE80, To::Pass, To::Drop),
    ])
}

/// Requests to a port that nobody has let in yet, and resets; from the network
/// header on.
fn seen_filter(v6: bool, port: u16) -> Vec<Instruction> {
    let port = u32::from(port);
    let ours = [Step::LoadWord(KIND), Step::Equal(0, To::Next, To::Drop)];
    let v4_head = [
        Step::LoadByte(9),
        Step::Equal(u32::from(TCP), To::Next, To::Drop),
        // A fragment but the first has no TCP header.
        Step::LoadHalf(6),
        Step::Any(0x1FFF, To::Drop, To::Next),
        Step::IndexHeader,
        Step::LoadHalfAtIndex(2),
        Step::Equal(port, To::Next, To::Drop),
        Step::LoadByteAtIndex(13),
    ];
    let v6_head = [
        Step::LoadByte(6),
        Step::Equal(u32::from(TCP), To::Next, To::Drop),
        Step::LoadHalf(8),
        Step::And(0xFFC0),
        Step::Equal(0xFE80, To::Drop, To::Next),
        Step::LoadHalf(42),
        Step::Equal(port, To::Next, To::Drop),
        Step::LoadByte(53),
    ];
    let flags = [
        Step::And(FIN_SYN_RST_ACK),
        Step::Equal(RST, To::Pass, To::Next),
        Step::Equal(RST | ACK, To::Pass, To::Next),
        Step::Equal(SYN, To::Next, To::Drop),
        Step::LoadWord(MARKED),
        Step::Equal(MARK, To::Drop, To::Pass),
    ];
    let head: &[Step] = if v6 { &v6_head } else { &v4_head };
    assemble(&[&ours, head, &flags].concat())
}

fn set(fd: Fd, name: usize, value: usize, len: usize) -> Result<(), i32> {
    // SAFETY: the callers give a value of that length, which is only read.
    unsafe {
        call(
            sys::SETSOCKOPT,
            [sys::fd(fd), SOL_SOCKET, name, value, len, 0],
        )
    }
    .map(drop)
}

fn set_number(fd: Fd, name: usize, value: u32) -> Result<(), i32> {
    set(fd, name, &raw const value as usize, 4)
}

fn attach(fd: Fd, filter: &[Instruction]) -> Result<(), i32> {
    let program = Program {
        len: filter.len() as u16,
        filter: filter.as_ptr(),
    };
    let size = size_of::<Program>();
    set(fd, SO_ATTACH_FILTER, &raw const program as usize, size)
}

/// Whether the host gives the rights that a gate wants.
#[cfg(test)]
pub(in crate::wsk) fn allowed() -> bool {
    Side::new(false, 9).is_ok()
}

/// A connection that came through a gate goes on without its filter.
pub(in crate::wsk) fn passed(fd: Fd) {
    let _none = set_number(fd, SO_DETACH_FILTER, 0);
}

/// A descriptor that is closed when it is dropped.
struct Owned(Fd);

impl Drop for Owned {
    fn drop(&mut self) {
        close(self.0);
    }
}

fn socket(family: u16, kind: usize, protocol: usize) -> Result<Owned, i32> {
    let kind = kind | NONBLOCK_CLOEXEC;
    plain(sys::SOCKET, usize::from(family), kind, protocol).map(|fd| Owned(fd as Fd))
}

/// One family of a gate: where requests are seen, and where segments leave.
struct Side {
    v6: bool,
    seen: Owned,
    out: Owned,
}

impl Side {
    fn new(v6: bool, port: u16) -> Result<Self, i32> {
        // Nothing is seen before the filter is there: no protocol yet.
        let seen = socket(AF_PACKET, SOCK_DGRAM, 0)?;
        attach(seen.0, &seen_filter(v6, port))?;
        set_number(seen.0, SO_RCVBUFFORCE, ROOM)?;
        // struct sockaddr_ll: family, protocol, any interface.
        let protocol = if v6 { ETH_P_IPV6 } else { ETH_P_IP };
        let mut address = [0u8; 20];
        address[..2].copy_from_slice(&AF_PACKET.to_ne_bytes());
        address[2..4].copy_from_slice(&protocol.to_be_bytes());
        let at = address.as_ptr() as usize;
        // SAFETY: an address of this length.
        unsafe { call(sys::BIND, [sys::fd(seen.0), at, address.len(), 0, 0, 0]) }?;
        let family = if v6 { HOST_INET6 } else { AF_INET };
        let out = socket(family, SOCK_RAW, IPPROTO_RAW)?;
        set_number(out.0, SO_MARK, MARK)?;
        Ok(Self { v6, seen, out })
    }

    fn next(&self) -> Option<Vec<u8>> {
        let mut packet = vec![0u8; 2048];
        let at = packet.as_mut_ptr() as usize;
        // SAFETY: writable bytes, and how many.
        let got = unsafe { call(sys::READ, [sys::fd(self.seen.0), at, packet.len(), 0, 0, 0]) };
        packet.truncate(got.ok()?);
        Some(packet)
    }

    /// Sends a packet with its network header. What the host doesn't take is
    /// lost, as packets may be; the peer tries again.
    fn send(&self, packet: &[u8], to: RawAddr) {
        let to = HostAddr::of(&to);
        // SAFETY: readable bytes and an address, with their lengths.
        let _lost = unsafe {
            call(
                sys::SENDTO,
                [
                    sys::fd(self.out.0),
                    packet.as_ptr() as usize,
                    packet.len(),
                    0,
                    to.bytes.as_ptr() as usize,
                    to.len as usize,
                ],
            )
        };
    }
}

/// The two ends of a connection, as a socket of the listener's family has them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::wsk) struct Ends {
    pub(in crate::wsk) local: RawAddr,
    pub(in crate::wsk) remote: RawAddr,
}

/// A SYN nobody has answered.
pub(in crate::wsk) struct Request {
    pub(in crate::wsk) ends: Ends,
    pub(in crate::wsk) sequence: u32,
    segment: Segment,
}

/// What comes to a gate.
pub(in crate::wsk) enum Arrival {
    Request(Request),
    Reset { ends: Ends, sequence: u32 },
}

/// A TCP segment with its network header.
struct Segment {
    packet: Vec<u8>,
    v6: bool,
    /// Where the TCP header begins.
    tcp: usize,
}

impl Segment {
    fn new(packet: Vec<u8>, v6: bool) -> Option<Self> {
        let tcp = if v6 {
            40
        } else {
            usize::from(packet.first()? & 0xF) * 4
        };
        // Its TCP header is there as a whole.
        packet.get(tcp..tcp + 20)?;
        Some(Self { packet, v6, tcp })
    }

    fn word(&self, at: usize) -> u32 {
        let bytes = self.packet.get(self.tcp + at..self.tcp + at + 4);
        bytes.map_or(0, |bytes| {
            bytes
                .iter()
                .fold(0, |word, byte| word << 8 | u32::from(*byte))
        })
    }

    fn flags(&self) -> u32 {
        self.word(12) >> 16 & FIN_SYN_RST_ACK
    }

    /// The addresses in the network header: source and destination.
    fn addresses(&self) -> (&[u8], &[u8]) {
        let (from, len) = if self.v6 { (8, 16) } else { (12, 4) };
        let part = |at| self.packet.get(at..at + len).unwrap_or_default();
        (part(from), part(from + len))
    }

    /// The source, or the destination, with its port; `mapped` as an IPv6
    /// socket sees an IPv4 address.
    fn address(&self, source: bool, mapped: bool) -> Option<RawAddr> {
        let (from, to) = self.addresses();
        let ip = if source { from } else { to };
        let ports = self.word(0);
        let port = if source { ports >> 16 } else { ports & 0xFFFF };
        let mut bytes = [0u8; 28];
        bytes[2..4].copy_from_slice(&(port as u16).to_be_bytes());
        if self.v6 || mapped {
            bytes[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
            if !self.v6 {
                bytes[18..20].fill(0xFF);
            }
            bytes.get_mut(24 - ip.len()..24)?.copy_from_slice(ip);
        } else {
            bytes[..2].copy_from_slice(&AF_INET.to_ne_bytes());
            bytes.get_mut(4..8)?.copy_from_slice(ip);
        }
        RawAddr::from_bytes(&bytes)
    }

    /// The whole packet with its checksum: what went over no wire has none yet.
    fn whole(&self) -> Vec<u8> {
        let mut packet = self.packet.clone();
        let (from, to) = self.addresses();
        if let Some(segment) = packet.get_mut(self.tcp..) {
            seal(segment, from, to);
        }
        packet
    }

    /// The reset that refuses a SYN (RFC 9293, 3.10.7.1).
    fn refusal(&self) -> Vec<u8> {
        let (from, to) = self.addresses();
        let mut segment = [0u8; 20];
        let ports = self.word(0).rotate_left(16);
        segment[..4].copy_from_slice(&ports.to_be_bytes());
        let next = self.word(4).wrapping_add(self.length());
        segment[8..12].copy_from_slice(&next.to_be_bytes());
        segment[12] = 5 << 4;
        segment[13] = (RST | ACK) as u8;
        seal(&mut segment, to, from);
        let mut packet = Vec::with_capacity(60);
        let length = segment.len() as u16;
        if self.v6 {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([TCP, HOP_LIMIT]);
        } else {
            // The host fills in what is left out: identification, checksum.
            packet.extend([0x45, 0]);
            packet.extend((length + 20).to_be_bytes());
            packet.extend([0, 0, 0x40, 0, HOP_LIMIT, TCP, 0, 0]);
        }
        packet.extend(to);
        packet.extend(from);
        packet.extend(segment);
        packet
    }

    /// What the segment takes of the sequence space: the SYN, and its data.
    fn length(&self) -> u32 {
        let header = (self.word(12) >> 28) as usize * 4;
        let data = self.packet.len().saturating_sub(self.tcp + header);
        1 + data as u32
    }
}

/// Fills in a TCP segment's checksum.
fn seal(segment: &mut [u8], from: &[u8], to: &[u8]) {
    segment[16..18].fill(0);
    let length = segment.len() as u32 + u32::from(TCP);
    let mut sum: u32 = length;
    for part in [from, to, segment] {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(pair[0]) << 8 | u32::from(low);
        }
    }
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    segment[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// See the module's documentation.
pub(in crate::wsk) struct Gate {
    sides: Vec<Side>,
    /// The listener's own family.
    v6: bool,
    local: RawAddr,
}

impl Gate {
    /// Puts a gate before a socket that is bound to `local` and doesn't listen
    /// yet. `both`: an IPv6 socket that takes IPv4 too.
    pub(in crate::wsk) fn new(fd: Fd, local: RawAddr, both: bool) -> Result<Self, i32> {
        let v6 = local.family() == AF_INET6;
        let mut sides = vec![Side::new(v6, local.port())?];
        if v6 && both {
            sides.push(Side::new(false, local.port())?);
        }
        attach(fd, &listener_filter())?;
        Ok(Self { sides, v6, local })
    }

    /// Descriptors that become readable when something comes.
    pub(in crate::wsk) fn descriptors(&self) -> impl Iterator<Item = Fd> {
        self.sides.iter().map(|side| side.seen.0)
    }

    /// What has come, if anything has.
    pub(in crate::wsk) fn next(&self) -> Option<Arrival> {
        for side in &self.sides {
            while let Some(packet) = side.next() {
                if let Some(arrival) = self.read(packet, side.v6) {
                    return Some(arrival);
                }
            }
        }
        None
    }

    fn read(&self, packet: Vec<u8>, v6: bool) -> Option<Arrival> {
        let segment = Segment::new(packet, v6)?;
        let ends = Ends {
            local: segment.address(false, self.v6)?,
            remote: segment.address(true, self.v6)?,
        };
        // Another listener has the same port of another address.
        let any = self.local.ip().is_unspecified();
        if !any && ends.local.ip() != self.local.ip() {
            return None;
        }
        let sequence = segment.word(4);
        if segment.flags() & RST != 0 {
            return Some(Arrival::Reset { ends, sequence });
        }
        Some(Arrival::Request(Request {
            ends,
            sequence,
            segment,
        }))
    }

    fn send(&self, request: &Request, packet: &[u8], back: bool) {
        let segment = &request.segment;
        let to = segment.address(back, false).map(without_port);
        let side = self.sides.iter().find(|side| side.v6 == segment.v6);
        if let (Some(side), Some(to)) = (side, to) {
            side.send(packet, to);
        }
    }

    /// The host answers the request now.
    pub(in crate::wsk) fn admit(&self, request: &Request) {
        self.send(request, &request.segment.whole(), false);
    }

    /// The peer is told that nobody listens.
    pub(in crate::wsk) fn refuse(&self, request: &Request) {
        self.send(request, &request.segment.refusal(), true);
    }
}

/// A raw socket's port is a protocol, or nothing.
fn without_port(address: RawAddr) -> RawAddr {
    let mut bytes = [0u8; 28];
    // SAFETY: as long as any address of ours.
    unsafe { address.write(bytes.as_mut_ptr().cast()) };
    bytes[2..4].fill(0);
    RawAddr::from_bytes(&bytes).unwrap_or(address)
}

/// Whether a gate lets requests from this address pass unseen.
pub(in crate::wsk) fn passes(remote: RawAddr) -> bool {
    match remote.ip() {
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN of 127.0.0.1:1000 to 127.0.0.1:2000.
    fn syn() -> Segment {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
        packet.extend([127, 0, 0, 1, 127, 0, 0, 1]);
        packet.extend([0x03, 0xE8, 0x07, 0xD0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
        packet.extend([0x50, 0x02, 0xFF, 0xFF, 0, 0, 0, 0]);
        Segment::new(packet, false).unwrap_or_else(|| panic!("a whole header"))
    }

    /// What a receiver computes over a segment with its checksum.
    fn sum_of(packet: &[u8]) -> u16 {
        let mut sum = u32::from(TCP) + 20;
        for pair in packet[12..].chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair[1]);
        }
        while sum > 0xFFFF {
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn a_refusal_answers_its_request() {
        let refusal = syn().refusal();
        assert_eq!(refusal.len(), 40);
        // Ports the other way round, no sequence number, the SYN acknowledged.
        assert_eq!(refusal[20..28], [0x07, 0xD0, 0x03, 0xE8, 0, 0, 0, 0]);
        assert_eq!(refusal[28..32], [0; 4], "the sequence number wraps");
        assert_eq!(refusal[33], (RST | ACK) as u8);
        assert_eq!(sum_of(&refusal), 0xFFFF);
        assert_eq!(sum_of(&syn().whole()), 0xFFFF);
    }

    #[test]
    fn an_ipv6_listener_sees_ipv4_as_mapped() {
        let seen = syn().address(true, true).map(|address| address.to_std());
        assert_eq!(
            seen.map(|a| a.to_string()).as_deref(),
            Some("[::ffff:127.0.0.1]:1000")
        );
        let seen = syn().address(false, false).map(|address| address.to_std());
        assert_eq!(
            seen.map(|a| a.to_string()).as_deref(),
            Some("127.0.0.1:2000")
        );
    }
}
