//! A lab: one Wine prefix, its agent, and the drivers in it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Config, Error, Event, JsonClient, Result, redirect_imports};

/// How long Wine may take to come up, and a request to be answered.
const PATIENCE: Duration = Duration::from_secs(120);

/// Our own copy of the stand-ins' module would be found by Wine's loader, its
/// .NET and HTML installers are not wanted, and `bcryptprimitives.dll` is the
/// lab's because Wine 8 has none.
const OVERRIDES: &str = "mscoree,mshtml=;bcryptprimitives=n";

/// ERROR_INTERNAL_ERROR.
const INTERNAL_ERROR: i64 = 1359;

/// Where the lab's Windows parts are.
#[derive(Clone, Debug)]
pub struct Artifacts {
    dir: PathBuf,
}

impl Artifacts {
    /// All parts in one folder: `lab.sys`, `bcryptprimitives.dll`, `labagent.exe`.
    #[must_use]
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The path of one part.
    ///
    /// # Errors
    /// [`Error::Missing`] when it has not been built.
    pub fn part(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if path.is_file() {
            Ok(path)
        } else {
            Err(Error::Missing { path })
        }
    }
}

/// One lab in a folder of its own. Any number of processes may hold it open:
/// its state is in the folder, not here.
#[derive(Clone, Debug)]
pub struct Lab {
    root: PathBuf,
    artifacts: Artifacts,
}

impl Lab {
    /// The lab in `root`, which need not exist yet.
    #[must_use]
    pub fn open(root: impl AsRef<Path>, artifacts: Artifacts) -> Self {
        // Wine wants an absolute WINEPREFIX.
        let root = std::path::absolute(root.as_ref()).unwrap_or_else(|_| root.as_ref().into());
        Self { root, artifacts }
    }

    /// The Wine prefix.
    #[must_use]
    pub fn prefix(&self) -> PathBuf {
        self.root.join("prefix")
    }

    /// The host's path of a file in the lab's `C:\lab`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.prefix().join("drive_c/lab").join(name)
    }

    fn drivers(&self) -> PathBuf {
        self.prefix().join("drive_c/windows/system32/drivers")
    }

    /// Makes the prefix where there is none, puts the parts in it and starts
    /// the agent. A lab that is up already is an error: two would share state.
    ///
    /// # Errors
    /// A part is missing, Wine fails, or the agent does not answer in time.
    pub fn up(&self, config: &Config) -> Result<()> {
        if self.is_up() {
            return Err(Error::Program {
                program: "lab up".into(),
                why: "it is up already".into(),
            });
        }
        let agent = self.artifacts.part("labagent.exe")?;
        self.make_prefix()?;
        let dir = self.file("");
        fs::create_dir_all(&dir).map_err(Error::file(&dir))?;
        self.copy(
            &self.artifacts.part("lab.sys")?,
            &self.drivers().join("lab.sys"),
        )?;
        let system32 = self.prefix().join("drive_c/windows/system32");
        self.copy(
            &self.artifacts.part("bcryptprimitives.dll")?,
            &system32.join("bcryptprimitives.dll"),
        )?;
        self.copy(&agent, &self.file("labagent.exe"))?;
        for stale in ["agent.port", "control.port", "events.jsonl", "debug.log"] {
            let path = self.file(stale);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::File { path, source: e });
                }
                _ => {}
            }
        }
        self.configure(config)?;
        self.start_agent()
    }

    /// Writes the configuration; it counts from the next driver load on.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn configure(&self, config: &Config) -> Result<()> {
        let path = self.file("lab.json");
        let text = serde_json::to_vec_pretty(config).map_err(|e| Error::File {
            path: path.clone(),
            source: std::io::Error::other(e),
        })?;
        fs::write(&path, text).map_err(Error::file(&path))
    }

    /// Copies to a file of its own: what has that name now may be a link into
    /// the template.
    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let _not_there = fs::remove_file(to);
        fs::copy(from, to).map(drop).map_err(Error::file(from))
    }

    /// A prefix takes Wine some ten seconds to make: one is made beside the labs,
    /// and each lab gets a copy of it.
    fn make_prefix(&self) -> Result<()> {
        if self.prefix().join("system.reg").is_file() {
            return Ok(());
        }
        fs::create_dir_all(&self.root).map_err(Error::file(&self.root))?;
        let parent = self.root.parent().unwrap_or(&self.root);
        let template = template(parent, |fresh| self.make_template(fresh))?;
        // Links for the hundreds of megabytes nobody writes to; Wine's registry is
        // written in place where it has several names, so it is copied.
        self.host(
            Command::new("cp")
                .arg("-al")
                .arg(&template)
                .arg(self.prefix()),
            "cp",
        )?;
        for hive in ["system.reg", "user.reg", "userdef.reg"] {
            let (from, to) = (template.join(hive), self.prefix().join(hive));
            fs::remove_file(&to).map_err(Error::file(&to))?;
            self.copy(&from, &to)?;
        }
        Ok(())
    }

    fn make_template(&self, prefix: &Path) -> Result<()> {
        self.host(
            Command::new("wineboot")
                .arg("--init")
                .env("WINEPREFIX", prefix),
            "wineboot",
        )?;
        // Waits until the registry is written: only then is the prefix whole.
        self.host(
            Command::new("wineserver")
                .arg("-w")
                .env("WINEPREFIX", prefix),
            "wineserver",
        )
    }

    fn host(&self, command: &mut Command, program: &str) -> Result<()> {
        let fail = |why: String| Error::Program {
            program: program.into(),
            why,
        };
        let done = command
            .env("WINEDLLOVERRIDES", OVERRIDES)
            .env("WINEDEBUG", "-all")
            .stdin(Stdio::null())
            .output()
            .map_err(|e| fail(format!("{e}; `cargo xtask setup` installs it")))?;
        if done.status.success() {
            return Ok(());
        }
        Err(fail(format!(
            "{}: {}",
            done.status,
            String::from_utf8_lossy(&done.stderr).trim()
        )))
    }

    fn start_agent(&self) -> Result<()> {
        let log = self.root.join("wine.log");
        let log = File::create(&log).map_err(Error::file(&log))?;
        let errors = log.try_clone().map_err(Error::file("wine.log"))?;
        let mut command = self.command("C:\\lab\\labagent.exe");
        command
            .arg("C:\\lab\\agent.port")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        // A group of its own: the lab outlives the shell that started it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|e| Error::Program {
            program: "wine".into(),
            why: e.to_string(),
        })?;
        let deadline = Instant::now() + PATIENCE;
        while !self.is_up() {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Error::Program {
                    program: "labagent.exe".into(),
                    why: format!("{status}; see wine.log in the lab's folder"),
                });
            }
            if Instant::now() > deadline {
                return Err(Error::Silent {
                    what: "the agent",
                    why: "it never came up".into(),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // Reaped by the host when it ends; nobody waits for it here.
        drop(child);
        Ok(())
    }

    /// Whether the agent answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.agent()
            .and_then(|mut a| a.ask(&json!({"cmd": "ping"})))
            .is_ok()
    }

    /// A command that runs a Windows program in the lab; standard streams are
    /// the caller's.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("wine");
        command.arg(program).envs(self.environment());
        command
    }

    /// What Wine is told through the environment; `LAB_WINEDEBUG` is its
    /// `WINEDEBUG`, which is otherwise silence.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, OsString); 3] {
        let debug = std::env::var_os("LAB_WINEDEBUG").unwrap_or_else(|| "-all".into());
        [
            ("WINEPREFIX", self.prefix().into()),
            ("WINEDLLOVERRIDES", OVERRIDES.into()),
            ("WINEDEBUG", debug),
        ]
    }

    fn agent(&self) -> Result<JsonClient> {
        JsonClient::connect("the lab's agent", &self.file("agent.port"), PATIENCE)
    }

    /// A connection to the stand-ins; there is one once a driver has been loaded.
    ///
    /// # Errors
    /// [`Error::Down`] or [`Error::Silent`].
    pub fn control(&self) -> Result<JsonClient> {
        JsonClient::connect("the lab's control", &self.file("control.port"), PATIENCE)
    }

    /// One request to the stand-ins.
    ///
    /// # Errors
    /// As [`JsonClient::ask`], or the violation that ended the run instead.
    pub fn ask(&self, request: &Value) -> Result<Value> {
        self.control()
            .and_then(|mut c| c.ask(request))
            .map_err(|e| self.explain(e))
    }

    /// Puts a copy of the image, its imports sent to the stand-ins, in the lab
    /// and enters it as a kernel service.
    ///
    /// # Errors
    /// The image can't be read or redirected, or the service manager refuses.
    pub fn install_driver(&self, service: &str, image: &Path) -> Result<()> {
        let bytes = fs::read(image).map_err(Error::file(image))?;
        let path = self.drivers().join(format!("{service}.sys"));
        fs::write(&path, redirect_imports(&bytes)?).map_err(Error::file(&path))?;
        let path = format!("C:\\windows\\system32\\drivers\\{service}.sys");
        self.agent()?
            .ask(&json!({"cmd": "create", "service": service, "path": path}))
            .map(drop)
    }

    /// Starts a driver through the service manager.
    ///
    /// About once in some thousand times a process under Wine ends before it has
    /// begun and gives no reason, which its CreateProcess calls an internal error.
    /// When that was the driver's process, nothing of the driver was loaded yet: it
    /// is tried once more, and said.
    ///
    /// # Errors
    /// [`Error::Refused`] with the Win32 code when `DriverEntry` fails,
    /// [`Error::Violation`] when it broke a rule.
    pub fn start_driver(&self, service: &str) -> Result<()> {
        let loads = || self.events().iter().filter(|e| e.kind() == "load").count();
        let before = loads();
        match self.service("start", service) {
            Err(Error::Refused { code, .. }) if code == INTERNAL_ERROR && loads() == before => {
                eprintln!("{service}: Wine did not start its process; tried again");
                self.service("start", service).map(drop)
            }
            started => started.map(drop),
        }
    }

    /// Stops a driver and waits until it is unloaded.
    ///
    /// # Errors
    /// As [`Lab::start_driver`].
    pub fn stop_driver(&self, service: &str) -> Result<()> {
        self.service("stop", service).map(drop)
    }

    /// The service's state: `running`, `stopped` ...
    ///
    /// # Errors
    /// There is no such service, or the lab is down.
    pub fn driver_state(&self, service: &str) -> Result<String> {
        let answer = self.service("query", service)?;
        Ok(answer
            .get("state")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .into())
    }

    /// Opens a device as a user-mode program would, sends it one IOCTL and one
    /// read that is cancelled, and closes it.
    ///
    /// # Errors
    /// The device can't be opened, or a rule was broken meanwhile.
    pub fn poke_device(&self, device: &str) -> Result<()> {
        self.watched(&json!({"cmd": "poke", "device": device}))
            .map(drop)
    }

    /// Ends every Windows program in the lab but the system's and the agent.
    ///
    /// # Errors
    /// The lab is down.
    pub fn end_programs(&self) -> Result<()> {
        self.watched(&json!({"cmd": "end_programs"})).map(drop)
    }

    fn service(&self, verb: &str, service: &str) -> Result<Value> {
        self.watched(&json!({"cmd": verb, "service": service}))
    }

    /// Asks the agent. A rule broken meanwhile is the better answer, whatever
    /// the agent says.
    fn watched(&self, request: &Value) -> Result<Value> {
        let before = self.events().len();
        let answer = self.agent()?.ask(request);
        match self.events().iter().skip(before).find(|e| e.is_fatal()) {
            Some(event) => Err(violation(event)),
            None => answer,
        }
    }

    fn explain(&self, error: Error) -> Error {
        match (&error, self.events().last()) {
            (Error::Silent { .. }, Some(event)) if event.is_fatal() => violation(event),
            _ => error,
        }
    }

    /// The stand-ins' event log so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let log = fs::read(self.file("events.jsonl")).unwrap_or_default();
        Event::parse_log(&String::from_utf8_lossy(&log))
    }

    /// The first broken rule there has been, as an error.
    ///
    /// # Errors
    /// [`Error::Violation`].
    pub fn check(&self) -> Result<()> {
        self.events()
            .iter()
            .find(|e| e.is_fatal())
            .map_or(Ok(()), |e| Err(violation(e)))
    }

    /// Ends every process of the prefix. A lab that is down stays down.
    ///
    /// # Errors
    /// Wine's server can't be run.
    pub fn down(&self) -> Result<()> {
        if !self.prefix().is_dir() {
            return Ok(());
        }
        let wineserver = |flag: &str| {
            let mut command = Command::new("wineserver");
            command.arg(flag).env("WINEPREFIX", self.prefix());
            command
        };
        // It fails where no server runs, which is what is wanted.
        let _not_running = self.host(&mut wineserver("-k"), "wineserver");
        self.host(&mut wineserver("-w"), "wineserver")?;
        let _was_down = fs::remove_file(self.file("agent.port"));
        let _was_down = fs::remove_file(self.file("control.port"));
        Ok(())
    }

    /// Ends the lab and takes its folder away.
    ///
    /// # Errors
    /// As [`Lab::down`], or the folder can't be removed.
    pub fn destroy(&self) -> Result<()> {
        self.down()?;
        match fs::remove_dir_all(&self.root) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::File {
                path: self.root.clone(),
                source: e,
            }),
            _ => Ok(()),
        }
    }
}

fn violation(event: &Event) -> Error {
    let rule = match event.kind() {
        "violation" => event.text("rule").to_owned(),
        kind => kind.to_owned(),
    };
    Error::Violation {
        rule,
        caller: event.text("caller").to_owned(),
        detail: event.text("detail").to_owned(),
    }
}

/// The prefix that every lab in this folder is a copy of. Whoever comes first has
/// it made, in a folder of another name; others, threads and processes, wait. Who
/// dies meanwhile leaves no lock behind.
fn template(parent: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let template = parent.join("template");
    let lock = parent.join("template.lock");
    let locked = File::create(&lock).map_err(Error::file(&lock))?;
    locked.lock().map_err(Error::file(&lock))?;
    if !template.join("system.reg").is_file() {
        let fresh = parent.join("template.new");
        for unfinished in [&fresh, &template] {
            match fs::remove_dir_all(unfinished) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file(unfinished)(e));
                }
                _ => {}
            }
        }
        make(&fresh)?;
        fs::rename(&fresh, &template).map_err(Error::file(&template))?;
    }
    Ok(template)
}

/// A host path as Windows programs in the lab write it.
#[must_use]
pub fn windows_path(host: &Path) -> String {
    let host = std::path::absolute(host).unwrap_or_else(|_| host.into());
    format!("Z:{}", host.display()).replace('/', "\\")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn many_labs_at_once_make_one_template() {
        let folder = std::env::temp_dir().join(format!("lab-template-{}", std::process::id()));
        // What somebody left who died on the way.
        fs::create_dir_all(folder.join("template.new")).expect("a folder");
        let made = AtomicUsize::new(0);
        let make = |fresh: &Path| {
            made.fetch_add(1, Ordering::SeqCst);
            fs::create_dir(fresh).map_err(Error::file(fresh))?;
            std::thread::sleep(Duration::from_millis(30));
            fs::write(fresh.join("system.reg"), "whole").map_err(Error::file(fresh))
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let template = template(&folder, make).expect("a template");
                    let whole = fs::read(template.join("system.reg"));
                    assert_eq!(whole.expect("it is there"), b"whole");
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
        assert!(!folder.join("template.new").exists());
        fs::remove_dir_all(&folder).expect("it goes");
    }
}
