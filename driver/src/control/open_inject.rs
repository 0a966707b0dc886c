//! OPEN_INJECT: gives a control handle the inject role.

use core::num::NonZeroU32;

use weir_abi::limits::MAX_WRITE_LEN;
use weir_abi::{OpenInjectReply, ReplyHeader};

use super::reply::Reply;
use crate::error::Error;
use crate::handle::{Handle, Role};
use crate::{inject, ndis};

pub(super) fn handle(
    adapter: Option<NonZeroU32>,
    handle: &Handle,
    reply: Reply<'_>,
) -> Result<usize, Error> {
    handle.begin_role()?;
    let writer = match open(adapter) {
        Ok(writer) => writer,
        Err(error) => {
            handle.abandon_role();
            return Err(error);
        }
    };
    if !handle.give(Role::Inject(adapter)) {
        // Closed meanwhile: its clean-up has run and found no role.
        inject::close();
        return Err(Error::Closing);
    }
    // The room was checked before: this doesn't fail, so the client learns of
    // the role it has now.
    reply.one(&OpenInjectReply {
        header: ReplyHeader::of::<OpenInjectReply>(),
        writer,
        max_write: MAX_WRITE_LEN,
    })
}

fn open(adapter: Option<NonZeroU32>) -> Result<u32, Error> {
    if let Some(adapter) = adapter {
        ndis::adapter_stats(adapter.get()).ok_or(Error::NoSuchAdapter)?;
    }
    inject::open()
}
