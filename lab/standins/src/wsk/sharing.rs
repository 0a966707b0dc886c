//! Who may bind where: the table of "Sharing Transport Addresses".
//!
//! The host decides too (another process may hold the port), but only this
//! table knows the two socket options as WSK means them, and which of the two
//! refusals a client must see. Where the documentation wants an access check
//! the answer is DENIED: the default security descriptor allows no sharing,
//! and this provider applies no other.

use super::addr::RawAddr;
use super::status;
use super::types::NtStatus;
use std::net::IpAddr;

/// What the two options say of a socket when it is bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sharing {
    /// Neither option is set.
    Default,
    /// SO_REUSEADDR.
    Reuse,
    /// SO_EXCLUSIVEADDRUSE.
    Exclusive,
}

/// One bound socket.
#[derive(Clone, Copy, Debug)]
struct Entry {
    socket: u64,
    protocol: u32,
    ip: IpAddr,
    port: u16,
    sharing: Sharing,
}

/// All sockets bound at the moment.
pub(crate) struct Table {
    entries: Vec<Entry>,
}

impl Table {
    pub(crate) const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// May a socket of `protocol` bind to `address`? A port of 0 always may.
    pub(crate) fn check(
        &self,
        protocol: u32,
        address: RawAddr,
        sharing: Sharing,
    ) -> Result<(), NtStatus> {
        let (ip, port) = (address.ip(), address.port());
        if port == 0 {
            return Ok(());
        }
        for first in &self.entries {
            if first.protocol != protocol
                || first.port != port
                || first.ip.is_ipv4() != ip.is_ipv4()
            {
                continue;
            }
            let (first_any, second_any) = (first.ip.is_unspecified(), ip.is_unspecified());
            if !first_any && !second_any && first.ip != ip {
                continue;
            }
            match verdict(first.sharing, first_any, sharing, second_any) {
                Verdict::Success => {}
                Verdict::InUse => return Err(status::ADDRESS_ALREADY_EXISTS),
                Verdict::Denied => return Err(status::ACCESS_DENIED),
            }
        }
        Ok(())
    }

    /// Enters a socket that was bound.
    pub(crate) fn insert(
        &mut self,
        socket: u64,
        protocol: u32,
        address: RawAddr,
        sharing: Sharing,
    ) {
        self.entries.push(Entry {
            socket,
            protocol,
            ip: address.ip(),
            port: address.port(),
            sharing,
        });
    }

    /// Takes out a socket that was closed.
    pub(crate) fn remove(&mut self, socket: u64) {
        self.entries.retain(|entry| entry.socket != socket);
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Verdict {
    Success,
    InUse,
    Denied,
}

/// The documentation's table, cell by cell; CHECK is DENIED, see above.
fn verdict(first: Sharing, first_any: bool, second: Sharing, second_any: bool) -> Verdict {
    use Sharing::{Default, Exclusive, Reuse};
    use Verdict::{Denied, InUse, Success};
    match (second, second_any) {
        (Default, true) => match first_any {
            true => InUse,
            false => Success,
        },
        (Default, false) => match (first, first_any) {
            (Default | Reuse, true) => Denied,
            (Default, false) => InUse,
            (Reuse, false) => Denied,
            (Exclusive, true) => Denied,
            (Exclusive, false) => InUse,
        },
        (Reuse, true) => match (first, first_any) {
            (Default | Exclusive, true) => Denied,
            (Reuse, _) | (Default | Exclusive, false) => Success,
        },
        (Reuse, false) => match first {
            Reuse => Success,
            Default | Exclusive => Denied,
        },
        (Exclusive, true) => InUse,
        (Exclusive, false) => match first_any {
            true => Denied,
            false => InUse,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Sharing Transport Addresses": a row for each second bind, its columns
    /// the first binds; default, SO_REUSEADDR and SO_EXCLUSIVEADDRUSE, each
    /// wildcard before specific. I = INUSE, S = SUCCESS, D = DENIED, C = CHECK.
    const DOCUMENTED: [&str; 6] = ["ISISIS", "CICDDI", "DSSSDS", "CDSSDD", "IIIIII", "CICIDI"];
    const BINDS: [(Sharing, bool); 6] = [
        (Sharing::Default, true),
        (Sharing::Default, false),
        (Sharing::Reuse, true),
        (Sharing::Reuse, false),
        (Sharing::Exclusive, true),
        (Sharing::Exclusive, false),
    ];

    #[test]
    fn every_cell_is_as_documented() {
        for (row, (second, second_any)) in DOCUMENTED.iter().zip(BINDS) {
            for (cell, (first, first_any)) in row.chars().zip(BINDS) {
                let wanted = match cell {
                    'S' => Verdict::Success,
                    'I' => Verdict::InUse,
                    _ => Verdict::Denied,
                };
                let got = verdict(first, first_any, second, second_any);
                assert_eq!(
                    got, wanted,
                    "{second:?} {second_any} after {first:?} {first_any}"
                );
            }
        }
    }
}
