//! A server started for a measurement, in a process of its own: what it costs
//! can be told from what the client costs, and the client need not be where the
//! server is.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_io_models::Model;

use super::args::Target;
use crate::error::CtlError;

/// How long a server may take to end when told to.
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
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        let out = command.output().map_err(|e| self.failed(e))?;
        if !out.status.success() {
            return Err(self.failed(format!("{} ended with {}", arguments.join(" "), out.status)));
        }
        serde_json::from_slice(&out.stdout).map_err(|e| self.failed(e))
    }
}

/// A server that runs.
pub(crate) enum Server {
    /// A model in a process of its own.
    Model(Box<ModelServer>),
    /// A service of the driver.
    Kernel {
        weirctl: Weirctl,
        id: String,
        address: SocketAddr,
    },
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
    /// Starts a server on a port of its own.
    pub(crate) fn start(target: Target, weirctl: &Weirctl) -> Result<Server, CtlError> {
        match target {
            Target::Model(model) => {
                Ok(Server::Model(Box::new(ModelServer::start(model, weirctl)?)))
            }
            Target::Kernel => {
                let started =
                    weirctl.output(&["service", "start", "echo", "--tcp", "127.0.0.1:0"])?;
                Ok(Server::Kernel {
                    id: started["id"].to_string(),
                    address: address(&started, weirctl)?,
                    weirctl: weirctl.clone(),
                })
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Server::Model(server) => server.address,
            Server::Kernel { address, .. } => *address,
        }
    }

    /// What it has cost up to now; of the driver nobody knows.
    pub(crate) fn cost(&mut self) -> Result<Option<Cost>, CtlError> {
        match self {
            Server::Model(server) => server.cost(),
            Server::Kernel { .. } => Ok(None),
        }
    }

    /// Ends it.
    pub(crate) fn stop(self) -> Result<(), CtlError> {
        match self {
            Server::Model(server) => server.stop(),
            Server::Kernel { weirctl, id, .. } => {
                weirctl.output(&["service", "stop", &id]).map(drop)
            }
        }
    }
}

fn address(said: &Value, weirctl: &Weirctl) -> Result<SocketAddr, CtlError> {
    let address = said["address"].as_str().and_then(|a| a.parse().ok());
    address.ok_or_else(|| weirctl.failed(format!("it named no address: {said}")))
}

impl ModelServer {
    fn start(model: Model, weirctl: &Weirctl) -> Result<ModelServer, CtlError> {
        let arguments = [
            "serve",
            "--model",
            model.as_str(),
            "--listen",
            "127.0.0.1:0",
        ];
        let mut child = weirctl
            .command(&[&arguments[..], &["--control"]].concat())?
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
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.weirctl.failed(status)),
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Err(e) => return Err(self.weirctl.failed(e)),
            }
        }
        Err(self.weirctl.failed("it does not stop"))
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
