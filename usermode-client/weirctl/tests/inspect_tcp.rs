//! `weirctl inspect --packets --json` against `tshark`'s committed answers: what
//! the engine says of a segment arrives in the lines as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// The tagged frames of an answer: lines that begin with a number.
fn answer(file: &Path) -> BTreeMap<u64, BTreeSet<String>> {
    let text = std::fs::read_to_string(file).expect("an answer");
    let frames = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let number = words.next()?.parse().ok()?;
        Some((number, words.map(str::to_owned).collect()))
    });
    frames.collect()
}

#[test]
fn lines_say_of_each_segment_what_tshark_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/captures/lossy");
    for name in [
        "heavy-a",
        "jitter-a",
        "keep-alive-b",
        "zero-window-a",
        "ports-reused-a",
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_weirctl"))
            .args(["inspect", "--packets", "--json"])
            .arg(folder.join(format!("{name}.pcap.gz")))
            .output()
            .expect("weirctl starts");
        assert!(out.status.success(), "{name}: {out:?}");
        let wanted = answer(&folder.join(format!("{name}.tshark")));
        let mut said = BTreeMap::new();
        for (line, number) in String::from_utf8_lossy(&out.stdout).lines().zip(1u64..) {
            let line: serde_json::Value = serde_json::from_str(line).expect("a JSON object");
            assert_eq!(line["frame"], number, "{name}");
            let tags: BTreeSet<_> = line["tcp"]
                .as_array()
                .expect("a list")
                .iter()
                .filter_map(|tag| tag.as_str().map(str::to_owned))
                .collect();
            if !tags.is_empty() {
                said.insert(number, tags);
            }
        }
        assert!(!wanted.is_empty(), "{name}");
        assert_eq!(said, wanted, "{name}");
    }
}
