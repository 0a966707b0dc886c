//! The golden bytes of what steers frames: rules, divert and inject, flows.

use weir_abi::{
    AlarmInfo, AlarmListReply, AlarmListRequest, CommandError, DivertOptions, FlowInfo,
    FlowListReply, FlowListRequest, FlowStats, FlowStatsReply, FlowStatsRequest, HeaderError,
    NO_VLAN, OpenDivertReply, OpenDivertRequest, OpenInjectReply, OpenInjectRequest, RuleHits,
    RulesLoadReply, RulesLoadRequest, RulesReadReply, RulesReadRequest, RulesStatsReply,
    RulesStatsRequest, WriteFrame, limits, writes,
};

use super::*;

const GENERATION: u64 = 0x1112_1314_1516_1718;
const TIME: u64 = 0x01dd_5a2b_3c4d_5e6f;

/// The fixed part of a reply and its `N` entries.
#[track_caller]
fn list<T, E, const N: usize>(name: &str, head: T, entries: [E; N])
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout + PartialEq + Debug,
    E: FromBytes + IntoBytes + Immutable + KnownLayout + PartialEq + Debug + Copy,
{
    let bytes = golden(name);
    let (got, rest) = T::read_from_prefix(&bytes).expect("a list");
    assert_eq!(got, head, "{name}");
    let got = <[E; N]>::read_from_bytes(rest).expect("the entries");
    assert_eq!(got, entries, "{name}");
    assert_eq!([head.as_bytes(), entries.as_bytes()].concat(), bytes);
}

#[test]
fn rules_are_loaded() {
    let bytes = golden("rules_load_request");
    let request = RulesLoadRequest::new(5).expect("a short program");
    assert_eq!([request.as_bytes(), &b"rules"[..]].concat(), bytes);
    assert_eq!(RulesLoadRequest::program(&bytes), b"rules");
    let decode = |bytes: &[u8]| Command::decode(Ioctl::RulesLoad.code(), bytes, 48);
    assert_eq!(decode(&bytes), Ok(Command::RulesLoad { program_len: 5 }));
    assert_eq!(
        decode(&bytes[..20]),
        Err(CommandError::Header(HeaderError::SizeField {
            got: 21,
            want: 20
        }))
    );
    same(
        "rules_load_reply",
        RulesLoadReply {
            header: reply(48),
            generation: GENERATION,
            memory: 0x2122_2324_2526_2728,
            program_len: 0x31,
            rules: 0x32,
            tuples: 0x33,
            insns: 0x34,
            default_action: 1,
            reserved: 0,
        },
    );
}

#[test]
fn rules_are_read() {
    same_request(
        "rules_read_request",
        RulesReadRequest::new(GENERATION, 0x21),
        Command::RulesRead {
            generation: std::num::NonZeroU64::new(GENERATION),
            offset: 0x21,
        },
    );
    list(
        "rules_read_reply",
        RulesReadReply {
            header: reply(35),
            generation: GENERATION,
            loaded_100ns: TIME,
            total: 0x24,
            count: 3,
        },
        *b"les",
    );
    assert_eq!(
        Some(reply(35)),
        ReplyHeader::of_list::<RulesReadReply, u8>(3)
    );
}

#[test]
fn rules_are_counted() {
    same_request(
        "rules_stats_request",
        RulesStatsRequest::new(0, 0x22),
        Command::RulesStats {
            generation: None,
            start: 0x22,
        },
    );
    let hits = |frames, bytes| RuleHits { frames, bytes };
    list(
        "rules_stats_reply",
        RulesStatsReply {
            header: reply(112),
            generation: GENERATION,
            loaded_100ns: TIME,
            memory: 0x31,
            seen: hits(0x41 + 0x51 + 0x61, 0x42 + 0x52 + 0x62),
            default: hits(0x41, 0x42),
            default_action: 1,
            total: 0x24,
            count: 2,
            reserved: 0,
        },
        [hits(0x51, 0x52), hits(0x61, 0x62)],
    );
}

#[test]
fn divert_and_inject() {
    let options = DivertOptions {
        adapter: std::num::NonZeroU32::new(7),
        backlog: 4 << 20,
        flush_ms: 100,
    };
    same_request(
        "open_divert_request",
        OpenDivertRequest::from(&options),
        Command::OpenDivert(options),
    );
    same(
        "open_divert_reply",
        OpenDivertReply {
            header: reply(24),
            reader: 5,
            min_read: weir_abi::record_size(limits::MAX_SNAPLEN).expect("a size"),
            max_write: limits::MAX_WRITE_LEN,
            max_outstanding: limits::MAX_OUTSTANDING,
        },
    );
    let adapter = std::num::NonZeroU32::new(7);
    same_request(
        "open_inject_request",
        OpenInjectRequest::new(adapter),
        Command::OpenInject { adapter },
    );
    same(
        "open_inject_reply",
        OpenInjectReply {
            header: reply(16),
            writer: 5,
            max_write: limits::MAX_WRITE_LEN,
        },
    );
}

#[test]
fn frames_are_written() {
    let bytes = golden("frame_write");
    let got: Vec<WriteFrame<'_>> = writes(&bytes)
        .collect::<Result<_, _>>()
        .expect("whole records");
    let frame = [
        255, 255, 255, 255, 255, 255, 2, 0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 8, 6,
    ];
    let ramp: Vec<u8> = (0x20..0x34).collect();
    let first = WriteFrame {
        adapter: 7,
        sequence: 0x1122_3344_5566_7788,
        direction: Direction::Out,
        flags: RecordFlags::empty(),
        segment_size: 0,
        bytes: &frame,
        end: 56,
    };
    let second = WriteFrame {
        adapter: 8,
        sequence: 2,
        direction: Direction::In,
        flags: RecordFlags::DIVERTED | RecordFlags::CHECKSUM_OFFLOAD,
        segment_size: 0,
        bytes: &ramp,
        end: 120,
    };
    assert_eq!(got, [first, second]);
}

#[test]
fn flows() {
    same_request(
        "flow_list_request",
        FlowListRequest::new(7, 0x1112_1314),
        Command::FlowList {
            adapter: 7,
            cursor: 0x1112_1314,
        },
    );
    let v4 = |octets: [u8; 4]| {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&octets);
        address
    };
    list(
        "flow_list_reply",
        FlowListReply {
            header: reply(192),
            adapter: 7,
            count: 1,
            next: 0x1112_1315,
            active: 0x21,
        },
        [FlowInfo {
            id: 0x3132_3334_3536_3738,
            first_100ns: TIME,
            last_100ns: TIME + 9,
            frames: [0x41, 0x42],
            bytes: [0x43, 0x44],
            initiator: v4([192, 0, 2, 1]),
            responder: v4([198, 51, 100, 2]),
            initiator_port: 0xc001,
            responder_port: 443,
            vlan: NO_VLAN,
            family: 4,
            protocol: 6,
            adapter: 7,
            state: weir_abi::FlowState::Established.into(),
            initial_rtt_100ns: 0x51,
            initiator_rtt_100ns: 0x52,
            responder_rtt_100ns: 0x53,
            retransmissions: 0x61,
            fast_retransmissions: 0x62,
            out_of_order: 0x63,
            duplicate_acks: 0x64,
            tags: 0x7fff,
            ports: weir_abi::FlowPorts::Ports.into(),
            slot: 0x65,
            reserved: 0,
        }],
    );
    same_request(
        "flow_stats_request",
        FlowStatsRequest::new(7),
        Command::FlowStats { adapter: 7 },
    );
    let stats = FlowStats {
        capacity: 0x4000,
        active: 0x21,
        half_open: 0x22,
        peak: 0x23,
        created: 0x21 + 0x24 + 0x25 + 0x26 + 0x27,
        expired: 0x24,
        evicted_over: 0x25,
        evicted_half_open: 0x26,
        evicted_other: 0x27,
        untracked: 0x28,
        segments: 0x29,
        alarms: 0x2a,
        alarms_lost: 0x2b,
        memory: 0x2c,
        tags: std::array::from_fn(|tag| 0x100 + tag as u64),
    };
    same(
        "flow_stats_reply",
        FlowStatsReply {
            header: reply(256),
            adapter: 7,
            reserved: 0,
            stats,
        },
    );
}

#[test]
fn alarms() {
    same_request(
        "alarm_list_request",
        AlarmListRequest::new(0x1112_1314),
        Command::AlarmList { since: 0x1112_1314 },
    );
    let mut listener = [0; 16];
    listener[..4].copy_from_slice(&[192, 0, 2, 1]);
    let scanner: std::net::Ipv6Addr = "fe80::11:2233:4455:6677".parse().expect("an address");
    let target: std::net::Ipv6Addr = "fe80::11:2233:4455:6678".parse().expect("an address");
    let flood = AlarmInfo {
        number: 0x1112_1315,
        time_100ns: TIME,
        adapter: 7,
        kind: weir_abi::AlarmKind::SynFlood.into(),
        address: listener,
        peer: [0; 16],
        port: 443,
        reserved0: 0,
        family: 4,
        count: 0x31,
        syns: 0x32,
        reserved1: 0,
    };
    let scan = AlarmInfo {
        number: 0x1112_1316,
        time_100ns: TIME + 1,
        adapter: 8,
        kind: weir_abi::AlarmKind::PortScan.into(),
        address: scanner.octets(),
        peer: target.octets(),
        port: 22,
        family: 6,
        count: 0x41,
        syns: 0,
        ..flood
    };
    list(
        "alarm_list_reply",
        AlarmListReply {
            header: reply(184),
            next: 0x1112_1317,
            count: 2,
            more: 1,
        },
        [flood, scan],
    );
}

/// What two crates say of the same thing.
#[test]
fn the_limits_are_those_of_the_engine() {
    use weir_engine::rule::format;
    assert_eq!(limits::MAX_PROGRAM, format::MAX_PROGRAM);
    for (action, number) in [
        (weir_abi::RuleAction::Pass, format::ACTION_PASS),
        (weir_abi::RuleAction::Drop, format::ACTION_DROP),
        (weir_abi::RuleAction::Divert, format::ACTION_DIVERT),
        (weir_abi::RuleAction::Log, format::ACTION_LOG),
        (weir_abi::RuleAction::Count, format::ACTION_COUNT),
    ] {
        assert_eq!(u32::from(action), number);
    }
    assert!(format::MAX_RULES < u32::from(u16::MAX), "a record's rule");
}
