//! SOCKET_INFO and SOCKET_LIST.

use weir_abi::{ReplyHeader, SocketInfo, SocketInfoReply, SocketListReply};

use super::reply::Reply;
use crate::error::Error;
use crate::handle::Handle;
use crate::service;
use crate::socket;

pub(super) fn info(handle: &Handle, reply: Reply<'_>) -> Result<usize, Error> {
    let info = socket::info(handle)?;
    reply.one(&SocketInfoReply {
        header: ReplyHeader::of::<SocketInfoReply>(),
        info,
    })
}

pub(super) fn list(cursor: u64, reply: Reply<'_>) -> Result<usize, Error> {
    let mut list = reply.list::<SocketListReply, SocketInfo>();
    let mut each = |info: &SocketInfo| {
        let fits = !list.is_full();
        if fits {
            list.push(info);
        }
        fits
    };
    // Ids of services' sockets are above all others.
    let next = socket::list(cursor, &mut each).or_else(|| service::sockets(cursor, &mut each));
    list.finish(|header, count| SocketListReply {
        header,
        count,
        total: socket::count().saturating_add(service::socket_count()),
        next: next.unwrap_or(0),
    })
}
