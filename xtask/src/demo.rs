//! `cargo xtask demo`: the main job, on real input, seen from outside.
//!
//! weir.sys is loaded by the service manager, a capture of real traffic passes
//! through its filter while weirctl writes what it sees, and once more with
//! rules in force; the host's own nc talks to its echo services, a thousand
//! connections are open at once, and at the end nothing is left behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use weir_lab_harness::{Artifacts, Lab, windows_path};

use crate::play::{ADAPTER, SERVICE, one_adapter};
use crate::{driver, parts, setup};

mod rules;

/// How many connections are open at once.
const CONNECTIONS: usize = 1000;

/// The capture that is replayed: real traffic of two stacks.
const CAPTURE: &str = "tests/captures/mixed.pcap";

/// Runs the demonstration.
///
/// # Errors
/// The step that failed; the lab is ended all the same.
pub fn run(root: &Path) -> Result<()> {
    let start = Instant::now();
    step("setting up");
    setup::everything()?;
    step("building weir.sys and the lab (the first time takes some minutes)");
    let made = driver::build(root, driver::Profile::Release)?;
    parts::build(root)?;
    let lab = Lab::open(
        root.join("target/lab/demo"),
        Artifacts::in_dir(parts::dir(root)),
    );
    lab.destroy()?;
    let mut demo = Demo {
        root,
        lab,
        seen: Vec::new(),
    };
    let result = demo.play(&made.sys);
    let ended = demo.lab.down();
    result?;
    ended?;
    demo.saw(
        "whole run",
        &format!("{:.0} s", start.elapsed().as_secs_f64()),
    );
    demo.print();
    Ok(())
}

fn step(what: &str) {
    println!("-- {what}");
}

struct Demo<'a> {
    root: &'a Path,
    lab: Lab,
    seen: Vec<(String, String)>,
}

impl Demo<'_> {
    fn saw(&mut self, what: &str, value: &str) {
        self.seen.push((what.to_owned(), value.to_owned()));
    }

    fn weirctl(&self, arguments: &[&str]) -> Command {
        let mut command = self
            .lab
            .command(&windows_path(&parts::dir(self.root).join("weirctl.exe")));
        command.args(arguments);
        command
    }

    /// What `weirctl ... --json` prints.
    fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let what = arguments.join(" ");
        let out = self
            .weirctl(arguments)
            .arg("--json")
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("running weirctl {what}"))?;
        ensure!(out.status.success(), "weirctl {what}: {}", out.status);
        serde_json::from_slice(&out.stdout).with_context(|| format!("what weirctl {what} printed"))
    }

    fn play(&mut self, image: &Path) -> Result<()> {
        step("starting Wine and loading weir.sys through the service manager");
        self.lab.up(&one_adapter())?;
        self.lab.install_driver(SERVICE, image)?;
        self.lab.start_driver(SERVICE)?;
        println!("{}", self.ask(&["status"])?);
        self.frames()?;
        self.rules()?;
        self.echo()?;
        self.many()?;
        step("the balance");
        let shown = self.weirctl(&["stats"]).status()?;
        ensure!(shown.success(), "weirctl stats: {shown}");
        step("unloading weir.sys");
        self.lab.stop_driver(SERVICE)?;
        let unload = self
            .lab
            .events()
            .into_iter()
            .rev()
            .find(|e| e.kind() == "unload");
        let unload = unload.context("the stand-ins did not report the unload")?;
        let leaks = unload
            .0
            .get("leaks")
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        ensure!(leaks == 0, "leaked: {}", unload.0);
        let allocations = unload.number("allocs");
        self.saw(
            "leaked at unload",
            &format!("nothing, of {allocations} allocations"),
        );
        Ok(())
    }

    /// Replays the capture while weirctl writes what passes.
    fn frames(&mut self) -> Result<()> {
        let file = self.root.join(CAPTURE);
        step(&format!("replaying {CAPTURE} while weirctl captures"));
        let written = self.root.join("target/weir/demo.pcapng");
        let frames = packets(&file)?;
        let mut capture = Background(
            self.weirctl(&["capture", "-i", ADAPTER, "-c", &frames.to_string(), "-w"])
                .arg(windows_path(&written))
                .args(["--duration", "60"])
                .spawn()
                .context("starting weirctl capture")?,
        );
        self.wait_for("a reader", |status| {
            status
                .get("readers")
                .and_then(Value::as_u64)
                .is_some_and(|n| n > 0)
        })?;
        self.lab.ask(&json!({
            "cmd": "replay", "adapter": ADAPTER, "file": windows_path(&file),
            "speed": 0, "loops": 1, "wait": true,
        }))?;
        let ended = capture.0.wait()?;
        ensure!(ended.success(), "weirctl capture: {ended}");
        let captured = packets(&written)?;
        let stats = self.ask(&["stats"])?;
        let balance = seen(&stats)?;
        ensure!(captured == frames, "{captured} frames captured of {frames}");
        ensure!(
            balance == frames,
            "{balance} frames in the balance of {frames}"
        );
        self.saw("frames replayed", &frames.to_string());
        self.saw("frames in the balance", &balance.to_string());
        self.saw(
            "frames in the pcapng file",
            &format!("{captured} (counted by capinfos)"),
        );
        Ok(())
    }

    fn wait_for(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds(&self.ask(&["status"])?) {
            ensure!(Instant::now() < deadline, "{what} never came");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Starts an echo service on a free port and returns where it listens.
    fn start(&self, transport: &str, address: &str) -> Result<SocketAddr> {
        let started = self.ask(&["service", "start", "echo", transport, address])?;
        let address = started
            .get("address")
            .and_then(Value::as_str)
            .unwrap_or_default();
        address
            .parse()
            .with_context(|| format!("where the service listens, in {started}"))
    }

    /// The host's own nc, over TCP and UDP.
    fn echo(&mut self) -> Result<()> {
        for (transport, any) in [
            ("--tcp", "127.0.0.1:0"),
            ("--tcp", "[::1]:0"),
            ("--udp", "127.0.0.1:0"),
            ("--udp", "[::1]:0"),
        ] {
            let address = self.start(transport, any)?;
            step(&format!(
                "nc talks to the kernel's echo, {transport} {address}"
            ));
            let line = format!("hello, kernel, over {transport} {address}\n");
            let mut nc = Command::new("nc");
            if transport == "--udp" {
                nc.args(["-u", "-w", "1"]);
            } else {
                nc.args(["-N", "-w", "5"]);
            }
            let mut nc = nc
                .args([address.ip().to_string(), address.port().to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context("running nc")?;
            nc.stdin
                .take()
                .context("nc has no input")?
                .write_all(line.as_bytes())?;
            let out = nc.wait_with_output()?;
            ensure!(
                out.stdout == line.as_bytes(),
                "nc got {:?} back",
                String::from_utf8_lossy(&out.stdout)
            );
            print!("   {line}");
            self.saw(
                &format!("nc, echo {transport} {}", address.ip()),
                "came back whole",
            );
        }
        Ok(())
    }

    /// Many connections open at once, each of which answers.
    fn many(&mut self) -> Result<()> {
        step(&format!(
            "{CONNECTIONS} TCP connections to the kernel at once"
        ));
        let address = self.start("--tcp", "127.0.0.2:0")?;
        let begun = Instant::now();
        let mut open = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            open.push(stream);
        }
        for (i, stream) in open.iter_mut().enumerate() {
            write!(stream, "{i:08}")?;
        }
        for (i, stream) in open.iter_mut().enumerate() {
            let mut back = [0_u8; 8];
            stream.read_exact(&mut back)?;
            ensure!(
                back == *format!("{i:08}").as_bytes(),
                "connection {i} got another's answer"
            );
        }
        let status = self.ask(&["status"])?;
        let held = status
            .get("connections")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        ensure!(
            held >= CONNECTIONS as u64,
            "the driver counts {held} connections"
        );
        drop(open);
        self.wait_for("the end of all connections", |s| {
            s.get("connections").and_then(Value::as_u64) == Some(0)
        })?;
        let took = begun.elapsed().as_secs_f64();
        self.saw(
            "TCP connections at once",
            &format!("{held}, each answered ({took:.1} s)"),
        );
        Ok(())
    }

    fn print(&self) {
        println!();
        let width = self
            .seen
            .iter()
            .map(|(what, _)| what.len())
            .max()
            .unwrap_or(0);
        for (what, value) in &self.seen {
            println!("{what:<width$}  {value}");
        }
    }
}

/// A program that is ended with the demonstration, however that ends.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The number of frames in a capture file, counted by Wireshark's own capinfos.
fn packets(file: &PathBuf) -> Result<u64> {
    let out = Command::new("capinfos")
        .args(["-c", "-M", "-T", "-r"])
        .arg(file)
        .output();
    let out = out.context("running capinfos")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        bail!(
            "capinfos {}: {}",
            file.display(),
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    let count = text.split_whitespace().next_back().unwrap_or_default();
    count
        .parse()
        .with_context(|| format!("what capinfos printed: {text}"))
}

/// The frames an adapter's balance has seen, both directions together.
fn seen(stats: &Value) -> Result<u64> {
    let adapters = stats
        .get("adapters")
        .and_then(Value::as_array)
        .context("no adapters")?;
    let mut sum = 0;
    for direction in ["in", "out"] {
        for adapter in adapters {
            let at = format!("/{direction}/balance/seen");
            sum += adapter
                .pointer(&at)
                .and_then(Value::as_u64)
                .with_context(|| format!("no {at} in {adapter}"))?;
        }
    }
    Ok(sum)
}
