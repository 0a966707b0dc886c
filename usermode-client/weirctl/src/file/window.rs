//! A window that slides over a stream of any length in constant memory.

use std::io::{self, ErrorKind, Read};

/// Bytes of the window: the largest frame, its block and its options, with much
/// room, so that a read of the file brings hundreds of frames.
pub(super) const CAPACITY: usize = 1024 * 1024;

/// The bytes at hand of a stream, and where they are in it.
pub(super) struct Window<R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    offset: u64,
    ended: bool,
    failure: Option<io::Error>,
}

impl<R: Read> Window<R> {
    pub(super) fn new(inner: R) -> Self {
        Window {
            inner,
            buffer: vec![0; CAPACITY].into_boxed_slice(),
            start: 0,
            end: 0,
            offset: 0,
            ended: false,
            failure: None,
        }
    }

    /// Where the window starts in the stream.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes: `want` of them (at most [`CAPACITY`]) or more, fewer only
    /// where the stream ends or fails before.
    pub(super) fn peek(&mut self, want: usize) -> &[u8] {
        if self.end - self.start < want {
            self.fill(want);
        }
        &self.buffer[self.start..self.end]
    }

    /// The first `len` bytes of what the last [`Window::peek`] showed.
    pub(super) fn shown(&self, len: usize) -> &[u8] {
        &self.buffer[self.start..self.end.min(self.start + len)]
    }

    /// What stopped the stream, if it was not its end; once.
    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Steps over `len` bytes; how many there were.
    pub(super) fn skip(&mut self, len: u64) -> u64 {
        let mut left = len;
        while left > 0 {
            let step = usize::try_from(left).map_or(CAPACITY, |l| l.min(CAPACITY));
            let there = self.peek(step.min(1)).len().min(step);
            if there == 0 {
                break;
            }
            self.start += there;
            self.offset += there as u64;
            left -= there as u64;
        }
        len - left
    }

    fn fill(&mut self, want: usize) {
        debug_assert!(want <= CAPACITY, "{want} bytes can't be shown");
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < want && !self.ended {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(n) => self.end += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => {
                    self.ended = true;
                    self.failure = Some(e);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in small pieces, then fails.
    struct Trickle {
        left: usize,
        fail: bool,
    }

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.left == 0 && self.fail {
                return Err(io::Error::other("broken"));
            }
            let n = self.left.min(buffer.len()).min(7);
            for (i, byte) in buffer[..n].iter_mut().enumerate() {
                *byte = (self.left - i) as u8;
            }
            self.left -= n;
            Ok(n)
        }
    }

    #[test]
    fn it_shows_what_is_wanted_until_the_end() {
        let mut window = Window::new(Trickle {
            left: 100,
            fail: false,
        });
        assert_eq!(window.peek(10)[..3], [100, 99, 98]);
        assert!(window.peek(10).len() < 20, "no more is read than must be");
        assert_eq!(window.skip(50), 50);
        assert_eq!(window.offset(), 50);
        assert_eq!(window.peek(60).len(), 50);
        assert_eq!(window.shown(2), [50, 49]);
        assert_eq!(window.skip(u64::MAX), 50);
        assert_eq!((window.offset(), window.peek(1).len()), (100, 0));
        assert!(window.take_failure().is_none());
    }

    #[test]
    fn more_than_it_holds_can_be_skipped() {
        let mut window = Window::new(io::repeat(3).take(3 * CAPACITY as u64));
        assert_eq!(
            window.skip(2 * CAPACITY as u64 + 1),
            2 * CAPACITY as u64 + 1
        );
        assert_eq!(window.peek(CAPACITY).len(), CAPACITY - 1);
    }

    #[test]
    fn what_came_before_a_failure_is_shown() {
        let mut window = Window::new(Trickle {
            left: 20,
            fail: true,
        });
        assert_eq!(window.peek(30).len(), 20);
        assert!(
            window
                .take_failure()
                .is_some_and(|e| e.to_string() == "broken")
        );
        assert_eq!(window.skip(30), 20);
    }
}
