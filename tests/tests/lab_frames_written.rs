//! Frames from user mode: seen by who captures, tagged as the adapter has it, cut
//! as the adapter would, bounded in number, and refused when memory is short.

#[path = "lab_frames/stage.rs"]
#[allow(dead_code, reason = "shared with another test")]
mod stage;

use std::time::Duration;

use serde_json::json;
use stage::{
    BOTH, DIVERT, DROP, Dir, PASS, Stage, covered, data, end, sorted, sum, tagged, tcp, udp,
};
use weir_tests::lab::ADAPTER;

const RULES: &str = "\
rule drop drop any tcp dst port 2003 or udp dst port 2003
rule divert divert any tcp dst port 2004 or udp dst port 2004
rule tagged divert any vlan and udp dst port 2004
default pass
";

/// Priority 1, VLAN 100: as a tag on the wire, and beside the frame.
const TCI: u16 = 0x2064;
const BESIDE: u64 = 0x641;

/// What is injected is captured as it is on the wire, is in no balance and no
/// flow, and its tag is where the adapter wants it.
#[test]
fn what_is_injected_is_seen_and_tagged_as_the_adapter_has_it() {
    let stage = Stage::new("written-seen");
    stage.rules(RULES);
    stage.add("lab1", json!({"seed": 1, "takes_tags": true}));
    let file = stage.file("all.pcapng");
    let capture = stage.capture(&file);
    for direction in BOTH {
        let plain = udp(direction, DIVERT, 1, 200);
        let mut wrong = udp(direction, DROP, 2, 300);
        wrong[60] ^= 0xff;
        let with_tag = tagged(&plain, 0x8100, TCI);
        let frames = [
            plain.clone(),
            with_tag.clone(),
            // Nothing of it would be left beside the frame.
            tagged(&plain, 0x8100, 0),
            // Of another kind than what is beside frames.
            tagged(&with_tag, 0x88a8, 7),
            // It would end before its type.
            with_tag[..16].to_vec(),
            wrong.clone(),
        ];
        for adapter in [ADAPTER, "lab1"] {
            stage.watch(adapter);
            assert_eq!(
                stage.inject(adapter, direction, &frames),
                (0, String::new())
            );
            let mut wanted = frames.to_vec();
            let mut tags = 0;
            if adapter == "lab1" {
                wanted[1] = plain.clone();
                tags = 1;
            }
            assert_eq!(stage.came_out(adapter, direction), wanted, "{adapter}");
            let beside = stage.beside(adapter, direction);
            let with = beside.get(&format!("tag {BESIDE:#x}")).copied();
            assert_eq!(with.unwrap_or(0), tags, "{adapter}: {beside:?}");
            assert_eq!(beside["tag 0x0"], 6 - tags, "{adapter}: {beside:?}");
            // Upwards the type is told as an adapter tells it; of a tagged frame
            // that is the tag's, or the packet's if the tag is beside it.
            let kinds = |kind: &str| beside.get(kind).copied().unwrap_or(0);
            let packets = if direction == Dir::Up { 2 + tags } else { 0 };
            assert_eq!(kinds("type 0x8"), packets, "{adapter}: {beside:?}");
            let stats = stage.stats(adapter, direction);
            assert_eq!(
                (&stats["injected"], &stats["inject_failed"]),
                (&json!(6), &json!(0))
            );
            assert_eq!(stats["balance"]["seen"], 0, "{stats}");
        }
    }
    let captured = stage.end_capture(capture, &file);
    assert_eq!(captured.len(), 24);
    for direction in BOTH {
        let well = data(&captured, direction, "injected");
        let plain = udp(direction, DIVERT, 1, 200);
        let with_tag = tagged(&plain, 0x8100, TCI);
        let twice = |frame: &Vec<u8>| well.iter().filter(|f| *f == frame).count() == 2;
        assert_eq!(well.len(), 10);
        assert!(twice(&plain) && twice(&with_tag), "as on the wire");
        assert_eq!(
            data(&captured, direction, "injected, bad checksum").len(),
            2
        );
    }
    let flows = stage.fixture.json(&["flows"]);
    assert_eq!(flows["flows"], json!([]), "{flows}");
    stage.fixture.unload();
}

/// The MTU is that of packets: each tag makes the frame 4 bytes longer.
#[test]
fn a_frame_is_as_long_as_the_adapter_sends() {
    let stage = Stage::new("written-mtu");
    stage.add("lab1", json!({"seed": 1, "takes_tags": true}));
    // The packet above says what it has; the filter looks at the frame.
    let long = |len: usize, tags: usize| {
        let frame = udp(Dir::Down, PASS, 1, len - 4 * tags);
        (0..tags).fold(frame, |frame, _| tagged(&frame, 0x8100, TCI))
    };
    for (len, tags, fits) in [
        (1514, 0, true),
        (1515, 0, false),
        (1518, 0, false),
        (1518, 1, true),
        (1519, 1, false),
        (1522, 2, true),
        (1523, 2, false),
    ] {
        let injected = || stage.stats("lab1", Dir::Down)["injected"].as_u64();
        let before = injected().expect("a number");
        // What is too long is skipped by who replays a file.
        let (code, said) = stage.inject("lab1", Dir::Down, &[long(len, tags)]);
        assert_eq!(code, 0, "{len} bytes, {tags} tags: {said}");
        let wanted = before + u64::from(fits);
        assert_eq!(injected(), Some(wanted), "{len} bytes, {tags} tags");
    }
    // Upwards there is no such end: an adapter may have put segments together.
    let (code, said) = stage.inject("lab1", Dir::Up, &[udp(Dir::Up, PASS, 1, 9000)]);
    assert_eq!(code, 0, "{said}");
    stage.fixture.unload();
}

/// An adapter that keeps what it is to send: writes end with a status before
/// they have taken all memory, and go on when it has sent.
#[test]
fn frames_under_way_have_an_end() {
    let stage = Stage::new("written-budget");
    let slow = json!({"seed": 1, "inline_percent": 0, "delay_us_max": 4_000_000});
    stage.add("lab1", slow);
    let many: Vec<Vec<u8>> = (0..9000).map(|n| udp(Dir::Down, PASS, n, 1514)).collect();
    let (code, said) = stage.inject("lab1", Dir::Down, &many);
    assert_ne!(code, 0, "8 MiB are a limit");
    assert!(said.contains("QUOTA_EXCEEDED"), "{said}");
    let stats = stage.stats("lab1", Dir::Down);
    let injected = stats["injected"].as_u64().expect("a number");
    let least = 8 * 1024 * 1024 / (1514 + 1024);
    assert!((least..9000).contains(&injected), "{stats}");
    // What was written behind the one that failed was tried once more.
    assert_ne!(stats["inject_failed"], 0, "{stats}");
    // Another adapter has its own share.
    let (code, said) = stage.inject(ADAPTER, Dir::Down, &many[..500]);
    assert_eq!(code, 0, "{said}");
    std::thread::sleep(Duration::from_millis(4_500));
    let (code, said) = stage.inject("lab1", Dir::Down, &many[..500]);
    assert_eq!(code, 0, "{said}");
    // It pauses with 500 of them under way.
    stage.remove("lab1");
    stage.fixture.unload();
}

/// Each allocation on the way of a written frame fails once: the write says so,
/// nothing goes out, nobody is shown anything, nothing is left.
#[test]
fn without_memory_a_write_fails_and_nothing_is_shown() {
    let stage = Stage::new("written-faults");
    let file = stage.file("all.pcapng");
    let capture = stage.capture(&file);
    let frame = [udp(Dir::Down, PASS, 1, 100)];
    let (mut failed, mut sent) = (0, 0);
    stage.watch(ADAPTER);
    let mut attempt = |faults: serde_json::Value, must_fail: bool| {
        stage.fixture.ask(&faults);
        let (code, said) = stage.inject(ADAPTER, Dir::Down, &frame);
        stage.fixture.ask(&json!({"cmd": "faults", "points": []}));
        if code == 0 {
            sent += 1;
        } else {
            assert!(said.contains("INSUFFICIENT_RESOURCES"), "{said}");
            failed += 1;
        }
        assert!(code != 0 || !must_fail, "{faults}");
    };
    for point in [
        "ndis.NdisAllocateMdl",
        "ndis.NdisAllocateNetBufferAndNetBufferList",
    ] {
        let fault = json!({"point": point, "nth": 1, "status": 0});
        attempt(json!({"cmd": "faults", "points": [fault]}), true);
    }
    for nth in 1..=16 {
        attempt(
            json!({"cmd": "faults", "alloc": nth, "relative": true, "points": []}),
            false,
        );
    }
    attempt(json!({"cmd": "faults", "points": []}), false);
    assert!(
        failed >= 4,
        "{failed} failed: the copy and the frame are allocated"
    );
    assert!(sent >= 1);
    assert_eq!(stage.came_out(ADAPTER, Dir::Down).len(), sent);
    let stats = stage.stats(ADAPTER, Dir::Down);
    assert_eq!(stats["injected"], sent, "{stats}");
    // The copy of the write is none of the adapter's.
    let counted = stats["inject_failed"].as_u64().expect("a number");
    assert!((3..=failed).contains(&counted), "{stats}");
    let captured = stage.end_capture(capture, &file);
    assert_eq!(captured.len(), sent);
    stage.fixture.unload();
}

/// A frame that the adapter was to cut is diverted, comes back, and is cut here.
#[test]
fn large_sends_come_back_as_their_segments() {
    let stage = Stage::new("written-large");
    stage.rules(RULES);
    // Every list has its checksums, and what is too long its large send, left to
    // the adapter.
    stage.add(
        "lab1",
        json!({"seed": 3, "checksum_percent": 100, "max_nbs": 1}),
    );
    let file = stage.file("all.pcapng");
    let capture = stage.capture(&file);
    let divert = stage.divert();
    stage.watch("lab1");
    let mut seq = 1000;
    let mut stream = Vec::new();
    let (mut segments, mut offered, mut large) = (0, 0, 0);
    for index in 0..30_usize {
        let len = 1461 + index * 257;
        let payload: Vec<u8> = (0..len).map(|n| (n * 7 + index) as u8).collect();
        // Sent without its checksum, as a stack that has offload does.
        let mut frame = tcp(Dir::Down, DIVERT, seq, &payload);
        frame[50..52].copy_from_slice(&[0xbe, 0xef]);
        stage.offer("lab1", Dir::Down, &[frame], &json!({}), false);
        let mut dropped = tcp(Dir::Down, DROP, seq, &payload);
        dropped[50..52].copy_from_slice(&[0xbe, 0xef]);
        stage.offer("lab1", Dir::Down, &[dropped], &json!({}), false);
        seq += len as u32;
        stream.extend_from_slice(&payload);
        segments += len.div_ceil(1460) as u64;
        offered += 2;
        large += 1;
    }
    // What was written is counted, not what it was cut into.
    stage.until("lab1", Dir::Down, "/injected", large);
    let said = end(divert);
    weir_tests::lab::Accounts::reader(&said);
    assert_eq!(said["reader"]["returned"], large, "{said}");
    let out = stage.came_out("lab1", Dir::Down);
    assert_eq!(out.len() as u64, segments);
    let mut came = Vec::new();
    let mut next = 1000;
    for segment in &out {
        assert!(segment.len() <= 1514);
        assert_eq!(sum(&segment[14..34]), 0, "the header's checksum");
        assert_eq!(sum(&covered(segment)), 0, "the segment's checksum");
        let seq = u32::from_be_bytes(segment[38..42].try_into().expect("4 bytes"));
        assert_eq!(seq, next);
        let payload = &segment[54..];
        next = next.wrapping_add(payload.len() as u32);
        came.extend_from_slice(payload);
    }
    assert!(came == stream, "the stream differs");
    let captured = stage.end_capture(capture, &file);
    let shown = data(&captured, Dir::Down, "injected");
    assert!(shown == out, "what is shown is what went out");
    assert_eq!(data(&captured, Dir::Down, "diverted").len() as u64, large);
    assert_eq!(data(&captured, Dir::Down, "dropped").len() as u64, large);
    let stats = stage.stats("lab1", Dir::Down);
    assert_eq!(stats["balance"]["seen"], offered, "{stats}");

    // A segment in the middle for which there is no memory: none goes out.
    let divert = stage.divert();
    stage.watch("lab1");
    let fault = json!({"point": "ndis.NdisAllocateMdl", "nth": 3, "status": 0});
    stage
        .fixture
        .ask(&json!({"cmd": "faults", "points": [fault]}));
    let frame = tcp(Dir::Down, DIVERT, 1, &[0x11; 8000]);
    stage.offer("lab1", Dir::Down, &[frame], &json!({}), false);
    let out = divert.wait_with_output().expect("weirctl ends");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("INSUFFICIENT_RESOURCES"), "{said}");
    assert_eq!(stage.came_out("lab1", Dir::Down), Vec::<Vec<u8>>::new());
    let stats = stage.stats("lab1", Dir::Down);
    assert_eq!(stats["inject_failed"], 1, "{stats}");
    stage.fixture.until("diverters", 0);
    stage.fixture.unload();
}

/// What the adapter has put together of several datagrams is diverted, comes
/// back, and goes up as the datagrams it was: nobody beyond the filter could tell.
#[test]
fn datagrams_put_together_go_up_as_they_were() {
    let stage = Stage::new("written-datagrams");
    stage.rules(RULES);
    stage.add("lab1", json!({"seed": 4, "datagrams": 50}));
    let divert = stage.divert();
    stage.watch("lab1");
    let lengths = [100, 142, 143, 192, 193, 1000];
    let mut wanted: Vec<Vec<u8>> = Vec::new();
    for (index, len) in lengths.into_iter().enumerate() {
        let frame = udp(Dir::Up, DIVERT, index as u32, len);
        wanted.extend(frame[42..].chunks(50).map(<[u8]>::to_vec));
        stage.offer("lab1", Dir::Up, &[frame], &json!({}), false);
    }
    // What was written is counted, not what it was cut into.
    stage.until("lab1", Dir::Up, "/injected", lengths.len() as u64);
    weir_tests::lab::Accounts::reader(&end(divert));
    let out = stage.came_out("lab1", Dir::Up);
    for datagram in &out {
        assert_eq!(sum(&datagram[14..34]), 0, "the header's checksum");
        assert_eq!(sum(&covered(datagram)), 0, "the datagram's checksum");
        let len = usize::from(u16::from_be_bytes([datagram[38], datagram[39]]));
        assert_eq!(len, datagram.len() - 34);
    }
    let got: Vec<_> = out.iter().map(|frame| frame[42..].to_vec()).collect();
    assert_eq!(got, wanted);
    stage.fixture.unload();
}

/// A diverted frame comes back with its tag where it was, and with what the
/// adapter had said of its checksums.
#[test]
fn a_diverted_frame_has_its_tag_where_it_was() {
    let stage = Stage::new("written-tags");
    stage.rules(RULES);
    let file = stage.file("all.pcapng");
    let capture = stage.capture(&file);
    let divert = stage.divert();
    stage.watch(ADAPTER);
    for direction in BOTH {
        let frames: Vec<Vec<u8>> = [46, 200, 1514]
            .into_iter()
            .zip(0..)
            .map(|(len, n)| udp(direction, DIVERT, n, len))
            .collect();
        // Checked by the adapter, or not to be looked at by it.
        let checked = if direction == Dir::Up { 0x30 } else { 0 };
        let info = json!({"0": checked, "4": BESIDE, "22": 0});
        stage.offer(ADAPTER, direction, &frames, &info, false);
        let within = tagged(&frames[1], 0x8100, TCI);
        let none = json!({"0": 0, "4": 0, "22": 0});
        stage.offer(
            ADAPTER,
            direction,
            &[within.clone(), frames[0].clone()],
            &none,
            false,
        );
        stage.until(ADAPTER, direction, "/injected", 5);
        let out = stage.came_out(ADAPTER, direction);
        let mut wanted = frames.clone();
        wanted.extend([within, frames[0].clone()]);
        assert_eq!(sorted(out), sorted(wanted), "{direction:?}");
        let beside = stage.beside(ADAPTER, direction);
        assert_eq!(beside[&format!("tag {BESIDE:#x}")], 3, "{beside:?}");
        assert_eq!(beside["tag 0x0"], 2, "{beside:?}");
        let checked = beside.get(&format!("checksum {checked:#x}")).copied();
        let wanted = if direction == Dir::Up { 3 } else { 5 };
        assert_eq!(checked, Some(wanted), "{beside:?}");
        let stats = stage.stats(ADAPTER, direction);
        assert_eq!(stats["balance"]["diverted"], 5, "{stats}");
    }
    let said = end(divert);
    assert_eq!(said["reader"]["returned"], 10, "{said}");
    let captured = stage.end_capture(capture, &file);
    for direction in BOTH {
        let before = sorted(data(&captured, direction, "diverted"));
        let after = sorted(data(&captured, direction, "injected"));
        assert_eq!(before.len(), 5);
        assert!(before == after, "the same on the wire");
        assert_eq!(before.iter().filter(|f| f[12..14] == [0x81, 0]).count(), 4);
    }
    stage.fixture.unload();
}
