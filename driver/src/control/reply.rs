//! Writing replies.

use core::marker::PhantomData;

use weir_abi::ReplyHeader;
use zerocopy::{Immutable, IntoBytes};

use crate::error::Error;
use crate::kernel::wdf::Request;

/// Room for the reply of one request. Handlers end with the number of bytes they
/// wrote, which is what user mode gets.
pub(super) struct Reply<'a> {
    room: &'a mut [u8],
}

impl<'a> Reply<'a> {
    /// The room of this request. The request's own bytes are gone after that.
    pub(super) fn to(request: &'a Request) -> Result<Self, Error> {
        // Every command has a reply, and there is room for it (Command::decode).
        let (room, len) = request.output(1)?;
        // SAFETY: `len` bytes of the system's copy, good until the request is
        // completed, which ends the borrow; no other reference to it is alive.
        let room = unsafe { core::slice::from_raw_parts_mut(room, len) };
        Ok(Self { room })
    }

    /// A reply of fixed size.
    pub(super) fn one<T: IntoBytes + Immutable>(self, reply: &T) -> Result<usize, Error> {
        reply
            .write_to_prefix(self.room)
            .map_err(|_| Error::TooSmall)?;
        Ok(size_of::<T>())
    }

    /// A reply that is `H` and a number of `E`s.
    pub(super) fn list<H, E>(self) -> List<'a, H, E> {
        List {
            room: self.room,
            used: size_of::<H>(),
            count: 0,
            kind: PhantomData,
        }
    }
}

impl<H: IntoBytes + Immutable> List<'_, H, u8> {
    /// Adds as many of these bytes as there is room for.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        let Some(free) = self.room.get_mut(self.used..) else {
            return;
        };
        let len = bytes.len().min(free.len());
        if let (Some(to), Some(from)) = (free.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
            self.used = self.used.saturating_add(len);
            let more = u32::try_from(len).unwrap_or(u32::MAX);
            self.count = self.count.saturating_add(more);
        }
    }
}

/// A list that is being written.
pub(super) struct List<'a, H, E> {
    room: &'a mut [u8],
    used: usize,
    count: u32,
    kind: PhantomData<(H, E)>,
}

impl<H: IntoBytes + Immutable, E: IntoBytes + Immutable> List<'_, H, E> {
    /// Adds an entry, if there is room for it.
    pub(super) fn push(&mut self, entry: &E) {
        let Some(free) = self.room.get_mut(self.used..) else {
            return;
        };
        if entry.write_to_prefix(free).is_ok() {
            self.used = self.used.saturating_add(size_of::<E>());
            self.count = self.count.saturating_add(1);
        }
    }

    /// Whether another entry has no room.
    pub(super) fn is_full(&self) -> bool {
        self.room.len().saturating_sub(self.used) < size_of::<E>()
    }

    /// Writes what stands before the entries: `head` makes it of the header and
    /// the number of entries.
    pub(super) fn finish(self, head: impl FnOnce(ReplyHeader, u32) -> H) -> Result<usize, Error> {
        let header = ReplyHeader::of_list::<H, E>(self.count).ok_or(Error::TooSmall)?;
        let head = head(header, self.count);
        head.write_to_prefix(self.room)
            .map_err(|_| Error::TooSmall)?;
        Ok(self.used)
    }
}
