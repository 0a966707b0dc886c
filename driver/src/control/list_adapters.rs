//! LIST_ADAPTERS: the adapters the filter is attached to.

use weir_abi::{AdapterInfo, AdapterListReply};

use super::reply::Reply;
use crate::error::Error;
use crate::ndis;

pub(super) fn handle(start: u32, reply: Reply<'_>) -> Result<usize, Error> {
    let mut list = reply.list::<AdapterListReply, AdapterInfo>();
    let mut total = 0u32;
    ndis::list_adapters(|adapter| {
        if total >= start {
            list.push(adapter);
        }
        total = total.saturating_add(1);
    });
    list.finish(|header, count| AdapterListReply {
        header,
        total,
        count,
    })
}
