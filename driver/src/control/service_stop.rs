//! SERVICE_STOP: ends a service and its connections.

use weir_abi::{ReplyHeader, ServiceStopReply};

use super::reply::Reply;
use crate::error::Error;
use crate::service;

pub(super) fn handle(id: u32, reply: Reply<'_>) -> Result<usize, Error> {
    service::stop(id)?;
    reply.one(&ServiceStopReply {
        header: ReplyHeader::of::<ServiceStopReply>(),
    })
}
