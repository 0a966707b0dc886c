//! FLOW_LIST: the flows of one adapter.

use weir_abi::{FlowInfo, FlowListReply};

use super::reply::Reply;
use crate::error::Error;
use crate::flows;

pub(super) fn handle(adapter: u32, cursor: u64, reply: Reply<'_>) -> Result<usize, Error> {
    let mut list = reply.list::<FlowListReply, FlowInfo>();
    // A cursor beyond every slot is the end of the list.
    let start = u32::try_from(cursor).unwrap_or(u32::MAX);
    let listed = flows::list(adapter, start, |flow| {
        let fits = !list.is_full();
        if fits {
            list.push(flow);
        }
        fits
    })
    .ok_or(Error::NoSuchAdapter)?;
    list.finish(|header, count| FlowListReply {
        header,
        adapter,
        count,
        // Slot 0 is only ever the start: it is always in the first part, unless
        // there is no room for any entry, and then the list goes on with it.
        next: listed.next.map_or(0, u64::from),
        active: listed.active,
    })
}
