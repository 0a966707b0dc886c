//! Whole commands against a driver in memory.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser as _;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::{Value, json};
use weir_abi::{Direction, Ioctl};
use weir_client::fake::FakeDriver;
use weir_client::{Device, filetime};

use crate::cli::{CaptureArgs, Cli, Command};
use crate::commands::capture::{record, summary::Summary};
use crate::commands::on_device;
use crate::error::CtlError;
use crate::output::Output;

pub(crate) fn open(driver: &FakeDriver) -> Device {
    Device::connect(Arc::new(driver.clone())).expect("the device opens")
}

/// Runs a line, as `main` does; what it printed, and its exit code.
pub(crate) fn run(driver: &FakeDriver, line: &str) -> (String, u8) {
    let cli = Cli::parse_from(std::iter::once("weirctl").chain(line.split_whitespace()));
    let mut printed = Vec::new();
    let mut out = Output::new(cli.json, Box::new(&mut printed));
    let device = Device::connect_any_version(Arc::new(driver.clone())).expect("opens");
    let result = on_device(&cli.command, &device, &mut out);
    let code = result.as_ref().map_or_else(CtlError::exit_code, |()| 0);
    if let Err(error) = &result {
        out.error(error).expect("writes");
    }
    drop(out);
    (String::from_utf8(printed).expect("UTF-8"), code)
}

#[track_caller]
pub(crate) fn json_of(driver: &FakeDriver, line: &str) -> Value {
    let (text, _) = run(driver, &format!("--json {line}"));
    assert_eq!(text.lines().count(), 1, "one object: {text}");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn status_and_version() {
    let driver = FakeDriver::default();
    driver.attach("lab0");
    let (text, code) = run(&driver, "status");
    assert_eq!(code, 0);
    assert!(text.contains("uptime       0:01:30\n"), "{text}");
    assert!(text.contains("filter       ready, NDIS 6.85\n"), "{text}");
    let object = json_of(&driver, "status");
    assert_eq!(
        (&object["adapters"], &object["wsk_ready"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(object["uptime_seconds"], json!(90.5));
    assert_eq!(object["sockets"], json!(0));
    assert!(
        text.contains("sockets      ready, 0 open by programs\n"),
        "{text}"
    );
    let device = open(&driver);
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let _socket = weir_client::net::UdpSocket::bind(&device, at).expect("binds");
    assert_eq!(json_of(&driver, "status")["sockets"], json!(1));

    assert_eq!(json_of(&driver, "version")["compatible"], json!(true));
    driver.speak(2);
    let object = json_of(&driver, "version");
    assert_eq!(
        (&object["driver_contract"], &object["compatible"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(run(&driver, "version").1, 5);
}

#[test]
fn adapters_are_listed() {
    let driver = FakeDriver::default();
    assert_eq!(run(&driver, "adapters"), ("no adapters\n".to_owned(), 0));
    driver.attach("lab0");
    let (text, _) = run(&driver, "adapters");
    let row = text.lines().nth(1).expect("a row");
    let words: Vec<&str> = row.split_whitespace().collect();
    let want = [
        "1",
        "lab0",
        "running",
        "02:00:00:00:00:01",
        "1500",
        "1",
        "Gbit/s",
        "ethernet",
    ];
    assert_eq!(words[..8], want);
    let object = json_of(&driver, "adapters");
    assert_eq!(
        object["adapters"][0]["link_speed_bps"],
        json!(1_000_000_000)
    );
}

#[test]
fn the_balance_is_shown_as_an_equation() {
    let driver = FakeDriver::default();
    let id = driver.attach("lab0");
    for _ in 0..3 {
        driver.pass(id, Direction::In, 0, &[0; 60]);
    }
    driver.count(id, |stats| {
        stats.balance[0].seen += 1;
        stats.balance[0].lost_paused += 1;
        stats.protocols[1].arp = 9;
    });
    let (text, _) = run(&driver, "stats -i LAB0");
    let row = |n: usize| -> Vec<&str> {
        text.lines()
            .nth(n)
            .expect("a row")
            .split_whitespace()
            .collect()
    };
    assert_eq!(row(0), ["adapter", "1", "lab0"]);
    assert_eq!(
        row(1).join(" "),
        "seen = passed + dropped + diverted + lost bytes seen"
    );
    assert_eq!(row(2).join(" "), "in 4 = 3 + 0 + 0 + 1 balanced 180");
    assert_eq!(row(4).join(" "), "lost in: 1 paused, 0 resources, 0 other");
    assert!(text.contains("\narp        0    9\n"), "{text}");
    assert!(!text.contains("NOT BALANCED"), "{text}");
    assert_eq!(json_of(&driver, "stats")["balanced"], json!(true));

    driver.count(id, |stats| stats.balance[1].passed += 1);
    let (text, _) = run(&driver, "stats");
    assert!(text.contains("NOT BALANCED"), "{text}");
    let object = json_of(&driver, "stats -i 1");
    assert_eq!(object["balanced"], json!(false));
    assert_eq!(
        object["adapters"][0]["in"]["balance"]["balanced"],
        json!(true)
    );
    assert_eq!(
        object["adapters"][0]["in"]["balance"]["lost_paused"],
        json!(1)
    );
}

#[test]
fn an_unknown_adapter_is_told_with_the_known_ones() {
    let driver = FakeDriver::default();
    driver.attach("lab0");
    driver.attach("lab1");
    let object = json_of(&driver, "stats -i lab7");
    assert_eq!(
        object["error"]["message"],
        json!("no adapter is called lab7, and none has this id; there are: lab0 (1), lab1 (2)")
    );
    assert_eq!(run(&driver, "stats -i lab7").1, 1);
}

#[test]
fn services() {
    let driver = FakeDriver::default();
    let (text, code) = run(&driver, "service start echo --tcp 127.0.0.1:7007");
    assert_eq!(
        (text.as_str(), code),
        ("service 1 started: echo on tcp 127.0.0.1:7007\n", 0)
    );
    let object = json_of(&driver, "service start echo --tcp 127.0.0.1:7007");
    assert_eq!(
        object["error"]["status"],
        json!("STATUS_OBJECT_NAME_COLLISION")
    );
    assert_eq!(object["error"]["ntstatus"], json!("0xc0000035"));
    assert_eq!(object["error"]["exit_code"], json!(1));
    let object = json_of(&driver, "service start echo --udp [::1]:0");
    assert_eq!(
        (&object["transport"], &object["port"]),
        (&json!("udp"), &json!(49152))
    );
    let object = json_of(&driver, "service list");
    assert_eq!(object["services"].as_array().map(Vec::len), Some(2));
    let (text, _) = run(&driver, "service list");
    assert!(text.contains("[::1]:49152"), "{text}");
    assert_eq!(run(&driver, "service stop 1").1, 0);
    let object = json_of(&driver, "service stop 1");
    assert_eq!(object["error"]["status"], json!("STATUS_NOT_FOUND"));
}

#[test]
fn a_service_is_conditional_where_it_is_asked_to_be() {
    let driver = FakeDriver::default();
    let (text, code) = run(
        &driver,
        "service start relay --tcp 127.0.0.1:7007 --to 127.0.0.1:7 --conditional",
    );
    assert_eq!(
        (text.as_str(), code),
        (
            "service 1 started: relay on tcp 127.0.0.1:7007 to 127.0.0.1:7, conditional\n",
            0
        )
    );
    let object = json_of(&driver, "service start echo --tcp 127.0.0.1:7008");
    assert_eq!(object["conditional"], json!(false));
    let object = json_of(
        &driver,
        "service start discard --tcp 127.0.0.1:7009 --conditional",
    );
    assert_eq!(object["conditional"], json!(true));
    let object = json_of(&driver, "service list");
    let services = object["services"].as_array().expect("a list");
    let conditional: Vec<&Value> = services.iter().map(|s| &s["conditional"]).collect();
    assert_eq!(conditional, [&json!(true), &json!(false), &json!(true)]);
    let (text, _) = run(&driver, "service list");
    let shown: Vec<bool> = text
        .lines()
        .skip(1)
        .map(|line| line.contains("tcp, conditional  "))
        .collect();
    assert_eq!(shown, [true, false, true], "{text}");
}

#[test]
fn a_failed_service_says_why() {
    let driver = FakeDriver::default();
    assert_eq!(run(&driver, "service start echo --tcp 127.0.0.1:7007").1, 0);
    let shown = || {
        let list = json_of(&driver, "service list");
        let service = &list["services"][0];
        (service["state"].clone(), service["status"].clone())
    };
    assert_eq!(shown(), (json!("running"), Value::Null));
    let (text, _) = run(&driver, "service list");
    assert!(
        text.lines()
            .nth(1)
            .is_some_and(|l| l.contains("  running  ")),
        "{text}"
    );
    assert!(driver.fail_service(1, weir_abi::status::FILE_FORCED_CLOSED));
    let why = "STATUS_FILE_FORCED_CLOSED";
    assert_eq!(shown(), (json!("failed"), json!(why)));
    let (text, code) = run(&driver, "service list");
    assert!(text.contains(&format!("failed: {why}")), "{text}");
    assert_eq!(code, 0);
    // A status that the contract has no name for.
    assert!(driver.fail_service(1, 0xC000_0240_u32.cast_signed()));
    assert_eq!(shown(), (json!("failed"), json!("0xc0000240")));
}

#[test]
fn debug_shows_the_bare_status() {
    let driver = FakeDriver::default();
    let ask = |line: &str| json_of(&driver, &format!("debug {line}"));
    let code = format!("{:#x}", Ioctl::GetVersion.code());
    let line = format!("ioctl --code {code} --in 0100000008000000 --out-len 24");
    let object = ask(&line);
    assert_eq!(object["status"], json!("STATUS_SUCCESS"));
    assert_eq!(object["output"].as_str().map(str::len), Some(48));
    let object = ask("ioctl --code 12effc");
    assert_eq!(object["status"], json!("STATUS_INVALID_DEVICE_REQUEST"));
    assert_eq!(run(&driver, "debug ioctl --code 12effc").1, 1);
    assert_eq!(
        ask("read --len 100")["status"],
        json!("STATUS_INVALID_DEVICE_STATE")
    );
    assert_eq!(
        ask("read --len 100 --capture")["status"],
        json!("STATUS_BUFFER_TOO_SMALL")
    );
    let object = ask("read --len 300000 --capture --timeout-ms 20");
    assert_eq!(object["status"], json!("STATUS_CANCELLED"));
}

fn capture_args(line: &str) -> CaptureArgs {
    let words = ["weirctl", "capture"]
        .into_iter()
        .chain(line.split_whitespace());
    match Cli::parse_from(words).command {
        Command::Capture(args) => args,
        other => panic!("{other:?}"),
    }
}

/// Captures into a file while `traffic` runs, and ends by Ctrl-C after it.
fn capture(
    driver: &FakeDriver,
    line: &str,
    traffic: impl FnOnce() + Send + 'static,
) -> (Result<Summary, CtlError>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("f.pcapng");
    let args = capture_args(&format!("{line} -w {}", file.display()));
    let device = open(driver);
    let stop = AtomicBool::new(false);
    let create = |path: &Path| -> Result<Box<dyn Write>, CtlError> {
        Ok(Box::new(std::fs::File::create(path).expect("a file")))
    };
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while driver.readers() == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            traffic();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        record(&device, &args, &stop, create)
    });
    (result, folder)
}

/// The frames' bytes and drop counts, and the statistics' options, by interface.
type Contents = (
    Vec<(u32, Vec<u8>, u64)>,
    Vec<Vec<InterfaceStatisticsOption<'static>>>,
);

fn contents(folder: &tempfile::TempDir) -> Contents {
    let file = std::fs::File::open(folder.path().join("f.pcapng")).expect("the file");
    let mut reader = PcapNgReader::new(file).expect("a section");
    let (mut frames, mut statistics) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.expect("a block").into_owned() {
            Block::EnhancedPacket(p) => {
                let drops = p.options.iter().find_map(|o| match o {
                    EnhancedPacketOption::DropCount(n) => Some(*n),
                    _ => None,
                });
                frames.push((p.interface_id, p.data.into_owned(), drops.unwrap_or(0)));
            }
            Block::InterfaceStatistics(s) => statistics.push(s.options),
            _ => {}
        }
    }
    (frames, statistics)
}

#[test]
fn a_capture_holds_every_frame_and_its_balance() {
    let driver = FakeDriver::default();
    let id = driver.attach("lab0");
    driver.pass(id, Direction::In, 0, b"before the capture");
    let d = driver.clone();
    let (summary, folder) = capture(&driver, "-i lab0 -s 20", move || {
        for i in 0..2000_u64 {
            let direction = if i % 2 == 0 {
                Direction::In
            } else {
                Direction::Out
            };
            d.pass(id, direction, filetime::now(), &[i as u8; 64]);
        }
    });
    let summary = summary.expect("a summary");
    let (frames, statistics) = contents(&folder);
    assert_eq!(
        (summary.frames, frames.len(), summary.lost),
        (2000, 2000, 0)
    );
    for (i, (interface, bytes, drops)) in frames.iter().enumerate() {
        assert_eq!(
            (*interface, bytes.as_slice(), *drops),
            (0, &[i as u8; 20][..], 0)
        );
    }
    let [options] = statistics.as_slice() else {
        panic!("one interface: {statistics:?}");
    };
    for want in [
        InterfaceStatisticsOption::IsbIfRecv(2000),
        InterfaceStatisticsOption::IsbIfDrop(0),
        InterfaceStatisticsOption::IsbFilterAccept(2000),
        InterfaceStatisticsOption::IsbOsDrop(0),
        InterfaceStatisticsOption::IsbUsrDeliv(2000),
    ] {
        assert!(options.contains(&want), "{want:?} in {options:?}");
    }
    let object = serde_json::to_value(&summary).expect("JSON");
    assert_eq!(object["ended_by"], json!("interrupt"));
    assert_eq!(object["reader"]["balanced"], json!(true));
    assert_eq!(driver.handles(), 0);
}

#[test]
fn losses_are_in_the_file() {
    let driver = FakeDriver::default();
    let id = driver.attach("lab0");
    let d = driver.clone();
    let (summary, folder) = capture(&driver, "-i lab0 --backlog 65536", move || {
        d.burst(id, Direction::In, 1, &[[0; 1000].as_slice(); 5000]);
        // What fits the backlog is read before the last one comes.
        std::thread::sleep(Duration::from_millis(50));
        d.pass(id, Direction::In, 5000, b"last");
    });
    let summary = summary.expect("a summary");
    let (frames, statistics) = contents(&folder);
    let drops: u64 = frames.iter().map(|(_, _, drops)| drops).sum();
    assert_eq!(frames.last().map(|f| f.1.as_slice()), Some(&b"last"[..]));
    assert_eq!(frames.len() as u64 + drops, 5001);
    assert_eq!((summary.frames, summary.lost), (frames.len() as u64, drops));
    assert!(drops > 0, "the backlog of 64 KiB can't hold 5 MB");
    assert!(statistics[0].contains(&InterfaceStatisticsOption::IsbOsDrop(drops)));
}

#[test]
fn a_capture_ends_at_its_count() {
    let driver = FakeDriver::default();
    let (one, two) = (driver.attach("lab0"), driver.attach("lab1"));
    let d = driver.clone();
    let (summary, folder) = capture(&driver, "-c 10", move || {
        for i in 0..100 {
            d.pass(
                if i % 2 == 0 { one } else { two },
                Direction::In,
                i,
                &[1; 60],
            );
        }
    });
    let summary = summary.expect("a summary");
    let (frames, statistics) = contents(&folder);
    assert_eq!(
        (summary.frames, frames.len(), statistics.len()),
        (10, 10, 2)
    );
    assert_eq!(frames.iter().filter(|f| f.0 == 1).count(), 5);
}

#[test]
fn an_adapter_that_comes_later_is_described() {
    let driver = FakeDriver::default();
    driver.attach("lab0");
    let d = driver.clone();
    let (summary, folder) = capture(&driver, "", move || {
        let new = d.attach("lab1");
        d.pass(new, Direction::Out, 1, b"from the newcomer");
    });
    assert_eq!(summary.expect("a summary").frames, 1);
    let (frames, statistics) = contents(&folder);
    assert_eq!((frames[0].0, statistics.len()), (1, 2));
    assert!(statistics[1].contains(&InterfaceStatisticsOption::IsbIfRecv(1)));
}

#[test]
fn a_refused_capture_leaves_no_file() {
    let driver = FakeDriver::default();
    driver.attach("lab0");
    let device = open(&driver);
    let args = capture_args("-w f.pcapng");
    let change = |change: fn(&mut CaptureArgs)| {
        let mut args = args.clone();
        change(&mut args);
        args
    };
    // The command line lets none of these through; the driver doesn't either.
    for (args, status) in [
        (
            change(|a| a.snaplen = 262_145),
            "STATUS_INVALID_PARAMETER_2",
        ),
        (change(|a| a.backlog = 1), "STATUS_INVALID_PARAMETER_3"),
        (
            change(|a| a.flush_ms = 60_001),
            "STATUS_INVALID_PARAMETER_4",
        ),
    ] {
        let error = record(&device, &args, &AtomicBool::new(false), |_| {
            panic!("no file is made")
        })
        .expect_err(status);
        assert_eq!(error.status().and_then(|s| s.name()), Some(status));
    }
}
