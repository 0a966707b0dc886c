//! The rules in force: putting them there, reading them, and what they did.

use super::{ReplyHeader, Request, RequestError, RequestHeader};
use crate::{Ioctl, limits};

message! {
    /// Puts rules in force. The program follows, without a gap: all bytes of the
    /// request behind this, up to [`MAX_PROGRAM`](limits::MAX_PROGRAM). None:
    /// there are no rules any more.
    pub struct RulesLoadRequest [16] {
        /// Version, and the size of all of it, the program included.
        0 => header: RequestHeader,
        /// 0.
        8 => reserved: u64,
    }
}

message! {
    /// The rules are in force. Every frame after the last that was decided on
    /// by the old ones is decided on by them.
    pub struct RulesLoadReply [48] {
        /// Version and size.
        0 => header: ReplyHeader,
        /// The number of these rules: one more than that of those before.
        8 => generation: u64,
        /// Kernel memory they occupy, in bytes.
        16 => memory: u64,
        /// Bytes of the program.
        24 => program_len: u32,
        /// Rules.
        28 => rules: u32,
        /// Tuples.
        32 => tuples: u32,
        /// Instructions.
        36 => insns: u32,
        /// What happens to frames no rule decides on:
        /// [`RuleAction`](crate::RuleAction).
        40 => default_action: u32,
        /// 0.
        44 => reserved: u32,
    }
}

impl RulesLoadRequest {
    /// The start of a request with a program of `program_len` bytes behind it.
    /// `None` if that is more than [`MAX_PROGRAM`](limits::MAX_PROGRAM).
    #[must_use]
    pub const fn new(program_len: u32) -> Option<Self> {
        if program_len > limits::MAX_PROGRAM {
            return None;
        }
        let mut header = RequestHeader::of::<Self>();
        header.size = header.size.saturating_add(program_len);
        Some(RulesLoadRequest {
            header,
            reserved: 0,
        })
    }

    /// The length of the program.
    pub const fn program_len(&self) -> Result<u32, RequestError> {
        if self.reserved != 0 {
            return Err(RequestError::Reserved);
        }
        Ok(self
            .header
            .size
            .saturating_sub(RequestHeader::of::<Self>().size))
    }

    /// The program in the bytes of a request.
    #[must_use]
    pub fn program(request: &[u8]) -> &[u8] {
        request.get(size_of::<Self>()..).unwrap_or_default()
    }
}

impl Request for RulesLoadRequest {
    const IOCTL: Ioctl = Ioctl::RulesLoad;
    const MAX_TAIL: u32 = limits::MAX_PROGRAM;
    type Reply = RulesLoadReply;
}

message! {
    /// Asks for a part of the program in force.
    pub struct RulesReadRequest [24] {
        /// Version and size.
        0 => header: RequestHeader,
        /// Field 1: the generation it must be; 0 for whichever is in force.
        8 => generation: u64,
        /// Field 2: how many bytes to pass over; at most the program's length.
        16 => offset: u32,
        /// 0.
        20 => reserved: u32,
    }
}

message! {
    /// Start of a part of the program; `count` bytes follow.
    pub struct RulesReadReply [32] {
        /// Version and size, the bytes included.
        0 => header: ReplyHeader,
        /// The generation it is of.
        8 => generation: u64,
        /// When it was loaded: 100 ns since 1601-01-01 UTC; 0 if there are no
        /// rules and never were.
        16 => loaded_100ns: u64,
        /// Bytes of the whole program; 0: there are no rules.
        24 => total: u32,
        /// How many bytes follow: as many as there are, or as fit.
        28 => count: u32,
    }
}

impl RulesReadRequest {
    /// A request for the program from `offset` on, if it is of this generation
    /// (0: any).
    #[must_use]
    pub const fn new(generation: u64, offset: u32) -> Self {
        RulesReadRequest {
            header: RequestHeader::of::<Self>(),
            generation,
            offset,
            reserved: 0,
        }
    }

    /// Its generation, `None` for any, and its offset.
    pub const fn part(&self) -> Result<(Option<core::num::NonZeroU64>, u32), RequestError> {
        if self.reserved != 0 {
            return Err(RequestError::Reserved);
        }
        Ok((core::num::NonZeroU64::new(self.generation), self.offset))
    }
}

impl Request for RulesReadRequest {
    const IOCTL: Ioctl = Ioctl::RulesRead;
    type Reply = RulesReadReply;
}

message! {
    /// Asks for the counters of the rules in force.
    pub struct RulesStatsRequest [24] {
        /// Version and size.
        0 => header: RequestHeader,
        /// Field 1: the generation it must be; 0 for whichever is in force.
        8 => generation: u64,
        /// Field 2: how many rules to pass over.
        16 => start: u32,
        /// 0.
        20 => reserved: u32,
    }
}

message! {
    /// Start of the counters of the rules; `count` times [`RuleHits`] follow, in
    /// the rules' order.
    ///
    /// `seen` is the sum of the frames of `default` and of every rule that
    /// passes, drops or diverts. The counters are those of each processor and
    /// are read while frames pass: the sum is exact once no frame is under way.
    pub struct RulesStatsReply [80] {
        /// Version and size, the entries included.
        0 => header: ReplyHeader,
        /// The generation they are of.
        8 => generation: u64,
        /// When it was loaded: 100 ns since 1601-01-01 UTC; 0 if there are no
        /// rules and never were.
        16 => loaded_100ns: u64,
        /// Kernel memory the rules occupy, in bytes.
        24 => memory: u64,
        /// Frames that were decided on since then.
        32 => seen: RuleHits,
        /// Those that no rule decided on.
        48 => default: RuleHits,
        /// What happens to these: [`RuleAction`](crate::RuleAction).
        64 => default_action: u32,
        /// How many rules there are, those passed over included.
        68 => total: u32,
        /// How many entries follow: as many as there are, or as fit.
        72 => count: u32,
        /// 0.
        76 => reserved: u32,
    }
}

message! {
    /// Frames and their bytes, link header included.
    pub struct RuleHits [16] {
        /// Frames.
        0 => frames: u64,
        /// Bytes.
        8 => bytes: u64,
    }
}

impl RulesStatsRequest {
    /// A request for the counters of the rules after the first `start`, if they
    /// are of this generation (0: any).
    #[must_use]
    pub const fn new(generation: u64, start: u32) -> Self {
        RulesStatsRequest {
            header: RequestHeader::of::<Self>(),
            generation,
            start,
            reserved: 0,
        }
    }

    /// Its generation, `None` for any, and its start index.
    pub const fn part(&self) -> Result<(Option<core::num::NonZeroU64>, u32), RequestError> {
        if self.reserved != 0 {
            return Err(RequestError::Reserved);
        }
        Ok((core::num::NonZeroU64::new(self.generation), self.start))
    }
}

impl Request for RulesStatsRequest {
    const IOCTL: Ioctl = Ioctl::RulesStats;
    type Reply = RulesStatsReply;
}
