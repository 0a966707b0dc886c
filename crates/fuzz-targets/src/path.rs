use weir_abi::Direction;
use weir_engine::Meta;
use weir_engine::flow::{Config, Slot, Table, Tracked};
use weir_engine::path::inspect;
use weir_engine::rule::{Decision, Far, View};
use weir_engine::stats::Protocols;
use weir_engine::wire::HEADER_WINDOW;
use zerocopy::FromZeros;

use crate::bytes::Bytes;
use crate::frames::frame;
use crate::rules::{Rules, compiled, load};

/// Bytes behind a frame's first ones.
pub(crate) struct Pieces<'a>(pub(crate) &'a [u8]);

impl Far for Pieces<'_> {
    fn copy_to(&self, offset: u32, dst: &mut [u8]) -> usize {
        let from = self.0.get(offset as usize..).unwrap_or_default();
        let len = from.len().min(dst.len());
        dst[..len].copy_from_slice(&from[..len]);
        len
    }
}

/// A rule file, then frames that go their way twice: as a file's, whole, and as
/// a data path's, cut behind the header window.
pub fn path(input: &[u8]) {
    let mut from = Bytes::new(input);
    let Some(program) = compiled(&mut from) else {
        return;
    };
    let rules = load(&program);
    let (mut offline, mut kernel) = (Way::new(), Way::new());
    let mut time_100ns = 133_444_736_000_000_000;
    while !from.is_empty() {
        let how = from.u8();
        time_100ns += u64::from(how) * 100_000;
        let mut frame = frame(&mut from);
        if how & 2 != 0 {
            frame.resize(frame.len() + usize::from(how), 0x77);
        }
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let meta = Meta {
            adapter: 1,
            direction: Some(if how & 1 == 0 {
                Direction::In
            } else {
                Direction::Out
            }),
            time_100ns,
            frame_len: len,
        };
        let whole = offline.go(&View::contiguous(&frame, len), &meta, &rules);
        let window = frame.len().min(HEADER_WINDOW + usize::from(how >> 2));
        let far = Pieces(&frame);
        let pieces = View::new(&frame[..window], len, len, &far);
        assert_eq!(kernel.go(&pieces, &meta, &rules), whole);
    }
    assert_eq!(kernel.flows.stats(), offline.flows.stats());
}

/// What a frame came to: its kinds, its flow, its verdict, the rules' hits.
type End = (Protocols, Option<Tracked>, Decision, Vec<u32>);

struct Way {
    flows: Table<Vec<Slot>, Vec<u32>>,
}

impl Way {
    fn new() -> Self {
        const SLOTS: usize = 16;
        let slots = (0..SLOTS).map(|_| Slot::new_zeroed()).collect();
        let index = vec![0; Table::<Vec<Slot>, Vec<u32>>::index_len(SLOTS)];
        Self {
            flows: Table::new(slots, index, Config::default()).expect("a small table"),
        }
    }

    fn go(&mut self, view: &View<'_>, meta: &Meta, rules: &Rules) -> End {
        let mut hits = Vec::new();
        let inspected = inspect(
            view,
            meta,
            Some(rules),
            |frame, meta| self.flows.track(frame, meta),
            |rule| hits.push(rule),
        );
        let mut counted = Protocols::default();
        counted.count(&inspected.frame, false);
        (counted, inspected.tracked, inspected.decision, hits)
    }
}
