//! OPEN_DIVERT: gives a control handle the divert role.

use weir_abi::limits::{MAX_OUTSTANDING, MAX_SNAPLEN, MAX_WRITE_LEN};
use weir_abi::{DivertOptions, OpenDivertReply, ReplyHeader, record_size};

use super::reply::Reply;
use crate::error::Error;
use crate::handle::{Handle, Role};
use crate::{capture, ndis};

pub(super) fn handle(
    options: &DivertOptions,
    handle: &Handle,
    reply: Reply<'_>,
) -> Result<usize, Error> {
    handle.begin_role()?;
    let ticket = match open(options) {
        Ok(ticket) => ticket,
        Err(error) => {
            handle.abandon_role();
            return Err(error);
        }
    };
    if !handle.give(Role::Divert(ticket)) {
        // Closed while the reader was being opened: its clean-up has run and
        // found no reader.
        capture::close(ticket);
        return Err(Error::Closing);
    }
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

fn open(options: &DivertOptions) -> Result<capture::Ticket, Error> {
    if let Some(adapter) = options.adapter {
        ndis::adapter_stats(adapter.get()).ok_or(Error::NoSuchAdapter)?;
    }
    capture::open_divert(options)
}
