//! A stream that one thread reads while another writes.

use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use weir_client::Error;
use weir_client::net::TcpStream;

/// How long a write waits before it asks whether to go on.
const TICK: Duration = Duration::from_millis(200);

/// Whether a wait on this side is over, and the connection as it was. A connection
/// that was lost because the peer answered nothing any more is of the same kind.
pub(crate) fn is_late(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    matches!(inner, Some(Error::TimedOut { .. }))
}

/// Bytes both ways. One thread receives, one sends.
pub(crate) trait Duplex: Sync {
    /// Receives; 0 is the end of what the peer sends.
    fn receive(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Sends all of `bytes`, unless `go_on` says no in between.
    fn send(&self, bytes: &[u8], go_on: &dyn Fn() -> bool) -> io::Result<()>;

    /// Tells the peer that nothing more will be sent (half close).
    fn finish(&self, go_on: &dyn Fn() -> bool) -> io::Result<()>;

    /// The stream below.
    fn tcp(&self) -> &TcpStream;
}

/// Writes all of it; a write that is given up has taken nothing, so it may be
/// asked in between whether to go on.
pub(super) fn write_all(
    stream: &TcpStream,
    mut bytes: &[u8],
    go_on: &dyn Fn() -> bool,
) -> io::Result<()> {
    stream.set_write_timeout(Some(TICK));
    while !bytes.is_empty() {
        match (&mut &*stream).write(bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(e) if is_late(&e) && go_on() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Ends the sending direction when all is sent.
pub(super) fn shutdown(stream: &TcpStream, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    stream.set_write_timeout(Some(TICK));
    loop {
        match stream.shutdown().map_err(io::Error::from) {
            Err(e) if is_late(&e) && go_on() => {}
            other => return other,
        }
    }
}

/// Waits until all that was written is with the transport.
pub(super) fn flush(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    let until = Instant::now() + timeout;
    stream.set_write_timeout(Some(TICK));
    loop {
        match (&mut &*stream).flush() {
            Err(e) if is_late(&e) && Instant::now() < until => {}
            other => return other,
        }
    }
}

/// A stream as it is.
pub(crate) struct Plain(pub(crate) TcpStream);

impl Duplex for Plain {
    fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buf)
    }

    fn send(&self, bytes: &[u8], go_on: &dyn Fn() -> bool) -> io::Result<()> {
        write_all(&self.0, bytes, go_on)
    }

    fn finish(&self, go_on: &dyn Fn() -> bool) -> io::Result<()> {
        shutdown(&self.0, go_on)
    }

    fn tcp(&self) -> &TcpStream {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use weir_client::{Doing, ErrorKind, Failure, NtStatus};

    use super::*;

    #[test]
    fn a_connection_that_is_lost_is_not_waited_for_again() {
        let doing = Doing::Sending;
        let lost = Error::Socket {
            doing: doing.clone(),
            failure: Failure {
                status: NtStatus(weir_client::abi::status::IO_TIMEOUT),
                win32: 0,
            },
        };
        let after = Duration::from_secs(1);
        let late = Error::TimedOut { doing, after };
        assert_eq!(
            (lost.kind(), late.kind()),
            (ErrorKind::TimedOut, ErrorKind::TimedOut)
        );
        assert!(!is_late(&lost.into()));
        assert!(is_late(&late.into()));
        assert!(!is_late(&io::ErrorKind::TimedOut.into()));
    }
}
