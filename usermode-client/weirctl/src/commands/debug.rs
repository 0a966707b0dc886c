//! `weirctl debug`: requests as raw bytes, answered with the bare NTSTATUS.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use weir_abi::{
    CaptureOptions, CaptureSource, Directions, Ioctl, OpenCaptureRequest, limits, status,
};
use weir_client::channel::Channel;
use weir_client::{Device, Failure, NtStatus};

use crate::cli::DebugCommand;
use crate::error::CtlError;
use crate::output::{Output, View};

#[derive(Serialize)]
struct Answer {
    /// By name, or its number where the contract has none.
    status: String,
    ntstatus: String,
    meaning: Option<&'static str>,
    win32: u32,
    length: usize,
    /// The reply or the bytes read, in hex.
    output: String,
}

impl View for Answer {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{} {} ({} bytes)",
            self.ntstatus, self.status, self.length
        )?;
        if let Some(meaning) = self.meaning {
            writeln!(out, "{meaning}")?;
        }
        if !self.output.is_empty() {
            writeln!(out, "{}", self.output)?;
        }
        Ok(())
    }
}

impl Answer {
    fn new(result: Result<&[u8], Failure>) -> Answer {
        let (status, win32, bytes) = match result {
            Ok(bytes) => (NtStatus(status::SUCCESS), 0, bytes),
            Err(failure) => (failure.status, failure.win32, &[][..]),
        };
        let ntstatus = format!("{:#010x}", status.0);
        Answer {
            status: status
                .name()
                .map_or_else(|| ntstatus.clone(), str::to_owned),
            ntstatus,
            meaning: status.info().map(|info| info.meaning),
            win32,
            length: bytes.len(),
            output: bytes.iter().map(|b| format!("{b:02x}")).collect(),
        }
    }
}

/// The bytes of a string of hex digits; spaces don't count.
fn unhex(text: &str) -> Result<Vec<u8>, CtlError> {
    let bad = || CtlError::Hex(text.to_owned());
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => {
                let (high, low) = (high.to_digit(16), low.to_digit(16));
                let value = high.zip(low).ok_or_else(bad)?;
                u8::try_from(value.0 << 4 | value.1).map_err(|_| bad())
            }
            _ => Err(bad()),
        })
        .collect()
}

fn give_capture_role(channel: &dyn Channel) -> Result<(), Failure> {
    let options = CaptureOptions {
        adapter: None,
        snaplen: limits::MAX_SNAPLEN,
        backlog: limits::MIN_BACKLOG,
        flush_ms: 0,
        directions: Directions::all(),
        source: CaptureSource::All,
    };
    let request = OpenCaptureRequest::from(&options);
    let bytes = zerocopy::IntoBytes::as_bytes(&request);
    channel.control(Ioctl::OpenCapture.code(), bytes, 4096)?;
    Ok(())
}

/// Sends a request as it was given. Ends with exit code 1 unless the status is
/// a success.
pub(crate) fn run(
    device: &Device,
    command: &DebugCommand,
    out: &mut Output<'_>,
) -> Result<(), CtlError> {
    let channel = device.channel();
    let (operation, result) = match command {
        DebugCommand::Ioctl {
            code,
            input,
            out_len,
            capture,
        } => {
            let input = unhex(input)?;
            let ready = if *capture {
                give_capture_role(channel)
            } else {
                Ok(())
            };
            let result = ready.and_then(|()| channel.control(*code, &input, *out_len));
            ("the IOCTL", result)
        }
        DebugCommand::Read {
            len,
            capture,
            timeout_ms,
        } => {
            let ready = if *capture {
                give_capture_role(channel)
            } else {
                Ok(())
            };
            let limit = Duration::from_millis(*timeout_ms);
            ("the read", ready.and_then(|()| read(channel, *len, limit)))
        }
    };
    out.show(&Answer::new(result.as_deref().map_err(|e| *e)))?;
    match result {
        Ok(_) => Ok(()),
        Err(failure) => Err(CtlError::Status {
            operation,
            status: failure.status,
        }),
    }
}

fn read(channel: &dyn Channel, len: usize, limit: Duration) -> Result<Vec<u8>, Failure> {
    let mut pending = channel.read(vec![0; len])?;
    let completion = pending.wait(Some(limit)).or_else(|| {
        channel.cancel();
        pending.wait(None)
    });
    let Some(completion) = completion else {
        unreachable!("a wait without a limit gives the completion");
    };
    let mut bytes = completion.buffer;
    bytes.truncate(completion.result?);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read() {
        assert_eq!(unhex("01 fF\n00").expect("hex"), [1, 255, 0]);
        assert!(unhex("").expect("hex").is_empty());
        assert!(unhex("012").is_err());
        assert!(unhex("zz").is_err());
    }
}
