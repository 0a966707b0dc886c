//! Judges the engine's TCP analysis by `tshark`, over captures of one's own, or
//! writes down `tshark`'s answers.
//!
//! ```text
//! cargo run -p weir-tests --example tcp_truth -- judge FILE-OR-FOLDER…
//! cargo run -p weir-tests --example tcp_truth -- answers FILE-OR-FOLDER…
//! ```
//! `judge` ends with status 1 where any tag agrees on less than 99.5 % of the
//! TCP frames of a capture.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use weir_tests::truth::{Comparison, answer_file, by_engine, by_tshark, captures};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let mut files = Vec::new();
    for path in arguments.map(PathBuf::from) {
        if path.is_dir() {
            files.extend(captures(&path)?);
        } else {
            files.push(path);
        }
    }
    match verb.as_str() {
        "answers" => {
            for file in files {
                std::fs::write(answer_file(&file), by_tshark(&file)?.to_string())?;
            }
            Ok(ExitCode::SUCCESS)
        }
        "judge" => {
            let (mut total, mut bad) = (Comparison::default(), 0);
            for file in files {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                let (us, tshark) = (by_engine(&file)?, by_tshark(&file)?);
                total.add(&name, &us, &tshark);
                let mut one = Comparison::default();
                one.add(&name, &us, &tshark);
                let (tcp, least) = (one.tcp, one.least_agreement() * 100.0);
                let (differ, odd) = (one.frames.len(), one.odd_streams.len());
                println!(
                    "{name}: {tcp} TCP frames, {differ} differ, least {least:.3}%, {odd} odd flows"
                );
                bad += usize::from(least < 99.5);
            }
            println!("{total}");
            println!("{bad} captures below 99.5%");
            Ok(ExitCode::from(u8::from(bad > 0)))
        }
        _ => Err("tcp_truth judge|answers FILE-OR-FOLDER…".into()),
    }
}
