//! OPEN_CAPTURE: gives a control handle the capture role.

use weir_abi::{CaptureOptions, OpenCaptureReply, ReplyHeader};

use super::check_adapter;
use super::reply::Reply;
use crate::capture;
use crate::error::Error;
use crate::handle::{Handle, Role};

pub(super) fn handle(
    options: &CaptureOptions,
    handle: &Handle,
    reply: Reply<'_>,
) -> Result<usize, Error> {
    let open = || {
        check_adapter(options.adapter)?;
        capture::open(options)
    };
    let ticket = handle.assume(open, Role::Capture, capture::close)?;
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
