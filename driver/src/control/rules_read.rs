//! RULES_READ: the program in force, from an offset on.

use core::num::NonZeroU64;

use weir_abi::RulesReadReply;

use super::reply::Reply;
use crate::error::Error;
use crate::rules;

pub(super) fn handle(
    generation: Option<NonZeroU64>,
    offset: u32,
    reply: Reply<'_>,
) -> Result<usize, Error> {
    let current = rules::current();
    let version = rules::version_of(current.as_ref(), generation)?;
    let program = current
        .as_ref()
        .map_or(&[][..], |rules| rules.rules().bytes());
    let total = u32::try_from(program.len()).unwrap_or(u32::MAX);
    let rest = usize::try_from(offset)
        .ok()
        .and_then(|offset| program.get(offset..))
        .ok_or(Error::BeyondProgram)?;
    let mut list = reply.list::<RulesReadReply, u8>();
    list.push_bytes(rest);
    list.finish(|header, count| RulesReadReply {
        header,
        generation: version.generation,
        loaded_100ns: version.loaded_100ns,
        total,
        count,
    })
}
