//! The flow table from outside: its balance, ageing, who goes first, states of
//! connections, alarms, and that nothing of it depends on the hash.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use weir_engine::Meta;
use weir_engine::flow::{
    AlarmConfig, Cause, Config, Error, Flow, MAX_SLOTS, Slot, State, Table, TcpTags, Tracked,
};
use weir_engine::wire::dissect;

type Memory = Table<Vec<Slot>, Vec<u32>>;

const SECOND: u64 = 10_000_000;
const START: u64 = 133_000_000_000_000_000;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

fn table(slots: usize, config: Config) -> Memory {
    // What is in the memory must not matter.
    let index = vec![0xa5a5_a5a5; Memory::index_len(slots)];
    Table::new(vec![Slot::EMPTY; slots], index, config).unwrap()
}

fn ipv4(protocol: u8, from: u32, to: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
    frame.extend(u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    frame.extend(Ipv4Addr::from(from).octets());
    frame.extend(Ipv4Addr::from(to).octets());
    frame.extend(payload);
    frame
}

/// A segment between 10.0.0.1:1000 (`true`) and 10.0.0.2:80, or its reverse.
fn tcp(from_a: bool, flags: u8, seq: u32, ack: u32, len: usize) -> Vec<u8> {
    let (a, b) = ((0x0a00_0001, 1000), (0x0a00_0002, 80));
    let (from, to) = if from_a { (a, b) } else { (b, a) };
    segment(from, to, flags, seq, ack, len)
}

fn segment(from: (u32, u16), to: (u32, u16), flags: u8, seq: u32, ack: u32, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(from.1.to_be_bytes());
    bytes.extend(to.1.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend(ack.to_be_bytes());
    bytes.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    bytes.resize(20 + len, 0);
    ipv4(6, from.0, to.0, &bytes)
}

fn udp(from: (u32, u16), to: (u32, u16)) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(from.1.to_be_bytes());
    bytes.extend(to.1.to_be_bytes());
    bytes.extend([0, 8, 0, 0]);
    ipv4(17, from.0, to.0, &bytes)
}

fn track(table: &mut Memory, frame: &[u8], time_100ns: u64) -> Option<Tracked> {
    let frame_len = u32::try_from(frame.len()).unwrap();
    let meta = Meta {
        adapter: 7,
        direction: None,
        time_100ns,
        frame_len,
    };
    table.track(&dissect(frame, frame_len), &meta)
}

fn flows(table: &Memory) -> Vec<(u32, Flow)> {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some((slot, flow)) = table.next_from(at) {
        all.push((slot, flow));
        at = slot + 1;
    }
    all
}

/// What must hold at any time.
fn check(table: &Memory) {
    let stats = table.stats();
    let all = flows(table);
    assert_eq!(
        all.len(),
        stats.active as usize,
        "each active flow is listed"
    );
    assert_eq!(
        stats.created - stats.expired - stats.evicted(),
        u64::from(stats.active),
        "{stats:?}"
    );
    let half_open = all.iter().filter(|(_, f)| f.state.is_half_open()).count();
    assert_eq!(half_open, stats.half_open as usize);
    assert!(stats.peak >= stats.active);
}

#[test]
fn ten_million_flows_fit_in_their_memory() {
    assert_eq!(size_of::<Slot>(), 128);
    let flows = 10_000_000;
    let bytes = flows * size_of::<Slot>() + Memory::index_len(flows) * size_of::<u32>();
    assert!(bytes as f64 <= 1.3 * f64::from(1 << 30), "{bytes} bytes");
}

#[test]
fn what_cannot_be_a_table_is_refused() {
    let refused = |slots: usize, index: usize, config| {
        Table::new(vec![Slot::EMPTY; slots], vec![0u32; index], config).unwrap_err()
    };
    let config = Config::default();
    assert_eq!(refused(0, 0, config), Error::Slots { given: 0 });
    let needed = Memory::index_len(4);
    let given = needed - 1;
    assert_eq!(refused(4, given, config), Error::Index { given, needed });
    let mut wrong = config;
    wrong.idle.udp = 0;
    assert_eq!(
        refused(4, needed, wrong),
        Error::Config { field: "idle.udp" }
    );
    wrong = config;
    wrong.alarm.scan_ports = AlarmConfig::MAX_SCAN_PORTS + 1;
    let field = "alarm.scan_ports";
    assert_eq!(refused(4, needed, wrong), Error::Config { field });
    assert!(Memory::index_len(MAX_SLOTS) > MAX_SLOTS * 2);
}

#[test]
fn both_directions_are_one_flow_and_its_sender_began_it() {
    let mut table = table(8, Config::default());
    let first = track(&mut table, &udp((9, 5000), (3, 53)), START).unwrap();
    let second = track(&mut table, &udp((3, 53), (9, 5000)), START + 5).unwrap();
    assert!(first.is_new && first.from_initiator && first.flow == 1);
    assert!(!second.is_new && !second.from_initiator && second.flow == 1);
    let flow = table.get(first.slot).unwrap();
    assert_eq!((flow.initiator.port, flow.responder.port), (5000, 53));
    assert_eq!((flow.sent.packets, flow.received.bytes), (1, 42));
    assert_eq!((flow.first_100ns, flow.last_100ns), (START, START + 5));
    assert_eq!((flow.adapter, flow.vlan), (7, None));
    assert_eq!(
        track(&mut table, &udp((9, 5001), (3, 53)), START)
            .unwrap()
            .flow,
        2
    );
    check(&table);
}

#[test]
fn states_of_connections() {
    let a = |flags, seq, ack| tcp(true, flags, seq, ack, 0);
    let b = |flags, seq, ack| tcp(false, flags, seq, ack, 0);
    let handshake = || vec![a(SYN, 100, 0), b(SYN | ACK, 500, 101), a(ACK, 101, 501)];
    let then = |more: Vec<Vec<u8>>| [handshake(), more].concat();
    let (fin_a, fin_b) = (a(FIN | ACK, 101, 501), b(FIN | ACK, 501, 102));
    let crossing = b(FIN | ACK, 501, 101);
    let cases = [
        ("a SYN", vec![a(SYN, 100, 0)], State::SynSent),
        (
            "its answer",
            vec![a(SYN, 100, 0), b(SYN | ACK, 500, 101)],
            State::SynReceived,
        ),
        ("three ways", handshake(), State::Established),
        (
            "refused",
            vec![a(SYN, 100, 0), b(RST | ACK, 0, 101)],
            State::Reset,
        ),
        (
            "both at once",
            vec![a(SYN, 100, 0), b(SYN, 500, 0)],
            State::SynReceived,
        ),
        (
            "both at once, done",
            vec![
                a(SYN, 100, 0),
                b(SYN, 500, 0),
                a(SYN | ACK, 100, 501),
                b(SYN | ACK, 500, 101),
            ],
            State::Established,
        ),
        (
            "from its middle",
            vec![tcp(true, ACK, 100, 500, 10)],
            State::Established,
        ),
        ("one FIN", then(vec![fin_a.clone()]), State::FinWait),
        (
            "acknowledged",
            then(vec![fin_a.clone(), b(ACK, 501, 102)]),
            State::HalfClosed,
        ),
        (
            "the other's",
            then(vec![fin_a.clone(), fin_b.clone()]),
            State::LastAck,
        ),
        (
            "closed",
            then(vec![fin_a.clone(), fin_b, a(ACK, 102, 502)]),
            State::TimeWait,
        ),
        (
            "crossing FINs",
            then(vec![fin_a.clone(), crossing.clone()]),
            State::Closing,
        ),
        (
            "crossing FINs, closed",
            then(vec![fin_a, crossing, a(ACK, 102, 502), b(ACK, 502, 102)]),
            State::TimeWait,
        ),
        ("reset", then(vec![b(RST, 501, 0)]), State::Reset),
        (
            "a RST out of every window",
            then(vec![b(RST, 0x4000_0000, 0)]),
            State::Established,
        ),
    ];
    for (name, frames, state) in cases {
        let mut table = table(4, Config::default());
        for (frame, n) in frames.iter().zip(0u64..) {
            let tracked = track(&mut table, frame, START + n * 1000).unwrap();
            assert_eq!(tracked.flow, 1, "{name}");
            check(&table);
        }
        assert_eq!(table.get(0).unwrap().state, state, "{name}");
    }
}

#[test]
fn round_trips_are_measured() {
    let mut table = table(4, Config::default());
    let ms = 10_000;
    track(&mut table, &tcp(true, SYN, 100, 0, 0), START).unwrap();
    track(
        &mut table,
        &tcp(false, SYN | ACK, 500, 101, 0),
        START + 18 * ms,
    )
    .unwrap();
    track(&mut table, &tcp(true, ACK, 101, 501, 0), START + 20 * ms).unwrap();
    track(&mut table, &tcp(true, ACK, 101, 501, 50), START + 30 * ms).unwrap();
    track(&mut table, &tcp(false, ACK, 501, 151, 10), START + 48 * ms).unwrap();
    track(&mut table, &tcp(true, ACK, 151, 511, 0), START + 50 * ms).unwrap();
    let flow = table.get(0).unwrap();
    let near = |told: Option<u64>, span: u64| told.unwrap().abs_diff(span) <= span / 2000;
    assert!(near(flow.initial_rtt_100ns, 20 * ms), "{flow:?}");
    assert!(near(flow.responder_rtt_100ns, 18 * ms), "{flow:?}");
    assert!(near(flow.initiator_rtt_100ns, 2 * ms), "{flow:?}");
    assert!(near(flow.smoothed_rtt_100ns(), 20 * ms), "{flow:?}");
}

#[test]
fn a_new_syn_is_a_new_flow_and_the_same_syn_is_not() {
    let mut table = table(4, Config::default());
    track(&mut table, &tcp(true, SYN, 100, 0, 0), START).unwrap();
    let again = track(&mut table, &tcp(true, SYN, 100, 0, 0), START + SECOND).unwrap();
    assert_eq!((again.flow, again.tags), (1, TcpTags::RETRANSMISSION));
    let other = track(
        &mut table,
        &tcp(true, SYN, 0x9000_1234, 0, 0),
        START + 2 * SECOND,
    )
    .unwrap();
    assert!(other.is_new);
    assert_eq!((other.flow, other.tags), (2, TcpTags::REUSED_PORTS));
    assert_eq!(table.stats().tags.of(TcpTags::REUSED_PORTS), 1);
    check(&table);
}

#[test]
fn time_outs_are_told_from_what_was_asked_for() {
    let mut table = table(4, Config::default());
    let mut at = START;
    let mut step = |table: &mut Memory, frame: Vec<u8>, after: u64| {
        at += after;
        track(table, &frame, at).unwrap().tags
    };
    step(&mut table, tcp(true, SYN, 100, 0, 0), 0);
    step(&mut table, tcp(false, SYN | ACK, 500, 101, 0), 10_000);
    step(&mut table, tcp(true, ACK, 101, 501, 0), 10_000);
    step(&mut table, tcp(true, ACK, 101, 501, 100), 10_000);
    step(&mut table, tcp(true, ACK, 201, 501, 100), 100);
    step(&mut table, tcp(false, ACK, 501, 101, 0), 10_000);
    for _ in 0..2 {
        let tags = step(&mut table, tcp(false, ACK, 501, 101, 0), 100);
        assert_eq!(tags, TcpTags::DUPLICATE_ACK);
    }
    let fast = step(&mut table, tcp(true, ACK, 101, 501, 100), 50_000);
    assert_eq!(fast, TcpTags::FAST_RETRANSMISSION | TcpTags::RETRANSMISSION);
    let late = step(&mut table, tcp(true, ACK, 101, 501, 100), SECOND);
    assert_eq!(late, TcpTags::RETRANSMISSION);
    step(&mut table, tcp(false, ACK, 501, 301, 0), 10_000);
    let spurious = step(&mut table, tcp(true, ACK, 101, 501, 100), SECOND);
    assert_eq!(
        spurious,
        TcpTags::SPURIOUS_RETRANSMISSION | TcpTags::RETRANSMISSION
    );
    let health = table.get(0).unwrap().health;
    assert_eq!(
        (health.retransmissions, health.fast_retransmissions),
        (3, 1)
    );
    assert_eq!(health.duplicate_acks, 3);
}

#[test]
fn quiet_flows_are_forgotten() {
    let config = Config::default();
    let mut table = table(64, config);
    for port in 0..32 {
        track(&mut table, &udp((1, 2000 + port), (2, 53)), START).unwrap();
    }
    track(&mut table, &tcp(true, ACK, 1, 1, 1), START).unwrap();
    let idle = u64::from(config.idle.udp);
    for second in 1..idle {
        table.tick(START + second * SECOND);
        assert_eq!(table.stats().active, 33, "after {second} s");
    }
    // At most a minute later all are gone.
    for second in idle..idle + 62 {
        table.tick(START + second * SECOND);
        check(&table);
    }
    assert_eq!((table.stats().active, table.stats().expired), (1, 32));
    // And before that, a frame does not bring the old flow back.
    let later = START + (idle + 62 + u64::from(config.idle.established)) * SECOND;
    let tracked = track(&mut table, &tcp(true, ACK, 1, 1, 1), later).unwrap();
    assert!(tracked.is_new);
    check(&table);
}

#[test]
fn a_clock_that_leaps_empties_the_table() {
    let mut table = table(64, Config::default());
    for back in [true, false] {
        track(&mut table, &udp((1, 2), (3, 4)), START).unwrap();
        let day = 86_400 * SECOND;
        let then = if back { START - day } else { START + day };
        let tracked = track(&mut table, &udp((1, 2), (3, 4)), then).unwrap();
        assert!(tracked.is_new);
        assert_eq!(table.get(tracked.slot).unwrap().first_100ns, then);
        assert_eq!(table.stats().active, 1);
        check(&table);
    }
}

#[test]
fn after_a_leap_a_full_table_begins_anew() {
    let mut config = Config::default();
    config.alarm.half_open = 10;
    let mut table = table(64, config);
    let open = |port| segment((1, port), (2, 80), SYN, 100, 0, 0);
    for day in 0..4u64 {
        // There and back.
        let start = START + (day & 1) * 86_400 * SECOND;
        // Half open, in use, ended; more than there is room for.
        for port in 0..100 {
            track(&mut table, &udp((port, 1), (3, 4)), start + 1).unwrap();
            check(&table);
        }
        for port in 0..9 {
            track(&mut table, &open(port), start).unwrap();
        }
        assert_eq!(table.stats().half_open, 9);
        assert_eq!(table.take_alarm(), None, "yesterday's don't count");
        assert_eq!(table.stats().active, 64);
        check(&table);
    }
    let begun = table.stats().created;
    track(&mut table, &open(9), START + 86_400 * SECOND).unwrap();
    assert!(table.take_alarm().is_some());
    assert_eq!(table.stats().created, begun + 1);
    table.tick(START + 86_400 * SECOND + 8_000 * SECOND);
    for _ in 0..200 {
        table.tick(START + 86_400 * SECOND + 8_000 * SECOND);
    }
    assert_eq!(table.stats().active, 0, "all have aged");
    check(&table);
}

#[test]
fn the_least_valuable_go_first() {
    let mut table = table(8, Config::default());
    let open = |port| segment((1, port), (2, 80), SYN, 100, 0, 0);
    let answer = |port| segment((2, 80), (1, port), SYN | ACK, 500, 101, 0);
    let done = |port| segment((1, port), (2, 80), ACK, 101, 501, 0);
    let reset = |port| segment((2, 80), (1, port), RST | ACK, 501, 101, 0);
    for port in 0..8 {
        track(&mut table, &open(port), START).unwrap();
        if port != 3 {
            track(&mut table, &answer(port), START).unwrap();
            track(&mut table, &done(port), START + u64::from(port)).unwrap();
        }
    }
    track(&mut table, &reset(5), START).unwrap();
    let mut ports = |new: u16| {
        track(&mut table, &open(new), START + 100).unwrap();
        check(&table);
        let stats = table.stats();
        let there: Vec<_> = flows(&table)
            .iter()
            .map(|(_, f)| f.initiator.port)
            .collect();
        let missing: Vec<_> = (0..8).filter(|port| !there.contains(port)).collect();
        (
            missing,
            stats.evicted_over,
            stats.evicted_half_open,
            stats.evicted_other,
        )
    };
    assert_eq!(ports(100), (vec![5], 1, 0, 0));
    // Then those half open, the new ones with them, before any other.
    for new in 101..110 {
        let (missing, over, half_open, other) = ports(new);
        assert_eq!((over, other), (1, 0), "{missing:?}");
        assert_eq!(half_open, u64::from(new) - 100);
    }
    assert_eq!(ports(110).0, [3, 5]);
}

#[test]
fn full_of_flows_in_use_the_quietest_goes() {
    let mut table = table(4, Config::default());
    for (port, quiet) in [(1, 30), (2, 40), (3, 10), (4, 20)] {
        track(&mut table, &udp((1, port), (2, 53)), START + 50 - quiet).unwrap();
        track(&mut table, &udp((2, 53), (1, port)), START + 50 - quiet).unwrap();
    }
    track(&mut table, &udp((1, 9), (2, 53)), START + 60).unwrap();
    let ports: Vec<_> = flows(&table)
        .iter()
        .map(|(_, f)| f.initiator.port)
        .collect();
    assert_eq!(ports, [1, 9, 3, 4]);
    assert_eq!(table.stats().evicted_other, 1);
    check(&table);
}

#[test]
fn a_flood_of_syns_gives_one_alarm_a_window_and_handshakes_none() {
    let mut config = Config::default();
    config.alarm.half_open = 50;
    config.alarm.scan_ports = 0;
    let mut table = table(4096, config);
    for port in 0..1000 {
        let time = START + u64::from(port);
        track(
            &mut table,
            &segment((1, port), (2, 80), SYN, 100, 0, 0),
            time,
        )
        .unwrap();
        track(
            &mut table,
            &segment((2, 80), (1, port), SYN | ACK, 500, 101, 0),
            time,
        )
        .unwrap();
        track(
            &mut table,
            &segment((1, port), (2, 80), ACK, 101, 501, 0),
            time,
        )
        .unwrap();
    }
    assert_eq!(table.take_alarm(), None);
    for source in 0..200 {
        track(
            &mut table,
            &segment((100 + source, 5), (2, 443), SYN, 1, 0, 0),
            START,
        )
        .unwrap();
    }
    let alarm = table.take_alarm().unwrap();
    let Cause::SynFlood {
        listener,
        half_open,
        syns,
    } = alarm.cause
    else {
        panic!("{alarm:?}");
    };
    assert_eq!(
        (listener.port, half_open, syns, alarm.adapter),
        (443, 50, 50, 7)
    );
    assert_eq!(table.take_alarm(), None, "told once in a window");
    let later = START + u64::from(config.alarm.window) * SECOND;
    track(&mut table, &segment((99, 5), (2, 443), SYN, 1, 0, 0), later).unwrap();
    assert_eq!(table.take_alarm().unwrap().sequence, 2);
    assert_eq!(table.stats().alarms, 2);
}

#[test]
fn a_source_that_tries_many_ports_gives_alarm_and_many_clients_of_one_do_not() {
    let mut table = table(4096, Config::default());
    for port in 1..=200 {
        track(
            &mut table,
            &segment((1, 40_000), (2, port), SYN, 1, 0, 0),
            START,
        )
        .unwrap();
        track(
            &mut table,
            &segment((77, 1024 + port), (2, 80), SYN, 1, 0, 0),
            START,
        )
        .unwrap();
    }
    let alarm = table.take_alarm().unwrap();
    let Cause::PortScan {
        source,
        ports,
        target,
    } = alarm.cause
    else {
        panic!("{alarm:?}");
    };
    assert_eq!(source, Ipv4Addr::from(1));
    assert_eq!(ports, 100);
    assert!(target.port <= 120, "{target:?}");
    assert_eq!(table.take_alarm(), None);
}

#[test]
fn alarms_that_nobody_takes_are_counted() {
    let mut config = Config::default();
    config.alarm.half_open = 1;
    let mut table = table(256, config);
    for listener in 0..100 {
        track(
            &mut table,
            &segment((1, 5), (1000 + listener, 80), SYN, 1, 0, 0),
            START,
        )
        .unwrap();
    }
    let taken: Vec<_> = std::iter::from_fn(|| table.take_alarm()).collect();
    let stats = table.stats();
    assert_eq!(stats.alarms, 100);
    assert_eq!(stats.alarms_lost + taken.len() as u64, 100);
    assert_eq!(taken.last().unwrap().sequence, 100);
}

#[derive(Clone, Debug)]
enum Step {
    Udp(u32, u16, bool),
    Tcp {
        port: u16,
        from_a: bool,
        flags: u8,
        seq: u32,
        ack: u32,
        len: usize,
    },
    Bytes(Vec<u8>),
    Wait(u64),
    Tick(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = prop_oneof![0u32..4000, any::<u32>()];
    let flags = prop_oneof![
        Just(SYN),
        Just(SYN | ACK),
        Just(ACK),
        Just(FIN | ACK),
        Just(RST),
        any::<u8>()
    ];
    let tcp = (
        0u16..12,
        any::<bool>(),
        flags,
        number.clone(),
        number,
        0usize..4,
    )
        .prop_map(|(port, from_a, flags, seq, ack, len)| Step::Tcp {
            port,
            from_a,
            flags,
            seq,
            ack,
            len,
        });
    let step = prop_oneof![
        6 => tcp,
        3 => (0u32..6, 0u16..4, any::<bool>()).prop_map(|(a, p, d)| Step::Udp(a, p, d)),
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(Step::Bytes),
        2 => (0u64..200_000).prop_map(Step::Wait),
        1 => (0u64..400 * SECOND).prop_map(Step::Wait),
        1 => (0u64..90 * SECOND).prop_map(Step::Tick),
    ];
    prop::collection::vec(step, 1..300)
}

fn run(table: &mut Memory, steps: &[Step], each: bool) -> Vec<Option<Tracked>> {
    let mut time = START;
    let mut all = Vec::new();
    for step in steps {
        let frame = match step {
            Step::Wait(span) => {
                time += span;
                continue;
            }
            Step::Tick(span) => {
                time += span;
                table.tick(time);
                continue;
            }
            Step::Udp(address, port, true) => udp((*address, *port), (50, 53)),
            Step::Udp(address, port, false) => udp((50, 53), (*address, *port)),
            Step::Tcp {
                port,
                from_a,
                flags,
                seq,
                ack,
                len,
            } => {
                let (a, b) = ((1, *port), (2, 80));
                let (from, to) = if *from_a { (a, b) } else { (b, a) };
                segment(from, to, *flags, *seq, *ack, *len)
            }
            Step::Bytes(bytes) => bytes.clone(),
        };
        let tracked = track(table, &frame, time);
        if let Some(tracked) = tracked {
            let flow = table.get(tracked.slot).expect("a tracked flow is there");
            assert_eq!(flow.id, tracked.flow);
            assert!(flow.last_100ns <= time && flow.first_100ns <= flow.last_100ns);
        }
        if each {
            check(table);
        }
        all.push(tracked);
    }
    all
}

proptest! {
    /// Whatever comes, in tables of any size: the balance is closed, each flow is
    /// listed once, and is found again by its own frames.
    #[test]
    fn nothing_breaks_the_table(slots in 1usize..20, seed: u64, steps in steps()) {
        let mut table = table(slots, Config { seed, ..Config::default() });
        run(&mut table, &steps, true);
        let ids: std::collections::BTreeSet<_> = flows(&table).iter().map(|(_, f)| f.id).collect();
        prop_assert_eq!(ids.len(), table.stats().active as usize);
        prop_assert!(ids.iter().all(|id| *id >= 1 && *id <= table.stats().created));
        // All of them go, and their slots can all be used again.
        let end = START + 400 * 300 * SECOND;
        table.tick(end);
        for second in 0..70 {
            table.tick(end + 50_000 * SECOND * second);
        }
        prop_assert_eq!(table.stats().active, 0);
        prop_assert_eq!(table.stats().half_open, 0);
        let end = end + 50_000 * SECOND * 70;
        for port in 0..slots as u16 {
            track(&mut table, &udp((9, port), (8, 7)), end).unwrap();
        }
        prop_assert_eq!(table.stats().active as usize, slots);
        check(&table);
    }

    /// The hash's seed shows nowhere.
    #[test]
    fn the_seed_changes_nothing(one: u64, other: u64, steps in steps()) {
        let mut a = table(64, Config { seed: one, ..Config::default() });
        let mut b = table(64, Config { seed: other, ..Config::default() });
        prop_assert_eq!(run(&mut a, &steps, false), run(&mut b, &steps, false));
        prop_assert_eq!(flows(&a), flows(&b));
        prop_assert_eq!(a.stats(), b.stats());
    }
}
