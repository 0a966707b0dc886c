//! SERVICE_LIST: the services that run.

use weir_abi::limits::MAX_SERVICES;
use weir_abi::{ServiceInfo, ServiceListReply};
use zerocopy::FromZeros;

use super::TAG;
use super::reply::Reply;
use crate::error::Error;
use crate::kernel::pool::KSlice;
use crate::service;

pub(super) fn handle(start: u32, reply: Reply<'_>) -> Result<usize, Error> {
    // All of them at once, so that the list is of one moment. In pool: it would
    // take nearly half of a kernel stack.
    let mut services = KSlice::try_from_fn(MAX_SERVICES, TAG, |_| ServiceInfo::new_zeroed())?;
    let (written, total) = service::list(start, &mut services);
    let mut list = reply.list::<ServiceListReply, ServiceInfo>();
    for service in services.iter().take(written) {
        list.push(service);
    }
    list.finish(|header, count| ServiceListReply {
        header,
        total,
        count,
    })
}
