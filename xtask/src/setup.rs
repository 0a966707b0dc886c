//! `cargo xtask setup`: what a fresh Debian or Ubuntu lacks.
//!
//! Every task calls the part it needs, so nobody has to call this by hand.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::kit::{self, run};

/// What the lab runs with: Wine, and the linker for its Windows programs.
const LAB_PACKAGES: &[&str] = &["wine", "wine64", "gcc-mingw-w64-x86-64-posix"];

/// The clients and judges that nobody here wrote.
const JUDGE_PACKAGES: &[&str] = &[
    "netcat-openbsd",
    "socat",
    "iperf3",
    "curl",
    "nginx-light",
    "openssl",
    "iproute2",
    "tshark",
    "wireshark-common",
    "tcpdump",
    "libpcap0.8",
    "python3",
    "python3-venv",
];

/// Installs what is missing for every task.
///
/// # Errors
/// apt-get is not there, refuses, or there is no way to become root.
pub fn everything() -> Result<()> {
    let wanted = [kit::DEBIAN_PACKAGES, LAB_PACKAGES, JUDGE_PACKAGES].concat();
    debian_packages(&wanted)?;
    kit::ensure_tools().map(drop)
}

fn installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .output()
        .is_ok_and(|o| o.status.success() && o.stdout == b"installed")
}

fn debian_packages(wanted: &[&str]) -> Result<()> {
    let missing: Vec<&str> = wanted.iter().copied().filter(|p| !installed(p)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if which("apt-get").is_none() {
        bail!("this host has no apt-get; install what Debian calls: {list}");
    }
    eprintln!("installing: {list}");
    let apt = |arguments: &[&str]| -> Result<()> {
        let mut command = as_root("apt-get")?;
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "-o", "Dpkg::Use-Pty=0"])
            .args(arguments)
            .stdout(std::process::Stdio::null());
        run(&mut command)
    };
    apt(&["update"])?;
    let install = ["install", "-y", "--no-install-recommends"];
    apt(&[&install[..], &missing].concat())
}

/// A command run as root: by sudo where the caller is not root.
fn as_root(program: &str) -> Result<Command> {
    let id = kit::output(Command::new("id").arg("-u"))?;
    if id.trim() == "0" {
        return Ok(Command::new(program));
    }
    if which("sudo").is_none() {
        bail!("installing packages wants root, and there is no sudo");
    }
    let mut command = Command::new("sudo");
    command.args(["--preserve-env=DEBIAN_FRONTEND", program]);
    Ok(command)
}

/// Where a program is on the PATH.
#[must_use]
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// A Python environment with the packages `requirements` pins, made once.
///
/// # Errors
/// Python can't make it, or pip can't install a package.
pub fn python(root: &Path, name: &str, requirements: &Path) -> Result<PathBuf> {
    let venv = root.join("target/venv").join(name);
    let python = venv.join("bin/python");
    let stamp = venv.join("requirements.txt");
    let wanted = std::fs::read_to_string(requirements)
        .with_context(|| format!("reading {}", requirements.display()))?;
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) && python.is_file() {
        return Ok(python);
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&venv))?;
    run(Command::new(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ])
        .arg(requirements))?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}
