//! One line a frame.

use std::io::{self, Write};

use serde::Serialize;
use serde::ser::{SerializeSeq as _, Serializer};
use weir_abi::Direction;
use weir_engine::flow::{TcpTags, Tracked};
use weir_engine::rule::{Action, Decision, Program};
use weir_engine::wire::checksum::{Check, Checksums};
use weir_engine::wire::{Defect, Dissected};

use super::files::Frame;
use super::layers::Layers;
use crate::views::Timestamp;

/// A frame's line, as `--packets --json` prints it.
#[derive(Serialize)]
pub(super) struct PacketLine<'a> {
    frame: u64,
    /// Only when there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    verdict: &'static str,
    /// The rule that decided; null: the default.
    rule: Option<&'a str>,
    flow: Option<u64>,
    protocols: Layers,
    tcp: Tags,
    time: Timestamp,
    direction: Option<&'static str>,
    /// Bytes on the wire, and in the file.
    len: u32,
    captured: usize,
    source: Option<End>,
    destination: Option<End>,
    /// Rules that logged it, and that counted it, in order.
    logged: Names<'a>,
    counted: Names<'a>,
    /// Layers whose checksum is wrong.
    bad_checksum: Bad,
    /// What is wrong with its headers.
    fault: Option<&'static str>,
}

/// All that a line is made of.
pub(super) struct Line<'a> {
    pub(super) frame: &'a Frame<'a>,
    pub(super) file: Option<&'a str>,
    pub(super) headers: &'a Dissected<'a>,
    pub(super) tracked: Option<Tracked>,
    pub(super) decision: Decision,
    pub(super) direction: Option<Direction>,
    pub(super) checks: Checksums,
    pub(super) program: Option<Program<'a>>,
    /// Rules that took effect, in order.
    pub(super) hits: &'a [u32],
}

/// Address, and port where there is one.
#[derive(Serialize)]
struct End {
    address: std::net::IpAddr,
    port: Option<u16>,
}

struct Tags(TcpTags);

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.names())
    }
}

/// Names of the rules of one action among those that took effect.
struct Names<'a> {
    program: Option<Program<'a>>,
    hits: &'a [u32],
    action: Action,
}

impl<'a> Names<'a> {
    fn iter(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.program.iter().flat_map(|program| {
            self.hits
                .iter()
                .filter_map(|hit| program.rule(*hit))
                .filter(|rule| rule.action() == self.action)
                .map(|rule| rule.name())
        })
    }
}

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

struct Bad(Checksums);

impl Bad {
    fn iter(&self) -> impl Iterator<Item = &'static str> {
        let layers = [("network", self.0.network), ("transport", self.0.transport)];
        layers
            .into_iter()
            .filter_map(|(name, check)| (check == Check::Bad).then_some(name))
    }
}

impl Serialize for Bad {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for layer in self.iter() {
            list.serialize_element(layer)?;
        }
        list.end()
    }
}

/// The word for what is wrong with a frame's headers.
fn fault_name(defect: Defect) -> &'static str {
    match defect {
        Defect::Snapped => "snapped",
        Defect::Truncated => "truncated",
        _ => "malformed",
    }
}

impl<'a> Line<'a> {
    fn ends(&self) -> (Option<End>, Option<End>) {
        let ports = self.headers.ports();
        match self.headers.ip_addresses() {
            Some((source, destination)) => (
                Some(End {
                    address: source,
                    port: ports.map(|(from, _)| from),
                }),
                Some(End {
                    address: destination,
                    port: ports.map(|(_, to)| to),
                }),
            ),
            None => (None, None),
        }
    }

    fn packet(&self) -> PacketLine<'a> {
        let (source, destination) = self.ends();
        let names = |action| Names {
            program: self.program,
            hits: self.hits,
            action,
        };
        PacketLine {
            frame: self.frame.number,
            file: self.file,
            verdict: self.decision.action.name(),
            rule: self
                .decision
                .rule
                .and_then(|rule| self.program.and_then(|p| p.name(rule))),
            flow: self.tracked.map(|t| t.flow),
            protocols: Layers::of(self.headers),
            tcp: Tags(self.tracked.map_or(TcpTags::empty(), |t| t.tags)),
            time: Timestamp(self.frame.meta.time_100ns),
            direction: self.direction.map(|d| match d {
                Direction::In => "in",
                Direction::Out => "out",
            }),
            len: self.frame.meta.frame_len,
            captured: self.frame.bytes.len(),
            source,
            destination,
            logged: names(Action::Log),
            counted: names(Action::Count),
            bad_checksum: Bad(self.checks),
            fault: self.headers.fault.map(|f| fault_name(f.defect)),
        }
    }

    /// Writes the line as an object.
    pub(super) fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, &self.packet())?;
        out.write_all(b"\n")
    }

    /// Writes the line for a person.
    pub(super) fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let line = self.packet();
        if let Some(file) = line.file {
            write!(out, "{file}:")?;
        }
        write!(out, "{}  {}  {}", line.frame, line.time, line.verdict)?;
        if let Some(rule) = line.rule {
            write!(out, " by {rule}")?;
        }
        if let Some(direction) = line.direction {
            write!(out, "  {direction}")?;
        }
        write!(out, "  {} bytes", line.len)?;
        for (i, layer) in line.protocols.iter().enumerate() {
            write!(out, "{}{}", if i == 0 { "  " } else { "/" }, layer.name())?;
        }
        if let (Some(source), Some(destination)) = (&line.source, &line.destination) {
            write!(out, "  {} > {}", source.text(), destination.text())?;
        }
        if let Some(flow) = line.flow {
            write!(out, "  flow {flow}")?;
        }
        words(out, "", line.tcp.0.names())?;
        words(out, "logged by ", line.logged.iter())?;
        words(out, "counted by ", line.counted.iter())?;
        words(out, "wrong checksum: ", line.bad_checksum.iter())?;
        words(out, "", line.fault.into_iter())?;
        writeln!(out)
    }
}

impl End {
    fn text(&self) -> String {
        match self.port {
            Some(port) => std::net::SocketAddr::new(self.address, port).to_string(),
            None => self.address.to_string(),
        }
    }
}

/// Writes ` [title a, b]` unless there is none.
fn words<'a>(
    out: &mut dyn Write,
    title: &str,
    words: impl Iterator<Item = &'a str>,
) -> io::Result<()> {
    let mut any = false;
    for word in words {
        let before = if any { ", " } else { "  [" };
        let title = if any { "" } else { title };
        write!(out, "{before}{title}{word}")?;
        any = true;
    }
    if any { write!(out, "]") } else { Ok(()) }
}
