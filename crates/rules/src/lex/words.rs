//! The words of the language.

use super::Kind;

/// A word that is neither a number nor a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Proto(Proto),
    Src,
    Dst,
    Host,
    Net,
    Mask,
    Port,
    PortRange,
    ProtoQualifier,
    Less,
    Greater,
    Byte,
    Broadcast,
    Multicast,
    And,
    Or,
    Not,
    Len,
    Vlan,
    Llc,
    Pppoed,
    /// `rnr`: a type of LLC frames; by itself left out.
    Rnr,
    LeftOut(LeftOut),
}

/// Protocols that can stand before `host`, `port`, `[` and the like, or alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proto {
    Link,
    Ip,
    Ip6,
    Arp,
    Rarp,
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Icmp6,
    Igmp,
    Igrp,
    Pim,
    Vrrp,
    Carp,
    Ah,
    Esp,
    Atalk,
    Aarp,
    Decnet,
    Lat,
    Sca,
    Moprc,
    Mopdl,
    Iso,
    Esis,
    Isis,
    Clnp,
    IsisL1,
    IsisL2,
    IsisIih,
    IsisLsp,
    IsisSnp,
    IsisCsnp,
    IsisPsnp,
    Stp,
    Ipx,
    Netbeui,
}

/// What of pcap-filter(7) this language leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeftOut {
    ProtoChain,
    Gateway,
    Direction,
    Interface,
    PacketFilter,
    Wlan,
    Atm,
    Ss7,
    Mpls,
    PppoeSession,
    Geneve,
    Radio,
}

impl LeftOut {
    /// Why, and what to write instead.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::ProtoChain => {
                "protochain is left out: it follows headers in a loop, and rules have a bound; \
                 compare bytes instead, as in ip6[6] = 0"
            }
            Self::Gateway => "gateway is left out: it looks up the names of hosts",
            Self::Direction => {
                "the direction is no part of an expression: a rule says in, out or any"
            }
            Self::Interface => "interfaces are left out: rules are for all adapters",
            Self::PacketFilter => "the words of OpenBSD's packet filter are left out",
            Self::Wlan => "the words of 802.11 are left out: Weir sees Ethernet frames",
            Self::Atm => "the words of ATM are left out: Weir sees Ethernet frames",
            Self::Ss7 => "the words of SS7 are left out: Weir sees Ethernet frames",
            Self::Mpls => {
                "mpls is left out; ether proto 0x8847 matches its frames, \
                 and ether[14:4] is the first label"
            }
            Self::PppoeSession => {
                "pppoes is left out; ether proto 0x8864 matches its frames, \
                 and ether[16:2] is the session"
            }
            Self::Geneve => "geneve is left out; udp port 6081 matches its frames",
            Self::Radio => "radio headers are left out: Weir sees Ethernet frames",
        }
    }
}

/// Looks a word up.
pub(super) fn find(text: &str) -> Option<Kind> {
    let word = match text {
        "src" => Word::Src,
        "dst" => Word::Dst,
        "host" => Word::Host,
        "net" => Word::Net,
        "mask" => Word::Mask,
        "port" => Word::Port,
        "portrange" => Word::PortRange,
        "proto" => Word::ProtoQualifier,
        "less" => Word::Less,
        "greater" => Word::Greater,
        "byte" => Word::Byte,
        "broadcast" => Word::Broadcast,
        "multicast" => Word::Multicast,
        "and" => Word::And,
        "or" => Word::Or,
        "not" => Word::Not,
        "len" | "length" => Word::Len,
        "vlan" => Word::Vlan,
        "llc" => Word::Llc,
        "pppoed" => Word::Pppoed,
        "rnr" => Word::Rnr,
        _ => {
            return proto(text)
                .or_else(|| left_out(text))
                .or_else(|| number(text));
        }
    };
    Some(Kind::Word(word))
}

fn proto(text: &str) -> Option<Kind> {
    let proto = match text {
        "ether" | "link" | "fddi" | "tr" | "wlan" | "ppp" | "slip" => Proto::Link,
        "ip" => Proto::Ip,
        "ip6" => Proto::Ip6,
        "arp" => Proto::Arp,
        "rarp" => Proto::Rarp,
        "tcp" => Proto::Tcp,
        "udp" => Proto::Udp,
        "sctp" => Proto::Sctp,
        "icmp" => Proto::Icmp,
        "icmp6" => Proto::Icmp6,
        "igmp" => Proto::Igmp,
        "igrp" => Proto::Igrp,
        "pim" => Proto::Pim,
        "vrrp" => Proto::Vrrp,
        "carp" => Proto::Carp,
        "ah" => Proto::Ah,
        "esp" => Proto::Esp,
        "atalk" => Proto::Atalk,
        "aarp" => Proto::Aarp,
        "decnet" => Proto::Decnet,
        "lat" => Proto::Lat,
        "sca" => Proto::Sca,
        "moprc" => Proto::Moprc,
        "mopdl" => Proto::Mopdl,
        "iso" => Proto::Iso,
        "esis" | "es-is" => Proto::Esis,
        "isis" | "is-is" => Proto::Isis,
        "clnp" => Proto::Clnp,
        "l1" => Proto::IsisL1,
        "l2" => Proto::IsisL2,
        "iih" => Proto::IsisIih,
        "lsp" => Proto::IsisLsp,
        "snp" => Proto::IsisSnp,
        "csnp" => Proto::IsisCsnp,
        "psnp" => Proto::IsisPsnp,
        "stp" => Proto::Stp,
        "ipx" => Proto::Ipx,
        "netbeui" => Proto::Netbeui,
        _ => return None,
    };
    Some(Kind::Word(Word::Proto(proto)))
}

fn left_out(text: &str) -> Option<Kind> {
    let what = match text {
        "protochain" => LeftOut::ProtoChain,
        "gateway" => LeftOut::Gateway,
        "inbound" | "outbound" => LeftOut::Direction,
        "ifindex" => LeftOut::Interface,
        "on" | "ifname" | "rset" | "ruleset" | "rulenum" | "srnr" | "subrulenum" | "reason"
        | "action" => LeftOut::PacketFilter,
        "type" | "subtype" | "direction" | "dir" | "address1" | "addr1" | "address2" | "addr2"
        | "address3" | "addr3" | "address4" | "addr4" | "ra" | "ta" => LeftOut::Wlan,
        "lane" | "metac" | "bcc" | "oam" | "oamf4" | "oamf4ec" | "oamf4sc" | "sc" | "ilmic"
        | "vpi" | "vci" | "connectmsg" | "metaconnect" => LeftOut::Atm,
        "fisu" | "lssu" | "lsu" | "msu" | "hfisu" | "hlssu" | "hmsu" | "sio" | "opc" | "dpc"
        | "sls" | "hsio" | "hopc" | "hdpc" | "hsls" => LeftOut::Ss7,
        "mpls" => LeftOut::Mpls,
        "pppoes" => LeftOut::PppoeSession,
        "geneve" => LeftOut::Geneve,
        "radio" => LeftOut::Radio,
        _ => return None,
    };
    Some(Kind::Word(Word::LeftOut(what)))
}

/// Words that stand for a number: offsets of fields, types and flags.
fn number(text: &str) -> Option<Kind> {
    let value = match text {
        "tcpflags" => 13,
        "tcp-fin" => 0x01,
        "tcp-syn" => 0x02,
        "tcp-rst" => 0x04,
        "tcp-push" => 0x08,
        "tcp-ack" => 0x10,
        "tcp-urg" => 0x20,
        "tcp-ece" => 0x40,
        "tcp-cwr" => 0x80,
        "icmptype" | "icmp6type" => 0,
        "icmpcode" | "icmp6code" => 1,
        _ => match text.strip_prefix("icmp-") {
            Some(kind) => icmp_type(kind)?,
            None => icmp6_type(text.strip_prefix("icmp6-")?)?,
        },
    };
    Some(Kind::Number(value))
}

/// Types of ICMP (IANA, "ICMP Type Numbers").
fn icmp_type(kind: &str) -> Option<u32> {
    Some(match kind {
        "echoreply" => 0,
        "unreach" => 3,
        "sourcequench" => 4,
        "redirect" => 5,
        "echo" => 8,
        "routeradvert" => 9,
        "routersolicit" => 10,
        "timxceed" => 11,
        "paramprob" => 12,
        "tstamp" => 13,
        "tstampreply" => 14,
        "ireq" => 15,
        "ireqreply" => 16,
        "maskreq" => 17,
        "maskreply" => 18,
        _ => return None,
    })
}

/// Types of ICMPv6 (IANA, "ICMPv6 type Numbers").
fn icmp6_type(kind: &str) -> Option<u32> {
    Some(match kind {
        "destinationunreach" => 1,
        "packettoobig" => 2,
        "timeexceeded" => 3,
        "parameterproblem" => 4,
        "echo" => 128,
        "echoreply" => 129,
        "multicastlistenerquery" => 130,
        "multicastlistenerreportv1" => 131,
        "multicastlistenerdone" => 132,
        "routersolicit" => 133,
        "routeradvert" => 134,
        "neighborsolicit" => 135,
        "neighboradvert" => 136,
        "redirect" => 137,
        "routerrenum" => 138,
        "nodeinformationquery" => 139,
        "nodeinformationresponse" => 140,
        "ineighbordiscoverysolicit" => 141,
        "ineighbordiscoveryadvert" => 142,
        "multicastlistenerreportv2" => 143,
        "homeagentdiscoveryrequest" => 144,
        "homeagentdiscoveryreply" => 145,
        "mobileprefixsolicit" => 146,
        "mobileprefixadvert" => 147,
        "certpathsolicit" => 148,
        "certpathadvert" => 149,
        "multicastrouteradvert" => 151,
        "multicastroutersolicit" => 152,
        "multicastrouterterm" => 153,
        _ => return None,
    })
}
