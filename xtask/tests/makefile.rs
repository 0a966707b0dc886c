//! `Makefile.toml` is for Windows and is not run here; what it takes for
//! granted about the rest of the repository is held against it.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn toml(path: &str) -> toml::Table {
    let path = root().join(path);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse()
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_makefile_loads_the_wdk_build_that_the_workspace_pins() {
    let pinned = toml("Cargo.toml")["workspace"]["dependencies"]["wdk-build"].clone();
    let makefile = toml("Makefile.toml");
    let script = makefile["config"]["load_script"].as_str().unwrap();
    assert!(
        script.contains(&format!("wdk-build = {pinned}")),
        "{script}"
    );
    assert_eq!(
        makefile["extend"].as_str(),
        Some("target/rust-driver-makefile.toml")
    );
}

#[test]
fn only_members_that_exist_are_built() {
    let makefile = toml("Makefile.toml");
    let workspace = toml("Cargo.toml");
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let included = makefile["env"]["CARGO_MAKE_WORKSPACE_INCLUDE_MEMBERS"]
        .as_array()
        .unwrap();
    assert!(!included.is_empty());
    for member in included {
        assert!(members.contains(member), "{member}");
    }
}

#[test]
fn the_names_of_the_package_are_those_of_the_image() {
    let driver = toml("driver/Cargo.toml");
    let makefile = toml("driver/Makefile.toml");
    let name = driver["lib"]["name"].as_str().unwrap();
    assert_eq!(
        makefile["env"]["CARGO_MAKE_CRATE_FS_NAME"].as_str(),
        Some(name)
    );
    let script = makefile["tasks"]["copy-inx-to-output"]["script"]
        .as_str()
        .unwrap();
    assert!(script.contains(&format!("/../inf/{name}.inx ")), "{script}");
    assert!(root().join(format!("inf/{name}.inx")).is_file());
}

#[test]
fn windows_links_the_static_runtime_as_wdk_build_demands() {
    let config = toml(".cargo/config.toml");
    let flags = config["target"]["x86_64-pc-windows-msvc"]["rustflags"]
        .as_array()
        .unwrap();
    assert!(
        flags
            .iter()
            .any(|flag| flag.as_str() == Some("-Ctarget-feature=+crt-static"))
    );
}
