//! The typed calls and the capture against the driver in memory.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use weir_abi::{
    CaptureOptions, CaptureSource, Direction, Directions, ServiceFlags, ServiceKind, ServiceSpec,
    ServiceState, Transport, limits, status,
};

use crate::fake::FakeDriver;
use crate::{Device, Error, NtStatus, ReadAhead};

fn options() -> CaptureOptions {
    CaptureOptions {
        adapter: None,
        snaplen: 100,
        backlog: limits::MIN_BACKLOG,
        flush_ms: 10,
        directions: Directions::all(),
        source: CaptureSource::All,
    }
}

fn open(driver: &FakeDriver) -> Device {
    Device::connect(Arc::new(driver.clone())).expect("the device opens")
}

fn echo(transport: Transport, address: &str) -> ServiceSpec {
    ServiceSpec {
        kind: ServiceKind::Echo,
        transport,
        address: address.parse().expect("an address"),
        target: None,
        flags: ServiceFlags::empty(),
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, status: i32) {
    let error = result.expect_err("refused");
    assert_eq!(error.status(), Some(NtStatus(status)), "{error}");
}

#[test]
fn another_version_is_refused_but_can_be_asked_for() {
    let driver = FakeDriver::default();
    driver.speak(7);
    let error = Device::connect(Arc::new(driver.clone())).expect_err("another version");
    assert!(matches!(error, Error::Version { driver } if driver.abi == 7));
    let device = Device::connect_any_version(Arc::new(driver.clone())).expect("opens");
    assert_eq!(
        (device.version().abi, device.version().release),
        (7, (0, 1, 0))
    );
    drop(device);
    assert_eq!(driver.handles(), 0);
}

#[test]
fn an_absent_driver_is_told() {
    let driver = FakeDriver::default();
    driver.remove();
    let error = Device::connect(Arc::new(driver)).expect_err("absent");
    assert!(matches!(error, Error::NotPresent { win32: 2 }), "{error}");
}

#[test]
fn lists_longer_than_a_page_are_whole() {
    let driver = FakeDriver::default();
    for i in 0..200 {
        driver.attach(&format!("lab{i}"));
    }
    let adapters = open(&driver).adapters().expect("a list");
    assert_eq!(adapters.len(), 200);
    assert_eq!(adapters[199].name, "lab199");
    assert_eq!(adapters[0].mac, [2, 0, 0, 0, 0, 1]);
    assert_eq!(open(&FakeDriver::default()).adapters().expect("a list"), []);
}

#[test]
fn status_and_statistics() {
    let driver = FakeDriver::default();
    let id = driver.attach("lab0");
    driver.pass(id, Direction::Out, 1, &[0; 60]);
    let device = open(&driver);
    let status = device.status().expect("a status");
    assert_eq!(
        (status.adapters, status.handles, status.ndis),
        (1, 1, Some((6, 85)))
    );
    assert_eq!(status.uptime, Duration::from_millis(90_500));
    let stats = device.adapter_stats(id).expect("statistics");
    assert_eq!(stats.balance(Direction::Out).passed_bytes, 60);
    assert_eq!(stats.balance(Direction::In).seen, 0);
    refused(device.adapter_stats(id + 1), status::NO_SUCH_DEVICE);
}

#[test]
fn services_start_and_stop() {
    let device = open(&FakeDriver::default());
    let tcp = echo(Transport::Tcp, "127.0.0.1:7");
    let started = device.start_service(&tcp).expect("starts");
    assert_eq!(started.address, tcp.address);
    refused(device.start_service(&tcp), status::OBJECT_NAME_COLLISION);
    let udp = device
        .start_service(&echo(Transport::Udp, "[::1]:0"))
        .expect("starts");
    assert_ne!(udp.address.port(), 0);
    let list = device.services().expect("a list");
    assert_eq!(list.len(), 2);
    assert_eq!(
        (list[0].transport, list[1].address),
        (Transport::Tcp, udp.address)
    );
    assert_eq!(list[0].failure, None);
    device.stop_service(started.id).expect("stops");
    refused(device.stop_service(started.id), status::NOT_FOUND);
    refused(
        device.start_service(&echo(Transport::Tcp, "224.0.0.1:7")),
        status::INVALID_ADDRESS_COMPONENT,
    );
    assert_eq!(device.services().expect("a list").len(), 1);
}

#[test]
fn a_failed_service_is_listed_as_such_until_it_is_stopped() {
    let driver = FakeDriver::default();
    let device = open(&driver);
    let tcp = echo(Transport::Tcp, "127.0.0.1:7");
    let id = device.start_service(&tcp).expect("starts").id;
    assert!(driver.fail_service(id, status::FILE_FORCED_CLOSED));
    let list = device.services().expect("a list");
    assert_eq!(list[0].state(), ServiceState::Failed);
    assert_eq!(list[0].failure, Some(NtStatus(status::FILE_FORCED_CLOSED)));
    refused(device.start_service(&tcp), status::OBJECT_NAME_COLLISION);
    device.stop_service(id).expect("stops");
    device.start_service(&tcp).expect("starts anew");
    let list = device.services().expect("a list");
    assert_eq!(
        (list[0].state(), list[0].failure),
        (ServiceState::Running, None)
    );
    // A driver that says "failed" and no error makes no sense.
    assert!(driver.fail_service(list[0].id, status::SUCCESS));
    let error = device
        .services()
        .expect_err("no such condition")
        .to_string();
    assert!(error.contains("failed with status 0x00000000"), "{error}");
}

#[test]
fn frames_come_in_order_and_the_reader_balances() {
    let driver = FakeDriver::default();
    let id = driver.attach("lab0");
    let device = open(&driver);
    let small = ReadAhead { reads: 3, bytes: 0 };
    let mut capture = device.open_capture(&options(), small).expect("opens");
    assert_eq!(driver.handles(), 2);
    for i in 0..50_u8 {
        driver.pass(id, Direction::In, i.into(), &[i; 120]);
    }
    let mut seen = Vec::new();
    while let Some(batch) = capture.next(Duration::from_millis(20)).expect("a batch") {
        for frame in batch.frames() {
            assert_eq!((frame.record.original_len, frame.bytes.len()), (120, 100));
            seen.push((frame.record.sequence, frame.bytes[0]));
        }
        capture.recycle(batch);
    }
    let want: Vec<(u64, u8)> = (0..50).map(|i| (u64::from(i), i)).collect();
    assert_eq!(seen, want);
    assert_eq!(capture.received(), 50);
    let stats = capture.stats().expect("statistics");
    assert!(stats.is_balanced());
    assert_eq!((stats.delivered, stats.lost()), (50, 0));
    drop(capture);
    assert_eq!((driver.readers(), driver.handles()), (0, 1));
}

#[test]
fn finish_delivers_what_was_accepted() {
    let driver = FakeDriver::default();
    let id = driver.attach("lab0");
    let device = open(&driver);
    let small = ReadAhead { reads: 1, bytes: 0 };
    let capture = device.open_capture(&options(), small).expect("opens");
    for i in 0..40 {
        driver.pass(id, Direction::Out, i, &[0; 60]);
    }
    let mut frames = 0;
    let stats = capture
        .finish(|batch| {
            frames += batch.len() as u64;
            Ok::<_, Error>(())
        })
        .expect("ends");
    assert_eq!((frames, stats.delivered, stats.queued), (40, 40, 0));
    assert_eq!(driver.handles(), 1);
}

#[test]
fn a_slow_reader_sees_its_losses() {
    let driver = FakeDriver::default();
    let id = driver.attach("lab0");
    let device = open(&driver);
    let capture = device
        .open_capture(&options(), ReadAhead::default())
        .expect("opens");
    for i in 0..1000 {
        driver.pass(id, Direction::In, i, &[0; 100]);
    }
    let mut last = None;
    let stats = capture
        .finish(|batch| {
            for frame in batch.frames() {
                assert!(last.is_none_or(|n| n < frame.record.sequence));
                last = Some(frame.record.sequence);
            }
            Ok::<_, Error>(())
        })
        .expect("ends");
    assert!(stats.lost_backlog > 0 && stats.is_balanced(), "{stats:?}");
    assert_eq!(stats.seen, 1000);
}

#[test]
fn captures_choose_adapter_and_direction() {
    let driver = FakeDriver::default();
    let (one, two) = (driver.attach("lab0"), driver.attach("lab1"));
    let device = open(&driver);
    let only = CaptureOptions {
        adapter: NonZeroU32::new(two),
        directions: Directions::OUT,
        ..options()
    };
    let capture = device
        .open_capture(&only, ReadAhead::default())
        .expect("opens");
    driver.pass(one, Direction::Out, 1, &[1; 60]);
    driver.pass(two, Direction::In, 2, &[2; 60]);
    driver.pass(two, Direction::Out, 3, &[3; 60]);
    let mut bytes = Vec::new();
    let stats = capture
        .finish(|batch| {
            bytes.extend(batch.frames().map(|f| f.bytes[0]));
            Ok::<_, Error>(())
        })
        .expect("ends");
    assert_eq!(bytes, [3]);
    assert_eq!((stats.seen, stats.filtered), (1, 2));
    let nowhere = CaptureOptions {
        adapter: NonZeroU32::new(99),
        ..only
    };
    refused(
        device.open_capture(&nowhere, ReadAhead::default()),
        status::NO_SUCH_DEVICE,
    );
}

#[test]
fn reads_need_the_role_and_room() {
    let driver = FakeDriver::default();
    let device = open(&driver);
    let mut read = device.channel().read(vec![0; 4096]).expect("queued");
    let ended = read.wait(None).expect("ends").result;
    let error = ended.expect_err("refused");
    assert_eq!(error.status, NtStatus(status::INVALID_DEVICE_STATE));
    let capture = device
        .open_capture(&options(), ReadAhead::default())
        .expect("opens");
    assert_eq!(capture.snaplen(), 100);
}
