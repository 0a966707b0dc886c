//! FLOW_STATS: what the flow table of one adapter has counted.

use weir_abi::{FlowStatsReply, ReplyHeader};

use super::reply::Reply;
use crate::error::Error;
use crate::flows;

pub(super) fn handle(adapter: u32, reply: Reply<'_>) -> Result<usize, Error> {
    let stats = flows::stats(adapter).ok_or(Error::NoSuchAdapter)?;
    reply.one(&FlowStatsReply {
        header: ReplyHeader::of::<FlowStatsReply>(),
        adapter,
        reserved: 0,
        stats,
    })
}
