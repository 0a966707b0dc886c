//! GET_READER_STATS: the balance of this handle's reader.

use weir_abi::{ReaderStatsReply, ReplyHeader};

use super::reply::Reply;
use crate::capture;
use crate::error::Error;
use crate::handle::Handle;

pub(super) fn handle(handle: &Handle, reply: Reply<'_>) -> Result<usize, Error> {
    let stats = capture::stats(handle.reader()?)?;
    reply.one(&ReaderStatsReply {
        header: ReplyHeader::of::<ReaderStatsReply>(),
        stats,
    })
}
