//! IANA's names of ports ("Service Name and Transport Protocol Port Number
//! Registry"), as far as Debian's `/etc/services` (netbase 6.4) has them, which
//! is what pcap-filter's `port http` looks up there.

use std::collections::HashMap;
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

struct Services {
    names: HashMap<(Transport, u16), &'static str>,
    ports: HashMap<(Transport, &'static str), u16>,
}

static SERVICES: LazyLock<Services> = LazyLock::new(|| {
    let mut services = Services {
        names: HashMap::new(),
        ports: HashMap::new(),
    };
    for line in TABLE.lines() {
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
                services.names.entry((transport, port)).or_insert(name);
            }
            services.ports.entry((transport, name)).or_insert(port);
        }
    }
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
