//! The engine against a filter that keeps every rule: it passes on what it is
//! given, and the engine finds no fault, loses nothing and changes nothing.
//!
//! (That it does find faults is shown by a driver that has them.)

use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::commands;
use super::consts::{STATUS_PAUSED, STATUS_PENDING, STATUS_SUCCESS, object};
use super::data::*;
use super::engine;
use super::frame::{self, Dir};
use super::lifecycle::calls::{NdisFPauseComplete, NdisFRestartComplete, NdisFSetAttributes};
use super::oid::calls::*;
use super::prng::Prng;
use super::register::{NdisFDeregisterFilterDriver, NdisFRegisterFilterDriver};
use super::types::*;
use super::{buffer, events, pools, track};
use crate::core::session;
use crate::nt::types::DRIVER_OBJECT;

/// The good filter's module: one at a time in these tests.
static HANDLE: AtomicPtr<core::ffi::c_void> = AtomicPtr::new(ptr::null_mut());
/// 0 paused, 1 running.
static RUNNING: AtomicU32 = AtomicU32::new(0);
/// The filter's own lists that came back.
static OWN_BACK: AtomicUsize = AtomicUsize::new(0);
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn handle() -> Handle {
    HANDLE.load(Ordering::SeqCst)
}

unsafe extern "system" fn attach(
    handle: Handle,
    _: Handle,
    parameters: *mut AttachParameters,
) -> Status {
    let given = frame::read(parameters.cast::<ObjectHeader>());
    assert_eq!(
        (given.kind, given.revision, given.size),
        (object::FILTER_ATTACH_PARAMETERS, 4, 224)
    );
    HANDLE.store(handle, Ordering::SeqCst);
    let attributes = FilterAttributes {
        header: ObjectHeader {
            kind: object::FILTER_ATTRIBUTES,
            revision: 1,
            size: 8,
        },
        flags: 0,
    };
    // SAFETY: called from FilterAttach, with its handle.
    unsafe { NdisFSetAttributes(handle, handle, &attributes) }
}

unsafe extern "system" fn detach(_: Handle) {
    HANDLE.store(ptr::null_mut(), Ordering::SeqCst);
}

/// Completes from another thread, as NDIS allows.
unsafe extern "system" fn restart(_: Handle, _: *mut RestartParameters) -> Status {
    RUNNING.store(1, Ordering::SeqCst);
    let module = handle().expose_provenance();
    std::thread::spawn(move || {
        // SAFETY: a restart is pending.
        unsafe { NdisFRestartComplete(ptr::with_exposed_provenance_mut(module), STATUS_SUCCESS) }
    });
    STATUS_PENDING
}

unsafe extern "system" fn pause(_: Handle, _: *mut PauseParameters) -> Status {
    RUNNING.store(0, Ordering::SeqCst);
    let module = handle().expose_provenance();
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(3));
        // SAFETY: a pause is pending.
        unsafe { NdisFPauseComplete(ptr::with_exposed_provenance_mut(module)) }
    });
    STATUS_PENDING
}

unsafe extern "system" fn send(context: Handle, nbls: *mut NetBufferList, port: u32, flags: u32) {
    if RUNNING.load(Ordering::SeqCst) == 0 {
        frame::lists(nbls).for_each(|nbl| frame::set_status(nbl, STATUS_PAUSED));
        // SAFETY: the chain was given to this filter.
        unsafe { NdisFSendNetBufferListsComplete(context, nbls, flags & 1) };
    } else {
        // SAFETY: as above.
        unsafe { NdisFSendNetBufferLists(context, nbls, port, flags) };
    }
}

/// Frees what is the filter's own of a chain, and gives the rest.
fn keep_own(context: Handle, nbls: *mut NetBufferList) -> *mut NetBufferList {
    let all: Vec<*mut NetBufferList> = frame::lists(nbls).collect();
    let (own, rest): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|nbl| frame::read(*nbl).source_handle == context);
    for nbl in own {
        OWN_BACK.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the filter's own, back from where it was sent.
        unsafe { pools::NdisFreeNetBufferList(nbl) };
    }
    frame::link(&rest)
}

unsafe extern "system" fn send_complete(context: Handle, nbls: *mut NetBufferList, flags: u32) {
    let rest = keep_own(context, nbls);
    if !rest.is_null() {
        // SAFETY: the chain was given to this filter.
        unsafe { NdisFSendNetBufferListsComplete(context, rest, flags) };
    }
}

unsafe extern "system" fn cancel_send(context: Handle, id: *mut core::ffi::c_void) {
    // SAFETY: the context is the handle.
    unsafe { NdisFCancelSendNetBufferLists(context, id) };
}

unsafe extern "system" fn receive(
    context: Handle,
    nbls: *mut NetBufferList,
    port: u32,
    count: u32,
    flags: u32,
) {
    if RUNNING.load(Ordering::SeqCst) == 1 {
        // SAFETY: the chain was given to this filter.
        unsafe { NdisFIndicateReceiveNetBufferLists(context, nbls, port, count, flags) };
    } else if flags & 2 == 0 {
        // SAFETY: as above.
        unsafe { NdisFReturnNetBufferLists(context, nbls, flags & 1) };
    }
}

unsafe extern "system" fn return_nbls(context: Handle, nbls: *mut NetBufferList, flags: u32) {
    let rest = keep_own(context, nbls);
    if !rest.is_null() {
        // SAFETY: the chain was given to this filter.
        unsafe { NdisFReturnNetBufferLists(context, rest, flags) };
    }
}

unsafe extern "system" fn oid_request(context: Handle, request: *mut OidRequest) -> Status {
    let mut clone: *mut OidRequest = ptr::null_mut();
    let tag = u32::from_le_bytes(*b"Test");
    // SAFETY: a clone of the request given.
    let status = unsafe { NdisAllocateCloneOidRequest(context, request, tag, &raw mut clone) };
    if status != STATUS_SUCCESS {
        return status;
    }
    // SAFETY: the clone is this filter's.
    let sent = unsafe { &mut *clone };
    // SourceReserved belongs to whoever made the request: here the clone's maker.
    let address = request.expose_provenance().to_le_bytes();
    sent.source_reserved[..8].copy_from_slice(&address);
    // SAFETY: as above.
    let status = unsafe { NdisFOidRequest(context, clone) };
    if status != STATUS_PENDING {
        // SAFETY: the completion is the same in both cases.
        unsafe { oid_complete(context, clone, status) };
    }
    STATUS_PENDING
}

unsafe extern "system" fn oid_complete(context: Handle, clone: *mut OidRequest, status: Status) {
    let done = frame::read(clone);
    let mut address = [0; 8];
    address.copy_from_slice(&done.source_reserved[..8]);
    let original: *mut OidRequest = ptr::with_exposed_provenance_mut(usize::from_le_bytes(address));
    // SAFETY: the original is pending, so alive and this filter's.
    let to = unsafe { &mut *original };
    to.data = OidData {
        information_buffer: to.data.information_buffer,
        ..done.data
    };
    to.supported_revision = done.supported_revision;
    // SAFETY: the clone is back.
    unsafe { NdisFreeCloneOidRequest(context, clone) };
    // SAFETY: the original is completed once, here.
    unsafe { NdisFOidRequestComplete(context, original, status) };
}

unsafe extern "system" fn cancel_oid(context: Handle, id: *mut core::ffi::c_void) {
    // SAFETY: the context is the handle.
    unsafe { NdisFCancelOidRequest(context, id) };
}

unsafe extern "system" fn status(context: Handle, indication: *mut StatusIndication) {
    // SAFETY: the indication given.
    unsafe { events::NdisFIndicateStatus(context, indication) };
}

unsafe extern "system" fn net_pnp(context: Handle, event: *mut NetPnpNotification) -> Status {
    // SAFETY: the event given.
    unsafe { events::NdisFNetPnPEvent(context, event) }
}

unsafe extern "system" fn device_pnp(context: Handle, event: *mut DevicePnpEvent) {
    // SAFETY: the event given.
    unsafe { events::NdisFDevicePnPEventNotify(context, event) };
}

/// A string that stays for ever: three for each test.
fn text(text: &str) -> UnicodeString {
    let chars: &'static mut [u16] = text.encode_utf16().collect::<Vec<_>>().leak();
    let bytes = (chars.len() * 2) as u16;
    UnicodeString {
        Length: bytes,
        MaximumLength: bytes,
        Buffer: chars.as_mut_ptr(),
    }
}

fn characteristics() -> FilterCharacteristics {
    FilterCharacteristics {
        header: ObjectHeader {
            kind: object::FILTER_DRIVER_CHARACTERISTICS,
            revision: 3,
            size: 0xF0,
        },
        major_ndis_version: 6,
        minor_ndis_version: 85,
        major_driver_version: 1,
        minor_driver_version: 0,
        flags: 0,
        friendly_name: text("A filter that keeps the rules"),
        unique_name: text("{5CBF81BD-5055-47CD-9055-A76B2B4E3697}"),
        service_name: text("good"),
        set_options: None,
        set_module_options: None,
        attach: Some(attach),
        detach: Some(detach),
        restart: Some(restart),
        pause: Some(pause),
        send: Some(send),
        send_complete: Some(send_complete),
        cancel_send: Some(cancel_send),
        receive: Some(receive),
        return_nbls: Some(return_nbls),
        oid_request: Some(oid_request),
        oid_request_complete: Some(oid_complete),
        cancel_oid_request: Some(cancel_oid),
        device_pnp_event: Some(device_pnp),
        net_pnp_event: Some(net_pnp),
        status: Some(status),
        direct_oid_request: None,
        direct_oid_request_complete: None,
        cancel_direct_oid_request: None,
        synchronous_oid_request: None,
        synchronous_oid_request_complete: None,
    }
}

/// Runs `body` with the good filter over one adapter.
fn with_filter(shape: &Value, body: impl FnOnce()) {
    let _guard = engine::lock(&ONE_AT_A_TIME);
    let object = Box::leak(Box::new(std::mem::MaybeUninit::<DRIVER_OBJECT>::zeroed()));
    assert!(session::begin(object.as_mut_ptr(), 1, 0, "good"));
    let mut driver: Handle = ptr::null_mut();
    let given = characteristics();
    // SAFETY: a whole structure, and a place for the handle.
    let registered = unsafe {
        NdisFRegisterFilterDriver(
            object.as_mut_ptr(),
            ptr::null_mut(),
            &given,
            &raw mut driver,
        )
    };
    assert_eq!(registered, STATUS_SUCCESS);
    commands::add(&json!({ "name": "t", "mac": "02:00:00:00:00:01", "shape": shape }))
        .expect("an adapter");
    body();
    // SAFETY: the driver is registered.
    unsafe { NdisFDeregisterFilterDriver(driver) };
    assert!(super::leaks().is_empty());
    super::session_end();
    session::end();
    assert_eq!(track::own_lists().len(), 0);
}

fn report() -> Value {
    engine::adapter(Some("t")).expect("it is there").report()
}

fn frames(rng: &mut Prng, count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|_| {
            let length = rng.range(1, 1514);
            (0..length).map(|_| rng.next() as u8).collect()
        })
        .collect()
}

fn offer(dir: Dir, rng: &mut Prng, count: usize) {
    let adapter = engine::adapter(Some("t")).expect("it is there");
    let frames = frames(rng, count);
    let most = if dir == Dir::Down { 3 } else { 1 };
    let groups: Vec<Vec<&[u8]>> = frames
        .chunks(most)
        .map(|c| c.iter().map(Vec::as_slice).collect())
        .collect();
    for call in groups.chunks(5) {
        super::traffic::offer(&adapter, dir, call, rng);
    }
}

fn home() {
    let adapter = engine::adapter(Some("t")).expect("it is there");
    let module = adapter.module().expect("attached");
    assert!(engine::wait_until(
        std::time::Duration::from_secs(10),
        || { module.outstanding.load(Ordering::SeqCst) == 0 }
    ));
}

#[test]
fn frames_of_every_shape_pass_unchanged_and_in_order() {
    with_filter(
        &json!({ "seed": 11, "max_mdls": 9, "split_percent": 90, "tag_percent": 30 }),
        || {
            let mut rng = Prng::new(1, 1);
            for _ in 0..40 {
                offer(Dir::Down, &mut rng, 20);
                offer(Dir::Up, &mut rng, 20);
            }
            home();
            let report = report();
            for dir in ["down", "up"] {
                let side = &report[dir];
                assert_eq!(side["frames_in"], 800);
                assert_eq!(side["frames_out"], 800);
                assert_eq!(side["returned"]["frames"], 800);
                assert_eq!(side["hash_in"], side["hash_out"]);
                assert_eq!(side["reordered"], 0);
            }
        },
    );
}

#[test]
fn pause_and_restart_under_traffic_lose_nothing_silently() {
    with_filter(&json!({ "seed": 5, "inline_percent": 20 }), || {
        let running = std::sync::atomic::AtomicBool::new(true);
        std::thread::scope(|scope| {
            for (dir, seed) in [(Dir::Down, 2), (Dir::Up, 3)] {
                let running = &running;
                scope.spawn(move || {
                    let mut rng = Prng::new(seed, 1);
                    while running.load(Ordering::SeqCst) {
                        offer(dir, &mut rng, 10);
                    }
                });
            }
            for _ in 0..20 {
                commands::restart(&json!({ "adapter": "t" })).expect("a cycle");
            }
            running.store(false, Ordering::SeqCst);
        });
        home();
        let report = report();
        for dir in ["down", "up"] {
            let side = &report[dir];
            let number = |key: &str| side[key]["frames"].as_u64().unwrap_or(u64::MAX);
            let all = side["frames_in"].as_u64().unwrap_or(0);
            assert!(all > 0);
            assert_eq!(all, number("returned") + number("dropped"), "{side}");
            assert_eq!(side["frames_out"], number("returned"));
            if dir == "down" {
                let paused = side["drop_statuses"]["0xC023002A"].as_u64().unwrap_or(0);
                let others = side["drop_statuses"]
                    .as_object()
                    .map_or(0, serde_json::Map::len);
                assert!(others == 0 || (others == 1 && paused > 0), "{side}");
            }
        }
    });
}

#[test]
fn requests_and_events_come_through() {
    with_filter(&json!({ "seed": 9 }), || {
        for _ in 0..20 {
            let ask = |request: Value| commands::oid_request(&request).expect("an answer");
            let size = ask(json!({ "type": "query", "oid": "0x00010106", "len": 4 }));
            assert_eq!(
                (&size["status"], &size["buffer"]),
                (&json!("0x00000000"), &json!("dc050000"))
            );
            assert_eq!(size["reached_miniport"], true);
            let short = ask(json!({ "type": "query", "oid": "0x01010102", "len": 5 }));
            assert_eq!(
                (&short["status"], &short["needed"]),
                (&json!("0xC0010016"), &json!(6))
            );
            let set = ask(json!({ "type": "set", "oid": "0x0001010E", "data": "0b000000" }));
            assert_eq!(
                (&set["status"], &set["bytes"]),
                (&json!("0x00000000"), &json!(4))
            );
            assert_eq!(report()["packet_filter"], 11);
            let method =
                ask(json!({ "type": "method", "oid": "0x00010204", "data": "0102", "len": 4 }));
            assert_eq!(method["buffer"], "02010000");
            let unknown = ask(json!({ "type": "query", "oid": "0xFF010203", "len": 64 }));
            assert_eq!(unknown["status"], "0xC00000BB");
        }
        let cancelled = commands::oid_request(&json!({
            "type": "query", "oid": "0x00010106", "len": 4, "cancel_after_ms": 20
        }));
        assert_eq!(cancelled.expect("an answer")["status"], "0xC001000C");
        assert_eq!(
            commands::status_indicate(&json!({ "link": "down" })).expect("done")["arrived"],
            true
        );
        assert_eq!(commands::pnp(&json!({})).expect("done")["arrived"], true);
        assert_eq!(
            commands::cancel_send(&json!({ "id": 7 })).expect("done")["arrived"],
            true
        );
    });
}

#[test]
fn a_wire_carries_frames_both_ways() {
    with_filter(&json!({ "seed": 2 }), || {
        let far = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        far.set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .expect("a time limit");
        let peer = far.local_addr().expect("bound").to_string();
        let near = commands::wire(&json!({ "peer": peer })).expect("a wire");
        far.send_to(&[0xAB; 60], near["listen"].as_str().expect("text"))
            .expect("sent");
        assert!(engine::wait_until(
            std::time::Duration::from_secs(5),
            || { report()["up"]["frames_out"] == 1 }
        ));
        let frame = "01".repeat(70);
        commands::inject(&json!({ "dir": "down", "frames": [frame] })).expect("injected");
        let mut buffer = [0; 200];
        let (len, _) = far.recv_from(&mut buffer).expect("a frame");
        assert_eq!(&buffer[..len], &[1; 70]);
    });
}

#[test]
fn a_bad_registration_is_refused_not_punished() {
    let _guard = engine::lock(&ONE_AT_A_TIME);
    let object = Box::leak(Box::new(std::mem::MaybeUninit::<DRIVER_OBJECT>::zeroed()));
    assert!(session::begin(object.as_mut_ptr(), 1, 0, "good"));
    let mut refuse = |given: FilterCharacteristics, status: u32| {
        let mut driver: Handle = ptr::null_mut();
        // SAFETY: a whole structure, and a place for the handle.
        let got = unsafe {
            NdisFRegisterFilterDriver(
                object.as_mut_ptr(),
                ptr::null_mut(),
                &given,
                &raw mut driver,
            )
        };
        assert_eq!(got as u32, status);
        assert!(driver.is_null());
    };
    let good = characteristics();
    refuse(
        FilterCharacteristics {
            major_ndis_version: 5,
            ..good
        },
        0xC001_0004,
    );
    refuse(
        FilterCharacteristics {
            minor_ndis_version: 90,
            ..good
        },
        0xC001_0004,
    );
    refuse(
        FilterCharacteristics {
            minor_ndis_version: 60,
            ..good
        },
        0xC001_0005,
    );
    refuse(
        FilterCharacteristics {
            pause: None,
            ..good
        },
        0xC001_0005,
    );
    refuse(
        FilterCharacteristics {
            oid_request_complete: None,
            ..good
        },
        0xC001_0005,
    );
    refuse(
        FilterCharacteristics {
            status: None,
            ..good
        },
        0xC001_0005,
    );
    refuse(
        FilterCharacteristics {
            unique_name: text("good"),
            ..good
        },
        0xC001_0005,
    );
    refuse(
        FilterCharacteristics {
            service_name: text(""),
            ..good
        },
        0xC001_0005,
    );
    super::session_end();
    session::end();
}

/// A list of the filter's own over `mdl`.
fn own_list(pool: Handle, mdl: *mut Mdl, length: usize) -> *mut NetBufferList {
    // SAFETY: a pool with NET_BUFFERs and an MDL of at least `length` bytes.
    let nbl = unsafe { pools::NdisAllocateNetBufferAndNetBufferList(pool, 0, 0, mdl, 0, length) };
    assert!(!nbl.is_null());
    // SAFETY: the new list is the filter's own.
    unsafe { (*nbl).source_handle = handle() };
    nbl
}

#[test]
fn frames_of_the_filters_own_go_out_and_come_back() {
    with_filter(&json!({ "seed": 4 }), || {
        let tag = u32::from_le_bytes(*b"Test");
        let parameters = NblPoolParameters {
            header: ObjectHeader {
                kind: object::DEFAULT,
                revision: 1,
                size: 16,
            },
            protocol_id: 0,
            allocate_net_buffer: 1,
            context_size: 0,
            pool_tag: tag,
            data_size: 0,
        };
        // SAFETY: whole parameters, and the handle of an attached module.
        let pool = unsafe { pools::NdisAllocateNetBufferListPool(handle(), &parameters) };
        let mut data: Vec<u8> = (0..100).collect();
        // SAFETY: the data outlives the MDL.
        let mdl = unsafe { pools::NdisAllocateMdl(handle(), data.as_mut_ptr().cast(), 100) };
        OWN_BACK.store(0, Ordering::SeqCst);
        for _ in 0..10 {
            let nbl = own_list(pool, mdl, 60);
            // SAFETY: the filter's own list.
            unsafe { NdisFSendNetBufferLists(handle(), nbl, 0, 0) };
            let nbl = own_list(pool, mdl, 70);
            // SAFETY: as above.
            unsafe { NdisFIndicateReceiveNetBufferLists(handle(), nbl, 0, 1, 0) };
        }
        assert!(engine::wait_until(
            std::time::Duration::from_secs(5),
            || { OWN_BACK.load(Ordering::SeqCst) == 20 }
        ));
        let report = report();
        assert_eq!(
            report["down"]["injected"],
            json!({ "frames": 10, "bytes": 600 })
        );
        assert_eq!(
            report["up"]["injected"],
            json!({ "frames": 10, "bytes": 700 })
        );

        // With RESOURCES the list is the filter's again at once.
        let nbl = own_list(pool, mdl, 60);
        // SAFETY: the filter's own list.
        unsafe { NdisFIndicateReceiveNetBufferLists(handle(), nbl, 0, 1, 2) };
        // A clone describes the same bytes, from the start of the data.
        // SAFETY: a list of the filter's own.
        let nb = unsafe { (*nbl).first_net_buffer };
        // SAFETY: the filter's own.
        unsafe { buffer::NdisAdvanceNetBufferDataStart(nb, 14, 0, ptr::null_mut()) };
        // SAFETY: as above.
        let clone = unsafe { pools::NdisAllocateCloneNetBufferList(nbl, pool, ptr::null_mut(), 0) };
        let copy = frame::buffers(clone).next().expect("a NET_BUFFER");
        assert_eq!(frame::gather(copy).expect("whole"), data[14..60]);
        // SAFETY: made with the same flags.
        unsafe { pools::NdisFreeCloneNetBufferList(clone, 0) };
        // SAFETY: as above.
        let back = unsafe { buffer::NdisRetreatNetBufferDataStart(nb, 14, 0, ptr::null_mut()) };
        assert_eq!(
            (back, frame::gather(nb).expect("whole")),
            (STATUS_SUCCESS, data[..60].to_vec())
        );
        // SAFETY: as above; there is no room in front.
        let none = unsafe { buffer::NdisRetreatNetBufferDataStart(nb, 1, 0, ptr::null_mut()) };
        assert_ne!(none, STATUS_SUCCESS);
        // SAFETY: the filter's own, freed once each.
        unsafe { pools::NdisFreeNetBufferList(nbl) };
        // SAFETY: as above.
        unsafe { pools::NdisFreeMdl(mdl) };
        // SAFETY: as above.
        unsafe { pools::NdisFreeNetBufferListPool(pool) };
    });
}

#[test]
fn data_comes_in_one_piece_on_request() {
    let mut rng = Prng::new(8, 8);
    let shape: super::shape::Shape =
        serde_json::from_value(json!({ "split_percent": 100, "max_mdls": 6 })).expect("a shape");
    for frame in frames(&mut rng, 300) {
        let list = frame::build(&[&frame], Dir::Up, 0x40, &[], &mut rng, &shape);
        let nb = frame::read(list.nbl()).first_net_buffer;
        let needed = rng.range(1, frame.len());
        let mut storage = vec![0_u8; needed];
        // SAFETY: a whole NET_BUFFER, and storage for what is needed.
        let at = unsafe {
            buffer::NdisGetDataBuffer(nb, needed as u32, storage.as_mut_ptr().cast(), 1, 0)
        };
        // SAFETY: `needed` bytes, in the frame or in the storage.
        let got = unsafe { std::slice::from_raw_parts(at.cast::<u8>(), needed) };
        assert_eq!(got, &frame[..needed]);
        // SAFETY: as above; more than there is.
        let none =
            unsafe { buffer::NdisGetDataBuffer(nb, frame.len() as u32 + 1, ptr::null_mut(), 1, 0) };
        assert!(none.is_null());
        let terms = frame::Terms {
            allow_modify: false,
            completing: false,
        };
        assert!(list.verify(terms).is_ok());
    }
}
