//! Wire formats: the headers of a frame, out of its first bytes.
//!
//! # The contract
//! Each header type is made by its `parse`, which takes it from a [`Cursor`]
//! and checks all that its accessors rely on; after that no accessor can fail.
//! A `parse` that fails leaves the cursor where it was.
//!
//! [`dissect`] puts the layers together. It has no error: a frame that can't be
//! read to the end is a frame read as far as it goes, with a [`Fault`] that
//! says where it stopped and why. What a longer prefix of the same frame adds
//! never takes back a layer that a shorter one had shown.
//!
//! # What is believed
//! Lengths are allegations. A length inside a header may end a layer earlier
//! than the frame (Ethernet pads short frames), never later. It may be zero in
//! a frame that the host leaves to the adapter to segment, and the frame may
//! then be far larger than the MTU; coalesced received frames are just as large.
//! Checksums are not verified by [`dissect`] but by [`checksum`], where somebody
//! asks: on the way out they are often the adapter's to write, on the way in it
//! has often verified them.

mod cursor;
mod usual;

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod tcp;
pub mod udp;

use core::net::IpAddr;

pub use cursor::Cursor;
pub use ethernet::{Carries, EtherType, MacAddr};
use usual::{Ip, Upper, Usual};

/// How many first bytes of a frame are worth gathering for [`dissect`]: link
/// layer with four tags (30), IPv6 (40), some extension headers, TCP (60).
pub const HEADER_WINDOW: usize = 192;

/// An Internet protocol number, from IANA's "Assigned Internet Protocol Numbers".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u8);

impl Protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: Self = Self(0);
    /// ICMP.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// IPv6 routing header.
    pub const ROUTING: Self = Self(43);
    /// IPv6 fragment header.
    pub const IPV6_FRAGMENT: Self = Self(44);
    /// Encapsulating security payload: what follows can't be read.
    pub const ESP: Self = Self(50);
    /// Authentication header.
    pub const AH: Self = Self(51);
    /// ICMPv6.
    pub const ICMPV6: Self = Self(58);
    /// Nothing follows.
    pub const NO_NEXT: Self = Self(59);
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: Self = Self(60);
    /// Mobility header.
    pub const MOBILITY: Self = Self(135);
    /// Host identity protocol.
    pub const HIP: Self = Self(139);
    /// Shim6.
    pub const SHIM6: Self = Self(140);

    /// Whether it is an IPv6 extension header whose length can be read, from
    /// IANA's "IPv6 Extension Header Types". ESP is one too, but ends the walk.
    #[must_use]
    pub fn is_ipv6_extension(self) -> bool {
        matches!(
            self,
            Self::HOP_BY_HOP
                | Self::ROUTING
                | Self::IPV6_FRAGMENT
                | Self::AH
                | Self::DESTINATION_OPTIONS
                | Self::MOBILITY
                | Self::HIP
                | Self::SHIM6
        )
    }
}

/// Why a layer could not be read as it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Defect {
    /// The frame goes on, but not in the slice at hand. Nobody's fault.
    Snapped,
    /// The frame ends before the layer does.
    Truncated,
    /// The version field is not the one that the layer below announced.
    Version,
    /// A header length smaller than the header's fixed part.
    HeaderLength,
    /// A length that does not even cover its own header.
    Length,
    /// More than [`ethernet::MAX_TAGS`] VLAN tags.
    TooManyTags,
    /// More than [`ipv6::MAX_EXTENSIONS`] extension headers.
    TooManyExtensions,
}

impl Defect {
    /// Whether the headers contradict themselves, rather than end too early.
    #[must_use]
    pub fn is_malformed(self) -> bool {
        !matches!(self, Self::Snapped | Self::Truncated)
    }
}

/// The layers of a frame, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// MAC header, tags, LLC.
    Link,
    /// ARP, IPv4, IPv6 with its extension headers.
    Network,
    /// TCP, UDP, ICMP, ICMPv6.
    Transport,
}

/// The first thing that was wrong in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Where.
    pub layer: Layer,
    /// What.
    pub defect: Defect,
}

/// A frame's network layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network<'a> {
    /// Not reached, or none that is known here.
    None,
    /// ARP.
    Arp(arp::Packet<'a>),
    /// IPv4.
    Ipv4(ipv4::Header<'a>),
    /// IPv6, with as much of its extension headers as could be walked.
    Ipv6(ipv6::Header<'a>, ipv6::Extensions),
}

/// A frame's transport layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport<'a> {
    /// Not reached, or there is none.
    None,
    /// A fragment other than the first: ports are in the first one only.
    LaterFragment(Protocol),
    /// TCP.
    Tcp(tcp::Header<'a>),
    /// UDP.
    Udp(udp::Header<'a>),
    /// ICMP.
    Icmp(icmp::Header<'a>),
    /// ICMPv6.
    Icmpv6(icmp::Header<'a>),
    /// A protocol that is not looked into.
    Other(Protocol),
}

/// A frame's headers, as far as they could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dissected<'a> {
    /// Link layer; none when not even a MAC header is there.
    pub link: Option<ethernet::Link<'a>>,
    /// Network layer.
    pub network: Network<'a>,
    /// Transport layer.
    pub transport: Transport<'a>,
    /// What is left after the last header that was read, as far as the lengths
    /// in the headers let it belong to the packet.
    pub payload: Cursor<'a>,
    /// The first thing that was wrong, if anything was.
    pub fault: Option<Fault>,
    network_at: usize,
    transport_at: usize,
}

/// Dissects an Ethernet frame. `bytes`: its first bytes, all or some of them.
/// `frame_len`: its length in bytes as it is handed between host and adapter
/// (no FCS), which may be larger than the MTU when segmentation is offloaded.
#[must_use]
pub fn dissect(bytes: &[u8], frame_len: u32) -> Dissected<'_> {
    let on_wire = usize::try_from(frame_len).unwrap_or(usize::MAX);
    let bytes = bytes.get(..on_wire).unwrap_or(bytes);
    match Usual::read(bytes, on_wire) {
        Some(usual) => Dissected::usual(usual),
        None => dissect_by_layers(bytes, frame_len),
    }
}

/// As [`dissect`], whatever the frame, and without its shortcut for the usual
/// ones: what that is held against.
#[must_use]
#[cold]
#[inline(never)]
pub fn dissect_by_layers(bytes: &[u8], frame_len: u32) -> Dissected<'_> {
    let on_wire = usize::try_from(frame_len).unwrap_or(usize::MAX);
    let mut frame = Dissected {
        link: None,
        network: Network::None,
        transport: Transport::None,
        payload: Cursor::new(bytes, on_wire),
        fault: None,
        network_at: 0,
        transport_at: 0,
    };
    if let Err((layer, defect)) = frame.walk() {
        frame.note(layer, defect);
    }
    frame
}

type Stop = (Layer, Defect);

impl<'a> Dissected<'a> {
    #[inline(always)]
    fn usual(usual: Usual<'a>) -> Self {
        let (upper, transport) = match usual.upper {
            Upper::Tcp(header) => (Protocol::TCP, Transport::Tcp(header)),
            Upper::Udp(header) => (Protocol::UDP, Transport::Udp(header)),
        };
        Self {
            link: Some(ethernet::Link::untagged(usual.mac)),
            network: match usual.ip {
                Ip::V4(ip) => Network::Ipv4(ip),
                Ip::V6(ip) => Network::Ipv6(ip, ipv6::Extensions::none(upper)),
            },
            transport,
            payload: usual.payload,
            fault: None,
            network_at: ethernet::HEADER_LEN,
            transport_at: usual.transport_at,
        }
    }

    /// Source and destination, where the network layer is IP.
    #[must_use]
    pub fn ip_addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match &self.network {
            Network::Ipv4(ip) => Some((ip.source().into(), ip.destination().into())),
            Network::Ipv6(ip, _) => Some((ip.source().into(), ip.destination().into())),
            Network::None | Network::Arp(_) => None,
        }
    }

    /// Source and destination port, where the transport has ports and they are in this frame.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match &self.transport {
            Transport::Tcp(tcp) => Some((tcp.source_port(), tcp.destination_port())),
            Transport::Udp(udp) => Some((udp.source_port(), udp.destination_port())),
            _ => None,
        }
    }

    /// Whether the frame carries one part of an IP packet that is sent in several.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        match &self.network {
            Network::Ipv4(ip) => ip.is_fragment(),
            Network::Ipv6(_, extensions) => extensions.is_fragment(),
            Network::None | Network::Arp(_) => false,
        }
    }

    /// Bytes from the frame's start to its network header, where it has one that
    /// is known here.
    #[must_use]
    pub fn network_offset(&self) -> Option<usize> {
        match &self.network {
            Network::None => None,
            _ => Some(self.network_at),
        }
    }

    /// Bytes from the frame's start to its transport header, where it has one
    /// that is known here.
    #[must_use]
    pub fn transport_offset(&self) -> Option<usize> {
        match &self.transport {
            Transport::None | Transport::LaterFragment(_) => None,
            _ => Some(self.transport_at),
        }
    }

    /// The echo that the frame carries; none in fragments but the first.
    #[must_use]
    pub fn icmp_echo(&self) -> Option<icmp::Echo> {
        let (header, v6) = self.icmp()?;
        icmp::Echo::read(header, v6, &self.payload)
    }

    /// The packet that an ICMP or ICMPv6 error in this frame is about.
    #[must_use]
    pub fn icmp_inner(&self) -> Option<icmp::Inner> {
        let (header, v6) = self.icmp()?;
        icmp::Inner::read(header, v6, &self.payload)
    }

    fn icmp(&self) -> Option<(&icmp::Header<'a>, bool)> {
        match &self.transport {
            Transport::Icmp(header) => Some((header, false)),
            Transport::Icmpv6(header) => Some((header, true)),
            _ => None,
        }
    }

    /// The first fault is the one that counts: those behind it follow from it.
    fn note(&mut self, layer: Layer, defect: Defect) {
        self.fault.get_or_insert(Fault { layer, defect });
    }

    fn walk(&mut self) -> Result<(), Stop> {
        let (link, defect) =
            ethernet::Link::parse(&mut self.payload).map_err(|d| (Layer::Link, d))?;
        self.link = Some(link);
        if let Some(defect) = defect {
            self.note(Layer::Link, defect);
        }
        self.network_at = self.payload.position();
        match link.carries.and_then(|carries| carries.ether_type()) {
            Some(EtherType::ARP) => self.arp(),
            Some(EtherType::IPV4) => self.ipv4(),
            Some(EtherType::IPV6) => self.ipv6(),
            _ => Ok(()),
        }
    }

    fn arp(&mut self) -> Result<(), Stop> {
        let arp = arp::Packet::parse(&mut self.payload).map_err(|d| (Layer::Network, d))?;
        self.network = Network::Arp(arp);
        Ok(())
    }

    fn ipv4(&mut self) -> Result<(), Stop> {
        let ip = ipv4::Header::parse(&mut self.payload).map_err(|d| (Layer::Network, d))?;
        self.network = Network::Ipv4(ip);
        self.limit(ip.payload_len());
        if ip.fragment_offset() != 0 {
            self.transport = Transport::LaterFragment(ip.protocol());
            return Ok(());
        }
        self.transport(ip.protocol())
    }

    fn ipv6(&mut self) -> Result<(), Stop> {
        let ip = ipv6::Header::parse(&mut self.payload).map_err(|d| (Layer::Network, d))?;
        self.limit(ip.payload_len());
        let (chain, defect) = ipv6::Extensions::walk(ip.next_header(), &mut self.payload);
        self.network = Network::Ipv6(ip, chain);
        if let Some(defect) = defect {
            return Err((Layer::Network, defect));
        }
        if chain.is_later_fragment() {
            self.transport = Transport::LaterFragment(chain.upper);
            return Ok(());
        }
        self.transport(chain.upper)
    }

    /// Ends the packet where the network header says so. A packet that claims
    /// more than the frame holds is noted, and read as far as it is there.
    fn limit(&mut self, payload_len: Option<usize>) {
        let Some(len) = payload_len else { return };
        if let Err(defect) = self.payload.limit(len) {
            self.note(Layer::Network, defect);
        }
    }

    fn transport(&mut self, protocol: Protocol) -> Result<(), Stop> {
        let stop = |defect| (Layer::Transport, defect);
        let v6 = matches!(self.network, Network::Ipv6(..));
        self.transport_at = self.payload.position();
        self.transport = match protocol {
            Protocol::TCP => Transport::Tcp(tcp::Header::parse(&mut self.payload).map_err(stop)?),
            Protocol::UDP => Transport::Udp(self.udp().map_err(stop)?),
            Protocol::ICMP if !v6 => {
                Transport::Icmp(icmp::Header::parse(&mut self.payload).map_err(stop)?)
            }
            Protocol::ICMPV6 if v6 => {
                Transport::Icmpv6(icmp::Header::parse(&mut self.payload).map_err(stop)?)
            }
            Protocol::NO_NEXT if v6 => Transport::None,
            other => Transport::Other(other),
        };
        Ok(())
    }

    fn udp(&mut self) -> Result<udp::Header<'a>, Defect> {
        let udp = udp::Header::parse(&mut self.payload)?;
        // In a first fragment the datagram goes on in the next ones.
        if let Some(len) = udp.payload_len().filter(|_| !self.is_fragment())
            && let Err(defect) = self.payload.limit(len)
        {
            self.note(Layer::Transport, defect);
        }
        Ok(udp)
    }
}
