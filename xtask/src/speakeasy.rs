//! `cargo xtask speakeasy`: an emulator that nobody here wrote loads the image.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::kit::run as run_command;
use crate::setup;

/// Runs the image's DriverEntry in the emulator, printing each call it makes.
///
/// # Errors
/// When the emulator cannot be installed, or DriverEntry does not get as far as
/// it should: `tests/speakeasy/run.py` prints why.
pub fn run(root: &Path, image: &Path) -> Result<()> {
    let folder = root.join("tests/speakeasy");
    let python = setup::python(root, "speakeasy", &folder.join("requirements.txt"))?;
    run_command(
        Command::new(python)
            .arg(folder.join("run.py"))
            .arg(image)
            .env("PYTHONWARNINGS", "ignore"),
    )
    .context("the emulator does not take the image")
}
