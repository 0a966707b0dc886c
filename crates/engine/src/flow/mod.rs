//! Flows: who talks with whom, and how well.
//!
//! A [`Table`] lives in memory that its owner gives it and never asks for more.
//! [`Table::track`] finds or makes the flow of a frame, counts the frame in it,
//! and says what a TCP segment is besides being one.
//!
//! # What a flow is
//! Both directions of two addresses, two ports, a protocol, the outermost VLAN
//! tag's id, and an adapter. ICMP echoes have their identifier in the ports'
//! place. Frames whose transport header is not there or not known (fragments
//! but the first, other protocols, ICMP errors) are one flow for each pair of
//! addresses and protocol, apart from those with ports.
//!
//! A SYN with another sequence number than the connection began with ends that
//! flow and begins another; so does a frame that comes after the flow's idle
//! time, whether or not ageing had come by.

mod ageing;
mod alarm;
mod bits;
mod config;
mod index;
mod key;
mod rtt;
mod show;
mod slot;
mod snapshot;
mod spill;
mod table;
mod tags;
mod tcp;
mod time;
mod watch;
mod wheel;

pub use alarm::{Alarm, Cause};
pub use config::{AlarmConfig, Config, Idle};
pub use index::MAX_SLOTS;
pub use slot::Slot;
pub use snapshot::{Endpoint, Flow, Health, Ports, Sent, State, Stats, Tracked};
pub use table::{Error, Table};
pub use tags::{TAGS, TagCounts, TcpTags};
