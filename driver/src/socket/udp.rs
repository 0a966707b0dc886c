//! Datagrams: one a read and one a write, each behind its header.

use core::net::SocketAddr;

use weir_abi::{AddressError, DatagramFlags, DatagramRecord, SocketFlags, datagram_write};
use zerocopy::IntoBytes;

use super::flow;
use super::sock::{Sock, SockRef, Transport};
use super::work::Work;
use crate::error::Error;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::wdf::Request;
use crate::wsk::{Endpoint as _, SockAddr, Span};

pub(super) use crate::wsk::Received;

/// Bytes of a datagram's header.
pub(super) const HEADER: usize = size_of::<DatagramRecord>();
const HEADER_32: u32 = weir_abi::datagram::DATAGRAM_HEADER_LEN;
const _: () = assert!(HEADER == HEADER_32 as usize);

/// What does not come from the transport of a datagram that was too long.
const CUT: NtStatus = NtStatus(weir_abi::status::BUFFER_OVERFLOW);

/// Takes a read of `length` bytes.
pub(super) fn read(sock: &SockRef, request: Request, length: usize) {
    if let Err((request, error)) = start_read(sock, request, length) {
        request.complete(error.status(), 0);
    }
}

fn start_read(
    sock: &SockRef,
    request: Request,
    length: usize,
) -> core::result::Result<(), (Request, Error)> {
    let total = u32::try_from(length).unwrap_or(u32::MAX);
    let Some(room) = total.checked_sub(HEADER_32).filter(|room| *room > 0) else {
        return Err((request, Error::TooSmall));
    };
    // The header is written by way of the system's mapping, the datagram goes to
    // the pages behind it directly.
    let parts = request
        .output(HEADER)
        .and_then(|(header, _)| Ok((header, request.output_mdl()?)));
    let (header, mdl) = match parts {
        Ok(parts) => parts,
        Err(status) => return Err((request, Error::System(status))),
    };
    // SAFETY: the request's own MDL, locked until it is completed, of `length`
    // bytes.
    let span = unsafe { Span::of_mdl(mdl, total, HEADER_32, room) };
    let span = match span {
        Ok(span) => span,
        Err(status) => return Err((request, Error::System(status))),
    };
    let work = Work::ReceiveFrom { header, room };
    flow::submit(sock, request, work, |sock, io| {
        let Some(Transport::Udp(datagram)) = sock.transport() else {
            return Err(NtStatus::INVALID_DEVICE_STATE);
        };
        // SAFETY: `calls` is held over this, so the socket isn't closed; the
        // pages are the request's, which is completed after the operation, and
        // the peer is this operation's own.
        unsafe { datagram.receive_from(&io.op, span, &io.peer) }
    })
}

/// Writes the header of a datagram that has been received, or that could not be:
/// the status and the length to complete the read with.
///
/// # Safety
/// `header` is writable for [`HEADER`] bytes.
pub(super) unsafe fn received(
    header: *mut u8,
    datagram: &Received,
    status: NtStatus,
    information: usize,
) -> (NtStatus, usize) {
    if !status.is_success() && status != CUT {
        return (status, 0);
    }
    let mut flags = DatagramFlags::empty();
    flags.set(
        DatagramFlags::TRUNCATED,
        datagram.truncated || status == CUT,
    );
    flags.set(DatagramFlags::MULTICAST, datagram.multicast);
    flags.set(DatagramFlags::BROADCAST, datagram.broadcast);
    let from = SocketAddr::try_from(&datagram.address).ok();
    let length = u32::try_from(information).unwrap_or(u32::MAX);
    let Some(record) = DatagramRecord::new(length, flags, from) else {
        return (NtStatus::UNSUCCESSFUL, 0);
    };
    // SAFETY: as many bytes on both sides (caller); the record is a local.
    unsafe { core::ptr::copy_nonoverlapping(record.as_bytes().as_ptr(), header, HEADER) };
    (NtStatus::SUCCESS, information.saturating_add(HEADER))
}

/// Takes a write of `length` bytes.
pub(super) fn write(sock: &SockRef, request: Request, length: usize) {
    if let Err((request, error)) = start_write(sock, request, length) {
        request.complete(error.status(), 0);
    }
}

fn start_write(
    sock: &SockRef,
    request: Request,
    length: usize,
) -> core::result::Result<(), (Request, Error)> {
    let (to, span, len) = match prepare(sock, &request, length) {
        Ok(prepared) => prepared,
        Err(error) => return Err((request, error)),
    };
    flow::submit(sock, request, Work::SendTo { len }, |sock, io| {
        let Some(Transport::Udp(datagram)) = sock.transport() else {
            return Err(NtStatus::INVALID_DEVICE_STATE);
        };
        let to = match to {
            // SAFETY: not submitted yet.
            Some(to) => core::ptr::from_ref(unsafe { io.set_to(SockAddr::from(to)) }),
            None => core::ptr::null(),
        };
        // SAFETY: as in start_read; the address is the operation's own.
        unsafe { datagram.send_to(&io.op, span, to) }
    })
}

/// Where a write goes, its bytes, and how many.
fn prepare(
    sock: &Sock,
    request: &Request,
    length: usize,
) -> core::result::Result<(Option<SocketAddr>, Span, u32), Error> {
    let mut header = [0u8; HEADER];
    if length < HEADER {
        return Err(Error::Datagram(weir_abi::DatagramError::TooShort(length)));
    }
    let (from, _) = request.input(HEADER)?;
    // SAFETY: readable for HEADER bytes until the request is completed. The
    // process may change them meanwhile: what is looked at is the copy.
    unsafe { core::ptr::copy_nonoverlapping(from, header.as_mut_ptr(), HEADER) };
    let to = datagram_write(&header, length).map_err(Error::Datagram)?;
    may_send(sock, to)?;
    let total = u32::try_from(length).unwrap_or(u32::MAX);
    let len = total.saturating_sub(HEADER_32);
    let mdl = request.input_mdl()?;
    // SAFETY: the request's own MDL, locked until it is completed, of `length`
    // bytes.
    let span = unsafe { Span::of_mdl(mdl, total, if len == 0 { 0 } else { HEADER_32 }, len) }?;
    Ok((to, span, len))
}

/// Whether this socket can send there.
fn may_send(sock: &Sock, to: Option<SocketAddr>) -> core::result::Result<(), Error> {
    let addresses = *sock.addresses.lock();
    let Some(to) = to else {
        return if addresses.remote == weir_abi::SocketAddress::NONE {
            Err(Error::System(NtStatus::INVALID_CONNECTION))
        } else {
            Ok(())
        };
    };
    let own_is_v4 = addresses.local.family == weir_abi::address::FAMILY_V4;
    let wrong = |why: AddressError| Err(Error::Datagram(why.into()));
    match to {
        SocketAddr::V4(_) if !own_is_v4 => wrong(AddressError::Families),
        SocketAddr::V6(_) if own_is_v4 => wrong(AddressError::Families),
        SocketAddr::V6(v6)
            if v6.ip().to_ipv4_mapped().is_some()
                && !sock.flags.contains(SocketFlags::DUAL_STACK) =>
        {
            wrong(AddressError::MappedV4)
        }
        _ => Ok(()),
    }
}

/// What the provider's own address is for.
pub(super) fn set_up(sock: &Sock, spec: &weir_abi::SocketSpec) -> Result<()> {
    let Some(Transport::Udp(datagram)) = sock.transport() else {
        return Err(NtStatus::INVALID_DEVICE_STATE);
    };
    // SAFETY: `calls` is held by the opener, so the socket isn't closed.
    unsafe { datagram.bind(&sock.opener, spec.local) }?;
    if let Some(remote) = spec.remote {
        // SAFETY: as above.
        unsafe { datagram.connect(&sock.opener, remote) }?;
    }
    // SAFETY: as above.
    let local = unsafe { datagram.local_address(&sock.opener) }?;
    sock.addresses.lock().local = local.into();
    Ok(())
}
