//! The lab's Windows parts, cross-built and gathered in `target/weir/lab`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::driver;
use crate::kit::run;

/// What the lab's programs and stand-ins are built for.
const TARGET: &str = "x86_64-pc-windows-gnu";

/// Package, the file cargo makes, and the name it has in the lab.
const PARTS: &[(&str, &str, &str)] = &[
    ("lab-standins", "lab.dll", "lab.sys"),
    ("lab-bcrypt", "bcryptprimitives.dll", "bcryptprimitives.dll"),
    ("lab-agent", "labagent.exe", "labagent.exe"),
    ("weirctl", "weirctl.exe", "weirctl.exe"),
];

/// Where the parts are put.
#[must_use]
pub fn dir(root: &Path) -> PathBuf {
    driver::out_dir(root).join("lab")
}

/// Builds all parts.
///
/// # Errors
/// A build fails.
pub fn build(root: &Path) -> Result<PathBuf> {
    let out = dir(root);
    fs::create_dir_all(&out)?;
    // A target folder of its own: not the caller's, whose lock and profile may differ.
    let target = driver::out_dir(root).join("parts");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root)
        .args([
            "build",
            "--locked",
            "--quiet",
            "--profile",
            "lab",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&target);
    for (package, _, _) in PARTS {
        cargo.args(["--package", package]);
    }
    run(&mut cargo)?;
    for (_, made, name) in PARTS {
        let from = target.join(TARGET).join("lab").join(made);
        fs::copy(&from, out.join(name)).with_context(|| format!("copying {}", from.display()))?;
    }
    Ok(out)
}
