//! GET_STATUS: how the driver is.

use weir_abi::{ReplyHeader, StatusFlags, StatusReply};
use zerocopy::FromZeros;

use super::reply::Reply;
use crate::error::Error;
use crate::{capture, driver, handle, ndis, service, wsk};

pub(super) fn handle(reply: Reply<'_>) -> Result<usize, Error> {
    let mut flags = StatusFlags::empty();
    flags.set(StatusFlags::FILTER_REGISTERED, ndis::is_registered());
    flags.set(StatusFlags::WSK_READY, wsk::is_ready());
    flags.set(StatusFlags::STOPPING, driver::is_stopping());
    let service::Totals {
        services,
        connections,
    } = service::totals();
    reply.one(&StatusReply {
        header: ReplyHeader::of::<StatusReply>(),
        uptime_100ns: driver::uptime_100ns(),
        started_100ns: driver::started_100ns(),
        adapters: ndis::adapter_count(),
        handles: handle::count(),
        readers: capture::count(),
        services,
        connections,
        flags: flags.bits(),
        ndis_version: ndis::version(),
        ..StatusReply::new_zeroed()
    })
}
