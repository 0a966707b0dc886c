//! Rules, flows, alarms, and the roles that write, against the driver in memory.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use weir_abi::{
    AlarmInfo, AlarmKind, Direction, DivertOptions, FlowInfo, FlowPorts, FlowState, NO_VLAN,
    TcpTag, limits, status,
};
use zerocopy::FromZeros;

use crate::fake::{FakeDriver, Written};
use crate::{Device, Error, NtStatus, Outgoing, ReadAhead};

const WAIT: Duration = Duration::from_secs(5);

fn open(driver: &FakeDriver) -> Device {
    Device::connect(Arc::new(driver.clone())).expect("the device opens")
}

fn divert_options() -> DivertOptions {
    DivertOptions {
        adapter: None,
        backlog: limits::MIN_BACKLOG,
        flush_ms: 0,
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, status: i32) {
    let error = result.expect_err("refused");
    assert_eq!(error.status(), Some(NtStatus(status)), "{error}");
}

/// As much of a program as the driver in memory looks at: its header's words.
fn program(rules: u32, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = [0, 1, len as u32, 1, rules, 7, 9, 0]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    bytes.resize(len, 0x5a);
    bytes
}

#[test]
fn rules_come_back_as_they_were_loaded_in_any_number_of_parts() {
    let driver = FakeDriver::default();
    let device = open(&driver);
    assert_eq!(device.rules().expect("none").program, []);
    for len in [32, 262_144, 262_145, 3_000_000] {
        let program = program(3, len);
        let loaded = device.load_rules(&program).expect("loads");
        assert_eq!((loaded.rules, loaded.tuples, loaded.insns), (3, 7, 9));
        let back = device.rules().expect("reads");
        assert_eq!(back.generation, loaded.generation);
        assert!(back.program == program, "{len} bytes");
    }
    let cleared = device.clear_rules().expect("clears");
    assert_eq!((cleared.generation, cleared.rules), (5, 0));
    assert_eq!(device.rules().expect("none").program, []);
}

#[test]
fn a_program_no_driver_takes_is_not_sent() {
    let device = open(&FakeDriver::default());
    let long = vec![0; limits::MAX_PROGRAM as usize + 1];
    let error = device.load_rules(&long).expect_err("too long");
    assert!(error.to_string().contains("use fewer rules"), "{error}");
}

#[test]
fn the_hits_of_more_rules_than_a_part_holds_are_whole() {
    let driver = FakeDriver::default();
    let device = open(&driver);
    device.load_rules(&program(1300, 32)).expect("loads");
    let hits: Vec<(u64, u64)> = (0..1300).map(|i| (i, i * 60)).collect();
    driver.set_hits(&hits, (5, 300));
    let stats = device.rule_stats().expect("counters");
    assert_eq!(stats.rules.len(), 1300);
    assert_eq!(
        (stats.rules[1299].frames, stats.rules[1299].bytes),
        (1299, 77_940)
    );
    let sum: u64 = stats.rules.iter().map(|h| h.frames).sum();
    assert_eq!(stats.seen.frames, sum + stats.default.frames);
}

fn flow(adapter: u32, id: u64) -> FlowInfo {
    let mut flow = FlowInfo::new_zeroed();
    flow.id = id;
    flow.adapter = adapter;
    flow.family = 4;
    flow.protocol = 6;
    flow.vlan = NO_VLAN;
    flow.initiator[..4].copy_from_slice(&[10, 0, 0, 1]);
    flow.responder[..4].copy_from_slice(&[10, 0, 0, 2]);
    (flow.initiator_port, flow.responder_port) = (50_000, 80);
    flow.state = FlowState::Established.into();
    flow.ports = FlowPorts::Ports.into();
    flow.tags = 1 << TcpTag::KeepAlive as u32 | 1;
    flow.initial_rtt_100ns = 25;
    flow
}

#[test]
fn flows_of_one_adapter_are_whole_and_typed() {
    let driver = FakeDriver::default();
    let (one, two) = (driver.attach("lab0"), driver.attach("lab1"));
    for id in 1..=1100 {
        driver.add_flow(flow(one, id));
    }
    let mut six = flow(two, 1);
    six.family = 6;
    six.initiator = "fd00::1"
        .parse::<std::net::Ipv6Addr>()
        .expect("an address")
        .octets();
    six.vlan = 7;
    driver.add_flow(six);
    let device = open(&driver);
    let flows = device.flows(one).expect("flows");
    assert_eq!(flows.len(), 1100);
    assert_eq!(flows[1099].id, 1100);
    assert_eq!(
        flows[0].initiator,
        "10.0.0.1:50000".parse().expect("an address")
    );
    assert_eq!(flows[0].tags, [TcpTag::Retransmission, TcpTag::KeepAlive]);
    assert_eq!(flows[0].initial_rtt, Some(Duration::from_nanos(2500)));
    assert_eq!((flows[0].vlan, flows[0].responder_rtt), (None, None));
    let other = device.flows(two).expect("flows");
    assert_eq!(
        other[0].initiator,
        "[fd00::1]:50000".parse().expect("an address")
    );
    assert_eq!(other[0].vlan, Some(7));
    assert_eq!(device.flow_stats(one).expect("counters").active, 1100);
    refused(device.flows(9), status::NO_SUCH_DEVICE);

    let mut bad = flow(two, 2);
    bad.state = 99;
    driver.add_flow(bad);
    let error = device.flows(two).expect_err("no such state");
    assert!(
        error.to_string().contains("contradicts the contract"),
        "{error}"
    );
}

#[test]
fn alarms_are_given_once_each() {
    let driver = FakeDriver::default();
    let device = open(&driver);
    assert_eq!(device.alarms(0).expect("none"), (vec![], 1));
    for kind in [AlarmKind::SynFlood, AlarmKind::PortScan] {
        let mut alarm = AlarmInfo::new_zeroed();
        alarm.kind = kind.into();
        alarm.family = 4;
        alarm.count = 100;
        driver.raise(alarm);
    }
    let (alarms, next) = device.alarms(0).expect("two");
    assert_eq!(alarms.iter().map(|a| a.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((alarms[0].peer, alarms[1].peer.is_some()), (None, true));
    assert_eq!(device.alarms(next).expect("no more"), (vec![], next));
    driver.raise(AlarmInfo {
        kind: AlarmKind::SynFlood.into(),
        family: 6,
        ..AlarmInfo::new_zeroed()
    });
    assert_eq!(device.alarms(next).expect("one more").0.len(), 1);
}

#[test]
fn diverted_frames_go_back_once_each_as_they_were_or_changed() {
    let driver = FakeDriver::default();
    let adapter = driver.attach("lab0");
    let device = open(&driver);
    let ahead = ReadAhead::default();
    let mut divert = device.open_divert(&divert_options(), ahead).expect("opens");
    for n in 0..4u8 {
        driver.divert(adapter, Direction::Out, 5, &[n; 60]);
    }
    let mut out = Outgoing::new();
    let mut seen = 0;
    while seen < 4 {
        let batch = divert.next(WAIT).expect("reads").expect("frames");
        for frame in batch.frames() {
            match frame.bytes[0] {
                // One goes nowhere.
                0 => {}
                1 => out
                    .give_back_changed(&frame, Direction::In, &[9; 70])
                    .expect("fits"),
                _ => out.give_back(&frame).expect("fits"),
            }
            seen += 1;
        }
        divert.recycle(batch);
    }
    let again = out.clone();
    assert_eq!(divert.write(&mut out).expect("written"), 3);
    assert!(out.is_empty());
    let mut again = again;
    refused(divert.write(&mut again), status::INVALID_PARAMETER_6);
    assert_eq!(again.len(), 3, "what was refused is kept");
    let written = driver.written();
    let want = |direction, byte, len| Written {
        adapter,
        direction,
        bytes: vec![byte; len],
    };
    assert_eq!(
        written,
        [
            want(Direction::In, 9, 70),
            want(Direction::Out, 2, 60),
            want(Direction::Out, 3, 60),
        ]
    );
    let stats = divert.stats().expect("a balance");
    assert!(stats.is_divert_balanced(), "{stats:?}");
    assert_eq!((stats.returned, stats.outstanding), (3, 1));
}

#[test]
fn what_waits_at_the_end_can_be_given_back() {
    let driver = FakeDriver::default();
    let adapter = driver.attach("lab0");
    let divert = open(&driver)
        .open_divert(&divert_options(), ReadAhead::default())
        .expect("opens");
    driver.divert(adapter, Direction::In, 5, &[1; 60]);
    let stats = divert
        .finish::<Error>(|batch, out| {
            for frame in batch.frames() {
                out.give_back(&frame).expect("fits");
            }
            Ok(())
        })
        .expect("finishes");
    assert_eq!((stats.returned, stats.outstanding), (1, 0));
    assert_eq!(driver.written().len(), 1);
}

#[test]
fn frames_are_injected_where_they_may_go() {
    let driver = FakeDriver::default();
    let adapter = driver.attach("lab0");
    let device = open(&driver);
    refused(
        device.open_inject(NonZeroU32::new(9)),
        status::NO_SUCH_DEVICE,
    );
    let mut injector = device.open_inject(None).expect("opens");
    let mut out = Outgoing::new();
    for n in 0..2000u32 {
        let bytes = vec![n as u8; 1500];
        out.inject(adapter, Direction::Out, &bytes).expect("fits");
    }
    assert_eq!(injector.write(&mut out).expect("written"), 2000);
    assert_eq!(driver.written().len(), 2000);
    assert_eq!(injector.stats().expect("counters").returned, 2000);
    out.inject(9, Direction::Out, &[0; 60]).expect("fits");
    refused(injector.write(&mut out), status::NO_SUCH_DEVICE);
    let status = device.status().expect("a status");
    assert_eq!((status.readers, status.writers), (0, 1));
}
