//! A frame as the rules see it.

/// The bytes of a frame beyond those that lie in one piece.
///
/// The kernel's frames are spread over several buffers; a file's never are.
pub trait Far {
    /// Copies the frame's bytes from `offset` (from the start of the frame) to
    /// `dst`, and says how many it copied. Fewer than `dst` holds: the rest can't
    /// be had.
    fn copy_to(&self, offset: u32, dst: &mut [u8]) -> usize;
}

/// There is nothing beyond the contiguous bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoFar;

impl Far for NoFar {
    fn copy_to(&self, _offset: u32, _dst: &mut [u8]) -> usize {
        0
    }
}

/// A frame: its first bytes in one piece, the others behind [`Far`].
#[derive(Clone, Copy)]
pub struct View<'a> {
    prefix: &'a [u8],
    captured_len: u32,
    wire_len: u32,
    far: &'a dyn Far,
}

impl core::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("View")
            .field("prefix", &self.prefix)
            .field("captured_len", &self.captured_len)
            .field("wire_len", &self.wire_len)
            .finish_non_exhaustive()
    }
}

impl<'a> View<'a> {
    /// `prefix`: the first bytes of the frame. `captured_len`: bytes at hand,
    /// those of `prefix` included; what `prefix` has beyond is not looked at.
    /// `wire_len`: bytes the frame has on the wire. `far`: the bytes from the
    /// end of `prefix` to `captured_len`.
    #[must_use]
    pub fn new(prefix: &'a [u8], captured_len: u32, wire_len: u32, far: &'a dyn Far) -> Self {
        let captured = usize::try_from(captured_len).unwrap_or(usize::MAX);
        View {
            prefix: prefix.get(..captured).unwrap_or(prefix),
            captured_len,
            wire_len,
            far,
        }
    }

    /// A frame all of whose bytes at hand lie in one piece.
    #[must_use]
    pub fn contiguous(bytes: &'a [u8], wire_len: u32) -> Self {
        let captured_len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        View::new(bytes, captured_len, wire_len, &NoFar)
    }

    /// The first bytes, in one piece.
    #[must_use]
    pub const fn prefix(&self) -> &'a [u8] {
        self.prefix
    }

    /// Bytes at hand.
    #[must_use]
    pub const fn captured_len(&self) -> u32 {
        self.captured_len
    }

    /// Bytes on the wire.
    #[must_use]
    pub const fn wire_len(&self) -> u32 {
        self.wire_len
    }

    /// `N` bytes at `at`; `None` if not all of them are at hand.
    #[inline(always)]
    pub(super) fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let start = usize::try_from(at).ok()?;
        match self.prefix.get(start..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => Some(*bytes),
            None => self.load_far(at),
        }
    }

    #[cold]
    fn load_far<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let end = at.checked_add(u32::try_from(N).ok()?)?;
        if end > self.captured_len {
            return None;
        }
        let mut bytes = [0; N];
        let near = usize::try_from(at)
            .ok()
            .and_then(|start| self.prefix.get(start..))
            .unwrap_or(&[]);
        for (to, from) in bytes.iter_mut().zip(near) {
            *to = *from;
        }
        let rest = bytes.get_mut(near.len()..)?;
        let from = at.checked_add(u32::try_from(near.len()).ok()?)?;
        let wanted = rest.len();
        (self.far.copy_to(from, rest) == wanted).then_some(bytes)
    }
}
