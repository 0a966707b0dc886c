//! The meaning of a program: every rule's code, in order, and nothing clever.
//!
//! [`RuleSet::decide`](super::RuleSet::decide) is right when it says the same.

use weir_abi::Direction;

use super::{Action, Decision, Program, View};

/// What [`RuleSet::decide`](super::RuleSet::decide) has to say of a frame, and
/// the hits it has to report, in order.
pub fn decide(
    program: &Program<'_>,
    view: &View<'_>,
    direction: Option<Direction>,
    mut hit: impl FnMut(u32),
) -> Decision {
    let mut log = None;
    let tried = program.rules().filter(|rule| rule.applies_to(direction));
    for rule in tried.filter(|rule| rule.matches(view)) {
        let (index, action) = (rule.index(), rule.action());
        hit(index);
        if action.is_terminal() {
            let rule = Some(index);
            return Decision { action, rule, log };
        }
        if action == Action::Log {
            log = log.or(Some(index));
        }
    }
    Decision {
        action: program.default_action(),
        rule: None,
        log,
    }
}
