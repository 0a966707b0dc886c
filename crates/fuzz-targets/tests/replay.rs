//! The committed corpora, and small inputs made here, through every target: what
//! a fuzzer found stays found.

use std::fs;
use std::path::{Path, PathBuf};

use weir_fuzz_targets::{TARGETS, Target};

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let names: Vec<_> = files(&corpora())
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    targets.sort();
    assert_eq!(names, targets);
}

#[test]
fn corpora_are_small() {
    let bytes: u64 = TARGETS
        .iter()
        .flat_map(|(name, _)| files(&corpora().join(name)))
        .map(|file| fs::metadata(file).unwrap().len())
        .sum();
    assert!(bytes <= 200 * 1024, "{bytes} bytes");
}

fn replay(name: &str, target: Target) {
    let files = files(&corpora().join(name));
    assert!(files.len() >= 10, "{name}: {} files", files.len());
    for file in files {
        // The name of what fails, should it fail.
        println!("{}", file.display());
        target(&fs::read(file).unwrap());
    }
}

#[test]
fn corpora_replay() {
    for (name, target) in TARGETS {
        replay(name, target);
    }
}

/// Each prefix of a corpus's file is an input too, and reaches where files that
/// a fuzzer minimised don't: ends in the middle.
#[test]
fn cut_corpora_replay() {
    for (name, target) in TARGETS {
        for file in files(&corpora().join(name)).iter().step_by(7) {
            let bytes = fs::read(file).unwrap();
            for end in (0..bytes.len()).step_by(11) {
                target(&bytes[..end]);
            }
        }
    }
}

#[test]
fn nothing_and_bytes_all_alike() {
    for (name, target) in TARGETS {
        target(&[]);
        for byte in [0u8, 1, 0x45, 0x7f, 0xff] {
            println!("{name}: {byte:#x}");
            target(&[byte; 300]);
        }
    }
}
