//! The machine: classic BPF, as libpcap's `bpf_filter` runs it.
//!
//! Two registers of 32 bits, A and X, and [`SCRATCH_WORDS`] words of scratch
//! memory, all 0 at the start. Arithmetic is unsigned and wraps. What can't be
//! done (a load beyond the bytes at hand, a division by zero) ends the run with
//! 0, which is no match. Shifts by 32 or more give 0. Jumps go forward only, so
//! that a run takes at most as many steps as there are instructions.
//!
//! Source of the operations and their codes: "The BSD Packet Filter", McCanne
//! and Jacobson, 1993; `pcap/bpf.h`. `MOD` and `XOR` are libpcap's additions.

use zerocopy::Unalign;

use super::format::Insn;
use super::view::View;

/// Words of scratch memory.
pub const SCRATCH_WORDS: u32 = 16;

/// Class of operation: load A.
pub const LD: u16 = 0x00;
/// Class of operation: load X.
pub const LDX: u16 = 0x01;
/// Class of operation: store A.
pub const ST: u16 = 0x02;
/// Class of operation: store X.
pub const STX: u16 = 0x03;
/// Class of operation: arithmetic on A.
pub const ALU: u16 = 0x04;
/// Class of operation: jump.
pub const JMP: u16 = 0x05;
/// Class of operation: end of the run.
pub const RET: u16 = 0x06;
/// Class of operation: between A and X.
pub const MISC: u16 = 0x07;

/// Size of a load: 32 bits.
pub const W: u16 = 0x00;
/// Size of a load: 16 bits.
pub const H: u16 = 0x08;
/// Size of a load: 8 bits.
pub const B: u16 = 0x10;

/// Mode of a load: the constant k.
pub const IMM: u16 = 0x00;
/// Mode of a load: the frame's bytes at k, big endian.
pub const ABS: u16 = 0x20;
/// Mode of a load: the frame's bytes at X + k, big endian.
pub const IND: u16 = 0x40;
/// Mode of a load: scratch word k.
pub const MEM: u16 = 0x60;
/// Mode of a load: the frame's length on the wire.
pub const LEN: u16 = 0x80;
/// Mode of a load: four times the low half of the frame's byte at k, which is
/// the length of an IPv4 header that starts there.
pub const MSH: u16 = 0xa0;

/// Arithmetic: A + operand.
pub const ADD: u16 = 0x00;
/// Arithmetic: A - operand.
pub const SUB: u16 = 0x10;
/// Arithmetic: A × operand.
pub const MUL: u16 = 0x20;
/// Arithmetic: A ÷ operand.
pub const DIV: u16 = 0x30;
/// Arithmetic: A or operand.
pub const OR: u16 = 0x40;
/// Arithmetic: A and operand.
pub const AND: u16 = 0x50;
/// Arithmetic: A shifted left.
pub const LSH: u16 = 0x60;
/// Arithmetic: A shifted right.
pub const RSH: u16 = 0x70;
/// Arithmetic: 0 - A.
pub const NEG: u16 = 0x80;
/// Arithmetic: the rest of A ÷ operand.
pub const MOD: u16 = 0x90;
/// Arithmetic: A exclusive-or operand.
pub const XOR: u16 = 0xa0;

/// Jump by k, always.
pub const JA: u16 = 0x00;
/// Jump by jt if A = operand, else by jf.
pub const JEQ: u16 = 0x10;
/// Jump by jt if A > operand, else by jf.
pub const JGT: u16 = 0x20;
/// Jump by jt if A ≥ operand, else by jf.
pub const JGE: u16 = 0x30;
/// Jump by jt if A and operand have a bit in common, else by jf.
pub const JSET: u16 = 0x40;

/// Operand, or value returned: k.
pub const K: u16 = 0x00;
/// Operand: X.
pub const X: u16 = 0x08;
/// Value returned: A.
pub const A: u16 = 0x10;

/// X becomes A.
pub const TAX: u16 = 0x00;
/// A becomes X.
pub const TXA: u16 = 0x80;

/// Every operation there is, each class with its modes: the codes of
/// instructions. The machine and its verification share them.
pub(super) mod op {
    use super::{
        A, ABS, ADD, ALU, AND, B, DIV, H, IMM, IND, JA, JEQ, JGE, JGT, JMP, JSET, K, LD, LDX, LEN,
        LSH, MEM, MISC, MOD, MSH, MUL, NEG, OR, RET, RSH, ST, STX, SUB, TAX, TXA, W, X, XOR,
    };

    pub(in super::super) const RET_K: u16 = RET | K;
    pub(in super::super) const RET_A: u16 = RET | A;
    pub(in super::super) const LD_W_ABS: u16 = LD | W | ABS;
    pub(in super::super) const LD_H_ABS: u16 = LD | H | ABS;
    pub(in super::super) const LD_B_ABS: u16 = LD | B | ABS;
    pub(in super::super) const LD_W_IND: u16 = LD | W | IND;
    pub(in super::super) const LD_H_IND: u16 = LD | H | IND;
    pub(in super::super) const LD_B_IND: u16 = LD | B | IND;
    pub(in super::super) const LD_LEN: u16 = LD | W | LEN;
    pub(in super::super) const LDX_LEN: u16 = LDX | W | LEN;
    pub(in super::super) const LDX_MSH: u16 = LDX | B | MSH;
    pub(in super::super) const LD_IMM: u16 = LD | IMM;
    pub(in super::super) const LDX_IMM: u16 = LDX | IMM;
    pub(in super::super) const LD_MEM: u16 = LD | MEM;
    pub(in super::super) const LDX_MEM: u16 = LDX | MEM;
    pub(in super::super) const ST_MEM: u16 = ST;
    pub(in super::super) const STX_MEM: u16 = STX;
    pub(in super::super) const JA_K: u16 = JMP | JA;
    pub(in super::super) const JEQ_K: u16 = JMP | JEQ | K;
    pub(in super::super) const JGT_K: u16 = JMP | JGT | K;
    pub(in super::super) const JGE_K: u16 = JMP | JGE | K;
    pub(in super::super) const JSET_K: u16 = JMP | JSET | K;
    pub(in super::super) const JEQ_X: u16 = JMP | JEQ | X;
    pub(in super::super) const JGT_X: u16 = JMP | JGT | X;
    pub(in super::super) const JGE_X: u16 = JMP | JGE | X;
    pub(in super::super) const JSET_X: u16 = JMP | JSET | X;
    pub(in super::super) const ADD_K: u16 = ALU | ADD | K;
    pub(in super::super) const SUB_K: u16 = ALU | SUB | K;
    pub(in super::super) const MUL_K: u16 = ALU | MUL | K;
    pub(in super::super) const DIV_K: u16 = ALU | DIV | K;
    pub(in super::super) const MOD_K: u16 = ALU | MOD | K;
    pub(in super::super) const AND_K: u16 = ALU | AND | K;
    pub(in super::super) const OR_K: u16 = ALU | OR | K;
    pub(in super::super) const XOR_K: u16 = ALU | XOR | K;
    pub(in super::super) const LSH_K: u16 = ALU | LSH | K;
    pub(in super::super) const RSH_K: u16 = ALU | RSH | K;
    pub(in super::super) const ADD_X: u16 = ALU | ADD | X;
    pub(in super::super) const SUB_X: u16 = ALU | SUB | X;
    pub(in super::super) const MUL_X: u16 = ALU | MUL | X;
    pub(in super::super) const DIV_X: u16 = ALU | DIV | X;
    pub(in super::super) const MOD_X: u16 = ALU | MOD | X;
    pub(in super::super) const AND_X: u16 = ALU | AND | X;
    pub(in super::super) const OR_X: u16 = ALU | OR | X;
    pub(in super::super) const XOR_X: u16 = ALU | XOR | X;
    pub(in super::super) const LSH_X: u16 = ALU | LSH | X;
    pub(in super::super) const RSH_X: u16 = ALU | RSH | X;
    pub(in super::super) const NEG_A: u16 = ALU | NEG;
    pub(in super::super) const TAX_: u16 = MISC | TAX;
    pub(in super::super) const TXA_: u16 = MISC | TXA;
}

/// Runs `code` over a frame. What it returns; 0 is no match.
#[must_use]
pub fn run(code: &[Unalign<Insn>], view: &View<'_>) -> u32 {
    interpret(code, view).unwrap_or(0)
}

/// `None`: something could not be done.
fn interpret(code: &[Unalign<Insn>], view: &View<'_>) -> Option<u32> {
    let mut a = 0u32;
    let mut x = 0u32;
    let mut scratch = [0u32; SCRATCH_WORDS as usize];
    let mut next = code;
    loop {
        let (insn, behind) = next.split_first()?;
        let Insn {
            code, jt, jf, k, ..
        } = insn.get();
        next = behind;
        let test = match code {
            op::RET_K => return Some(k),
            op::RET_A => return Some(a),

            op::LD_W_ABS => {
                a = word(view, k)?;
                continue;
            }
            op::LD_H_ABS => {
                a = half(view, k)?;
                continue;
            }
            op::LD_B_ABS => {
                a = byte(view, k)?;
                continue;
            }
            // Where X + k would wrap there is no such byte either.
            op::LD_W_IND => {
                a = word(view, x.checked_add(k)?)?;
                continue;
            }
            op::LD_H_IND => {
                a = half(view, x.checked_add(k)?)?;
                continue;
            }
            op::LD_B_IND => {
                a = byte(view, x.checked_add(k)?)?;
                continue;
            }
            op::LDX_MSH => {
                x = header_len(byte(view, k)?);
                continue;
            }
            op::LD_LEN => {
                a = view.wire_len();
                continue;
            }
            op::LDX_LEN => {
                x = view.wire_len();
                continue;
            }
            op::LD_IMM => {
                a = k;
                continue;
            }
            op::LDX_IMM => {
                x = k;
                continue;
            }
            op::LD_MEM => {
                a = *scratch.get(usize::try_from(k).ok()?)?;
                continue;
            }
            op::LDX_MEM => {
                x = *scratch.get(usize::try_from(k).ok()?)?;
                continue;
            }
            op::ST_MEM => {
                *scratch.get_mut(usize::try_from(k).ok()?)? = a;
                continue;
            }
            op::STX_MEM => {
                *scratch.get_mut(usize::try_from(k).ok()?)? = x;
                continue;
            }

            op::JA_K => {
                next = behind.get(usize::try_from(k).ok()?..)?;
                continue;
            }
            op::JEQ_K => a == k,
            op::JGT_K => a > k,
            op::JGE_K => a >= k,
            op::JSET_K => a & k != 0,
            op::JEQ_X => a == x,
            op::JGT_X => a > x,
            op::JGE_X => a >= x,
            op::JSET_X => a & x != 0,

            op::TAX_ => {
                x = a;
                continue;
            }
            op::TXA_ => {
                a = x;
                continue;
            }
            _ => {
                a = arithmetic(code, a, k, x)?;
                continue;
            }
        };
        let by = if test { jt } else { jf };
        next = behind.get(usize::from(by)..)?;
    }
}

fn arithmetic(code: u16, a: u32, k: u32, x: u32) -> Option<u32> {
    Some(match code {
        op::ADD_K => a.wrapping_add(k),
        op::SUB_K => a.wrapping_sub(k),
        op::MUL_K => a.wrapping_mul(k),
        op::DIV_K => a.checked_div(k)?,
        op::MOD_K => a.checked_rem(k)?,
        op::AND_K => a & k,
        op::OR_K => a | k,
        op::XOR_K => a ^ k,
        op::LSH_K => a.checked_shl(k).unwrap_or(0),
        op::RSH_K => a.checked_shr(k).unwrap_or(0),
        op::ADD_X => a.wrapping_add(x),
        op::SUB_X => a.wrapping_sub(x),
        op::MUL_X => a.wrapping_mul(x),
        op::DIV_X => a.checked_div(x)?,
        op::MOD_X => a.checked_rem(x)?,
        op::AND_X => a & x,
        op::OR_X => a | x,
        op::XOR_X => a ^ x,
        op::LSH_X => a.checked_shl(x).unwrap_or(0),
        op::RSH_X => a.checked_shr(x).unwrap_or(0),
        op::NEG_A => a.wrapping_neg(),
        // Verification let none of these through.
        _ => return None,
    })
}

fn word(view: &View<'_>, at: u32) -> Option<u32> {
    view.load(at).map(u32::from_be_bytes)
}

fn half(view: &View<'_>, at: u32) -> Option<u32> {
    view.load(at).map(u16::from_be_bytes).map(u32::from)
}

fn byte(view: &View<'_>, at: u32) -> Option<u32> {
    view.load(at).map(|[byte]: [u8; 1]| u32::from(byte))
}

/// The length in bytes of an IPv4 header with this first byte.
pub(super) const fn header_len(first: u32) -> u32 {
    (first & 0x0f).wrapping_shl(2)
}
