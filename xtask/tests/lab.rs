//! `cargo xtask lab`, as a person uses it: up, run, status, down.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Play {
    root: PathBuf,
    dir: PathBuf,
}

impl Play {
    fn new() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.parent().expect("the repository").to_owned();
        let dir = root.join("target/lab/command-line");
        let _not_there = std::fs::remove_dir_all(&dir);
        Self { root, dir }
    }

    fn lab(&self, arguments: &[&str]) -> Output {
        // From anywhere: the repository is the one xtask belongs to.
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("lab")
            .args(arguments)
            .env("WEIR_LAB", &self.dir)
            .current_dir("/")
            .output()
            .expect("xtask runs")
    }

    fn says(&self, arguments: &[&str], code: i32, text: &str) -> String {
        let out = self.lab(arguments);
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        assert_eq!(out.status.code(), Some(code), "lab {arguments:?}: {said}");
        assert!(
            said.contains(text),
            "lab {arguments:?} should say {text:?}: {said}"
        );
        said
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        let _down = self.lab(&["down"]);
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn up_run_status_down() {
    let play = Play::new();
    play.says(&["status"], 1, "lab      down");
    play.says(&["run", "weirctl", "status"], 1, "cargo xtask lab up");
    play.says(&["down"], 0, "the lab is down");
    play.says(&["up", "--replay", "/no/such/file"], 1, "/no/such/file");

    // A file that is no capture: nothing is left up.
    let none = play.root.join("Cargo.toml");
    play.says(&["up", "--replay", &none.display().to_string()], 1, "");
    play.says(&["status"], 1, "lab      down");

    let capture = play.root.join("tests/captures/mixed.pcap");
    play.says(
        &["up", "--replay", &capture.display().to_string()],
        0,
        "weir.sys is loaded",
    );
    play.says(&["up"], 1, "up already");
    play.says(&["status"], 0, "driver   running");
    play.says(&["run", "weirctl", "status"], 0, "NDIS 6.");
    // The program's own exit code and words.
    play.says(
        &["run", "weirctl", "service", "stop", "7"],
        1,
        "STATUS_NOT_FOUND",
    );
    play.says(&["run", "weirctl", "frobnicate"], 2, "frobnicate");
    play.says(&["down"], 0, "nothing leaked");
}
