//! Flows as others see them: put together from their slots.

use super::slot::Slot;
use super::table::Table;
use super::time::Short;
use super::{Flow, Health, Ports, TcpTags, index, spill};
use crate::wire::Protocol;

impl<S, I> Table<S, I>
where
    S: AsRef<[Slot]> + AsMut<[Slot]>,
    I: AsRef<[u32]> + AsMut<[u32]>,
{
    pub(super) fn snapshot(&self, slot: u32, entry: &Slot) -> Flow {
        let key = entry.key();
        let initiator = entry.initiator();
        let high = index::part(self.index.as_ref(), &self.layout.spill);
        let rtt = |second: bool| match entry.syn_time() {
            None => Short(entry.side(second).rtt).known(),
            Some(_) => None,
        };
        let (fast_retransmissions, out_of_order) = entry.counts();
        Flow {
            id: entry.id(self.newest),
            adapter: self.adapter_id(key.adapter()),
            vlan: key.vlan(),
            protocol: key.protocol(),
            ports: key.ports(),
            initiator: key.end(initiator),
            responder: key.end(!initiator),
            sent: spill::sent(entry, high, slot, initiator),
            received: spill::sent(entry, high, slot, !initiator),
            first_100ns: entry.first(self.clock),
            last_100ns: entry.last(self.clock),
            state: entry.state(),
            initial_rtt_100ns: Short(entry.initial_rtt).known(),
            responder_rtt_100ns: rtt(initiator),
            initiator_rtt_100ns: rtt(!initiator),
            health: Health {
                retransmissions: entry.retransmissions,
                fast_retransmissions,
                out_of_order,
                duplicate_acks: entry.duplicate_acks,
                seen: TcpTags::from_bits_truncate(entry.seen),
            },
        }
    }
}

impl Flow {
    /// Whether it is a TCP connection whose segments are analysed.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.protocol == Protocol::TCP && self.ports == Ports::Ports
    }
}
