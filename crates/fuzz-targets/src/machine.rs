//! Classic BPF, run in the plainest way: the manual's words, one by one.

use weir_engine::rule::format::Insn;
use zerocopy::Unalign;

/// What `code` returns on a frame of which `bytes` are at hand and `len` bytes
/// were on the wire; 0 where something can't be done. After McCanne and
/// Jacobson, "The BSD Packet Filter", section 3.3, and what libpcap added.
pub(crate) fn run(code: &[Unalign<Insn>], bytes: &[u8], len: u32) -> u32 {
    Machine::default().run(code, bytes, len).unwrap_or(0)
}

#[derive(Default)]
struct Machine {
    a: u32,
    x: u32,
    memory: [u32; 16],
}

impl Machine {
    fn run(&mut self, code: &[Unalign<Insn>], bytes: &[u8], len: u32) -> Option<u32> {
        let mut at = 0u64;
        loop {
            let insn = code[usize::try_from(at).ok()?].get();
            at += 1;
            match insn.code & 7 {
                0 => self.a = self.load(insn, bytes, len)?,
                1 if insn.code & 0xe0 == 0xa0 => {
                    self.x = (fetch(bytes, u64::from(insn.k), 1)? & 15) * 4;
                }
                1 => self.x = self.load(insn, bytes, len)?,
                2 => self.memory[insn.k as usize] = self.a,
                3 => self.memory[insn.k as usize] = self.x,
                4 => self.a = self.arithmetic(insn)?,
                5 if insn.code & 0xf0 == 0 => at += u64::from(insn.k),
                5 => at += u64::from(if self.test(insn) { insn.jt } else { insn.jf }),
                6 => {
                    return Some(if insn.code & 0x18 == 0x10 {
                        self.a
                    } else {
                        insn.k
                    });
                }
                _ if insn.code & 0xf8 == 0x80 => self.a = self.x,
                _ => self.x = self.a,
            }
        }
    }

    fn load(&self, insn: Insn, bytes: &[u8], len: u32) -> Option<u32> {
        let size = match insn.code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            _ => 1,
        };
        match insn.code & 0xe0 {
            0x00 => Some(insn.k),
            0x20 => fetch(bytes, u64::from(insn.k), size),
            0x40 => fetch(bytes, u64::from(insn.k) + u64::from(self.x), size),
            0x60 => Some(self.memory[insn.k as usize]),
            0x80 => Some(len),
            mode => panic!("a load in mode {mode:#x} was verified"),
        }
    }

    fn operand(&self, insn: Insn) -> u32 {
        if insn.code & 8 != 0 { self.x } else { insn.k }
    }

    fn arithmetic(&self, insn: Insn) -> Option<u32> {
        let (a, b) = (u64::from(self.a), u64::from(self.operand(insn)));
        let result = match insn.code & 0xf0 {
            0x00 => a + b,
            0x10 => a + (1 << 32) - b,
            0x20 => a * b,
            0x30 => a.checked_div(b)?,
            0x40 => a | b,
            0x50 => a & b,
            0x60 if b < 32 => a << b,
            0x70 if b < 32 => a >> b,
            0x60 | 0x70 => 0,
            0x80 => (1 << 32) - a,
            0x90 => a.checked_rem(b)?,
            0xa0 => a ^ b,
            operation => panic!("arithmetic {operation:#x} was verified"),
        };
        Some((result & 0xffff_ffff) as u32)
    }

    fn test(&self, insn: Insn) -> bool {
        let (a, b) = (self.a, self.operand(insn));
        match insn.code & 0xf0 {
            0x10 => a == b,
            0x20 => a > b,
            0x30 => a >= b,
            0x40 => a & b != 0,
            jump => panic!("a jump {jump:#x} was verified"),
        }
    }
}

fn fetch(bytes: &[u8], at: u64, size: usize) -> Option<u32> {
    let start = usize::try_from(at).ok()?;
    let bytes = bytes.get(start..start.checked_add(size)?)?;
    Some(
        bytes
            .iter()
            .fold(0, |sum, &byte| sum << 8 | u32::from(byte)),
    )
}
