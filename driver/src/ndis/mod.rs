//! The lightweight filter.

use crate::kernel::status::Result;
use wdk_sys::DRIVER_OBJECT;

pub(crate) fn start(_driver_object: *mut DRIVER_OBJECT) -> Result<()> {
    Ok(())
}

pub(crate) fn stop() {}
