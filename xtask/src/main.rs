//! The project's own tasks: `cargo xtask --help`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use xtask::{bench, checks, demo, driver, image, play, setup, speakeasy};

#[derive(Parser)]
#[command(about = "Weir's own tasks", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// See it work: the driver under Wine, on real frames, with real clients
    Demo,
    /// Run every check and test there is
    Test,
    /// Measure the engine beside etherparse, libpcap and hashbrown
    Bench {
        /// Shorter samples, and no ten million flows
        #[arg(long)]
        quick: bool,
    },
    /// Install what a fresh Debian or Ubuntu lacks; the other tasks do it too
    Setup,
    /// Bring up a lab with weir.sys in it, to play in
    #[command(subcommand)]
    Lab(play::LabTask),
    /// Build target/weir/weir.sys, weir.pdb and weir.map without a WDK
    Driver {
        /// Cargo's profile
        #[arg(long, value_enum, default_value = "release")]
        profile: driver::Profile,
        /// Lint the driver (clippy) and build nothing
        #[arg(long)]
        check: bool,
        /// With --check: type-check only
        #[arg(long, requires = "check")]
        quick: bool,
    },
    /// Check that an image is one Windows would load as this driver
    Image {
        /// The image; its .pdb and .map are looked for beside it
        path: Option<PathBuf>,
    },
    /// Let the emulator speakeasy load the driver and run its DriverEntry
    Speakeasy {
        /// The image
        path: Option<PathBuf>,
    },
}

fn main() -> Result<ExitCode> {
    let root = repository()?;
    match Cli::parse().task {
        Task::Lab(task) => return play::run(&root, task),
        task => run(&root, task)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run(root: &Path, task: Task) -> Result<()> {
    match task {
        Task::Demo => demo::run(root),
        Task::Test => checks::test(root),
        Task::Bench { quick } => bench::run(root, quick),
        Task::Setup => setup::everything(),
        // Answered by the caller: its exit code may be another program's.
        Task::Lab(_) => Ok(()),
        Task::Driver {
            check: true, quick, ..
        } => driver::check(root, quick),
        Task::Driver { profile, .. } => {
            let made = driver::build(root, profile)?;
            for path in [&made.sys, &made.pdb, &made.map] {
                println!("{}", path.display());
            }
            Ok(())
        }
        Task::Image { path } => image::run(&path.unwrap_or_else(|| driver::sys_path(root))),
        Task::Speakeasy { path } => {
            speakeasy::run(root, &path.unwrap_or_else(|| driver::sys_path(root)))
        }
    }
}

/// The repository this xtask is run for: cargo says which; without cargo, the
/// one it was built from.
fn repository() -> Result<PathBuf> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    Ok(here
        .parent()
        .context("xtask is not in a repository")?
        .to_owned())
}
