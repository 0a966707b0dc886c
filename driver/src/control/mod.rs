//! IOCTLs, from the bytes to the reply.
//!
//! `METHOD_BUFFERED` gives request and reply the same memory. So the request is
//! decoded to a [`Command`] of its own (and a program behind it copied), and only
//! then the memory is looked at again, as room for the reply. The memory is the system's copy: user mode
//! can't change it meanwhile.

mod alarm_list;
mod flow_list;
mod flow_stats;
mod get_adapter_stats;
mod get_reader_stats;
mod get_status;
mod get_version;
mod list_adapters;
mod open_capture;
mod open_divert;
mod open_inject;
mod reply;
mod rules_load;
mod rules_read;
mod rules_stats;
mod service_list;
mod service_start;
mod service_stop;
mod socket_list;
mod socket_option;

use core::num::NonZeroU32;

use weir_abi::Command;

use crate::error::Error;
use crate::handle;
use crate::kernel::pool::Tag;
use crate::kernel::rundown::Rundown;
use crate::kernel::status::NtStatus;
use crate::kernel::wdf::Request;
use crate::{ndis, socket};
use reply::Reply;

const TAG: Tag = Tag::new(*b"WrCo");

/// Open while IOCTLs are taken.
static GATE: Rundown = Rundown::new();

/// Makes ready. Before the device exists.
pub(crate) fn start() {
    GATE.init();
}

/// Refuses IOCTLs from now on and waits for those that run. `PASSIVE_LEVEL`.
pub(crate) fn stop() {
    GATE.wait();
}

/// Does what an IOCTL asks for, and completes it: at once, or, where it asks for a
/// socket or a name, when that is there. `PASSIVE_LEVEL`.
pub(crate) fn dispatch(request: Request, code: u32, input_len: usize, output_len: usize) {
    let Some(_open) = GATE.acquire() else {
        return request.complete(Error::Unloading.status(), 0);
    };
    let command = match decode(&request, code, input_len, output_len) {
        Ok(command) => command,
        Err(error) => return request.complete(error.status(), 0),
    };
    match command {
        Command::SocketOpen(spec) => return socket::open(request, &spec),
        Command::SocketAccept { listener } => return socket::accept(request, listener),
        Command::SocketShutdown(how) => return socket::shutdown(request, how),
        Command::Resolve => return socket::resolve(request),
        _ => {}
    }
    match handle(&request, command) {
        Ok(written) => request.complete(NtStatus::SUCCESS, written),
        Err(error) => request.complete(error.status(), 0),
    }
}

/// Does what can be done at once.
fn handle(request: &Request, command: Command) -> Result<usize, Error> {
    let handle = handle::of_request(request).ok_or(Error::WrongRole)?;
    let program = match command {
        Command::RulesLoad { program_len } => rules_load::program(request, program_len)?,
        _ => None,
    };
    let reply = Reply::to(request)?;
    match command {
        Command::GetVersion => get_version::handle(reply),
        Command::GetStatus => get_status::handle(reply),
        Command::ListAdapters { start } => list_adapters::handle(start, reply),
        Command::GetAdapterStats { adapter } => get_adapter_stats::handle(adapter, reply),
        Command::OpenCapture(options) => open_capture::handle(&options, handle, reply),
        Command::GetReaderStats => get_reader_stats::handle(handle, reply),
        Command::ServiceStart(spec) => service_start::handle(&spec, reply),
        Command::ServiceList { start } => service_list::handle(start, reply),
        Command::ServiceStop { id } => service_stop::handle(id, reply),
        Command::RulesLoad { .. } => rules_load::handle(program, reply),
        Command::RulesRead { generation, offset } => rules_read::handle(generation, offset, reply),
        Command::RulesStats { generation, start } => rules_stats::handle(generation, start, reply),
        Command::OpenDivert(options) => open_divert::handle(&options, handle, reply),
        Command::OpenInject { adapter } => open_inject::handle(adapter, handle, reply),
        Command::FlowList { adapter, cursor } => flow_list::handle(adapter, cursor, reply),
        Command::FlowStats { adapter } => flow_stats::handle(adapter, reply),
        Command::AlarmList { since } => alarm_list::handle(since, reply),
        Command::SocketSetOption(setting) => socket_option::set(&setting, handle, reply),
        Command::SocketGetOption(option) => socket_option::get(option, handle, reply),
        Command::SocketInfo => socket_list::info(handle, reply),
        Command::SocketList { cursor } => socket_list::list(cursor, reply),
        // Taken by dispatch.
        Command::SocketOpen(_)
        | Command::SocketAccept { .. }
        | Command::SocketShutdown(_)
        | Command::Resolve => Err(Error::System(NtStatus::NOT_SUPPORTED)),
    }
}

/// That an adapter named in a request is one the filter is attached to.
fn check_adapter(adapter: Option<NonZeroU32>) -> Result<(), Error> {
    match adapter {
        Some(id) if ndis::adapter_stats(id.get()).is_none() => Err(Error::NoSuchAdapter),
        _ => Ok(()),
    }
}

/// The command in the request's bytes.
fn decode(
    request: &Request,
    code: u32,
    input_len: usize,
    output_len: usize,
) -> Result<Command, Error> {
    if input_len == 0 {
        // The framework has no buffer to give then.
        return Ok(Command::decode(code, &[], output_len)?);
    }
    let (input, len) = request.input(1)?;
    // SAFETY: `len` bytes of the system's copy, which stays until the request is
    // completed and which nobody writes before `Reply` is made of it, below.
    let input = unsafe { core::slice::from_raw_parts(input, len) };
    Ok(Command::decode(code, input, output_len)?)
}
