//! The bytes of each message, decoded and encoded by the crate that is on both
//! sides of the boundary, field by field.

#[path = "golden/socket.rs"]
mod socket;
#[path = "golden/steer.rs"]
mod steer;

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use weir_abi::{
    AdapterInfo, AdapterListReply, AdapterListRequest, AdapterStats, AdapterStatsReply,
    AdapterStatsRequest, Balance, CaptureOptions, CaptureSource, Command, Direction, Directions,
    FrameRecord, Ioctl, OpenCaptureReply, OpenCaptureRequest, ProtocolCounters, ReaderStats,
    ReaderStatsReply, ReaderStatsRequest, RecordFlags, ReplyHeader, Request, RequestHeader,
    ServiceFlags, ServiceInfo, ServiceKind, ServiceListReply, ServiceListRequest, ServiceSpec,
    ServiceStartReply, ServiceStartRequest, ServiceStopReply, ServiceStopRequest, SocketAddress,
    StatusReply, StatusRequest, Transport, VersionReply, VersionRequest, records, status,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""))
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).expect("a hex digit"))
        .collect();
    let pairs = digits.chunks_exact(2);
    assert!(pairs.remainder().is_empty(), "an even number of digits");
    pairs.map(|p| (p[0] << 4 | p[1]) as u8).collect()
}

fn golden(name: &str) -> Vec<u8> {
    let path = folder().join(name).with_extension("hex");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    unhex(&text)
}

/// The golden bytes are `value`, and `value` is the golden bytes.
#[track_caller]
fn same<T>(name: &str, value: T)
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout + PartialEq + Debug,
{
    let bytes = golden(name);
    let decoded = T::read_from_bytes(&bytes)
        .unwrap_or_else(|_| panic!("{name}: {} bytes, not {}", bytes.len(), size_of::<T>()));
    assert_eq!(decoded, value, "{name} decoded");
    assert_eq!(value.as_bytes(), bytes, "{name} encoded");
}

/// As [`same`], and what the kernel makes of it is `command`.
#[track_caller]
fn same_request<T>(name: &str, value: T, command: Command)
where
    T: Request + PartialEq + Debug,
{
    let bytes = golden(name);
    let room = size_of::<T::Reply>();
    assert_eq!(T::decode(&bytes), Ok(value_of::<T>(&bytes)), "{name}");
    assert_eq!(
        Command::decode(T::IOCTL.code(), &bytes, room),
        Ok(command),
        "{name} as a command"
    );
    same(name, value);
}

fn value_of<T: FromBytes>(bytes: &[u8]) -> T {
    T::read_from_bytes(bytes).unwrap_or_else(|_| panic!("{} bytes", bytes.len()))
}

fn request(size: u32) -> RequestHeader {
    RequestHeader { version: 1, size }
}

fn reply(size: u32) -> ReplyHeader {
    ReplyHeader { version: 1, size }
}

fn v4() -> SocketAddress {
    "127.0.0.1:8080"
        .parse::<std::net::SocketAddr>()
        .expect("an address")
        .into()
}

fn v6(port: u16) -> std::net::SocketAddr {
    let ip = "fe80::11:2233:4455:6677".parse().expect("an address");
    std::net::SocketAddrV6::new(ip, port, 0, 3).into()
}

#[test]
fn version() {
    same_request(
        "version_request",
        VersionRequest { header: request(8) },
        Command::GetVersion,
    );
    same(
        "version_reply",
        VersionReply {
            header: reply(24),
            abi_version: 1,
            driver_major: 0x0a0b_0c0d,
            driver_minor: 0x1a1b_1c1d,
            driver_patch: 0x2a2b_2c2d,
        },
    );
}

#[test]
fn driver_status() {
    same_request(
        "status_request",
        StatusRequest { header: request(8) },
        Command::GetStatus,
    );
    same(
        "status_reply",
        StatusReply {
            header: reply(120),
            uptime_100ns: 0x0102_0304_0506_0708,
            started_100ns: 0x01dd_5a2b_3c4d_5e6f,
            adapters: 0x11,
            handles: 0x12,
            readers: 0x13,
            services: 0x14,
            connections: 1000,
            flags: 3,
            ndis_version: 0x0006_0055,
            diverters: 0x15,
            writers: 0x16,
            rules: 0x17,
            rules_generation: 0x1112_1314_1516_1718,
            rules_memory: 0x2122_2324_2526_2728,
            backlog_memory: 0x3132_3334_3536_3738,
            flows: 0x4142_4344_4546_4748,
            flow_memory: 0x5152_5354_5556_5758,
            alarms: 0x6162_6364_6566_6768,
            default_action: 1,
            sockets: 0x18,
        },
    );
}

#[test]
fn adapters() {
    same_request(
        "adapter_list_request",
        AdapterListRequest {
            start: 0x21,
            ..AdapterListRequest::new(0)
        },
        Command::ListAdapters { start: 0x21 },
    );
    let bytes = golden("adapter_list_reply");
    let (head, entries) = AdapterListReply::read_from_prefix(&bytes).expect("a list");
    let want = AdapterListReply {
        header: reply(192),
        total: 0x22,
        count: 1,
    };
    assert_eq!(head, want);
    assert_eq!(
        Some(head.header),
        ReplyHeader::of_list::<AdapterListReply, AdapterInfo>(1)
    );

    let mut name = [0; 64];
    for (to, from) in name.iter_mut().zip("Ethernet é中".encode_utf16()) {
        *to = from;
    }
    let info = AdapterInfo {
        id: 7,
        if_index: 12,
        mac: [0x02, 0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0, 0],
        mac_len: 6,
        mtu: 1500,
        media: 0,
        state: 4,
        link_speed: 10_000_000_000,
        name_len: 11,
        reserved: 0,
        name,
    };
    assert_eq!(value_of::<AdapterInfo>(entries), info);
    assert_eq!([want.as_bytes(), info.as_bytes()].concat(), bytes);
    assert_eq!(String::from_utf16_lossy(info.name_units()), "Ethernet é中");
    assert_eq!(info.mac_bytes(), [0x02, 0xa1, 0xb2, 0xc3, 0xd4, 0xe5]);
}

#[test]
fn adapter_statistics() {
    same_request(
        "adapter_stats_request",
        AdapterStatsRequest::new(7),
        Command::GetAdapterStats { adapter: 7 },
    );
    let balance = |d: u64| {
        let nth = |i: u64| (d + 1) * 0x10_0000_0000 + i * 0x111;
        Balance {
            seen: (2..=7).map(nth).sum(),
            passed: nth(2),
            dropped: nth(3),
            diverted: nth(4),
            lost_paused: nth(5),
            lost_resources: nth(6),
            lost_other: nth(7),
            seen_bytes: nth(8),
            passed_bytes: nth(9),
        }
    };
    let protocols = |d: u64| {
        let nth = |i: u64| (d + 1) * 0x10_0000 + i;
        ProtocolCounters {
            frames: nth(1),
            vlan: nth(2),
            arp: nth(3),
            ipv4: nth(4),
            ipv6: nth(5),
            icmp: nth(6),
            icmpv6: nth(7),
            udp: nth(8),
            tcp: nth(9),
            ipv4_fragments: nth(10),
            ipv6_fragments: nth(11),
            truncated: nth(12),
            malformed: nth(13),
            other: nth(14),
            bad_network_checksum: nth(15),
            bad_transport_checksum: nth(16),
        }
    };
    let stats = AdapterStats {
        balance: [balance(0), balance(1)],
        protocols: [protocols(0), protocols(1)],
        in_flight: [0x31, 0x32],
        injected: [0x33, 0x34],
        inject_failed: [0x35, 0x36],
    };
    for direction in [Direction::In, Direction::Out] {
        assert_eq!(*stats.balance(direction), stats.balance[direction.index()]);
        assert_eq!(
            *stats.protocols(direction),
            stats.protocols[direction.index()]
        );
        assert!(stats.balance(direction).is_balanced());
    }
    same(
        "adapter_stats_reply",
        AdapterStatsReply {
            header: reply(464),
            adapter: 7,
            reserved: 0,
            stats,
        },
    );
}

#[test]
fn capture() {
    let options = CaptureOptions {
        adapter: std::num::NonZeroU32::new(7),
        snaplen: 511,
        backlog: 4 << 20,
        flush_ms: 100,
        directions: Directions::IN | Directions::OUT,
        source: CaptureSource::Logged,
    };
    same_request(
        "open_capture_request",
        OpenCaptureRequest::from(&options),
        Command::OpenCapture(options),
    );
    assert_eq!(options.min_read(), 552);
    same(
        "open_capture_reply",
        OpenCaptureReply {
            header: reply(24),
            reader: 5,
            snaplen: 511,
            min_read: 552,
            reserved: 0,
        },
    );
    same_request(
        "reader_stats_request",
        ReaderStatsRequest { header: request(8) },
        Command::GetReaderStats,
    );
    let stats = ReaderStats {
        seen: 0x4321 + 0x41 + 0x42 + 0x43,
        delivered: 0x4321,
        queued: 0x41,
        lost_backlog: 0x42,
        lost_closed: 0x43,
        filtered: 0x44,
        delivered_bytes: 0x12_3456_789a,
        reads: 0x45,
        returned: 0x4321 - 0x46 - 0x47,
        outstanding: 0x46,
        unreturned: 0x47,
        refused: 0x48,
    };
    assert!(stats.is_balanced() && stats.is_divert_balanced());
    same(
        "reader_stats_reply",
        ReaderStatsReply {
            header: reply(104),
            stats,
        },
    );
}

#[test]
fn capture_records() {
    let bytes = golden("capture_read");
    let got: Vec<(FrameRecord, &[u8])> = records(&bytes)
        .collect::<Result<_, _>>()
        .expect("whole records");
    let first = FrameRecord {
        size: 56,
        captured_len: 14,
        original_len: 14,
        adapter: 7,
        timestamp_100ns: 0x01dd_5a2b_3c4d_5e6f,
        sequence: 0,
        direction: 0,
        header_len: 40,
        flags: 0,
        rule: 0,
        segment_size: 0,
    };
    let second = FrameRecord {
        captured_len: 16,
        original_len: 1514,
        timestamp_100ns: first.timestamp_100ns + 1,
        sequence: 1,
        direction: 1,
        flags: 0x43,
        rule: 0x1234,
        segment_size: 1460,
        ..first
    };
    let third = FrameRecord {
        size: 48,
        captured_len: 5,
        original_len: 5,
        adapter: 8,
        timestamp_100ns: first.timestamp_100ns + 2,
        sequence: 4,
        flags: 8,
        rule: 2,
        ..first
    };
    let frame = [
        255, 255, 255, 255, 255, 255, 2, 0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 8, 6,
    ];
    let ramp: Vec<u8> = (0x10..0x20).collect();
    assert_eq!(
        got,
        [
            (first, &frame[..]),
            (second, &ramp[..]),
            (third, &b"abcde"[..])
        ]
    );
    assert_eq!(second.direction(), Some(Direction::Out));
    assert_eq!(
        second.flags(),
        RecordFlags::TRUNCATED | RecordFlags::DROPPED | RecordFlags::CHECKSUM_OFFLOAD
    );
    assert_eq!(third.flags(), RecordFlags::LOGGED);

    let encoded: Vec<u8> = got
        .iter()
        .flat_map(|(record, data)| {
            let mut whole = [record.as_bytes(), data].concat();
            whole.resize(record.size as usize, 0);
            whole
        })
        .collect();
    assert_eq!(encoded, bytes);
}

#[test]
fn services() {
    let tcp = ServiceSpec {
        kind: ServiceKind::Echo,
        transport: Transport::Tcp,
        address: "127.0.0.1:8080".parse().expect("an address"),
        target: None,
        flags: ServiceFlags::CONDITIONAL_ACCEPT,
    };
    same_request(
        "service_start_request_v4",
        ServiceStartRequest::from(&tcp),
        Command::ServiceStart(tcp),
    );
    let udp = ServiceSpec {
        kind: ServiceKind::Relay,
        transport: Transport::Udp,
        address: v6(7),
        target: Some(v6(9)),
        flags: ServiceFlags::empty(),
    };
    same_request(
        "service_start_request_v6",
        ServiceStartRequest::from(&udp),
        Command::ServiceStart(udp),
    );
    same(
        "service_start_reply",
        ServiceStartReply {
            header: reply(48),
            id: 9,
            reserved: 0,
            address: v6(0xc001).into(),
        },
    );
    same_request(
        "service_stop_request",
        ServiceStopRequest::new(9),
        Command::ServiceStop { id: 9 },
    );
    same("service_stop_reply", ServiceStopReply { header: reply(8) });
}

#[test]
fn service_list() {
    same_request(
        "service_list_request",
        ServiceListRequest::new(0x23),
        Command::ServiceList { start: 0x23 },
    );
    let entry =
        |id: u32, (kind, transport), [address, target]: [SocketAddress; 2], (state, status)| {
            let nth = |k: u64| 0x60_0000_0000 + u64::from(id) * 0x100 + k;
            ServiceInfo {
                id,
                kind,
                transport,
                connections: 0x50 + id,
                address,
                accepted: nth(0),
                bytes_in: nth(1),
                bytes_out: nth(2),
                errors: nth(3),
                dropped: nth(4),
                state,
                status,
                target,
                finished: nth(5),
                target_refused: nth(6),
                reset_by_client: nth(7),
                reset_by_target: nth(8),
                timed_out: nth(9),
                failed: nth(10),
                flags: 2 - id,
                reserved: 0,
            }
        };
    let head = ServiceListReply {
        header: reply(16 + 2 * 184),
        total: 0x24,
        count: 2,
    };
    assert_eq!(
        Some(head.header),
        ReplyHeader::of_list::<ServiceListReply, ServiceInfo>(2)
    );
    let want = [
        entry(1, (1, 1), [v4(), SocketAddress::NONE], (1, 0)),
        entry(
            2,
            (3, 2),
            [v6(7).into(), v4()],
            (2, 0xC000_00B6_u32.cast_signed()),
        ),
    ];

    let bytes = golden("service_list_reply");
    let (got, rest) = ServiceListReply::read_from_prefix(&bytes).expect("a list");
    assert_eq!(got, head);
    let (infos, rest) = <[ServiceInfo; 2]>::read_from_prefix(rest).expect("two entries");
    assert_eq!(infos, want);
    assert_eq!(infos[0].failure(), Ok(None));
    assert_eq!(infos[1].failure(), Ok(Some(status::FILE_FORCED_CLOSED)));
    assert_eq!(rest, []);
    assert_eq!([head.as_bytes(), want.as_bytes()].concat(), bytes);
}

/// What the bytes alone can't tell is wrong: it takes the driver's state.
const NEEDS_STATE: [i32; 6] = [
    status::NO_SUCH_DEVICE,
    status::NOT_FOUND,
    status::INVALID_ADDRESS,
    status::INVALID_DEVICE_STATE,
    status::RETRY,
    status::INVALID_IMAGE_FORMAT,
];

#[test]
fn bad_input() {
    let text = std::fs::read_to_string(folder().join("bad-input.txt")).expect("the table");
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let &[name, code, room, want, hex] = columns.as_slice() else {
            panic!("five columns: {line}");
        };
        let code = u32::from_str_radix(code.trim_start_matches("0x"), 16).expect("a code");
        let room = room.parse().expect("a length");
        let bytes = unhex(hex.trim_start_matches('-'));
        let want = status::TABLE
            .iter()
            .find(|info| info.name == want)
            .unwrap_or_else(|| panic!("{want} is in the table"));
        let got = Command::decode(code, &bytes, room);
        if NEEDS_STATE.contains(&want.code) {
            assert!(got.is_ok(), "{name}: refused by its bytes: {got:?}");
        } else {
            let got = got.expect_err(name);
            assert_eq!(got.status(), want.code, "{name}: {got}");
        }
        seen.insert(name.to_owned());
    }
    assert!(seen.len() >= 75, "{} cases", seen.len());
}

#[test]
fn every_file_is_read() {
    // A golden file that no test names would prove nothing.
    let source = concat!(
        include_str!("golden.rs"),
        include_str!("golden/socket.rs"),
        include_str!("golden/steer.rs")
    );
    for entry in std::fs::read_dir(folder()).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "hex") {
            let stem = path
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            assert!(
                source.contains(&format!("\"{stem}\"")),
                "{stem} is not tested"
            );
        }
    }
    for ioctl in Ioctl::ALL {
        let code = format!("{:#010x}", ioctl.code());
        let named = std::fs::read_dir(folder())
            .expect("the folder")
            .filter_map(|e| std::fs::read_to_string(e.ok()?.path()).ok())
            .any(|text| text.contains(&format!("IOCTL {code}")));
        assert!(named, "{} ({code}) has no golden request", ioctl.name());
    }
}
