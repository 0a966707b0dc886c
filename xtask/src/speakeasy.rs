//! `cargo xtask speakeasy`: an emulator that nobody here wrote loads the image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::driver::out_dir;
use crate::kit::run as run_command;

/// Debian packages needed beside Python itself.
pub const DEBIAN_PACKAGES: &[&str] = &["python3", "python3-venv"];

/// Runs the image's DriverEntry in the emulator, printing each call it makes.
///
/// # Errors
/// When the emulator cannot be installed, or DriverEntry does not get as far as
/// it should: `tests/speakeasy/run.py` prints why.
pub fn run(root: &Path, image: &Path) -> Result<()> {
    let python = environment(root)?;
    run_command(
        Command::new(python)
            .arg(root.join("tests/speakeasy/run.py"))
            .arg(image)
            .env("PYTHONWARNINGS", "ignore"),
    )
    .context("the emulator does not take the image")
}

/// A virtual environment with exactly what requirements.txt names, made anew
/// when that changes; returns its Python.
fn environment(root: &Path) -> Result<PathBuf> {
    let requirements = root.join("tests/speakeasy/requirements.txt");
    let wanted = fs::read_to_string(&requirements)
        .with_context(|| format!("reading {}", requirements.display()))?;
    let venv = out_dir(root).join("speakeasy");
    let python = venv.join("bin/python");
    let stamp = venv.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    if venv.exists() {
        fs::remove_dir_all(&venv)?;
    }
    run_command(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .context("making a virtual environment (Debian: python3-venv)")?;
    run_command(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "-r",
            ])
            .arg(&requirements),
    )?;
    fs::write(&stamp, wanted)?;
    Ok(python)
}
