//! Instructions as text, in the notation of "The BSD Packet Filter" (McCanne
//! and Jacobson, 1993).

use weir_engine::rule::format::Insn;
use zerocopy::{IntoBytes, Unalign};

const RET: u16 = 0x06;

/// Whether there is a way to match.
pub(crate) fn accepts(code: &[Unalign<Insn>]) -> bool {
    code.iter().any(|insn| {
        let insn = insn.get();
        insn.code != RET && insn.code & 7 == RET || insn.code == RET && insn.k != 0
    })
}

/// Whether every frame matches.
pub(crate) fn always(code: &[Unalign<Insn>]) -> bool {
    code.first()
        .is_some_and(|insn| insn.get().code == RET && insn.get().k != 0)
}

/// The code, as something to compare.
pub(crate) fn bytes(code: &[Unalign<Insn>]) -> Vec<[u8; 12]> {
    code.iter()
        .map(|insn| {
            let mut bytes = [0; 12];
            bytes.copy_from_slice(insn.get().as_bytes());
            bytes
        })
        .collect()
}

/// One line for each instruction.
pub(crate) fn lines(code: &[Unalign<Insn>]) -> Vec<String> {
    code.iter()
        .enumerate()
        .map(|(at, insn)| line(at, insn.get()))
        .collect()
}

fn line(at: usize, insn: Insn) -> String {
    let k = insn.k;
    let class = insn.code & 7;
    let (name, operand) = match class {
        0 | 1 => load(insn),
        2 => ("st", format!("M[{k}]")),
        3 => ("stx", format!("M[{k}]")),
        4 => arithmetic(insn),
        5 => jump(insn),
        6 if insn.code & 0x18 == 0x10 => ("ret", "A".to_owned()),
        6 => ("ret", format!("#{k}")),
        _ if insn.code & 0x80 != 0 => ("txa", String::new()),
        _ => ("tax", String::new()),
    };
    let mut text = format!("({at:03}) {name:<5} {operand}");
    if class == 5 && insn.code != 0x05 {
        let target = |distance: u16| at + 1 + usize::from(distance);
        let (yes, no) = (target(insn.jt), target(insn.jf));
        text = format!("{text:<30} jt {yes} jf {no}");
    }
    text.trim_end().to_owned()
}

fn load(insn: Insn) -> (&'static str, String) {
    let k = insn.k;
    let name = match (insn.code & 1, insn.code & 0x18, insn.code & 0xe0) {
        (1, _, _) => "ldx",
        (_, 0x08, 0x20 | 0x40) => "ldh",
        (_, 0x10, 0x20 | 0x40) => "ldb",
        _ => "ld",
    };
    let operand = match insn.code & 0xe0 {
        0x00 => format!("#{k:#x}"),
        0x20 => format!("[{k}]"),
        0x40 => format!("[x + {k}]"),
        0x60 => format!("M[{k}]"),
        0x80 => "#pktlen".to_owned(),
        _ => format!("4*([{k}]&0xf)"),
    };
    (name, operand)
}

fn source(insn: Insn) -> String {
    if insn.code & 8 != 0 {
        "x".to_owned()
    } else {
        format!("#{:#x}", insn.k)
    }
}

fn arithmetic(insn: Insn) -> (&'static str, String) {
    let name = match insn.code & 0xf0 {
        0x00 => "add",
        0x10 => "sub",
        0x20 => "mul",
        0x30 => "div",
        0x40 => "or",
        0x50 => "and",
        0x60 => "lsh",
        0x70 => "rsh",
        0x80 => return ("neg", String::new()),
        0x90 => "mod",
        _ => "xor",
    };
    (name, source(insn))
}

fn jump(insn: Insn) -> (&'static str, String) {
    let name = match insn.code & 0xf0 {
        0x00 => return ("ja", format!("+{}", insn.k)),
        0x10 => "jeq",
        0x20 => "jgt",
        0x30 => "jge",
        _ => "jset",
    };
    (name, source(insn))
}
