//! The one patch of the cross build: wdk-build, which runs on the build host,
//! without its refusals of a host other than Windows.
//!
//! It is made on a copy, by exact replacements. Each says how often its text
//! must be there, so that another version of the crate is refused and not
//! half patched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::kit::{output, write_if_changed};

struct Edit {
    file: &'static str,
    from: &'static str,
    to: &'static str,
    times: usize,
}

const EDITS: &[Edit] = &[
    // The `windows` crate reads the registry, and does not compile elsewhere.
    Edit {
        file: "Cargo.toml",
        from: "\n[dependencies.windows]\n",
        to: "\n[target.'cfg(windows)'.dependencies.windows]\n",
        times: 1,
    },
    Edit {
        file: "src/utils.rs",
        from: "\nuse windows::{\n",
        to: "\n#[cfg(windows)]\nuse windows::{\n",
        times: 1,
    },
    Edit {
        file: "src/utils.rs",
        from: "use std::{\n    env,\n    ffi::{CStr, OsStr},\n",
        to: "#[cfg(windows)]\nuse std::ffi::CStr;\nuse std::{\n    env,\n    ffi::OsStr,\n",
        times: 1,
    },
    Edit {
        file: "src/utils.rs",
        from: "\nfn read_registry_key_string_value(\n",
        to: "\n#[cfg(windows)]\nfn read_registry_key_string_value(\n",
        times: 1,
    },
    Edit {
        file: "src/utils.rs",
        from: "\n    if let Some(path) = read_registry_key_string_value(\n",
        to: "\n    #[cfg(windows)]\n    if let Some(path) = read_registry_key_string_value(\n",
        times: 2,
    },
    // These two are called by the cargo-make tasks only, never by a build
    // script: the refusal moves from compile time to the call.
    Edit {
        file: "src/utils.rs",
        from: "    compile_error!(\n",
        to: "    panic!(\n",
        times: 2,
    },
    Edit {
        file: "src/cargo_make.rs",
        from: "std::os::windows::fs::symlink_file(",
        to: "std::os::unix::fs::symlink(",
        times: 2,
    },
];

/// Copies wdk-build `version` from cargo's own registry into `copy`, patched.
/// `lock` seeds the look-up, so that nothing newer is downloaded for it.
///
/// # Errors
/// When the crate cannot be fetched, or is not the one the edits are for.
pub fn patched_copy(version: &str, lock: Option<&Path>, copy: &Path) -> Result<()> {
    let stamp = copy.join(".patched");
    let wanted = format!("{version} {}", fingerprint());
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let original = locate(version, lock, &copy.with_extension("fetch"))?;
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    copy_dir(&original, copy)?;
    for edit in EDITS {
        apply(copy, edit)?;
    }
    fs::write(&stamp, wanted)?;
    Ok(())
}

fn apply(copy: &Path, edit: &Edit) -> Result<()> {
    let path = copy.join(edit.file);
    // The crate is published with either kind of line end.
    let text = fs::read_to_string(&path)
        .with_context(|| format!("reading {}", path.display()))?
        .replace("\r\n", "\n");
    let found = text.matches(edit.from).count();
    ensure!(
        found == edit.times,
        "wdk-build's {} has {found} places that read `{}`, and the patch is for {}. Another \
         version of wdk-build wants its edits in xtask/src/wdk_build.rs looked at again.",
        edit.file,
        edit.from.trim(),
        edit.times
    );
    fs::write(&path, text.replace(edit.from, edit.to))?;
    Ok(())
}

/// Where cargo unpacked the crate: asked of cargo, by way of a package that
/// depends on it and on nothing else.
fn locate(version: &str, lock: Option<&Path>, dir: &Path) -> Result<PathBuf> {
    fs::create_dir_all(dir.join("src"))?;
    fs::write(dir.join("src/lib.rs"), "")?;
    write_if_changed(
        &dir.join("Cargo.toml"),
        &format!(
            "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
             [dependencies]\nwdk-build = \"={version}\"\n\n[workspace]\n"
        ),
    )?;
    if let Some(lock) = lock {
        fs::copy(lock, dir.join("Cargo.lock"))?;
    }
    let json = output(
        Command::new("cargo")
            .args(["metadata", "--format-version", "1", "--manifest-path"])
            .arg(dir.join("Cargo.toml")),
    )?;
    let metadata: serde_json::Value = serde_json::from_str(&json).context("cargo metadata")?;
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "wdk-build" && package["version"] == version)
        .and_then(|package| package["manifest_path"].as_str())
        .with_context(|| format!("cargo metadata knows no wdk-build {version}"))?;
    let dir = Path::new(manifest)
        .parent()
        .context("a manifest without a folder")?;
    Ok(dir.to_owned())
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Changes when the edits do, so that an old copy is not taken for a new one.
fn fingerprint() -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    for edit in EDITS {
        (edit.file, edit.from, edit.to, edit.times).hash(&mut hasher);
    }
    hasher.finish()
}
