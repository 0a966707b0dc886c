//! What `tshark` says.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use weir_engine::flow::TcpTags;

use super::{Answer, Stream};

/// The fields asked for before the tags.
const FIELDS: [&str; 10] = [
    "frame.number",
    "frame.len",
    "tcp.stream",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.analysis.initial_rtt",
];

/// `tshark`'s version, as "4.0.17".
///
/// # Errors
/// There is none, or it doesn't say.
pub fn version() -> io::Result<String> {
    let output = Command::new("tshark").arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .map(|word| word.trim_end_matches('.').to_owned())
        .ok_or_else(|| io::Error::other(format!("tshark --version says: {text}")))
}

/// What `tshark` says of a capture, with nobody's preferences.
///
/// Frames whose TCP header is quoted by an ICMP error are not asked for: they
/// are no segments. Nor are those cut in the header before its window, which
/// have no connection.
///
/// # Errors
/// It didn't run, or says what no one understands.
pub fn by_tshark(capture: &Path) -> io::Result<Answer> {
    let no_preferences = tempfile::tempdir()?;
    let mut command = Command::new("tshark");
    command
        .env("WIRESHARK_CONFIG_DIR", no_preferences.path())
        .args(["-n", "-Y", "tcp && !icmp && !icmpv6"])
        .args(["-T", "fields", "-E", "separator=/t", "-E", "occurrence=f"])
        .arg("-r")
        .arg(capture);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    for tag in TcpTags::all().iter() {
        for name in tag.names() {
            command.args(["-e", &format!("tcp.analysis.{name}")]);
        }
    }
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!(
            "tshark of {}: {}: {said}",
            capture.display(),
            output.status
        )));
    }
    let mut answer = Answer {
        by: format!("tshark {}", version()?),
        ..Answer::default()
    };
    let mut streams: BTreeMap<u64, Stream> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        row(line, &mut answer, &mut streams)
            .ok_or_else(|| io::Error::other(format!("tshark says: {line}")))?;
    }
    answer.streams = streams.into_values().collect();
    Ok(answer)
}

/// One frame.
fn row(line: &str, answer: &mut Answer, streams: &mut BTreeMap<u64, Stream>) -> Option<()> {
    let values: Vec<_> = line.split('\t').collect();
    let (about, said) = values.split_at_checked(FIELDS.len())?;
    let &[
        number,
        bytes,
        stream,
        src,
        dst,
        src6,
        dst6,
        sport,
        dport,
        rtt,
    ] = about
    else {
        return None;
    };
    let address = |v4: &str, v6: &str| -> Option<IpAddr> {
        (if v4.is_empty() { v6 } else { v4 }).parse().ok()
    };
    if stream.is_empty() {
        return Some(());
    }
    answer.tcp += 1;
    let from = (address(src, src6)?, sport.parse().ok()?);
    let to = (address(dst, dst6)?, dport.parse().ok()?);
    let stream = streams
        .entry(stream.parse().ok()?)
        .or_insert_with(|| Stream::between(from, to));
    stream.count(from, bytes.parse().ok()?);
    if !rtt.is_empty() {
        stream.initial_rtt_ns = nanoseconds(rtt)?;
    }
    let tags: TcpTags = TcpTags::all()
        .iter()
        .zip(said)
        .filter_map(|(tag, said)| (!said.is_empty()).then_some(tag))
        .collect();
    if !tags.is_empty() {
        answer.tags.insert(number.parse().ok()?, tags);
    }
    Some(())
}

/// "0.012345678" seconds.
fn nanoseconds(seconds: &str) -> Option<u64> {
    let (whole, fraction) = seconds.split_once('.')?;
    let fraction: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    Some(whole.parse::<u64>().ok()? * 1_000_000_000 + fraction.parse::<u64>().ok()?)
}
