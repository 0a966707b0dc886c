//! SERVICE_START: starts a network service in the kernel.

use weir_abi::{ReplyHeader, ServiceSpec, ServiceStartReply};

use super::reply::Reply;
use crate::error::Error;
use crate::service;

pub(super) fn handle(spec: &ServiceSpec, reply: Reply<'_>) -> Result<usize, Error> {
    let service::Started { id, address } = service::start(spec)?;
    reply.one(&ServiceStartReply {
        header: ReplyHeader::of::<ServiceStartReply>(),
        id,
        reserved: 0,
        address,
    })
}
