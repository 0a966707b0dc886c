//! Where readers are found, and what keeps them alive while somebody is inside.
//!
//! A slot is free, opening, active or closing. Its rundown protection is run
//! down except while it is active or being closed; its reader pointer is set
//! before the protection opens and cleared after it has run down, so whoever is
//! inside sees a live reader.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

use weir_abi::limits::MAX_READERS;

use super::TAG;
use super::reader::{Reader, Role};
use crate::error::Error;
use crate::kernel::lock::SpinLock;
use crate::kernel::log;
use crate::kernel::pool::KBox;
use crate::kernel::rundown::Rundown;
use crate::kernel::wdf::Request;

const FREE: u8 = 0;
const OPENING: u8 = 1;
const ACTIVE: u8 = 2;
const CLOSING: u8 = 3;

/// One bit each in [`ACTIVE_SLOTS`].
const _: () = assert!(MAX_READERS <= 32);

static SLOTS: [Slot; MAX_READERS] = [const { Slot::new() }; MAX_READERS];

/// Bit i: slot i is active, and in the capture role.
static CAPTURING: AtomicU32 = AtomicU32::new(0);

/// Bit i: slot i is active, and in the divert role.
static DIVERTING: AtomicU32 = AtomicU32::new(0);

/// Whose frames slot i diverts, or is about to. Taken to see that no two readers
/// divert those of one adapter; no other lock is taken under it.
static CLAIMS: SpinLock<[Claim; MAX_READERS]> = SpinLock::new([Claim::None; MAX_READERS]);

/// Adapters whose diverted frames are somebody's.
#[derive(Clone, Copy)]
enum Claim {
    None,
    One(u32),
    All,
}

impl Claim {
    fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => false,
            (Self::One(a), Self::One(b)) => a == b,
            (Self::All, _) | (_, Self::All) => true,
        }
    }
}

/// Which reader a handle has: its slot, and its number, which no reader before
/// or after it in that slot has.
#[derive(Clone, Copy)]
pub(crate) struct Ticket {
    slot: u32,
    id: u32,
}

impl Ticket {
    /// As one integer.
    pub(crate) const fn pack(self) -> u64 {
        ((self.slot as u64) << 32) | self.id as u64
    }

    /// From one integer.
    #[expect(clippy::cast_possible_truncation, reason = "each half is 32 bits")]
    pub(crate) const fn unpack(packed: u64) -> Self {
        Self {
            slot: (packed >> 32) as u32,
            id: packed as u32,
        }
    }

    /// The reader's number.
    pub(crate) const fn id(self) -> u32 {
        self.id
    }
}

pub(super) struct Slot {
    state: AtomicU8,
    inside: Rundown,
    reader: AtomicPtr<Reader>,
}

/// Somebody inside a slot: the reader stays until this is dropped.
pub(super) struct Inside {
    slot: &'static Slot,
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.slot.inside.release_raw();
    }
}

impl Inside {
    pub(super) fn reader(&self) -> &Reader {
        // SAFETY: set before the rundown protection opened and freed only after
        // it has run down, which it can't while `self` is inside.
        unsafe { &*self.slot.reader.load(Ordering::Acquire) }
    }

    /// Takes a read; this entry into the slot goes along with it and ends when
    /// the read has been completed.
    pub(super) fn read(self, request: Request, length: usize) {
        let slot = self.slot;
        // Keeps the reader alive over the call below, whatever becomes of the
        // read meanwhile.
        let Some(during) = slot.enter() else {
            return request.complete(Error::Closing.status(), 0);
        };
        during.reader().read(request, length, self);
    }
}

impl Slot {
    const fn new() -> Self {
        Self {
            state: AtomicU8::new(FREE),
            inside: Rundown::new(),
            reader: AtomicPtr::new(ptr::null_mut()),
        }
    }

    pub(super) fn enter(&'static self) -> Option<Inside> {
        self.inside.acquire_raw().then(|| Inside { slot: self })
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// Initialises every slot's rundown protection and runs it down: nobody comes
/// in before [`open`].
pub(super) fn start() {
    for slot in &SLOTS {
        slot.inside.init();
        slot.inside.wait();
    }
}

/// The mask of active slots in the capture role.
pub(super) fn capturing() -> u32 {
    CAPTURING.load(Ordering::Relaxed)
}

/// The mask of active slots in the divert role.
pub(super) fn diverting() -> u32 {
    DIVERTING.load(Ordering::Relaxed)
}

/// Calls `each` with every reader of a mask, until it returns true; whether it
/// did.
pub(super) fn any_of(mut mask: u32, mut each: impl FnMut(&Reader) -> bool) -> bool {
    while mask != 0 {
        let index = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        if let Some(inside) = at(index).and_then(Slot::enter)
            && each(inside.reader())
        {
            return true;
        }
    }
    false
}

/// Enters the slot of this reader, if it is still there.
pub(super) fn enter(ticket: Ticket) -> Option<Inside> {
    let inside = at(ticket.slot)?.enter()?;
    (inside.reader().id() == ticket.id).then_some(inside)
}

/// The reader of a read that has been accepted and not completed: the read is
/// inside the slot itself, so this needn't enter.
///
/// # Safety
/// A read accepted by the reader of this ticket has not been completed, and is
/// not completed while the result is used.
pub(super) unsafe fn of_accepted_read(ticket: Ticket) -> Option<&'static Reader> {
    let reader = at(ticket.slot)?.reader.load(Ordering::Acquire);
    // SAFETY: the accepted read keeps the slot from running down.
    unsafe { reader.as_ref() }
}

/// Opens a reader in a free slot.
pub(super) fn open(id: u32, role: Role<'_>) -> Result<Ticket, Error> {
    let (index, slot) = (0u32..)
        .zip(&SLOTS)
        .find(|(_, slot)| slot.change(FREE, OPENING))
        .ok_or(Error::TooMany)?;
    let made = claim(index, role).and_then(|()| Ok(Reader::try_new(id, role, slot)?));
    let reader = match made {
        Ok(reader) => reader,
        Err(error) => {
            give_up_claim(index);
            slot.state.store(FREE, Ordering::Release);
            return Err(error);
        }
    };
    slot.reader.store(KBox::into_raw(reader), Ordering::Release);
    slot.inside.reinit();
    slot.state.store(ACTIVE, Ordering::Release);
    let mask = match role {
        Role::Capture(_) => &CAPTURING,
        Role::Divert(_) => &DIVERTING,
    };
    mask.fetch_or(bit(index), Ordering::Relaxed);
    Ok(Ticket { slot: index, id })
}

/// Sees that nobody else diverts frames of the role's adapters, and that nobody
/// else will before [`give_up_claim`].
fn claim(index: u32, role: Role<'_>) -> Result<(), Error> {
    let claim = match (role, role.adapter()) {
        (Role::Capture(_), _) => return Ok(()),
        (Role::Divert(_), None) => Claim::All,
        (Role::Divert(_), Some(adapter)) => Claim::One(adapter.get()),
    };
    let mut claims = CLAIMS.lock();
    if claims.iter().any(|other| other.overlaps(claim)) {
        return Err(Error::Taken);
    }
    if let Some(mine) = usize::try_from(index).ok().and_then(|i| claims.get_mut(i)) {
        *mine = claim;
    }
    Ok(())
}

fn give_up_claim(index: u32) {
    let mut claims = CLAIMS.lock();
    if let Some(mine) = usize::try_from(index).ok().and_then(|i| claims.get_mut(i)) {
        *mine = Claim::None;
    }
}

/// Closes this reader, if it is still there.
pub(super) fn close(ticket: Ticket) {
    // Entering tells whether the slot is this reader's; it can't become another
    // reader's before the one handle that holds the ticket closes it.
    if enter(ticket).is_none() {
        return;
    }
    if let Some(slot) = at(ticket.slot) {
        close_slot(ticket.slot, slot);
    }
}

/// Closes every reader. Nobody opens or closes one meanwhile.
pub(super) fn close_all() {
    for (index, slot) in (0u32..).zip(&SLOTS) {
        close_slot(index, slot);
    }
}

fn close_slot(index: u32, slot: &'static Slot) {
    if !slot.change(ACTIVE, CLOSING) {
        return;
    }
    CAPTURING.fetch_and(!bit(index), Ordering::Relaxed);
    DIVERTING.fetch_and(!bit(index), Ordering::Relaxed);
    if let Some(inside) = slot.enter() {
        inside.reader().close();
    }
    slot.inside.wait();

    let reader = slot.reader.swap(ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: from KBox::into_raw in `open`, with this tag; nobody is inside any
    // more and nobody can come in, so this is the last use.
    let reader = unsafe { KBox::from_raw(reader, TAG) };
    let (lost, given_up) = reader.lost_at_close();
    if lost != 0 {
        log::number(c"reader closed; frames nobody read:", lost);
    }
    if given_up != 0 {
        log::number(c"reader closed; diverted frames it kept:", given_up);
    }
    // Dropping the reader waits for its timer.
    drop(reader);
    give_up_claim(index);
    slot.state.store(FREE, Ordering::Release);
}

fn at(index: u32) -> Option<&'static Slot> {
    SLOTS.get(usize::try_from(index).ok()?)
}

fn bit(index: u32) -> u32 {
    1u32.checked_shl(index).unwrap_or(0)
}
