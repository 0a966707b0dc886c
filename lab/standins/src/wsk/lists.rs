//! Lists of received data as event callbacks get them: made, lent to a client,
//! kept by it, released.
//!
//! A `WSK_BUF` may begin anywhere in its first MDL, go over several, and end
//! before the last does; a list may have several elements. Here they do, as the
//! seed has it, so that a client that takes the short way is found out.

use super::addr::RawAddr;
use super::datagram::Arrived;
use super::engine::{self, lock};
use super::types::{Mdl, WskBuf, WskDataIndication, WskDatagramIndication};
use crate::core::Rule;
use crate::nt::mdl::flags;
use std::any::Any;
use std::collections::VecDeque;
use std::ptr::null_mut;
use std::sync::Mutex;

const PAGE: usize = 4096;
/// Most bytes before the data in its first MDL, as of headers, and behind it.
const AHEAD: u64 = 54;
const BEHIND: u64 = 8;
/// What released memory holds, and where a released list goes on.
const POISON: u8 = 0xD5;
const NOWHERE: usize = 0xD5D5_D5D5_D5D5_D5D5;
/// Released elements whose memory stays, so that who reads them late reads
/// poison.
const GONE_KEPT: usize = 64;

/// A WSK_DATA_INDICATION or WSK_DATAGRAM_INDICATION.
pub(super) trait Indication: Copy + PartialEq + 'static {
    fn next(&self) -> *mut Self;
    fn set_next(&mut self, next: *mut Self);
    fn set_buffer(&mut self, buffer: WskBuf);
    /// The callback that is given such a list.
    const CALLBACK: &'static str;
}

impl Indication for WskDataIndication {
    const CALLBACK: &'static str = "WskReceiveEvent";
    fn next(&self) -> *mut Self {
        self.next
    }
    fn set_next(&mut self, next: *mut Self) {
        self.next = next;
    }
    fn set_buffer(&mut self, buffer: WskBuf) {
        self.buffer = buffer;
    }
}

impl Indication for WskDatagramIndication {
    const CALLBACK: &'static str = "WskReceiveFromEvent";
    fn next(&self) -> *mut Self {
        self.next
    }
    fn set_next(&mut self, next: *mut Self) {
        self.next = next;
    }
    fn set_buffer(&mut self, buffer: WskBuf) {
        self.buffer = buffer;
    }
}

/// Memory behind one element: bytes, MDLs over them, and for a datagram the
/// address it came from and its control information.
struct Piece {
    mdls: Box<[Mdl]>,
    offset: u32,
    length: usize,
    remote: Option<RawAddr>,
    control: Vec<u8>,
    bytes: Box<[u8]>,
}

fn mdl_over(start: *mut u8, length: usize) -> Mdl {
    let offset = start as usize % PAGE;
    Mdl {
        Next: null_mut(),
        Size: size_of::<Mdl>() as i16,
        MdlFlags: flags::SOURCE_IS_NONPAGED_POOL,
        Reserved: 0,
        Process: null_mut(),
        MappedSystemVa: start.cast(),
        StartVa: start.wrapping_sub(offset).cast(),
        ByteCount: u32::try_from(length).unwrap_or(u32::MAX),
        ByteOffset: offset as u32,
    }
}

/// A number below `below`, and quite often 0.
fn some(below: u64) -> usize {
    if engine::random() & 1 == 0 {
        0
    } else {
        (engine::random() % below) as usize
    }
}

impl Piece {
    fn new(data: &[u8], remote: Option<RawAddr>, control: Vec<u8>) -> Self {
        let (ahead, behind) = (some(AHEAD), some(BEHIND));
        let mut bytes = vec![POISON; ahead + data.len() + behind].into_boxed_slice();
        bytes[ahead..ahead + data.len()].copy_from_slice(data);
        let start = bytes.as_mut_ptr();
        // The second MDL begins within the data.
        let cut = match some(data.len() as u64) {
            0 => bytes.len(),
            at => ahead + at,
        };
        let mut mdls = vec![mdl_over(start, cut)];
        if cut < bytes.len() {
            mdls.push(mdl_over(start.wrapping_add(cut), bytes.len() - cut));
        }
        let mut mdls = mdls.into_boxed_slice();
        if let [first, second] = &mut *mdls {
            first.Next = &raw mut *second;
        }
        Self {
            mdls,
            offset: ahead as u32,
            length: data.len(),
            remote,
            control,
            bytes,
        }
    }

    fn buffer(&mut self) -> WskBuf {
        WskBuf {
            mdl: self.mdls.as_mut_ptr(),
            offset: self.offset,
            length: self.length,
        }
    }
}

/// An element of a list. The client sees its first field.
#[repr(C)]
struct Element<E> {
    public: E,
    /// The first field as it was made.
    made: E,
    piece: Piece,
}

// SAFETY: its pointers are to its own memory, and to the next element, which is
// only followed by who has the list.
unsafe impl<E> Send for Element<E> {}

/// Elements that were released last.
static GONE: Mutex<VecDeque<Box<dyn Any + Send>>> = Mutex::new(VecDeque::new());

/// Puts an element before `next`.
fn element<E: Indication>(public: E, mut piece: Piece, next: *mut E) -> *mut E {
    let mut public = public;
    public.set_buffer(piece.buffer());
    public.set_next(next);
    Box::into_raw(Box::new(Element {
        public,
        made: public,
        piece,
    }))
    .cast()
}

/// The list for `data`, in elements of `most` bytes at most.
pub(super) fn of_data(data: &[u8], most: Option<usize>) -> *mut WskDataIndication {
    let whole = data.len().max(1);
    let most = most.unwrap_or_else(|| whole.div_ceil(1 + some(3)));
    let mut list = null_mut();
    for part in data.chunks(most.max(1)).rev() {
        let public = WskDataIndication {
            next: null_mut(),
            buffer: WskBuf {
                mdl: null_mut(),
                offset: 0,
                length: 0,
            },
        };
        list = element(public, Piece::new(part, None, Vec::new()), list);
    }
    list
}

/// The list for datagrams, an element for each.
pub(super) fn of_datagrams(datagrams: Vec<Arrived>) -> *mut WskDatagramIndication {
    let mut list = null_mut();
    for arrived in datagrams.into_iter().rev() {
        let piece = Piece::new(&arrived.data, arrived.from, arrived.control);
        let length = piece.control.len() as u32;
        let made = element(
            WskDatagramIndication {
                next: null_mut(),
                buffer: WskBuf {
                    mdl: null_mut(),
                    offset: 0,
                    length: 0,
                },
                control_info: null_mut(),
                control_info_length: length,
                remote_address: null_mut(),
            },
            piece,
            list,
        );
        // SAFETY: made just now, and nobody else has it yet.
        let element = unsafe { &mut *made.cast::<Element<WskDatagramIndication>>() };
        // Where these are is known when the piece has its place.
        if let Some(remote) = &element.piece.remote {
            element.public.remote_address = remote.as_ptr().cast_mut();
        }
        if length > 0 {
            element.public.control_info = element.piece.control.as_mut_ptr().cast();
        }
        element.made = element.public;
        list = made;
    }
    list
}

/// Takes a list apart; what the client did to it shows here.
fn free<E: Indication>(mut list: *mut E) {
    while !list.is_null() {
        // SAFETY: made by `element`, and freed once: its owner gave it back.
        let mut element = unsafe { Box::from_raw(list.cast::<Element<E>>()) };
        if element.public != element.made {
            violate!(
                Rule::LabWskRelease,
                "{} was given {list:?}, which is not as it was any more",
                E::CALLBACK
            );
        }
        list = element.made.next();
        element
            .public
            .set_next(std::ptr::without_provenance_mut(NOWHERE));
        element.piece.bytes.fill(POISON);
        let mut gone = lock(&GONE);
        gone.push_back(element);
        if gone.len() > GONE_KEPT {
            gone.pop_front();
        }
    }
}

/// One list that a client has.
struct Lent<E> {
    list: *mut E,
    /// The callback that it was given to still runs.
    running: bool,
    asap: bool,
}

/// The lists that the client of one socket has.
pub(super) struct Lists<E>(Vec<Lent<E>>);

impl<E: Indication> Lists<E> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Lists it has kept, their callbacks done.
    pub(super) fn kept(&self) -> usize {
        self.0.iter().filter(|one| !one.running).count()
    }

    /// A callback is about to be given the list.
    pub(super) fn lend(&mut self, list: *mut E, asap: bool) {
        self.0.push(Lent {
            list,
            running: true,
            asap,
        });
    }

    /// The callback gave its list back by returning: it must not have released
    /// it.
    pub(super) fn take_back(&mut self, list: *mut E) {
        match self.0.iter().position(|one| one.list == list) {
            Some(at) => {
                self.0.swap_remove(at);
                free(list);
            }
            None => violate!(
                Rule::LabWskRelease,
                "a data indication was released with WskRelease and given back by the callback too"
            ),
        }
    }

    /// The callback kept its list (and may have released it by now). Whether it
    /// had been asked to give it back soon.
    pub(super) fn keep(&mut self, list: *mut E, closed: bool) -> bool {
        let Some(one) = self.0.iter_mut().find(|one| one.list == list) else {
            return false;
        };
        if closed {
            violate!(
                Rule::LabWskRetained,
                "a callback kept its data indication on a socket that is being closed"
            );
        }
        one.running = false;
        one.asap
    }

    /// `WskRelease`: takes the list out, to be freed.
    pub(super) fn release(&mut self, list: *mut E) -> Released<E> {
        if let Some(at) = self.0.iter().position(|one| one.list == list) {
            self.0.swap_remove(at);
            return Released(list);
        }
        if self.0.iter().any(|one| has(one.list, list)) {
            violate!(
                Rule::LabWskRelease,
                "WskRelease of {list:?}, which is a part of a list that {} kept: lists are \
                 released as a whole",
                E::CALLBACK
            );
        }
        violate!(
            Rule::LabWskRelease,
            "WskRelease of {list:?}, which is not a list that {} kept",
            E::CALLBACK
        );
    }
}

/// How many elements a list has that was just made.
pub(super) fn length(list: *mut WskDataIndication) -> usize {
    let (mut now, mut count) = (list, 0);
    while !now.is_null() {
        count += 1;
        // SAFETY: made by `of_data`, and nobody else has it yet.
        now = unsafe { (*now).next };
    }
    count
}

/// Whether `element` is one of the list's.
fn has<E: Indication>(list: *mut E, element: *mut E) -> bool {
    let mut now = list;
    while !now.is_null() {
        if now == element {
            return true;
        }
        // SAFETY: a list that the client has is alive until it is released.
        now = unsafe { &(*now.cast::<Element<E>>()).made }.next();
    }
    false
}

/// A released list; freed without the socket's lock.
pub(super) struct Released<E: Indication>(*mut E);

impl<E: Indication> Released<E> {
    pub(super) fn free(self) {
        free(self.0);
    }
}
