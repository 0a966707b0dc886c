//! A server started for a measurement, in a process of its own: what it costs
//! can be told from what the client costs, and the client need not be where the
//! server is.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_io_models::Model;

use super::args::Target;
use crate::error::CtlError;

/// How long a program may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How to run the weirctl that serves.
#[derive(Clone, Debug)]
pub(crate) struct Weirctl(Vec<String>);

impl Weirctl {
    /// By a command line, or this program.
    pub(crate) fn new(command: Option<&str>) -> Result<Weirctl, CtlError> {
        let words: Vec<String> = match command {
            Some(line) => line.split_whitespace().map(str::to_owned).collect(),
            None => vec![std::env::current_exe()?.to_string_lossy().into_owned()],
        };
        Ok(Weirctl(words))
    }

    fn command(&self, arguments: &[&str]) -> Result<Command, CtlError> {
        let Some((program, first)) = self.0.split_first() else {
            return Err(self.failed("it names no program"));
        };
        let mut command = Command::new(program);
        command.args(first).args(arguments).arg("--json");
        on_its_own(&mut command);
        Ok(command)
    }

    fn failed(&self, why: impl ToString) -> CtlError {
        CtlError::Server {
            command: self.0.join(" "),
            why: why.to_string(),
        }
    }

    /// Runs it to its end and gives what it printed.
    fn output(&self, arguments: &[&str]) -> Result<Value, CtlError> {
        let mut command = self.command(arguments)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| self.failed(e))?;
        let ended = self.ended(&mut child);
        if ended.is_err() {
            let _ended = child.kill();
        }
        let out = child.wait_with_output().map_err(|e| self.failed(e))?;
        if !ended?.success() {
            return Err(self.failed(format!("{} ended with {}", arguments.join(" "), out.status)));
        }
        serde_json::from_slice(&out.stdout).map_err(|e| self.failed(e))
    }

    /// Waits for it to end, not for ever. What it prints until then fits in a pipe.
    fn ended(&self, child: &mut Child) -> Result<ExitStatus, CtlError> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Err(e) => return Err(self.failed(e)),
            }
        }
        Err(self.failed("it does not end"))
    }
}

/// Ctrl-C is for this program, which then ends what it has started: one that was
/// ended by it while it starts a service could not say which.
fn on_its_own(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(windows)]
    {
        const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
        std::os::windows::process::CommandExt::creation_flags(command, CREATE_NEW_PROCESS_GROUP);
    }
}

/// A server that runs. Dropped, it ends, and what was started for it.
pub(crate) enum Server {
    /// A model in a process of its own.
    Model(Box<ModelServer>),
    /// A service of the driver.
    Kernel(Service),
    /// A relay of the driver, and the echo it goes to.
    Relay(Service, Option<Service>),
}

/// A service that was started here; another's is never touched. Dropped, it is
/// stopped.
pub(crate) struct Service {
    weirctl: Weirctl,
    /// None once it is stopped.
    id: Option<String>,
    address: SocketAddr,
}

pub(crate) struct ModelServer {
    weirctl: Weirctl,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

/// What a server says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    pub(crate) memory: u64,
}

impl Server {
    /// Starts a server on a port of its own; a relay goes to `to`, or to an echo
    /// of the driver.
    pub(crate) fn start(
        target: Target,
        to: Option<SocketAddr>,
        weirctl: &Weirctl,
    ) -> Result<Server, CtlError> {
        let model = |name, more: &[&str]| {
            Ok(Server::Model(Box::new(ModelServer::start(
                name, more, weirctl,
            )?)))
        };
        match target {
            Target::Model(which) => model(which, &[]),
            Target::IocpPackets => model(Model::Iocp, &["--every-packet"]),
            Target::Kernel => Ok(Server::Kernel(Service::start("echo", None, weirctl)?)),
            Target::Relay => {
                let echo = match to {
                    Some(_) => None,
                    None => Some(Service::start("echo", None, weirctl)?),
                };
                let to = to.or(echo.as_ref().map(|echo| echo.address));
                let relay = Service::start("relay", to, weirctl)?;
                Ok(Server::Relay(relay, echo))
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Server::Model(server) => server.address,
            Server::Kernel(service) | Server::Relay(service, _) => service.address,
        }
    }

    /// What it has cost up to now; of the driver nobody knows.
    pub(crate) fn cost(&mut self) -> Result<Option<Cost>, CtlError> {
        match self {
            Server::Model(server) => server.cost(),
            Server::Kernel(_) | Server::Relay(..) => Ok(None),
        }
    }

    /// Ends it.
    pub(crate) fn stop(self) -> Result<(), CtlError> {
        match self {
            Server::Model(server) => server.stop(),
            Server::Kernel(mut service) => service.stop(),
            Server::Relay(mut relay, echo) => {
                let stopped = relay.stop();
                echo.map_or(Ok(()), |mut echo| echo.stop()).and(stopped)
            }
        }
    }
}

impl Service {
    fn start(kind: &str, to: Option<SocketAddr>, weirctl: &Weirctl) -> Result<Service, CtlError> {
        let to = to.map(|to| to.to_string());
        let mut words = vec!["service", "start", kind, "--tcp", "127.0.0.1:0"];
        words.extend(to.iter().flat_map(|to| ["--to", to]));
        let started = weirctl.output(&words)?;
        let mut service = Service {
            weirctl: weirctl.clone(),
            id: Some(started["id"].to_string()),
            address: SocketAddr::from(([0; 4], 0)),
        };
        // From here on it is stopped whatever happens.
        service.address = address(&started, weirctl)?;
        Ok(service)
    }

    fn stop(&mut self) -> Result<(), CtlError> {
        match self.id.take() {
            Some(id) => self.weirctl.output(&["service", "stop", &id]).map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            crate::output::tell(&error);
        }
    }
}

fn address(said: &Value, weirctl: &Weirctl) -> Result<SocketAddr, CtlError> {
    let address = said["address"].as_str().and_then(|a| a.parse().ok());
    address.ok_or_else(|| weirctl.failed(format!("it named no address: {said}")))
}

impl ModelServer {
    fn start(model: Model, more: &[&str], weirctl: &Weirctl) -> Result<ModelServer, CtlError> {
        let arguments = [
            "serve",
            "--model",
            model.as_str(),
            "--listen",
            "127.0.0.1:0",
        ];
        let mut child = weirctl
            .command(&[&arguments[..], more, &["--control"]].concat())?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| weirctl.failed(e))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(weirctl.failed("it has no pipes"));
        };
        let mut server = ModelServer {
            weirctl: weirctl.clone(),
            child,
            input,
            output: BufReader::new(output),
            address: SocketAddr::from(([0; 4], 0)),
        };
        // An error as an object comes in place of the address.
        let said = server.line()?;
        if let Some(why) = said["error"]["message"].as_str() {
            return Err(weirctl.failed(why));
        }
        server.address = address(&said, weirctl)?;
        Ok(server)
    }

    fn line(&mut self) -> Result<Value, CtlError> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        match read.map_err(|e| self.weirctl.failed(e))? {
            0 => Err(self.weirctl.failed("it ended without a word")),
            _ => serde_json::from_str(&line).map_err(|e| self.weirctl.failed(e)),
        }
    }

    fn cost(&mut self) -> Result<Option<Cost>, CtlError> {
        writeln!(self.input, "stats").map_err(|e| self.weirctl.failed(e))?;
        let said = self.line()?;
        let number = |name: &str| said[name].as_u64();
        let cost = number("cpu_us").zip(number("memory_bytes"));
        Ok(cost.map(|(cpu, memory)| Cost {
            cpu: Duration::from_micros(cpu),
            memory,
        }))
    }

    fn stop(mut self) -> Result<(), CtlError> {
        writeln!(self.input, "stop").map_err(|e| self.weirctl.failed(e))?;
        let status = self.weirctl.ended(&mut self.child)?;
        if status.success() {
            return Ok(());
        }
        Err(self.weirctl.failed(status))
    }
}

impl Drop for ModelServer {
    /// However the measurement ended, nothing stays behind. Of one that has
    /// ended this does nothing.
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
