//! TCP options. Sources: RFC 9293 section 3.2 (kinds 0 to 2), RFC 7323 sections
//! 2.2 and 3.2 (window scale, timestamps), RFC 2018 sections 2 and 3 (SACK).

/// Largest shift count that counts; a larger one is used as if it were this.
/// RFC 7323 section 2.3.
pub const MAX_WINDOW_SCALE: u8 = 14;

/// SACK blocks that fit into forty bytes of options. RFC 2018 section 3.
pub const MAX_SACK_BLOCKS: usize = 4;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// The options of a segment that say something of the connection. Of one that
/// is there twice the last counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Largest segment the sender takes, in bytes of payload; in segments with SYN.
    pub mss: Option<u16>,
    /// How far the sender's windows are shifted, 0..=[`MAX_WINDOW_SCALE`]: what
    /// was sent, capped. Valid in segments with SYN only.
    pub window_scale: Option<u8>,
    /// Whether the sender takes SACK blocks; in segments with SYN.
    pub sack_permitted: bool,
    /// What the sender has received beyond its acknowledgment number.
    pub sack: Sack,
    /// The sender's clock (TSval), and the other side's clock echoed (TSecr),
    /// which counts with ACK.
    pub timestamps: Option<(u32, u32)>,
    /// An option has a length that its kind doesn't have, or that runs past the
    /// options. The ones before it count; those after it too, unless it can't
    /// be told where they start.
    pub malformed: bool,
}

/// Blocks of a SACK option, in the order they were sent: the first holds what
/// came last, or repeats what came before (D-SACK, RFC 2883).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sack {
    blocks: [(u32, u32); MAX_SACK_BLOCKS],
    count: u8,
}

impl Sack {
    /// Left edge and right edge of each block: its first sequence number, and
    /// the one behind its last.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.blocks.iter().copied().take(self.len())
    }

    /// How many blocks: 0..=[`MAX_SACK_BLOCKS`].
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// No block, and so no option.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Of an option's bytes behind its length; none when they are not whole blocks.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        if chunks.is_empty() || !rest.is_empty() || chunks.len() > MAX_SACK_BLOCKS {
            return None;
        }
        let mut sack = Self::default();
        for (block, &[a, b, c, d, e, f, g, h]) in sack.blocks.iter_mut().zip(chunks) {
            *block = (
                u32::from_be_bytes([a, b, c, d]),
                u32::from_be_bytes([e, f, g, h]),
            );
            sack.count = sack.count.saturating_add(1);
        }
        Some(sack)
    }
}

impl Options {
    /// Reads the bytes between the fixed header and the payload.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut options = Self::default();
        // How RFC 7323 appendix A lays out what every segment of a connection
        // with timestamps carries.
        if let &[NOP, NOP, TIMESTAMPS, 10, a, b, c, d, e, f, g, h] = bytes {
            options.timestamps = Some((
                u32::from_be_bytes([a, b, c, d]),
                u32::from_be_bytes([e, f, g, h]),
            ));
            return options;
        }
        let mut rest = bytes;
        while let Some((&kind, after)) = rest.split_first() {
            if kind == END {
                break;
            }
            if kind == NOP {
                rest = after;
                continue;
            }
            // The length counts kind and length.
            let body_and_rest = after
                .split_first()
                .and_then(|(&len, after)| after.split_at_checked(usize::from(len).checked_sub(2)?));
            let Some((body, next)) = body_and_rest else {
                options.malformed = true;
                break;
            };
            options.malformed |= options.take(kind, body).is_none();
            rest = next;
        }
        options
    }

    /// Only the window scale of what [`Options::parse`] reads: `bytes` are an
    /// opening segment's, and nobody asks for the rest.
    #[must_use]
    pub fn window_scale(bytes: &[u8]) -> Option<u8> {
        let mut scale = None;
        let mut rest = bytes;
        loop {
            rest = match rest {
                [NOP, after @ ..] => after,
                [WINDOW_SCALE, 3, shift, after @ ..] => {
                    scale = Some(u8::min(*shift, MAX_WINDOW_SCALE));
                    after
                }
                [END, ..] | [] | [_] => return scale,
                [_, len, after @ ..] => {
                    let body = usize::from(*len).checked_sub(2);
                    match body.and_then(|body| after.get(body..)) {
                        Some(after) => after,
                        None => return scale,
                    }
                }
            };
        }
    }

    /// Takes in one option; none when its length is not its kind's.
    fn take(&mut self, kind: u8, body: &[u8]) -> Option<()> {
        match kind {
            MSS => self.mss = Some(u16::from_be_bytes(body.try_into().ok()?)),
            WINDOW_SCALE => {
                let [shift] = body.try_into().ok()?;
                self.window_scale = Some(u8::min(shift, MAX_WINDOW_SCALE));
            }
            SACK_PERMITTED => {
                let [] = body.try_into().ok()?;
                self.sack_permitted = true;
            }
            SACK => self.sack = Sack::parse(body)?,
            TIMESTAMPS => {
                let [a, b, c, d, e, f, g, h] = body.try_into().ok()?;
                self.timestamps = Some((
                    u32::from_be_bytes([a, b, c, d]),
                    u32::from_be_bytes([e, f, g, h]),
                ));
            }
            _ => {}
        }
        Some(())
    }
}
