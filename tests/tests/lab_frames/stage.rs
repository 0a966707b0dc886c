//! A lab for tests of single frames: frames made by hand, adapters of any shape,
//! what came out, what was captured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::{Value, json};
use weir_lab_harness::windows_path;
use weir_tests::frames::{self, Frame};
use weir_tests::lab::{Accounts, Fixture, ctrl_c};

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Ports that rules know.
pub(crate) const PASS: u16 = 2000;
pub(crate) const DROP: u16 = 2003;
pub(crate) const DIVERT: u16 = 2004;
pub(crate) const LOG: u16 = 2005;

/// Which way through the filter, in the lab's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dir {
    Up,
    Down,
}

pub(crate) const BOTH: [Dir; 2] = [Dir::Up, Dir::Down];

impl Dir {
    pub(crate) fn lab(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    pub(crate) fn weir(self) -> &'static str {
        match self {
            Self::Up => "in",
            Self::Down => "out",
        }
    }
}

/// RFC 1071, the plain way.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        let word = [pair[0], pair.get(1).copied().unwrap_or(0)];
        sum += u32::from(u16::from_be_bytes(word));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// What the checksum of TCP and UDP over IPv4 covers.
pub(crate) fn covered(frame: &[u8]) -> Vec<u8> {
    let len = u16::try_from(frame.len() - 34).expect("short");
    let mut covered = frame[26..34].to_vec();
    covered.extend_from_slice(&[0, frame[23]]);
    covered.extend_from_slice(&len.to_be_bytes());
    covered.extend_from_slice(&frame[34..]);
    covered
}

/// An IPv4 frame with right checksums, but for the transport's field at `field`.
fn ipv4(direction: Dir, protocol: u8, transport: &[u8], field: usize) -> Vec<u8> {
    let (from, to, low) = match direction {
        Dir::Up => (PEER, HOST, [2, 1]),
        Dir::Down => (HOST, PEER, [1, 2]),
    };
    let len = u16::try_from(20 + transport.len()).expect("short");
    let mut ip = vec![0x45, 0];
    ip.extend_from_slice(&len.to_be_bytes());
    ip.extend_from_slice(&[0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
    ip.extend_from_slice(&[10, 0, 0, low[0], 10, 0, 0, low[1]]);
    let checksum = sum(&ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = [&to[..], &from, &[0x08, 0x00], &ip, transport].concat();
    let checksum = match sum(&covered(&frame)) {
        0 => 0xffff,
        other => other,
    };
    frame[34 + field..36 + field].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// A UDP frame of `len` bytes, 46 at least, its number in its bytes.
pub(crate) fn udp(direction: Dir, port: u16, number: u32, len: usize) -> Vec<u8> {
    let mut payload = vec![0x5a; len.max(46) - 42];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    let udp_len = u16::try_from(8 + payload.len()).expect("short");
    let mut udp = Vec::new();
    udp.extend_from_slice(&40_000_u16.to_be_bytes());
    udp.extend_from_slice(&port.to_be_bytes());
    udp.extend_from_slice(&udp_len.to_be_bytes());
    udp.extend_from_slice(&[0, 0]);
    udp.extend_from_slice(&payload);
    ipv4(direction, 17, &udp, 6)
}

/// A TCP segment with PSH and ACK.
pub(crate) fn tcp(direction: Dir, port: u16, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut tcp = Vec::new();
    tcp.extend_from_slice(&40_000_u16.to_be_bytes());
    tcp.extend_from_slice(&port.to_be_bytes());
    tcp.extend_from_slice(&seq.to_be_bytes());
    tcp.extend_from_slice(&[0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend_from_slice(payload);
    ipv4(direction, 6, &tcp, 16)
}

/// The frame with a tag behind its addresses.
pub(crate) fn tagged(frame: &[u8], kind: u16, tci: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    let tag = [kind.to_be_bytes(), tci.to_be_bytes()].concat();
    [addresses, &tag, rest].concat()
}

/// The numbers that [`udp`] put into frames without tags.
pub(crate) fn numbers(frames: &[Vec<u8>]) -> Vec<u32> {
    let number = |f: &Vec<u8>| f.get(42..46).and_then(|n| n.try_into().ok());
    let numbers = frames.iter().map(number);
    numbers
        .map(|n| n.map_or(u32::MAX, u32::from_be_bytes))
        .collect()
}

pub(crate) fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all
}

/// One frame that was captured.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub(crate) direction: Dir,
    /// What weirctl remarks of it.
    pub(crate) comment: String,
    pub(crate) data: Vec<u8>,
}

/// The frames of a file that weirctl wrote.
pub(crate) fn captured(file: &Path) -> Vec<Captured> {
    let bytes = std::fs::read(file).expect("weirctl wrote the file");
    let mut reader = PcapNgReader::new(&bytes[..]).expect("a pcapng file");
    let mut all = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.expect("a whole pcapng file") {
            let mut comment = String::new();
            let mut direction = None;
            for option in &packet.options {
                match option {
                    EnhancedPacketOption::Comment(said) => comment = said.to_string(),
                    EnhancedPacketOption::Flags(1) => direction = Some(Dir::Up),
                    EnhancedPacketOption::Flags(2) => direction = Some(Dir::Down),
                    _ => {}
                }
            }
            all.push(Captured {
                direction: direction.expect("each frame has a direction"),
                comment,
                data: packet.data.into_owned(),
            });
        }
    }
    all
}

pub(crate) fn data(of: &[Captured], direction: Dir, comment: &str) -> Vec<Vec<u8>> {
    of.iter()
        .filter(|c| c.direction == direction && c.comment == comment)
        .map(|c| c.data.clone())
        .collect()
}

/// A lab with the driver, and a folder.
pub(crate) struct Stage {
    pub(crate) fixture: Fixture,
    dir: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            fixture: Fixture::weir(name),
            dir: tempfile::tempdir().expect("a folder"),
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Adds an adapter with a shape of its own.
    pub(crate) fn add(&self, adapter: &str, mut shape: Value) {
        shape["restart_attributes_null_percent"] = 0.into();
        self.fixture.ask(&json!({
            "cmd": "adapter_add", "name": adapter, "mac": "02:00:00:00:00:01", "mtu": 1500,
            "shape": shape,
        }));
    }

    pub(crate) fn remove(&self, adapter: &str) {
        self.fixture
            .ask(&json!({"cmd": "adapter_remove", "adapter": adapter}));
    }

    pub(crate) fn rules(&self, text: &str) {
        let rules = self.file("stage.rules");
        std::fs::write(&rules, text).expect("written");
        let loaded = self.fixture.json(&["rules", "load", &windows_path(&rules)]);
        let count = text.lines().filter(|line| line.starts_with("rule")).count();
        assert_eq!(loaded["rules"], count, "{loaded}");
    }

    /// Saves frames to a capture file.
    pub(crate) fn save(&self, frames: &[Vec<u8>]) -> PathBuf {
        let frame = |data: &Vec<u8>| Frame {
            time: Duration::ZERO,
            original: u32::try_from(data.len()).expect("a frame"),
            data: data.clone(),
        };
        let file = self.file("stage.pcap");
        let all: Vec<Frame> = frames.iter().map(frame).collect();
        frames::save(&file, &all);
        file
    }

    /// `weirctl inject`, to its end: its exit code and what it said.
    pub(crate) fn inject(
        &self,
        adapter: &str,
        direction: Dir,
        frames: &[Vec<u8>],
    ) -> (i32, String) {
        let file = windows_path(&self.save(frames));
        let out = self.fixture.weirctl(&[
            "inject",
            "-i",
            adapter,
            "--direction",
            direction.weir(),
            &file,
        ]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.code().unwrap_or(-1), said)
    }

    /// Has the host or the wire offer frames to the filter, each in a list of its
    /// own or all in one.
    pub(crate) fn offer(
        &self,
        adapter: &str,
        direction: Dir,
        frames: &[Vec<u8>],
        info: &Value,
        one_list: bool,
    ) {
        let hex =
            |frame: &Vec<u8>| -> String { frame.iter().map(|b| format!("{b:02x}")).collect() };
        let frames: Vec<String> = frames.iter().map(hex).collect();
        let done = self.fixture.ask(&json!({
            "cmd": "inject", "adapter": adapter, "dir": direction.lab(), "frames": frames,
            "info": info, "one_list": one_list, "wait": true,
        }));
        assert_eq!(done["all_home"], true, "{done}");
    }

    /// Replays frames through an adapter.
    pub(crate) fn replay(&self, adapter: &str, frames: &[Vec<u8>], loops: u64) {
        let file = windows_path(&self.save(frames));
        self.fixture.ask(&json!({
            "cmd": "replay", "adapter": adapter, "file": file, "host_mac": "02:00:00:00:00:01",
            "speed": 0, "loops": loops, "wait": loops != 0,
        }));
    }

    /// Has what comes out at both ends of an adapter written down.
    pub(crate) fn watch(&self, adapter: &str) {
        let [up, down] = BOTH.map(|d| windows_path(&self.dump(adapter, d)));
        self.fixture
            .ask(&json!({"cmd": "dump", "adapter": adapter, "up": up, "down": down}));
    }

    fn dump(&self, adapter: &str, direction: Dir) -> PathBuf {
        self.file(&format!("{adapter}-{}.pcap", direction.lab()))
    }

    /// What came out since [`Stage::watch`], in order.
    pub(crate) fn came_out(&self, adapter: &str, direction: Dir) -> Vec<Vec<u8>> {
        self.fixture
            .ask(&json!({"cmd": "dump", "adapter": adapter, direction.lab(): false}));
        let all = frames::of(&self.dump(adapter, direction));
        all.into_iter().map(|f| f.data).collect()
    }

    /// What the stand-ins counted.
    pub(crate) fn side(&self, adapter: &str, direction: Dir) -> Value {
        let all = self.fixture.ask(&json!({"cmd": "adapters"}));
        let all = all["adapters"].as_array().expect("adapters");
        let found = all.iter().find(|a| a["name"] == adapter);
        found.expect("it is there")[direction.lab()].clone()
    }

    /// What was beside the frames that the filter originated.
    pub(crate) fn beside(&self, adapter: &str, direction: Dir) -> BTreeMap<String, u64> {
        let side = self.side(adapter, direction);
        let info = side["injected_info"].as_object().expect("a table");
        let count = |n: &Value| n.as_u64().expect("a number");
        info.iter().map(|(k, n)| (k.clone(), count(n))).collect()
    }

    /// `weirctl stats` of one adapter and direction.
    pub(crate) fn stats(&self, adapter: &str, direction: Dir) -> Value {
        let stats = self.fixture.json(&["stats"]);
        let all = stats["adapters"].as_array().expect("adapters");
        let found = all.iter().find(|a| a["name"] == adapter);
        found.expect("it is there")[direction.weir()].clone()
    }

    /// Starts weirctl.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.fixture.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("weirctl starts")
    }

    /// Starts a capture of everything.
    pub(crate) fn capture(&self, file: &Path) -> Child {
        let readers = self.fixture.status("readers");
        let name = windows_path(file);
        let child = self.spawn(&[
            "capture",
            "--backlog",
            "67108864",
            "--duration",
            "100",
            "--json",
            "-w",
            &name,
        ]);
        self.fixture.until("readers", readers + 1);
        child
    }

    /// Starts to divert, and to give back.
    pub(crate) fn divert(&self) -> Child {
        let child = self.spawn(&[
            "divert",
            "--to",
            "onward",
            "--backlog",
            "67108864",
            "--duration",
            "100",
            "--json",
        ]);
        self.fixture.until("diverters", 1);
        child
    }

    /// Ends a capture, whose account must close: its frames.
    pub(crate) fn end_capture(&self, child: Child, file: &Path) -> Vec<Captured> {
        let said = end(child);
        Accounts::reader(&said);
        assert_eq!(said["reader"]["lost"], 0, "{said}");
        captured(file)
    }

    /// Waits until a number of `weirctl stats` is what it should be.
    pub(crate) fn until(&self, adapter: &str, direction: Dir, pointer: &str, wanted: u64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let stats = self.stats(adapter, direction);
            if stats.pointer(pointer).and_then(Value::as_u64) == Some(wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "{pointer} != {wanted}: {stats}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Ends a program as Ctrl-C does: what it printed.
pub(crate) fn end(child: Child) -> Value {
    ctrl_c(&child);
    let out = child.wait_with_output().expect("weirctl ends");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}: {said}", out.status);
    serde_json::from_slice(&out.stdout).expect("JSON")
}
