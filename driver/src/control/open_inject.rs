//! OPEN_INJECT: gives a control handle the inject role.

use core::num::NonZeroU32;

use weir_abi::limits::MAX_WRITE_LEN;
use weir_abi::{OpenInjectReply, ReplyHeader};

use super::check_adapter;
use super::reply::Reply;
use crate::error::Error;
use crate::handle::{Handle, Role};
use crate::inject;

pub(super) fn handle(
    adapter: Option<NonZeroU32>,
    handle: &Handle,
    reply: Reply<'_>,
) -> Result<usize, Error> {
    let open = || {
        check_adapter(adapter)?;
        inject::open()
    };
    let writer = handle.assume(open, |_| Role::Inject(adapter), |_| inject::close())?;
    // The room was checked before: this doesn't fail, so the client learns of
    // the role it has now.
    reply.one(&OpenInjectReply {
        header: ReplyHeader::of::<OpenInjectReply>(),
        writer,
        max_write: MAX_WRITE_LEN,
    })
}
