//! DbgPrint and KeBugCheckEx.

use std::ffi::CStr;
use std::fmt::Write;

use serde_json::json;

use super::types::{UNICODE_STRING, unicode};
use crate::core::{Rule, event_log, session};

/// Formats like the C library, for what a driver's log lines use: `%d %i %u
/// %x %X %c %s %p %ws %S %wZ %%` with `l`, `ll`, `h`, `z`, `I64`, width and
/// zero padding.
fn format(text: &CStr, arguments: &[usize]) -> String {
    let mut out = String::new();
    let mut rest = arguments.iter().copied();
    let bytes = text.to_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at).copied() {
        at += 1;
        if byte != b'%' {
            out.push(char::from(byte));
            continue;
        }
        let spec = Spec::parse(bytes, &mut at);
        if spec.letter == b'%' {
            out.push('%');
        } else if let Some(value) = rest.next() {
            spec.write(&mut out, value);
        }
    }
    out
}

#[derive(Default)]
struct Spec {
    zero: bool,
    width: usize,
    long: bool,
    wide: bool,
    letter: u8,
}

impl Spec {
    fn parse(bytes: &[u8], at: &mut usize) -> Self {
        let mut spec = Self::default();
        while let Some(byte) = bytes.get(*at).copied() {
            *at += 1;
            match byte {
                b'0' if spec.width == 0 => spec.zero = true,
                b'0'..=b'9' => spec.width = spec.width * 10 + usize::from(byte - b'0'),
                b'l' if bytes.get(*at) == Some(&b'l') => spec.long = true,
                b'I' if bytes.get(*at..*at + 2) == Some(b"64") => {
                    *at += 2;
                    spec.long = true;
                }
                b'z' => spec.long = true,
                b'w' => spec.wide = true,
                b'l' | b'h' | b'-' | b'+' | b'#' | b'.' | b' ' => {}
                letter => {
                    spec.letter = letter;
                    return spec;
                }
            }
        }
        spec
    }

    fn write(&self, out: &mut String, value: usize) {
        let unsigned = if self.long {
            value as u64
        } else {
            value as u64 & 0xFFFF_FFFF
        };
        let signed = if self.long {
            value as i64
        } else {
            i64::from(value as i32)
        };
        let text = match self.letter {
            b'd' | b'i' => signed.to_string(),
            b'u' => unsigned.to_string(),
            b'x' => format!("{unsigned:x}"),
            b'X' => format!("{unsigned:X}"),
            b'p' => format!("{value:016x}"),
            b'c' => char::from(value.to_le_bytes()[0]).to_string(),
            b'Z' if self.wide => unicode(value as *const UNICODE_STRING),
            b's' if self.wide => wide(value as *const u16),
            b'S' => wide(value as *const u16),
            b's' if value == 0 => "(null)".to_owned(),
            b's' => {
                // SAFETY: a driver passes a terminated string for %s.
                let text = unsafe { CStr::from_ptr(value as *const i8) };
                text.to_string_lossy().into_owned()
            }
            other => format!("%{}", char::from(other)),
        };
        let _ = if self.zero {
            write!(out, "{text:0>width$}", width = self.width)
        } else {
            write!(out, "{text:>width$}", width = self.width)
        };
    }
}

fn wide(text: *const u16) -> String {
    if text.is_null() {
        return "(null)".to_owned();
    }
    let mut chars = Vec::new();
    // SAFETY: a driver passes a terminated string for %ws.
    while let Some(c) = Some(unsafe { text.wrapping_add(chars.len()).read() }).filter(|c| *c != 0) {
        chars.push(c);
    }
    String::from_utf16_lossy(&chars)
}

fn print(text: *const i8, arguments: &[usize]) -> u32 {
    if text.is_null() {
        violate!(Rule::LabBadParameter, "DbgPrint: no format");
    }
    // SAFETY: not null; a terminated string by the function's contract.
    let text = unsafe { CStr::from_ptr(text) };
    let line = format(text, arguments);
    event_log(json!({ "event": "print", "driver": session::name(), "text": line.trim_end() }));
    0
}

/// MSDN: DbgPrint. A variadic function on Windows: on x64 its arguments lie
/// where those of an ordinary function do, so seven of them are taken.
///
/// # Safety
/// `text` is a terminated format string that fits the arguments.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn DbgPrint(
    text: *const i8,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
    g: usize,
) -> u32 {
    print(text, &[a, b, c, d, e, f, g])
}

/// MSDN: DbgPrintEx; see [`DbgPrint`].
///
/// # Safety
/// `text` is a terminated format string that fits the arguments.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn DbgPrintEx(
    _component: u32,
    _level: u32,
    text: *const i8,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
) -> u32 {
    print(text, &[a, b, c, d, e])
}

/// MSDN: KeBugCheckEx. The end.
#[unsafe(no_mangle)]
pub extern "system" fn KeBugCheckEx(code: u32, a: usize, b: usize, c: usize, d: usize) -> ! {
    violate!(
        Rule::LabBugCheck,
        "KeBugCheckEx({code:#x}, {a:#x}, {b:#x}, {c:#x}, {d:#x})"
    )
}
