//! `cargo xtask bench`: the engine beside those that do the same.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::{kit, setup};

/// Builds and runs the measurements; the summary is what they print last.
///
/// # Errors
/// A package can't be installed, the build failed, or two that should say the
/// same of the frames don't.
pub fn run(root: &Path, quick: bool) -> Result<()> {
    setup::everything()?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // `--bench` is criterion's: without it every measurement is tried once.
    command
        .current_dir(root)
        .args(["run", "--release", "--package", "weir-bench", "--"])
        .arg("--bench");
    if quick {
        command.arg("--quick");
    }
    kit::run(&mut command)
}
