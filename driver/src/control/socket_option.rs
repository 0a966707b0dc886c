//! SOCKET_SET_OPTION and SOCKET_GET_OPTION.

use weir_abi::{
    ReplyHeader, SocketGetOptionReply, SocketOption, SocketSetOptionReply, SocketSetting,
};

use super::reply::Reply;
use crate::error::Error;
use crate::handle::Handle;
use crate::socket;

pub(super) fn set(
    setting: &SocketSetting,
    handle: &Handle,
    reply: Reply<'_>,
) -> Result<usize, Error> {
    socket::set_option(handle, setting)?;
    reply.one(&SocketSetOptionReply {
        header: ReplyHeader::of::<SocketSetOptionReply>(),
    })
}

pub(super) fn get(option: SocketOption, handle: &Handle, reply: Reply<'_>) -> Result<usize, Error> {
    let value = socket::get_option(handle, option)?;
    reply.one(&SocketGetOptionReply {
        header: ReplyHeader::of::<SocketGetOptionReply>(),
        option: option.into(),
        reserved: 0,
        value,
    })
}
