//! What readers are to be shown of the frames of one list, until it is known
//! what becomes of them.

use weir_abi::RecordFlags;

/// Frames noted at once: what a large send has, cut to frames of 1460 bytes, and
/// some more. They lie on the stack.
const MOST: usize = 64;

/// What is to be shown of a frame besides its bytes.
#[derive(Clone, Copy)]
pub(super) struct Note {
    pub(super) flags: RecordFlags,
    /// Rules by their index and 1, 0 for none: there are fewer than numbers.
    rule: u16,
    logged: u16,
}

impl Note {
    /// With the indexes of the rule that decided, and of the first that logged.
    pub(super) fn new(flags: RecordFlags, rule: Option<u32>, logged: Option<u32>) -> Self {
        Self {
            flags,
            rule: number(rule),
            logged: number(logged),
        }
    }

    /// Index of the rule that decided on it.
    pub(super) fn rule(&self) -> Option<u32> {
        u32::from(self.rule).checked_sub(1)
    }

    /// Index of the first rule that logged it.
    pub(super) fn logged(&self) -> Option<u32> {
        u32::from(self.logged).checked_sub(1)
    }

    /// Whether the frame was to go on.
    pub(super) fn was_to_go_on(&self) -> bool {
        !self
            .flags
            .intersects(RecordFlags::DROPPED | RecordFlags::DIVERTED)
    }
}

fn number(rule: Option<u32>) -> u16 {
    rule.and_then(|index| u16::try_from(index.checked_add(1)?).ok())
        .unwrap_or(0)
}

/// Notes of the frames of a list that haven't been shown, one after the other.
pub(super) struct Notes {
    notes: [Note; MOST],
    len: usize,
    /// Frames of the list that were shown before.
    shown: usize,
}

impl Notes {
    pub(super) const fn new() -> Self {
        const NONE: Note = Note {
            flags: RecordFlags::empty(),
            rule: 0,
            logged: 0,
        };
        Self {
            notes: [NONE; MOST],
            len: 0,
            shown: 0,
        }
    }

    /// Whether there is no room for another one.
    pub(super) fn are_full(&self) -> bool {
        self.len >= MOST
    }

    /// Adds that of the next frame; there is room for it.
    pub(super) fn add(&mut self, note: Note) {
        if let Some(place) = self.notes.get_mut(self.len) {
            *place = note;
            self.len = self.len.saturating_add(1);
        }
    }

    /// The one that was added last.
    pub(super) fn last(&mut self) -> Option<&mut Note> {
        self.notes.get_mut(self.len.checked_sub(1)?)
    }

    /// All there are, and how many frames of the list come before theirs.
    pub(super) fn all(&self) -> (usize, &[Note]) {
        (self.shown, self.notes.get(..self.len).unwrap_or_default())
    }

    /// Forgets them: they have been shown.
    pub(super) fn shown(&mut self) {
        self.shown = self.shown.saturating_add(self.len);
        self.len = 0;
    }

    /// Ready for another list.
    pub(super) fn reset(&mut self) {
        self.shown = 0;
        self.len = 0;
    }
}
