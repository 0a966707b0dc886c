//! OPEN_CAPTURE: gives a control handle the capture role.

use weir_abi::{CaptureOptions, OpenCaptureReply, ReplyHeader};

use super::reply::Reply;
use crate::error::Error;
use crate::handle::{Handle, Role};
use crate::{capture, ndis};

pub(super) fn handle(
    options: &CaptureOptions,
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
    if !handle.give(Role::Capture(ticket)) {
        // Closed while the reader was being opened: its clean-up has run and
        // found no reader.
        capture::close(ticket);
        return Err(Error::Closing);
    }
    // The room was checked before: this doesn't fail, so the client learns of
    // the role it has now.
    reply.one(&OpenCaptureReply {
        header: ReplyHeader::of::<OpenCaptureReply>(),
        reader: ticket.id(),
        snaplen: options.snaplen,
        min_read: options.min_read(),
        reserved: 0,
    })
}

fn open(options: &CaptureOptions) -> Result<capture::Ticket, Error> {
    if let Some(adapter) = options.adapter {
        ndis::adapter_stats(adapter.get()).ok_or(Error::NoSuchAdapter)?;
    }
    capture::open(options)
}
