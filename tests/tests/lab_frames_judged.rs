//! Frames that the filter decides on: whose checksums are wrong, who is told what
//! became of them, lists of every shape taken apart, adapters that pause and go
//! meanwhile.

#[path = "lab_frames/stage.rs"]
#[allow(dead_code, reason = "shared with another test")]
mod stage;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stage::{
    BOTH, Captured, DIVERT, DROP, Dir, LOG, PASS, Stage, data, end, numbers, sorted, tcp, udp,
};
use weir_tests::lab::{ADAPTER, Accounts};

const RULES: &str = "\
rule all count any udp
rule drop drop any udp dst port 2003
rule divert divert any udp dst port 2004
rule log log any udp dst port 2005
default pass
";

/// `NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO`, received and to be sent.
mod told {
    pub(crate) const TCP_FAILED: u64 = 1;
    pub(crate) const UDP_FAILED: u64 = 1 << 1;
    pub(crate) const IP_FAILED: u64 = 1 << 2;
    pub(crate) const TCP_SUCCEEDED: u64 = 1 << 3;
    pub(crate) const UDP_SUCCEEDED: u64 = 1 << 4;
    pub(crate) const IP_SUCCEEDED: u64 = 1 << 5;
    pub(crate) const LOOPBACK: u64 = 1 << 6;
    pub(crate) const SEND_UDP: u64 = 1 | 1 << 3;
    pub(crate) const SEND_IP: u64 = 1 | 1 << 4;
}

/// A checksum that the adapter has judged, or is to compute, is its business; any
/// other is looked at. What is wrong is counted, told, and passed on.
#[test]
fn checksums_are_verified_where_no_adapter_has() {
    use told::*;
    let stage = Stage::new("judged-checksums");
    let file = stage.file("all.pcapng");
    let capture = stage.capture(&file);
    stage.watch(ADAPTER);
    let spoilt = |mut frame: Vec<u8>, at: usize| {
        frame[at] ^= 0x55;
        frame
    };
    let mut sent: BTreeMap<&str, Vec<(Vec<u8>, bool)>> = BTreeMap::new();
    let mut bad: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut number = 0;
    for direction in BOTH {
        let good = udp(direction, PASS, 0, 120);
        let bad_udp = spoilt(good.clone(), 60);
        let bad_ip = spoilt(good.clone(), 18);
        let good_tcp = tcp(direction, PASS, 1, b"all is well");
        let bad_tcp = spoilt(good_tcp.clone(), 60);
        // Which frame, what the adapter says, whether IP's and the transport's
        // checksum are then wrong.
        let received = [
            (&good, 0, false, false),
            (&bad_udp, 0, false, true),
            (&bad_ip, 0, true, false),
            (&good_tcp, 0, false, false),
            (&bad_tcp, 0, false, true),
            (&good, UDP_FAILED | IP_SUCCEEDED, false, true),
            (&good, IP_FAILED | UDP_SUCCEEDED, true, false),
            (&good_tcp, TCP_FAILED | IP_FAILED, true, true),
            (&bad_udp, UDP_SUCCEEDED | IP_SUCCEEDED, false, false),
            (&bad_tcp, TCP_SUCCEEDED, false, false),
            (&bad_ip, IP_SUCCEEDED, false, false),
            // Of the other transport: says nothing.
            (&bad_udp, TCP_SUCCEEDED | IP_SUCCEEDED, false, true),
            (&bad_udp, LOOPBACK, false, false),
        ];
        let to_send = [
            (&good, 0, false, false),
            (&bad_udp, 0, false, true),
            (&bad_ip, 0, true, false),
            (&bad_tcp, 0, false, true),
            (&bad_udp, SEND_UDP, false, false),
            (&bad_ip, SEND_IP, false, false),
            (&bad_udp, SEND_IP, false, true),
            (&bad_tcp, SEND_UDP, false, true),
        ];
        let cases: &[_] = match direction {
            Dir::Up => &received,
            Dir::Down => &to_send,
        };
        for &(frame, told, network, transport) in cases {
            number += 1;
            let mut frame = frame.clone();
            // Told apart by an address that no checksum here covers.
            frame[5] = number;
            let info = json!({"0": told, "2": 0, "22": 0});
            stage.offer(ADAPTER, direction, &[frame.clone()], &info, false);
            let counts = bad.entry(direction.weir()).or_default();
            counts.0 += u64::from(network);
            counts.1 += u64::from(transport);
            let frames = sent.entry(direction.weir()).or_default();
            frames.push((frame, network || transport));
        }
    }
    let captured = stage.end_capture(capture, &file);
    for direction in BOTH {
        let sent = &sent[direction.weir()];
        let of: Vec<&Captured> = captured
            .iter()
            .filter(|c| c.direction == direction)
            .collect();
        assert_eq!(of.len(), sent.len());
        for (captured, (frame, is_bad)) in of.into_iter().zip(sent) {
            assert!(captured.data == *frame);
            let said = if *is_bad { "bad checksum" } else { "" };
            assert_eq!(captured.comment, said, "{direction:?}, frame {}", frame[5]);
        }
        let stats = stage.stats(ADAPTER, direction);
        let count = |name: &str| stats["protocols"][name].as_u64().expect("a number");
        let counted = (
            count("bad_network_checksum"),
            count("bad_transport_checksum"),
        );
        assert_eq!(counted, bad[direction.weir()], "{stats}");
        let out = stage.came_out(ADAPTER, direction);
        assert!(
            out.iter().eq(sent.iter().map(|(frame, _)| frame)),
            "all pass"
        );
    }
    stage.fixture.unload();
}

/// Numbered frames in runs of one direction, ports at random.
fn traffic(seed: u64, count: u32, ports: &[u16]) -> Vec<(Dir, u16, Vec<u8>)> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize
    };
    (0..count)
        .map(|number| {
            let direction = BOTH[(number / 60 % 2) as usize];
            let port = ports[next() % ports.len()];
            let len = 46 + next() % 1400;
            (direction, port, udp(direction, port, number, len))
        })
        .collect()
}

/// What is remarked of a frame to this port, when somebody diverts.
fn remark(port: u16) -> &'static str {
    match port {
        DROP => "dropped",
        DIVERT => "diverted",
        _ => "",
    }
}

/// Several lists a call, several buffers a list, several MDLs a buffer, in both
/// directions: what passes keeps its order, what is diverted comes back, each
/// reader is told of each frame once, every account closes.
#[test]
fn chains_of_every_shape_are_taken_apart() {
    let stage = Stage::new("judged-chains");
    stage.rules(RULES);
    for seed in 1..=4_u64 {
        let adapter = format!("lab{seed}");
        stage.add(
            &adapter,
            json!({
                "seed": seed, "max_chain": 12, "max_nbs": 7, "max_receive_nbs": 7,
                "split_percent": 70, "resources_percent": 40, "checksum_percent": 50,
                "send_fail_percent": if seed == 3 { 10 } else { 0 },
            }),
        );
        let file = stage.file("all.pcapng");
        let capture = stage.capture(&file);
        let divert = stage.divert();
        stage.watch(&adapter);
        let frames = traffic(seed, 2400, &[PASS, PASS, DROP, DIVERT, LOG]);
        let plain: Vec<Vec<u8>> = frames.iter().map(|f| f.2.clone()).collect();
        stage.replay(&adapter, &plain, 1);
        let those = |direction: Dir, keep: &dyn Fn(u16) -> bool| -> Vec<Vec<u8>> {
            let kept = frames.iter().filter(|f| f.0 == direction && keep(f.1));
            kept.map(|f| f.2.clone()).collect()
        };
        for direction in BOTH {
            let diverted = those(direction, &|port| port == DIVERT).len() as u64;
            stage.until(&adapter, direction, "/injected", diverted);
        }
        let said = end(divert);
        Accounts::reader(&said);
        assert_eq!(said["reader"]["unreturned"], 0, "{said}");
        let captured = stage.end_capture(capture, &file);
        for direction in BOTH {
            let came = stage.came_out(&adapter, direction);
            let passed = those(direction, &|port| remark(port).is_empty());
            let diverted = those(direction, &|port| port == DIVERT);
            let is_diverted = |f: &&Vec<u8>| f[36..38] == DIVERT.to_be_bytes();
            let (back, went): (Vec<_>, Vec<_>) = came.iter().partition(is_diverted);
            let went: Vec<Vec<u8>> = went.into_iter().cloned().collect();
            assert_eq!(
                numbers(&went),
                numbers(&passed),
                "seed {seed}, {direction:?}"
            );
            assert!(went == passed, "seed {seed}: bytes were changed");
            let back: Vec<Vec<u8>> = back.into_iter().cloned().collect();
            assert!(sorted(back) == sorted(diverted.clone()), "seed {seed}");
            // Each frame once, in order, with what became of it.
            let told: Vec<(&str, &Vec<u8>)> = captured
                .iter()
                .filter(|c| c.direction == direction && c.comment != "injected")
                .map(|c| (c.comment.as_str(), &c.data))
                .collect();
            let wanted: Vec<(&str, &Vec<u8>)> = frames
                .iter()
                .filter(|f| f.0 == direction)
                .map(|f| (remark(f.1), &f.2))
                .collect();
            assert!(told == wanted, "seed {seed}, {direction:?}: told otherwise");
            let injected = data(&captured, direction, "injected");
            assert!(sorted(injected) == sorted(diverted), "seed {seed}");
            let side = stage.side(&adapter, direction);
            assert_eq!(side["reordered"], 0, "{side}");
            let stats = stage.stats(&adapter, direction);
            assert_eq!(stats["balance"]["lost"], 0, "{stats}");
            assert_eq!(stats["in_flight"], 0, "{stats}");
        }
        stage.fixture.accounts();
        stage.remove(&adapter);
    }
    stage.fixture.unload();
}

fn fault(point: &str, nth: u64) -> Value {
    let fault = json!({"point": point, "nth": nth, "status": 0});
    json!({"cmd": "faults", "points": [fault]})
}

/// How many frames, which of them is dropped, which call fails: how many are lost,
/// and which if it is only one.
type Loss<'a> = (u32, Option<u32>, Option<(&'a str, u64)>, u64, Option<u32>);

/// Without memory for a part, readers are told that its frames are lost, and the
/// counters say the same; also of lists so long that readers can't be told of
/// all their frames at once.
#[test]
fn what_is_lost_is_told_as_lost() {
    const LOST: &str = "lost: no memory";
    const LIST: &str = "ndis.NdisAllocateNetBufferList";
    const BUFFER: &str = "ndis.NdisAllocateNetBuffer";
    let stage = Stage::new("judged-lost");
    stage.rules(RULES);
    let cases: &[Loss<'_>] = &[
        (10, Some(4), None, 0, None),
        (10, Some(4), Some((LIST, 1)), 9, None),
        // A frame before the first that is dropped: it is begun with it.
        (10, Some(4), Some((BUFFER, 2)), 9, None),
        (10, Some(4), Some((BUFFER, 6)), 1, Some(6)),
        (10, Some(0), Some((LIST, 1)), 9, None),
        (2, Some(0), Some((BUFFER, 1)), 1, Some(1)),
        (1, Some(0), Some((LIST, 1)), 0, None),
        // Longer than what is told at once.
        (150, None, None, 0, None),
        (150, Some(140), None, 0, None),
        (150, Some(0), None, 0, None),
        (150, None, Some((LIST, 1)), 150, None),
        (150, Some(100), Some((LIST, 1)), 149, None),
        (150, None, Some((BUFFER, 71)), 1, Some(70)),
        (150, Some(20), Some((BUFFER, 100)), 1, Some(100)),
    ];
    let faults = |on: Value| stage.fixture.ask(&on);
    for (index, &(count, dropped, failing, lost, which)) in cases.iter().enumerate() {
        for direction in BOTH {
            let file = stage.file("all.pcapng");
            let capture = stage.capture(&file);
            let before = stage.stats(ADAPTER, direction);
            stage.watch(ADAPTER);
            let frames: Vec<Vec<u8>> = (0..count)
                .map(|n| {
                    let port = if dropped == Some(n) { DROP } else { PASS };
                    udp(direction, port, n, 100)
                })
                .collect();
            if let Some((point, nth)) = failing {
                faults(fault(point, nth));
            }
            stage.offer(ADAPTER, direction, &frames, &json!({}), true);
            faults(json!({"cmd": "faults", "points": []}));
            let captured = stage.end_capture(capture, &file);
            let case = format!("case {index}, {direction:?}");
            let told: Vec<&Vec<u8>> = captured.iter().map(|c| &c.data).collect();
            assert!(told.into_iter().eq(&frames), "{case}: each once, in order");
            let gone = data(&captured, direction, LOST);
            assert_eq!(gone.len() as u64, lost, "{case}");
            if let Some(which) = which {
                assert_eq!(numbers(&gone), [which], "{case}");
            }
            let out = stage.came_out(ADAPTER, direction);
            assert!(out == data(&captured, direction, ""), "{case}: what passed");
            let after = stage.stats(ADAPTER, direction);
            let grew = |name: &str| {
                let of = |stats: &Value| stats["balance"][name].as_u64().expect("a number");
                of(&after) - of(&before)
            };
            let drops = u64::from(dropped.is_some());
            assert_eq!(grew("lost_resources"), lost, "{case}");
            assert_eq!(grew("dropped"), drops, "{case}");
            assert_eq!(grew("passed"), u64::from(count) - drops - lost, "{case}");
            assert_eq!(grew("lost"), lost, "{case}");
        }
    }
    let accounts = stage.fixture.accounts();
    accounts.rules_saw_every_frame();
    stage.fixture.unload();
}

/// Frames that come while the module pauses are refused, and counted as that; no
/// rule was asked about them.
#[test]
fn frames_refused_by_a_pause_are_counted() {
    let stage = Stage::new("judged-paused");
    stage.rules(RULES);
    stage.add(
        "lab1",
        json!({
            "seed": 9, "max_nbs": 6, "max_receive_nbs": 6, "max_chain": 10,
            "offer_while_pausing": true, "inflight_at_pause": true, "delay_us_max": 3000,
        }),
    );
    let frames = traffic(9, 1200, &[PASS, DROP, DIVERT, LOG]);
    let plain: Vec<Vec<u8>> = frames.into_iter().map(|f| f.2).collect();
    stage.replay("lab1", &plain, 0);
    let mut rounds = 0;
    let lost = |direction: Dir| {
        let stats = stage.stats("lab1", direction);
        stats["balance"]["lost_paused"].as_u64().expect("a number")
    };
    while lost(Dir::Down) == 0 || lost(Dir::Up) == 0 {
        rounds += 1;
        assert!(rounds < 100, "no frame meets a pause");
        for _ in 0..4 {
            stage
                .fixture
                .ask(&json!({"cmd": "restart", "adapter": "lab1"}));
        }
    }
    stage
        .fixture
        .ask(&json!({"cmd": "replay_stop", "adapter": "lab1"}));
    for direction in BOTH {
        stage.until("lab1", direction, "/in_flight", 0);
    }
    let accounts = stage.fixture.accounts();
    assert!(accounts.unasked > 0);
    accounts.rules_saw_every_frame();
    // NDIS_STATUS_PAUSED, and nothing else: no send was lost otherwise.
    let side = stage.side("lab1", Dir::Down);
    let paused = side["drop_statuses"]["0xC023002A"].as_u64();
    assert!(paused.is_some_and(|n| n > 0), "{side}");
    stage.fixture.unload();
}

/// Adapters pause, go and come while frames of theirs are diverted, given back and
/// injected; then the driver goes.
#[test]
fn adapters_go_while_frames_are_diverted_and_injected() {
    let stage = Stage::new("judged-gone");
    stage.rules(RULES);
    let file = stage.file("all.pcapng");
    let capture = stage.capture(&file);
    for round in 0..3_u64 {
        let adapter = format!("gone{round}");
        stage.add(
            &adapter,
            json!({
                "seed": round, "max_nbs": 6, "max_receive_nbs": 6, "max_chain": 10,
                "delay_us_max": 20_000, "inline_percent": 20,
            }),
        );
        let frames = traffic(round, 1200, &[PASS, DROP, DIVERT, DIVERT]);
        let plain: Vec<Vec<u8>> = frames.into_iter().map(|f| f.2).collect();
        let divert = stage.divert();
        stage.replay(&adapter, &plain, 0);
        let written = weir_lab_harness::windows_path(&stage.file("stage.pcap"));
        let inject = ["inject", "-i", &adapter, "--direction", "out", &written];
        let injectors = [(); 2].map(|()| stage.spawn(&inject));
        for _ in 0..4 {
            stage
                .fixture
                .ask(&json!({"cmd": "restart", "adapter": adapter}));
        }
        stage.remove(&adapter);
        // They may have ended with an error: the adapter paused, or went.
        for mut child in injectors.into_iter().chain([divert]) {
            let _ended = child.kill();
            let _status = child.wait();
        }
        stage.fixture.until("diverters", 0);
    }
    let said = end(capture);
    Accounts::reader(&said);
    stage.fixture.unload();
}
