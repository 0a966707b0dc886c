//! The device's queues, all parallel with callbacks at `PASSIVE_LEVEL`: one for
//! control requests, one for reads, one for writes.
//!
//! Most callbacks run in the caller's thread, but not all: the framework hands a
//! request that had to wait to whichever thread serves the queue next, one of its
//! own too. So nothing here may ask whose thread or process it runs in.
//!
//! # Why three
//! The framework tells a driver of a cancelled request by way of the request's
//! queue, and not while a callback of that queue is running
//! (`FxIoQueue::CancelForDriver`, `DispatchInternalEvents`): the thread that runs
//! it does it afterwards. Some control requests take long, such as loading rules
//! or stopping a service. Reads and writes never wait, so in queues of their own
//! they are cancelled at once. Control requests that pend, for a connection, a
//! name or an accept, are cancelled when the control requests that are being
//! handled at that moment let go of the thread.

use crate::capture;
use crate::control;
use crate::error::Error;
use crate::handle::{self, Handle, Role};
use crate::inject;
use crate::kernel::status::Result;
use crate::kernel::wdf::{
    self, _WDF_REQUEST_TYPE, Device, Request, WDF_IO_QUEUE_CONFIG, WDF_REQUEST_TYPE, WDFQUEUE,
    WDFREQUEST,
};
use crate::socket;

/// Makes the queues. One that is there when a later one can't be made goes with
/// the device.
pub(crate) fn create(device: Device) -> Result<()> {
    let mut config = wdf::queue_config();
    config.EvtIoDeviceControl = Some(evt_io_device_control);
    add(
        device,
        config,
        _WDF_REQUEST_TYPE::WdfRequestTypeDeviceControl,
    )?;

    let mut config = wdf::queue_config();
    config.EvtIoRead = Some(evt_io_read);
    // An empty read is a read too small for a record, not a success.
    config.AllowZeroLengthRequests = 1;
    add(device, config, _WDF_REQUEST_TYPE::WdfRequestTypeRead)?;

    let mut config = wdf::queue_config();
    config.EvtIoWrite = Some(evt_io_write);
    // An empty write is a success to a stream, and an error to others.
    config.AllowZeroLengthRequests = 1;
    add(device, config, _WDF_REQUEST_TYPE::WdfRequestTypeWrite)
}

fn add(device: Device, mut config: WDF_IO_QUEUE_CONFIG, requests: WDF_REQUEST_TYPE) -> Result<()> {
    let queue = device.create_queue(&mut config, &mut wdf::passive_attributes())?;
    device.route(queue, requests)
}

unsafe extern "C" fn evt_io_device_control(
    _queue: WDFQUEUE,
    request: WDFREQUEST,
    output_len: usize,
    input_len: usize,
    code: u32,
) {
    // SAFETY: the framework hands the request over here, once.
    let request = unsafe { Request::from_raw(request) };
    control::dispatch(request, code, input_len, output_len);
}

unsafe extern "C" fn evt_io_read(_queue: WDFQUEUE, request: WDFREQUEST, length: usize) {
    // SAFETY: the framework hands the request over here, once.
    let request = unsafe { Request::from_raw(request) };
    if has_socket(&request) {
        return socket::read(request, length);
    }
    let reader = handle::of_request(&request).ok_or(Error::WrongRole);
    match reader.and_then(|handle| handle.reader()) {
        Ok(ticket) => capture::read(ticket, request, length),
        Err(error) => request.complete(error.status(), 0),
    }
}

unsafe extern "C" fn evt_io_write(_queue: WDFQUEUE, request: WDFREQUEST, length: usize) {
    // SAFETY: the framework hands the request over here, once.
    let request = unsafe { Request::from_raw(request) };
    if has_socket(&request) {
        return socket::write(request, length);
    }
    inject::dispatch(request, length);
}

fn has_socket(request: &Request) -> bool {
    let role = handle::of_request(request).map(Handle::role);
    matches!(role, Some(Ok(Role::Socket)))
}
