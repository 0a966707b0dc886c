//! Sins against NDIS: a lightweight filter that passes everything on, and errs
//! in the one way its service's name says.
//!
//! Handlers run wherever the engine calls them; the statics below are all the
//! state there is, since a sin shows with a single adapter.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use crate::raw::ndis::{self as sys, Handle, Thing, at, get, pointer, put};
use crate::{Moment, Scene, raw};

const SUCCESS: i32 = 0;
const PENDING: i32 = 0x103;
const FAILURE: i32 = 0xC000_0001_u32 as i32;
const TAG: u32 = u32::from_le_bytes(*b"Sins");

macro_rules! sins {
    ($($variant:ident = $name:literal,)+) => {
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        enum Sin { $($variant,)+ }

        /// The names, in the order of the sins' numbers.
        const NAMES: &[&str] = &[$($name,)+];
    };
}

sins! {
    Nothing = "ndis-none",
    RestartFilterHigh = "ndis-restart-filter-at-dispatch",
    PoolHigh = "ndis-nbl-pool-above-dispatch",
    OidHigh = "ndis-oid-above-dispatch",
    StatusHigh = "ndis-status-above-dispatch",
    KeepSends = "ndis-send-kept",
    KeepReceives = "ndis-receive-kept",
    PauseFails = "ndis-pause-fails",
    PauseForEver = "ndis-pause-for-ever",
    PauseTwice = "ndis-pause-twice",
    PauseHolding = "ndis-pause-holding",
    OidForEver = "ndis-oid-for-ever",
    OidPendingStatus = "ndis-oid-completed-pending",
    OidTwice = "ndis-oid-completed-twice",
    OidOriginal = "ndis-oid-original-forwarded",
    OidNotCopied = "ndis-oid-result-not-copied",
    OidCloneKept = "ndis-oid-clone-kept",
    OidCloneFreedTwice = "ndis-oid-clone-freed-twice",
    OidNetPnp = "ndis-pnp-event-in-oid",
    NoDeregister = "ndis-no-deregister",
    DeregisterTwice = "ndis-deregister-twice",
    LeakMdl = "ndis-mdl-kept",
    MdlFreedTwice = "ndis-mdl-freed-twice",
    LeakNbl = "ndis-nbl-kept",
    LeakPool = "ndis-pool-kept",
    StaleHandle = "ndis-stale-handle",
    StatusWhileAttaching = "ndis-status-while-attaching",
    ReturnWhileRestarting = "ndis-return-while-restarting",
    OwnSendNoHandler = "ndis-own-send-without-handler",
    OwnSendNoSource = "ndis-own-send-without-source",
    OwnSendShortMdl = "ndis-own-send-short-mdl",
    NoAttributes = "ndis-no-attributes",
    RestartTwice = "ndis-restart-twice",
    OptionalHandlers = "ndis-optional-handlers-late",
    DispatchFlag = "ndis-dispatch-flag",
    ReturnUnknown = "ndis-nbl-unknown",
    CompleteTwice = "ndis-nbl-completed-twice",
    SendUp = "ndis-nbl-wrong-way",
    SourceChanged = "ndis-nbl-source-changed",
    PayloadChanged = "ndis-payload-changed",
    WrongCount = "ndis-nbl-count",
    Ring = "ndis-nbl-ring",
    FreeTwice = "ndis-nbl-freed-twice",
    FreeOthers = "ndis-nbl-of-others-freed",
    PoolFreedTwice = "ndis-pool-freed-twice",
    PoolFreedFull = "ndis-pool-freed-full",
    BufferFreedTwice = "ndis-net-buffer-freed-twice",
    BufferKept = "ndis-net-buffer-kept",
    BufferPoolFreedFull = "ndis-net-buffer-pool-freed-full",
    ListFreedFull = "ndis-nbl-freed-with-buffer",
    ParentCompleted = "ndis-parent-completed-first",
    ParentReturned = "ndis-parent-given-back-first",
    ParentElsewhere = "ndis-parent-elsewhere",
    ResourcesReturned = "ndis-resources-returned",
    ResourcesUnchained = "ndis-resources-unchained",
}

static SIN: AtomicU32 = AtomicU32::new(Sin::Nothing as u32);
static DRIVER: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static MODULE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static DONE: AtomicBool = AtomicBool::new(false);

/// A NET_BUFFER_LIST that is nobody's, and memory for frames.
#[repr(align(16))]
struct Memory(UnsafeCell<[u64; 64]>);
// SAFETY: the engine reads it; who writes does so to no purpose.
unsafe impl Sync for Memory {}
static FAKE: Memory = Memory(UnsafeCell::new([0; 64]));

fn fake() -> Thing {
    FAKE.0.get().cast()
}

fn is(sin: Sin) -> bool {
    SIN.load(Ordering::Relaxed) == sin as u32
}

/// Does `sin` the first time this is asked.
fn once(sin: Sin) -> bool {
    is(sin) && !DONE.swap(true, Ordering::SeqCst)
}

/// Starts the filter at load if this run's sin is one of these, ends it at unload.
pub(crate) fn commit(scene: &Scene) {
    if !crate::sin_starts("ndis-") {
        return;
    }
    match scene.moment {
        Moment::Load => start(scene.driver_object.cast()),
        Moment::Unload => stop(),
        Moment::Ioctl | Moment::Read => {}
    }
}

fn start(driver: *mut c_void) {
    let Some(index) = NAMES.iter().position(|name| crate::sin_is(name)) else {
        return;
    };
    SIN.store(index as u32, Ordering::Relaxed);
    let mut words = characteristics();
    if is(Sin::OwnSendNoHandler)
        && let Some(word) = words.get_mut(at::CHARACTERISTICS_SEND_COMPLETE / 8)
    {
        *word = 0;
    }
    let chars = words.as_ptr();
    // SAFETY: a whole structure of revision 3; the handle goes to a static.
    unsafe { sys::NdisFRegisterFilterDriver(driver, driver, chars, DRIVER.as_ptr()) };
}

fn stop() {
    let driver = DRIVER.swap(ptr::null_mut(), Ordering::SeqCst);
    if driver.is_null() || is(Sin::NoDeregister) {
        return;
    }
    let module = MODULE.load(Ordering::SeqCst);
    // SAFETY: the handle of a successful registration.
    unsafe { sys::NdisFDeregisterFilterDriver(driver) };
    if is(Sin::DeregisterTwice) {
        // SAFETY: none: that is the sin.
        unsafe { sys::NdisFDeregisterFilterDriver(driver) };
    }
    if is(Sin::StaleHandle) {
        // SAFETY: none: that is the sin.
        unsafe { sys::NdisFPauseComplete(module) };
    }
}

static NAME: [u16; 3] = [b'b' as u16, b'a' as u16, b'd' as u16];
static GUID: [u16; 38] = {
    let text = b"{0BADF00D-0000-4000-8000-0000000000BD}";
    let mut wide = [0; 38];
    let mut index = 0;
    while index < wide.len() {
        wide[index] = text[index] as u16;
        index += 1;
    }
    wide
};

/// NDIS_FILTER_DRIVER_CHARACTERISTICS, revision 3, for NDIS 6.80.
fn characteristics() -> [u64; 30] {
    let string = |text: &'static [u16]| {
        let bytes = size_of_val(text) as u64;
        (
            bytes | bytes << 16,
            text.as_ptr().expose_provenance() as u64,
        )
    };
    let code = |f: *const ()| f.expose_provenance() as u64;
    let (name, guid) = (string(&NAME), string(&GUID));
    [
        // Type, revision, size; NDIS 6.80; driver 1.0.
        0x8B | 3 << 8 | 0xF0 << 16 | 6 << 32 | 80 << 40 | 1 << 48,
        0,
        name.0,
        name.1,
        guid.0,
        guid.1,
        name.0,
        name.1,
        0,
        0,
        code(attach as *const ()),
        code(detach as *const ()),
        code(restart as *const ()),
        code(pause as *const ()),
        code(send as *const ()),
        code(send_complete as *const ()),
        0,
        code(receive as *const ()),
        code(give_back as *const ()),
        code(oid as *const ()),
        code(oid_complete as *const ()),
        0,
        0,
        0,
        code(status as *const ()),
        0,
        0,
        0,
        0,
        0,
    ]
}

unsafe extern "system" fn attach(handle: Handle, _driver: Handle, _parameters: Thing) -> i32 {
    MODULE.store(handle, Ordering::SeqCst);
    if is(Sin::NoAttributes) {
        return SUCCESS;
    }
    // NDIS_FILTER_ATTRIBUTES: type, revision, size; flags.
    let attributes = [0x8D | 1 << 8 | 8 << 16, 0_u32];
    // SAFETY: the handle of this attach; the handle serves as the context too.
    let set = unsafe { sys::NdisFSetAttributes(handle, handle, attributes.as_ptr()) };
    if is(Sin::StatusWhileAttaching) {
        // SAFETY: none: that is the sin.
        unsafe { sys::NdisFIndicateStatus(handle, fake()) };
    }
    set
}

unsafe extern "system" fn detach(_module: Handle) {}

unsafe extern "system" fn restart(module: Handle, _parameters: Thing) -> i32 {
    if is(Sin::RestartFilterHigh) {
        raise(2);
        // SAFETY: none: the IRQL is the sin.
        unsafe { sys::NdisFRestartFilter(module) };
    }
    if is(Sin::PoolHigh) {
        raise(3);
        pool(module);
    }
    if is(Sin::OidHigh) {
        raise(3);
        // SAFETY: none: the IRQL is the sin.
        unsafe { sys::NdisFOidRequest(module, fake()) };
    }
    if is(Sin::StatusHigh) {
        raise(3);
        // SAFETY: none: the IRQL is the sin.
        unsafe { sys::NdisFIndicateStatus(module, fake()) };
    }
    if is(Sin::OptionalHandlers) {
        let handlers = [0_u64; 6];
        // SAFETY: none: the moment is the sin.
        unsafe { sys::NdisSetOptionalHandlers(module, handlers.as_ptr()) };
    }
    if is(Sin::RestartTwice) {
        // SAFETY: none: the restart ends when this handler returns.
        unsafe { sys::NdisFRestartComplete(module, SUCCESS) };
    }
    if is(Sin::DispatchFlag) {
        // SAFETY: none: this handler is called at PASSIVE_LEVEL.
        unsafe { sys::NdisFReturnNetBufferLists(module, fake(), 1) };
    }
    if is(Sin::ReturnWhileRestarting) {
        // SAFETY: none: the state is the sin.
        unsafe { sys::NdisFReturnNetBufferLists(module, fake(), 0) };
    }
    memory_sins(module);
    apart_sins(module);
    SUCCESS
}

/// The sins of what is allocated and freed.
fn memory_sins(module: Handle) {
    if is(Sin::LeakMdl) || is(Sin::MdlFreedTwice) {
        let mdl = mdl(module);
        if is(Sin::MdlFreedTwice) {
            // SAFETY: from NdisAllocateMdl.
            unsafe { sys::NdisFreeMdl(mdl) };
            // SAFETY: none: that is the sin.
            unsafe { sys::NdisFreeMdl(mdl) };
        }
    }
    if is(Sin::LeakNbl) || is(Sin::FreeTwice) {
        let nbl = own(pool(module), ptr::null_mut(), 0);
        if is(Sin::FreeTwice) {
            // SAFETY: this driver's own.
            unsafe { sys::NdisFreeNetBufferList(nbl) };
            // SAFETY: none: that is the sin.
            unsafe { sys::NdisFreeNetBufferList(nbl) };
        }
    }
    if is(Sin::LeakPool) || is(Sin::PoolFreedTwice) || is(Sin::PoolFreedFull) {
        let pool = pool(module);
        if is(Sin::PoolFreedFull) {
            own(pool, ptr::null_mut(), 0);
        }
        if !is(Sin::LeakPool) {
            // SAFETY: this driver's own; in one case with a list left, the sin.
            unsafe { sys::NdisFreeNetBufferListPool(pool) };
            // SAFETY: none: that is the sin.
            unsafe { sys::NdisFreeNetBufferListPool(pool) };
        }
    }
}

/// The sins of buffers and lists that are made apart.
fn apart_sins(module: Handle) {
    let full = is(Sin::BufferPoolFreedFull);
    let twice = is(Sin::BufferFreedTwice);
    if full || twice || is(Sin::BufferKept) {
        let pool = buffer_pool(module);
        // SAFETY: this driver's own pool; no data.
        let buffer = unsafe { sys::NdisAllocateNetBuffer(pool, ptr::null_mut(), 0, 0) };
        if full {
            // SAFETY: none: there is a buffer left.
            unsafe { sys::NdisFreeNetBufferPool(pool) };
        }
        if twice {
            // SAFETY: this driver's own.
            unsafe { sys::NdisFreeNetBuffer(buffer) };
            // SAFETY: none: that is the sin.
            unsafe { sys::NdisFreeNetBuffer(buffer) };
        }
    }
    if is(Sin::ListFreedFull) {
        let list = derived(module, fake(), ptr::null_mut());
        // SAFETY: none: its buffer is to be freed before.
        unsafe { sys::NdisFreeNetBufferList(list) };
    }
}

fn buffer_pool(module: Handle) -> Handle {
    // NET_BUFFER_POOL_PARAMETERS: type, revision, size; tag; no data.
    let parameters = [0x80 | 1 << 8 | 12 << 16, TAG, 0_u32];
    // SAFETY: a whole structure of revision 1.
    unsafe { sys::NdisAllocateNetBufferPool(module, parameters.as_ptr()) }
}

/// A list of this driver's own over the data of a buffer of another.
fn derived(module: Handle, buffer: Thing, parent: Thing) -> Thing {
    // NET_BUFFER_LIST_POOL_PARAMETERS as in `pool`, without buffers.
    let parameters = [0x80 | 1 << 8 | 16 << 16, 0, TAG, 0_u32];
    // SAFETY: a whole structure of revision 1.
    let lists = unsafe { sys::NdisAllocateNetBufferListPool(module, parameters.as_ptr()) };
    // SAFETY: this driver's own pool.
    let list = unsafe { sys::NdisAllocateNetBufferList(lists, 0, 0) };
    let mdls = pointer(get(buffer, at::NB_MDL_CHAIN));
    // SAFETY: this driver's own pool, and the other's MDLs; no byte of them.
    let own = unsafe { sys::NdisAllocateNetBuffer(buffer_pool(module), mdls, 0, 0) };
    put(list, at::NBL_FIRST_NB, own.expose_provenance() as u64);
    put(list, at::NBL_SOURCE, module.expose_provenance() as u64);
    put(list, at::NBL_PARENT, parent.expose_provenance() as u64);
    list
}

fn raise(level: u8) {
    // SAFETY: a level that exists; what follows ends the run.
    unsafe { raw::nt::KfRaiseIrql(level) };
}

fn mdl(module: Handle) -> Thing {
    // SAFETY: memory that stays for ever.
    unsafe { sys::NdisAllocateMdl(module, fake().cast(), 64) }
}

fn pool(module: Handle) -> Handle {
    // NET_BUFFER_LIST_POOL_PARAMETERS: type, revision, size; fAllocateNetBuffer; tag; no data.
    let parameters = [0x80 | 1 << 8 | 16 << 16, 1 << 8, TAG, 0_u32];
    // SAFETY: a whole structure of revision 1.
    unsafe { sys::NdisAllocateNetBufferListPool(module, parameters.as_ptr()) }
}

fn own(pool: Handle, mdl: Thing, length: usize) -> Thing {
    // SAFETY: a pool of this driver's.
    unsafe { sys::NdisAllocateNetBufferAndNetBufferList(pool, 0, 0, mdl, 0, length) }
}

unsafe extern "system" fn pause(module: Handle, _parameters: Thing) -> i32 {
    if is(Sin::PauseFails) {
        return FAILURE;
    }
    if is(Sin::PauseForEver) || is(Sin::KeepSends) || is(Sin::KeepReceives) {
        return PENDING;
    }
    if is(Sin::PauseTwice) {
        // SAFETY: none: the pause ends when this handler returns.
        unsafe { sys::NdisFPauseComplete(module) };
    }
    SUCCESS
}

unsafe extern "system" fn send(module: Handle, nbls: Thing, port: u32, flags: u32) {
    originate(module);
    if is(Sin::KeepSends) || is(Sin::PauseHolding) {
        return;
    }
    if is(Sin::ParentCompleted) {
        for _ in 0..PARTS {
            let part = derived(module, pointer(get(nbls, at::NBL_FIRST_NB)), nbls);
            // SAFETY: this driver's own list.
            unsafe { sys::NdisFSendNetBufferLists(module, part, port, flags) };
        }
        // SAFETY: none: lists derived from it are below.
        unsafe { sys::NdisFSendNetBufferListsComplete(module, nbls, flags & 1) };
        return;
    }
    if is(Sin::ParentElsewhere) {
        let part = derived(module, pointer(get(nbls, at::NBL_FIRST_NB)), nbls);
        // SAFETY: the chain was given to this filter.
        unsafe { sys::NdisFSendNetBufferLists(module, nbls, port, flags) };
        // SAFETY: none: what it is derived from is gone.
        unsafe { sys::NdisFSendNetBufferLists(module, part, port, flags) };
        return;
    }
    if is(Sin::SendUp) {
        // SAFETY: none: the direction is the sin.
        unsafe {
            sys::NdisFIndicateReceiveNetBufferLists(module, nbls, port, count(nbls), flags & 1)
        };
    }
    if is(Sin::SourceChanged) {
        put(nbls, at::NBL_SOURCE, module.expose_provenance() as u64);
    }
    if is(Sin::PayloadChanged) {
        scribble(nbls);
    }
    if is(Sin::FreeOthers) {
        // SAFETY: none: it is not this driver's list.
        unsafe { sys::NdisFreeNetBufferList(nbls) };
    }
    // SAFETY: the chain was given to this filter.
    unsafe { sys::NdisFSendNetBufferLists(module, nbls, port, flags) };
}

/// Sends a frame of the filter's own, wrongly.
fn originate(module: Handle) {
    let (handler, source, short) = (
        once(Sin::OwnSendNoHandler),
        once(Sin::OwnSendNoSource),
        once(Sin::OwnSendShortMdl),
    );
    if !(handler || source || short) {
        return;
    }
    let nbl = own(pool(module), mdl(module), if short { 1000 } else { 60 });
    if !source {
        put(nbl, at::NBL_SOURCE, module.expose_provenance() as u64);
    }
    // SAFETY: this driver's own list; what is wrong with it is the sin.
    unsafe { sys::NdisFSendNetBufferLists(module, nbl, 0, 0) };
}

/// Changes the first byte of a frame.
fn scribble(nbl: Thing) {
    let nb = pointer(get(nbl, at::NBL_FIRST_NB));
    let mdl = pointer(get(nb, at::NB_CURRENT_MDL));
    let offset = (get(mdl, at::MDL_COUNT) >> 32) + (get(nb, at::NB_MDL_OFFSET) & 0xFFFF_FFFF);
    let byte = pointer(get(mdl, at::MDL_START) + offset).cast::<u8>();
    // SAFETY: the data of a frame given to this filter.
    let was = unsafe { byte.read() };
    // SAFETY: none: the frame is not this filter's to change.
    unsafe { byte.write(was ^ 0xFF) };
}

fn count(mut nbls: Thing) -> u32 {
    let mut n = 0;
    while !nbls.is_null() {
        n += 1;
        nbls = pointer(get(nbls, at::NBL_NEXT));
    }
    n
}

/// So many lists derived from one parent that some are still above or below
/// when the call that took the last one returns.
const PARTS: u32 = 16;

/// Whether a chain that came back is of lists this driver derived.
fn is_derived() -> bool {
    is(Sin::ParentCompleted) || is(Sin::ParentReturned)
}

unsafe extern "system" fn send_complete(module: Handle, nbls: Thing, flags: u32) {
    if is_derived() {
        return;
    }
    // SAFETY: the chain was given to this filter.
    unsafe { sys::NdisFSendNetBufferListsComplete(module, nbls, flags) };
    if is(Sin::CompleteTwice) {
        // SAFETY: none: that is the sin.
        unsafe { sys::NdisFSendNetBufferListsComplete(module, nbls, flags) };
    }
}

unsafe extern "system" fn receive(module: Handle, nbls: Thing, port: u32, number: u32, flags: u32) {
    let resources = flags & 2 != 0;
    if is(Sin::ResourcesReturned) && resources {
        // SAFETY: none: returning from this handler returns them.
        unsafe { sys::NdisFReturnNetBufferLists(module, nbls, flags & 1) };
    }
    if is(Sin::ResourcesUnchained) && resources {
        put(nbls, at::NBL_NEXT, fake().expose_provenance() as u64);
        return;
    }
    if is(Sin::ParentReturned) {
        for _ in 0..PARTS {
            let part = derived(module, pointer(get(nbls, at::NBL_FIRST_NB)), nbls);
            // SAFETY: this driver's own list.
            unsafe { sys::NdisFIndicateReceiveNetBufferLists(module, part, port, 1, flags & 1) };
        }
        if !resources {
            // SAFETY: none: lists derived from it are above.
            unsafe { sys::NdisFReturnNetBufferLists(module, nbls, flags & 1) };
        }
        return;
    }
    if (is(Sin::KeepReceives) || is(Sin::PauseHolding)) && !resources {
        return;
    }
    if is(Sin::ReturnUnknown) {
        // SAFETY: none: nobody gave it to this filter.
        unsafe { sys::NdisFReturnNetBufferLists(module, fake(), flags & 1) };
    }
    if is(Sin::Ring) {
        put(nbls, at::NBL_NEXT, nbls.expose_provenance() as u64);
    }
    let number = number + u32::from(is(Sin::WrongCount));
    // SAFETY: the chain was given to this filter.
    unsafe { sys::NdisFIndicateReceiveNetBufferLists(module, nbls, port, number, flags) };
}

unsafe extern "system" fn give_back(module: Handle, nbls: Thing, flags: u32) {
    if is_derived() {
        return;
    }
    // SAFETY: the chain was given to this filter.
    unsafe { sys::NdisFReturnNetBufferLists(module, nbls, flags) };
}

unsafe extern "system" fn oid(module: Handle, request: Thing) -> i32 {
    if is(Sin::OidForEver) {
        return PENDING;
    }
    if is(Sin::OidPendingStatus) {
        // SAFETY: none: the status is the sin.
        unsafe { sys::NdisFOidRequestComplete(module, request, PENDING) };
    }
    if is(Sin::OidTwice) {
        // SAFETY: the request was given to this filter.
        unsafe { sys::NdisFOidRequestComplete(module, request, FAILURE) };
        // SAFETY: none: that is the sin.
        unsafe { sys::NdisFOidRequestComplete(module, request, FAILURE) };
    }
    if is(Sin::OidOriginal) {
        // SAFETY: none: it must be a clone.
        return unsafe { sys::NdisFOidRequest(module, request) };
    }
    if is(Sin::OidNetPnp) {
        // SAFETY: none: the context is the sin.
        unsafe { sys::NdisFNetPnPEvent(module, fake()) };
    }
    let mut clone: Thing = ptr::null_mut();
    // SAFETY: a request given to this filter, and a place for the clone.
    let made = unsafe { sys::NdisAllocateCloneOidRequest(module, request, TAG, &raw mut clone) };
    if made != SUCCESS {
        return made;
    }
    put(
        clone,
        at::OID_SOURCE_RESERVED,
        request.expose_provenance() as u64,
    );
    // SAFETY: the clone is this filter's, sent once.
    let sent = unsafe { sys::NdisFOidRequest(module, clone) };
    if sent != PENDING {
        finish(module, clone, sent);
    }
    PENDING
}

unsafe extern "system" fn oid_complete(module: Handle, clone: Thing, status: i32) {
    finish(module, clone, status);
}

fn finish(module: Handle, clone: Thing, status: i32) {
    let request = pointer(get(clone, at::OID_SOURCE_RESERVED));
    if !is(Sin::OidNotCopied) {
        // From behind the buffer's address to the end of the union.
        for offset in [48, 56, 64] {
            put(request, offset, get(clone, offset));
        }
        let revision = at::OID_SUPPORTED_REVISION;
        put(request, revision, get(clone, revision));
    }
    if !is(Sin::OidCloneKept) {
        // SAFETY: this filter's, back from below.
        unsafe { sys::NdisFreeCloneOidRequest(module, clone) };
    }
    if is(Sin::OidCloneFreedTwice) {
        // SAFETY: none: that is the sin.
        unsafe { sys::NdisFreeCloneOidRequest(module, clone) };
    }
    // SAFETY: given to this filter, completed once.
    unsafe { sys::NdisFOidRequestComplete(module, request, status) };
}

unsafe extern "system" fn status(module: Handle, indication: Thing) {
    // SAFETY: the indication given.
    unsafe { sys::NdisFIndicateStatus(module, indication) };
}
