//! Buffers of socket operations. The kernel has one from the start of its
//! operation to its completion; between operations a bounded number is kept.

use std::sync::Mutex;

use weir_abi::{datagram::DATAGRAM_HEADER_LEN, limits};

use crate::lock::lock;

/// Bytes of a small buffer.
pub(crate) const SMALL: usize = 16 * 1024;
/// Bytes of a large one: room for any datagram with its header.
pub(crate) const LARGE: usize = 64 * 1024 + DATAGRAM_HEADER_LEN as usize;
const _: () = assert!(LARGE >= (limits::MAX_DATAGRAM + DATAGRAM_HEADER_LEN) as usize);

/// Buffers that no operation has, up to a number of each size. An operation that
/// finds none makes one; one that is given back above the number is freed. How
/// many are in operations is bounded by the sockets there are, each of which
/// has one read and a window of writes.
pub(crate) struct Buffers {
    small: Mutex<Vec<Vec<u8>>>,
    large: Mutex<Vec<Vec<u8>>>,
    keep: usize,
}

impl Buffers {
    /// Keeps up to `keep` buffers of each size.
    pub(crate) const fn new(keep: usize) -> Buffers {
        Buffers {
            small: Mutex::new(Vec::new()),
            large: Mutex::new(Vec::new()),
            keep,
        }
    }

    /// A buffer for an operation that can use `want` bytes; of that length, or
    /// [`LARGE`] if that is less. What it holds is of no meaning.
    pub(crate) fn take(&self, want: usize) -> Vec<u8> {
        let want = want.min(LARGE);
        let (class, size) = self.class(want);
        let mut buffer = lock(class).pop().unwrap_or_default();
        if buffer.capacity() < size {
            buffer.reserve_exact(size);
        }
        buffer.resize(want, 0);
        buffer
    }

    /// Keeps a buffer for another operation.
    pub(crate) fn give_back(&self, buffer: Vec<u8>) {
        let class = match buffer.capacity() {
            LARGE.. => &self.large,
            SMALL.. => &self.small,
            _ => return,
        };
        let mut kept = lock(class);
        if kept.len() < self.keep {
            kept.push(buffer);
        }
    }

    const fn class(&self, want: usize) -> (&Mutex<Vec<Vec<u8>>>, usize) {
        if want <= SMALL {
            (&self.small, SMALL)
        } else {
            (&self.large, LARGE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_have_the_length_asked_for_and_come_again() {
        let buffers = Buffers::new(2);
        let mut one = buffers.take(10);
        assert_eq!((one.len(), one.capacity()), (10, SMALL));
        one.fill(9);
        let at = one.as_ptr();
        buffers.give_back(one);
        let again = buffers.take(SMALL);
        assert_eq!((again.len(), again.as_ptr()), (SMALL, at));
        assert_eq!(buffers.take(SMALL + 1).capacity(), LARGE);
        assert_eq!(buffers.take(usize::MAX).len(), LARGE);
    }

    #[test]
    fn no_more_are_kept_than_may_be() {
        let buffers = Buffers::new(2);
        for _ in 0..5 {
            buffers.give_back(vec![0; SMALL]);
            buffers.give_back(vec![0; LARGE]);
        }
        buffers.give_back(vec![0; 3]);
        assert_eq!(lock(&buffers.small).len(), 2);
        assert_eq!(lock(&buffers.large).len(), 2);
    }
}
