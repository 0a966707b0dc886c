//! The largest flows of a run, those too that the table has forgotten meanwhile.
//!
//! A table says nothing of a flow that it forgets. So the flows that had frames
//! are looked at again each second of the capture, which is shorter than any
//! idle time: what ages has been seen in its last state. A flow whose place a
//! new one takes within the same second (the table is full, or the ports are
//! used again) is known as it was at the look before.

use std::collections::HashMap;

use weir_engine::flow::{Flow, Slot, Table};

/// The table of a run.
pub(super) type Flows = Table<Vec<Slot>, Vec<u32>>;

/// A second of the capture, in 100 ns.
const EVERY: u64 = 10_000_000;
/// Flows touched between two looks, at most: after as many, the next comes early.
const MOST_TOUCHED: usize = 65_536;

/// The largest flows by bytes.
pub(super) struct Top {
    wanted: usize,
    flows: HashMap<u64, Flow>,
    /// What a flow needs to get in; it is never lowered, as flows only grow.
    least: u64,
    /// Slots whose flow had a frame since the last look, and a mark for each slot.
    touched: Vec<u32>,
    marks: Vec<bool>,
    looked: u64,
}

fn size(flow: &Flow) -> u64 {
    flow.sent.bytes.saturating_add(flow.received.bytes)
}

impl Top {
    pub(super) fn new(wanted: usize, slots: usize) -> Self {
        Top {
            wanted,
            flows: HashMap::new(),
            least: 0,
            touched: Vec::new(),
            marks: vec![false; if wanted == 0 { 0 } else { slots }],
            looked: 0,
        }
    }

    /// Before a frame of this time goes to the table.
    pub(super) fn before(&mut self, time_100ns: u64, table: &Flows) {
        let early = self.touched.len() >= MOST_TOUCHED;
        if early || self.looked.abs_diff(time_100ns) >= EVERY {
            self.looked = time_100ns;
            self.look(table);
        }
    }

    /// A frame belongs to the flow in this slot.
    pub(super) fn touch(&mut self, slot: u32) {
        if let Some(mark) = self.marks.get_mut(slot as usize)
            && !*mark
        {
            *mark = true;
            self.touched.push(slot);
        }
    }

    fn look(&mut self, table: &Flows) {
        for slot in std::mem::take(&mut self.touched) {
            if let Some(mark) = self.marks.get_mut(slot as usize) {
                *mark = false;
            }
            let Some(flow) = table.get(slot) else {
                continue;
            };
            if self.flows.contains_key(&flow.id) || size(&flow) >= self.least {
                self.flows.insert(flow.id, flow);
            }
        }
        // Sorting now and then costs less than an order kept at all times.
        if self.flows.len() > 4 * self.wanted + 64 {
            let kept = self.sorted();
            self.least = kept.last().map_or(0, size);
            self.flows = kept.into_iter().map(|flow| (flow.id, flow)).collect();
        }
    }

    /// The largest, in the order of their numbers where they are equal.
    fn sorted(&self) -> Vec<Flow> {
        let mut flows: Vec<Flow> = self.flows.values().copied().collect();
        flows.sort_by_key(|flow| (std::cmp::Reverse(size(flow)), flow.id));
        flows.truncate(self.wanted);
        flows
    }

    /// The largest flows, the largest first.
    pub(super) fn finish(mut self, table: &Flows) -> Vec<Flow> {
        self.look(table);
        self.sorted()
    }
}
