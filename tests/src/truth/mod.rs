//! `tshark` as judge of the engine: what each says of the TCP segments and the
//! connections of a capture, and where they differ.
//!
//! An [`Answer`] is what one of them says. `tshark`'s are committed beside the
//! captures, so that every machine compares with the same one.

mod answer;
mod compare;
mod engine;
mod tshark;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

pub use answer::{Answer, Stream};
pub use compare::{Comparison, Tally};
pub use engine::{Frame, by_engine, frames};
pub use tshark::{by_tshark, version};

/// The folder of the captures that are judged, and of `tshark`'s answers.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures/lossy")
}

/// The captures in a folder: `.pcap` and `.pcap.gz`, by name.
///
/// # Errors
/// The folder can't be listed.
pub fn captures(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".pcap") || name.ends_with(".pcap.gz") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Where the answer to a capture is kept.
#[must_use]
pub fn answer_file(capture: &Path) -> PathBuf {
    let name = capture.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    capture.with_file_name(format!("{stem}.tshark"))
}

/// A capture's bytes, unpacked where it is packed.
fn open(capture: &Path) -> io::Result<Box<dyn Read>> {
    let file = BufReader::new(File::open(capture)?);
    Ok(if capture.extension().is_some_and(|e| e == "gz") {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    })
}
