//! Stands in for the sockets: one of each kind can be opened, and each call says
//! what it was given.

use std::sync::Mutex;

use weir_abi::{
    ReplyHeader, ShutdownHow, SocketAddress, SocketInfo, SocketOpenReply, SocketOption,
    SocketSetting, SocketShutdownReply, SocketSpec,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::error::Error;
use crate::handle::{self, Handle, Role};
use crate::kernel::status::NtStatus;
use crate::kernel::wdf::Request;

/// What the handle's pointer would be to.
pub(crate) struct Sock;

/// The id of the one listener.
pub(crate) const LISTENER: u64 = 7;

/// What was asked for, newest last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    Open(SocketSpec),
    Accept(u64),
    Shutdown(ShutdownHow),
    Set(SocketSetting),
    Get(SocketOption),
    Resolve,
}

pub(crate) static ASKED: Mutex<Vec<Asked>> = Mutex::new(Vec::new());

fn note(asked: Asked) {
    ASKED.lock().unwrap().push(asked);
}

pub(crate) fn count() -> u32 {
    3
}

fn give(request: Request, id: u64) {
    let error = {
        let handle = handle::of_request(&request).expect("a handle");
        let begun = handle.begin_role();
        begun.and_then(|()| {
            handle
                .give(Role::Socket)
                .then_some(())
                .ok_or(Error::Closing)
        })
    };
    let reply = SocketOpenReply {
        header: ReplyHeader::of::<SocketOpenReply>(),
        id,
        local: SocketAddress::NONE,
        remote: SocketAddress::NONE,
    };
    match error {
        Ok(()) => answer(request, reply.as_bytes()),
        Err(error) => request.complete(error.status(), 0),
    }
}

fn answer(request: Request, reply: &[u8]) {
    let (to, _) = request.output(reply.len()).expect("room was looked at");
    // SAFETY: at least as many bytes.
    unsafe { std::ptr::copy_nonoverlapping(reply.as_ptr(), to, reply.len()) };
    request.complete(NtStatus::SUCCESS, reply.len());
}

pub(crate) fn open(request: Request, spec: &SocketSpec) {
    note(Asked::Open(*spec));
    give(request, LISTENER);
}

pub(crate) fn accept(request: Request, listener: u64) {
    note(Asked::Accept(listener));
    if listener == LISTENER {
        give(request, 8);
    } else {
        request.complete(NtStatus::NOT_FOUND, 0);
    }
}

pub(crate) fn shutdown(request: Request, how: ShutdownHow) {
    let role = handle::of_request(&request)
        .expect("a handle")
        .require_socket();
    match role {
        Ok(()) => {
            note(Asked::Shutdown(how));
            let reply = SocketShutdownReply {
                header: ReplyHeader::of::<SocketShutdownReply>(),
            };
            answer(request, reply.as_bytes());
        }
        Err(error) => request.complete(error.status(), 0),
    }
}

pub(crate) fn resolve(request: Request) {
    note(Asked::Resolve);
    request.complete(NtStatus(weir_abi::status::NO_MATCH), 0);
}

pub(crate) fn set_option(handle: &Handle, setting: &SocketSetting) -> Result<(), Error> {
    handle.require_socket()?;
    note(Asked::Set(*setting));
    Ok(())
}

pub(crate) fn get_option(handle: &Handle, option: SocketOption) -> Result<u64, Error> {
    handle.require_socket()?;
    note(Asked::Get(option));
    Ok(0x40)
}

pub(crate) fn info(handle: &Handle) -> Result<SocketInfo, Error> {
    handle.require_socket()?;
    Ok(of_id(LISTENER))
}

fn of_id(id: u64) -> SocketInfo {
    SocketInfo {
        id,
        ..SocketInfo::new_zeroed()
    }
}

/// Sockets 7, 8 and 9.
pub(crate) fn list(id: u64, mut each: impl FnMut(&SocketInfo) -> bool) -> Option<u64> {
    (7..10)
        .filter(|next| *next >= id)
        .find(|next| !each(&of_id(*next)))
}
