//! GET_READER_STATS: the balance of this handle.

use weir_abi::{ReaderStatsReply, ReplyHeader};

use super::reply::Reply;
use crate::error::Error;
use crate::handle::{Handle, Role};
use crate::{capture, inject};

pub(super) fn handle(handle: &Handle, reply: Reply<'_>) -> Result<usize, Error> {
    let stats = match handle.role()? {
        Role::Capture(ticket) | Role::Divert(ticket) => capture::stats(ticket)?,
        Role::Inject(_) => inject::stats(handle),
        Role::Socket => return Err(Error::WrongRole),
    };
    reply.one(&ReaderStatsReply {
        header: ReplyHeader::of::<ReaderStatsReply>(),
        stats,
    })
}
