//! OPEN_DIVERT: gives a control handle the divert role.

use weir_abi::limits::{MAX_OUTSTANDING, MAX_SNAPLEN, MAX_WRITE_LEN};
use weir_abi::{DivertOptions, OpenDivertReply, ReplyHeader, record_size};

use super::check_adapter;
use super::reply::Reply;
use crate::capture;
use crate::error::Error;
use crate::handle::{Handle, Role};

pub(super) fn handle(
    options: &DivertOptions,
    handle: &Handle,
    reply: Reply<'_>,
) -> Result<usize, Error> {
    let open = || {
        check_adapter(options.adapter)?;
        capture::open_divert(options)
    };
    let ticket = handle.assume(open, Role::Divert, capture::close)?;
    // The room was checked before: this doesn't fail, so the client learns of
    // the role it has now.
    reply.one(&OpenDivertReply {
        header: ReplyHeader::of::<OpenDivertReply>(),
        reader: ticket.id(),
        min_read: record_size(MAX_SNAPLEN).unwrap_or(u32::MAX),
        max_write: MAX_WRITE_LEN,
        max_outstanding: MAX_OUTSTANDING,
    })
}
