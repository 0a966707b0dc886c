//! Who owns each NET_BUFFER_LIST, and what may happen to it next.
//!
//! Context. Every list that passes the filter, or that the filter allocates,
//! has a record here. A call of the driver that hands a list on goes through
//! [`leave_filter`], which checks that the filter owns it, that it goes the way
//! it may go, and (for the lab's lists) that it looks as it did. The table's
//! lock is a leaf and is never held across driver code.
//!
//! Where a list may be (Sending and Receiving Data in a Filter Driver):
//! ```text
//! lab's send:     host -> Filter -> Below -> Filter (done) -> home
//!                          \------ refused or dropped -----> home
//! lab's receive:  wire -> Filter -> Above -> Filter (done) -> home
//! filter's own:   Filter -> Below or Above -> Filter, until freed
//! ```
//! A list of the filter's own may be derived from one of the lab's, its parent,
//! whose data it shares: the parent stays with the filter until it is back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use super::engine::{Module, lock};
use super::frame::{Dir, LabNbl, Terms, buffers, lists, read};
use super::types::{NetBuffer, NetBufferList};
use crate::core::Rule;

/// Lists that came home stay poisoned this long (in lists), so that a second
/// return finds its own grave and not a new frame.
const GRAVES: usize = 4096;

/// Who made a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The host above or the miniport below: the lab.
    Lab,
    /// The filter, from one of its pools.
    Filter,
}

/// Where a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// With the filter.
    Filter,
    /// With the host above.
    Above,
    /// With the miniport below.
    Below,
    /// On its last step to its originator.
    Home,
}

/// The four ways out of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `NdisFSendNetBufferLists`.
    SendDown,
    /// `NdisFSendNetBufferListsComplete`.
    CompleteUp,
    /// `NdisFIndicateReceiveNetBufferLists`.
    IndicateUp,
    /// `NdisFReturnNetBufferLists`.
    ReturnDown,
}

impl Way {
    /// The function's name.
    pub(crate) fn api(self) -> &'static str {
        match self {
            Self::SendDown => "NdisFSendNetBufferLists",
            Self::CompleteUp => "NdisFSendNetBufferListsComplete",
            Self::IndicateUp => "NdisFIndicateReceiveNetBufferLists",
            Self::ReturnDown => "NdisFReturnNetBufferLists",
        }
    }
}

/// What is known of one list.
pub(crate) struct Record {
    pub(crate) module: usize,
    pub(crate) origin: Origin,
    pub(crate) dir: Dir,
    pub(crate) place: Place,
    /// It was above or below already and came back.
    pub(crate) done: bool,
    /// It was indicated with `NDIS_RECEIVE_FLAGS_RESOURCES`.
    pub(crate) resources: bool,
    /// It was offered after `FilterPause` had returned.
    pub(crate) after_pause: bool,
    /// Its number in the order of offers of its direction.
    pub(crate) sequence: u64,
    /// The list it is derived from, while it is above or below.
    parent: usize,
    /// Frames of it that went on in a list derived from it.
    derived: Vec<u64>,
    since: Instant,
    storage: Option<Box<LabNbl>>,
}

struct Table {
    live: HashMap<usize, Record>,
    /// Lists of others which something derived from them, above or below, hangs
    /// on, and how many such there are.
    parents: HashMap<usize, usize>,
    graves: VecDeque<(usize, Dir, Option<Box<LabNbl>>)>,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(|| {
    Mutex::new(Table {
        live: HashMap::new(),
        parents: HashMap::new(),
        graves: VecDeque::new(),
    })
});

/// A list came home whole: what its originator wants to know.
pub(crate) struct Home {
    /// Whether it went all the way through and back.
    pub(crate) passed: bool,
    /// Digests of frames that went through in a list derived from it.
    pub(crate) derived: Vec<u64>,
    pub(crate) frames: Vec<(u64, u32)>,
    pub(crate) status: i32,
}

/// The filter is given one of the lab's lists.
pub(crate) fn offer(module: &Module, list: LabNbl, dir: Dir, sequence: u64, resources: bool) {
    let address = list.nbl().expose_provenance();
    let record = Record {
        module: module.handle,
        origin: Origin::Lab,
        dir,
        place: Place::Filter,
        done: false,
        resources,
        after_pause: module.pause_returned.load(Ordering::SeqCst),
        sequence,
        parent: 0,
        derived: Vec::new(),
        since: Instant::now(),
        storage: Some(Box::new(list)),
    };
    module.outstanding.fetch_add(1, Ordering::SeqCst);
    lock(&TABLE).live.insert(address, record);
}

/// The filter allocated a list of its own.
pub(crate) fn adopt(module: usize, nbl: *mut NetBufferList) {
    let record = Record {
        module,
        origin: Origin::Filter,
        dir: Dir::Down,
        place: Place::Filter,
        done: false,
        resources: false,
        after_pause: false,
        sequence: 0,
        parent: 0,
        derived: Vec::new(),
        since: Instant::now(),
        storage: None,
    };
    lock(&TABLE).live.insert(nbl.expose_provenance(), record);
}

/// The filter frees a list of its own; it must own it at this moment.
pub(crate) fn release(api: &str, nbl: *mut NetBufferList) {
    let address = nbl.addr();
    let mut table = lock(&TABLE);
    match table.live.get(&address).map(|r| (r.origin, r.place)) {
        Some((Origin::Filter, Place::Filter)) => {
            table.live.remove(&address);
        }
        Some((Origin::Filter, place)) => {
            violate!(
                Rule::LabNdisNblFree,
                "{api}: NBL {nbl:p} is still {place:?}"
            );
        }
        Some((Origin::Lab, _)) => {
            violate!(
                Rule::LabNdisNblFree,
                "{api}: NBL {nbl:p} belongs to the {}",
                "driver that originated it"
            );
        }
        None => violate!(
            Rule::LabNdisNblFree,
            "{api}: NBL {nbl:p} is not allocated (freed twice?)"
        ),
    }
}

/// The lists of a chain the driver hands over; a ring ends the run.
pub(crate) fn chain(api: &str, first: *mut NetBufferList) -> Vec<*mut NetBufferList> {
    let mut seen = Vec::new();
    let mut addresses = std::collections::BTreeSet::new();
    for nbl in lists(first) {
        if !addresses.insert(nbl.addr()) {
            violate!(
                Rule::LabNdisNblChain,
                "{api}: NBL {nbl:p} occurs twice in the chain"
            );
        }
        seen.push(nbl);
    }
    if seen.is_empty() {
        violate!(Rule::LabNdisNblChain, "{api}: the chain is empty");
    }
    seen
}

/// Takes a list from the filter on its way out, and says whose it is.
///
/// `to_resources`: an indication with `NDIS_RECEIVE_FLAGS_RESOURCES`.
pub(crate) fn leave_filter(
    module: &Module,
    nbl: *mut NetBufferList,
    way: Way,
    to_resources: bool,
) -> (Origin, Option<u64>) {
    let api = way.api();
    let address = nbl.addr();
    let mut table = lock(&TABLE);
    let Some(record) = table.live.get_mut(&address) else {
        if let Some((_, dir, _)) = table.graves.iter().rev().find(|g| g.0 == address) {
            let dir = dir.name();
            violate!(
                Rule::LabNdisNblDoubleReturn,
                "{api}: NBL {nbl:p} ({dir}) went home before"
            );
        }
        violate!(
            Rule::LabNdisNblNotOwned,
            "{api}: NBL {nbl:p} is unknown to NDIS"
        );
    };
    if record.place == Place::Home {
        violate!(
            Rule::LabNdisNblDoubleReturn,
            "{api}: NBL {nbl:p} is being handed back by another thread too"
        );
    }
    if record.place != Place::Filter {
        violate!(
            Rule::LabNdisNblNotOwned,
            "{api}: NBL {nbl:p} is {:?} at the moment, not with the filter",
            record.place
        );
    }
    if record.origin == Origin::Lab && record.module != module.handle {
        violate!(
            Rule::LabNdisNblNotOwned,
            "{api}: NBL {nbl:p} was given to another filter module"
        );
    }
    check_way(record, nbl, way, to_resources);
    let terms = Terms {
        allow_modify: module.adapter.shape.allow_modify,
        completing: way == Way::CompleteUp,
    };
    if let Some(storage) = &record.storage
        && let Err(what) = storage.verify(terms)
    {
        violate!(Rule::LabNdisNblModified, "{api}: NBL {nbl:p}: {what}");
    }
    let mut parent = 0;
    if record.origin == Origin::Filter {
        let source = read(nbl).source_handle;
        if source.addr() != module.handle {
            violate!(
                Rule::LabNdisSourceHandle,
                "{api}: SourceHandle of the filter's own NBL {nbl:p} is {source:p}, not its filter handle"
            );
        }
        record.module = module.handle;
        record.dir = if way == Way::SendDown {
            Dir::Down
        } else {
            Dir::Up
        };
        parent = read(nbl).parent.addr();
        record.parent = parent;
    }
    match way {
        Way::SendDown => record.place = Place::Below,
        Way::IndicateUp => record.place = Place::Above,
        Way::CompleteUp | Way::ReturnDown => record.place = Place::Home,
    }
    let (origin, dir, sequence) = (record.origin, record.dir, record.sequence);
    if origin == Origin::Lab {
        return (origin, Some(sequence));
    }
    if parent == 0 {
        return (origin, None);
    }
    let sequence = match table.live.get(&parent) {
        Some(r) if r.origin == Origin::Lab && r.place == Place::Filter && r.dir == dir => {
            r.sequence
        }
        other => violate!(
            Rule::LabNdisParent,
            "{api}: NBL {nbl:p} is derived from {parent:#x}, which is {:?}, not with the filter on \
             its way {}",
            other.map(|r| (r.origin, r.place, r.dir)),
            dir.name()
        ),
    };
    *table.parents.entry(parent).or_default() += 1;
    (origin, Some(sequence))
}

/// A frame of a list derived from `parent` goes on.
pub(crate) fn derived(nbl: *mut NetBufferList, digest: u64) {
    let parent = read(nbl).parent.addr();
    if let Some(record) = lock(&TABLE).live.get_mut(&parent) {
        record.derived.push(digest);
    }
}

/// A list of the filter's own that is above or below with this buffer in it.
pub(crate) fn away_with(nb: *const NetBuffer) -> Option<(usize, Place)> {
    // Under the lock, so that none of them comes back and is freed meanwhile.
    lock(&TABLE)
        .live
        .iter()
        .filter(|(_, r)| r.origin == Origin::Filter && r.place != Place::Filter)
        .find(|(at, _)| {
            let nbl: *const NetBufferList = std::ptr::with_exposed_provenance(**at);
            buffers(nbl).any(|b| b.addr() == nb.addr())
        })
        .map(|(at, r)| (*at, r.place))
}

/// Whether this list may take this way out.
fn check_way(record: &Record, nbl: *mut NetBufferList, way: Way, to_resources: bool) {
    let api = way.api();
    if record.origin == Origin::Filter {
        if matches!(way, Way::CompleteUp | Way::ReturnDown) {
            violate!(
                Rule::LabNdisNblWrongDirection,
                "{api}: NBL {nbl:p} was originated by the filter and is not to be handed to another driver"
            );
        }
        return;
    }
    let right = match record.dir {
        Dir::Down => matches!(way, Way::SendDown | Way::CompleteUp),
        Dir::Up => matches!(way, Way::IndicateUp | Way::ReturnDown),
    };
    if !right {
        violate!(
            Rule::LabNdisNblWrongDirection,
            "{api}: NBL {nbl:p} is on its way {} through the filter",
            record.dir.name()
        );
    }
    if record.done && matches!(way, Way::SendDown | Way::IndicateUp) {
        violate!(
            Rule::LabNdisNblWrongDirection,
            "{api}: NBL {nbl:p} has been there and come back already"
        );
    }
    if record.resources && way == Way::ReturnDown {
        violate!(
            Rule::LabNdisResources,
            "{api}: NBL {nbl:p} was indicated with NDIS_RECEIVE_FLAGS_RESOURCES; returning from \
             FilterReceiveNetBufferLists gives it back"
        );
    }
    if record.resources && way == Way::IndicateUp && !to_resources {
        violate!(
            Rule::LabNdisResources,
            "{api}: NBL {nbl:p} came with NDIS_RECEIVE_FLAGS_RESOURCES and is passed up without it"
        );
    }
    if record.after_pause && matches!(way, Way::SendDown | Way::IndicateUp) {
        violate!(
            Rule::LabNdisFilterState,
            "{api}: NBL {nbl:p} was offered after FilterPause had returned and must be refused"
        );
    }
}

/// Fails the run if one of the lab's lists is not as it was handed out.
pub(crate) fn require_unchanged(module: &Module, api: &str, nbl: *mut NetBufferList) {
    let table = lock(&TABLE);
    let storage = table.live.get(&nbl.addr()).and_then(|r| r.storage.as_ref());
    let terms = Terms {
        allow_modify: module.adapter.shape.allow_modify,
        completing: false,
    };
    if let Some(Err(what)) = storage.map(|s| s.verify(terms)) {
        violate!(Rule::LabNdisNblModified, "{api}: NBL {nbl:p}: {what}");
    }
}

/// A list comes back to the filter from above or below.
pub(crate) fn back_to_filter(nbl: *mut NetBufferList) -> Option<Origin> {
    let mut table = lock(&TABLE);
    let record = table.live.get_mut(&nbl.addr())?;
    record.place = Place::Filter;
    record.done = true;
    record.since = Instant::now();
    let origin = record.origin;
    let parent = std::mem::take(&mut record.parent);
    if let Some(count) = table.parents.get_mut(&parent) {
        *count -= 1;
        if *count == 0 {
            table.parents.remove(&parent);
        }
    }
    Some(origin)
}

/// One of the lab's lists is home; its memory rests in a grave.
pub(crate) fn home(module: &Module, nbl: *mut NetBufferList) -> Option<Home> {
    let status = read(nbl).status;
    let mut table = lock(&TABLE);
    if let Some(count) = table.parents.get(&nbl.addr()) {
        violate!(
            Rule::LabNdisParent,
            "NBL {nbl:p} goes home while {count} list(s) derived from it are above or below"
        );
    }
    let record = table.live.remove(&nbl.addr())?;
    let frames = record
        .storage
        .as_ref()
        .map(|s| s.frames().to_vec())
        .unwrap_or_default();
    table
        .graves
        .push_back((nbl.addr(), record.dir, record.storage));
    let buried = if table.graves.len() > GRAVES {
        table.graves.pop_front()
    } else {
        None
    };
    drop(table);
    drop(buried);
    module.outstanding.fetch_sub(1, Ordering::SeqCst);
    Some(Home {
        passed: record.done,
        derived: record.derived,
        frames,
        status,
    })
}

/// The frames (digest, length) of one of the lab's lists.
pub(crate) fn frames(nbl: *mut NetBufferList) -> Option<Vec<(u64, u32)>> {
    let table = lock(&TABLE);
    let storage = table.live.get(&nbl.addr())?.storage.as_ref()?;
    Some(storage.frames().to_vec())
}

/// Lists of the lab that are still with this module's filter, with their age.
pub(crate) fn held(module: usize) -> Vec<(usize, Dir, Duration)> {
    let now = Instant::now();
    lock(&TABLE)
        .live
        .iter()
        .filter(|(_, r)| r.module == module && r.origin == Origin::Lab && r.place == Place::Filter)
        .map(|(at, r)| (*at, r.dir, now.duration_since(r.since)))
        .collect()
}

/// A list of the lab that was given to this module's filter and has not moved since.
pub(crate) fn queued(module: usize) -> Option<(usize, Dir)> {
    lock(&TABLE)
        .live
        .iter()
        .find(|(_, r)| {
            r.module == module && r.origin == Origin::Lab && r.place == Place::Filter && !r.done
        })
        .map(|(at, r)| (*at, r.dir))
}

/// The place of a list, if it is known.
pub(crate) fn place(nbl: *mut NetBufferList) -> Option<Place> {
    lock(&TABLE).live.get(&nbl.addr()).map(|r| r.place)
}

/// Lists of the filter's own that are not freed, by place.
pub(crate) fn own_lists() -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for record in lock(&TABLE)
        .live
        .values()
        .filter(|r| r.origin == Origin::Filter)
    {
        *found.entry(format!("{:?}", record.place)).or_default() += 1;
    }
    found
}

/// Forgets everything: the session is over.
pub(crate) fn clear() {
    let mut table = lock(&TABLE);
    let (live, graves) = (
        std::mem::take(&mut table.live),
        std::mem::take(&mut table.graves),
    );
    table.parents.clear();
    drop(table);
    drop((live, graves));
}
