//! GET_ADAPTER_STATS: the balance and the protocol counters of one adapter.

use weir_abi::{AdapterStatsReply, ReplyHeader};

use super::reply::Reply;
use crate::error::Error;
use crate::ndis;

pub(super) fn handle(adapter: u32, reply: Reply<'_>) -> Result<usize, Error> {
    let stats = ndis::adapter_stats(adapter).ok_or(Error::NoSuchAdapter)?;
    reply.one(&AdapterStatsReply {
        header: ReplyHeader::of::<AdapterStatsReply>(),
        adapter,
        reserved: 0,
        stats,
    })
}
