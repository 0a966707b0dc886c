//! IANA's names of ports ("Service Name and Transport Protocol Port Number
//! Registry"): first those that Debian's `/etc/services` (netbase 6.4) has, which
//! is what pcap-filter's `port http` looks up there, then more that are in wide
//! use. A name of the first means in a rule what it means to libpcap there.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// A transport that has ports with names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Lines of port, transport, name and other names.
const TABLE: &str = include_str!("services.txt");

/// More of them, which netbase doesn't have.
const MORE: &str = include_str!("services-more.txt");

struct Services {
    names: HashMap<(Transport, u16), &'static str>,
    ports: HashMap<(Transport, &'static str), u16>,
}

impl Services {
    /// Takes in a table, after those that go before it: `means` says of which
    /// names rules may know the port.
    fn add(&mut self, table: &'static str, means: impl Fn(&str) -> bool) {
        for line in table.lines() {
            let mut words = line.split(' ');
            let port = words.next().and_then(|port| port.parse().ok());
            let transport = match words.next() {
                Some("tcp") => Transport::Tcp,
                Some("udp") => Transport::Udp,
                _ => continue,
            };
            let Some(port) = port else { continue };
            for (index, name) in words.enumerate() {
                if index == 0 {
                    self.names.entry((transport, port)).or_insert(name);
                }
                if means(name) {
                    self.ports.entry((transport, name)).or_insert(port);
                }
            }
        }
    }
}

static SERVICES: LazyLock<Services> = LazyLock::new(|| {
    let mut services = Services {
        names: HashMap::new(),
        ports: HashMap::new(),
    };
    services.add(TABLE, |_| true);
    // With a second transport a name would mean more than it does to libpcap.
    let known: HashSet<&str> = services.ports.keys().map(|(_, name)| *name).collect();
    services.add(MORE, |name| !known.contains(name));
    services
});

/// IANA's name of a port.
#[must_use]
pub fn name(transport: Transport, port: u16) -> Option<&'static str> {
    SERVICES.names.get(&(transport, port)).copied()
}

/// The port a name stands for.
#[must_use]
pub fn port(transport: Transport, name: &str) -> Option<u16> {
    SERVICES.ports.get(&(transport, name)).copied()
}

/// A name like one that is none.
pub(crate) fn suggestion(name: &str) -> Option<&'static str> {
    crate::names::closest(name, SERVICES.ports.keys().map(|(_, name)| *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_the_names_people_expect() {
        for (transport, number, wanted) in [
            (Transport::Tcp, 80, "http"),
            (Transport::Tcp, 1433, "ms-sql-s"),
            (Transport::Tcp, 3306, "mysql"),
            (Transport::Tcp, 3389, "ms-wbt-server"),
            (Transport::Udp, 3389, "ms-wbt-server"),
            (Transport::Tcp, 5432, "postgresql"),
            (Transport::Udp, 5355, "llmnr"),
            (Transport::Tcp, 5985, "wsman"),
            (Transport::Tcp, 6379, "redis"),
            (Transport::Udp, 1900, "ssdp"),
            (Transport::Udp, 4789, "vxlan"),
        ] {
            assert_eq!(name(transport, number), Some(wanted), "{number}");
        }
        assert_eq!(port(Transport::Tcp, "wsman"), Some(5985));
        assert_eq!(name(Transport::Tcp, 4), None);
    }

    #[test]
    fn each_line_is_read_and_none_twice() {
        let mut seen = HashSet::new();
        for line in TABLE.lines().chain(MORE.lines()) {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(words.len() >= 3, "{line}");
            assert!(seen.insert((words[0], words[1])), "{line}");
            if words[1] == "sctp" {
                continue;
            }
            let number: u16 = words[0].parse().expect("a port");
            let transport = match words[1] {
                "tcp" => Transport::Tcp,
                "udp" => Transport::Udp,
                other => panic!("{other}"),
            };
            assert_eq!(name(transport, number), Some(words[2]), "{line}");
        }
    }

    /// A name that netbase has for one transport gets no second one.
    #[test]
    fn names_of_netbase_mean_what_they_mean_to_libpcap() {
        assert_eq!(name(Transport::Udp, 3389), Some("ms-wbt-server"));
        assert_eq!(port(Transport::Udp, "ms-wbt-server"), None);
        assert_eq!(port(Transport::Tcp, "ms-wbt-server"), Some(3389));
    }
}
