//! What happened in a session, counted: the part `wsk` of the event `unload`,
//! and the answer to the control command `wsk`. A test that wants a rare path
//! gone asks here whether it was.

use serde_json::{Map, Value};
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($name:ident: $meaning:literal,)+) => {
        /// Something that is counted.
        #[derive(Clone, Copy)]
        pub(super) enum Count { $(#[doc = $meaning] $name,)+ }

        const NAMES: &[&str] = &[$(stringify!($name),)+];
        static COUNTS: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];
    };
}

counts! {
    Indications: "Calls of WskReceiveEvent with data.",
    IndicatedElements: "Elements of their lists.",
    IndicatedBytes: "Bytes in them.",
    IndicatedAsap: "Those with WSK_FLAG_RELEASE_ASAP.",
    Accepted: "Lists taken as a whole: STATUS_SUCCESS.",
    AcceptedPart: "Lists of which a part was taken.",
    NotAccepted: "Lists refused: STATUS_DATA_NOT_ACCEPTED.",
    Retained: "Lists kept: STATUS_PENDING.",
    RetainedAsap: "Lists kept though WSK_FLAG_RELEASE_ASAP was set.",
    Released: "Lists given to WskRelease.",
    DatagramIndications: "Calls of WskReceiveFromEvent with datagrams.",
    Datagrams: "Datagrams in their lists.",
    DatagramsNotAccepted: "Lists of datagrams refused.",
    DatagramsRetained: "Lists of datagrams kept.",
    DatagramsReleased: "Lists of datagrams given to WskRelease.",
    DisconnectsGraceful: "Calls of WskDisconnectEvent without WSK_FLAG_ABORTIVE.",
    DisconnectsAbortive: "Those with it.",
    AcceptsByIrp: "Connections that ended a WskAccept.",
    AcceptsByEvent: "Connections that WskAcceptEvent took.",
    AcceptsRejected: "Connections that WskAcceptEvent did not take.",
    InspectedAccepted: "Connection requests that were inspected and accepted.",
    InspectedRejected: "Those that were rejected.",
    InspectedPended: "Those that WskInspectEvent pended.",
    InspectedAborted: "Those of which WskAbortEvent was told.",
}

/// Counts one more.
pub(super) fn count(what: Count) {
    add(what, 1);
}

/// Counts `much` more.
pub(super) fn add(what: Count, much: usize) {
    COUNTS[what as usize].fetch_add(much as u64, Ordering::Relaxed);
}

pub(super) fn begin() {
    for count in &COUNTS {
        count.store(0, Ordering::Relaxed);
    }
}

/// `RetainedAsap` as `retained_asap`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// All counts, by name.
pub(super) fn summary() -> Value {
    let mut all = Map::new();
    for (name, count) in NAMES.iter().zip(&COUNTS) {
        all.insert(snake(name), count.load(Ordering::Relaxed).into());
    }
    Value::Object(all)
}
