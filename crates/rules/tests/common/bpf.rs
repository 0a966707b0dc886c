//! Classic BPF, run the plainest way: nothing of the engine is used here.

use weir_engine::rule::format::Insn;

/// Runs code over a frame: `len` bytes on the wire, of which `bytes` are at hand.
pub(crate) fn run(code: &[Insn], bytes: &[u8], len: u32) -> u32 {
    let mut a = 0u32;
    let mut x = 0u32;
    let mut memory = [0u32; 16];
    let mut pc = 0;
    loop {
        let insn = code[pc];
        pc += 1;
        let k = insn.k;
        match insn.code {
            0x06 => return k,
            0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 => {
                let size = match insn.code & 0x18 {
                    0x00 => 4,
                    0x08 => 2,
                    _ => 1,
                };
                let base = if insn.code & 0x40 != 0 {
                    u64::from(x)
                } else {
                    0
                };
                let Some(value) = load(bytes, base + u64::from(k), size) else {
                    return 0;
                };
                a = value;
            }
            0x80 => a = len,
            0x00 => a = k,
            0x60 => a = memory[k as usize],
            0x02 => memory[k as usize] = a,
            0xb1 => {
                let Some(value) = load(bytes, k.into(), 1) else {
                    return 0;
                };
                x = (value & 0xf) * 4;
            }
            0x07 => x = a,
            0x84 => a = 0u32.wrapping_sub(a),
            code if code & 7 == 4 => {
                let b = if code & 8 != 0 { x } else { k };
                a = match code & 0xf0 {
                    0x00 => a.wrapping_add(b),
                    0x10 => a.wrapping_sub(b),
                    0x20 => a.wrapping_mul(b),
                    0x30 if b == 0 => return 0,
                    0x30 => a / b,
                    0x40 => a | b,
                    0x50 => a & b,
                    0x60 => a.checked_shl(b).unwrap_or(0),
                    0x70 => a.checked_shr(b).unwrap_or(0),
                    0x90 if b == 0 => return 0,
                    0x90 => a % b,
                    0xa0 => a ^ b,
                    other => panic!("operation {other:#x}"),
                };
            }
            code if code & 7 == 5 => {
                let b = if code & 8 != 0 { x } else { k };
                let holds = match code & 0xf0 {
                    0x10 => a == b,
                    0x20 => a > b,
                    0x30 => a >= b,
                    0x40 => a & b != 0,
                    other => panic!("jump {other:#x}"),
                };
                pc += usize::from(if holds { insn.jt } else { insn.jf });
            }
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn load(bytes: &[u8], at: u64, size: usize) -> Option<u32> {
    let at = usize::try_from(at).ok()?;
    let part = bytes.get(at..at.checked_add(size)?)?;
    Some(
        part.iter()
            .fold(0, |value, byte| value << 8 | u32::from(*byte)),
    )
}
