//! Frames through the filter: counted, captured, passed on unchanged.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::{Value, json};
use weir_tests::lab::{ADAPTER, Fixture, capture};

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// The frames of a capture file, in order.
fn frames(file: &Path) -> Vec<Vec<u8>> {
    let file = File::open(file).expect("the capture is there");
    let mut reader = PcapReader::new(file).expect("a pcap file");
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.expect("a whole capture").data.into_owned());
    }
    frames
}

/// One frame of a pcapng file: what there is of it, and how long it was.
struct Captured {
    data: Vec<u8>,
    original: u32,
}

/// What weirctl wrote: the frames, and the options of all interface statistics blocks.
fn captured(file: &Path) -> (Vec<Captured>, Vec<InterfaceStatisticsOption<'static>>) {
    let file = File::open(file).expect("weirctl wrote the file");
    let mut reader = PcapNgReader::new(file).expect("a pcapng file");
    let (mut frames, mut statistics) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.expect("a whole pcapng file") {
            Block::EnhancedPacket(p) => {
                frames.push(Captured {
                    data: p.data.into_owned(),
                    original: p.original_len,
                });
            }
            Block::InterfaceStatistics(s) => {
                statistics.extend(s.into_owned().options);
            }
            _ => {}
        }
    }
    (frames, statistics)
}

/// Starts a capture and waits until the driver has its reader.
fn start_capture(fixture: &Fixture, file: &Path, options: &[&str]) -> std::process::Child {
    let before = fixture.status("readers");
    let name = weir_lab_harness::windows_path(file);
    let child = fixture
        .command(&[&["capture", "-i", ADAPTER, "-w", &name], options].concat())
        .stdout(Stdio::piped())
        .spawn()
        .expect("weirctl starts");
    fixture.until("readers", before + 1);
    child
}

/// The engine above and below must have got what went in, bytes and order alike.
fn passed_unchanged(fixture: &Fixture) {
    let adapters = fixture.ask(&json!({"cmd": "adapters"}));
    let adapter = &adapters["adapters"][0];
    for direction in ["up", "down"] {
        let side = &adapter[direction];
        assert_eq!(side["frames_in"], side["frames_out"], "{direction}: {side}");
        assert_eq!(side["hash_in"], side["hash_out"], "{direction}: {side}");
    }
}

#[test]
fn a_capture_holds_every_frame_that_passed() {
    let fixture = Fixture::weir("frames-capture");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("out.pcapng");
    let sent = frames(&capture("mixed.pcap"));
    let count = sent.len().to_string();
    let mut child = start_capture(&fixture, &file, &["-c", &count, "--duration", "60"]);
    fixture.replay(&capture("mixed.pcap"));
    assert!(child.wait().expect("weirctl ends").success());

    let (got, statistics) = captured(&file);
    assert_eq!(got.len(), sent.len());
    let all = sent.len() as u64;
    for counted in [
        InterfaceStatisticsOption::IsbIfRecv(all),
        InterfaceStatisticsOption::IsbIfDrop(0),
        InterfaceStatisticsOption::IsbUsrDeliv(all),
    ] {
        assert!(statistics.contains(&counted), "{counted:?}: {statistics:?}");
    }
    // Each direction keeps its order; between the two there is none to keep.
    let up = |frame: &[u8]| frame.get(6..12) != Some(&HOST[..]);
    for direction in [true, false] {
        let sent: Vec<&[u8]> = sent
            .iter()
            .map(Vec::as_slice)
            .filter(|f| up(f) == direction)
            .collect();
        let got: Vec<&[u8]> = got
            .iter()
            .map(|c| c.data.as_slice())
            .filter(|f| up(f) == direction)
            .collect();
        assert!(sent == got, "direction up={direction}: the frames differ");
        let balance = fixture.balance(if direction { "in" } else { "out" });
        assert_eq!(balance.seen, sent.len() as u64);
        assert_eq!(balance.passed, sent.len() as u64);
    }
    passed_unchanged(&fixture);
    fixture.unload();
}

#[test]
fn a_snap_length_cuts_and_keeps_the_length() {
    let fixture = Fixture::weir("frames-snap");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("out.pcapng");
    let sent = frames(&capture("odd.pcap"));
    let count = sent.len().to_string();
    let mut child = start_capture(
        &fixture,
        &file,
        &["-s", "40", "-c", &count, "--duration", "60"],
    );
    fixture.replay(&capture("odd.pcap"));
    assert!(child.wait().expect("weirctl ends").success());
    let (got, _) = captured(&file);
    assert_eq!(got.len(), sent.len());
    for frame in &got {
        let whole = sent.iter().any(|s| {
            s.len() == frame.original as usize && s.get(..40.min(s.len())) == Some(&frame.data[..])
        });
        assert!(
            whole,
            "{:02x?} of {} bytes was never sent",
            frame.data, frame.original
        );
    }
    fixture.unload();
}

/// Every prefix of some real frames, and bytes that are no frame at all.
#[test]
fn hostile_frames_are_counted_and_passed_on_unchanged() {
    let fixture = Fixture::weir("frames-hostile");
    let mut hostile: Vec<Vec<u8>> = Vec::new();
    for frame in frames(&capture("odd.pcap"))
        .iter()
        .filter(|f| f.len() < 200)
    {
        hostile.extend((1..=frame.len()).map(|n| frame[..n].to_vec()));
    }
    // A small generator with a fixed seed: the same bytes on every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..500 {
        let length = 1 + (next() % 1600) as usize;
        hostile.push((0..length).map(|_| (next() >> 32) as u8).collect());
    }
    for (direction, name) in [("up", "in"), ("down", "out")] {
        for some in hostile.chunks(64) {
            let some: Vec<String> = some.iter().map(|f| hex(f)).collect();
            fixture.ask(&json!({
                "cmd": "inject", "adapter": ADAPTER, "dir": direction, "frames": some, "wait": true,
            }));
        }
        let balance = fixture.balance(name);
        assert_eq!(balance.seen, hostile.len() as u64);
        assert_eq!(balance.passed, hostile.len() as u64);
    }
    passed_unchanged(&fixture);
    fixture.unload();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A reader that is too slow loses frames; it knows how many, and the adapter
/// loses none.
#[test]
fn what_a_slow_reader_loses_is_counted() {
    let fixture = Fixture::weir("frames-slow");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("out.pcapng");
    let sent = frames(&capture("mixed.pcap")).len() as u64;
    // The smallest backlog, and a program that is stopped while frames pass.
    let child = start_capture(&fixture, &file, &["--backlog", "65536", "--json"]);
    // Wine's loader execs: the child's pid is the Windows program's.
    let pid = Pid::from_raw(child.id().cast_signed());
    let send = |signal| kill(pid, signal).expect("weirctl is running");
    send(Signal::SIGSTOP);
    for _ in 0..4 {
        fixture.replay(&capture("mixed.pcap"));
    }
    send(Signal::SIGCONT);
    std::thread::sleep(std::time::Duration::from_millis(500));
    send(Signal::SIGINT);
    let out = child.wait_with_output().expect("weirctl ends");
    let balance_in = fixture.balance("in");
    let balance_out = fixture.balance("out");
    assert_eq!(balance_in.passed + balance_out.passed, 4 * sent);
    let (got, _) = captured(&file);
    assert!(
        (got.len() as u64) < 4 * sent,
        "nothing was lost: the test is too gentle"
    );
    // Ctrl-C is an end like any other: the file is whole, and the sum is told.
    assert!(out.status.success(), "{}", out.status);
    let said: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(said["ended_by"], "interrupt", "{said}");
    assert_eq!(said["frames"].as_u64(), Some(got.len() as u64), "{said}");
    let reader = &said["reader"];
    let number = |f: &str| {
        reader[f]
            .as_u64()
            .unwrap_or_else(|| panic!("no {f} in {said}"))
    };
    assert_eq!(number("seen"), 4 * sent);
    assert_eq!(
        number("seen"),
        number("delivered") + number("queued") + number("lost")
    );
    assert!(number("lost") > 0, "{said}");
    fixture.until("readers", 0);
    fixture.unload();
}

/// OID requests, status indications and events pass the filter both ways.
#[test]
fn requests_and_indications_pass() {
    let fixture = Fixture::weir("frames-oid");
    for direct in [false, true] {
        for (kind, oid, len, status) in [
            ("query", 0x0001_0106_u32, 4, "0x00000000"), // OID_GEN_MAXIMUM_FRAME_SIZE
            ("set", 0x0001_010e, 4, "0x00000000"),       // OID_GEN_CURRENT_PACKET_FILTER
            ("query", 0x0001_0106, 1, "0xC0010016"),     // NDIS_STATUS_BUFFER_TOO_SHORT
            ("query", 0xff01_0203, 64, "0xC00000BB"),    // nobody's: NDIS_STATUS_NOT_SUPPORTED
        ] {
            let answer = fixture.ask(&json!({
                "cmd": "oid", "adapter": ADAPTER, "type": kind, "oid": oid, "len": len, "direct": direct,
            }));
            assert_eq!(
                answer["reached_miniport"], true,
                "{kind} {oid:#x}: {answer}"
            );
            assert_eq!(answer["status"], status, "{kind} {oid:#x}: {answer}");
            if len == 1 {
                // How much it takes is copied back from the clone.
                assert_eq!(answer["needed"], 4, "{answer}");
            }
        }
        let cancelled = fixture.ask(&json!({
            "cmd": "oid", "adapter": ADAPTER, "type": "query", "oid": 0x0001_0106, "len": 4,
            "direct": direct, "cancel_after_ms": 0,
        }));
        assert_eq!(cancelled["reached_miniport"], true, "{cancelled}");
    }
    for event in [
        json!({"cmd": "status_indicate", "adapter": ADAPTER, "link": "down"}),
        json!({"cmd": "status_indicate", "adapter": ADAPTER, "link": "up"}),
        json!({"cmd": "status_indicate", "adapter": ADAPTER, "code": 0x4001_ffff_u32}),
        json!({"cmd": "pnp", "adapter": ADAPTER}),
        json!({"cmd": "cancel_send", "adapter": ADAPTER, "id": 7}),
    ] {
        let answer = fixture.ask(&event);
        assert_eq!(answer["arrived"], true, "{event}: {answer}");
    }
    fixture.ask(&json!({"cmd": "pause", "adapter": ADAPTER}));
    fixture.ask(&json!({"cmd": "restart", "adapter": ADAPTER}));
    fixture.replay(&capture("odd.pcap"));
    passed_unchanged(&fixture);
    fixture.unload();
}

/// An adapter on a UDP socket of the host: a datagram is a frame, both ways.
#[test]
fn a_wire_carries_frames_both_ways() {
    let patience = Some(std::time::Duration::from_secs(10));
    let far = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    far.set_read_timeout(patience).expect("a timeout is set");
    let fixture = Fixture::installed("frames-wire");
    let mut config = weir_tests::lab::config();
    config.adapters[0].wire = Some(far.local_addr().expect("its address").to_string());
    config.adapters[0].wire_listen = Some(0);
    fixture.configure(&config);
    fixture.start();
    let adapters = fixture.ask(&json!({"cmd": "adapters"}));
    let near = adapters["adapters"][0]["wire_port"]
        .as_u64()
        .expect("a port");
    let frames: Vec<Vec<u8>> = frames(&capture("odd.pcap"))
        .into_iter()
        .filter(|f| f.len() >= 14)
        .collect();
    for frame in &frames {
        far.send_to(frame, format!("127.0.0.1:{near}"))
            .expect("it goes out");
    }
    let wanted = frames.len() as u64;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while fixture.balance("in").passed < wanted {
        assert!(
            std::time::Instant::now() < deadline,
            "{:?}",
            fixture.balance("in")
        );
    }
    for frame in &frames {
        let frames = [hex(frame)];
        fixture.ask(&json!({
            "cmd": "inject", "adapter": ADAPTER, "dir": "down", "frames": frames, "wait": true,
        }));
        let mut got = vec![0; 70_000];
        let (n, _) = far
            .recv_from(&mut got)
            .expect("the frame comes out of the wire");
        assert!(
            got[..n] == frame[..],
            "{n} bytes came out for {}",
            frame.len()
        );
    }
    assert_eq!(fixture.balance("out").passed, wanted);
    fixture.unload();
}

/// Chains of other shapes, 802.1Q tags beside the frames as a NIC with VLAN
/// offload gives them, sends that the miniport fails: all of it goes through as
/// it came, and the balance closes.
#[test]
fn chains_of_every_shape_pass() {
    let fixture = Fixture::installed("frames-shapes");
    let mut config = weir_tests::lab::config();
    let count = frames(&capture("mixed.pcap")).len() as u64;
    for seed in 1..=6 {
        config.shape = weir_lab_harness::Shape {
            seed,
            tag_percent: Some(30),
            send_fail_percent: Some(10),
            split_percent: Some(80),
            resources_percent: Some(40),
            ..weir_lab_harness::Shape::default()
        };
        fixture.configure(&config);
        fixture.start();
        for file in ["mixed.pcap", "odd.pcap"] {
            fixture.replay(&capture(file));
        }
        passed_unchanged(&fixture);
        let (up, down) = (fixture.balance("in"), fixture.balance("out"));
        assert!(
            up.passed + down.passed > count,
            "seed {seed}: {up:?} {down:?}"
        );
        // Tags beside the frame count as VLAN, as those within it do.
        let stats = fixture.json(&["stats"]);
        let vlan = stats["adapters"][0]["in"]["protocols"]["vlan"].as_u64();
        assert!(vlan.is_some_and(|n| n > 100), "seed {seed}: {stats}");
        fixture.unload();
    }
}
