//! `cargo xtask test`: every check there is, in the order that fails soonest.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weir_lab_harness::{Artifacts, Config, Lab};

use crate::kit::run;
use crate::{driver, image, licences, parts, setup, speakeasy};

/// Packages that are built for Windows alone, or differ there.
const WINDOWS_PACKAGES: &[&str] = &[
    "lab-standins",
    "lab-agent",
    "lab-bcrypt",
    "weir-client",
    "weir-io-models",
    "weir-probe",
    "weirctl",
];

/// Packages with tests of their own that run as Windows programs.
const WINE_TESTED: &[&str] = &["lab-standins", "weir-client", "weir-io-models", "weirctl"];

fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(arguments);
    command
}

/// Runs the steps, says how long each took, and stops at the first that fails.
///
/// # Errors
/// The step that failed.
pub fn test(root: &Path) -> Result<()> {
    let mut steps = Steps::default();
    steps.run("set-up", setup::everything)?;
    steps.run("formatting", || {
        run(&mut cargo(root, &["fmt", "--all", "--check"]))
    })?;
    steps.run("licences, sources", || licences::check(root))?;
    steps.run("lints, host", || {
        let all = [
            "clippy",
            "--locked",
            "--quiet",
            "--all-targets",
            "--all-features",
        ];
        run(cargo(root, &all).args(["--", "-D", "warnings"]))
    })?;
    steps.run("lints, Windows", || {
        run(
            parts::cargo(root, "clippy", parts::TARGET, WINDOWS_PACKAGES)
                .args(["--", "-D", "warnings"]),
        )?;
        run(
            parts::cargo(root, "clippy", parts::KERNEL_TARGET, &["lab-badriver"])
                .args(["--", "-D", "warnings"]),
        )
    })?;
    steps.run("lints, driver", || driver::check(root, false))?;
    steps.run("tests, host", || {
        run(&mut cargo(root, &["test", "--locked"]))
    })?;
    steps.run("weir.sys", || {
        driver::build(root, driver::Profile::Release).map(drop)
    })?;
    steps.run("the image", || image::run(&driver::sys_path(root)))?;
    steps.run("speakeasy", || {
        speakeasy::run(root, &driver::sys_path(root))
    })?;
    steps.run("the lab's parts", || parts::build(root).map(drop))?;
    steps.run("tests, Wine", || wine_tests(root))?;
    steps.run("tests, lab", || {
        let lab = [
            "test",
            "--locked",
            "--package",
            "weir-tests",
            "--package",
            "xtask",
            "--features",
            "weir-tests/lab,xtask/lab",
            // The lab takes minutes: one run says all that fails.
            "--no-fail-fast",
        ];
        // One lab at a time: they would only take each other's processor.
        run(cargo(root, &lab).args(["--", "--test-threads=1"]))
    })?;
    steps.print();
    Ok(())
}

/// The unit tests of what runs on Windows alone: as Windows programs, in a lab
/// without a driver.
fn wine_tests(root: &Path) -> Result<()> {
    let lab = Lab::open(
        root.join("target/lab/unit"),
        Artifacts::in_dir(parts::dir(root)),
    );
    lab.destroy()?;
    lab.up(&Config::default())?;
    let mut command = parts::cargo(root, "test", parts::TARGET, WINE_TESTED);
    // Stand-ins and drivers share state by design: one test at a time.
    command.args(["--", "--test-threads=1"]);
    // The runner is what the lab runs any Windows program with.
    command.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", "wine");
    for (name, value) in lab.environment() {
        command.env(name, value);
    }
    let tested = run(&mut command);
    lab.destroy()?;
    tested
}

#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("== {name}");
        let start = Instant::now();
        let result = step();
        self.done.push((name, start.elapsed()));
        result.with_context(|| {
            self.print();
            format!("the step `{name}` failed")
        })
    }

    fn print(&self) {
        println!("\nstep                seconds");
        for (name, took) in &self.done {
            println!("{name:<20}{:>7.1}", took.as_secs_f64());
        }
    }
}
