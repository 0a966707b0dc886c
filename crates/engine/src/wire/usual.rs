//! The frames that nearly all frames are, read at one go: Ethernet II without
//! tags, IPv4 without options or IPv6 without extension headers, no fragment,
//! TCP or UDP, every header at hand and every length what it should be.
//!
//! Nothing is decided here: any doubt is left to the way layer by layer, which
//! says the same of these frames too ([`super::dissect_by_layers`]; the tests
//! and the fuzzer hold them together).

use super::{Cursor, Protocol, ethernet, ipv4, ipv6, tcp, udp};

/// The network header.
#[derive(Clone, Copy)]
pub(super) enum Ip<'a> {
    V4(ipv4::Header<'a>),
    V6(ipv6::Header<'a>),
}

/// The transport header.
#[derive(Clone, Copy)]
pub(super) enum Upper<'a> {
    Tcp(tcp::Header<'a>),
    Udp(udp::Header<'a>),
}

/// Such a frame.
#[derive(Clone, Copy)]
pub(super) struct Usual<'a> {
    pub(super) mac: ethernet::Header<'a>,
    pub(super) ip: Ip<'a>,
    pub(super) upper: Upper<'a>,
    pub(super) transport_at: usize,
    pub(super) payload: Cursor<'a>,
}

impl<'a> Usual<'a> {
    /// `bytes`: at most `on_wire` of them.
    #[inline(always)]
    pub(super) fn read(bytes: &'a [u8], on_wire: usize) -> Option<Self> {
        let (mac, rest) = bytes.split_first_chunk::<{ ethernet::HEADER_LEN }>()?;
        let (ip, protocol, rest, len, transport_at) = match [mac[12], mac[13]] {
            [0x08, 0x00] => {
                const AT: usize = ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN;
                let (ip, rest) = rest.split_first_chunk::<{ ipv4::MIN_HEADER_LEN }>()?;
                let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff;
                if ip[0] != 0x45 || fragment != 0 {
                    return None;
                }
                let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
                let len = total.checked_sub(ipv4::MIN_HEADER_LEN)?;
                let header = Ip::V4(ipv4::Header::without_options(ip));
                (header, Protocol(ip[9]), rest, len, AT)
            }
            [0x86, 0xdd] => {
                const AT: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN;
                let (ip, rest) = rest.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
                let len = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
                if ip[0] >> 4 != 6 || len == 0 {
                    return None;
                }
                let header = Ip::V6(ipv6::Header::of(ip));
                (header, Protocol(ip[6]), rest, len, AT)
            }
            _ => return None,
        };
        if len > on_wire.checked_sub(transport_at)? {
            return None;
        }
        // Padding is no part of the packet.
        let rest = rest.get(..len).unwrap_or(rest);
        match protocol {
            Protocol::TCP => {
                let (fixed, rest) = rest.split_first_chunk::<{ tcp::MIN_HEADER_LEN }>()?;
                let header_len = usize::from(fixed[12] >> 4).wrapping_mul(4);
                let options_len = header_len.checked_sub(tcp::MIN_HEADER_LEN)?;
                let (options, rest) = rest.split_at_checked(options_len)?;
                Some(Self {
                    mac: ethernet::Header::of(mac),
                    ip,
                    upper: Upper::Tcp(tcp::Header::of(fixed, options)),
                    transport_at,
                    payload: Cursor::from_parts(
                        rest,
                        len.checked_sub(header_len)?,
                        transport_at.wrapping_add(header_len),
                    ),
                })
            }
            Protocol::UDP => {
                let (header, rest) = rest.split_first_chunk::<{ udp::HEADER_LEN }>()?;
                let said = usize::from(u16::from_be_bytes([header[4], header[5]]));
                let said = said.checked_sub(udp::HEADER_LEN)?;
                if said > len.checked_sub(udp::HEADER_LEN)? {
                    return None;
                }
                Some(Self {
                    mac: ethernet::Header::of(mac),
                    ip,
                    upper: Upper::Udp(udp::Header::of(header)),
                    transport_at,
                    payload: Cursor::from_parts(
                        rest.get(..said).unwrap_or(rest),
                        said,
                        transport_at.wrapping_add(udp::HEADER_LEN),
                    ),
                })
            }
            _ => None,
        }
    }
}
