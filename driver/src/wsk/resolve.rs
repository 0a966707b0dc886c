//! Looking up names: `WskGetAddressInfo`.
//!
//! MSDN "PFN_WSK_GET_ADDRESS_INFO", "PFN_WSK_FREE_ADDRESS_INFO". The provider
//! asks the system's resolver, which lives in user mode, so this takes as long as
//! DNS does; it is asynchronous and can be cancelled. Both functions are for
//! `PASSIVE_LEVEL`, so what has been found is taken by a task of the pump.

use core::cell::UnsafeCell;
use core::net::SocketAddr;
use core::ptr;

use super::addr::SockAddr;
use super::client::Client;
use super::irp::Outcome;
use super::op::Op;
use super::options::Family;
use super::sys;
use crate::kernel::pool::{KSlice, Tag};
use crate::kernel::status::{NtStatus, Result};

/// A name to be looked up, once. Stays where it is from the start on.
pub(crate) struct Lookup {
    /// What the strings are over.
    _name: KSlice<u16>,
    service: Option<KSlice<u16>>,
    /// What the pending call points to.
    name_string: UnsafeCell<sys::UnicodeString>,
    service_string: UnsafeCell<sys::UnicodeString>,
    hints: UnsafeCell<sys::AddrInfoEx>,
    result: UnsafeCell<*mut sys::AddrInfoEx>,
}

// SAFETY: while a call is pending its fields are the provider's; before and
// after, one caller at a time uses them (conditions of the functions).
unsafe impl Sync for Lookup {}
// SAFETY: as above.
unsafe impl Send for Lookup {}

fn copied(text: &[u16], tag: Tag) -> Result<KSlice<u16>> {
    let mut rest = text.iter();
    KSlice::try_from_fn(text.len(), tag, |_| rest.next().copied().unwrap_or(0))
}

fn string(text: &KSlice<u16>) -> Result<sys::UnicodeString> {
    let bytes =
        u16::try_from(size_of_val::<[u16]>(text)).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    Ok(sys::UnicodeString {
        length: bytes,
        maximum_length: bytes,
        buffer: text.as_ptr(),
    })
}

impl Lookup {
    /// A lookup of `name` (UTF-16, not empty, no terminator), and of a service's
    /// port if one is named, for addresses of one family or of both.
    /// `IRQL <= DISPATCH_LEVEL`.
    pub(crate) fn try_new(
        name: &[u16],
        service: &[u16],
        family: Option<Family>,
        tag: Tag,
    ) -> Result<Self> {
        let name = copied(name, tag)?;
        let service = match service {
            [] => None,
            service => Some(copied(service, tag)?),
        };
        let none = || sys::UnicodeString {
            length: 0,
            maximum_length: 0,
            buffer: ptr::null(),
        };
        let name_string = string(&name)?;
        let service_string = service.as_ref().map_or_else(|| Ok(none()), string)?;
        Ok(Self {
            _name: name,
            service,
            name_string: UnsafeCell::new(name_string),
            service_string: UnsafeCell::new(service_string),
            hints: UnsafeCell::new(sys::AddrInfoEx {
                flags: 0,
                family: match family {
                    None => 0,
                    Some(Family::V4) => i32::from(sys::AF_INET),
                    Some(Family::V6) => i32::from(sys::AF_INET6),
                },
                // Of any, since a service may be known for one of them alone: so
                // an address comes once for each type.
                socket_type: 0,
                protocol: 0,
                address_len: 0,
                canonical_name: ptr::null(),
                address: ptr::null(),
                blob: ptr::null(),
                blob_len: 0,
                provider: ptr::null(),
                next: ptr::null(),
            }),
            result: UnsafeCell::new(ptr::null_mut()),
        })
    }

    /// Starts the lookup. `Ok` means that the end of `op` will be told, and then
    /// [`Lookup::finish`] is to be called; `Err` that nothing was started.
    /// `PASSIVE_LEVEL`.
    ///
    /// # Safety
    /// Started once; stays where it is until `op` has ended.
    pub(crate) unsafe fn start(&self, client: &Client, op: &Op) -> Result<()> {
        let get = client.table()?.get_address_info;
        let get = get.ok_or(NtStatus::NOT_SUPPORTED)?;
        let service = match &self.service {
            Some(_) => self.service_string.get().cast_const(),
            None => ptr::null(),
        };
        let name = self.name_string.get().cast_const();
        op.issue(|irp| {
            // SAFETY: the captured provider's function and client; strings,
            // hints and the place for the result are parts of this, which stays
            // (caller); no provider, process or thread; PASSIVE_LEVEL.
            unsafe {
                get(
                    client.handle(),
                    name,
                    service,
                    sys::NS_ALL,
                    ptr::null(),
                    self.hints.get(),
                    self.result.get(),
                    ptr::null_mut(),
                    ptr::null_mut(),
                    irp,
                )
            };
        })
    }

    /// Hands each address found to `found`, some of them more than once, until that
    /// has enough and returns false, and gives the provider its memory back. `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// How the lookup ended: `STATUS_NO_MATCH` for a name nobody knows,
    /// `STATUS_CANCELLED`, or whatever else the resolver says.
    ///
    /// # Safety
    /// The operation of [`Lookup::start`] has ended, with this outcome; called
    /// once, with the same client.
    pub(crate) unsafe fn finish(
        &self,
        client: &Client,
        outcome: Outcome,
        mut found: impl FnMut(SocketAddr) -> bool,
    ) -> Result<()> {
        outcome.value()?;
        let free = client.table()?.free_address_info;
        let free = free.ok_or(NtStatus::NOT_SUPPORTED)?;
        // SAFETY: the call has ended; nobody else uses it.
        let result = unsafe { *self.result.get() };
        // SAFETY: null, or the provider's list, which is good until it is freed.
        let mut next = unsafe { result.as_ref() };
        while let Some(info) = next {
            // SAFETY: null, or a SOCKADDR of its family, as the rest of the entry.
            let address = unsafe { SockAddr::read(info.address) };
            if let Ok(address) = SocketAddr::try_from(&address)
                && !found(address)
            {
                break;
            }
            // SAFETY: null, or the next entry of the list.
            next = unsafe { info.next.as_ref() };
        }
        if !result.is_null() {
            // SAFETY: what the provider gave, once; nothing of it is used any
            // more; PASSIVE_LEVEL.
            unsafe { free(client.handle(), result) };
        }
        Ok(())
    }
}
