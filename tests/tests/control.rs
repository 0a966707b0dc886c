//! The driver's IOCTLs, its own source, on any host: what each piece of bad
//! input gets, that it changes nothing, and that replies are exact. What the
//! handlers call in the filter, the sockets and the services is stood in for.

#[path = "../../driver/src/capture/mod.rs"]
#[allow(dead_code, reason = "the driver uses more of it than the test")]
mod capture;
#[path = "../../driver/src/control/mod.rs"]
mod control;
#[path = "../../driver/src/error.rs"]
#[allow(dead_code, reason = "the driver uses more of it than the test")]
mod error;
#[path = "../../driver/src/flows/mod.rs"]
#[allow(dead_code, reason = "the driver uses more of it than the test")]
mod flows;
#[path = "../../driver/src/handle.rs"]
#[allow(dead_code, reason = "the driver uses more of it than the test")]
mod handle;
#[path = "../../driver/src/inject.rs"]
mod inject;
#[path = "capture/kernel.rs"]
#[allow(dead_code, reason = "the driver uses more of it than the test")]
mod kernel;
#[path = "capture/ntoskrnl.rs"]
#[allow(dead_code, reason = "shared with another test")]
mod ntoskrnl;

#[path = "../../driver/src/rules/mod.rs"]
#[allow(dead_code, reason = "the driver uses more of it than the test")]
mod rules;
#[path = "control/socket.rs"]
mod socket;
#[path = "control/sockets.rs"]
mod sockets;
#[path = "control/steer.rs"]
mod steer;

mod driver {
    pub(crate) fn uptime_100ns() -> u64 {
        7
    }
    pub(crate) fn started_100ns() -> u64 {
        8
    }
    pub(crate) fn is_stopping() -> bool {
        false
    }
}

mod wsk {
    pub(crate) fn is_ready() -> bool {
        true
    }
}

/// Two adapters, with ids 3 and 5.
mod ndis {
    use weir_abi::{AdapterInfo, AdapterStats};
    use zerocopy::FromZeros;

    use std::sync::Mutex;

    /// As the filter's.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Injection {
        pub(crate) adapter: u32,
        pub(crate) direction: weir_abi::Direction,
        pub(crate) len: u32,
        pub(crate) checksum_offload: bool,
        pub(crate) segment_size: u16,
        pub(crate) tag_beside: Option<bool>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum InjectError {
        NoSuchAdapter,
        NotRunning,
        Length,
        Source,
        NoMemory,
        UnderWay,
    }

    /// What was handed on.
    pub(crate) static INJECTED: Mutex<Vec<(Injection, Vec<u8>)>> = Mutex::new(Vec::new());

    /// Adapter 5 is paused; frames of more than 1514 bytes are too long.
    pub(crate) fn inject(
        injection: &Injection,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> std::result::Result<(), InjectError> {
        assert_eq!(crate::ntoskrnl::locks_held(), 0, "under a spin lock");
        assert!(injection.tag_beside.is_none() && injection.segment_size == 0);
        match (injection.adapter, injection.len) {
            (3, 0..=1514) => {}
            (3, 1515..=2000) => return Err(InjectError::NoMemory),
            (3, 2001..=2500) => return Err(InjectError::UnderWay),
            (3, _) => return Err(InjectError::Length),
            (5, _) => return Err(InjectError::NotRunning),
            _ => return Err(InjectError::NoSuchAdapter),
        }
        let mut bytes = vec![0; injection.len as usize];
        if !fill(&mut bytes) {
            return Err(InjectError::Source);
        }
        INJECTED.lock().unwrap().push((*injection, bytes));
        Ok(())
    }

    const IDS: [u32; 2] = [3, 5];

    pub(crate) fn is_registered() -> bool {
        true
    }
    pub(crate) fn version() -> u32 {
        0x0006_0055
    }
    pub(crate) fn adapter_count() -> u32 {
        2
    }
    pub(crate) fn list_adapters(mut each: impl FnMut(&AdapterInfo)) {
        for id in IDS {
            each(&AdapterInfo {
                id,
                ..AdapterInfo::new_zeroed()
            });
        }
    }
    pub(crate) fn adapter_stats(id: u32) -> Option<AdapterStats> {
        IDS.contains(&id).then(AdapterStats::new_zeroed)
    }
}

/// One service can run, with id 9.
mod service {
    use std::sync::atomic::{AtomicBool, Ordering};

    use weir_abi::{ServiceInfo, ServiceSpec, SocketAddress, SocketInfo};
    use zerocopy::FromZeros;

    use crate::kernel::status::{NtStatus, Result};

    static RUNS: AtomicBool = AtomicBool::new(false);

    pub(crate) struct Started {
        pub(crate) id: u32,
        pub(crate) address: SocketAddress,
    }

    pub(crate) struct Totals {
        pub(crate) services: u32,
        pub(crate) connections: u32,
    }

    pub(crate) fn totals() -> Totals {
        Totals {
            services: u32::from(RUNS.load(Ordering::SeqCst)),
            connections: 0,
        }
    }
    pub(crate) fn start(spec: &ServiceSpec) -> Result<Started> {
        if RUNS.swap(true, Ordering::SeqCst) {
            return Err(NtStatus::OBJECT_NAME_COLLISION);
        }
        Ok(Started {
            id: 9,
            address: spec.address.into(),
        })
    }
    pub(crate) fn stop(id: u32) -> Result<()> {
        let ran = id == 9 && RUNS.swap(false, Ordering::SeqCst);
        ran.then_some(()).ok_or(NtStatus::NOT_FOUND)
    }
    /// Its one socket.
    pub(crate) const SOCKET: u64 = (1 << 62) + 5;

    pub(crate) fn socket_count() -> u32 {
        1
    }
    pub(crate) fn sockets(id: u64, mut each: impl FnMut(&SocketInfo) -> bool) -> Option<u64> {
        let info = SocketInfo {
            id: SOCKET,
            service: 9,
            ..SocketInfo::new_zeroed()
        };
        (id <= SOCKET && !each(&info)).then_some(SOCKET)
    }
    pub(crate) fn list(start: u32, out: &mut [ServiceInfo]) -> (usize, u32) {
        let total = totals().services;
        let written = total.saturating_sub(start) as usize;
        out[..written].fill(ServiceInfo {
            id: 9,
            ..ServiceInfo::new_zeroed()
        });
        (written, total)
    }
}

use std::sync::{Mutex, MutexGuard, PoisonError};

use kernel::status::NtStatus;
use kernel::wdf::{UserCall, UserFile};
use weir_abi::limits::{MAX_FLUSH_MS, MAX_SNAPLEN, MIN_BACKLOG};
use weir_abi::{
    ABI_VERSION, AdapterInfo, AdapterListReply, AdapterListRequest, AdapterStatsRequest,
    CaptureOptions, CaptureSource, Direction, Directions, Ioctl, OpenCaptureReply,
    OpenCaptureRequest, ReaderStatsReply, ReaderStatsRequest, Request, RequestHeader, ServiceKind,
    ServiceListReply, ServiceListRequest, ServiceStartReply, ServiceStartRequest,
    ServiceStopRequest, SocketAddress, StatusReply, StatusRequest, Transport, VersionReply,
    VersionRequest, record_size,
};
use weir_abi::{
    AlarmListRequest, FlowListRequest, FlowStatsRequest, OpenInjectRequest, RulesReadRequest,
    RulesStatsRequest,
};
use weir_engine::rule::Far;
use zerocopy::FromBytes;

use handle::Role;

/// A frame's bytes.
struct Bytes<'a>(&'a [u8]);

impl Far for Bytes<'_> {
    fn copy_to(&self, _offset: u32, out: &mut [u8]) -> usize {
        let len = self.0.len().min(out.len());
        out[..len].copy_from_slice(&self.0[..len]);
        len
    }
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Loaded {
    _alone: MutexGuard<'static, ()>,
}

impl Loaded {
    fn new() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        capture::start();
        inject::start();
        rules::start();
        flows::start().expect("the timer");
        control::start();
        Loaded { _alone: alone }
    }

    fn unload(&self) {
        control::stop();
        inject::stop();
        capture::stop();
        flows::stop();
        rules::stop();
        assert_eq!(ntoskrnl::live_allocations(), 0, "pool left at unload");
    }
}

/// DeviceIoControl: the status, and the bytes user mode gets.
fn call(file: &UserFile, code: u32, input: &[u8], output_len: usize) -> (NtStatus, Vec<u8>) {
    let ioctl = UserCall::ioctl(file, input, output_len);
    control::dispatch(ioctl.request(), code, input.len(), output_len);
    let (outcome, bytes) = ioctl.completed().expect("completed when dispatch returns");
    (outcome.status, bytes)
}

/// A good call: the fixed part of the reply, and what follows it.
fn ask<R: Request>(file: &UserFile, request: &R, room: usize) -> (R::Reply, Vec<u8>) {
    let output_len = size_of::<R::Reply>() + room;
    let (status, bytes) = call(file, R::IOCTL.code(), request.as_bytes(), output_len);
    assert_eq!(status, NtStatus::SUCCESS);
    let (reply, rest) = R::Reply::read_from_prefix(&bytes).expect("a whole reply");
    // The header every reply starts with says how long it is.
    let size = u32::read_from_bytes(&bytes[4..8]).unwrap();
    assert_eq!(
        size as usize,
        bytes.len(),
        "size field and byte count agree"
    );
    (reply, rest.to_vec())
}

fn refused<R: Request>(file: &UserFile, request: &R) -> NtStatus {
    let (status, bytes) = call(
        file,
        R::IOCTL.code(),
        request.as_bytes(),
        size_of::<R::Reply>(),
    );
    assert!(bytes.is_empty(), "a refusal carries nothing");
    assert_ne!(status, NtStatus::SUCCESS);
    status
}

fn capture_request() -> OpenCaptureRequest {
    OpenCaptureRequest::from(&CaptureOptions {
        adapter: None,
        snaplen: 64,
        backlog: MIN_BACKLOG,
        flush_ms: 0,
        directions: Directions::all(),
        source: CaptureSource::All,
    })
}

fn service_request() -> ServiceStartRequest {
    ServiceStartRequest {
        header: RequestHeader::of::<ServiceStartRequest>(),
        kind: ServiceKind::Echo.into(),
        transport: Transport::Tcp.into(),
        address: SocketAddress::from("127.0.0.1:7".parse::<std::net::SocketAddr>().unwrap()),
        target: SocketAddress::NONE,
        flags: 0,
    }
}

fn close(file: &UserFile) {
    match file.handle.close() {
        Some(Role::Capture(ticket) | Role::Divert(ticket)) => capture::close(ticket),
        Some(Role::Inject(_)) => inject::close(),
        Some(Role::Socket) | None => {}
    }
}

const INFO_LENGTH_MISMATCH: NtStatus = NtStatus(weir_abi::status::INFO_LENGTH_MISMATCH);
const INVALID_BUFFER_SIZE: NtStatus = NtStatus(weir_abi::status::INVALID_BUFFER_SIZE);
const REVISION_MISMATCH: NtStatus = NtStatus(weir_abi::status::REVISION_MISMATCH);

#[test]
fn the_driver_says_what_it_is() {
    let driver = Loaded::new();
    let file = UserFile::open();
    let mut request = VersionRequest {
        header: RequestHeader::of::<VersionRequest>(),
    };
    request.header.version = 999;
    let (version, _): (VersionReply, _) = ask(&file, &request, 0);
    assert_eq!(version.abi_version, ABI_VERSION);
    let release = format!(
        "{}.{}.{}",
        version.driver_major, version.driver_minor, version.driver_patch
    );
    assert_eq!(release, env!("CARGO_PKG_VERSION"));

    let request = StatusRequest {
        header: RequestHeader::of::<StatusRequest>(),
    };
    let (status, _): (StatusReply, _) = ask(&file, &request, 100);
    assert_eq!((status.uptime_100ns, status.started_100ns), (7, 8));
    assert_eq!(
        (status.adapters, status.flags, status.ndis_version),
        (2, 3, 0x0006_0055)
    );
    driver.unload();
}

#[test]
fn lists_start_where_asked_and_hold_what_fits() {
    let driver = Loaded::new();
    let file = UserFile::open();
    let one = size_of::<AdapterInfo>();
    for (start, room, ids) in [
        (0, 2 * one, &[3, 5][..]),
        (0, 5 * one, &[3, 5]),
        (0, 2 * one - 1, &[3]),
        (0, 0, &[]),
        (1, 2 * one, &[5]),
        (2, one, &[]),
        (u32::MAX, one, &[]),
    ] {
        let (reply, rest): (AdapterListReply, _) =
            ask(&file, &AdapterListRequest::new(start), room);
        assert_eq!(reply.total, 2);
        assert_eq!(reply.count as usize, ids.len());
        let got: Vec<u32> = rest
            .chunks(one)
            .map(|entry| AdapterInfo::read_from_bytes(entry).unwrap().id)
            .collect();
        assert_eq!(got, ids);
    }
    driver.unload();
}

#[test]
fn services_start_once_and_stop_once() {
    let driver = Loaded::new();
    let file = UserFile::open();
    let (started, _): (ServiceStartReply, _) = ask(&file, &service_request(), 0);
    assert_eq!(started.id, 9);
    assert_eq!(started.address, service_request().address);
    assert_eq!(
        refused(&file, &service_request()),
        NtStatus::OBJECT_NAME_COLLISION
    );
    let (list, rest): (ServiceListReply, _) = ask(&file, &ServiceListRequest::new(0), 500);
    assert_eq!((list.total, list.count, rest.len()), (1, 1, 184));
    assert_eq!(
        refused(&file, &ServiceStopRequest::new(8)),
        NtStatus::NOT_FOUND
    );
    ask(&file, &ServiceStopRequest::new(9), 0);
    assert_eq!(
        refused(&file, &ServiceStopRequest::new(9)),
        NtStatus::NOT_FOUND
    );
    driver.unload();
}

#[test]
fn unknown_ioctls_are_refused() {
    let driver = Loaded::new();
    let file = UserFile::open();
    let known: Vec<u32> = Ioctl::ALL.iter().map(|ioctl| ioctl.code()).collect();
    for code in (0..0x2000u32)
        .map(|n| 0x0012_0000 | (n << 2))
        .chain([0, u32::MAX])
    {
        if !known.contains(&code) {
            let (status, bytes) = call(&file, code, &[0; 64], 64);
            assert_eq!(status, NtStatus(weir_abi::status::INVALID_DEVICE_REQUEST));
            assert!(bytes.is_empty());
        }
    }
    driver.unload();
}

/// Every length but the right one, every version but this, every output buffer
/// too small: each refused with its status, for each IOCTL, before anything is
/// done.
#[test]
fn envelopes_that_are_wrong_are_refused() {
    fn check<R: Request>(file: &UserFile, good: &R) {
        let code = R::IOCTL.code();
        let bytes = good.as_bytes();
        let reply = size_of::<R::Reply>();
        for len in 0..bytes.len() {
            assert_eq!(
                call(file, code, &bytes[..len], reply).0,
                INFO_LENGTH_MISMATCH
            );
        }
        let mut long = bytes.to_vec();
        long.push(0);
        assert_eq!(call(file, code, &long, reply).0, INVALID_BUFFER_SIZE);
        let mut lies = bytes.to_vec();
        lies[4] ^= 1;
        assert_eq!(call(file, code, &lies, reply).0, INVALID_BUFFER_SIZE);
        if !R::ANY_VERSION {
            let mut other = bytes.to_vec();
            other[0] ^= 2;
            assert_eq!(call(file, code, &other, reply).0, REVISION_MISMATCH);
        }
        for room in 0..reply {
            assert_eq!(call(file, code, bytes, room).0, NtStatus::BUFFER_TOO_SMALL);
        }
    }
    let driver = Loaded::new();
    let file = UserFile::open();
    check(
        &file,
        &VersionRequest {
            header: RequestHeader::of::<VersionRequest>(),
        },
    );
    check(
        &file,
        &StatusRequest {
            header: RequestHeader::of::<StatusRequest>(),
        },
    );
    check(&file, &AdapterListRequest::new(0));
    check(&file, &AdapterStatsRequest::new(3));
    check(&file, &capture_request());
    check(
        &file,
        &ReaderStatsRequest {
            header: RequestHeader::of::<ReaderStatsRequest>(),
        },
    );
    check(&file, &service_request());
    check(&file, &ServiceListRequest::new(0));
    check(&file, &ServiceStopRequest::new(9));
    check(&file, &RulesReadRequest::new(0, 0));
    check(&file, &RulesStatsRequest::new(0, 0));
    check(&file, &FlowListRequest::new(3, 0));
    check(&file, &FlowStatsRequest::new(3));
    check(&file, &AlarmListRequest::new(0));
    check(&file, &OpenInjectRequest::new(None));
    assert_eq!(service::totals().services, 0, "no service was started");
    assert_eq!(capture::count(), 0, "no role was given");
    file.handle.begin_role().expect("still a control handle");
    driver.unload();
}

#[test]
fn the_capture_role_is_given_once_and_only_for_sense() {
    let driver = Loaded::new();
    let file = UserFile::open();
    let stats = ReaderStatsRequest {
        header: RequestHeader::of::<ReaderStatsRequest>(),
    };
    assert_eq!(refused(&file, &stats), NtStatus::INVALID_DEVICE_STATE);

    let good = capture_request();
    let (p2, p3, p4, p5) = (
        0xC000_00F0u32,
        0xC000_00F1u32,
        0xC000_00F2u32,
        0xC000_00F3u32,
    );
    for (bad, status) in [
        (
            OpenCaptureRequest {
                snaplen: MAX_SNAPLEN + 1,
                ..good
            },
            p2,
        ),
        (
            OpenCaptureRequest {
                backlog: MIN_BACKLOG - 1,
                ..good
            },
            p3,
        ),
        (
            OpenCaptureRequest {
                backlog: u32::MAX,
                ..good
            },
            p3,
        ),
        (
            OpenCaptureRequest {
                flush_ms: MAX_FLUSH_MS + 1,
                ..good
            },
            p4,
        ),
        (
            OpenCaptureRequest {
                directions: 0,
                ..good
            },
            p5,
        ),
        (
            OpenCaptureRequest {
                directions: 4,
                ..good
            },
            p5,
        ),
        (OpenCaptureRequest { source: 2, ..good }, 0xC000_00F4),
        (OpenCaptureRequest { adapter: 4, ..good }, 0xC000_000E),
    ] {
        assert_eq!(
            refused(&file, &bad),
            NtStatus(status.cast_signed()),
            "{bad:?}"
        );
    }
    assert_eq!(capture::count(), 0);

    let (opened, _): (OpenCaptureReply, _) = ask(&file, &good, 0);
    assert_eq!(opened.snaplen, 64);
    assert_eq!(Some(opened.min_read), record_size(64));
    assert_eq!(refused(&file, &good), NtStatus::INVALID_DEVICE_STATE);
    assert_eq!(capture::count(), 1);

    ntoskrnl::at_dispatch(|| {
        capture::on_frame(&capture::Frame {
            adapter: 3,
            direction: Direction::Out,
            timestamp_100ns: 1,
            len: 2,
            flags: weir_abi::RecordFlags::empty(),
            rule: None,
            logged: None,
            segment_size: 0,
            bytes: &Bytes(b"ab"),
        });
    });
    let (reply, _): (ReaderStatsReply, _) = ask(&file, &stats, 0);
    assert_eq!((reply.stats.seen, reply.stats.queued), (1, 1));
    close(&file);
    assert_eq!(refused(&file, &stats), NtStatus::FILE_CLOSED);
    assert_eq!(refused(&file, &good), NtStatus::FILE_CLOSED);
    driver.unload();
}

#[test]
fn unloading_refuses_every_ioctl() {
    let driver = Loaded::new();
    let file = UserFile::open();
    driver.unload();
    let request = StatusRequest {
        header: RequestHeader::of::<StatusRequest>(),
    };
    assert_eq!(refused(&file, &request), NtStatus::DELETE_PENDING);
    assert_eq!(refused(&file, &service_request()), NtStatus::DELETE_PENDING);
    assert_eq!(service::totals().services, 0);
}

#[test]
fn a_role_that_finds_no_memory_leaves_a_control_handle() {
    let driver = Loaded::new();
    let file = UserFile::open();
    let live = ntoskrnl::live_allocations();
    for n in 0..3 {
        ntoskrnl::fail_allocation(Some(n));
        let status = refused(&file, &capture_request());
        ntoskrnl::fail_allocation(None);
        assert_eq!(status, NtStatus::INSUFFICIENT_RESOURCES);
        assert_eq!(ntoskrnl::live_allocations(), live);
    }
    let (opened, _): (OpenCaptureReply, _) = ask(&file, &capture_request(), 0);
    assert!(opened.reader > 0);
    close(&file);
    driver.unload();
}
