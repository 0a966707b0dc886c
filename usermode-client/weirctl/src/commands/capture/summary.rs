//! What is said of a capture when it has ended.

use std::io::{self, Write};

use serde::Serialize;
use weir_abi::ReaderStats;

use crate::commands::stats::verdict;
use crate::error::CtlError;
use crate::output::{Output, View, columns};
use crate::pcapng::InterfaceStatistics;

/// Why a capture ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EndedBy {
    Count,
    Duration,
    Interrupt,
    Failure,
}

/// A capture that has ended.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) file: String,
    pub(crate) ended_by: EndedBy,
    /// Frames and bytes written.
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// Frames the driver had no room for.
    pub(crate) lost: u64,
    pub(crate) reader: Option<Reader>,
    pub(crate) interfaces: Vec<Interface>,
}

/// The reader's balance.
#[derive(Debug, Serialize)]
pub(crate) struct Reader {
    seen: u64,
    delivered: u64,
    queued: u64,
    lost: u64,
    filtered: u64,
    balanced: bool,
}

impl From<&ReaderStats> for Reader {
    fn from(stats: &ReaderStats) -> Self {
        Reader {
            seen: stats.seen,
            delivered: stats.delivered,
            queued: stats.queued,
            lost: stats.lost(),
            filtered: stats.filtered,
            balanced: stats.is_balanced(),
        }
    }
}

/// One adapter's part; as its statistics block in the file.
#[derive(Debug, Serialize)]
pub(crate) struct Interface {
    id: u32,
    name: String,
    frames: u64,
    ifrecv: Option<u64>,
    ifdrop: Option<u64>,
    filteraccept: Option<u64>,
    osdrop: Option<u64>,
}

impl Interface {
    pub(super) fn new(id: u32, name: &str, stats: &InterfaceStatistics) -> Self {
        Interface {
            id,
            name: name.to_owned(),
            frames: stats.delivered,
            ifrecv: stats.received,
            ifdrop: stats.dropped,
            filteraccept: stats.accepted,
            osdrop: stats.lost,
        }
    }
}

impl Summary {
    /// The summary in one line.
    pub(super) fn line(&self) -> String {
        format!(
            "{} frames, {} bytes written to {}; {} lost",
            self.frames, self.bytes, self.file, self.lost
        )
    }

    pub(super) fn show(&self, out: &mut Output<'_>) -> Result<(), CtlError> {
        out.show(self)?;
        Ok(())
    }
}

impl View for Summary {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.line())?;
        if let Some(r) = &self.reader {
            writeln!(
                out,
                "reader: seen {} = delivered {} + queued {} + lost {}  {}",
                r.seen,
                r.delivered,
                r.queued,
                r.lost,
                verdict(r.balanced)
            )?;
        }
        let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
        let rows: Vec<Vec<String>> = self
            .interfaces
            .iter()
            .map(|i| {
                vec![
                    i.id.to_string(),
                    i.name.clone(),
                    i.frames.to_string(),
                    number(i.ifrecv),
                    number(i.ifdrop),
                    number(i.filteraccept),
                    number(i.osdrop),
                ]
            })
            .collect();
        let header = [
            "id",
            "adapter",
            "written",
            "seen",
            "lost by filter",
            "asked for",
            "lost by reader",
        ];
        columns(out, &header, &[1], &rows)
    }
}
