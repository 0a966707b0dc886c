//! `bad.sys`: one sin a run, named by the service it is loaded as.
//!
//! # Moments
//! [`Moment::Load`] in `DriverEntry` after the device is there, at
//! `PASSIVE_LEVEL`; [`Moment::Unload`] in `EvtDriverUnload`; [`Moment::Ioctl`]
//! and [`Moment::Read`] when a request arrives, which the sin then owns.
//! Frames and sockets have hooks of their own in `sins/ndis.rs` and
//! `sins/wsk.rs`.
#![no_std]

mod base;
mod raw;
mod sins;
mod tour;

use core::ffi::c_void;
use core::sync::atomic::{AtomicUsize, Ordering};

use raw::nt::{DriverObject, UnicodeString};

/// When a sin is committed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// In `DriverEntry`, the device being there.
    Load,
    /// An IOCTL has arrived.
    Ioctl,
    /// A read has arrived.
    Read,
    /// In `EvtDriverUnload`.
    Unload,
}

/// What a sin can get at.
#[derive(Clone, Copy)]
pub(crate) struct Scene {
    /// When it is.
    pub(crate) moment: Moment,
    /// The driver's object.
    pub(crate) driver_object: *mut DriverObject,
    /// The WDFDEVICE.
    pub(crate) device: *mut c_void,
    /// The WDFREQUEST of `Ioctl` and `Read`, else null.
    pub(crate) request: *mut c_void,
}

/// The longest name a sin may have.
const NAME: usize = 63;

/// The sin's name, one byte each, and its length.
static NAME_BYTES: [AtomicUsize; NAME] = [const { AtomicUsize::new(0) }; NAME];
static NAME_LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Whether this run's sin has this name.
pub(crate) fn sin_is(name: &str) -> bool {
    name.len() == NAME_LENGTH.load(Ordering::Relaxed)
        && name
            .bytes()
            .zip(&NAME_BYTES)
            .all(|(a, b)| usize::from(a) == b.load(Ordering::Relaxed))
}

/// Whether this run's sin has a name that begins like this.
pub(crate) fn sin_starts(prefix: &str) -> bool {
    prefix.len() <= NAME_LENGTH.load(Ordering::Relaxed)
        && prefix
            .bytes()
            .zip(&NAME_BYTES)
            .all(|(a, b)| usize::from(a) == b.load(Ordering::Relaxed))
}

/// Keeps what follows `\bad-` at the end of the service key's path.
fn remember(path: &UnicodeString) {
    let units = usize::from(path.length) / 2;
    // SAFETY: the system's string holds that many units for as long as DriverEntry runs.
    let text = unsafe { core::slice::from_raw_parts(path.buffer, units) };
    let last = text
        .iter()
        .rposition(|&c| c == u16::from(b'\\'))
        .map_or(0, |at| at + 1);
    let name = text.get(last..).unwrap_or_default();
    let name = name.get("bad-".len()..).unwrap_or_default();
    let name = name.get(..NAME).unwrap_or(name);
    for (to, from) in NAME_BYTES.iter().zip(name) {
        to.store(usize::from(*from), Ordering::Relaxed);
    }
    NAME_LENGTH.store(name.len(), Ordering::Relaxed);
}

/// The image's entry: what a KMDF driver's own stub does, and then the driver.
///
/// # Safety
/// Called once, by the system, with the driver's object and service key.
// SAFETY: the linker is told this name, and nothing else has it.
#[unsafe(no_mangle)]
unsafe extern "system" fn DriverMain(
    driver_object: *mut DriverObject,
    path: *mut UnicodeString,
) -> i32 {
    // SAFETY: the system passes a valid string.
    remember(unsafe { &*path });
    // SAFETY: called once, with the system's arguments.
    unsafe { base::load(driver_object, path) }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: a bug check ends the system; its code and arguments are free.
    unsafe { raw::nt::KeBugCheckEx(0xBAD, 0, 0, 0, 0) }
}
