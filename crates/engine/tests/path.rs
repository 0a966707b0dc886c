//! The way of a frame: in which order, and what is handed through.

mod common;

use std::cell::RefCell;

use common::program::Program;
use common::{ethernet, ipv4, ipv6, tcp_syn, udp};
use weir_abi::Direction;
use weir_engine::Meta;
use weir_engine::flow::{TcpTags, Tracked};
use weir_engine::path::inspect;
use weir_engine::rule::format::{
    ACTION_COUNT, ACTION_DROP, ACTION_LOG, ACTION_PASS, DIRECTION_IN, DIRECTION_OUT,
};
use weir_engine::rule::{Action, Decision, Far, NoFar, RuleSet, View};
use weir_engine::wire::{Defect, HEADER_WINDOW, Transport};

type Rules = RuleSet<Vec<u8>, Vec<u32>>;

const BOTH: u32 = DIRECTION_IN | DIRECTION_OUT;

fn meta(frame: &[u8], direction: Option<Direction>) -> Meta {
    Meta {
        adapter: 3,
        direction,
        time_100ns: 7,
        frame_len: u32::try_from(frame.len()).unwrap(),
    }
}

fn whole<'a>(frame: &'a [u8], meta: &Meta) -> View<'a> {
    View::contiguous(frame, meta.frame_len)
}

/// Counts IPv4, logs UDP, drops what comes in to port 80, and passes the rest;
/// but drops frames that are not IPv4.
fn rules() -> Rules {
    let mut program = Program::new(ACTION_DROP);
    program.linear("ipv4", ACTION_COUNT, BOTH, &[(12, 0x0800)]);
    program.linear("udp", ACTION_LOG, BOTH, &[(23, 17)]);
    program.linear("web", ACTION_DROP, DIRECTION_IN, &[(12, 0x0800), (36, 80)]);
    program.linear("rest", ACTION_PASS, BOTH, &[(12, 0x0800)]);
    program.build()
}

const TRACKED: Tracked = Tracked {
    flow: 9,
    slot: 4,
    is_new: true,
    from_initiator: true,
    tags: TcpTags::RETRANSMISSION,
};

#[test]
fn flows_see_a_frame_before_the_rules_do_and_even_if_it_is_dropped() {
    let frame = ethernet(0x0800, &ipv4(6, 0, &[], &tcp_syn()));
    let meta = meta(&frame, Some(Direction::In));
    let events = RefCell::new(Vec::new());
    let inspected = inspect(
        &whole(&frame, &meta),
        &meta,
        Some(&rules()),
        |dissected, given| {
            assert_eq!(*given, meta);
            assert_eq!(dissected.ports(), Some((49152, 80)));
            events.borrow_mut().push("track".to_owned());
            Some(TRACKED)
        },
        |rule| events.borrow_mut().push(format!("hit {rule}")),
    );
    assert_eq!(events.into_inner(), ["track", "hit 0", "hit 2"]);
    assert_eq!(inspected.tracked, Some(TRACKED));
    let expected = Decision {
        action: Action::Drop,
        rule: Some(2),
        log: None,
    };
    assert_eq!(inspected.decision, expected);
    assert!(matches!(inspected.frame.transport, Transport::Tcp(_)));
}

fn decide(frame: &[u8], direction: Option<Direction>) -> (Decision, Vec<u32>) {
    let meta = meta(frame, direction);
    let mut hits = Vec::new();
    let rules = rules();
    let view = whole(frame, &meta);
    let inspected = inspect(&view, &meta, Some(&rules), |_, _| None, |r| hits.push(r));
    assert_eq!(inspected.tracked, None);
    (inspected.decision, hits)
}

#[test]
fn direction_default_and_log_are_the_rules_own() {
    let web = ethernet(0x0800, &ipv4(6, 0, &[], &tcp_syn()));
    let decision = |action, rule, log| Decision { action, rule, log };
    let dropped = (decision(Action::Drop, Some(2), None), vec![0, 2]);
    let passed = (decision(Action::Pass, Some(3), None), vec![0, 3]);
    assert_eq!(decide(&web, Some(Direction::In)), dropped);
    assert_eq!(decide(&web, Some(Direction::Out)), passed);
    assert_eq!(
        decide(&web, None),
        dropped,
        "rules of any direction are tried"
    );

    let dns = ethernet(0x0800, &ipv4(17, 0, &[], &udp(b"question")));
    let logged = (decision(Action::Pass, Some(3), Some(1)), vec![0, 1, 3]);
    assert_eq!(decide(&dns, Some(Direction::Out)), logged);

    let v6 = ethernet(0x86dd, &ipv6(6, &tcp_syn()));
    let default = (decision(Action::Drop, None, None), vec![]);
    assert_eq!(decide(&v6, Some(Direction::In)), default);
}

#[test]
fn without_rules_everything_passes() {
    let frame = ethernet(0x86dd, &ipv6(6, &tcp_syn()));
    let meta = meta(&frame, Some(Direction::In));
    let inspected = inspect(
        &whole(&frame, &meta),
        &meta,
        None::<&Rules>,
        |_, _| Some(TRACKED),
        |_| panic!("a rule that isn't there took effect"),
    );
    assert_eq!(inspected.decision.action, Action::Pass);
    assert_eq!(inspected.decision.rule, None);
    assert_eq!(inspected.tracked, Some(TRACKED));
}

/// The bytes of a frame behind its first ones, wherever they lie.
struct Behind<'a>(&'a [u8]);

impl Far for Behind<'_> {
    fn copy_to(&self, offset: u32, dst: &mut [u8]) -> usize {
        let from = self.0.get(offset as usize..).unwrap_or_default();
        let len = from.len().min(dst.len());
        dst[..len].copy_from_slice(&from[..len]);
        len
    }
}

#[test]
fn a_frame_in_pieces_is_decided_on_as_a_whole_one() {
    let frame = ethernet(0x0800, &ipv4(6, 0, &[], &tcp_syn()));
    let meta = meta(&frame, Some(Direction::In));
    let far = Behind(&frame);
    let rules = rules();
    let (expected, _) = decide(&frame, Some(Direction::In));
    for end in 0..frame.len() {
        let pieces = View::new(&frame[..end], meta.frame_len, meta.frame_len, &far);
        let decision = inspect(&pieces, &meta, Some(&rules), |_, _| None, drop).decision;
        assert_eq!(decision, expected, "{end} bytes in the first piece");
    }
    // Nothing behind them: what can't be read doesn't match.
    let captured = 30;
    let snapped = View::new(&frame[..30], captured, meta.frame_len, &NoFar);
    let decision = inspect(&snapped, &meta, Some(&rules), |_, _| None, drop).decision;
    assert_eq!(decision.rule, Some(3));
}

#[test]
fn headers_are_read_in_the_window_however_much_is_in_one_piece() {
    // Options that push the TCP header behind the window.
    let mut chain = vec![6, 20, 1, 4, 0, 0, 0, 0];
    chain.resize(168, 0);
    let frame = ethernet(0x86dd, &ipv6(60, &[&chain[..], &tcp_syn()].concat()));
    let meta = meta(&frame, None);
    let window = View::new(
        &frame[..HEADER_WINDOW],
        meta.frame_len,
        meta.frame_len,
        &NoFar,
    );
    for view in [whole(&frame, &meta), window] {
        let frame = inspect(&view, &meta, None::<&Rules>, |_, _| None, drop).frame;
        assert_eq!(frame.transport, Transport::None);
        assert_eq!(frame.fault.map(|f| f.defect), Some(Defect::Snapped));
    }
}
