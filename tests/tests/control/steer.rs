//! Rules, writes, flows and alarms: the driver's own source from the IOCTL or the
//! write to what it hands on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use weir_abi::limits::{MAX_OUTSTANDING, MAX_WRITE_LEN, MAX_WRITERS};
use weir_abi::record::FrameMeta;
use weir_abi::{
    AlarmListReply, FlowListReply, FlowStatsReply, OpenDivertReply, OpenDivertRequest,
    OpenInjectReply, RecordFlags, RuleHits, RulesLoadReply, RulesLoadRequest, RulesReadReply,
    RulesStatsReply,
};
use weir_engine::Meta;
use weir_engine::rule::format::{self, Insn, ProgramHeader, RuleEntry};
use weir_engine::rule::{Action, View};
use zerocopy::{FromZeros, IntoBytes};

use super::*;

/// `ret #-1`: every frame matches.
const EVERY_FRAME: Insn = Insn {
    code: 6,
    jt: 0,
    jf: 0,
    reserved: 0,
    k: u32::MAX,
};

/// A program of rules that match every frame, each with its action.
fn program(actions: &[u32], default_action: u32) -> Vec<u8> {
    let count = actions.len() as u32;
    let names: Vec<String> = (0..count).map(|n| format!("rule{n}")).collect();
    let text = names.concat();
    let size = size_of::<ProgramHeader>()
        + actions.len() * (size_of::<RuleEntry>() + size_of::<Insn>())
        + text.len();
    let header = ProgramHeader {
        magic: format::MAGIC,
        version: format::VERSION,
        size: size as u32,
        default_action,
        rule_count: count,
        tuple_count: 0,
        insn_count: count,
        text_len: text.len() as u32,
    };
    let mut bytes = header.as_bytes().to_vec();
    let mut name_start = 0;
    for ((index, action), name) in (0..).zip(actions).zip(&names) {
        let entry = RuleEntry {
            action: *action,
            directions: format::DIRECTION_IN | format::DIRECTION_OUT,
            insn_start: index,
            insn_count: 1,
            name_start,
            name_len: name.len() as u32,
            line: index + 1,
            ..RuleEntry::new_zeroed()
        };
        name_start += entry.name_len;
        bytes.extend_from_slice(entry.as_bytes());
    }
    for _ in actions {
        bytes.extend_from_slice(EVERY_FRAME.as_bytes());
    }
    bytes.extend_from_slice(text.as_bytes());
    assert_eq!(bytes.len(), size);
    bytes
}

fn load(file: &UserFile, program: &[u8]) -> Result<RulesLoadReply, NtStatus> {
    let request = RulesLoadRequest::new(program.len() as u32).expect("short enough");
    let input = [request.as_bytes(), program].concat();
    let code = Ioctl::RulesLoad.code();
    let (status, bytes) = call(file, code, &input, size_of::<RulesLoadReply>());
    if status != NtStatus::SUCCESS {
        assert!(bytes.is_empty());
        return Err(status);
    }
    Ok(RulesLoadReply::read_from_bytes(&bytes).expect("a reply"))
}

fn read_back(file: &UserFile, generation: u64) -> Vec<u8> {
    let mut program = Vec::new();
    loop {
        let request = RulesReadRequest::new(generation, program.len() as u32);
        let (reply, rest): (RulesReadReply, _) = ask(file, &request, 100);
        assert_eq!(reply.count as usize, rest.len());
        program.extend_from_slice(&rest);
        if program.len() == reply.total as usize {
            return program;
        }
        assert_ne!(rest.len(), 0);
    }
}

/// What the data path does with a frame of `len` bytes.
fn decide(len: u32) -> Option<Action> {
    let bytes = vec![0; len as usize];
    ntoskrnl::at_dispatch(|| {
        let rules = rules::current()?;
        let view = View::contiguous(&bytes, len);
        let decision = rules
            .rules()
            .decide(&view, Some(Direction::In), |rule| rules.hit(rule, len));
        rules.decided(&decision, len);
        Some(decision.action)
    })
}

const PASS: u32 = format::ACTION_PASS;
const DROP: u32 = format::ACTION_DROP;
const COUNT: u32 = format::ACTION_COUNT;

#[test]
fn rules_are_loaded_read_counted_and_cleared() {
    let driver = Loaded::new();
    let file = UserFile::open();
    assert_eq!(decide(60), None);
    let bytes = program(&[COUNT, DROP, PASS], PASS);
    let loaded = load(&file, &bytes).expect("good rules");
    assert_eq!((loaded.rules, loaded.insns, loaded.tuples), (3, 3, 0));
    assert_eq!(loaded.program_len as usize, bytes.len());
    assert_eq!(read_back(&file, loaded.generation), bytes);
    for len in [60, 100] {
        assert_eq!(decide(len), Some(Action::Drop));
    }
    let (stats, rest): (RulesStatsReply, _) = ask(&file, &RulesStatsRequest::new(0, 0), 32);
    assert_eq!((stats.total, stats.count), (3, 2), "what fits");
    assert_eq!((stats.seen.frames, stats.seen.bytes), (2, 160));
    assert_eq!(stats.default.frames, 0);
    let hits = <[RuleHits; 2]>::read_from_bytes(&rest).expect("two rules");
    assert_eq!(hits.map(|h| (h.frames, h.bytes)), [(2, 160), (2, 160)]);
    let (stats, rest): (RulesStatsReply, _) = ask(&file, &RulesStatsRequest::new(0, 2), 32);
    assert_eq!((stats.count, rest), (1, vec![0; 16]));
    let (status, _): (StatusReply, _) = ask(
        &file,
        &StatusRequest {
            header: RequestHeader::of::<StatusRequest>(),
        },
        0,
    );
    assert_eq!(status.rules, 3);
    assert_eq!(status.rules_generation, loaded.generation);
    assert_eq!(status.rules_memory, loaded.memory);

    let next = load(&file, &program(&[], DROP)).expect("no rules but a default");
    assert_eq!(next.generation, loaded.generation + 1);
    assert_eq!(decide(60), Some(Action::Drop));
    let retry = NtStatus(weir_abi::status::RETRY);
    let old = RulesReadRequest::new(loaded.generation, 0);
    assert_eq!(refused(&file, &old), retry);
    let old = RulesStatsRequest::new(loaded.generation, 0);
    assert_eq!(refused(&file, &old), retry);

    let cleared = load(&file, &[]).expect("nothing");
    assert_eq!(cleared.generation, next.generation + 1);
    assert_eq!(decide(60), None);
    assert!(read_back(&file, cleared.generation).is_empty());
    let beyond = RulesReadRequest::new(0, 1);
    let p2 = NtStatus(weir_abi::status::INVALID_PARAMETER_2);
    assert_eq!(refused(&file, &beyond), p2);
    driver.unload();
}

#[test]
fn a_load_that_fails_leaves_the_rules_in_force() {
    let driver = Loaded::new();
    let file = UserFile::open();
    let good = program(&[DROP], PASS);
    let loaded = load(&file, &good).expect("good rules");
    let none = NtStatus(weir_abi::status::INVALID_IMAGE_FORMAT);
    let mut checked = 0;
    // Each byte of header, rule and code changed: refused, or another program
    // as sound, never a fault. Names and the like may be others.
    for at in 0..good.len() {
        for change in [1, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= change;
            if load(&file, &bad).is_err() {
                checked += 1;
            } else {
                load(&file, &good).expect("the good ones again");
            }
            assert!(decide(60).is_some());
        }
    }
    assert!(checked > 150, "{checked} refused");
    for len in 1..good.len() {
        assert_eq!(load(&file, &good[..len]).err(), Some(none), "cut at {len}");
    }
    let mut other = good.clone();
    other[4] = 2;
    let version = NtStatus(weir_abi::status::UNKNOWN_REVISION);
    assert_eq!(load(&file, &other).err(), Some(version));
    let mut many = good.clone();
    many[16..20].copy_from_slice(&(format::MAX_RULES + 1).to_le_bytes());
    let large = NtStatus(weir_abi::status::ALLOTTED_SPACE_EXCEEDED);
    assert_eq!(load(&file, &many).err(), Some(large));

    load(&file, &good).expect("the good ones again");
    let before = rules::current().expect("rules").version();
    assert!(before.generation > loaded.generation);
    let mut n = 0;
    loop {
        let live = ntoskrnl::live_allocations();
        ntoskrnl::fail_allocation(Some(n));
        let result = load(&file, &program(&[PASS], PASS));
        ntoskrnl::fail_allocation(None);
        if result.is_ok() {
            break;
        }
        assert_eq!(result.err(), Some(NtStatus::INSUFFICIENT_RESOURCES));
        assert_eq!(ntoskrnl::live_allocations(), live, "allocation {n}");
        assert_eq!(rules::current().expect("rules").version(), before);
        assert_eq!(decide(60), Some(Action::Drop));
        n += 1;
    }
    assert!(n >= 5, "only {n} allocations were seen");
    assert_eq!(decide(60), Some(Action::Pass));
    driver.unload();
}

/// Frames on three threads, two threads that load rules, one that clears them:
/// each frame is decided on by one set, whole.
#[test]
fn rules_are_swapped_while_frames_pass() {
    let driver = Loaded::new();
    let stop = AtomicBool::new(false);
    let (decided, loads) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // Both sets count in every rule before the one that drops.
                    if let Some(action) = decide(64) {
                        assert_eq!(action, Action::Drop);
                        decided.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let loaders: Vec<_> = [1, 40]
            .into_iter()
            .map(|rules| {
                let loads = &loads;
                threads.spawn(move || {
                    let file = UserFile::open();
                    let mut actions = vec![COUNT; rules];
                    actions.push(DROP);
                    let program = program(&actions, PASS);
                    let mut last = 0;
                    for _ in 0..300 {
                        match load(&file, &program) {
                            Ok(loaded) => {
                                assert!(loaded.generation > last);
                                last = loaded.generation;
                                loads.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(status) => assert_eq!(status, NtStatus::QUOTA_EXCEEDED),
                        }
                    }
                })
            })
            .collect();
        threads.spawn(|| {
            let file = UserFile::open();
            while !stop.load(Ordering::Relaxed) {
                load(&file, &[]).expect("clearing never fails");
                std::thread::yield_now();
            }
        });
        for loader in loaders {
            loader.join().expect("a loader");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(decided.load(Ordering::Relaxed) > 0);
    assert!(loads.load(Ordering::Relaxed) > 300);
    driver.unload();
}

/// A record of `len` bytes for adapter `adapter`.
fn record(adapter: u32, sequence: u64, len: u32) -> Vec<u8> {
    let meta = FrameMeta {
        flags: RecordFlags::DIVERTED,
        ..FrameMeta::new(len, adapter, 7, Direction::Out)
    };
    let record = meta.record(u32::MAX, sequence).expect("a size");
    let mut bytes = record.as_bytes().to_vec();
    bytes.resize(bytes.len() + len as usize, sequence as u8);
    bytes.resize(record.size as usize, 0);
    bytes
}

/// WriteFile: the status, and how many bytes were written.
fn write(file: &UserFile, bytes: &[u8]) -> (NtStatus, usize) {
    let write = UserCall::write(file, bytes);
    inject::dispatch(write.request(), bytes.len());
    let (outcome, _) = write.completed().expect("no write is ever pending");
    write.check_untouched();
    (outcome.status, outcome.len)
}

fn injected() -> Vec<(ndis::Injection, Vec<u8>)> {
    std::mem::take(&mut *ndis::INJECTED.lock().unwrap())
}

fn reader_stats(file: &UserFile) -> weir_abi::ReaderStats {
    let request = ReaderStatsRequest {
        header: RequestHeader::of::<ReaderStatsRequest>(),
    };
    let (reply, _): (ReaderStatsReply, _) = ask(file, &request, 0);
    reply.stats
}

#[test]
fn the_inject_role_writes_frames() {
    let driver = Loaded::new();
    injected();
    let file = UserFile::open();
    let state = NtStatus::INVALID_DEVICE_STATE;
    assert_eq!(write(&file, &record(3, 0, 60)), (state, 0), "no role yet");
    let (opened, _): (OpenInjectReply, _) = ask(&file, &OpenInjectRequest::new(None), 0);
    assert_eq!(opened.max_write, MAX_WRITE_LEN);
    let both = [record(3, 1, 60), record(3, 2, 14)].concat();
    assert_eq!(write(&file, &both), (NtStatus::SUCCESS, both.len()));
    let sent = injected();
    assert_eq!(sent.len(), 2);
    assert_eq!((sent[0].0.adapter, sent[0].0.len), (3, 60));
    assert_eq!(sent[0].0.direction, Direction::Out);
    assert!(!sent[0].0.checksum_offload);
    assert_eq!((&sent[0].1, &sent[1].1), (&vec![1; 60], &vec![2; 14]));

    // A write is checked whole before any of it is done.
    let mut bad = [record(3, 1, 60), record(3, 2, 60)].concat();
    let second = record(3, 1, 60).len();
    for (at, value, status) in [
        (second, 0, weir_abi::status::INVALID_USER_BUFFER),
        (second + 32, 2, weir_abi::status::INVALID_PARAMETER_7),
        (second + 33, 48, weir_abi::status::INVALID_USER_BUFFER),
        (second + 34, 1, weir_abi::status::INVALID_PARAMETER_9),
        (second + 8, 61, weir_abi::status::INVALID_PARAMETER_3),
        (second + 12, 0, weir_abi::status::NO_SUCH_DEVICE),
    ] {
        let good = std::mem::replace(&mut bad[at], value);
        assert_eq!(write(&file, &bad), (NtStatus(status), 0), "at {at}");
        bad[at] = good;
    }
    let long = vec![0; MAX_WRITE_LEN as usize + 1];
    let size = NtStatus(weir_abi::status::INVALID_BUFFER_SIZE);
    assert_eq!(write(&file, &long), (size, 0));
    assert_eq!(write(&file, &[]), (NtStatus::BUFFER_TOO_SMALL, 0));
    assert_eq!(injected().len(), 0);

    // What can't be handed on ends the write where it stands.
    let short = [record(3, 1, 60), record(5, 2, 60), record(3, 3, 60)].concat();
    assert_eq!(write(&file, &short), (NtStatus::SUCCESS, second));
    let ready = NtStatus::DEVICE_NOT_READY;
    assert_eq!(write(&file, &short[second..]), (ready, 0));
    let p3 = NtStatus(weir_abi::status::INVALID_PARAMETER_3);
    assert_eq!(write(&file, &record(3, 1, 3000)), (p3, 0));
    assert_eq!(write(&file, &record(4, 1, 60)).0, NtStatus::NO_SUCH_DEVICE);
    let memory = NtStatus::INSUFFICIENT_RESOURCES;
    assert_eq!(write(&file, &record(3, 1, 1600)), (memory, 0));
    let quota = NtStatus::QUOTA_EXCEEDED;
    assert_eq!(write(&file, &record(3, 1, 2100)), (quota, 0));
    ntoskrnl::fail_allocation(Some(0));
    assert_eq!(write(&file, &record(3, 1, 60)), (memory, 0));
    ntoskrnl::fail_allocation(None);
    assert_eq!(injected().len(), 1);
    let stats = reader_stats(&file);
    assert_eq!((stats.returned, stats.refused), (3, 15));

    close(&file);
    assert_eq!(write(&file, &both), (NtStatus::FILE_CLOSED, 0));
    let one = UserFile::open();
    let only = std::num::NonZeroU32::new(5);
    ask(&one, &OpenInjectRequest::new(only), 0);
    assert_eq!(write(&one, &record(3, 1, 60)).0, NtStatus::NO_SUCH_DEVICE);
    close(&one);
    driver.unload();
    assert_eq!(write(&one, &both), (NtStatus::DELETE_PENDING, 0));
}

#[test]
fn there_is_an_end_to_writers() {
    let driver = Loaded::new();
    let files: Vec<_> = (0..=MAX_WRITERS).map(|_| UserFile::open()).collect();
    for file in &files[1..] {
        ask(file, &OpenInjectRequest::new(None), 0);
    }
    let request = OpenInjectRequest::new(None);
    assert_eq!(refused(&files[0], &request), NtStatus::QUOTA_EXCEEDED);
    close(&files[1]);
    ask(&files[0], &request, 0);
    for file in &files {
        close(file);
    }
    assert_eq!(inject::count(), 0);
    driver.unload();
}

#[test]
fn diverted_frames_are_written_back() {
    let driver = Loaded::new();
    injected();
    let file = UserFile::open();
    let request = OpenDivertRequest::from(&weir_abi::DivertOptions {
        adapter: None,
        backlog: MIN_BACKLOG,
        flush_ms: 0,
    });
    let (opened, _): (OpenDivertReply, _) = ask(&file, &request, 0);
    assert_eq!(opened.max_outstanding, MAX_OUTSTANDING);
    let busy = UserFile::open();
    assert_eq!(refused(&busy, &request), NtStatus::SHARING_VIOLATION);
    let bytes = [1; 60];
    for _ in 0..4 {
        let frame = capture::Frame {
            adapter: 3,
            direction: Direction::In,
            timestamp_100ns: 1,
            len: 60,
            flags: RecordFlags::DIVERTED,
            rule: Some(0),
            logged: None,
            segment_size: 0,
            bytes: &Bytes(&bytes),
        };
        assert!(ntoskrnl::at_dispatch(|| capture::divert(&frame)));
    }
    let least = opened.min_read as usize;
    let read = UserCall::new(&file, least);
    capture::read(
        file.handle.reader().expect("a reader"),
        read.request(),
        least,
    );
    let (_, got) = read.completed().expect("four frames");
    let one = record(3, 0, 60).len();
    assert_eq!(got.len(), 4 * one);
    // What was read is written as it is; all but the last.
    assert_eq!(write(&file, &got[..one]), (NtStatus::SUCCESS, one));
    let missing = NtStatus::NOT_FOUND;
    assert_eq!(write(&file, &got[..one]), (missing, 0), "twice");
    // One that isn't there, behind one that is: neither is done.
    assert_eq!(
        write(&file, &[&got[one..2 * one], &got[..one]].concat()),
        (missing, 0)
    );
    let twice = [&got[one..2 * one], &got[one..2 * one]].concat();
    assert_eq!(write(&file, &twice), (missing, 0));
    // The second can't be handed on: it stays with the writer.
    let mut other = got[2 * one..3 * one].to_vec();
    other[12] = 5;
    let short = [&got[one..2 * one], &other[..]].concat();
    assert_eq!(write(&file, &short), (NtStatus::SUCCESS, one));
    assert_eq!(injected().len(), 2);
    let stats = reader_stats(&file);
    assert!(stats.is_divert_balanced(), "{stats:?}");
    assert_eq!(
        (stats.returned, stats.outstanding, stats.refused),
        (2, 2, 4)
    );
    assert_eq!(write(&file, &got[2 * one..3 * one]).0, NtStatus::SUCCESS);
    close(&file);
    driver.unload();
}

#[test]
fn flows_are_listed_from_slot_to_slot() {
    let driver = Loaded::new();
    let file = UserFile::open();
    assert_eq!(
        refused(&file, &FlowListRequest::new(3, 0)),
        NtStatus::NO_SUCH_DEVICE
    );
    let attached = flows::attach(3).expect("a table");
    for port in 0..100u16 {
        let frame = udp(port);
        let meta = Meta {
            adapter: 3,
            direction: Some(Direction::Out),
            time_100ns: kernel::time::system_time_100ns(),
            frame_len: frame.len() as u32,
        };
        let headers = weir_engine::wire::dissect(&frame, meta.frame_len);
        let tracked = ntoskrnl::at_dispatch(|| attached.track(&headers, &meta));
        assert!(tracked.expect("a flow").is_new);
    }
    let (mut ports, mut cursor) = (std::collections::BTreeSet::new(), 0);
    loop {
        let (list, rest): (FlowListReply, _) =
            ask(&file, &FlowListRequest::new(3, cursor), 7 * 160 + 159);
        assert_eq!((list.active, list.count as usize * 160), (100, rest.len()));
        for entry in rest.chunks(160) {
            let flow = weir_abi::FlowInfo::read_from_bytes(entry).expect("an entry");
            assert_eq!((flow.family, flow.protocol, flow.adapter), (4, 17, 3));
            assert_eq!((flow.frames, flow.responder_port), ([1, 0], 53));
            assert!(ports.insert(flow.initiator_port));
        }
        cursor = list.next;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(ports.len(), 100);
    let (stats, _): (FlowStatsReply, _) = ask(&file, &FlowStatsRequest::new(3), 0);
    assert_eq!((stats.stats.created, stats.stats.active), (100, 100));
    ntoskrnl::fire_timers();
    assert_eq!(ntoskrnl::timers_set(), [1000], "it sets itself again");
    let (alarms, _): (AlarmListReply, _) = ask(&file, &AlarmListRequest::new(0), 800);
    assert_eq!((alarms.count, alarms.more), (0, 0));
    drop(attached);
    assert_eq!(
        refused(&file, &FlowStatsRequest::new(3)),
        NtStatus::NO_SUCH_DEVICE
    );
    driver.unload();
}

/// A UDP datagram of 10.0.0.1 from `port` to 10.0.0.2, port 53.
fn udp(port: u16) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend_from_slice(&[8, 0]);
    frame.extend_from_slice(&[
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    frame.extend_from_slice(&port.to_be_bytes());
    frame.extend_from_slice(&[0, 53, 0, 8, 0, 0]);
    frame
}
