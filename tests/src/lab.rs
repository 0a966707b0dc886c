//! A lab for one test: brought up, a driver loaded, checked and taken down.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_lab_harness::{Adapter, Artifacts, Config, Lab, windows_path};

pub use crate::accounts::{Accounts, Balance};
use crate::frames;
use crate::packet::Dir;

/// The service the driver is loaded as.
pub const SERVICE: &str = "weir";

/// The adapter every fixture has.
pub const ADAPTER: &str = "lab0";

/// The repository.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The image that ships.
#[must_use]
pub fn weir_sys() -> PathBuf {
    root().join("target/weir/weir.sys")
}

/// Runs weirctl here, not in a lab: the commands on files need no driver.
///
/// # Panics
/// When it can't be built or run.
#[must_use]
pub fn native(arguments: &[&str]) -> Output {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let weirctl = BUILT.get_or_init(|| {
        // Beside this test, wherever cargo puts things: target/debug/deps/test.
        let test = std::env::current_exe().expect("this program has a path");
        let profile = test.ancestors().nth(2).expect("a profile's folder");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = [
            "build",
            "--locked",
            "--quiet",
            "--package",
            "weirctl",
            "--target-dir",
        ];
        let built = Command::new(cargo)
            .current_dir(root())
            .args(build)
            .arg(profile.parent().expect("a target folder"))
            .status()
            .expect("cargo runs");
        assert!(built.success(), "weirctl can't be built: {built}");
        profile.join("weirctl")
    });
    Command::new(weirctl)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("weirctl runs")
}

/// Ends a Windows program of a lab as Ctrl-C does.
///
/// # Panics
/// When it has ended.
#[cfg(unix)]
pub fn ctrl_c(program: &Child) {
    use nix::sys::signal::{Signal, kill};
    // Wine's loader execs: the child's pid is the Windows program's.
    let pid = nix::unistd::Pid::from_raw(program.id().cast_signed());
    kill(pid, Signal::SIGINT).expect("the program runs");
}

/// A committed capture.
#[must_use]
pub fn capture(name: &str) -> PathBuf {
    root().join("tests/captures").join(name)
}

/// One adapter, as every test that doesn't say otherwise has it.
#[must_use]
pub fn config() -> Config {
    Config {
        adapters: vec![Adapter {
            name: ADAPTER.into(),
            mac: "02:00:00:00:00:01".into(),
            mtu: 1500,
            wire: None,
            wire_listen: None,
        }],
        ..Config::default()
    }
}

/// A lab that is up, and ends with the test.
pub struct Fixture {
    /// The lab.
    pub lab: Lab,
}

impl Fixture {
    /// A lab named after its test, without a driver.
    ///
    /// # Panics
    /// When it doesn't come up.
    #[must_use]
    pub fn bare(name: &str) -> Self {
        let parts = Artifacts::in_dir(root().join("target/weir/lab"));
        let lab = Lab::open(root().join("target/lab").join(name), parts);
        lab.destroy()
            .expect("an earlier lab of this name can be taken away");
        lab.up(&config()).expect("the lab comes up");
        Self { lab }
    }

    /// A lab with weir.sys installed, to be loaded by [`Fixture::start`].
    ///
    /// # Panics
    /// When it can't be installed.
    #[must_use]
    pub fn installed(name: &str) -> Self {
        let fixture = Self::bare(name);
        let installed = fixture.lab.install_driver(SERVICE, &weir_sys());
        installed.expect("the driver is installed");
        fixture
    }

    /// A lab with weir.sys loaded.
    ///
    /// # Panics
    /// When the driver doesn't load.
    #[must_use]
    pub fn weir(name: &str) -> Self {
        let fixture = Self::installed(name);
        fixture.start();
        fixture
    }

    /// A lab of another configuration, with weir.sys loaded.
    ///
    /// # Panics
    /// When the driver doesn't load.
    #[must_use]
    pub fn configured(name: &str, change: impl FnOnce(&mut Config)) -> Self {
        let fixture = Self::installed(name);
        let mut other = config();
        change(&mut other);
        fixture.configure(&other);
        fixture.start();
        fixture
    }

    /// Another configuration, from the driver's next start on.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn configure(&self, config: &Config) {
        let configured = self.lab.configure(config);
        configured.expect("the lab is configured");
    }

    /// Loads the driver.
    ///
    /// # Panics
    /// When that fails.
    pub fn start(&self) {
        let started = self.lab.start_driver(SERVICE);
        started.expect("the driver starts");
    }

    /// A weirctl command, not yet run.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let weirctl = root().join("target/weir/lab/weirctl.exe");
        let mut command = self.lab.command(&windows_path(&weirctl));
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs weirctl to its end.
    ///
    /// weirctl never fails without a word. About once in some thousand times
    /// Wine can't start a program and says nothing; that is tried once more, and
    /// told, so that it can't become a habit.
    ///
    /// # Panics
    /// When Wine can't be run.
    #[must_use]
    pub fn weirctl(&self, arguments: &[&str]) -> Output {
        let run = || self.command(arguments).output().expect("wine runs");
        let out = run();
        if out.status.success() || !out.stdout.is_empty() || !out.stderr.is_empty() {
            return out;
        }
        eprintln!("wine did not start weirctl {arguments:?}: {}", out.status);
        run()
    }

    /// What weirctl prints with `--json`.
    ///
    /// # Panics
    /// When it fails, or prints no JSON.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let out = self.weirctl(&[arguments, &["--json"]].concat());
        assert!(
            out.status.success(),
            "weirctl {arguments:?}: {}\n{}{}",
            out.status,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        serde_json::from_slice(&out.stdout).expect("weirctl --json prints JSON")
    }

    /// What weirctl says when it fails, and its exit code.
    ///
    /// # Panics
    /// When it succeeds.
    #[must_use]
    pub fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let out = self.weirctl(arguments);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success(), "weirctl {arguments:?} succeeded");
        (out.status.code().unwrap_or(-1), said)
    }

    /// A request to the stand-ins.
    ///
    /// # Panics
    /// When it is refused, or a rule is broken.
    pub fn ask(&self, request: &Value) -> Value {
        self.lab
            .ask(request)
            .unwrap_or_else(|e| panic!("{request}: {e}"))
    }

    /// Replays a capture through the adapter once, as fast as it goes, and waits.
    pub fn replay(&self, file: &Path) -> Value {
        self.ask(&json!({
            "cmd": "replay", "adapter": ADAPTER, "file": windows_path(file),
            "speed": 0, "loops": 1, "wait": true,
        }))
    }

    /// Gives frames to the filter, all in one chain, and waits until they are back.
    pub fn offer(&self, way: Dir, frames: &[Vec<u8>]) {
        let frames: Vec<String> = frames.iter().map(|f| hex(f)).collect();
        let done = self.ask(&json!({
            "cmd": "inject", "adapter": ADAPTER, "dir": way.name(), "frames": frames,
            "together": true, "wait": true,
        }));
        assert_eq!(done["all_home"], true, "{done}");
    }

    /// Has the frames that come out at both ends written to files in this folder.
    pub fn watch(&self, folder: &Path) {
        let [up, down] = [Dir::Up, Dir::Down].map(|way| windows_path(&dump(folder, way)));
        self.ask(&json!({"cmd": "dump", "adapter": ADAPTER, "up": up, "down": down}));
    }

    /// The frames that came out since [`Fixture::watch`]; ends it for this way.
    #[must_use]
    pub fn came_out(&self, folder: &Path, way: Dir) -> Vec<Vec<u8>> {
        self.ask(&json!({"cmd": "dump", "adapter": ADAPTER, way.name(): false}));
        let frames = frames::of(&dump(folder, way));
        frames.into_iter().map(|frame| frame.data).collect()
    }

    /// Starts weirctl; [`said`] waits for it.
    ///
    /// # Panics
    /// When Wine can't be run.
    #[must_use]
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped());
        command.spawn().expect("wine runs")
    }

    /// A number of `weirctl status`.
    #[must_use]
    pub fn status(&self, field: &str) -> u64 {
        let status = self.json(&["status"]);
        status
            .get(field)
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("no {field} in {status}"))
    }

    /// Waits until a number of `weirctl status` is what it should be.
    ///
    /// # Panics
    /// After 30 seconds.
    pub fn until(&self, field: &str, wanted: u64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let now = self.status(field);
            if now == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{field} is {now}, not {wanted}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The balance of the adapter in one direction, after checking that it and
    /// every other one closes.
    ///
    /// # Panics
    /// When one doesn't.
    #[must_use]
    pub fn balance(&self, direction: &str) -> Balance {
        let stats = self.json(&["stats"]);
        Balance::check_all(&stats);
        Balance::of(&stats["adapters"][0][direction]["balance"])
    }

    /// What adapters and rules counted, after checking that it adds up. No frames
    /// may be passing.
    ///
    /// # Panics
    /// When it doesn't add up.
    pub fn accounts(&self) -> Accounts {
        Accounts::check(&self.json(&["stats"]))
    }

    /// Stops the driver: the balances close, nothing may be left, and no rule have
    /// been broken.
    ///
    /// # Panics
    /// When something is wrong.
    pub fn unload(&self) {
        let replay = self.ask(&json!({"cmd": "replay_status", "adapter": ADAPTER}));
        if replay["running"] == true {
            // Rules and adapters are not read at the same instant.
            Balance::check_all(&self.json(&["stats"]));
        } else {
            self.accounts();
        }
        self.lab
            .stop_driver(SERVICE)
            .expect("the driver stops cleanly");
        self.lab.check().expect("no rule was broken");
        let unload = self
            .lab
            .events()
            .into_iter()
            .rev()
            .find(|e| e.kind() == "unload");
        let unload = unload.expect("the stand-ins report the unload");
        assert_eq!(unload.0["leaks"], json!([]), "{}", unload.0);
    }
}

/// The file of [`Fixture::watch`].
fn dump(folder: &Path, way: Dir) -> PathBuf {
    folder.join(format!("{}.pcap", way.name()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What a program of [`Fixture::spawn`] printed with `--json`, when it has ended.
///
/// # Panics
/// When it failed.
#[must_use]
pub fn said(program: Child) -> Value {
    let out = program.wait_with_output().expect("it ends");
    assert!(out.status.success(), "{}", out.status);
    serde_json::from_slice(&out.stdout).expect("weirctl --json prints JSON")
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The last ones: a test of many broken rules has many more.
            let events = self.lab.events();
            for event in events.iter().rev().filter(|e| e.is_fatal()).take(2) {
                eprintln!("the lab: {}", event.0);
            }
        }
        // A lab that won't end must not hide why the test failed.
        let _ended = self.lab.destroy();
    }
}
