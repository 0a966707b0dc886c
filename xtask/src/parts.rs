//! The lab's Windows parts, cross-built and gathered in `target/weir/lab`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::driver;
use crate::kit::run;

/// What the lab's programs and stand-ins are built for.
pub const TARGET: &str = "x86_64-pc-windows-gnu";

/// What kernel images are built for.
pub const KERNEL_TARGET: &str = "x86_64-pc-windows-msvc";

/// Package, the file cargo makes, and the name it has in the lab.
const PARTS: &[(&str, &str, &str)] = &[
    ("lab-standins", "lab.dll", "lab.sys"),
    ("lab-bcrypt", "bcryptprimitives.dll", "bcryptprimitives.dll"),
    ("lab-agent", "labagent.exe", "labagent.exe"),
    ("weirctl", "weirctl.exe", "weirctl.exe"),
    ("weir-probe", "probe.exe", "probe.exe"),
];

/// Where the parts are put.
#[must_use]
pub fn dir(root: &Path) -> PathBuf {
    driver::out_dir(root).join("lab")
}

/// Builds all parts, and `target/weir/bad.sys`.
///
/// # Errors
/// A build fails.
pub fn build(root: &Path) -> Result<PathBuf> {
    let out = dir(root);
    fs::create_dir_all(&out)?;
    let packages: Vec<&str> = PARTS.iter().map(|(package, _, _)| *package).collect();
    let made = built(root, TARGET, &packages)?;
    for (_, file, name) in PARTS {
        place(&made.join(file), &out.join(name))?;
    }
    let made = built(root, KERNEL_TARGET, &["lab-badriver"])?;
    place(
        &made.join("bad.dll"),
        &driver::out_dir(root).join("bad.sys"),
    )?;
    Ok(out)
}

fn built(root: &Path, target: &str, packages: &[&str]) -> Result<PathBuf> {
    run(&mut cargo(root, "build", target, packages))?;
    Ok(folder(root).join(target).join("lab"))
}

/// The parts' own target folder: not the caller's, whose lock and profile may
/// differ.
fn folder(root: &Path) -> PathBuf {
    driver::out_dir(root).join("parts")
}

/// cargo with the parts' profile and target folder, not yet run.
#[must_use]
pub fn cargo(root: &Path, verb: &str, target: &str, packages: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root)
        // The bad driver needs no linker but the one within the Rust toolchain.
        .env("CARGO_TARGET_X86_64_PC_WINDOWS_MSVC_LINKER", "rust-lld")
        .args([
            verb,
            "--locked",
            "--quiet",
            "--profile",
            "lab",
            "--target",
            target,
        ])
        .arg("--target-dir")
        .arg(folder(root));
    for package in packages {
        cargo.args(["--package", package]);
    }
    cargo
}

fn place(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}
