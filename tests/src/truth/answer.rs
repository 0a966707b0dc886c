//! What one observer says of a capture, and how that is written down.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use weir_engine::flow::TcpTags;

/// What one observer says of a capture.
///
/// As text: a line `by` with who says it, a line `tcp` with how many TCP frames
/// there are, a line `stream` for each connection, and a line for each tagged
/// frame with its number and its tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Who says it.
    pub by: String,
    /// How many TCP frames there are.
    pub tcp: u64,
    /// The tags of the frames that have any, by number, from 1.
    pub tags: BTreeMap<u32, TcpTags>,
    /// The connections, in no order that matters.
    pub streams: Vec<Stream>,
}

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream {
    /// The two ends, the smaller one first.
    pub ends: [(IpAddr, u16); 2],
    /// Frames each end sent.
    pub packets: [u64; 2],
    /// Bytes of these frames, without FCS.
    pub bytes: [u64; 2],
    /// From SYN to the handshake's ACK, in nanoseconds; 0: not measured.
    pub initial_rtt_ns: u64,
}

impl Stream {
    /// A connection between two ends, given in any order, of no frames yet.
    #[must_use]
    pub fn between(a: (IpAddr, u16), b: (IpAddr, u16)) -> Self {
        Self {
            ends: [a.min(b), a.max(b)],
            packets: [0; 2],
            bytes: [0; 2],
            initial_rtt_ns: 0,
        }
    }

    /// Counts a frame that `from` sent.
    pub fn count(&mut self, from: (IpAddr, u16), bytes: u64) {
        let side = usize::from(self.ends[0] != from);
        self.packets[side] += 1;
        self.bytes[side] += bytes;
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "by {}", self.by)?;
        writeln!(f, "tcp {}", self.tcp)?;
        for s in &self.streams {
            let [(a, a_port), (b, b_port)] = s.ends;
            let ([ap, bp], [ab, bb]) = (s.packets, s.bytes);
            let rtt = s.initial_rtt_ns;
            writeln!(
                f,
                "stream {a} {a_port} {b} {b_port} {ap} {bp} {ab} {bb} {rtt}"
            )?;
        }
        for (number, tags) in &self.tags {
            let names: Vec<_> = tags.names().collect();
            writeln!(f, "{number} {}", names.join(" "))?;
        }
        Ok(())
    }
}

impl FromStr for Answer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut answer = Self::default();
        for line in text.lines() {
            let wrong = || format!("not a line of an answer: {line}");
            let (word, rest) = line.split_once(' ').ok_or_else(wrong)?;
            match word {
                "by" => rest.clone_into(&mut answer.by),
                "tcp" => answer.tcp = rest.parse().map_err(|_| wrong())?,
                "stream" => answer.streams.push(stream(rest).ok_or_else(wrong)?),
                number => {
                    let mut tags = TcpTags::empty();
                    for name in rest.split(' ') {
                        tags |= TcpTags::named(name).ok_or_else(wrong)?;
                    }
                    let number = number.parse().map_err(|_| wrong())?;
                    answer.tags.insert(number, tags);
                }
            }
        }
        Ok(answer)
    }
}

fn stream(text: &str) -> Option<Stream> {
    let words: Vec<_> = text.split(' ').collect();
    let [a, a_port, b, b_port, numbers @ ..] = words.as_slice() else {
        return None;
    };
    let numbers: Vec<u64> = numbers.iter().filter_map(|n| n.parse().ok()).collect();
    let &[ap, bp, ab, bb, initial_rtt_ns] = numbers.as_slice() else {
        return None;
    };
    Some(Stream {
        ends: [
            (a.parse().ok()?, a_port.parse().ok()?),
            (b.parse().ok()?, b_port.parse().ok()?),
        ],
        packets: [ap, bp],
        bytes: [ab, bb],
        initial_rtt_ns,
    })
}
