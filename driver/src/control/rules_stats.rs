//! RULES_STATS: what the rules in force have done.

use core::num::NonZeroU64;

use weir_abi::{RuleAction, RuleHits, RulesStatsReply};

use super::reply::Reply;
use crate::error::Error;
use crate::rules;

pub(super) fn handle(
    generation: Option<NonZeroU64>,
    start: u32,
    reply: Reply<'_>,
) -> Result<usize, Error> {
    let current = rules::current();
    let version = rules::version_of(current.as_ref(), generation)?;
    let mut list = reply.list::<RulesStatsReply, RuleHits>();
    let nothing = RuleHits {
        frames: 0,
        bytes: 0,
    };
    let (mut seen, mut default) = (nothing, nothing);
    let (mut total, mut memory) = (0, 0);
    let mut default_action = RuleAction::Pass.into();
    if let Some(rules) = &current {
        let program = rules.rules().program();
        total = program.rule_count();
        memory = rules.memory();
        default_action = program.default_action().to_format();
        (seen, default) = rules.totals();
        for rule in start..total {
            if list.is_full() {
                break;
            }
            list.push(&rules.hits(rule));
        }
    }
    list.finish(|header, count| RulesStatsReply {
        header,
        generation: version.generation,
        loaded_100ns: version.loaded_100ns,
        memory,
        seen,
        default,
        default_action,
        total,
        count,
        reserved: 0,
    })
}
