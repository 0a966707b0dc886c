//! The words for what a frame is made of.

use weir_engine::wire::{Carries, Dissected, EtherType, Network, Protocol, Transport};

/// A layer, or what a layer carries. The names are output, and stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Layer {
    Ethernet,
    Vlan,
    Llc,
    Snap,
    Arp,
    Rarp,
    Lldp,
    Eapol,
    Mpls,
    Pppoe,
    OtherEtherType,
    Ipv4,
    Ipv6,
    Fragment,
    Icmp,
    Icmpv6,
    Igmp,
    Tcp,
    Udp,
    Sctp,
    Gre,
    Esp,
    Ah,
    OtherIp,
}

impl Layer {
    pub(super) const ALL: [Layer; 24] = [
        Layer::Ethernet,
        Layer::Vlan,
        Layer::Llc,
        Layer::Snap,
        Layer::Arp,
        Layer::Rarp,
        Layer::Lldp,
        Layer::Eapol,
        Layer::Mpls,
        Layer::Pppoe,
        Layer::OtherEtherType,
        Layer::Ipv4,
        Layer::Ipv6,
        Layer::Fragment,
        Layer::Icmp,
        Layer::Icmpv6,
        Layer::Igmp,
        Layer::Tcp,
        Layer::Udp,
        Layer::Sctp,
        Layer::Gre,
        Layer::Esp,
        Layer::Ah,
        Layer::OtherIp,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Layer::Ethernet => "ethernet",
            Layer::Vlan => "vlan",
            Layer::Llc => "llc",
            Layer::Snap => "snap",
            Layer::Arp => "arp",
            Layer::Rarp => "rarp",
            Layer::Lldp => "lldp",
            Layer::Eapol => "eapol",
            Layer::Mpls => "mpls",
            Layer::Pppoe => "pppoe",
            Layer::OtherEtherType => "other_ethertype",
            Layer::Ipv4 => "ipv4",
            Layer::Ipv6 => "ipv6",
            Layer::Fragment => "fragment",
            Layer::Icmp => "icmp",
            Layer::Icmpv6 => "icmpv6",
            Layer::Igmp => "igmp",
            Layer::Tcp => "tcp",
            Layer::Udp => "udp",
            Layer::Sctp => "sctp",
            Layer::Gre => "gre",
            Layer::Esp => "esp",
            Layer::Ah => "ah",
            Layer::OtherIp => "other_ip",
        }
    }

    /// What an EtherType stands for that the engine doesn't look into.
    fn of_type(kind: EtherType) -> Layer {
        // IANA, "IEEE 802 Numbers".
        match kind.0 {
            0x8035 => Layer::Rarp,
            0x88cc => Layer::Lldp,
            0x888e => Layer::Eapol,
            0x8847 | 0x8848 => Layer::Mpls,
            0x8863 | 0x8864 => Layer::Pppoe,
            _ => Layer::OtherEtherType,
        }
    }

    /// What an IP protocol stands for that the engine doesn't look into.
    fn of_protocol(protocol: Protocol) -> Layer {
        match protocol {
            Protocol::ESP => Layer::Esp,
            Protocol::AH => Layer::Ah,
            // IANA, "Assigned Internet Protocol Numbers".
            Protocol(2) => Layer::Igmp,
            Protocol(47) => Layer::Gre,
            Protocol(132) => Layer::Sctp,
            _ => Layer::OtherIp,
        }
    }
}

/// Each layer once: a frame has no more of them than these at most (Ethernet,
/// tags, LLC or SNAP, network, fragment, transport).
const MOST: usize = 6;

/// The layers of a frame, lowest first, each once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layers {
    list: [Layer; MOST],
    len: usize,
}

impl Layers {
    /// Those whose header is there and sound.
    pub(super) fn of(frame: &Dissected<'_>) -> Self {
        let mut layers = Layers {
            list: [Layer::Ethernet; MOST],
            len: 0,
        };
        let Some(link) = &frame.link else {
            return layers;
        };
        layers.push(Layer::Ethernet);
        if !link.tags.is_empty() {
            layers.push(Layer::Vlan);
        }
        let mut kind = None;
        match link.carries {
            Some(Carries::Type(t)) => kind = Some(t),
            Some(Carries::Snap(_)) => {
                layers.push(Layer::Snap);
                kind = link.carries.and_then(|c| c.ether_type());
            }
            Some(Carries::Llc(_)) => layers.push(Layer::Llc),
            Some(Carries::Undefined(_)) | None => {}
        }
        match &frame.network {
            Network::Arp(_) => layers.push(Layer::Arp),
            Network::Ipv4(_) => layers.push(Layer::Ipv4),
            Network::Ipv6(..) => layers.push(Layer::Ipv6),
            // A header that is broken doesn't count.
            Network::None => match kind {
                None | Some(EtherType::ARP | EtherType::IPV4 | EtherType::IPV6) => {}
                Some(kind) => layers.push(Layer::of_type(kind)),
            },
        }
        if frame.is_fragment() {
            layers.push(Layer::Fragment);
        }
        match &frame.transport {
            Transport::Tcp(_) => layers.push(Layer::Tcp),
            Transport::Udp(_) => layers.push(Layer::Udp),
            Transport::Icmp(_) => layers.push(Layer::Icmp),
            Transport::Icmpv6(_) => layers.push(Layer::Icmpv6),
            Transport::Other(protocol) => layers.push(Layer::of_protocol(*protocol)),
            // Its header is in another frame.
            Transport::None | Transport::LaterFragment(_) => {}
        }
        layers
    }

    fn push(&mut self, layer: Layer) {
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = layer;
            self.len += 1;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Layer> + '_ {
        self.list[..self.len].iter().copied()
    }
}

impl serde::Serialize for Layers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Layer::name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::wire::dissect;

    fn names(bytes: &[u8]) -> String {
        let layers = Layers::of(&dissect(bytes, bytes.len() as u32));
        let names: Vec<&str> = layers.iter().map(Layer::name).collect();
        names.join(" ")
    }

    fn frame(kind: u16, rest: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &kind.to_be_bytes(), rest].concat()
    }

    #[test]
    fn all_is_in_the_order_of_the_numbers() {
        for (i, layer) in Layer::ALL.into_iter().enumerate() {
            assert_eq!(layer as usize, i);
        }
    }

    #[test]
    fn each_word() {
        let ipv4 = |fragment: u16, protocol: u8, payload: &[u8]| {
            let mut packet = vec![0x45, 0];
            packet.extend((20 + payload.len() as u16).to_be_bytes());
            packet.extend([0, 1]);
            packet.extend(fragment.to_be_bytes());
            packet.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            packet.extend(payload);
            packet
        };
        let udp = [0, 7, 0, 9, 0, 8, 0, 0];
        for (bytes, want) in [
            (vec![2; 13], ""),
            (frame(0x0800, &[]), "ethernet"),
            (frame(0x0800, &ipv4(0, 17, &udp)), "ethernet ipv4 udp"),
            (
                frame(0x0800, &ipv4(0x2000, 17, &udp)),
                "ethernet ipv4 fragment udp",
            ),
            (frame(0x0800, &ipv4(5, 17, &udp)), "ethernet ipv4 fragment"),
            (frame(0x0800, &ipv4(0, 47, &udp)), "ethernet ipv4 gre"),
            (frame(0x0800, &ipv4(0, 250, &udp)), "ethernet ipv4 other_ip"),
            (frame(0x0800, &ipv4(0, 6, &udp)), "ethernet ipv4"),
            (
                frame(
                    0x88a8,
                    &[&[0, 1, 0x81, 0, 0, 2, 8, 0][..], &ipv4(0, 17, &udp)].concat(),
                ),
                "ethernet vlan ipv4 udp",
            ),
            (frame(0x88cc, &[0; 10]), "ethernet lldp"),
            (frame(0x9999, &[0; 10]), "ethernet other_ethertype"),
            (frame(3, &[0x42, 0x42, 3]), "ethernet llc"),
            (
                frame(8, &[0xaa, 0xaa, 3, 0, 0, 0, 0x88, 0xcc]),
                "ethernet snap lldp",
            ),
        ] {
            assert_eq!(names(&bytes), want, "{bytes:02x?}");
        }
    }
}
