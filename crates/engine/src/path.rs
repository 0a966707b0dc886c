//! The way of one frame: dissected, tracked, decided on. One function, for the
//! kernel and for files, so that both say the same of the same frame.

use crate::flow::Tracked;
use crate::rule::{Action, Decision, RuleSet, View};
use crate::{Meta, wire};

/// What is known of a frame at the end of its way.
#[derive(Clone, Copy, Debug)]
pub struct Inspected<'a> {
    /// Its headers.
    pub frame: wire::Dissected<'a>,
    /// What it is in its flow; none where it has none, or nobody tracks.
    pub tracked: Option<Tracked>,
    /// What becomes of it.
    pub decision: Decision,
}

/// Where there are no rules.
const PASS: Decision = Decision {
    action: Action::Pass,
    rule: None,
    log: None,
};

/// Takes one frame its way.
///
/// - `view`: its bytes, at least [`wire::HEADER_WINDOW`] of them in one piece
///   where it has so many. Of these the headers are read, no more, however long
///   the piece is: a frame is the same wherever it comes from. The rules read on.
/// - `meta`: what is known beside them; `frame_len` is the view's length on the
///   wire.
/// - `rules`: those in force. None: everything passes.
/// - `track`: the owner's way to its flow table, whatever lock that takes; called
///   once, before the rules are asked: a flow is what was seen, not what passed.
/// - `hit`: called for each rule that took effect, as [`RuleSet::decide`] does.
///
/// Allocates nothing and never fails.
pub fn inspect<'a, P, I>(
    view: &View<'a>,
    meta: &Meta,
    rules: Option<&RuleSet<P, I>>,
    track: impl FnOnce(&wire::Dissected<'a>, &Meta) -> Option<Tracked>,
    hit: impl FnMut(u32),
) -> Inspected<'a>
where
    P: AsRef<[u8]>,
    I: AsRef<[u32]>,
{
    let prefix = view.prefix();
    let window = prefix.get(..wire::HEADER_WINDOW).unwrap_or(prefix);
    // Filled in where it stays: a frame's headers are too many to be moved.
    let mut inspected = Inspected {
        frame: wire::dissect(window, meta.frame_len),
        tracked: None,
        decision: PASS,
    };
    inspected.tracked = track(&inspected.frame, meta);
    if let Some(rules) = rules {
        inspected.decision = rules.decide(view, meta.direction, hit);
    }
    inspected
}
