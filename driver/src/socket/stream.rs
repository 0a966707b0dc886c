//! Bytes of a TCP stream, and its end.

use weir_abi::limits::MAX_STREAM_IO;
use weir_abi::{ShutdownHow, SocketKind};

use super::flow;
use super::io::Io;
use super::marks::mark;
use super::sock::{Sock, SockRef, Transport};
use super::work::Work;
use crate::error::Error;
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::wdf::Request;
use crate::wsk::{Span, Stream};

/// Takes a read of `length` bytes.
pub(super) fn read(sock: &SockRef, request: Request, length: usize) {
    // In this order: what is wrong with the read, what has become of the stream.
    if length == 0 {
        return request.complete(Error::TooSmall.status(), 0);
    }
    if let Some(status) = sock.failure() {
        return request.complete(status, 0);
    }
    if sock.is(mark::PEER_CLOSED) {
        return request.complete(NtStatus::SUCCESS, 0);
    }
    let total = u32::try_from(length).unwrap_or(u32::MAX);
    let room = total.min(MAX_STREAM_IO);
    let span = request.output_mdl().and_then(|mdl| {
        // SAFETY: the request's own MDL, locked until it is completed, of
        // `length` bytes.
        unsafe { Span::of_mdl(mdl, total, 0, room) }
    });
    start(
        sock,
        request,
        span,
        Work::Receive { room },
        |stream, io, span| {
            // SAFETY: `calls` is held over this, so the socket isn't closed; the
            // pages are the request's, which is completed after the operation.
            unsafe { stream.receive(&io.op, span) }
        },
    );
}

/// Takes a write of `length` bytes.
pub(super) fn write(sock: &SockRef, request: Request, length: usize) {
    if length > usize::try_from(MAX_STREAM_IO).unwrap_or(usize::MAX) {
        let status = NtStatus(weir_abi::status::INVALID_BUFFER_SIZE);
        return request.complete(status, 0);
    }
    if let Some(status) = sock.failure() {
        return request.complete(status, 0);
    }
    if sock.is(mark::SHUT) {
        return request.complete(NtStatus::GRACEFUL_DISCONNECT, 0);
    }
    if length == 0 {
        return request.complete(NtStatus::SUCCESS, 0);
    }
    let len = u32::try_from(length).unwrap_or(u32::MAX);
    let span = request.input_mdl().and_then(|mdl| {
        // SAFETY: the request's own MDL, locked until it is completed, of
        // `length` bytes.
        unsafe { Span::of_mdl(mdl, len, 0, len) }
    });
    start(
        sock,
        request,
        span,
        Work::Send { len },
        |stream, io, span| {
            // SAFETY: as in read.
            unsafe { stream.send(&io.op, span) }
        },
    );
}

fn start(
    sock: &SockRef,
    request: Request,
    span: Result<Span>,
    work: Work,
    call: impl FnOnce(&Stream, &Io, Span) -> Result<()>,
) {
    let span = match span {
        Ok(span) => span,
        Err(status) => return request.complete(status, 0),
    };
    let submitted = flow::submit(sock, request, work, |sock, io| {
        call(stream_of(sock)?, io, span)
    });
    if let Err((request, error)) = submitted {
        request.complete(error.status(), 0);
    }
}

fn stream_of(sock: &Sock) -> Result<&Stream> {
    match sock.transport() {
        Some(Transport::Stream(stream)) => Ok(stream),
        _ => Err(NtStatus::INVALID_DEVICE_STATE),
    }
}

/// SOCKET_SHUTDOWN. No more than one of each is in the air: asked for again, it
/// succeeds at once, as what it asks for is done or under way.
pub(super) fn shutdown(
    sock: &SockRef,
    request: Request,
    how: ShutdownHow,
) -> core::result::Result<(), (Request, Error)> {
    if sock.kind != SocketKind::TcpStream {
        return Err((request, Error::WrongRole));
    }
    match how {
        ShutdownHow::Send => disconnect(sock, request),
        ShutdownHow::Abort => abort(sock, request),
    }
}

fn disconnect(sock: &SockRef, request: Request) -> core::result::Result<(), (Request, Error)> {
    if let Some(status) = sock.failure() {
        return Err((request, Error::System(status)));
    }
    // From here on writes are refused, unless it turns out that it can't be done.
    if !sock.marks.begin_end() {
        return done(request);
    }
    let submitted = flow::submit(sock, request, Work::Disconnect, |sock, io| {
        // SAFETY: `calls` is held over this, so the socket isn't closed.
        unsafe { stream_of(sock)?.disconnect(&io.op) }
    });
    if submitted.is_err() {
        sock.marks.take_back_end();
    }
    submitted
}

/// Also while the sending direction is being ended: that ends with this, as MSDN
/// "PFN_WSK_DISCONNECT" has it for a peer that doesn't take what was sent.
fn abort(sock: &SockRef, request: Request) -> core::result::Result<(), (Request, Error)> {
    let Some(failed) = sock.marks.begin_reset() else {
        return done(request);
    };
    let submitted = flow::submit(sock, request, Work::Abort { failed }, |sock, io| {
        // SAFETY: `calls` is held over this, so the socket isn't closed.
        unsafe { stream_of(sock)?.abort(&io.op) }
    });
    if submitted.is_err() {
        sock.marks.take_back_reset(failed);
    }
    submitted
}

fn done(request: Request) -> core::result::Result<(), (Request, Error)> {
    let len = super::shut_reply(&request);
    request.complete(NtStatus::SUCCESS, len);
    Ok(())
}
