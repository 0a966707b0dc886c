//! `WskRegister` to `WskDeregister`: clients, and their hold on the provider.
//!
//! `WskDeregister` "will wait to return until" all captures are released, all
//! calls have returned and all sockets are closed. A client that will never
//! get there hangs its unload on Windows; here it is told so after
//! [`PATIENCE`].

use super::engine::{self, lock};
use super::types::{
    NtStatus, WSK_NO_WAIT, WSK_VERSION_1_0, WskClientDispatch, WskClientNpi,
    WskProviderCharacteristics, WskProviderNpi, WskRegistration,
};
use super::{fault, provider, status};
use crate::core::{Rule, irql};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long `WskDeregister` waits for what it has to wait for.
const PATIENCE: Duration = Duration::from_secs(3);
/// What the provider keeps in `ReservedRegistrationState` of a live one.
const LIVE: u64 = 0x4C61_6257_736B_0001;

/// One registration.
pub(super) struct Client {
    pub(super) id: u64,
    registration: usize,
    dispatch: usize,
    version: u16,
    caller: u32,
    inner: Mutex<Inner>,
    changed: Condvar,
    statics: AtomicU32,
}

#[derive(Default)]
struct Inner {
    captures: usize,
    sockets: usize,
    calls: usize,
    ever_had_socket: bool,
    leaving: bool,
    gone: bool,
}

struct Table {
    clients: Vec<Arc<Client>>,
    next: u64,
}

static CLIENTS: Mutex<Table> = Mutex::new(Table {
    clients: Vec::new(),
    next: 1,
});

/// A client's call into the provider's own dispatch table.
pub(super) struct ClientCall {
    pub(super) client: Arc<Client>,
}

impl Drop for ClientCall {
    fn drop(&mut self) {
        lock(&self.client.inner).calls -= 1;
        self.client.changed.notify_all();
    }
}

impl Client {
    pub(super) fn socket_made(&self) {
        let mut inner = lock(&self.inner);
        inner.sockets += 1;
        inner.ever_had_socket = true;
    }

    pub(super) fn socket_gone(&self) {
        lock(&self.inner).sockets -= 1;
        self.changed.notify_all();
    }

    pub(super) fn ever_had_socket(&self) -> bool {
        lock(&self.inner).ever_had_socket
    }

    /// Event callbacks enabled for every socket (WSK_SET_STATIC_EVENT_CALLBACKS).
    pub(super) fn static_events(&self) -> u32 {
        self.statics.load(Ordering::SeqCst)
    }

    pub(super) fn set_static_events(&self, mask: u32) {
        self.statics.store(mask, Ordering::SeqCst);
    }

    fn pointer(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

/// Enters a function of the provider dispatch table with the `WSK_CLIENT` that
/// `WskCaptureProviderNPI` gave out.
pub(super) fn enter_client(name: &'static str, client: *mut c_void, max: u8) -> ClientCall {
    super::socket::check_caller(name, max);
    let found = lock(&CLIENTS)
        .clients
        .iter()
        .find(|known| known.pointer() == client)
        .cloned();
    let Some(found) = found else {
        violate!(
            Rule::LabWskNpi,
            "{name}: {client:?} is not a WSK_CLIENT that WskCaptureProviderNPI returned"
        );
    };
    {
        let mut inner = lock(&found.inner);
        if inner.captures == 0 {
            violate!(
                Rule::LabWskNpi,
                "{name} on a provider NPI that is not captured (any more)"
            );
        }
        inner.calls += 1;
    }
    ClientCall { client: found }
}

/// The client of a registration block, which must be as the provider left it.
fn find(name: &str, registration: *mut WskRegistration) -> Arc<Client> {
    if registration.is_null() {
        violate!(
            Rule::LabWskNullArgument,
            "{name} without a WSK_REGISTRATION"
        );
    }
    let found = lock(&CLIENTS)
        .clients
        .iter()
        .rev()
        .find(|known| known.registration == registration as usize)
        .cloned();
    let Some(client) = found else {
        violate!(
            Rule::LabWskRegistration,
            "{name}: nothing is registered with the WSK_REGISTRATION at {registration:?}"
        );
    };
    // SAFETY: the block of a registration must stay; it is known to be one.
    let block = unsafe { registration.read() };
    if block.state != LIVE || block.context as usize != client.id as usize {
        violate!(
            Rule::LabWskRegistration,
            "{name}: the WSK_REGISTRATION at {registration:?} was changed since WskRegister"
        );
    }
    client
}

/// Registers a WSK application.
///
/// # Safety
/// `npi` and `registration` must be what "WskRegister function" demands.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn WskRegister(
    npi: *mut WskClientNpi,
    registration: *mut WskRegistration,
) -> NtStatus {
    const NAME: &str = "WskRegister";
    if let Some(other) = super::other::provider() {
        // SAFETY: as the caller's.
        return unsafe { (other.register)(npi, registration) };
    }
    irql::require_exact_rule(Rule::LabWskIrql, NAME, irql::PASSIVE_LEVEL);
    if npi.is_null() || registration.is_null() {
        violate!(
            Rule::LabWskNullArgument,
            "{NAME}({npi:?}, {registration:?})"
        );
    }
    // SAFETY: not null; the client's WSK_CLIENT_NPI.
    let dispatch = unsafe { (*npi).dispatch };
    if dispatch.is_null() {
        violate!(
            Rule::LabWskNullArgument,
            "{NAME}: WSK_CLIENT_NPI without a dispatch table"
        );
    }
    if let Some(status) = fault(NAME) {
        return status;
    }
    if engine::poll().is_none() {
        return status::INSUFFICIENT_RESOURCES;
    }
    // SAFETY: not null; the client's constant dispatch table.
    let WskClientDispatch { version, .. } = unsafe { *dispatch };
    let mut table = lock(&CLIENTS);
    if table
        .clients
        .iter()
        .any(|known| known.registration == registration as usize && !lock(&known.inner).gone)
    {
        violate!(
            Rule::LabWskRegistration,
            "{NAME}: the WSK_REGISTRATION at {registration:?} is in use"
        );
    }
    let id = table.next;
    table.next += 1;
    table
        .clients
        .retain(|known| known.registration != registration as usize);
    table.clients.push(Arc::new(Client {
        id,
        registration: registration as usize,
        dispatch: dispatch as usize,
        version,
        caller: crate::core::stack::caller_rva(),
        inner: Mutex::default(),
        changed: Condvar::new(),
        statics: AtomicU32::new(0),
    }));
    let block = WskRegistration {
        state: LIVE,
        context: std::ptr::without_provenance_mut(id as usize),
        lock: 0,
    };
    // SAFETY: not null; the client's block, to be initialised.
    unsafe { registration.write(block) };
    status::SUCCESS
}

/// Unregisters a WSK application; see the module's documentation.
///
/// # Safety
/// `registration` must be one that `WskRegister` initialised.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn WskDeregister(registration: *mut WskRegistration) {
    const NAME: &str = "WskDeregister";
    if let Some(other) = super::other::provider() {
        // SAFETY: as the caller's.
        unsafe { (other.deregister)(registration) };
        return;
    }
    irql::require_exact_rule(Rule::LabWskIrql, NAME, irql::PASSIVE_LEVEL);
    let client = find(NAME, registration);
    let start = Instant::now();
    let mut inner = lock(&client.inner);
    if inner.leaving || inner.gone {
        violate!(
            Rule::LabWskRegistration,
            "{NAME} called twice for one registration"
        );
    }
    inner.leaving = true;
    client.changed.notify_all();
    while inner.captures > 0 || inner.sockets > 0 || inner.calls > 0 {
        let Some(left) = PATIENCE.checked_sub(start.elapsed()) else {
            violate!(
                Rule::LabWskDeregister,
                "{NAME} would wait for ever: {} provider NPI(s) not released, {} socket(s) not \
                 closed, {} call(s) in progress; {}",
                inner.captures,
                inner.sockets,
                inner.calls,
                super::describe_sockets()
            );
        };
        inner = client
            .changed
            .wait_timeout(inner, left)
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .0;
    }
    inner.gone = true;
    let dispatch = std::ptr::with_exposed_provenance::<WskClientDispatch>(client.dispatch);
    // SAFETY: "must remain valid ... until" the application is deregistered:
    // the client's part of WSK_CLIENT_NPI.
    if unsafe { (*dispatch).version } != client.version {
        violate!(
            Rule::LabWskRegistration,
            "the WSK_CLIENT_DISPATCH at {dispatch:?} was changed while registered"
        );
    }
}

/// Captures the provider NPI. The provider is always available, so there is
/// nothing to wait for; a failure can be injected, and comes when the wait is over.
///
/// # Safety
/// `registration` must be one that `WskRegister` initialised, `npi` writable.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn WskCaptureProviderNPI(
    registration: *mut WskRegistration,
    wait: u32,
    npi: *mut WskProviderNpi,
) -> NtStatus {
    const NAME: &str = "WskCaptureProviderNPI";
    if let Some(other) = super::other::provider() {
        // SAFETY: as the caller's.
        return unsafe { other.capture(registration, wait, npi) };
    }
    if wait == WSK_NO_WAIT {
        irql::require_max_rule(Rule::LabWskIrql, NAME, irql::DISPATCH_LEVEL);
    } else {
        irql::require_exact_rule(
            Rule::LabWskIrql,
            "WskCaptureProviderNPI with a wait",
            irql::PASSIVE_LEVEL,
        );
    }
    let client = find(NAME, registration);
    if npi.is_null() {
        violate!(
            Rule::LabWskNullArgument,
            "{NAME} without a WSK_PROVIDER_NPI"
        );
    }
    if let Some(status) = fault(NAME) {
        // WSK_INFINITE_WAIT isn't taken at its word.
        let wait = if wait == u32::MAX { 0 } else { wait };
        std::thread::sleep(Duration::from_millis(wait.into()));
        return status;
    }
    if client.version != WSK_VERSION_1_0 {
        return status::NOINTERFACE;
    }
    {
        let mut inner = lock(&client.inner);
        if inner.leaving {
            return status::DEVICE_NOT_READY;
        }
        inner.captures += 1;
    }
    let value = WskProviderNpi {
        client: client.pointer(),
        dispatch: &raw const provider::DISPATCH,
    };
    // SAFETY: not null; the client's variable.
    unsafe { npi.write(value) };
    status::SUCCESS
}

/// Releases one capture.
///
/// # Safety
/// `registration` must be one that `WskRegister` initialised.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn WskReleaseProviderNPI(registration: *mut WskRegistration) {
    const NAME: &str = "WskReleaseProviderNPI";
    if let Some(other) = super::other::provider() {
        // SAFETY: as the caller's.
        unsafe { (other.release)(registration) };
        return;
    }
    irql::require_max_rule(Rule::LabWskIrql, NAME, irql::DISPATCH_LEVEL);
    let client = find(NAME, registration);
    let mut inner = lock(&client.inner);
    if inner.captures == 0 {
        violate!(
            Rule::LabWskNpi,
            "{NAME} without a capture: \"exactly one corresponding call\" to each"
        );
    }
    inner.captures -= 1;
    client.changed.notify_all();
}

/// The versions of the provider: 1.0.
///
/// # Safety
/// `registration` must be one that `WskRegister` initialised,
/// `characteristics` writable.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn WskQueryProviderCharacteristics(
    registration: *mut WskRegistration,
    characteristics: *mut WskProviderCharacteristics,
) -> NtStatus {
    const NAME: &str = "WskQueryProviderCharacteristics";
    irql::require_max_rule(Rule::LabWskIrql, NAME, irql::DISPATCH_LEVEL);
    let client = find(NAME, registration);
    if characteristics.is_null() {
        violate!(
            Rule::LabWskNullArgument,
            "{NAME} without WSK_PROVIDER_CHARACTERISTICS"
        );
    }
    if lock(&client.inner).leaving {
        return status::DEVICE_NOT_READY;
    }
    let value = WskProviderCharacteristics {
        highest_version: WSK_VERSION_1_0,
        lowest_version: WSK_VERSION_1_0,
    };
    // SAFETY: not null; the client's variable.
    unsafe { characteristics.write(value) };
    status::SUCCESS
}

/// Registrations that are still there: one line each.
pub(super) fn leaks() -> Vec<String> {
    lock(&CLIENTS)
        .clients
        .iter()
        .filter_map(|client| {
            let inner = lock(&client.inner);
            (!inner.gone).then(|| {
                format!(
                    "WSK registration by driver+0x{:x}, {} capture(s) of the provider NPI",
                    client.caller, inner.captures
                )
            })
        })
        .collect()
}

/// Forgets the clients of a session.
pub(super) fn end_session() {
    lock(&CLIENTS).clients.clear();
}
