//! Rule files out of a fuzzer's bytes, about the hosts and ports of its frames.

use std::fmt::Write as _;

use weir_engine::rule::{Program, RuleSet};
use weir_rules::RuleFile;

use crate::bytes::Bytes;
use crate::frames::{HOSTS, PORTS};

/// A rule set as it is loaded.
pub(crate) type Rules = RuleSet<Vec<u8>, Vec<u32>>;

/// The set of a program that the compiler made, or that was verified.
pub(crate) fn load(bytes: &[u8]) -> Rules {
    let program = Program::verify(bytes).expect("a program that was verified before");
    let len = Rules::index_len(&program);
    // What the index's memory held before does not matter.
    Rules::build(bytes.to_vec(), vec![0xffff_fff0; len]).expect("a program that can be loaded")
}

/// A file of a few rules; none if the compiler refuses it.
pub(crate) fn compiled(from: &mut Bytes<'_>) -> Option<Vec<u8>> {
    let mut text = String::new();
    for number in 0..=from.u8() & 3 {
        let action = from.pick(&["pass", "drop", "divert", "log", "count"]);
        let direction = from.pick(&["any", "in", "out"]);
        let expression = expression(from, 0);
        let _ = writeln!(text, "rule r{number} {action} {direction} {expression}");
    }
    let _ = writeln!(text, "default {}", from.pick(&["pass", "drop"]));
    Some(RuleFile::parse(&text, "").ok()?.compile())
}

fn expression(from: &mut Bytes<'_>, depth: u8) -> String {
    let kind = from.u8() % 40;
    match kind {
        0..=3 if depth < 2 => {
            let (a, b) = (expression(from, depth + 1), expression(from, depth + 1));
            format!("({a}) and ({b})")
        }
        4..=6 if depth < 2 => {
            let (a, b) = (expression(from, depth + 1), expression(from, depth + 1));
            format!("({a}) or ({b})")
        }
        7 if depth < 2 => format!("not ({})", expression(from, depth + 1)),
        0..=9 => five_tuple(from),
        10..=14 => format!("{}host 10.0.0.{}", side(from), from.pick(&HOSTS)),
        15..=17 => format!("{}host fd00::{:x}", side(from), from.pick(&HOSTS)),
        18..=22 => format!("{}{}port {}", protocol(from), side(from), from.pick(&PORTS)),
        23 => format!("{}net 10.0.0.0/{}", side(from), from.pick(&[8, 29, 30, 31])),
        24 => format!("{}portrange 50-{}", side(from), from.pick(&PORTS)),
        25 => format!("vlan {}", from.u8() & 3),
        26 => "vlan".to_owned(),
        27 => format!("len {} {}", from.pick(&["<", ">=", "=", "!="]), from.u8()),
        28 => "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0".to_owned(),
        29 => format!("ether[{}] = {}", from.u8() & 63, from.u8()),
        30 => format!("ip[{}] & {} != 0", from.u8() & 63, from.u8()),
        31 => format!("ether src host 02:00:00:00:00:{:02x}", from.pick(&HOSTS)),
        32 => format!("ip6[{}:2] > {}", from.u8() & 63, from.u16()),
        33 => format!("udp[{}] = {}", from.u8() & 15, from.u8()),
        34 => format!("ip proto {}", from.u8()),
        35 => format!("ip6 proto {}", from.pick(&[6, 17, 44, 58])),
        _ => from
            .pick(&["ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "sctp"])
            .to_owned(),
    }
}

fn five_tuple(from: &mut Bytes<'_>) -> String {
    let (a, b) = (from.pick(&HOSTS), from.pick(&HOSTS));
    let protocol = from.pick(&["tcp", "udp"]);
    let (p, q) = (from.pick(&PORTS), from.pick(&PORTS));
    let host = if from.u8() & 1 == 0 {
        "10.0.0."
    } else {
        "fd00::"
    };
    let digits = |n: u8| match host {
        "fd00::" => format!("{n:x}"),
        _ => n.to_string(),
    };
    let (a, b) = (digits(a), digits(b));
    format!(
        "{protocol} and src host {host}{a} and dst host {host}{b} and src port {p} and dst port {q}"
    )
}

fn side(from: &mut Bytes<'_>) -> &'static str {
    from.pick(&["", "src ", "dst ", "src or dst ", "src and dst "])
}

fn protocol(from: &mut Bytes<'_>) -> &'static str {
    from.pick(&["", "tcp ", "udp ", "sctp "])
}
