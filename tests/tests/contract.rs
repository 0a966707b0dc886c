//! The contract doesn't change without its version.
//!
//! `golden/contract.vN` holds everything of contract version N that the other
//! side relies on. To change the contract: raise `weir_abi::ABI_VERSION`, run
//! this test once with `WEIR_NEW_CONTRACT=1` (it writes the file of the new
//! version, and never over an old one), and add golden bytes for what changed.

use std::fmt::Write as _;
use std::path::Path;

use weir_abi::{ABI_VERSION, Ioctl, meaning, message, status};

/// The contract as text, one line for each thing that can change.
fn contract() -> String {
    let mut text = format!("contract {ABI_VERSION}\n");
    let mut line = |s: std::fmt::Arguments<'_>| writeln!(text, "{s}").expect("a string");
    line(format_args!(
        "device {} {}",
        weir_abi::DEVICE_NAME,
        weir_abi::WIN32_PATH
    ));
    for ioctl in Ioctl::ALL {
        line(format_args!(
            "ioctl {} {:#010x}",
            ioctl.name(),
            ioctl.code()
        ));
    }
    for m in message::MESSAGES {
        line(format_args!(
            "message {} size {} align {}",
            m.name, m.size, m.align
        ));
        for f in m.fields {
            line(format_args!(
                "  {:3} +{:<3} {}: {}",
                f.offset, f.size, f.name, f.ty
            ));
        }
    }
    for e in meaning::ENUMS {
        line(format_args!("enum {}", e.name));
        for (name, value) in e.values {
            line(format_args!("  {value} {name}"));
        }
    }
    for (name, bits) in meaning::BIT_SETS {
        line(format_args!("bits {name}"));
        for (flag, value) in *bits {
            line(format_args!("  {value:#x} {flag}"));
        }
    }
    for info in status::TABLE {
        line(format_args!("status {:#010x} {}", info.code, info.name));
    }
    for (name, value) in weir_abi::limits::ALL {
        line(format_args!("limit {name} {value}"));
    }
    text
}

#[test]
fn the_contract_changes_only_with_its_version() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(format!("contract.v{ABI_VERSION}"));
    let now = contract();
    if !file.exists() && std::env::var_os("WEIR_NEW_CONTRACT").is_some() {
        std::fs::write(&file, &now).expect("write the contract of the new version");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_else(|e| {
        panic!(
            "{}: {e}\ncontract version {ABI_VERSION} is new: run this test with \
             WEIR_NEW_CONTRACT=1 to write its file, then commit it",
            file.display()
        )
    });
    let changed: Vec<String> = difference(&kept, &now);
    assert!(
        changed.is_empty(),
        "the contract changed but ABI_VERSION is still {ABI_VERSION}:\n{}\n\
         Either undo the change, or raise weir_abi::ABI_VERSION and run this test with \
         WEIR_NEW_CONTRACT=1 to write the file of the new version. Don't edit {}.",
        changed.join("\n"),
        file.display()
    );
}

/// Lines of one text that the other hasn't at the same place, with the line of
/// the message they belong to.
fn difference(kept: &str, now: &str) -> Vec<String> {
    let with_owner = |text: &str| -> Vec<(String, String)> {
        let mut owner = String::new();
        text.lines()
            .map(|l| {
                if !l.starts_with(' ') {
                    owner = l.to_owned();
                }
                (owner.clone(), l.to_owned())
            })
            .collect()
    };
    let (kept, now) = (with_owner(kept), with_owner(now));
    let only = |sign: char, a: &[(String, String)], b: &[(String, String)]| -> Vec<String> {
        a.iter()
            .filter(|l| !b.contains(l))
            .map(|(owner, l)| format!("{sign} {l}    [{owner}]"))
            .collect()
    };
    let mut changed = only('-', &kept, &now);
    changed.extend(only('+', &now, &kept));
    if changed.is_empty() && kept != now {
        changed.push("the order of the lines".to_owned());
    }
    changed
}

#[test]
fn the_comparison_sees_changes() {
    let now = contract();
    for (from, to) in [
        ("  4 +4   size: u32", "  4 +4   length: u32"),
        (
            "message VersionReply size 24",
            "message VersionReply size 32",
        ),
        (
            "ioctl SERVICE_STOP 0x0012e020",
            "ioctl SERVICE_STOP 0x0012e024",
        ),
        ("  2 Udp", "  3 Udp"),
        ("+16  addr: [u8; 16]", "+16  addr: [u16; 8]"),
    ] {
        assert!(now.contains(from), "{from}");
        let changed = difference(&now, &now.replacen(from, to, 1));
        assert!(
            changed.iter().any(|l| l.starts_with("- ")),
            "{from}: {changed:?}"
        );
        assert!(
            changed.iter().any(|l| l.starts_with("+ ")),
            "{from}: {changed:?}"
        );
    }
    assert!(difference(&now, &now).is_empty());
}

#[test]
fn every_message_is_in_the_table() {
    let known: Vec<&str> = message::MESSAGES.iter().map(|m| m.name).collect();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/abi/src");
    let mut declared = 0;
    for folder in [src.clone(), src.join("message")] {
        for entry in std::fs::read_dir(folder).expect("the crate's sources") {
            let path = entry.expect("an entry").path();
            let Ok(text) = std::fs::read_to_string(&path) else {
                continue;
            };
            for line in text.lines() {
                // `pub struct Name [size] {` is how the message! macro is used.
                let Some((name, size)) = line
                    .trim_start()
                    .strip_prefix("pub struct ")
                    .and_then(|rest| rest.split_once(" ["))
                else {
                    continue;
                };
                if size.starts_with(|c: char| c.is_ascii_digit()) {
                    declared += 1;
                    assert!(known.contains(&name), "{name} is not in message::MESSAGES");
                }
            }
        }
    }
    assert_eq!(declared, known.len());
}
