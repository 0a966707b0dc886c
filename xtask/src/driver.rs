//! `cargo xtask driver`: weir.sys, built on a host without a WDK.
//!
//! wdk, wdk-sys, wdk-alloc and wdk-panic are the released crates. What differs
//! from a build on Windows is in a workspace generated under `target/weir/ws`,
//! whose members are links to the repository's: a patched wdk-build
//! ([`crate::wdk_build`]), the kit in place of the WDK ([`crate::kit`]), and a
//! Cargo.lock of its own, seeded from the committed one, which stays as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::kit::{self, Kit, Tools, run, write_if_changed};
use crate::wdk_build;

/// The target every driver is built for.
const TARGET: &str = "x86_64-pc-windows-msvc";

/// A driver crate of the repository.
#[derive(Clone, Copy)]
pub struct DriverCrate {
    /// The package's name.
    pub package: &'static str,
    /// The library's name, which is the image's.
    pub lib: &'static str,
}

/// The product.
pub const WEIR: DriverCrate = DriverCrate {
    package: "weir-driver",
    lib: "weir",
};

/// Which of cargo's profiles the driver is built with.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// What ships.
    Release,
    /// Quicker to build, with debug assertions.
    Dev,
}

/// What a build leaves in `target/weir`.
pub struct Artifacts {
    /// The driver's image.
    pub sys: PathBuf,
    /// Its debug symbols.
    pub pdb: PathBuf,
    /// The linker's map: every symbol of the image.
    pub map: PathBuf,
}

/// Builds weir.sys.
///
/// # Errors
/// When a tool is missing, or a step of the build fails.
pub fn build(root: &Path, profile: Profile) -> Result<Artifacts> {
    build_crate(root, WEIR, profile)
}

/// Builds any driver crate that is a member of the generated workspace.
///
/// # Errors
/// When a tool is missing, or a step of the build fails.
pub fn build_crate(root: &Path, driver: DriverCrate, profile: Profile) -> Result<Artifacts> {
    let Workspace { folder: ws, kit } = prepare(root)?;
    let (flag, folder) = match profile {
        Profile::Release => ("release", "release"),
        Profile::Dev => ("dev", "debug"),
    };
    let built = ws.join("target").join(TARGET).join(folder);
    let package = ["--package", driver.package, "--profile", flag];
    let image = built.join(format!("{}.dll", driver.lib));
    let libraries: Vec<&Path> = kit.libraries.iter().map(PathBuf::as_path).collect();
    if image.is_file() && !kit::newer(&image, &libraries)? {
        // A library of the kit has changed, which cargo does not see.
        run(cargo(&ws).args(["clean", "--quiet"]).args(package))?;
    }
    run(cargo(&ws).arg("build").args(package))?;
    let out = out_dir(root);
    let place = |from: String, to_extension: &str| -> Result<PathBuf> {
        let (from, to) = (
            built.join(from),
            out.join(format!("{}.{to_extension}", driver.lib)),
        );
        // Whoever reads the old file meanwhile has it whole.
        let new = to.with_extension(format!("{to_extension}.new"));
        fs::copy(&from, &new)
            .and_then(|_| fs::rename(&new, &to))
            .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        Ok(to)
    };
    Ok(Artifacts {
        sys: place(format!("{}.dll", driver.lib), "sys")?,
        pdb: place(format!("{}.pdb", driver.lib), "pdb")?,
        // Cargo knows nothing of the map, and leaves it where the linker does.
        map: place(format!("deps/{}.map", driver.lib), "map")?,
    })
}

/// Runs clippy over the driver, or `cargo check` when `quick`.
///
/// # Errors
/// When a tool is missing, or the code does not pass.
pub fn check(root: &Path, quick: bool) -> Result<()> {
    let Workspace { folder: ws, .. } = prepare(root)?;
    let mut command = cargo(&ws);
    if quick {
        command.args(["check", "--package", WEIR.package]);
    } else {
        command.args([
            "clippy",
            "--package",
            WEIR.package,
            "--no-deps",
            "--",
            "-D",
            "warnings",
        ]);
    }
    run(&mut command)
}

/// Where everything made by the cross build is.
#[must_use]
pub fn out_dir(root: &Path) -> PathBuf {
    root.join("target/weir")
}

/// Where [`build`] puts the driver's image.
#[must_use]
pub fn sys_path(root: &Path) -> PathBuf {
    out_dir(root).join("weir.sys")
}

/// The generated workspace, and the kit it builds against.
pub struct Workspace {
    /// Where its Cargo.toml is; a plain cargo works there.
    pub folder: PathBuf,
    /// What stands in for the WDK.
    pub kit: Kit,
}

/// Makes or refreshes the kit and the generated workspace.
///
/// # Errors
/// When a tool is missing, or a file cannot be made.
pub fn prepare(root: &Path) -> Result<Workspace> {
    let tools = kit::ensure_tools()?;
    let out = out_dir(root);
    let ws = out.join("ws");
    fs::create_dir_all(ws.join(".cargo"))?;
    let kit = kit::assemble(&root.join("lab/kit"), &out.join("kit"), &tools)?;

    let committed_lock = root.join("Cargo.lock");
    let lock = committed_lock.is_file().then_some(committed_lock.as_path());
    let manifest = Manifest::read(root)?;
    wdk_build::patched_copy(&manifest.wdk_build_version()?, lock, &out.join("wdk-build"))?;

    for member in ["crates", "driver", "lab"] {
        link(&root.join(member), &ws.join(member))?;
    }
    write_if_changed(&ws.join("Cargo.toml"), &manifest.generated()?)?;
    write_if_changed(
        &ws.join("rust-toolchain.toml"),
        &fs::read_to_string(root.join("rust-toolchain.toml"))?,
    )?;
    write_if_changed(
        &ws.join(".cargo/config.toml"),
        &config(root, &ws, &kit, &tools),
    )?;
    if let Some(lock) = lock {
        seed_lock(lock, &ws)?;
    }
    Ok(Workspace { folder: ws, kit })
}

/// cargo in the generated workspace, unaffected by how xtask itself was built.
fn cargo(ws: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(ws);
    for variable in [
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
    ] {
        command.env_remove(variable);
    }
    command
}

/// The lock starts as the committed one and then follows the patch; it starts
/// again when the committed one has changed.
fn seed_lock(committed: &Path, ws: &Path) -> Result<()> {
    let text = fs::read_to_string(committed)?;
    let seed = ws.join("Cargo.lock.seed");
    if !ws.join("Cargo.lock").is_file() || fs::read_to_string(&seed).is_ok_and(|old| old != text) {
        fs::write(ws.join("Cargo.lock"), &text)?;
    }
    write_if_changed(&seed, &text)
}

fn link(target: &Path, link: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|found| found == target) {
        return Ok(());
    }
    if link.symlink_metadata().is_ok() {
        fs::remove_file(link).with_context(|| format!("removing {}", link.display()))?;
    }
    symlink(target, link)
        .with_context(|| format!("linking {} to {}", link.display(), target.display()))
}

#[cfg(unix)]
use std::os::unix::fs::symlink;

/// The real WDK is there on Windows, and nothing need stand in for it.
#[cfg(not(unix))]
fn symlink(_target: &Path, _link: &Path) -> std::io::Result<()> {
    Err(std::io::Error::new(
        std::io::ErrorKind::Unsupported,
        "on Windows the driver is built with `cargo make`",
    ))
}

/// The repository's own workspace manifest.
struct Manifest(toml::Table);

impl Manifest {
    fn read(root: &Path) -> Result<Self> {
        let path = root.join("Cargo.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self(
            text.parse()
                .with_context(|| format!("parsing {}", path.display()))?,
        ))
    }

    /// The exact version the workspace pins wdk-build to.
    fn wdk_build_version(&self) -> Result<String> {
        let version = self
            .0
            .get("workspace")
            .and_then(|w| w.get("dependencies")?.get("wdk-build")?.as_str())
            .context("Cargo.toml: workspace.dependencies has no wdk-build")?;
        let exact = version.strip_prefix('=');
        ensure!(
            exact.is_some(),
            "Cargo.toml pins wdk-build to `{version}`; the patch wants one version, `=x.y.z`"
        );
        Ok(exact.unwrap_or_default().to_owned())
    }

    /// The same workspace with the drivers as its members, and the patch.
    fn generated(&self) -> Result<String> {
        let mut table = self.0.clone();
        let workspace = table
            .get_mut("workspace")
            .and_then(toml::Value::as_table_mut)
            .context("Cargo.toml has no [workspace]")?;
        workspace.remove("default-members");
        let members = ["crates/abi", "crates/engine", "driver"];
        workspace.insert(
            "members".into(),
            members.map(toml::Value::from).to_vec().into(),
        );
        // Settings of packages that aren't members here would be warned about.
        let profiles = table.get_mut("profile").and_then(toml::Value::as_table_mut);
        for (_, profile) in profiles.into_iter().flatten() {
            let packages = profile.get_mut("package").and_then(|p| p.as_table_mut());
            if let Some(packages) = packages {
                packages.retain(|name, _| name == "*");
            }
        }
        let mut patch = toml::Table::new();
        patch.insert("path".into(), "../wdk-build".into());
        let patches = toml::Table::from_iter([("wdk-build".to_owned(), patch.into())]);
        let by_source = toml::Table::from_iter([("crates-io".to_owned(), patches.into())]);
        table.insert("patch".into(), by_source.into());
        Ok(format!(
            "# Made by `cargo xtask driver`; changes are lost.\n{}",
            toml::to_string(&table)?
        ))
    }
}

/// Everything a plain cargo in the workspace needs to know.
fn config(root: &Path, ws: &Path, kit: &Kit, tools: &Tools) -> String {
    let bindgen: Vec<String> = kit
        .include_dirs
        .iter()
        .flat_map(|dir| ["-isystem".to_owned(), dir.display().to_string()])
        .collect();
    let cc: Vec<String> = kit
        .include_dirs
        .iter()
        .map(|dir| format!("-imsvc{}", dir.display()))
        .collect();
    // Where the sources are is nobody's business; and the same sources in the
    // same place give the same bytes.
    let rustflags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=/weir", ws.display()),
        format!("--remap-path-prefix={}=/weir", root.display()),
        "-Clink-arg=/BREPRO".to_owned(),
        "-Clink-arg=/PDBALTPATH:%_PDB%".to_owned(),
        // Kernel images carry a checksum.
        "-Clink-arg=/RELEASE".to_owned(),
    ];
    let table = toml::toml! {
        [build]
        target = "x86_64-pc-windows-msvc"
        [target.x86_64-pc-windows-msvc]
        linker = "rust-lld"
    };
    let mut table = table;
    if let Some(build) = table.get_mut("build").and_then(toml::Value::as_table_mut) {
        build.insert(
            "target-dir".into(),
            ws.join("target").display().to_string().into(),
        );
    }
    if let Some(target) = table
        .get_mut("target")
        .and_then(|t| t.get_mut(TARGET))
        .and_then(toml::Value::as_table_mut)
    {
        target.insert("rustflags".into(), rustflags.to_vec().into());
    }
    let env = toml::Table::from_iter(
        [
            ("WDKContentRoot", kit.content_root.display().to_string()),
            (
                "BINDGEN_EXTRA_CLANG_ARGS_x86_64_pc_windows_msvc",
                bindgen.join(" "),
            ),
            (
                "CC_x86_64_pc_windows_msvc",
                tools.clang_cl.display().to_string(),
            ),
            (
                "CFLAGS_x86_64_pc_windows_msvc",
                format!("--target={TARGET} {}", cc.join(" ")),
            ),
            (
                "AR_x86_64_pc_windows_msvc",
                tools.llvm_lib.display().to_string(),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), toml::Value::from(value))),
    );
    table.insert("env".into(), env.into());
    format!("# Made by `cargo xtask driver`; changes are lost.\n{table}")
}
