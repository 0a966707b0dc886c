//! Random expressions of the grammar, most of which have a meaning.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;

/// One of the texts between `|`; `¦` stands for `|`.
fn words(list: &'static str) -> impl Strategy<Value = String> + Clone {
    select(
        list.split('|')
            .map(|text| text.replace('¦', "|"))
            .collect::<Vec<_>>(),
    )
}

fn word(text: &str) -> Just<String> {
    Just(text.to_owned())
}

/// Strings of several parts with blanks between; empty ones are left out.
macro_rules! joined {
    ($($part:expr),+ $(,)?) => {
        vec![$($part.boxed()),+].prop_map(|parts| {
            let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            parts.join(" ")
        })
    };
}

fn address4() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        8 => words("10.0.0.1|10.0.0.2|192.168.1.1|224.0.0.251|255.255.255.255|0.0.0.0"),
        1 => words("10.0|10.0.0|192.168|1|10|0|010.0.0.1|10.1.2.300|3232235777"),
        1 => any::<[u8; 4]>().prop_map(|a| std::net::Ipv4Addr::from(a).to_string()),
    ]
}

fn address6() -> impl Strategy<Value = String> + Clone {
    words("fe80::1|2001:db8::2|ff02::fb|::|::1|2001:0db8:0:0:0:0:0:2|::ffff:10.0.0.1|1::|fe80:0::1")
}

fn mac() -> impl Strategy<Value = String> + Clone {
    words(
        "02:00:00:00:00:01|2:0:0:0:0:2|ff:ff:ff:ff:ff:ff|02-00-00-00-00-01|0200.0000.0002|\
         020000000001|02.00.00.00.00.02",
    )
}

fn network() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        4 => words(
            "10.0.0.0/8|10.0.0.0/24|10.0.0.0/31|10.0.0.1/32|0.0.0.0/0|192.168/16|10.0.0/24|\
             224.0.0.0/4|10.0.0.1/24|10.0.0.0/33|192.168.1.1/16|10.0/8|128.0.0.0/1"
        ),
        2 => words(
            "10.0.0.0 mask 255.0.0.0|10.0.0.0 mask 255.0.255.0|192.168.1.0 mask 255.255.255|\
             0.0.0.1 mask 0.0.0.255|10.0.0.0 mask 255.0|10.0.0.1 mask 255.0.0.0|1.1 mask 255.255"
        ),
        2 => words(
            "fe80::/10|2001:db8::/32|::/0|ff02::fb/128|2001:db8::2/64|fe80::/129|ff00::/8|\
             2001:db8::/33|::1/127"
        ),
        1 => words("10|10.0|192.168.1|0|1|168|172.16|fe80::1"),
    ]
}

fn port() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        8 => words("80|443|53|7|40000|0x50|0120"),
        1 => words("0|65535|65536|4294967295"),
        2 => words("http|https|domain|echo|ntp|ssh|\\http|www|syslog|snmp|nosuchport|\\80"),
    ]
}

fn port_range() -> impl Strategy<Value = String> + Clone {
    words(
        "1-1024|80-443|443-80|53-53|0-65535|7-7|80|40000-65535|http-https|domain-443|1-70000|\
         79-81|nosuch-5|ssh-smtp|443-445|65535-65535|0-0|1-65535|0-79",
    )
}

fn direction() -> impl Strategy<Value = String> + Clone {
    words("||src|dst|src or dst|src and dst|dst or src|dst and src")
}

fn protocol_number() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        6 => words("6|17|1|58|132|44|50|0|255|256|2|0x11|4294967295"),
        2 => words("\\tcp|\\udp|\\icmp|\\sctp|ipv6-icmp|ospf|\\igmp|nosuch|gre|OSPFIGP|vrrp"),
    ]
}

fn ether_type() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        4 => words("0x800|0x86dd|0x806|2048|0x8100|0x88a8|0x8847|0x10800|1500|1501|0x88cc"),
        2 => words("6|0xfe|0xf0|0xe0|0x42|0xaa|4|0|0x809b|0x80f3|0x8137"),
        3 => words("\\ip|\\ip6|\\arp|\\rarp|\\stp|\\ipx|\\iso|\\aarp|loopback|nosuch"),
    ]
}

/// An id by words like these, alone or in parentheses, with others joined to it.
fn ids(
    one: impl Strategy<Value = String> + Clone + 'static,
) -> impl Strategy<Value = String> + Clone {
    let one = one.boxed();
    prop_oneof![
        12 => one.clone(),
        1 => joined!(word("not"), one.clone()),
        1 => joined!(word("( "), one.clone(), words("and|or|or not|&&|¦¦"), one.clone(), word(")")),
        1 => joined!(word("("), one.clone(), word(")")),
        2 => joined!(one.clone(), words("or|and|or not|and not"), one.clone()),
        1 => joined!(one.clone(), word("or ("), one.clone(), words("or|and"), word("!"), one, word(")")),
    ]
}

fn primitive() -> impl Strategy<Value = String> + Clone {
    let transports = words("||tcp|udp|sctp");
    let networks = words("|||ip|ip6|arp|rarp");
    let odd = words("ether|icmp|vrrp|ip|ip6|tcp|arp|stp|l1|lat|aarp");
    Union::new_weighted(vec![
        (6, joined!(networks.clone(), direction(), word("host"), ids(prop_oneof![3 => address4(), 2 => address6()])).boxed()),
        (2, joined!(words("src|dst|src or dst|src and dst"), ids(prop_oneof![3 => address4(), 1 => address6()])).boxed()),
        (6, joined!(networks.clone(), direction(), word("net"), ids(network())).boxed()),
        (8, joined!(transports.clone(), direction(), word("port"), ids(port())).boxed()),
        (4, joined!(transports.clone(), direction(), word("portrange"), ids(port_range())).boxed()),
        (3, joined!(words("|ip|ip6|ip|ip6"), word("proto"), ids(protocol_number())).boxed()),
        (3, joined!(word("ether proto"), ids(ether_type())).boxed()),
        (2, joined!(words("iso|isis"), word("proto"), words("0x81|0x83|\\clnp|\\isis|17|18|0")).boxed()),
        (4, joined!(word("ether"), words("host|src|dst|src host|dst host|src or dst|src and dst|host not"), ids(mac())).boxed()),
        (4, words(
            "ip|ip6|arp|rarp|tcp|udp|sctp|icmp|icmp6|igmp|pim|ah|esp|igrp|vrrp|carp|tcp|udp|ip|ip6"
        ).boxed()),
        (2, words(
            "atalk|aarp|decnet|lat|sca|moprc|mopdl|iso|esis|isis|clnp|stp|ipx|netbeui|l1|l2|iih|lsp|\
             snp|csnp|psnp|es-is|is-is|pppoed|ether|link"
        ).boxed()),
        (2, joined!(word("llc"), words("|i|s|u|rr|rnr|rej|ui|ua|disc|dm|sabme|test|xid|frmr|UI|nosuch")).boxed()),
        (2, words(
            "broadcast|multicast|ether broadcast|ether multicast|ip broadcast|ip multicast|\
             ip6 multicast|ip6 broadcast|tcp multicast"
        ).boxed()),
        (3, joined!(word("vlan"), words("|||5|7|300|0|4095|4096|(5)|((300))")).boxed()),
        (3, joined!(words("less|greater"), words("60|14|64|54|100|1514|0|4294967295")).boxed()),
        (2, joined!(word("byte"), words("0|12|13|23|14|50|200"), words("=|<|>"), words("0|1|2|8|6|69|256")).boxed()),
        (8, relation().boxed()),
        (2, joined!(odd, words("host|net|port|portrange|proto|src|dst|broadcast|"), words("10.0.0.1|80|6|fe80::1|02:00:00:00:00:01|")).boxed()),
    ])
}

/// Numbers, as written in arithmetic.
fn number() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        6 => words("0|1|2|4|6|8|13|14|16|20|64|255|256|0x800|0x1fff|0xffff"),
        1 => words("0xffffffff|31|32|0x7fffffff|010|4294967295|0xfffffffe"),
        2 => words("tcpflags|tcp-syn|tcp-ack|tcp-fin|tcp-rst|tcp-push|tcp-urg|tcp-ece|tcp-cwr"),
        1 => words("icmptype|icmpcode|icmp-echo|icmp-unreach|icmp6type|icmp6-echo|icmp6-neighborsolicit"),
    ]
}

fn operator() -> impl Strategy<Value = String> + Clone {
    words("+|-|*|/|%|&|¦|^|<<|>>|&|&|+|-")
}

/// Numbers that are computed. Blanks stand around operators: `5-3` is a name.
fn arithmetic() -> impl Strategy<Value = String> + Clone {
    let leaf = prop_oneof![4 => number(), 1 => Just("len".to_owned())];
    let size = || words("|||: 1|: 2|: 4|:4|: 3");
    let base = || {
        words(
            "ether|ip|ip|ip6|arp|rarp|tcp|tcp|udp|icmp|icmp6|sctp|igmp|pim|vrrp|link|decnet|lat|\
             ah|stp|igrp|carp|iso",
        )
    };
    let load =
        (base(), number(), size()).prop_map(|(base, at, size)| format!("{base}[{at} {size}]"));
    let simple = prop_oneof![3 => load, 2 => leaf];
    simple.prop_recursive(4, 24, 3, move |inner| {
        prop_oneof![
            6 => joined!(inner.clone(), operator(), inner.clone()),
            2 => joined!(word("("), inner.clone(), operator(), inner.clone(), word(")")),
            1 => joined!(word("("), inner.clone(), word(")")),
            1 => joined!(word("-"), inner.clone()),
            2 => (base(), inner, size()).prop_map(|(base, at, size)| format!("{base}[{at} {size}]")),
        ]
    })
}

fn relation() -> impl Strategy<Value = String> + Clone {
    let compare = words("=|==|!=|<|<=|>|>=|=");
    prop_oneof![
        3 => joined!(arithmetic(), compare.clone(), arithmetic()),
        2 => words(
            "tcp[tcpflags] & (tcp-syn¦tcp-fin) != 0|tcp[tcpflags] == tcp-syn|\
             tcp[13] & 2 != 0|ip[0] & 0xf != 5|ip[6:2] & 0x1fff = 0|icmp[icmptype] = icmp-echo|\
             icmp6[icmp6type] = icmp6-echo|ether[0] & 1 = 0|ip[2:2] > 60|udp[4:2] < 20|\
             tcp[0:2] = 80|udp[2:2] = 53|ip6[6] = 6|ip[9] = 17|ether[12:2] = 0x800|ip[16] >= 224|\
             tcp[(tcp[12] & 0xf0) >> 2:4] = 0x47455420|ether[12:2] > 1500|ip[12:4] = 0x0a000001|\
             ip[16] < 128|tcp[2:2] >= 443|tcp[0:2] <= 1023"
        ),
    ]
}

/// Expressions.
pub(crate) fn expression() -> impl Strategy<Value = String> + Clone {
    let joint = || words("and|or|and|or|&&|¦¦|and not|or not|and !");
    primitive().prop_recursive(4, 20, 3, move |inner| {
        prop_oneof![
            6 => joined!(inner.clone(), joint(), inner.clone()),
            2 => joined!(word("("), inner.clone(), word(")")),
            2 => joined!(word("not"), inner.clone()),
            2 => joined!(word("("), inner.clone(), joint(), inner.clone(), word(")")),
            1 => joined!(inner.clone(), word("and ("), inner.clone(), joint(), inner.clone(), word(")")),
            // What repeats words of what stands before, or has none to repeat.
            1 => joined!(inner.clone(), words("or|and"), words("80|10.0.0.2|443|fe80::1|(80 or 53)|not 7|http|6|10.0.0.0/8")),
            1 => joined!(inner.clone(), words("or|and"), inner, words("or|and"), words("80|10.0.0.1|53|not 443")),
        ]
    })
}
