//! Where a capture comes from: a file or standard input, packed or not.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

/// RFC 1952, 2.3.1: ID1, ID2.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How far a source has been read, in bytes of the file as it is stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Position(Arc<AtomicU64>);

impl Position {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Counted<R> {
    inner: R,
    position: Position,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.position.0.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// A stream of capture data.
pub(crate) struct Source {
    /// The data, unpacked.
    pub(crate) stream: Box<dyn Read>,
    /// Whether it is packed in the file.
    pub(crate) packed: bool,
    pub(crate) position: Position,
}

impl Source {
    /// Opens a file, or standard input as `-`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Source::new(Box::new(io::stdin().lock()));
        }
        // Linux opens a folder, and fails at its first read without its name.
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::Error::other("it is a folder"));
        }
        Source::new(Box::new(file))
    }

    fn new(inner: Box<dyn Read>) -> io::Result<Self> {
        let position = Position::default();
        let mut inner = Counted {
            inner,
            position: position.clone(),
        };
        let mut start = Vec::with_capacity(GZIP.len());
        inner
            .by_ref()
            .take(GZIP.len() as u64)
            .read_to_end(&mut start)?;
        let packed = start == GZIP;
        let whole = io::Cursor::new(start).chain(inner);
        let stream: Box<dyn Read> = if packed {
            // Members one behind the other are one file: RFC 1952, 2.2.
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(
                1 << 18,
                whole,
            )))
        } else {
            Box::new(whole)
        };
        Ok(Source {
            stream,
            packed,
            position,
        })
    }
}
