//! Line-delimited JSON over loopback TCP: how the harness talks to the agent
//! and to the stand-ins.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::{Error, Result};

/// A connection to one line-delimited JSON server of the lab.
#[derive(Debug)]
pub struct JsonClient {
    what: &'static str,
    stream: BufReader<TcpStream>,
}

impl JsonClient {
    /// Connects to the server whose port number stands in `port_file`.
    ///
    /// # Errors
    /// [`Error::Down`] without a port file, [`Error::Silent`] when nobody listens.
    pub fn connect(what: &'static str, port_file: &Path, timeout: Duration) -> Result<Self> {
        let text = std::fs::read_to_string(port_file).map_err(|_| Error::Down)?;
        let silent = |why: String| Error::Silent { what, why };
        let port: u16 = text
            .trim()
            .parse()
            .map_err(|_| silent("bad port file".into()))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
            .map_err(|e| silent(e.to_string()))?;
        stream
            .set_read_timeout(Some(timeout))
            .map_err(|e| silent(e.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|e| silent(e.to_string()))?;
        Ok(Self {
            what,
            stream: BufReader::new(stream),
        })
    }

    /// Sends one request and waits for the value that answers it.
    ///
    /// # Errors
    /// [`Error::Refused`] when the answer is an error, [`Error::Silent`] when there
    /// is none.
    pub fn ask(&mut self, request: &Value) -> Result<Value> {
        let silent = |why: String| Error::Silent {
            what: self.what,
            why,
        };
        let line = format!("{request}\n");
        self.stream
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(|e| silent(e.to_string()))?;
        let mut answer = String::new();
        match self.stream.read_line(&mut answer) {
            Ok(0) => return Err(silent("the connection was closed".into())),
            Ok(_) => {}
            Err(e) => return Err(silent(e.to_string())),
        }
        let mut answer: Value = serde_json::from_str(&answer).map_err(|e| silent(e.to_string()))?;
        if let Some(value) = answer.get_mut("ok") {
            return Ok(value.take());
        }
        Err(Error::Refused {
            what: request
                .get("cmd")
                .and_then(Value::as_str)
                .unwrap_or("request")
                .into(),
            why: answer
                .get("error")
                .and_then(Value::as_str)
                .unwrap_or("no reason")
                .into(),
            code: answer.get("code").and_then(Value::as_i64).unwrap_or(0),
        })
    }
}
