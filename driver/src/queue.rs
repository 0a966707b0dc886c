//! The device's one queue: parallel, callbacks at `PASSIVE_LEVEL`. Most run in
//! the caller's thread, but not all: the framework hands a request that had to
//! wait to whichever thread serves the queue next, one of its own too. So nothing
//! here may ask whose thread or process it runs in.

use crate::capture;
use crate::control;
use crate::error::Error;
use crate::handle::{self, Handle, Role};
use crate::inject;
use crate::kernel::status::Result;
use crate::kernel::wdf::{self, Device, Request, WDFQUEUE, WDFREQUEST};
use crate::socket;

/// Makes the default queue.
pub(crate) fn create(device: Device) -> Result<()> {
    let mut config = wdf::default_queue_config();
    config.EvtIoDeviceControl = Some(evt_io_device_control);
    config.EvtIoRead = Some(evt_io_read);
    config.EvtIoWrite = Some(evt_io_write);
    // An empty read is a read too small for a record, not a success; an empty
    // write to a stream is one.
    config.AllowZeroLengthRequests = 1;
    device
        .create_queue(&mut config, &mut wdf::passive_attributes())
        .map(|_| ())
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
