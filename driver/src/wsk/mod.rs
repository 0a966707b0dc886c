//! Winsock Kernel.

use crate::kernel::status::Result;

pub(crate) fn start() -> Result<()> {
    Ok(())
}

pub(crate) fn stop() {}
