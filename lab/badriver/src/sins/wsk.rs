//! Sins against Winsock Kernel: a client that registers, makes a socket, uses
//! it and takes it all down, and errs in the one way its service's name says.
//!
//! Everything happens at load, at PASSIVE_LEVEL; the sins that show at unload
//! only leave out what would have been undone.
// Whole sequences of calls are the point here, and each arm's reason is its
// sin: everything before the last call keeps the rules.

use core::ffi::c_void;
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::raw::kmdf::WdfDeviceWdmGetDeviceObject;
use crate::raw::nt::*;
use crate::raw::wsk::*;
use crate::{Moment, Scene, sin_is, sin_starts};

const TAG: u32 = u32::from_le_bytes(*b"Lbwk");
const MORE_PROCESSING: i32 = u32::cast_signed(0xC000_0016);
const PENDING: i32 = 0x103;
const UNSUCCESSFUL: i32 = u32::cast_signed(0xC000_0001);
const DISPATCH: u8 = 2;
const SOL_SOCKET: u32 = 0xFFFF;
const SO_EXCLUSIVEADDRUSE: u32 = !4;
const SO_WSK_EVENT_CALLBACK: u32 = 0x4002;
const SO_CONDITIONAL_ACCEPT: u32 = 0x3002;
/// WskInspectAccept, WskInspectPend.
const INSPECT_ACCEPT: u32 = 1;
const INSPECT_PEND: u32 = 2;
/// 127.0.0.1, any port.
const LOOPBACK: [u16; 8] = [2, 0, 0x007F, 0x0100, 0, 0, 0, 0];
/// A relative time of a millisecond, in 100 ns.
const MILLISECOND: i64 = -10_000;

static CLIENT: ClientDispatch = ClientDispatch {
    version: 0x0100,
    reserved: 0,
    event: 0,
};
static mut REGISTRATION: [u64; 3] = [0; 3];
static mut DONE: Event = Event::zero();
static SOCKET: AtomicPtr<*const *const c_void> = AtomicPtr::new(null_mut());
/// A list the receive callback kept.
static LIST: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
/// What the receive callback is to return, and how often it ran.
static ANSWER: AtomicU32 = AtomicU32::new(0);
static RAN: AtomicU32 = AtomicU32::new(0);
/// 1: a call is being made; 2: its completion routine runs inside it.
static CALLING: AtomicU32 = AtomicU32::new(0);
static EVENTS: [unsafe extern "system" fn(*mut c_void, u32, *mut c_void) -> i32; 1] =
    [receive_from_event];

/// The completion routine of every good call.
unsafe extern "system" fn done(_device: *mut c_void, _irp: Irp, event: *mut c_void) -> i32 {
    // SAFETY: the context is an initialised event that outlives the call.
    unsafe { KeSetEvent(event.cast(), 0, 0) };
    MORE_PROCESSING
}

/// A completion routine that lets its IRP go on to nobody.
unsafe extern "system" fn lets_go(_device: *mut c_void, _irp: Irp, _event: *mut c_void) -> i32 {
    0
}

/// A completion routine that calls the provider.
unsafe extern "system" fn calls(_device: *mut c_void, irp: Irp, _event: *mut c_void) -> i32 {
    let socket = SOCKET.load(Ordering::Acquire);
    // SAFETY: the socket is open; that it is closed from here is the sin.
    unsafe { close(socket, irp) };
    MORE_PROCESSING
}

/// A completion routine that waits, when it can without breaking another rule.
unsafe extern "system" fn waits(device: *mut c_void, irp: Irp, event: *mut c_void) -> i32 {
    // SAFETY: callable anywhere.
    if unsafe { KeGetCurrentIrql() } == 0 {
        let time = MILLISECOND;
        // SAFETY: at PASSIVE_LEVEL; that it is a completion routine is the sin.
        unsafe { KeDelayExecutionThread(0, 0, &raw const time) };
    }
    // SAFETY: as any completion routine is called.
    unsafe { done(device, irp, event) }
}

/// A completion routine that, inside the call that completed it, gives another
/// thread the time to close the socket.
unsafe extern "system" fn dawdles(device: *mut c_void, irp: Irp, event: *mut c_void) -> i32 {
    if CALLING.load(Ordering::Acquire) == 1 {
        CALLING.store(2, Ordering::Release);
        for _ in 0..500_000_000_u64 {
            core::hint::spin_loop();
        }
    }
    // SAFETY: as any completion routine is called.
    unsafe { done(device, irp, event) }
}

unsafe extern "system" fn closes(_device: *mut c_void, _context: *mut c_void) {
    let time = MILLISECOND;
    while CALLING.load(Ordering::Acquire) < 2 {
        // SAFETY: a work item runs at PASSIVE_LEVEL.
        unsafe { KeDelayExecutionThread(0, 0, &raw const time) };
    }
    let socket = SOCKET.load(Ordering::Acquire);
    // SAFETY: the socket is open; that it is in use is the sin.
    let ask = |irp| unsafe { close(socket, irp) };
    // SAFETY: at PASSIVE_LEVEL.
    unsafe { call(ask) };
}

unsafe extern "system" fn receive_from_event(
    _context: *mut c_void,
    _flags: u32,
    list: *mut c_void,
) -> i32 {
    let answer = ANSWER.load(Ordering::Acquire).cast_signed();
    if answer == PENDING {
        LIST.store(list, Ordering::Release);
    }
    RAN.fetch_add(1, Ordering::AcqRel);
    answer
}

/// A function of a socket's dispatch table.
///
/// # Safety
/// An open socket, and the type of the function in that place.
unsafe fn function<F: Copy>(socket: Socket, index: usize) -> F {
    // SAFETY: a WSK_SOCKET points to its table.
    let table = unsafe { *socket };
    // SAFETY: the table has that many places at least.
    let entry = unsafe { table.add(index) };
    // SAFETY: the caller knows the type.
    unsafe { entry.cast::<F>().read() }
}

/// WskCloseSocket.
///
/// # Safety
/// An open socket and an IRP with a completion routine.
unsafe fn close(socket: Socket, irp: Irp) -> i32 {
    // SAFETY: every table has WskCloseSocket there.
    let close = unsafe { function::<CloseFn>(socket, datagram::CLOSE) };
    // SAFETY: as the caller's.
    unsafe { close(socket, irp) }
}

/// Where the registration is.
fn registration() -> *mut [u64; 3] {
    &raw mut REGISTRATION
}

/// Makes a call as it should be: an IRP with a completion routine, waited for.
///
/// # Safety
/// At PASSIVE_LEVEL; `f` gives the IRP to one function of the provider.
unsafe fn call(f: impl FnOnce(Irp) -> i32) -> (i32, usize) {
    // SAFETY: as the caller's.
    unsafe { call_with(done, f) }
}

/// [`call`], with another completion routine.
///
/// # Safety
/// As `call`.
unsafe fn call_with(routine: Routine, f: impl FnOnce(Irp) -> i32) -> (i32, usize) {
    // SAFETY: one stack location.
    let irp = unsafe { IoAllocateIrp(1, 0) };
    let event = &raw mut DONE;
    // SAFETY: nobody waits for it: one call at a time.
    unsafe { KeInitializeEvent(event, 0, 0) };
    // SAFETY: a fresh IRP.
    unsafe { set_routine(irp, Some(routine), event.cast()) };
    f(irp);
    // SAFETY: initialised; at PASSIVE_LEVEL.
    unsafe { KeWaitForSingleObject(event.cast(), 0, 0, 0, null()) };
    // SAFETY: completed.
    let result = unsafe { result(irp) };
    // SAFETY: completed, freed once.
    unsafe { IoFreeIrp(irp) };
    result
}

/// Makes a call and does not wait for it.
///
/// # Safety
/// As `call`; the memory it uses stays until it ends.
unsafe fn start(f: impl FnOnce(Irp) -> i32) -> Irp {
    // SAFETY: one stack location.
    let irp = unsafe { IoAllocateIrp(1, 0) };
    let event = &raw mut DONE;
    // SAFETY: nobody waits for it.
    unsafe { KeInitializeEvent(event, 0, 0) };
    // SAFETY: a fresh IRP.
    unsafe { set_routine(irp, Some(done), event.cast()) };
    f(irp);
    irp
}

/// A socket of a category.
///
/// # Safety
/// The provider is captured.
unsafe fn socket(npi: &ProviderNpi, flags: u32, security: *mut c_void) -> Socket {
    let (kind, protocol) = if flags == DATAGRAM { (2, 17) } else { (1, 6) };
    let place = npi.dispatch.wrapping_add(provider::SOCKET);
    // SAFETY: WSK_PROVIDER_DISPATCH has WskSocket there.
    let make = unsafe { place.cast::<SocketFn>().read() };
    let none = null_mut();
    let table = (&raw const EVENTS).cast::<c_void>();
    let table = if flags == DATAGRAM { table } else { null() };
    let ask = |irp| {
        let client = npi.client;
        // SAFETY: as documented.
        unsafe {
            make(
                client, 2, kind, protocol, flags, none, table, none, none, security, irp,
            )
        }
    };
    // SAFETY: at PASSIVE_LEVEL.
    let made = unsafe { call(ask) };
    core::ptr::with_exposed_provenance_mut(made.1)
}

/// Binds to 127.0.0.1.
///
/// # Safety
/// An open socket, not bound.
unsafe fn bind(socket: Socket, flags: u32) {
    let mut address = LOOPBACK;
    // SAFETY: the tables of sockets that bind have WskBind there.
    let bind = unsafe { function::<BindFn>(socket, datagram::BIND) };
    let to = (&raw mut address).cast();
    // SAFETY: as documented; the address outlives the call.
    let ask = |irp| unsafe { bind(socket, to, flags, irp) };
    // SAFETY: at PASSIVE_LEVEL.
    unsafe { call(ask) };
}

/// Switches event callbacks.
///
/// # Safety
/// An open socket.
unsafe fn events(socket: Socket, mask: u32, irp: Irp) -> i32 {
    let mut control = EventControl {
        npi: &raw const NPI,
        mask,
    };
    // SAFETY: every table has WskControlSocket there.
    let set = unsafe { function::<ControlFn>(socket, datagram::CONTROL) };
    let (size, input) = (size_of::<EventControl>(), (&raw mut control).cast());
    let (none, no_size) = (null_mut(), null_mut());
    // SAFETY: as documented.
    unsafe {
        set(
            socket,
            0,
            SO_WSK_EVENT_CALLBACK,
            SOL_SOCKET,
            size,
            input,
            0,
            none,
            no_size,
            irp,
        )
    }
}

/// Sends a datagram from a socket to itself.
///
/// # Safety
/// A bound datagram socket; `buffer` describes live memory.
unsafe fn send_to_self(socket: Socket, buffer: *mut Buf, routine: Routine) {
    let mut own = [0_u16; 14];
    let to = (&raw mut own).cast::<c_void>();
    // SAFETY: a datagram socket's table has WskGetLocalAddress there.
    let local = unsafe { function::<AddressFn>(socket, datagram::LOCAL_ADDRESS) };
    // SAFETY: as documented.
    let ask = |irp| unsafe { local(socket, to, irp) };
    // SAFETY: at PASSIVE_LEVEL.
    unsafe { call(ask) };
    // SAFETY: a datagram socket's table has WskSendTo there.
    let send = unsafe { function::<SendToFn>(socket, datagram::SEND_TO) };
    // SAFETY: as documented.
    let ask = |irp| unsafe { send(socket, buffer, 0, to, 0, null_mut(), irp) };
    // SAFETY: at PASSIVE_LEVEL.
    unsafe { call_with(routine, ask) };
}

/// Lets the receive callback run once, with this answer.
///
/// # Safety
/// As `send_to_self`.
unsafe fn indicate(socket: Socket, buffer: *mut Buf, answer: i32) {
    ANSWER.store(answer.cast_unsigned(), Ordering::Release);
    // SAFETY: bound, with a dispatch table.
    unsafe { events(socket, EVENT_RECEIVE_FROM, null_mut()) };
    // SAFETY: as the caller's.
    unsafe { send_to_self(socket, buffer, done) };
    let time = MILLISECOND;
    for _ in 0..2000 {
        // SAFETY: at PASSIVE_LEVEL.
        unsafe { KeDelayExecutionThread(0, 0, &raw const time) };
        // The callback has returned a little after it has counted, and on a busy
        // machine a little more.
        if RAN.load(Ordering::Acquire) > 0 {
            let time = 50 * MILLISECOND;
            // SAFETY: as above.
            unsafe { KeDelayExecutionThread(0, 0, &raw const time) };
            break;
        }
    }
}

/// Commits the sin of that name, if it is one of these.
///
/// # Safety
/// As `sins::commit`.
#[allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "an arm is one sequence whose last call is wrong on purpose"
)]
pub(crate) unsafe fn commit(scene: Scene) {
    if scene.moment != Moment::Load || !(sin_starts("wsk-") || sin_is("none")) {
        return;
    }
    let npi = ClientNpi {
        context: null_mut(),
        dispatch: &raw const CLIENT,
    };
    let registration = registration();
    let mut provider = ProviderNpi {
        client: null_mut(),
        dispatch: null(),
    };
    // SAFETY: at PASSIVE_LEVEL, in DriverEntry; what each arm does wrong is
    // what it is there for, and ends the run.
    unsafe {
        if sin_is("wsk-register-at-dispatch") {
            KfRaiseIrql(DISPATCH);
        }
        let at = if sin_is("wsk-register-null") {
            null_mut()
        } else {
            registration
        };
        WskRegister(&raw const npi, at);
        if sin_is("wsk-register-twice") {
            WskRegister(&raw const npi, registration);
        }
        WskCaptureProviderNPI(registration, u32::MAX, &raw mut provider);
        if sin_is("wsk-npi-used-late") {
            WskReleaseProviderNPI(registration);
        }
        let kind = if sin_is("wsk-wrong-category") {
            LISTEN
        } else {
            DATAGRAM
        };
        let security = if sin_is("wsk-security") {
            registration.cast()
        } else {
            null_mut()
        };
        let made = socket(&provider, kind, security);
        SOCKET.store(made, Ordering::Release);
        before_bind(made);
        conditional();
        bind(made, u32::from(sin_is("wsk-reserved-flags")));
        let block = ExAllocatePool2(0x40, 64, TAG);
        let mdl = IoAllocateMdl(block, 64, 0, 0, null_mut());
        if !sin_is("wsk-mdl-not-built") {
            MmBuildMdlForNonPagedPool(mdl);
        }
        let mut buffer = Buf {
            mdl,
            offset: 0,
            length: if sin_is("wsk-buffer-beyond-mdl") {
                65
            } else {
                64
            },
        };
        with_irp(made, &raw mut buffer);
        with_buffer(made, &raw mut buffer, block);
        in_callbacks(scene, made, &raw mut buffer);
        if sin_is("wsk-socket-kept") {
            WskReleaseProviderNPI(registration);
            WskDeregister(registration);
        }
        call(|irp| close(made, irp));
        if sin_is("wsk-socket-used-late") {
            // The table never goes away; the socket has.
            let other = socket(&provider, DATAGRAM, null_mut());
            call(|irp| function::<CloseFn>(other, datagram::CLOSE)(made, irp));
        }
        IoFreeMdl(mdl);
        ExFreePoolWithTag(block, TAG);
        if sin_is("wsk-registration-changed") {
            (*registration)[0] += 1;
        }
        if !sin_is("wsk-npi-kept") {
            WskReleaseProviderNPI(registration);
        }
        if sin_is("wsk-npi-released-twice") {
            WskReleaseProviderNPI(registration);
        }
        if !sin_is("wsk-registration-kept") {
            WskDeregister(registration);
        }
        if sin_is("wsk-deregister-twice") {
            WskDeregister(registration);
        }
    }
}

/// Sins of order, and against the socket itself.
///
/// # Safety
/// A datagram socket (or, for one sin, a listening one), not bound.
#[allow(clippy::multiple_unsafe_ops_per_block, reason = "as `commit`")]
unsafe fn before_bind(made: Socket) {
    // SAFETY: as `commit`.
    unsafe {
        if sin_is("wsk-events-before-bind") {
            events(made, EVENT_RECEIVE_FROM, null_mut());
        } else if sin_is("wsk-wrong-category") {
            let mut buffer = Buf {
                mdl: null_mut(),
                offset: 0,
                length: 0,
            };
            // A datagram socket's function on a listening socket's address.
            let other = another(DATAGRAM);
            let send = function::<SendToFn>(other, datagram::SEND_TO);
            start(|irp| send(made, &raw mut buffer, 0, null_mut(), 0, null_mut(), irp));
        } else if sin_is("wsk-no-socket") {
            let mut own: *const *const c_void = *made;
            start(|irp| function::<CloseFn>(made, datagram::CLOSE)(&raw mut own, irp));
        } else if sin_is("wsk-bind-without-irp") {
            let mut address = LOOPBACK;
            let bind = function::<BindFn>(made, datagram::BIND);
            bind(made, (&raw mut address).cast(), 0, null_mut());
        } else if sin_is("wsk-bind-without-address") {
            start(|irp| function::<BindFn>(made, datagram::BIND)(made, null_mut(), 0, irp));
        }
    }
}

/// Sins of conditional accept, on a listening socket of their own.
///
/// # Safety
/// The client is registered.
#[allow(clippy::multiple_unsafe_ops_per_block, reason = "as `commit`")]
unsafe fn conditional() {
    if !(sin_starts("wsk-conditional-") || sin_starts("wsk-inspect-")) {
        return;
    }
    // SAFETY: as `commit`.
    unsafe {
        let listening = another(LISTEN);
        if sin_is("wsk-conditional-without-callbacks") {
            ask_conditional(listening);
            return;
        }
        bind(listening, 0);
        if sin_is("wsk-conditional-after-bind") {
            ask_conditional(listening);
            return;
        }
        let action = if sin_is("wsk-inspect-completed-by-pend") {
            INSPECT_PEND
        } else {
            INSPECT_ACCEPT
        };
        let mut id = InspectId { key: 0, serial: 0 };
        let complete = function::<InspectCompleteFn>(listening, INSPECT_COMPLETE);
        start(|irp| complete(listening, &raw mut id, action, irp));
    }
}

/// SO_CONDITIONAL_ACCEPT.
///
/// # Safety
/// An open socket.
#[allow(clippy::multiple_unsafe_ops_per_block, reason = "as `commit`")]
unsafe fn ask_conditional(socket: Socket) {
    let mut on = 1_u32;
    let (none, level, code) = (null_mut(), SOL_SOCKET, SO_CONDITIONAL_ACCEPT);
    let input = (&raw mut on).cast();
    // SAFETY: as documented, save for the moment or the socket.
    unsafe {
        let set = function::<ControlFn>(socket, datagram::CONTROL);
        start(|irp| set(socket, 0, code, level, 4, input, 0, none, none.cast(), irp));
    }
}

/// One more socket.
///
/// # Safety
/// The client is registered.
unsafe fn another(kind: u32) -> Socket {
    let mut provider = ProviderNpi {
        client: null_mut(),
        dispatch: null(),
    };
    // SAFETY: registered.
    unsafe { WskCaptureProviderNPI(registration(), 0, &raw mut provider) };
    // SAFETY: captured.
    unsafe { socket(&provider, kind, null_mut()) }
}

/// Sins with the IRP of a call.
///
/// # Safety
/// A bound datagram socket; the buffer is good.
#[allow(clippy::multiple_unsafe_ops_per_block, reason = "as `commit`")]
unsafe fn with_irp(made: Socket, buffer: *mut Buf) {
    // SAFETY: as `commit`.
    unsafe {
        let receive = function::<ReceiveFromFn>(made, datagram::RECEIVE_FROM);
        let none = null_mut();
        let post = |irp| receive(made, buffer, 0, none, none.cast(), none, none.cast(), irp);
        if sin_is("wsk-irp-pending-used") {
            let irp = start(post);
            post(irp);
        } else if sin_is("wsk-irp-pending-freed") {
            let irp = start(post);
            IoFreeIrp(irp);
        } else if sin_is("wsk-irp-no-routine") {
            post(IoAllocateIrp(1, 0));
        } else if sin_is("wsk-irp-let-go") {
            send_to_self(made, buffer, lets_go);
        } else if sin_is("wsk-events-with-irp") {
            start(|irp| events(made, EVENT_RECEIVE_FROM, irp));
        } else if sin_is("wsk-events-of-others") {
            events(made, EVENT_RECEIVE, null_mut());
        } else if sin_is("wsk-exclusive-after-bind") {
            let mut on = 1_u32;
            let set = function::<ControlFn>(made, datagram::CONTROL);
            let input = (&raw mut on).cast();
            start(|irp| {
                let code = SO_EXCLUSIVEADDRUSE;
                set(
                    made,
                    0,
                    code,
                    SOL_SOCKET,
                    4,
                    input,
                    0,
                    none,
                    none.cast(),
                    irp,
                )
            });
        }
    }
}

/// Sins with the memory of a call.
///
/// # Safety
/// A bound datagram socket; the buffer is good, and `block` is its memory.
#[allow(clippy::multiple_unsafe_ops_per_block, reason = "as `commit`")]
unsafe fn with_buffer(made: Socket, buffer: *mut Buf, block: *mut c_void) {
    // SAFETY: as `commit`.
    unsafe {
        let receive = function::<ReceiveFromFn>(made, datagram::RECEIVE_FROM);
        let none = null_mut();
        let post = |irp| receive(made, buffer, 0, none, none.cast(), none, none.cast(), irp);
        if sin_is("wsk-mdl-not-built") || sin_is("wsk-buffer-beyond-mdl") {
            start(post);
        } else if sin_is("wsk-buffer-missing") {
            start(|irp| {
                receive(
                    made,
                    null_mut(),
                    0,
                    none,
                    none.cast(),
                    none,
                    none.cast(),
                    irp,
                )
            });
        } else if sin_is("wsk-buffer-freed") {
            start(post);
            ExFreePoolWithTag(block, TAG);
        } else if sin_is("wsk-mdl-freed") {
            start(post);
            IoFreeMdl((*buffer).mdl);
        } else if sin_is("wsk-message-list-endless") {
            let mut list = BufList {
                next: null_mut(),
                buffer: Buf { ..buffer.read() },
            };
            list.next = &raw mut list;
            let send = function::<SendMessagesFn>(made, datagram::SEND_MESSAGES);
            let list = &raw mut list;
            start(|irp| send(made, list, 0, none, 0, none, irp));
        } else if sin_is("wsk-mdl-changed") {
            start(post);
            // MDL.ByteCount
            (*buffer).mdl.cast::<u32>().add(10).write_volatile(32);
            call(|irp| close(made, irp));
        }
    }
}

/// Sins in callbacks and completion routines, and with what callbacks are given.
///
/// # Safety
/// A bound datagram socket; the buffer is good.
#[allow(clippy::multiple_unsafe_ops_per_block, reason = "as `commit`")]
unsafe fn in_callbacks(scene: Scene, made: Socket, buffer: *mut Buf) {
    // SAFETY: as `commit`.
    unsafe {
        let release = function::<ReleaseFn>(made, datagram::RELEASE);
        if sin_is("none") {
            indicate(made, buffer, PENDING);
            release(made, LIST.load(Ordering::Acquire));
        } else if sin_is("wsk-call-in-completion") {
            send_to_self(made, buffer, calls);
        } else if sin_is("wsk-wait-in-completion") {
            // Some completions are at PASSIVE_LEVEL.
            for _ in 0..200 {
                send_to_self(made, buffer, waits);
            }
        } else if sin_is("wsk-close-in-progress") {
            let item = IoAllocateWorkItem(WdfDeviceWdmGetDeviceObject(scene.device));
            IoQueueWorkItem(item, closes, 1, null_mut());
            // Some calls complete before they return.
            for _ in 0..200 {
                CALLING.store(1, Ordering::Release);
                send_to_self(made, buffer, dawdles);
                CALLING.store(0, Ordering::Release);
            }
        } else if sin_is("wsk-callback-status") {
            indicate(made, buffer, UNSUCCESSFUL);
        } else if sin_is("wsk-list-kept") {
            indicate(made, buffer, PENDING);
            call(|irp| close(made, irp));
        } else if sin_is("wsk-list-released-twice") {
            indicate(made, buffer, PENDING);
            release(made, LIST.load(Ordering::Acquire));
            release(made, LIST.load(Ordering::Acquire));
        } else if sin_is("wsk-list-released-in-part") {
            // What has arrived already comes in one list.
            send_to_self(made, buffer, done);
            send_to_self(made, buffer, done);
            indicate(made, buffer, PENDING);
            // WSK_DATAGRAM_INDICATION.Next
            let second = *LIST.load(Ordering::Acquire).cast::<*mut c_void>();
            release(made, second);
        } else if sin_is("wsk-list-changed") {
            indicate(made, buffer, PENDING);
            let list = LIST.load(Ordering::Acquire);
            // WSK_DATAGRAM_INDICATION.Buffer.Length
            *list.cast::<usize>().add(3) = 1;
            release(made, list);
        } else if sin_is("wsk-accept-on-datagram") {
            let accept = function::<AcceptFn>(another(LISTEN), ACCEPT);
            let none = null_mut();
            start(|irp| accept(made, 0, none, null(), none, none, irp));
        }
    }
}
