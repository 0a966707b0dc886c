//! What ends a server before it is told to stop.

use std::io;
use std::net::SocketAddr;

use crate::Model;

/// Why a server did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This is not Windows.
    #[error(
        "the model {model} is Windows' own: run weirctl.exe serve --model {model} there, or under Wine"
    )]
    NotWindows {
        /// The model asked for.
        model: Model,
    },
    /// The address can't be listened on.
    #[error("listening on {address} failed: {source}{}", advice(.source))]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A bound was out of range.
    #[error("{what} is {value}; it is to be {least} to {most}")]
    Bound {
        /// Which one.
        what: &'static str,
        /// What it was.
        value: usize,
        /// The smallest it may be.
        least: usize,
        /// The largest it may be.
        most: usize,
    },
    /// A call failed which does not fail unless the system is out of something.
    #[error("{call} failed: {source}")]
    System {
        /// The function.
        call: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// What to do about it, where that is known.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has this port, port 0 lets the system choose"
        }
        io::ErrorKind::AddrNotAvailable => "; the address is to be one of this host, or 0.0.0.0",
        io::ErrorKind::PermissionDenied => "; another program may hold the port for itself",
        _ => "",
    }
}

/// Names the call that failed.
#[cfg(windows)]
pub(crate) trait Failed<T> {
    /// The error as one of `call`.
    fn failed(self, call: &'static str) -> Result<T, Error>;
}

#[cfg(windows)]
impl<T> Failed<T> for io::Result<T> {
    fn failed(self, call: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::System { call, source })
    }
}
