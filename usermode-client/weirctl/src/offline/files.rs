//! The frames of all files that were named, one behind the other.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use weir_engine::Meta;

use super::progress::Progress;
use crate::error::CtlError;
use crate::file::{self, ETHERNET, Reader, Record, Source};
use crate::output::tell;
use crate::views::Timestamp;

/// One frame of one of the files.
pub(super) struct Frame<'a> {
    /// Which file, from 0.
    pub(super) file: usize,
    /// Its number in the file, from 1, as Wireshark counts.
    pub(super) number: u64,
    pub(super) bytes: &'a [u8],
    pub(super) meta: Meta,
}

/// What was found in a file.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct FileSummary {
    pub(super) file: String,
    /// `pcap`, `pcapng`; null where it is neither.
    pub(super) format: Option<&'static str>,
    pub(super) gzip: bool,
    /// Frames that were inspected, and their bytes on the wire.
    pub(super) frames: u64,
    pub(super) bytes: u64,
    /// Of these frames, those cut short by a snap length.
    pub(super) snapped: u64,
    /// Of these frames, those for which the file has no time.
    pub(super) untimed: u64,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
    /// Frames of link types that are not looked into.
    pub(super) skipped: Vec<Skipped>,
    /// What ended it too early.
    pub(super) error: Option<String>,
}

/// Frames of a link type that is not looked into.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Skipped {
    pub(super) link_type: u32,
    pub(super) name: String,
    pub(super) frames: u64,
}

impl FileSummary {
    fn span(&mut self, time_100ns: u64) {
        let time = Timestamp(time_100ns);
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
    }

    pub(super) fn skipped_frames(&self) -> u64 {
        self.skipped.iter().map(|s| s.frames).sum()
    }
}

/// Adapters that are told apart by name, at most.
const MAX_ADAPTERS: usize = 4096;

/// The interfaces of all files as the engine's adapters: those with one name
/// are one, and so are those without a name that have one number.
#[derive(Debug, Default)]
pub(super) struct Adapters {
    names: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Adapters {
    pub(super) fn name(&self, id: u32) -> &str {
        usize::try_from(id)
            .ok()
            .and_then(|id| self.names.get(id))
            .map_or("further interfaces", String::as_str)
    }

    fn id(&mut self, interface: &file::Interface, index: usize) -> u32 {
        let name = match &interface.name {
            Some(name) if !name.is_empty() => name.clone(),
            _ => format!("interface {index}"),
        };
        if let Some(id) = self.ids.get(&name) {
            return *id;
        }
        let id = self.names.len();
        if id < MAX_ADAPTERS {
            self.names.push(name.clone());
            self.ids.insert(name, id as u32);
        }
        id as u32
    }
}

/// The adapters of one section's interfaces.
#[derive(Default)]
struct Section {
    number: u32,
    ids: Vec<u32>,
}

impl Section {
    fn adapter(&mut self, record: &Record<'_>, adapters: &mut Adapters) -> u32 {
        if self.number != record.section {
            self.number = record.section;
            self.ids.clear();
        }
        for (index, interface) in record.interfaces.iter().enumerate().skip(self.ids.len()) {
            self.ids.push(adapters.id(interface, index));
        }
        self.ids.get(record.interface).copied().unwrap_or(u32::MAX)
    }
}

/// All files, after they were read.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) summaries: Vec<FileSummary>,
    pub(super) adapters: Adapters,
}

impl Files {
    /// Gives each frame of each file to `frame`. A file that can't be read, or
    /// not to its end, is one error at the end; the others are read all the same.
    ///
    /// # Errors
    /// What `frame` fails with, at once.
    pub(super) fn read(
        paths: &[PathBuf],
        progress: &mut Progress,
        mut frame: impl FnMut(&Frame<'_>, &Adapters) -> Result<(), CtlError>,
    ) -> Result<Self, CtlError> {
        let mut files = Files::default();
        let mut clock = 0;
        for (index, path) in paths.iter().enumerate() {
            let mut summary = FileSummary {
                file: path.display().to_string(),
                ..FileSummary::default()
            };
            let mut one = One {
                index,
                clock: &mut clock,
                summary: &mut summary,
                adapters: &mut files.adapters,
                progress,
            };
            let read = one.read(path, &mut frame);
            files.summaries.push(summary);
            if let Err(error) = read {
                progress.clear();
                return Err(error);
            }
        }
        progress.clear();
        Ok(files)
    }

    /// Whether any of them is a capture file at all.
    pub(super) fn any(&self) -> bool {
        self.summaries.iter().any(|s| s.format.is_some())
    }

    /// Tells a person of frames that were skipped, where the result doesn't.
    pub(super) fn tell_skipped(&self) {
        for summary in &self.summaries {
            for s in &summary.skipped {
                tell(&format_args!(
                    "{}: {} frames of {} skipped: only Ethernet is looked into",
                    summary.file, s.frames, s.name
                ));
            }
        }
    }

    /// What was wrong with the files, if anything was.
    pub(super) fn result(&self) -> Result<(), CtlError> {
        let errors: Vec<String> = self
            .summaries
            .iter()
            .filter_map(|s| Some(format!("{}: {}", s.file, s.error.as_ref()?)))
            .collect();
        match errors.is_empty() {
            true => Ok(()),
            false => Err(CtlError::Captures(errors.join("\n"))),
        }
    }
}

/// A file being read.
struct One<'a> {
    index: usize,
    /// The last frame's time, for those that have none.
    clock: &'a mut u64,
    summary: &'a mut FileSummary,
    adapters: &'a mut Adapters,
    progress: &'a mut Progress,
}

impl One<'_> {
    fn read(
        &mut self,
        path: &Path,
        frame: &mut impl FnMut(&Frame<'_>, &Adapters) -> Result<(), CtlError>,
    ) -> Result<(), CtlError> {
        let source = match Source::open(path) {
            Ok(source) => source,
            Err(error) => {
                self.summary.error = Some(could_not_open(&error));
                return Ok(());
            }
        };
        self.summary.gzip = source.packed;
        let mut skipped: BTreeMap<u32, u64> = BTreeMap::new();
        let mut section = Section::default();
        let mut reader = match Reader::new(source.stream, source.packed) {
            Ok(reader) => reader,
            Err(damage) => {
                self.summary.error = Some(damage.to_string());
                return Ok(());
            }
        };
        self.summary.format = Some(reader.format());
        loop {
            let record = match reader.next() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(damage) => {
                    self.summary.error = Some(damage.to_string());
                    break;
                }
            };
            self.progress.frame(&source.position);
            if record.link_type() != ETHERNET {
                *skipped.entry(record.link_type()).or_default() += 1;
                continue;
            }
            let adapter = section.adapter(&record, self.adapters);
            let meta = self.count(&record, adapter);
            let one = Frame {
                file: self.index,
                number: record.number,
                bytes: record.bytes,
                meta,
            };
            frame(&one, self.adapters)?;
        }
        self.progress.file(&source.position);
        self.summary.skipped = skipped
            .into_iter()
            .map(|(link_type, frames)| Skipped {
                link_type,
                name: file::link_type_name(link_type),
                frames,
            })
            .collect();
        Ok(())
    }

    fn count(&mut self, record: &Record<'_>, adapter: u32) -> Meta {
        let summary = &mut *self.summary;
        summary.frames += 1;
        summary.bytes += u64::from(record.frame_len);
        // At most file::MAX_FRAME bytes are there.
        summary.snapped += u64::from((record.bytes.len() as u32) < record.frame_len);
        match record.time_100ns {
            Some(time) => {
                summary.span(time);
                *self.clock = time;
            }
            None => summary.untimed += 1,
        }
        Meta {
            adapter,
            direction: record.direction,
            time_100ns: *self.clock,
            frame_len: record.frame_len,
        }
    }
}

fn could_not_open(error: &io::Error) -> String {
    format!("opening failed: {error}")
}
