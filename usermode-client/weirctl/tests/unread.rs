//! Output that nobody reads to its end, as with `weirctl … | head`: the program
//! ends, without a word and without failing.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/captures")
}

/// Runs weirctl, reads so many lines, and closes the pipe.
#[track_caller]
fn head(lines: usize, arguments: &[&str]) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    // To read nothing is to have gone before anything was written.
    let mut reader = (lines > 0).then(|| BufReader::new(reader));
    let mut command = Command::new(env!("CARGO_BIN_EXE_weirctl"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("weirctl starts");
    // Its own end of the pipe goes too.
    drop(command);
    for _ in 0..lines {
        let mut line = String::new();
        let reader = reader.as_mut().expect("lines are to be read");
        reader.read_line(&mut line).expect("a line");
        assert!(line.ends_with('\n'), "{arguments:?}: {line:?}");
    }
    drop(reader);
    let mut errors = String::new();
    let stderr = child.stderr.as_mut().expect("a pipe");
    stderr.read_to_string(&mut errors).expect("UTF-8");
    let status = child.wait().expect("it ends");
    assert_eq!(errors, "", "{arguments:?}");
    assert!(status.success(), "{arguments:?}: {status}");
}

#[test]
fn nobody_reads_to_the_end() {
    let capture = captures().join("mixed.pcap");
    let capture = capture.to_str().expect("a path of letters");
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("r.rules");
    let many: String = (0..3000)
        .map(|n| format!("rule r{n} drop any tcp port {}\n", n + 1))
        .collect();
    std::fs::write(&rules, many).expect("written");
    let rules = rules.to_str().expect("a path of letters");
    for lines in [0, 2] {
        head(lines, &["inspect", "--packets", capture]);
        head(lines, &["inspect", "--packets", "--json", capture]);
        head(lines, &["inspect", capture]);
        head(lines, &["match", "ip", capture]);
        head(lines, &["rules", "explain", rules]);
    }
    for arguments in [
        &["inspect", "--json", capture][..],
        &["match", "--count", "ip", capture],
        &["rules", "check", rules],
        &["rules", "explain", "--json", rules],
        &["--help"],
        &["--version"],
    ] {
        head(0, arguments);
    }
}

/// An error is one all the same, and its object is missed by nobody.
#[test]
fn errors_are_told_where_somebody_listens() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let out = Command::new(env!("CARGO_BIN_EXE_weirctl"))
        .args(["inspect", "--json", "no such file"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("weirctl runs");
    assert_eq!(out.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(errors.contains("no such file"), "{errors}");
    assert!(!errors.contains("writing the error"), "{errors}");

    // Nor is a closed standard error a reason to panic.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_weirctl"))
        .args(["-vv", "inspect", "no such file"])
        .stdout(Stdio::null())
        .stderr(writer)
        .status()
        .expect("weirctl runs");
    assert_eq!(status.code(), Some(1));
}
