//! Which way frames go of which the file doesn't say.

use std::net::IpAddr;

use weir_abi::Direction;
use weir_engine::wire::Dissected;

use crate::cli::{DirectionArg, HostArg, InspectArgs};

/// What the command line says of directions.
pub(super) enum Guess {
    /// Nothing.
    Unknown,
    /// All of them went one way.
    Fixed(Direction),
    /// The host has these addresses.
    Hosts {
        macs: Vec<[u8; 6]>,
        addresses: Vec<IpAddr>,
    },
}

impl Guess {
    pub(super) fn new(args: &InspectArgs) -> Self {
        if let Some(direction) = args.direction {
            return Guess::Fixed(DirectionArg::into(direction));
        }
        if args.host.is_empty() {
            return Guess::Unknown;
        }
        let (mut macs, mut addresses) = (Vec::new(), Vec::new());
        for host in &args.host {
            match host {
                HostArg::Ip(address) => addresses.push(*address),
                HostArg::Mac(mac) => macs.push(*mac),
            }
        }
        Guess::Hosts { macs, addresses }
    }

    /// What is to be guessed of a frame. Frames from the host went out, those to
    /// it came in, and so did those of others to many.
    pub(super) fn of(&self, frame: &Dissected<'_>) -> Option<Direction> {
        let (macs, addresses) = match self {
            Guess::Unknown => return None,
            Guess::Fixed(direction) => return Some(*direction),
            Guess::Hosts { macs, addresses } => (macs, addresses),
        };
        let link = frame.link?;
        let (from, to) = (link.header.source(), link.header.destination());
        let ip = frame.ip_addresses();
        let is = |mac: [u8; 6], ip: Option<IpAddr>| {
            macs.contains(&mac) || ip.is_some_and(|ip| addresses.contains(&ip))
        };
        if is(from.0, ip.map(|(from, _)| from)) {
            Some(Direction::Out)
        } else if is(to.0, ip.map(|(_, to)| to)) || to.is_multicast() {
            Some(Direction::In)
        } else {
            None
        }
    }
}
