use weir_abi::Direction;
use weir_engine::rule::{Decision, View, bpf, reference};

use crate::bytes::Bytes;
use crate::frames::frame;
use crate::machine;
use crate::path::Pieces;
use crate::rules::{Rules, compiled, load};

/// A rule file, then frames.
pub fn rule_run(input: &[u8]) {
    let mut from = Bytes::new(input);
    let Some(program) = compiled(&mut from) else {
        return;
    };
    let rules = load(&program);
    let mut frames = 0;
    while !from.is_empty() && frames < 32 {
        frames += 1;
        let how = from.u8();
        let frame = frame(&mut from);
        let direction = match how & 3 {
            0 => None,
            1 => Some(Direction::In),
            _ => Some(Direction::Out),
        };
        let wire_len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let whole = View::contiguous(&frame, wire_len);
        let expected = plain(&rules, &whole, direction);
        assert_eq!(quick(&rules, &whole, direction), expected);
        for rule in rules.program().rules() {
            let returned = bpf::run(rule.code(), &whole);
            assert_eq!(returned, machine::run(rule.code(), &frame, wire_len));
        }
        // The same in pieces, and what is left when it is snapped.
        let cut = usize::from(how >> 2).min(frame.len());
        let far = Pieces(&frame);
        let pieces = View::new(&frame[..cut], wire_len, wire_len, &far);
        assert_eq!(quick(&rules, &pieces, direction), expected);
        let snapped = View::contiguous(&frame[..cut], wire_len);
        assert_eq!(
            quick(&rules, &snapped, direction),
            plain(&rules, &snapped, direction)
        );
    }
}

type Said = (Decision, Vec<u32>);

fn quick(rules: &Rules, view: &View<'_>, direction: Option<Direction>) -> Said {
    let mut hits = Vec::new();
    let decision = rules.decide(view, direction, |rule| hits.push(rule));
    (decision, hits)
}

fn plain(rules: &Rules, view: &View<'_>, direction: Option<Direction>) -> Said {
    let mut hits = Vec::new();
    let decision = reference::decide(&rules.program(), view, direction, |rule| hits.push(rule));
    (decision, hits)
}
