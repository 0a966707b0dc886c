//! Which process owns a flow: the system's socket tables, and the join.
//!
//! The tables (MSDN "GetExtendedTcpTable", "GetExtendedUdpTable") show the
//! sockets there are *now*; a flow is what was on the wire up to its last frame.
//! A join of the two can be wrong: a port can have a new owner, several sockets
//! can share a UDP port, a socket can be gone. [`SocketTable::owner`] says how
//! sure it is, and why it is not.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::Error;

/// The system names no process: MSDN has 0 for a connection in TIME_WAIT.
const NO_PROCESS: &str = "there is a socket, but the system names no process for it";

/// The transport of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SocketKind {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A socket, as the system's tables show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its transport.
    pub kind: SocketKind,
    /// Where it is bound.
    pub local: SocketAddr,
    /// The peer of a TCP connection; none of a listener or a UDP socket.
    pub remote: Option<SocketAddr>,
    /// The process that owns it; 0 where the system names none (a connection in
    /// TIME_WAIT, for one).
    pub pid: u32,
    /// When it was made: 100 ns since 1601-01-01 UTC, where the system says so.
    pub created_100ns: Option<u64>,
}

/// How sure an [`Owner`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// A socket of exactly this four-tuple (TCP), or the only one that can have
    /// it (UDP), older than the flow's last frame.
    Certain,
    /// The socket is one that could have it, and there is no better one.
    Likely(&'static str),
    /// Nobody, or several.
    Unknown(&'static str),
}

impl Certainty {
    /// One word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Certainty::Certain => "certain",
            Certainty::Likely(_) => "likely",
            Certainty::Unknown(_) => "unknown",
        }
    }

    /// What keeps it from being certain.
    #[must_use]
    pub const fn why(self) -> Option<&'static str> {
        match self {
            Certainty::Certain => None,
            Certainty::Likely(why) | Certainty::Unknown(why) => Some(why),
        }
    }
}

/// The owner of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its process; none if unknown.
    pub pid: Option<u32>,
    /// The end of the flow that is this machine's, where a socket shows it.
    pub local: Option<SocketAddr>,
    /// How sure that is.
    pub certainty: Certainty,
}

impl Owner {
    const fn unknown(why: &'static str) -> Owner {
        Owner {
            pid: None,
            local: None,
            certainty: Certainty::Unknown(why),
        }
    }
}

/// The sockets of the system at one moment.
#[derive(Clone, Debug, Default)]
pub struct SocketTable {
    by_port: HashMap<(SocketKind, u16), Vec<Socket>>,
}

impl SocketTable {
    /// The sockets there are now.
    ///
    /// # Errors
    /// [`Error::Unsupported`] elsewhere than on Windows; [`Error::System`] when
    /// a table can't be read.
    pub fn read() -> Result<SocketTable, Error> {
        Ok(SocketTable::new(read_sockets()?))
    }

    /// A table of these sockets.
    #[must_use]
    pub fn new(sockets: Vec<Socket>) -> SocketTable {
        let mut by_port: HashMap<_, Vec<Socket>> = HashMap::new();
        for socket in sockets {
            let key = (socket.kind, socket.local.port());
            by_port.entry(key).or_default().push(socket);
        }
        SocketTable { by_port }
    }

    /// The owner of the flow between `ends`, which was seen last at
    /// `last_100ns`.
    #[must_use]
    pub fn owner(&self, kind: SocketKind, ends: [SocketAddr; 2], last_100ns: u64) -> Owner {
        let [a, b] = ends.map(unmapped);
        match kind {
            SocketKind::Tcp => self.tcp(a, b, last_100ns),
            SocketKind::Udp => self.udp(a, b, last_100ns),
        }
    }

    fn at(&self, kind: SocketKind, port: u16) -> &[Socket] {
        self.by_port.get(&(kind, port)).map_or(&[], Vec::as_slice)
    }

    fn tcp(&self, a: SocketAddr, b: SocketAddr, last: u64) -> Owner {
        for (local, remote) in [(a, b), (b, a)] {
            let connection = self
                .at(SocketKind::Tcp, local.port())
                .iter()
                .find(|s| same(s.local, local) && s.remote.is_some_and(|r| same(r, remote)));
            let Some(socket) = connection else { continue };
            if socket.pid == 0 {
                return Owner::unknown(NO_PROCESS);
            }
            let certainty = if is_newer(socket, last) {
                Certainty::Likely("the socket is newer than the flow: its ports may be used again")
            } else {
                Certainty::Certain
            };
            return owned(socket, local, certainty);
        }
        let listener = [a, b].into_iter().find_map(|local| {
            let mut listeners = self
                .at(SocketKind::Tcp, local.port())
                .iter()
                .filter(|s| s.remote.is_none() && covers(s.local, local));
            let one = listeners.next()?;
            // Two listeners of one port: an exact address wins over a wildcard.
            let best = listeners.fold(one, |best, s| {
                if best.local.ip().is_unspecified() {
                    s
                } else {
                    best
                }
            });
            Some((best, local))
        });
        match listener {
            Some((socket, _)) if socket.pid == 0 => Owner::unknown(NO_PROCESS),
            Some((socket, local)) => owned(
                socket,
                local,
                Certainty::Likely("no such connection now: the process listens on its port"),
            ),
            None => Owner::unknown("no socket has these addresses and ports now"),
        }
    }

    fn udp(&self, a: SocketAddr, b: SocketAddr, last: u64) -> Owner {
        let on = |local: SocketAddr| -> Vec<&Socket> {
            let all = self.at(SocketKind::Udp, local.port()).iter();
            let fit: Vec<&Socket> = all.filter(|s| covers(s.local, local)).collect();
            let exact: Vec<&Socket> = fit
                .iter()
                .copied()
                .filter(|s| same(s.local, local))
                .collect();
            if exact.is_empty() { fit } else { exact }
        };
        let (found, local) = match (on(a), on(b)) {
            (first, second) if first.is_empty() => (second, b),
            (first, second) if second.is_empty() => (first, a),
            // Both ends are sockets here (loopback), or a wildcard fits the
            // peer's port as well: an exact address tells them apart.
            (first, second) => match (is_exact(&first, a), is_exact(&second, b)) {
                (false, true) => (second, b),
                _ => (first, a),
            },
        };
        let Some((one, rest)) = found.split_first() else {
            return Owner::unknown("no socket has either port now");
        };
        if rest.iter().any(|s| s.pid != one.pid) {
            return Owner::unknown("several processes share the port");
        }
        if one.pid == 0 {
            return Owner::unknown(NO_PROCESS);
        }
        if is_newer(one, last) {
            let why = "the socket is newer than the flow: its port may be used again";
            return owned(one, local, Certainty::Likely(why));
        }
        let certainty = if same(one.local, local) {
            Certainty::Certain
        } else if local.ip().is_multicast() || is_broadcast(local.ip()) {
            Certainty::Likely("sent to a group: others may have it too")
        } else {
            // A wildcard socket has each address of this machine, but whether
            // `local` is one of them the table doesn't say.
            Certainty::Likely("the socket is bound to any address")
        };
        owned(one, local, certainty)
    }
}

fn owned(socket: &Socket, local: SocketAddr, certainty: Certainty) -> Owner {
    Owner {
        pid: Some(socket.pid),
        local: Some(local),
        certainty,
    }
}

fn is_newer(socket: &Socket, last_100ns: u64) -> bool {
    socket
        .created_100ns
        .is_some_and(|created| created > last_100ns)
}

fn is_exact(sockets: &[&Socket], local: SocketAddr) -> bool {
    sockets.iter().any(|s| same(s.local, local))
}

fn is_broadcast(ip: IpAddr) -> bool {
    ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// An IPv4 address that a dual-stack socket shows as IPv6, as IPv4; scope ids
/// are no part of a flow.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn same(socket: SocketAddr, frame: SocketAddr) -> bool {
    unmapped(socket) == frame
}

/// Whether a socket bound to `socket` gets what is sent to `frame`. A socket
/// bound to `[::]` may be dual-stack, and take IPv4 as well.
fn covers(socket: SocketAddr, frame: SocketAddr) -> bool {
    let any = match socket.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() && frame.is_ipv4(),
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    socket.port() == frame.port() && (any || same(socket, frame))
}

/// The name of a process: its image's file name. `None` if it is gone or not to
/// be looked at.
#[must_use]
pub fn process_name(pid: u32) -> Option<String> {
    match pid {
        0 => None,
        4 => Some("System".to_owned()),
        pid => image_name(pid),
    }
}

#[cfg(windows)]
use crate::windows::sockets::{image_name, read_sockets};

#[cfg(not(windows))]
fn read_sockets() -> Result<Vec<Socket>, Error> {
    Err(Error::Unsupported)
}

#[cfg(not(windows))]
fn image_name(_pid: u32) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn tcp(local: &str, remote: Option<&str>, pid: u32, created: u64) -> Socket {
        Socket {
            kind: SocketKind::Tcp,
            local: at(local),
            remote: remote.map(at),
            pid,
            created_100ns: Some(created),
        }
    }

    fn udp(local: &str, pid: u32, created: u64) -> Socket {
        Socket {
            kind: SocketKind::Udp,
            local: at(local),
            remote: None,
            pid,
            created_100ns: Some(created),
        }
    }

    fn owner(table: &SocketTable, kind: SocketKind, a: &str, b: &str) -> (Option<u32>, Certainty) {
        let owner = table.owner(kind, [at(a), at(b)], 100);
        (owner.pid, owner.certainty)
    }

    #[test]
    fn a_connection_is_certain_whichever_end_is_first() {
        let table = SocketTable::new(vec![
            tcp("0.0.0.0:80", None, 7, 1),
            tcp("10.0.0.1:80", Some("10.0.0.2:5000"), 8, 2),
        ]);
        for (a, b) in [
            ("10.0.0.1:80", "10.0.0.2:5000"),
            ("10.0.0.2:5000", "10.0.0.1:80"),
        ] {
            let got = table.owner(SocketKind::Tcp, [at(a), at(b)], 100);
            assert_eq!(got.pid, Some(8));
            assert_eq!(got.certainty, Certainty::Certain);
            assert_eq!(got.local, Some(at("10.0.0.1:80")));
        }
    }

    #[test]
    fn a_connection_that_is_gone_is_likely_its_listeners() {
        let table = SocketTable::new(vec![
            tcp("0.0.0.0:80", None, 7, 1),
            tcp("10.0.0.1:80", None, 9, 1),
        ]);
        let (pid, certainty) = owner(&table, SocketKind::Tcp, "10.0.0.2:5000", "10.0.0.1:80");
        assert_eq!(pid, Some(9), "the exact address wins");
        assert!(matches!(certainty, Certainty::Likely(_)));
        let (pid, _) = owner(&table, SocketKind::Tcp, "10.0.0.2:5000", "10.0.0.3:80");
        assert_eq!(pid, Some(7));
        let (pid, certainty) = owner(&table, SocketKind::Tcp, "10.0.0.2:5000", "10.0.0.3:81");
        assert_eq!(pid, None);
        assert!(certainty.why().is_some());
    }

    #[test]
    fn reuse_and_time_wait_are_not_certain() {
        let table = SocketTable::new(vec![
            tcp("10.0.0.1:80", Some("10.0.0.2:1"), 8, 101),
            tcp("10.0.0.1:80", Some("10.0.0.2:2"), 0, 1),
        ]);
        let (pid, certainty) = owner(&table, SocketKind::Tcp, "10.0.0.1:80", "10.0.0.2:1");
        assert_eq!((pid, certainty.as_str()), (Some(8), "likely"));
        let (pid, certainty) = owner(&table, SocketKind::Tcp, "10.0.0.1:80", "10.0.0.2:2");
        assert_eq!((pid, certainty.as_str()), (None, "unknown"));
    }

    #[test]
    fn udp_is_certain_only_when_the_address_is_the_sockets() {
        let table = SocketTable::new(vec![
            udp("10.0.0.1:53", 5, 1),
            udp("0.0.0.0:123", 6, 1),
            udp("0.0.0.0:5353", 7, 1),
            udp("0.0.0.0:5353", 8, 1),
            udp("[::]:1900", 9, 1),
            udp("10.0.0.1:99", 10, 101),
        ]);
        let ask = |a, b| owner(&table, SocketKind::Udp, a, b);
        assert_eq!(
            ask("10.0.0.9:4000", "10.0.0.1:53"),
            (Some(5), Certainty::Certain)
        );
        let (pid, certainty) = ask("10.0.0.1:123", "10.0.0.9:123");
        assert_eq!((pid, certainty.as_str()), (Some(6), "likely"));
        assert_eq!(ask("10.0.0.1:5353", "224.0.0.251:5353").0, None);
        let (pid, certainty) = ask("10.0.0.7:1000", "239.255.255.250:1900");
        assert_eq!((pid, certainty.as_str()), (Some(9), "likely"));
        assert_eq!(ask("10.0.0.1:99", "10.0.0.2:5").1.as_str(), "likely");
        assert_eq!(ask("10.0.0.1:98", "10.0.0.2:5").0, None);
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let table = SocketTable::new(vec![tcp(
            "[::ffff:10.0.0.1]:80",
            Some("[::ffff:10.0.0.2]:9"),
            8,
            1,
        )]);
        let (pid, _) = owner(&table, SocketKind::Tcp, "10.0.0.2:9", "10.0.0.1:80");
        assert_eq!(pid, Some(8));
    }
}
