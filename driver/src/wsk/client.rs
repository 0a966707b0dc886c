//! The driver as a WSK application: registered once at load, the provider
//! captured once, both undone at unload.
//!
//! The provider may come up after the driver (both start with the system), and
//! waiting for it in `DriverEntry` would hold up the boot. So `start` takes it
//! only if it is there, and otherwise the first use waits for it, shortly. (MSDN
//! "Registering a Winsock Kernel Application", "WskCaptureProviderNPI".)

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::sys;
use crate::kernel::event::Event;
use crate::kernel::log;
use crate::kernel::pool::{KBox, Tag};
use crate::kernel::rundown::{Rundown, RundownGuard};
use crate::kernel::status::{NtStatus, Result};
use crate::kernel::time;

/// How long the first use waits for a provider that isn't there yet.
const CAPTURE_WAIT_MS: u32 = 2_000;

const TAG: Tag = Tag::new(*b"WrWs");

static DISPATCH: sys::WskClientDispatch = sys::WskClientDispatch {
    version: sys::WSK_VERSION_1_0,
    reserved: 0,
    client_event: ptr::null(),
};

static NPI: sys::WskClientNpi = sys::WskClientNpi {
    client_context: ptr::null_mut(),
    dispatch: &raw const DISPATCH,
};

/// The registration while there is one.
static REGISTERED: AtomicPtr<Registered> = AtomicPtr::new(ptr::null_mut());

/// Held by each [`Client`]: sockets, and calls about to make one.
static USERS: Rundown = Rundown::new();

/// Values of [`Registered::capture`].
mod capture {
    pub(super) const NONE: u32 = 0;
    pub(super) const UNDER_WAY: u32 = 1;
    pub(super) const DONE: u32 = 2;
}

struct Registered {
    /// The provider's; must not move until `WskDeregister` has returned.
    registration: UnsafeCell<sys::WskRegistration>,
    /// Written once, before `capture` becomes `DONE`.
    provider: UnsafeCell<sys::WskProviderNpi>,
    capture: AtomicU32,
    /// Set while nobody is capturing it.
    tried: Event,
}

impl Registered {
    /// Captures the provider unless that has been done. `wait_ms` 0 doesn't
    /// wait; anything else needs `PASSIVE_LEVEL`.
    fn capture(&self, wait_ms: u32) -> Result<()> {
        let started = time::monotonic_100ns();
        let mut left_ms = wait_ms;
        loop {
            match self.capture.compare_exchange(
                capture::NONE,
                capture::UNDER_WAY,
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => return self.capture_now(left_ms),
                Err(capture::DONE) => return Ok(()),
                // Somebody else is at it: what that comes to is this one's too, or
                // it is this one's turn, with the time that is left.
                Err(_) if left_ms > 0 && self.tried.wait_ms(left_ms) => {}
                Err(_) => return Err(NtStatus::DEVICE_NOT_READY),
            }
            let waited = time::monotonic_100ns().saturating_sub(started);
            let waited_ms = u32::try_from(waited.div_ceil(10_000)).unwrap_or(u32::MAX);
            left_ms = wait_ms.saturating_sub(waited_ms);
        }
    }

    /// Captures the provider, which nobody else is at.
    fn capture_now(&self, wait_ms: u32) -> Result<()> {
        self.tried.reset();
        // SAFETY: a live registration; `provider` is ours while UNDER_WAY; the
        // level is the caller's condition.
        let status = unsafe {
            sys::WskCaptureProviderNPI(self.registration.get(), wait_ms, self.provider.get())
        };
        let status = NtStatus(status);
        let next = if status.is_success() {
            capture::DONE
        } else {
            capture::NONE
        };
        // In this order: whoever tries next resets it, and is told of by nobody else.
        self.tried.set();
        self.capture.store(next, Ordering::Release);
        status.into_result()
    }
}

/// The right to make sockets: while one exists, the provider stays captured.
pub(crate) struct Client {
    provider: sys::WskProviderNpi,
    _user: RundownGuard<'static>,
}

// SAFETY: the provider's tables are constant and its client handle may be used
// from anywhere; rundown guards may be released on any thread.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// The provider, captured now if it wasn't. `PASSIVE_LEVEL`.
    ///
    /// `STATUS_DEVICE_NOT_READY` if there is none yet, or not any more.
    pub(crate) fn acquire() -> Result<Self> {
        // USERS is initialised before REGISTERED is set.
        if REGISTERED.load(Ordering::Acquire).is_null() {
            return Err(NtStatus::DEVICE_NOT_READY);
        }
        let user = USERS.acquire().ok_or(NtStatus::DEVICE_NOT_READY)?;
        let registered = REGISTERED.load(Ordering::Acquire);
        // SAFETY: not freed while USERS is held; null is handled here.
        let registered = unsafe { registered.as_ref() }.ok_or(NtStatus::DEVICE_NOT_READY)?;
        registered.capture(CAPTURE_WAIT_MS)?;
        // SAFETY: captured (Acquire), so written, and not written again.
        let provider = unsafe { *registered.provider.get() };
        Ok(Self {
            provider,
            _user: user,
        })
    }

    pub(super) fn handle(&self) -> *mut sys::WskClient {
        self.provider.client
    }

    pub(super) fn socket_fn(&self) -> Result<sys::WskSocketFn> {
        self.table()?.socket.ok_or(NtStatus::NOT_SUPPORTED)
    }

    /// The provider's own functions.
    pub(super) fn table(&self) -> Result<&sys::WskProviderDispatch> {
        // SAFETY: the table of a captured provider, good until it is released,
        // which waits for this client.
        let dispatch = unsafe { self.provider.dispatch.as_ref() };
        dispatch.ok_or(NtStatus::NOT_SUPPORTED)
    }
}

/// Whether the provider is captured, so that sockets can be made at once.
pub(super) fn is_ready() -> bool {
    if REGISTERED.load(Ordering::Acquire).is_null() {
        return false;
    }
    let Some(_user) = USERS.acquire() else {
        return false;
    };
    let registered = REGISTERED.load(Ordering::Acquire);
    // SAFETY: not freed while USERS is held.
    let registered = unsafe { registered.as_ref() };
    registered.is_some_and(|r| r.capture.load(Ordering::Acquire) == capture::DONE)
}

/// Registers, and captures the provider if it is there. `PASSIVE_LEVEL`.
pub(super) fn start() -> Result<()> {
    let registered = KBox::try_new(
        Registered {
            registration: UnsafeCell::new(sys::WskRegistration {
                state: 0,
                context: ptr::null_mut(),
                lock: 0,
            }),
            provider: UnsafeCell::new(sys::WskProviderNpi {
                client: ptr::null_mut(),
                dispatch: ptr::null(),
            }),
            capture: AtomicU32::new(capture::NONE),
            tried: Event::try_new()?,
        },
        TAG,
    )?;
    // SAFETY: constant tables, and a registration in pool that stays where it is
    // until `stop` has deregistered it; PASSIVE_LEVEL.
    let status = unsafe { sys::WskRegister(&raw const NPI, registered.registration.get()) };
    NtStatus(status).into_result()?;
    match registered.capture(sys::WSK_NO_WAIT) {
        Ok(()) => log::line(c"winsock kernel: provider captured"),
        Err(status) => log::status(c"winsock kernel: provider not there yet", status),
    }
    USERS.init();
    REGISTERED.store(KBox::into_raw(registered), Ordering::Release);
    Ok(())
}

/// Waits for all clients to be gone, then lets go of the provider. False, and
/// nothing done, if [`start`] failed or wasn't called. `PASSIVE_LEVEL`.
pub(super) fn stop() -> bool {
    if REGISTERED.load(Ordering::Acquire).is_null() {
        return false;
    }
    USERS.wait();
    let registered = REGISTERED.swap(ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: into_raw of start, with its tag; the swap takes it back once, and
    // no user is left.
    let registered = unsafe { KBox::from_raw(registered, TAG) };
    let registration = registered.registration.get();
    if registered.capture.load(Ordering::Acquire) == capture::DONE {
        // SAFETY: captured once, released once; every socket is closed.
        unsafe { sys::WskReleaseProviderNPI(registration) };
    }
    // SAFETY: registered in start, once; the memory is freed only afterwards.
    unsafe { sys::WskDeregister(registration) };
    true
}
