//! Rules about a frame of which only the addresses and ports of a SYN are known:
//! what they decide, and that a rule that asks for more decides nothing.

use std::ops::Range;

use weir_abi::Direction;
use weir_engine::rule::sketch::{Sketch, decide};
use weir_engine::rule::{Action, Program, RuleSet, View};
use weir_rules::RuleFile;

/// Ethernet, IPv4, TCP: 10.0.0.9:1025 to 10.0.0.1:7, SYN.
const SYN: [u8; 54] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, // no link addresses, IPv4
    0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1, // 64 hops
    4, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
];
const KNOWN: [Range<u32>; 6] = [12..14, 14..15, 20..22, 23..24, 26..38, 47..48];

fn program(rules: &str) -> Vec<u8> {
    let file = RuleFile::parse(rules, "test.rules").expect("rules");
    file.compile()
}

fn about(rules: &str) -> Option<Action> {
    let bytes = program(rules);
    let program = Program::verify(&bytes).expect("a program");
    let syn = Sketch {
        bytes: &SYN,
        known: &KNOWN,
    };
    decide(&program, syn, Some(Direction::In)).map(|decision| decision.action)
}

#[test]
fn what_is_known_decides() {
    for (rules, action) in [
        ("rule a drop in tcp dst port 7", Action::Drop),
        ("rule a drop in tcp dst port 8", Action::Pass),
        ("rule a drop in host 10.0.0.9 and not udp", Action::Drop),
        ("rule a drop in net 10.0.0.0/24", Action::Drop),
        ("rule a drop in tcp[tcpflags] & tcp-syn != 0", Action::Drop),
        ("rule a drop in ip6", Action::Pass),
        ("rule a drop in tcp portrange 5-9", Action::Drop),
        ("rule a drop out tcp", Action::Pass),
        ("rule a drop in icmp[0] = 8", Action::Pass),
        ("rule a divert in tcp\nrule b drop in tcp", Action::Divert),
        ("rule a count in less 100\nrule b drop in tcp", Action::Drop),
        (
            "rule a pass in src host 10.0.0.9\ndefault drop",
            Action::Pass,
        ),
        ("default drop", Action::Drop),
    ] {
        assert_eq!(about(rules), Some(action), "{rules}");
    }
}

#[test]
fn a_rule_that_asks_for_more_leaves_it_open() {
    for asks in [
        "ether host 02:00:00:00:00:01",
        "not ether host 02:00:00:00:00:01",
        "ip[8] = 64",
        "tcp[14:2] = 65535",
        "tcp[20] = 1",
        "tcp[12] & 0xf0 = 0x50",
        "less 60",
        "len = 54",
    ] {
        for action in ["pass", "drop"] {
            let rules = format!("rule a {action} in {asks}\nrule b drop in tcp dst port 7");
            assert_eq!(about(&rules), None, "{rules}");
        }
        // Behind a rule that decides it isn't asked.
        let rules = format!("rule a drop in tcp dst port 7\nrule b pass in {asks}");
        assert_eq!(about(&rules), Some(Action::Drop), "{rules}");
    }
}

/// With every byte known it says what the engine says of the frame itself.
#[test]
fn a_frame_all_known_is_decided_as_it_is() {
    for expression in [
        "tcp dst port 7",
        "ip[8] = 64",
        "ip[8] > 64",
        "not ether host 02:00:00:00:00:01",
        "tcp[14:2] = 65535",
        "src net 10.0.0.0/30 or udp",
    ] {
        let bytes = program(&format!("rule a drop in {expression}"));
        let verified = Program::verify(&bytes).expect("a program");
        let whole = 0..54;
        let syn = Sketch {
            bytes: &SYN,
            known: std::slice::from_ref(&whole),
        };
        let index = vec![0u32; verified.index_len()];
        let set = RuleSet::build(&bytes[..], index).expect("an index");
        let view = View::contiguous(&SYN, 54);
        let real = set.decide(&view, Some(Direction::In), |_| {});
        assert_eq!(
            decide(&verified, syn, Some(Direction::In)),
            Some(real),
            "{expression}"
        );
    }
}
