//! The program: rules as bytes, on their way from the compiler in user mode to
//! the kernel.
//!
//! A program is a [`ProgramHeader`], then its [`RuleEntry`]s, [`TupleEntry`]s
//! and [`Insn`]s, then its text (UTF-8: names and expressions), one behind the
//! other without gaps. All integers are little endian. What is `reserved` is 0.
//!
//! # What a rule is
//! Each rule has code: a classic BPF program over the frame, the meaning of its
//! expression. Rules with [`RuleEntry::tuple_count`] of 0 are *linear*: their code
//! is run for each frame that gets that far. The tuples of any other rule are a
//! necessary condition of its code: no frame matches the code that doesn't match
//! at least one of its tuples. They are looked up by hash. A tuple without
//! [`TUPLE_CONFIRM`] is sufficient as well on a frame whose fields are all at
//! hand, so that the code needs not be run there.
//!
//! # First match wins
//! Rules are in the order of the file. Of the rules with a terminal action
//! (pass, drop, divert) the first that matches decides; rules that log or count
//! take effect when they stand before it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First four bytes of a program: "WRUL".
pub const MAGIC: u32 = u32::from_le_bytes(*b"WRUL");
/// Version of this format.
pub const VERSION: u32 = 1;

/// Rules in a program, at most.
pub const MAX_RULES: u32 = 16_384;
/// Tuples in a program, at most.
pub const MAX_TUPLES: u32 = 131_072;
/// Tuples of one rule, at most; what would need more is linear.
pub const MAX_TUPLES_PER_RULE: u32 = 64;
/// Different shapes (class, lengths and fields of a tuple) in a program, at
/// most: each is a hash look-up for each frame of its class.
pub const MAX_SHAPES: u32 = 64;
/// Instructions in a program, at most.
pub const MAX_INSNS: u32 = 1_048_576;
/// Instructions of one rule, at most.
pub const MAX_RULE_INSNS: u32 = 4_096;
/// Instructions of all linear rules together, at most: they bound what one
/// frame can cost.
pub const MAX_LINEAR_INSNS: u32 = 65_536;
/// Instructions that one frame could make run, at most: those of all linear
/// rules, and of the rules that one look-up in each shape of a class can find.
/// More is refused when the index is built.
pub const MAX_FRAME_INSNS: u32 = 131_072;
/// Bytes of text, at most.
pub const MAX_TEXT: u32 = 4 * 1024 * 1024;
/// Bytes of a rule's name: 1 to this, of `A-Z a-z 0-9 _ - .`.
pub const MAX_NAME: u32 = 32;
/// Bytes of a program, at most.
pub const MAX_PROGRAM: u32 = 24 * 1024 * 1024;

/// The start of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ProgramHeader {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`VERSION`].
    pub version: u32,
    /// Bytes of the program, this header included.
    pub size: u32,
    /// What happens to frames no rule decides on: [`ACTION_PASS`] or [`ACTION_DROP`].
    pub default_action: u32,
    /// How many rules.
    pub rule_count: u32,
    /// How many tuples.
    pub tuple_count: u32,
    /// How many instructions.
    pub insn_count: u32,
    /// Bytes of text.
    pub text_len: u32,
}

/// Action: the frame goes on. Terminal.
pub const ACTION_PASS: u32 = 0;
/// Action: the frame goes nowhere. Terminal.
pub const ACTION_DROP: u32 = 1;
/// Action: the frame goes to the reader in the divert role. Terminal.
pub const ACTION_DIVERT: u32 = 2;
/// Action: a record of the frame, and on.
pub const ACTION_LOG: u32 = 3;
/// Action: counted, and on.
pub const ACTION_COUNT: u32 = 4;

/// Bit of [`RuleEntry::directions`]: frames received.
pub const DIRECTION_IN: u32 = 1;
/// Bit of [`RuleEntry::directions`]: frames sent.
pub const DIRECTION_OUT: u32 = 2;

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RuleEntry {
    /// `ACTION_*`.
    pub action: u32,
    /// `DIRECTION_*`, one or both.
    pub directions: u32,
    /// Index of its first instruction; rules' code lies in the rules' order.
    pub insn_start: u32,
    /// How many instructions: at least 1.
    pub insn_count: u32,
    /// Index of its first tuple; rules' tuples lie in the rules' order.
    pub tuple_start: u32,
    /// How many tuples; 0: linear.
    pub tuple_count: u32,
    /// Where its name starts in the text.
    pub name_start: u32,
    /// Bytes of its name.
    pub name_len: u32,
    /// Where its expression starts in the text.
    pub expr_start: u32,
    /// Bytes of its expression, as it was written.
    pub expr_len: u32,
    /// Line of the file it stands in, from 1.
    pub line: u32,
    /// 0.
    pub reserved: u32,
}

/// Class of a tuple: EtherType 0x0800 at byte 12, fields as pcap-filter sees them.
pub const CLASS_IPV4: u8 = 4;
/// Class of a tuple: EtherType 0x86dd at byte 12.
pub const CLASS_IPV6: u8 = 6;
/// Class of a tuple: EtherType 0x0806 at byte 12; the addresses are the
/// protocol addresses of sender and target.
pub const CLASS_ARP: u8 = 8;
/// Class of a tuple: EtherType 0x8035 at byte 12, as [`CLASS_ARP`].
pub const CLASS_RARP: u8 = 9;

/// Bit of [`TupleEntry::fields`]: `protocol` counts.
pub const FIELD_PROTOCOL: u8 = 1;
/// Bit of [`TupleEntry::fields`]: `src_port` counts. A frame has ports if it is
/// TCP, UDP or SCTP and no later fragment.
pub const FIELD_SRC_PORT: u8 = 2;
/// Bit of [`TupleEntry::fields`]: `dst_port` counts.
pub const FIELD_DST_PORT: u8 = 4;

/// Bit of [`TupleEntry::flags`]: a frame that matches has to be confirmed by the
/// rule's code.
pub const TUPLE_CONFIRM: u8 = 1;

/// One way for a frame to match a rule: every field that counts is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TupleEntry {
    /// `CLASS_*`.
    pub class: u8,
    /// `FIELD_*`.
    pub fields: u8,
    /// Leading bits of the source address that count: at most 32 or 128.
    pub src_prefix: u8,
    /// Leading bits of the destination address that count.
    pub dst_prefix: u8,
    /// IPv4's protocol, or the next header of IPv6's fixed header; else 0.
    pub protocol: u8,
    /// `TUPLE_*`.
    pub flags: u8,
    /// 0 unless it counts.
    pub src_port: u16,
    /// 0 unless it counts.
    pub dst_port: u16,
    /// 0.
    pub reserved: u16,
    /// Source address in the order of the wire; of IPv4 in the first four
    /// bytes. Bits that don't count are 0.
    pub src: [u8; 16],
    /// Destination address, likewise.
    pub dst: [u8; 16],
}

/// One instruction of classic BPF ("The BSD Packet Filter", McCanne and
/// Jacobson, 1993; `pcap-filter` compiles to it). The codes are those of
/// libpcap's `bpf.h`. Jumps count from the next instruction, forward only, and
/// stay in the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions to pass over when the test holds.
    pub jt: u16,
    /// Instructions to pass over when it doesn't.
    pub jf: u16,
    /// 0.
    pub reserved: u16,
    /// Operand.
    pub k: u32,
}

const _: () = assert!(size_of::<ProgramHeader>() == 32);
const _: () = assert!(size_of::<RuleEntry>() == 48);
const _: () = assert!(size_of::<TupleEntry>() == 44);
const _: () = assert!(size_of::<Insn>() == 12);
