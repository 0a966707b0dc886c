//! Rules, flows, divert and inject against a driver in memory.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser as _;
use serde_json::json;
use weir_abi::{AlarmInfo, AlarmKind, Direction, FlowInfo, FlowPorts, FlowState, NO_VLAN, TcpTag};
use weir_client::fake::FakeDriver;
use zerocopy::FromZeros as _;

use crate::cli::{Cli, Command};
use crate::commands::{divert, inject};
use crate::tests::{json_of, open, run};

const RULES: &str = "\
# a comment
rule smb   drop   in   tcp port 445 and not src net 10.0.0.0/8
rule dns   log    any  udp port 53
rule rest  count  any
default pass
";

fn rule_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("writes");
    file
}

#[test]
fn rules_are_loaded_shown_counted_and_cleared() {
    let driver = FakeDriver::default();
    let file = rule_file(RULES);
    let (text, code) = run(&driver, "rules show");
    assert_eq!((text.as_str(), code), ("default pass\n", 0));
    let (text, _) = run(&driver, "rules stats");
    assert_eq!(text, "no rules in force: every frame passes\n");

    let loaded = json_of(&driver, &format!("rules load {}", file.path().display()));
    assert_eq!(loaded["rules"], json!(3), "{loaded}");
    assert_eq!(loaded["default"], json!("pass"));
    let (text, _) = run(&driver, "rules show");
    assert_eq!(
        text,
        "rule smb drop in tcp port 445 and not src net 10.0.0.0/8\n\
         rule dns log any udp port 53\n\
         rule rest count any\n\
         default pass\n"
    );

    // Log and count decide on nothing: what was seen is smb's and the default's.
    driver.set_hits(&[(3, 180), (2, 120), (9, 540)], (6, 360));
    let stats = json_of(&driver, "rules stats");
    assert_eq!(stats["rules"][0]["frames"], json!(3), "{stats}");
    assert_eq!(stats["rules"][1]["name"], json!("dns"));
    assert_eq!(stats["default"]["bytes"], json!(360));

    assert_eq!(json_of(&driver, "status")["rules"], json!(3));
    assert_eq!(json_of(&driver, "rules clear")["cleared"], json!(true));
    assert_eq!(json_of(&driver, "rules show")["rules"], json!([]));
}

#[test]
fn a_file_with_mistakes_leaves_the_rules_in_force() {
    let driver = FakeDriver::default();
    let good = rule_file(RULES);
    run(&driver, &format!("rules load {}", good.path().display()));
    let bad = rule_file("rule a drop in tcp prt 80\nrule a pass sideways udp\n");
    let (_, code) = run(&driver, &format!("rules load {}", bad.path().display()));
    assert_eq!(code, 1);
    assert_eq!(
        json_of(&driver, "rules show")["rules"][0]["name"],
        json!("smb")
    );
    let (_, code) = run(&driver, "rules load /no/such/file");
    assert_eq!(code, 1);
}

fn flow(adapter: u32, id: u64, protocol: u8, ports: (u16, u16)) -> FlowInfo {
    let mut flow = FlowInfo::new_zeroed();
    flow.id = id;
    flow.adapter = adapter;
    flow.family = 4;
    flow.protocol = protocol;
    flow.vlan = NO_VLAN;
    flow.initiator[..4].copy_from_slice(&[10, 0, 0, 1]);
    flow.responder[..4].copy_from_slice(&[127, 0, 0, 1]);
    (flow.initiator_port, flow.responder_port) = ports;
    flow.state = FlowState::Established.into();
    flow.ports = FlowPorts::Ports.into();
    flow.frames = [id, 1];
    flow.bytes = [60 * id, 60];
    flow
}

#[test]
fn flows_have_classes_services_and_owners() {
    let driver = FakeDriver::default();
    let (one, two) = (driver.attach("lab0"), driver.attach("lab1"));
    run(&driver, "service start echo --tcp 127.0.0.1:80");
    let mut web = flow(one, 1, 6, (50_000, 80));
    web.tags = 1 << TcpTag::ZeroWindow as u32;
    web.retransmissions = 3;
    web.initial_rtt_100ns = 12_345;
    driver.add_flow(web);
    driver.add_flow(flow(one, 2, 17, (5000, 53)));
    driver.add_flow(flow(two, 9, 17, (5001, 53)));
    let mut alarm = AlarmInfo::new_zeroed();
    alarm.adapter = two;
    alarm.kind = AlarmKind::SynFlood.into();
    alarm.family = 4;
    alarm.port = 80;
    alarm.count = 500;
    driver.raise(alarm);

    let all = json_of(&driver, "flows --sort id");
    let flows = all["flows"].as_array().expect("a list");
    assert_eq!(flows.len(), 3, "{all}");
    assert_eq!(flows[0]["responder"]["service"], json!("http"));
    assert_eq!(flows[0]["initiator_port_class"], json!("dynamic"));
    assert_eq!(flows[0]["responder_port_class"], json!("well-known"));
    assert_eq!(flows[0]["owner"]["service"], json!(1));
    assert_eq!(flows[0]["tcp"]["seen"], json!(["zero_window"]));
    assert_eq!(flows[0]["initial_rtt_us"], json!(1234.5));
    assert_eq!(flows[1]["initiator_port_class"], json!("registered"));
    // Not Windows, or no such socket: either way nobody is named.
    assert_eq!(flows[1]["owner"]["certainty"], json!("unknown"));
    assert!(flows[1]["owner"]["why"].is_string(), "{all}");
    assert_eq!(all["alarms"][0]["half_open"], json!(500), "{all}");
    assert_eq!(all["adapters"][0]["active"], json!(2));

    let other = json_of(&driver, "flows -i lab1");
    assert_eq!(other["flows"].as_array().map(Vec::len), Some(1));
    let limited = json_of(&driver, "flows --limit 1");
    assert_eq!(
        (&limited["more"], &limited["flows"][0]["id"]),
        (&json!(2), &json!(9))
    );
    let (text, code) = run(&driver, "flows");
    assert_eq!(code, 0);
    assert!(text.contains("weir service 1"), "{text}");
    assert!(text.contains("alarm: "), "{text}");
    assert_eq!(run(&driver, "flows -i nosuch").1, 1);
}

fn command(line: &str) -> Command {
    Cli::parse_from(std::iter::once("weirctl").chain(line.split_whitespace())).command
}

#[test]
fn diverted_frames_go_where_they_are_sent() {
    for (to, want) in [
        ("onward", Some(Direction::In)),
        ("back", Some(Direction::Out)),
        ("nowhere", None),
    ] {
        let driver = FakeDriver::default();
        let adapter = driver.attach("lab0");
        let Command::Divert(args) = command(&format!("divert --to {to} -c 5 -i lab0")) else {
            panic!("not divert");
        };
        let feeder = {
            let driver = driver.clone();
            std::thread::spawn(move || {
                while driver.handles() < 2 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                for n in 0..5u8 {
                    driver.divert(adapter, Direction::In, 1, &[n; 60]);
                }
            })
        };
        let diverted = divert::run(&open(&driver), &args, &AtomicBool::new(false)).expect("ends");
        feeder.join().expect("fed");
        let object = serde_json::to_value(&diverted).expect("JSON");
        assert_eq!(object["frames"], json!(5), "{object}");
        assert_eq!(object["reader"]["balanced"], json!(true), "{object}");
        let written = driver.written();
        assert_eq!(written.len(), if want.is_some() { 5 } else { 0 });
        assert!(written.iter().all(|w| Some(w.direction) == want));
    }
}

#[test]
fn the_frames_of_a_file_are_injected() {
    let driver = FakeDriver::default();
    let adapter = driver.attach("lab0");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/captures/odd.pcap");
    for (more, frames) in [("-c 3", Some(3)), ("", None)] {
        let line = format!("inject -i lab0 --direction out {more} {file}");
        let Command::Inject(args) = command(&line) else {
            panic!("not inject");
        };
        let before = driver.written().len();
        let injected =
            inject::run(&open(&driver), &args, &AtomicBool::new(false)).expect("injects");
        let object = serde_json::to_value(&injected).expect("JSON");
        let written = driver.written().len() - before;
        assert_eq!(object["frames"], json!(written), "{object}");
        assert!(frames.is_none_or(|n| n == written), "{object}");
        assert!(driver.written().iter().all(|w| w.adapter == adapter));
    }
    let (_, code) = run(&driver, "inject -i lab0 --direction in /no/such/file");
    assert_eq!(code, 1);
}
