//! The project's own tasks: `cargo xtask --help`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use xtask::driver;

#[derive(Parser)]
#[command(about = "Weir's own tasks", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
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
}

fn main() -> Result<()> {
    let root = repository()?;
    match Cli::parse().task {
        Task::Driver {
            check: true, quick, ..
        } => driver::check(&root, quick),
        Task::Driver { profile, .. } => {
            let made = driver::build(&root, profile)?;
            for path in [&made.sys, &made.pdb, &made.map] {
                println!("{}", path.display());
            }
            Ok(())
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
