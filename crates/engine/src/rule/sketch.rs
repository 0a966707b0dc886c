//! What the rules do with a frame of which only some bytes are known: one that
//! isn't there, such as the SYN behind a peer who asks to be let in.

use core::cell::Cell;
use core::ops::Range;

use weir_abi::Direction;

use super::bpf;
use super::{Action, Decision, Far, Program, Rule, View};

/// A frame's bytes, as far as they are known.
#[derive(Clone, Copy, Debug)]
pub struct Sketch<'a> {
    /// Its first bytes; what stands in unknown places is not looked at.
    pub bytes: &'a [u8],
    /// Which of them are known, in offsets from the start of the frame.
    pub known: &'a [Range<u32>],
}

/// Gives out a sketch's bytes, and notes when others were asked for.
struct Watched<'a> {
    sketch: Sketch<'a>,
    unknown: Cell<bool>,
}

impl Far for Watched<'_> {
    fn copy_to(&self, offset: u32, dst: &mut [u8]) -> usize {
        let len = u32::try_from(dst.len()).unwrap_or(u32::MAX);
        let end = offset.saturating_add(len);
        let holds = |part: &Range<u32>| part.start <= offset && end <= part.end;
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.sketch.bytes.get(start..))
            .and_then(|bytes| bytes.get(..dst.len()))
            .filter(|_| self.sketch.known.iter().any(holds));
        match bytes {
            Some(bytes) => dst.copy_from_slice(bytes),
            None => {
                self.unknown.set(true);
                dst.fill(0);
            }
        }
        dst.len()
    }
}

/// What happens to a frame, if that follows from what is known of it: `None` if a
/// rule that has a say asks for more, be it a byte or the frame's length. Takes
/// the rules one after another, without the look-ups of
/// [`RuleSet::decide`](super::RuleSet::decide).
#[must_use]
pub fn decide(
    program: &Program<'_>,
    sketch: Sketch<'_>,
    direction: Option<Direction>,
) -> Option<Decision> {
    let frame = Watched {
        sketch,
        unknown: Cell::new(false),
    };
    // No bytes in one piece, and no end: every one is asked for.
    let view = View::new(&[], u32::MAX, 0, &frame);
    let deciding = |rule: &Rule<'_>| rule.applies_to(direction) && rule.action().is_terminal();
    for rule in program.rules().filter(deciding) {
        let length = rule.code().iter().any(|insn| {
            let code = insn.get().code;
            code == bpf::LD | bpf::W | bpf::LEN || code == bpf::LDX | bpf::W | bpf::LEN
        });
        let matches = rule.matches(&view);
        if length || frame.unknown.get() {
            return None;
        }
        if matches {
            return Some(decided(rule.action(), Some(rule.index())));
        }
    }
    Some(decided(program.default_action(), None))
}

const fn decided(action: Action, rule: Option<u32>) -> Decision {
    Decision {
        action,
        rule,
        log: None,
    }
}
