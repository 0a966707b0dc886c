//! Names of protocols: `ip proto \tcp`, `ether proto \ip`.

/// Names in the header of IP: Debian's `/etc/protocols` (netbase 6.4), which
/// follows IANA's "Protocol Numbers".
const IP: &str = include_str!("protocols.txt");

/// The number of a protocol of IP, by its name or an alias.
pub(crate) fn ip_proto(name: &str) -> Option<u32> {
    IP.lines().find_map(|line| {
        let mut words = line.split(' ');
        let number = words.next()?.parse().ok()?;
        words.any(|word| word == name).then_some(number)
    })
}

/// The EtherType or LLC service access point of a name.
pub(crate) fn ether_proto(name: &str) -> Option<u32> {
    Some(match name {
        "aarp" => 0x80f3,
        "arp" => 0x0806,
        "atalk" => 0x809b,
        "decnet" => 0x6003,
        "ip" => 0x0800,
        "ip6" => 0x86dd,
        "lat" => 0x6004,
        "loopback" => 0x9000,
        "mopdl" => 0x6001,
        "moprc" => 0x6002,
        "rarp" => 0x8035,
        "sca" => 0x6007,
        "iso" => 0xfe,
        "stp" => 0x42,
        "ipx" => 0xe0,
        "netbeui" => 0xf0,
        _ => return None,
    })
}

/// OSI's network layer protocol identifier of a name.
pub(crate) fn iso_proto(name: &str) -> Option<u32> {
    Some(match name {
        "clnp" => 0x81,
        "esis" => 0x82,
        "isis" => 0x83,
        _ => return None,
    })
}

/// Words that someone may have meant.
const WORDS: &[&str] = &[
    "and",
    "arp",
    "broadcast",
    "dst",
    "ether",
    "greater",
    "host",
    "icmp",
    "icmp6",
    "igmp",
    "ip",
    "ip6",
    "len",
    "less",
    "mask",
    "multicast",
    "net",
    "not",
    "or",
    "port",
    "portrange",
    "proto",
    "rarp",
    "sctp",
    "src",
    "tcp",
    "udp",
    "vlan",
];

/// The word of the language that a name is like.
pub(crate) fn suggestion(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    let other = match lower.as_str() {
        "ipv4" | "ip4" => "ip",
        "ipv6" => "ip6",
        "icmpv6" => "icmp6",
        "source" | "from" => "src",
        "destination" | "to" | "dest" => "dst",
        "any" | "all" => return None,
        _ => return closest(&lower, WORDS.iter().copied()),
    };
    Some(other)
}

/// The name that differs least from another: by one letter, of long ones by two.
pub(crate) fn closest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = if name.len() < 3 {
        0
    } else if name.len() < 6 {
        1
    } else {
        2
    };
    // Of equally close ones the first of the alphabet, so that messages are stable.
    names
        .map(|other| (strsim::osa_distance(name, other), other))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, other)| other)
}
