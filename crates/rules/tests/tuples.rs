//! Tuples are a necessary condition of an expression, those without
//! `TUPLE_CONFIRM` a sufficient one, and the engine's look-up by them decides
//! what the code says.

#[path = "common/bpf.rs"]
mod bpf;
#[path = "common/frames.rs"]
mod frames;
#[path = "common/grammar.rs"]
mod grammar;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use weir_engine::rule::format::{
    CLASS_ARP, CLASS_IPV4, CLASS_IPV6, CLASS_RARP, FIELD_DST_PORT, FIELD_PROTOCOL, FIELD_SRC_PORT,
    TUPLE_CONFIRM, TupleEntry,
};
use weir_engine::rule::{Program, RuleSet, View};
use weir_rules::RuleFile;

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Where a frame has its protocol, addresses and ports, the plainest way.
struct Places {
    class: u8,
    protocol: Option<u8>,
    addresses: [usize; 2],
    ports: Option<usize>,
    /// Bytes that have to be at hand for everything a tuple is about.
    whole: usize,
}

fn places(bytes: &[u8]) -> Option<Places> {
    let transport = |protocol: Option<u8>| matches!(protocol, Some(6 | 17 | 132));
    Some(match half(bytes, 12)? {
        0x0800 => {
            let protocol = bytes.get(23).copied();
            let header = bytes.get(14).map(|byte| usize::from(byte & 15) * 4);
            let first = half(bytes, 20).is_some_and(|fragment| fragment & 0x1fff == 0);
            let ports = header
                .filter(|_| first && transport(protocol))
                .map(|len| 14 + len);
            let whole = ports.map_or(0, |at| at + 4).max(34);
            Places {
                class: CLASS_IPV4,
                protocol,
                addresses: [26, 30],
                ports,
                whole,
            }
        }
        0x86dd => {
            let protocol = bytes.get(20).copied();
            let ports = transport(protocol).then_some(54);
            let whole = if ports.is_some() { 58 } else { 54 };
            Places {
                class: CLASS_IPV6,
                protocol,
                addresses: [22, 38],
                ports,
                whole,
            }
        }
        kind @ (0x0806 | 0x8035) => {
            let class = if kind == 0x0806 {
                CLASS_ARP
            } else {
                CLASS_RARP
            };
            Places {
                class,
                protocol: None,
                addresses: [28, 38],
                ports: None,
                whole: 42,
            }
        }
        _ => return None,
    })
}

fn matches(tuple: &TupleEntry, bytes: &[u8], places: &Places) -> bool {
    let address = |at: usize, prefix: u8, wanted: &[u8; 16]| {
        (0..usize::from(prefix)).all(|bit| {
            let mask = 0x80 >> (bit % 8);
            bytes
                .get(at + bit / 8)
                .is_some_and(|byte| byte & mask == wanted[bit / 8] & mask)
        })
    };
    let port = |field: u8, offset: usize, wanted: u16| {
        tuple.fields & field == 0
            || places.ports.and_then(|at| half(bytes, at + offset)) == Some(wanted)
    };
    tuple.class == places.class
        && (tuple.fields & FIELD_PROTOCOL == 0 || places.protocol == Some(tuple.protocol))
        && address(places.addresses[0], tuple.src_prefix, &tuple.src)
        && address(places.addresses[1], tuple.dst_prefix, &tuple.dst)
        && port(FIELD_SRC_PORT, 0, tuple.src_port)
        && port(FIELD_DST_PORT, 2, tuple.dst_port)
}

#[test]
fn tuples_are_necessary_and_sufficient() {
    let frames = frames::all();
    let seed = std::env::var("WEIR_SEED").map_or(5, |text| text.parse().expect("a number"));
    let cases =
        std::env::var("WEIR_EXPRESSIONS").map_or(800, |text| text.parse().expect("a number"));
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let counts = std::cell::Cell::new((0u64, 0u64, 0u64));
    let result = TestRunner::new_with_rng(config, rng).run(&grammar::expression(), |text| {
        let Ok(file) = RuleFile::parse(&format!("rule r drop any {text}\n"), "") else {
            return Ok(());
        };
        let expression = &file.rules()[0].expression;
        let bytes = file.compile();
        let index = vec![0u32; Program::verify(&bytes).expect("a program").index_len()];
        let set = RuleSet::build(&bytes[..], index).expect("an index");
        let (mut looked_up, mut exact, mut all) = counts.get();
        all += 1;
        looked_up += u64::from(!expression.tuples().is_empty());
        for frame in &frames {
            let code = bpf::run(expression.code(), &frame.bytes, frame.len) != 0;
            let view = View::contiguous(&frame.bytes, frame.len);
            let decided = set.decide(&view, None, &mut |_| {}).rule.is_some();
            let fail = |what: &str| {
                Err(TestCaseError::fail(format!(
                    "{what}: code says {code}, of {} {:02x?}\n{:#?}",
                    frame.from,
                    frame.bytes,
                    expression.tuples()
                )))
            };
            if code != decided {
                return fail("the engine decides otherwise");
            }
            if code && expression.never_matches() {
                return fail("it never matches, and does");
            }
            if expression.tuples().is_empty() {
                continue;
            }
            let Some(places) = places(&frame.bytes) else {
                if code {
                    return fail("no tuple for this class");
                }
                continue;
            };
            let found: Vec<&TupleEntry> = expression
                .tuples()
                .iter()
                .filter(|t| matches(t, &frame.bytes, &places))
                .collect();
            if code && found.is_empty() {
                return fail("not necessary");
            }
            let sufficient = found.iter().any(|tuple| tuple.flags & TUPLE_CONFIRM == 0);
            if sufficient && !code && frame.bytes.len() >= places.whole {
                return fail("not sufficient");
            }
            exact += u64::from(sufficient);
        }
        counts.set((looked_up, exact, all));
        Ok(())
    });
    let (looked_up, exact, all) = counts.get();
    println!("{all} expressions, {looked_up} looked up, {exact} matches without code");
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(looked_up > all / 4, "too few expressions have tuples");
    assert!(exact > all, "too few frames match tuples that suffice");
}

/// `multicast` loads one byte of an address, and a frame may end behind it.
#[test]
fn a_frame_that_ends_within_an_address_is_decided_by_code() {
    let file =
        RuleFile::parse("rule r drop any ip multicast or ip6 multicast\n", "").expect("a file");
    let bytes = file.compile();
    let index = vec![0u32; Program::verify(&bytes).expect("a program").index_len()];
    let set = RuleSet::build(&bytes[..], index).expect("an index");
    for (ethertype, at, group) in [(0x0800u16, 30, 224), (0x86dd, 38, 255)] {
        let mut frame = vec![0u8; at + 1];
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        frame[at] = group;
        let decided = set.decide(&View::contiguous(&frame, 100), None, &mut |_| {});
        assert_eq!(decided.rule, Some(0), "{ethertype:x}");
    }
}
