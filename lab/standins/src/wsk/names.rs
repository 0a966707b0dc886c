//! `WskGetAddressInfo`, `WskFreeAddressInfo`, `WskGetNameInfo`: name
//! resolution, by the host's resolver, on a thread of its own for each call.

use super::engine::{self, lock};
use super::irp::Request;
use super::registration::{ClientCall, enter_client};
use super::types::{Guid, Irp, NtStatus, UnicodeString};
use super::{fault, status};
use crate::core::{Rule, irql};
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::{Mutex, OnceLock};
use windows_sys::Win32::Networking::WinSock as ws;

/// Results that were not given back.
static RESULTS: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

/// Starts Winsock, once: only its resolver is used.
fn startup() -> Result<(), i32> {
    static DONE: OnceLock<i32> = OnceLock::new();
    let result = *DONE.get_or_init(|| {
        let mut data = std::mem::MaybeUninit::<ws::WSADATA>::zeroed();
        // SAFETY: version 2.2 and a WSADATA to fill in.
        unsafe { ws::WSAStartup(0x0202, data.as_mut_ptr()) }
    });
    if result == 0 { Ok(()) } else { Err(result) }
}

/// A pointer on its way to the resolver's thread.
struct Handed<T>(*mut T);
// SAFETY: the client keeps what it points to until the IRP completes.
unsafe impl<T> Send for Handed<T> {}

impl<T> Handed<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}

/// A client's string as a terminated one; `None` for a null pointer.
///
/// # Safety
/// `string` must be null or a readable UNICODE_STRING.
unsafe fn terminated(string: *const UnicodeString) -> Option<Vec<u16>> {
    // SAFETY: the caller vouches for it.
    let string = unsafe { string.as_ref() }?;
    let length = usize::from(string.Length) / 2;
    // SAFETY: a UNICODE_STRING describes `Length` readable bytes.
    let text = unsafe { std::slice::from_raw_parts(string.Buffer, length) };
    Some(text.iter().copied().chain([0]).collect())
}

/// Runs `work` on a thread and completes the IRP with its status.
fn resolve(
    call: ClientCall,
    request: Request,
    work: impl FnOnce() -> NtStatus + Send + 'static,
) -> NtStatus {
    request.set_pending(true);
    std::thread::spawn(move || {
        let status = work();
        // "IoStatus.Information will hold the returned status code."
        request.complete(status, status.cast_unsigned() as usize, engine::level());
        drop(call);
    });
    status::PENDING
}

/// `WskGetAddressInfo`.
#[allow(clippy::too_many_arguments)] // the documented signature
pub(super) unsafe extern "system" fn get_address_info(
    client: *mut c_void,
    node: *const UnicodeString,
    service: *const UnicodeString,
    _namespace: u32,
    _provider: *const Guid,
    hints: *const c_void,
    result: *mut *mut c_void,
    process: *mut c_void,
    thread: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskGetAddressInfo";
    let call = enter_client(NAME, client, irql::PASSIVE_LEVEL);
    if result.is_null() {
        violate!(
            Rule::LabWskNullArgument,
            "{NAME} without a place for its result"
        );
    }
    let request = Request::take(NAME, irp);
    let injected = fault(NAME)
        .or_else(|| (process.is_null() && !thread.is_null()).then_some(status::INVALID_PARAMETER));
    // SAFETY: the client's strings.
    let node = unsafe { terminated(node) };
    // SAFETY: as above.
    let service = unsafe { terminated(service) };
    // SAFETY: null, or the client's ADDRINFOEXW.
    let hints = unsafe { hints.cast::<ws::ADDRINFOEXW>().as_ref() };
    let result = Handed(result);
    let hints = hints.map(|hints| {
        (
            hints.ai_flags,
            hints.ai_family,
            hints.ai_socktype,
            hints.ai_protocol,
        )
    });
    resolve(call, request, move || {
        if let Some(status) = injected {
            return status;
        }
        let hints = hints.map(
            |(ai_flags, ai_family, ai_socktype, ai_protocol)| ws::ADDRINFOW {
                ai_flags,
                ai_family,
                ai_socktype,
                ai_protocol,
                ..ws::ADDRINFOW::default()
            },
        );
        match look_up(node.as_deref(), service.as_deref(), hints.as_ref()) {
            Ok(list) => {
                lock(&RESULTS).insert(list as usize);
                // SAFETY: not null; the client's variable, valid until its IRP
                // completes.
                unsafe { result.get().write(list.cast()) };
                status::SUCCESS
            }
            Err(error) => status::from_resolver(error),
        }
    })
}

/// The host's answer, as a list of ADDRINFOEXW in our own memory.
fn look_up(
    node: Option<&[u16]>,
    service: Option<&[u16]>,
    hints: Option<&ws::ADDRINFOW>,
) -> Result<*mut ws::ADDRINFOEXW, i32> {
    startup()?;
    let text = |string: Option<&[u16]>| string.map_or(null(), <[u16]>::as_ptr);
    let hints = hints.map_or(null(), std::ptr::from_ref);
    let mut answer = null_mut();
    // SAFETY: terminated strings or null, hints or null, a place for the list.
    let error = unsafe { ws::GetAddrInfoW(text(node), text(service), hints, &mut answer) };
    if error != 0 {
        return Err(error);
    }
    let mut list: *mut ws::ADDRINFOEXW = null_mut();
    let mut tail: *mut *mut ws::ADDRINFOEXW = &raw mut list;
    let mut now = answer;
    // SAFETY: GetAddrInfoW's list, alive until it is freed below.
    while let Some(info) = unsafe { now.as_ref() } {
        let entry = Box::into_raw(Box::new(copy_of(info)));
        // SAFETY: `tail` points to `list` or to the last entry's link.
        unsafe { tail.write(entry) };
        // SAFETY: the entry was made just now.
        tail = unsafe { &raw mut (*entry).ai_next };
        now = info.ai_next;
    }
    // SAFETY: what GetAddrInfoW returned, freed once.
    unsafe { ws::FreeAddrInfoW(answer) };
    Ok(list)
}

/// Characters before the terminator.
///
/// # Safety
/// `text` must point to a terminated string.
unsafe fn characters(text: *const u16) -> usize {
    let mut length = 0;
    // SAFETY: at most at the terminator, which the caller vouches for.
    while unsafe { text.wrapping_add(length).read() } != 0 {
        length += 1;
    }
    length
}

fn copy_of(info: &ws::ADDRINFOW) -> ws::ADDRINFOEXW {
    let mut address = vec![0u8; info.ai_addrlen].into_boxed_slice();
    // SAFETY: the resolver's address of this length, into memory as long.
    unsafe {
        std::ptr::copy_nonoverlapping(info.ai_addr.cast(), address.as_mut_ptr(), info.ai_addrlen);
    }
    let name = if info.ai_canonname.is_null() {
        null_mut()
    } else {
        // SAFETY: the resolver's terminated string.
        let length = unsafe { characters(info.ai_canonname) };
        // SAFETY: `length` characters and the terminator, as just counted.
        let text = unsafe { std::slice::from_raw_parts(info.ai_canonname, length + 1) };
        Box::into_raw(text.to_vec().into_boxed_slice()).cast()
    };
    ws::ADDRINFOEXW {
        ai_flags: info.ai_flags,
        ai_family: info.ai_family,
        ai_socktype: info.ai_socktype,
        ai_protocol: info.ai_protocol,
        ai_addrlen: info.ai_addrlen,
        ai_canonname: name,
        ai_addr: Box::into_raw(address).cast(),
        ..ws::ADDRINFOEXW::default()
    }
}

/// `WskFreeAddressInfo`.
pub(super) unsafe extern "system" fn free_address_info(client: *mut c_void, list: *mut c_void) {
    const NAME: &str = "WskFreeAddressInfo";
    let _call = enter_client(NAME, client, irql::PASSIVE_LEVEL);
    if !lock(&RESULTS).remove(&(list as usize)) {
        violate!(
            Rule::LabWskRelease,
            "{NAME} of {list:?}, which is not a result of WskGetAddressInfo (any more)"
        );
    }
    let mut now = list.cast::<ws::ADDRINFOEXW>();
    while !now.is_null() {
        // SAFETY: made by `look_up`, and taken out of the table just now.
        let entry = unsafe { Box::from_raw(now) };
        let address =
            std::ptr::slice_from_raw_parts_mut(entry.ai_addr.cast::<u8>(), entry.ai_addrlen);
        // SAFETY: the boxed slice of this length that `copy_of` made.
        drop(unsafe { Box::from_raw(address) });
        if !entry.ai_canonname.is_null() {
            // SAFETY: the terminated string that `copy_of` made.
            let length = unsafe { characters(entry.ai_canonname) };
            let name = std::ptr::slice_from_raw_parts_mut(entry.ai_canonname, length + 1);
            // SAFETY: the boxed slice of this length that `copy_of` made.
            drop(unsafe { Box::from_raw(name) });
        }
        now = entry.ai_next;
    }
}

/// `WskGetNameInfo`.
#[allow(clippy::too_many_arguments)] // the documented signature
pub(super) unsafe extern "system" fn get_name_info(
    client: *mut c_void,
    address: *const c_void,
    address_length: u32,
    node: *mut UnicodeString,
    service: *mut UnicodeString,
    flags: u32,
    process: *mut c_void,
    thread: *mut c_void,
    irp: *mut Irp,
) -> NtStatus {
    const NAME: &str = "WskGetNameInfo";
    let call = enter_client(NAME, client, irql::PASSIVE_LEVEL);
    if address.is_null() || (node.is_null() && service.is_null()) {
        violate!(
            Rule::LabWskNullArgument,
            "{NAME}({address:?}, {node:?}, {service:?}): an address, and a name or a service to fill in"
        );
    }
    let request = Request::take(NAME, irp);
    let injected = fault(NAME)
        .or_else(|| (process.is_null() && !thread.is_null()).then_some(status::INVALID_PARAMETER));
    let mut from = vec![0u8; (address_length as usize).min(128)];
    // SAFETY: the client's address, `address_length` bytes.
    unsafe { std::ptr::copy_nonoverlapping(address.cast(), from.as_mut_ptr(), from.len()) };
    let (node, service) = (Handed(node), Handed(service));
    resolve(call, request, move || {
        if let Some(status) = injected {
            return status;
        }
        let (mut name, mut port) = ([0u16; 1025], [0u16; 32]);
        if let Err(error) = startup() {
            return status::from_resolver(error);
        }
        // SAFETY: an address and two buffers with their lengths.
        let error = unsafe {
            ws::GetNameInfoW(
                from.as_ptr().cast(),
                from.len() as i32,
                name.as_mut_ptr(),
                name.len() as u32,
                port.as_mut_ptr(),
                port.len() as u32,
                flags.cast_signed(),
            )
        };
        if error != 0 {
            return status::from_resolver(error);
        }
        fill(node.get(), &name)
            .and_then(|()| fill(service.get(), &port))
            .err()
            .unwrap_or(status::SUCCESS)
    })
}

/// Writes a terminated string to a client's UNICODE_STRING, if there is one.
fn fill(to: *mut UnicodeString, text: &[u16]) -> Result<(), NtStatus> {
    // SAFETY: null, or the client's string, valid until its IRP completes.
    let Some(to) = (unsafe { to.as_mut() }) else {
        return Ok(());
    };
    let length = text.iter().position(|c| *c == 0).unwrap_or(text.len());
    let bytes = u16::try_from(length * 2).map_err(|_| status::BUFFER_TOO_SMALL)?;
    if usize::from(to.MaximumLength) < (length + 1) * 2 {
        return Err(status::BUFFER_TOO_SMALL);
    }
    // SAFETY: room for `length` characters and the terminator, checked above.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), to.Buffer, length + 1) };
    to.Length = bytes;
    Ok(())
}

/// Results of `WskGetAddressInfo` that were not freed: one line each.
pub(super) fn leaks() -> Vec<String> {
    lock(&RESULTS)
        .iter()
        .map(|list| format!("result {list:#x} of WskGetAddressInfo"))
        .collect()
}

pub(super) fn end_session() {
    lock(&RESULTS).clear();
}
