//! OID requests: cloned, passed on, and completed with what the clone brought.
//!
//! NDIS wants the request that a filter sends on to be its own (MSDN,
//! "Filtering OID Requests in an NDIS Filter Driver"). The clone shares the
//! original's buffer; the original waits, its address in the clone's
//! `SourceReserved`. Whether the request ends at once or later, the same
//! function, [`finish`], ends it: exactly one completion for each original.
//! NDIS has one ordinary request at a time at a module, but any number of
//! direct ones, so nothing about a request is kept in the module.

use core::ffi::c_void;
use core::ptr;

use super::TAG;
use super::adapter::Module;
use super::sys::{self, NDIS_HANDLE, NDIS_OID_REQUEST, NDIS_STATUS};

/// The two kinds of request, alike but for the functions they go by.
#[derive(Clone, Copy)]
enum Kind {
    Ordinary,
    Direct,
}

impl Kind {
    /// Sends a request down.
    ///
    /// # Safety
    /// `request` is a clone made for `module`'s handle, sent once.
    unsafe fn send(self, module: &Module, request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
        match self {
            // SAFETY: by contract.
            Self::Ordinary => unsafe { sys::NdisFOidRequest(module.handle(), request) },
            // SAFETY: by contract.
            Self::Direct => unsafe { sys::NdisFDirectOidRequest(module.handle(), request) },
        }
    }

    /// Completes a request up.
    ///
    /// # Safety
    /// `request` came from NDIS to `module` by this kind's callback, which
    /// returned (or will return) `NDIS_STATUS_PENDING`; completed once.
    unsafe fn complete(self, module: &Module, request: *mut NDIS_OID_REQUEST, status: NDIS_STATUS) {
        let handle = module.handle();
        match self {
            // SAFETY: by contract.
            Self::Ordinary => unsafe { sys::NdisFOidRequestComplete(handle, request, status) },
            // SAFETY: by contract.
            Self::Direct => unsafe { sys::NdisFDirectOidRequestComplete(handle, request, status) },
        }
    }
}

/// `FilterOidRequest`. `IRQL <= DISPATCH_LEVEL`, in every state but Attaching.
pub(super) unsafe extern "system" fn request(
    context: NDIS_HANDLE,
    original: *mut NDIS_OID_REQUEST,
) -> NDIS_STATUS {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: a valid request that NDIS gave for this module.
    unsafe { forward(module, original, Kind::Ordinary) }
}

/// `FilterDirectOidRequest`.
pub(super) unsafe extern "system" fn direct_request(
    context: NDIS_HANDLE,
    original: *mut NDIS_OID_REQUEST,
) -> NDIS_STATUS {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: a valid request that NDIS gave for this module.
    unsafe { forward(module, original, Kind::Direct) }
}

/// `FilterOidRequestComplete`: for a clone that was pending below.
pub(super) unsafe extern "system" fn request_complete(
    context: NDIS_HANDLE,
    clone: *mut NDIS_OID_REQUEST,
    status: NDIS_STATUS,
) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: a clone of forward's that NDIS has done with.
    unsafe { finish(module, clone, status, Kind::Ordinary) };
}

/// `FilterDirectOidRequestComplete`.
pub(super) unsafe extern "system" fn direct_request_complete(
    context: NDIS_HANDLE,
    clone: *mut NDIS_OID_REQUEST,
    status: NDIS_STATUS,
) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: a clone of forward's that NDIS has done with.
    unsafe { finish(module, clone, status, Kind::Direct) };
}

/// `FilterCancelOidRequest`. A clone carries its original's `RequestId`, so the
/// id finds the clone below; a request that has ended meanwhile it doesn't
/// find, and nothing happens. The filter itself holds nothing back.
pub(super) unsafe extern "system" fn cancel(context: NDIS_HANDLE, request_id: *mut c_void) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: an id that NDIS gave, passed on as it is.
    unsafe { sys::NdisFCancelOidRequest(module.handle(), request_id) };
}

/// `FilterCancelDirectOidRequest`, as [`cancel`].
pub(super) unsafe extern "system" fn cancel_direct(context: NDIS_HANDLE, request_id: *mut c_void) {
    // SAFETY: NDIS passes the context that attach set.
    let module = unsafe { super::module(context) };
    // SAFETY: an id that NDIS gave, passed on as it is.
    unsafe { sys::NdisFCancelDirectOidRequest(module.handle(), request_id) };
}

/// Sends a clone of `original` down. Without memory for a clone the request
/// fails with NDIS's status, and is not completed otherwise.
///
/// # Safety
/// `original` is a valid request that NDIS gave the filter for `module`.
unsafe fn forward(module: &Module, original: *mut NDIS_OID_REQUEST, kind: Kind) -> NDIS_STATUS {
    let mut clone = ptr::null_mut();
    // SAFETY: a valid request and a live place for the clone's address.
    let status = unsafe {
        sys::NdisAllocateCloneOidRequest(module.handle(), original, TAG.raw(), &raw mut clone)
    };
    if status != sys::NDIS_STATUS_SUCCESS {
        return status;
    }
    // SAFETY: the original is the filter's until it completes it.
    let request_id = unsafe { (*original).RequestId };
    // SAFETY: a new clone, nobody else's.
    unsafe { (*clone).RequestId = request_id };
    // SAFETY: as above; SourceReserved is for the driver that sends it.
    unsafe { (*clone).SourceReserved = [original.cast(), ptr::null_mut()] };
    // SAFETY: the clone was made for this module and is sent once.
    let status = unsafe { kind.send(module, clone) };
    if status != sys::NDIS_STATUS_PENDING {
        // SAFETY: the clone has ended, and NDIS will not complete it again.
        unsafe { finish(module, clone, status, kind) };
    }
    // Pending even then: the completion has been, or will be, reported by
    // NdisF(Direct)OidRequestComplete.
    sys::NDIS_STATUS_PENDING
}

/// Ends a request: its results to the original, the clone freed, the original
/// completed.
///
/// # Safety
/// `clone` was made by [`forward`] for this module and kind, and has ended
/// below; it is ended here once.
unsafe fn finish(module: &Module, clone: *mut NDIS_OID_REQUEST, status: NDIS_STATUS, kind: Kind) {
    // SAFETY: forward put the original there; NDIS leaves SourceReserved alone.
    let [original, _] = unsafe { (*clone).SourceReserved };
    let original = original.cast::<NDIS_OID_REQUEST>();
    // SAFETY: the clone has ended and is the filter's alone until it is freed.
    let results = unsafe { &*clone };
    // SAFETY: the original waits for its clone and is the filter's until then.
    let waiting = unsafe { &mut *original };
    copy_back(results, waiting);
    // SAFETY: allocated in forward with this handle, freed once.
    unsafe { sys::NdisFreeCloneOidRequest(module.handle(), clone) };
    // SAFETY: pending since forward, completed once.
    unsafe { kind.complete(module, original, status) };
}

/// What the drivers below have written into the request itself; what they wrote
/// into its buffer, they wrote into the original's.
fn copy_back(clone: &NDIS_OID_REQUEST, original: &mut NDIS_OID_REQUEST) {
    original.SupportedRevision = clone.SupportedRevision;
    match clone.RequestType {
        sys::NDIS_REQUEST_METHOD => {
            // SAFETY: all bit patterns are valid for both members of the union.
            let from = unsafe { clone.DATA.Method };
            // SAFETY: as above.
            let to = unsafe { &mut original.DATA.Method };
            to.OutputBufferLength = from.OutputBufferLength;
            to.BytesWritten = from.BytesWritten;
            to.BytesRead = from.BytesRead;
            to.BytesNeeded = from.BytesNeeded;
        }
        sys::NDIS_REQUEST_QUERY_INFORMATION
        | sys::NDIS_REQUEST_QUERY_STATISTICS
        | sys::NDIS_REQUEST_SET_INFORMATION => {
            // SAFETY: all bit patterns are valid for both members of the union.
            let from = unsafe { clone.DATA.Information };
            // SAFETY: as above.
            let to = unsafe { &mut original.DATA.Information };
            to.BytesDone = from.BytesDone;
            to.BytesNeeded = from.BytesNeeded;
        }
        // The other types of NDIS_REQUEST_TYPE never reach a filter.
        _ => {}
    }
}
