//! `cargo xtask lab`: the lab for a person to play in.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use weir_lab_harness::{Adapter, Artifacts, Config, Lab, SymbolMap, windows_path};

use crate::{driver, parts, setup};

/// The service, and the image's name, under which the driver is loaded.
pub const SERVICE: &str = "weir";

/// The one adapter a lab has unless told otherwise.
pub const ADAPTER: &str = "lab0";

/// Its address: the committed captures' first host has it too.
pub const ADAPTER_MAC: &str = "02:00:00:00:00:01";

/// What to do with the lab.
#[derive(Subcommand)]
pub enum LabTask {
    /// Build what is missing, start Wine, load weir.sys
    Up {
        /// Replay this capture (pcap or pcapng) through the adapter, over and over
        #[arg(long, value_name = "FILE")]
        replay: Option<PathBuf>,
        /// The host's UDP socket at the far end of the adapter's wire: one frame a datagram
        #[arg(long, value_name = "ADDR:PORT")]
        wire: Option<std::net::SocketAddr>,
        /// Load this image instead of building the driver
        #[arg(long, value_name = "FILE")]
        image: Option<PathBuf>,
    },
    /// Run a Windows program in the lab, such as `weirctl status`
    Run {
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// What is up, what the adapters have seen, what the stand-ins found
    Status {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Unload the driver, report what leaked, end Wine
    Down,
}

/// The lab that `cargo xtask lab` works on; `WEIR_LAB` names another folder.
#[must_use]
pub fn lab(root: &Path) -> Lab {
    Lab::open(
        std::env::var_os("WEIR_LAB").map_or_else(|| root.join("target/lab/play"), PathBuf::from),
        Artifacts::in_dir(parts::dir(root)),
    )
}

/// One adapter as the lab's own configuration wants it.
#[must_use]
pub fn one_adapter() -> Config {
    Config {
        adapters: vec![Adapter {
            name: ADAPTER.into(),
            mac: ADAPTER_MAC.into(),
            mtu: 1500,
            wire: None,
            wire_listen: None,
        }],
        ..Config::default()
    }
}

/// Does one lab task.
///
/// # Errors
/// As the task's own; each says what to do.
pub fn run(root: &Path, task: LabTask) -> Result<ExitCode> {
    match task {
        LabTask::Up {
            replay,
            wire,
            image,
        } => up(root, replay.as_deref(), wire, image),
        LabTask::Run { command } => run_program(&lab(root), root, &command),
        LabTask::Status { json } => status(&lab(root), root, json),
        LabTask::Down => down(&lab(root), root),
    }
}

fn up(
    root: &Path,
    replay: Option<&Path>,
    wire: Option<std::net::SocketAddr>,
    image: Option<PathBuf>,
) -> Result<ExitCode> {
    if let Some(file) = replay {
        std::fs::File::open(file).with_context(|| format!("opening {}", file.display()))?;
    }
    let lab = lab(root);
    if lab.is_up() {
        bail!("the lab is up already; `cargo xtask lab down` ends it");
    }
    setup::everything()?;
    let image = match image {
        Some(image) => image,
        None => driver::build(root, driver::Profile::Release)?.sys,
    };
    parts::build(root)?;
    let mut config = one_adapter();
    if let (Some(peer), Some(adapter)) = (wire, config.adapters.first_mut()) {
        adapter.wire = Some(peer.to_string());
        // The near end: any free port; `lab status` shows it.
        adapter.wire_listen = Some(0);
    }
    lab.up(&config)?;
    if let Err(e) = load(&lab, &image, replay, wire) {
        // Half a lab is of no use: the next `up` starts from nothing.
        lab.down()?;
        return Err(e);
    }
    println!("try: cargo xtask lab run weirctl status");
    Ok(ExitCode::SUCCESS)
}

/// Loads the driver and starts what the command line asks for.
fn load(
    lab: &Lab,
    image: &Path,
    replay: Option<&Path>,
    wire: Option<std::net::SocketAddr>,
) -> Result<()> {
    lab.install_driver(SERVICE, image)?;
    lab.start_driver(SERVICE)?;
    println!("weir.sys is loaded, with one virtual adapter, {ADAPTER} ({ADAPTER_MAC})");
    if let Some(file) = replay {
        lab.ask(&json!({
            "cmd": "replay", "adapter": ADAPTER, "file": windows_path(file),
            "speed": 1.0, "loops": 0, "wait": false,
        }))?;
        println!(
            "replaying {} over and over, at the speed it was taken",
            file.display()
        );
    }
    if let Some(peer) = wire {
        let near = wire_port(lab)?;
        println!("wire: frames sent down go to {peer}; send frames up to 127.0.0.1:{near}");
    }
    Ok(())
}

fn wire_port(lab: &Lab) -> Result<u64> {
    let status = lab.ask(&json!({"cmd": "adapters"}))?;
    status
        .pointer("/adapters/0/wire_port")
        .and_then(Value::as_u64)
        .context("the stand-ins did not say where the wire is")
}

/// The Windows path of a program the lab brings, or the name as it was given.
fn program(root: &Path, name: &str) -> String {
    let own = parts::dir(root).join(format!("{}.exe", name.trim_end_matches(".exe")));
    if own.is_file() {
        windows_path(&own)
    } else {
        name.to_owned()
    }
}

fn run_program(lab: &Lab, root: &Path, command: &[String]) -> Result<ExitCode> {
    let [name, arguments @ ..] = command else {
        bail!("no program was named");
    };
    if !lab.is_up() {
        bail!("the lab is not up; `cargo xtask lab up` starts it");
    }
    let status = lab
        .command(&program(root, name))
        .args(arguments)
        .status()
        .context("running wine; `cargo xtask setup` installs it")?;
    // Wine passes the low eight bits of the program's code on, as any Unix does.
    Ok(status
        .code()
        .and_then(|c| u8::try_from(c).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

fn symbols(root: &Path) -> SymbolMap {
    SymbolMap::read(&driver::out_dir(root).join("weir.map")).unwrap_or_default()
}

fn status(lab: &Lab, root: &Path, as_json: bool) -> Result<ExitCode> {
    let up = lab.is_up();
    let state = if up {
        lab.driver_state(SERVICE).unwrap_or_else(|e| e.to_string())
    } else {
        "-".into()
    };
    let ask = |what: &str| {
        if up {
            lab.ask(&json!({"cmd": what})).unwrap_or(Value::Null)
        } else {
            Value::Null
        }
    };
    let (adapters, standins) = (ask("adapters"), ask("status"));
    let broken = lab.check().err();
    if as_json {
        println!(
            "{}",
            json!({
                "up": up, "driver": state, "adapters": adapters.get("adapters"),
                "standins": standins, "violation": broken.as_ref().map(ToString::to_string),
            })
        );
    } else {
        println!("lab      {}", if up { "up" } else { "down" });
        println!("driver   {state}");
        for adapter in adapters
            .get("adapters")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            println!("adapter  {}", describe(adapter));
        }
        let pool = standins.get("pool").and_then(Value::as_object);
        for (tag, held) in pool.into_iter().flatten() {
            let number = |at: usize| held.get(at).and_then(Value::as_u64).unwrap_or(0);
            println!("pool     {tag}: {} blocks, {} bytes", number(0), number(1));
        }
        match &broken {
            Some(weir_lab_harness::Error::Violation {
                rule,
                caller,
                detail,
            }) => {
                println!(
                    "BROKEN   {rule} at {}: {detail}",
                    symbols(root).describe(caller)
                );
            }
            Some(other) => println!("BROKEN   {other}"),
            None => println!("rules    none broken"),
        }
    }
    Ok(if up && broken.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// One line on an adapter: what went into the filter, and what came out of it.
fn describe(adapter: &Value) -> String {
    let text = |at: &str| adapter.pointer(at).and_then(Value::as_str).unwrap_or("-");
    let number = |at: &str| adapter.pointer(at).and_then(Value::as_u64).unwrap_or(0);
    let side = |at: &str| {
        format!(
            "{at} {} in, {} out, {} refused",
            number(&format!("/{at}/frames_in")),
            number(&format!("/{at}/frames_out")),
            number(&format!("/{at}/refused/frames")),
        )
    };
    let mut line = format!(
        "{} ({}) {}; {}; {}; {} under way",
        text("/name"),
        text("/mac"),
        text("/state"),
        side("up"),
        side("down"),
        number("/in_flight"),
    );
    if number("/wire_port") != 0 {
        line += &format!(
            "; wire: 127.0.0.1:{} to {}",
            number("/wire_port"),
            text("/wire")
        );
    }
    line
}

fn down(lab: &Lab, root: &Path) -> Result<ExitCode> {
    if !lab.is_up() {
        lab.down()?;
        println!("the lab is down");
        return Ok(ExitCode::SUCCESS);
    }
    let unloaded = match lab.driver_state(SERVICE) {
        // The driver stays while a program has its device open.
        Ok(state) if state == "running" => {
            lab.end_programs().and_then(|()| lab.stop_driver(SERVICE))
        }
        _ => lab.check(),
    };
    lab.down()?;
    match unloaded {
        Ok(()) => {
            println!("weir.sys is unloaded and nothing leaked; the lab is down");
            Ok(ExitCode::SUCCESS)
        }
        Err(weir_lab_harness::Error::Violation {
            rule,
            caller,
            detail,
        }) => {
            let caller = symbols(root).describe(&caller);
            println!("rule {rule} was broken at {caller}: {detail}\nthe lab is down");
            Ok(ExitCode::FAILURE)
        }
        Err(e) => Err(e.into()),
    }
}
