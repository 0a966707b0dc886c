//! Verdicts in the driver: frames of every shape of chain, some of which rules
//! drop, log or divert. What comes out is what was to, in order and unchanged;
//! the balance closes; nothing is left when the driver unloads.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use weir_lab_harness::{PointFault, Shape, windows_path};
use weir_tests::frames::{self, Frame};
use weir_tests::lab::{ADAPTER, Balance, Fixture, config};
use weir_tests::packet::{self, Dir, HOST_IP, PEER_IP};

/// Ports whose frames pass, and those of each rule.
const PASS: u16 = 2000;
const DROP_IN: u16 = 2001;
const DROP_OUT: u16 = 2002;
const DROP: u16 = 2003;
const DIVERT: u16 = 2004;
const LOG: u16 = 2005;
/// Dropped for what lies far behind the headers.
const DEEP: u16 = 2006;

/// Frames of one direction in a row, so that they come in long chains.
const RUN: usize = 60;

const RULES: &str = "\
rule count count any udp
rule drop-in drop in udp dst port 2001
rule drop-out drop out udp dst port 2002
rule drop drop any udp dst port 2003
rule divert divert any udp dst port 2004
rule log log any udp dst port 2005
rule deep drop any udp dst port 2006 and ether[250] = 0xa5
default pass
";

/// As `drop-in`, `drop-out` and `drop`, with or without a tag: libpcap's `udp`
/// doesn't look behind one.
const TAGGED_RULES: &str = "\
rule drop-in drop in udp dst port 2001 or (vlan and udp dst port 2001)
rule drop-out drop out udp dst port 2002 or (vlan and udp dst port 2002)
rule drop drop any udp dst port 2003 or (vlan and udp dst port 2003)
default pass
";

/// A UDP frame with its number in its bytes.
fn frame(direction: Dir, port: u16, number: u32, payload: usize) -> Vec<u8> {
    let (from, to) = match direction {
        Dir::Up => (PEER_IP, HOST_IP),
        Dir::Down => (HOST_IP, PEER_IP),
    };
    let mut payload = vec![0x5a; payload.max(4)];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    if let Some(deep) = payload.get_mut(250 - 42) {
        *deep = if number.is_multiple_of(2) { 0xa5 } else { 0x11 };
    }
    let (from, to) = (SocketAddrV4::new(from, 40_000), SocketAddrV4::new(to, port));
    packet::udp(direction, from, to, (number & 0xffff) as u16, &payload)
}

/// Some frames of all kinds, both ways.
struct Traffic {
    frames: Vec<(Dir, u16, Vec<u8>)>,
}

impl Traffic {
    /// `ports`: how often each of them comes, one after the other at random.
    fn new(seed: u64, count: usize, ports: &[u16]) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).expect("31 bits")
        };
        let frames = (0..count)
            .map(|index| {
                let direction = if (index / RUN).is_multiple_of(2) {
                    Dir::Down
                } else {
                    Dir::Up
                };
                let port = ports[next() % ports.len()];
                let number = u32::try_from(index).expect("few");
                (
                    direction,
                    port,
                    frame(direction, port, number, next() % 1400),
                )
            })
            .collect();
        Self { frames }
    }

    fn save(&self, file: &Path) {
        let frames: Vec<Frame> = self.frames.iter().map(|f| Frame::new(&f.2)).collect();
        frames::save(file, &frames);
    }

    /// The frames of a direction that `keep` says yes to, in order.
    fn those(&self, direction: Dir, keep: impl Fn(u16, &[u8]) -> bool) -> Vec<Vec<u8>> {
        let chosen = self.frames.iter().filter(|f| f.0 == direction);
        chosen
            .filter(|(_, port, bytes)| keep(*port, bytes))
            .map(|(_, _, bytes)| bytes.clone())
            .collect()
    }
}

/// Whether the rules drop it.
fn dropped(direction: Dir, port: u16, bytes: &[u8]) -> bool {
    match port {
        DROP_IN => direction == Dir::Up,
        DROP_OUT => direction == Dir::Down,
        DROP => true,
        DEEP => bytes.get(250) == Some(&0xa5),
        _ => false,
    }
}

fn packets(file: &Path) -> Vec<Vec<u8>> {
    frames::of(file).into_iter().map(|f| f.data).collect()
}

/// A lab with rules in force, and a folder with the traffic.
struct Scene {
    fixture: Fixture,
    dir: tempfile::TempDir,
}

impl Scene {
    fn new(name: &str) -> Self {
        Self {
            fixture: Fixture::installed(name),
            dir: tempfile::tempdir().expect("a folder"),
        }
    }

    fn start(&self, shape: Shape, points: Vec<PointFault>) {
        self.start_with(RULES, shape, points);
    }

    fn start_with(&self, text: &str, shape: Shape, points: Vec<PointFault>) {
        let mut config = config();
        config.shape = shape;
        config.faults.points = points;
        self.fixture.configure(&config);
        self.fixture.start();
        let rules = self.file("verdicts.rules");
        std::fs::write(&rules, text).expect("written");
        let loaded = self.fixture.json(&["rules", "load", &windows_path(&rules)]);
        let rules = text.lines().filter(|line| line.starts_with("rule")).count();
        assert_eq!(loaded["rules"].as_u64(), Some(rules as u64), "{loaded}");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn replay(&self, traffic: &Traffic) -> Value {
        let file = self.file("in.pcap");
        traffic.save(&file);
        self.fixture.replay(&file)
    }

    /// Has what comes out at both ends written down; ends with [`Scene::came_out`].
    fn watch(&self) {
        let (up, down) = (self.file("up.pcap"), self.file("down.pcap"));
        self.fixture.ask(&json!({
            "cmd": "dump", "adapter": ADAPTER,
            "up": windows_path(&up), "down": windows_path(&down),
        }));
    }

    fn came_out(&self, direction: Dir) -> Vec<Vec<u8>> {
        let name = direction.name();
        let end = json!({ "cmd": "dump", "adapter": ADAPTER, name: false });
        self.fixture.ask(&end);
        packets(&self.file(&format!("{name}.pcap")))
    }

    fn side(&self, direction: Dir) -> Value {
        let adapters = self.fixture.ask(&json!({"cmd": "adapters"}));
        adapters["adapters"][0][direction.name()].clone()
    }

    fn balance(&self, direction: Dir) -> Balance {
        self.fixture.balance(direction.weirctl())
    }
}

fn shape(seed: u64) -> Shape {
    Shape {
        seed,
        split_percent: Some(80),
        resources_percent: Some(40),
        checksum_percent: Some(50),
        max_chain: Some(12),
        max_nbs: Some(6),
        ..Shape::default()
    }
}

/// How many frames a rule took effect on, by `weirctl rules stats`.
fn hits(fixture: &Fixture, rule: &str) -> u64 {
    let stats = fixture.json(&["rules", "stats"]);
    let rules = stats["rules"].as_array().expect("rules");
    let found = rules.iter().find(|r| r["name"] == rule);
    let frames = found.and_then(|r| r["frames"].as_u64());
    frames.unwrap_or_else(|| panic!("no {rule} in {stats}"))
}

fn numbers(frames: &[Vec<u8>]) -> Vec<u32> {
    let number = |f: &Vec<u8>| f.get(42..46).and_then(|n| n.try_into().ok());
    frames
        .iter()
        .map(|f| number(f).map_or(u32::MAX, u32::from_be_bytes))
        .collect()
}

#[test]
fn dropped_frames_are_gone_and_the_rest_keeps_its_order() {
    let scene = Scene::new("verdicts-drop");
    for seed in 1..=5 {
        // Once with tags beside the frames, once with sends that fail.
        let tagged = seed == 2;
        let ports: &[u16] = if tagged {
            &[PASS, DROP_IN, DROP_OUT, DROP]
        } else {
            &[PASS, PASS, DROP_IN, DROP_OUT, DROP, DEEP, LOG]
        };
        let mut shape = shape(seed);
        shape.tag_percent = tagged.then_some(40);
        shape.send_fail_percent = (seed == 3).then_some(20);
        let rules = if tagged { TAGGED_RULES } else { RULES };
        scene.start_with(rules, shape, Vec::new());
        scene.watch();
        let traffic = Traffic::new(seed, 3000, ports);
        scene.replay(&traffic);
        let mut total = 0;
        for direction in [Dir::Down, Dir::Up] {
            let stays = |port: u16, bytes: &[u8]| !dropped(direction, port, bytes);
            let wanted = traffic.those(direction, stays);
            let all = traffic.those(direction, |_, _| true);
            let got = scene.came_out(direction);
            assert_eq!(numbers(&got), numbers(&wanted), "seed {seed}");
            assert!(got == wanted, "seed {seed}: bytes were changed");
            let side = scene.side(direction);
            assert_eq!(side["reordered"], 0, "seed {seed}: {side}");
            assert_eq!(side["injected"]["frames"], 0, "seed {seed}: {side}");
            let returned = side["returned"]["frames"].as_u64();
            let back = side["dropped"]["frames"].as_u64();
            assert_eq!(returned, Some(wanted.len() as u64), "seed {seed}: {side}");
            assert_eq!(back, Some((all.len() - wanted.len()) as u64), "{side}");
            let balance = scene.balance(direction);
            assert_eq!(balance.seen, all.len() as u64, "seed {seed}");
            assert_eq!(balance.passed, wanted.len() as u64, "seed {seed}");
            assert_eq!(balance.dropped, (all.len() - wanted.len()) as u64);
            total += all.len() as u64;
        }
        if !tagged {
            assert_eq!(hits(&scene.fixture, "count"), total);
        }
        scene.fixture.unload();
    }
}

fn spawn(fixture: &Fixture, arguments: &[&str]) -> Child {
    let mut command = fixture.command(arguments);
    command.stdout(Stdio::piped()).spawn().expect("it starts")
}

#[test]
fn logged_frames_are_recorded_and_go_on() {
    let scene = Scene::new("verdicts-log");
    scene.start(shape(11), Vec::new());
    let traffic = Traffic::new(11, 1200, &[PASS, LOG, DROP]);
    let wanted: Vec<Vec<u8>> = [Dir::Down, Dir::Up]
        .into_iter()
        .flat_map(|d| traffic.those(d, |port, _| port == LOG))
        .collect();
    let file = scene.file("logged.pcapng");
    let (name, count) = (windows_path(&file), wanted.len().to_string());
    let arguments = [
        "capture",
        "--logged",
        "-w",
        &name,
        "-c",
        &count,
        "--duration",
        "60",
    ];
    let child = spawn(&scene.fixture, &arguments);
    scene.fixture.until("readers", 1);
    scene.replay(&traffic);
    let out = child.wait_with_output().expect("weirctl ends");
    assert!(out.status.success(), "{}", out.status);
    let mut got = numbers(&packets(&file));
    let mut wanted = numbers(&wanted);
    got.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(got, wanted);
    for direction in [Dir::Down, Dir::Up] {
        let all = traffic.those(direction, |_, _| true).len() as u64;
        let drops = traffic.those(direction, |port, _| port == DROP).len() as u64;
        let balance = scene.balance(direction);
        assert_eq!(
            (balance.seen, balance.passed, balance.dropped),
            (all, all - drops, drops)
        );
    }
    scene.fixture.until("readers", 0);
    scene.fixture.unload();
}

#[test]
fn without_a_reader_diverted_frames_pass() {
    let scene = Scene::new("verdicts-no-reader");
    scene.start(shape(21), Vec::new());
    let traffic = Traffic::new(21, 600, &[PASS, DIVERT]);
    scene.watch();
    scene.replay(&traffic);
    for direction in [Dir::Down, Dir::Up] {
        let all = traffic.those(direction, |_, _| true);
        assert!(scene.came_out(direction) == all);
        assert_eq!(scene.balance(direction).passed, all.len() as u64);
    }
    scene.fixture.unload();
}

#[test]
fn diverted_frames_come_back_and_go_on() {
    let scene = Scene::new("verdicts-divert");
    scene.start(shape(31), Vec::new());
    let traffic = Traffic::new(31, 1200, &[PASS, DIVERT, DROP]);
    let count = [Dir::Down, Dir::Up]
        .into_iter()
        .map(|d| traffic.those(d, |port, _| port == DIVERT).len())
        .sum::<usize>();
    scene.watch();
    let count_text = count.to_string();
    let arguments = [
        "divert",
        "--to",
        "onward",
        "-c",
        &count_text,
        "--duration",
        "60",
        "--json",
    ];
    let child = spawn(&scene.fixture, &arguments);
    scene.fixture.until("diverters", 1);
    scene.replay(&traffic);
    let out = child.wait_with_output().expect("weirctl ends");
    assert!(out.status.success(), "{}", out.status);
    let said: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(said["frames"].as_u64(), Some(count as u64), "{said}");
    for direction in [Dir::Down, Dir::Up] {
        let all = traffic.those(direction, |_, _| true).len() as u64;
        let mut wanted = traffic.those(direction, |port, _| port != DROP);
        let mut got = scene.came_out(direction);
        let diverted = traffic.those(direction, |port, _| port == DIVERT).len() as u64;
        let balance = scene.balance(direction);
        assert_eq!((balance.seen, balance.diverted), (all, diverted));
        let side = scene.side(direction);
        assert_eq!(
            side["injected"]["frames"].as_u64(),
            Some(diverted),
            "{side}"
        );
        wanted.sort();
        got.sort();
        assert_eq!(numbers(&got), numbers(&wanted));
        assert!(got == wanted, "the bytes differ");
    }
    scene.fixture.unload();
}

/// Each call that makes a part of a list fails once: what was to go on of that
/// list is lost, and counted so.
#[test]
fn without_memory_for_a_part_its_frames_are_lost_and_counted() {
    let scene = Scene::new("verdicts-faults");
    for point in [
        "ndis.NdisAllocateNetBufferList",
        "ndis.NdisAllocateNetBuffer",
    ] {
        let points = (1..=3).map(|nth| PointFault {
            point: point.into(),
            nth,
            status: 0,
        });
        scene.start(shape(41), points.collect());
        scene.watch();
        let traffic = Traffic::new(41, 1200, &[PASS, DROP]);
        scene.replay(&traffic);
        let balance = scene.balance(Dir::Down);
        assert!(balance.lost > 0, "{point}: {balance:?}");
        let drops = traffic.those(Dir::Down, |port, _| port == DROP).len() as u64;
        assert_eq!(balance.dropped, drops, "{point}");
        assert_eq!(
            scene.came_out(Dir::Down).len() as u64,
            balance.passed,
            "{point}"
        );
        scene.fixture.unload();
    }
}

#[test]
fn a_module_pauses_and_the_driver_unloads_while_rules_take_chains_apart() {
    let scene = Scene::new("verdicts-unload");
    let traffic = Traffic::new(51, 1200, &[PASS, DROP, DROP_IN, DROP_OUT, DEEP]);
    for seed in 51..54 {
        scene.start(shape(seed), Vec::new());
        let file = scene.file("in.pcap");
        traffic.save(&file);
        scene.fixture.ask(&json!({
            "cmd": "replay", "adapter": ADAPTER, "file": windows_path(&file),
            "speed": 0, "loops": 0, "wait": false,
        }));
        for _ in 0..5 {
            scene
                .fixture
                .ask(&json!({"cmd": "restart", "adapter": ADAPTER}));
        }
        Balance::check_all(&scene.fixture.json(&["stats"]));
        scene.fixture.unload();
    }
}
