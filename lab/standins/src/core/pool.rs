//! Pool: tagged, counted, with canaries around each block, poison in freed
//! ones, and a quarantine that finds writes after free.

use std::alloc::{self as heap, Layout};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use super::{Rule, fault, irql, stack};
use crate::nt::active;

const CANARY: u8 = 0xCB;
const FRESH: u8 = 0xA5;
const FREED: u8 = 0xDF;
const GUARD: usize = 32;
const PAGE: usize = 4096;
const QUARANTINE_BYTES: usize = 8 << 20;

#[derive(Clone, Copy)]
struct Block {
    /// Start of the underlying allocation.
    base: usize,
    layout: Layout,
    size: usize,
    tag: u32,
    caller: u32,
    number: u64,
}

struct State {
    live: BTreeMap<usize, Block>,
    /// Quarantine, oldest first, and by address with who freed it.
    freed: VecDeque<usize>,
    freed_at: BTreeMap<usize, (Block, u32)>,
    freed_bytes: usize,
}

static STATE: Mutex<State> = Mutex::new(State {
    live: BTreeMap::new(),
    freed: VecDeque::new(),
    freed_at: BTreeMap::new(),
    freed_bytes: 0,
});

fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    // A poisoned lock means a panic inside; the state is still consistent
    // enough to name the block in question.
    let mut state = STATE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    f(&mut state)
}

/// A tag as its four characters.
pub fn tag_name(tag: u32) -> String {
    tag.to_le_bytes()
        .iter()
        .map(|b| {
            if b.is_ascii_graphic() || *b == b' ' {
                char::from(*b)
            } else {
                '.'
            }
        })
        .collect()
}

fn bytes(address: usize, len: usize) -> &'static [u8] {
    // SAFETY: callers pass ranges inside a block that is live or quarantined.
    unsafe { std::slice::from_raw_parts(address as *const u8, len) }
}

fn fill(address: usize, len: usize, value: u8) {
    // SAFETY: callers pass ranges inside a block they own.
    unsafe { std::ptr::write_bytes(address as *mut u8, value, len) }
}

/// Allocates `size` bytes under `tag`; null when out of memory or injected.
pub fn alloc(size: usize, tag: u32, zero: bool) -> *mut u8 {
    if size == 0 || tag == 0 {
        violate!(Rule::LabPoolZeroSize, "{size} bytes with tag {tag:#x}");
    }
    irql::require_max_rule(
        Rule::IrqlExAllocatePool,
        "pool allocation",
        irql::DISPATCH_LEVEL,
    );
    if fault::alloc_should_fail_named(&tag_name(tag)) {
        return std::ptr::null_mut();
    }
    // Blocks of a page and more start on a page, like the kernel's.
    let align = if size >= PAGE { PAGE } else { 16 };
    let front = align.max(GUARD);
    let Some(total) = size.checked_add(front).and_then(|n| n.checked_add(GUARD)) else {
        return std::ptr::null_mut();
    };
    let Ok(layout) = Layout::from_size_align(total, align) else {
        return std::ptr::null_mut();
    };
    // SAFETY: the layout's size is not zero.
    let base = unsafe { heap::alloc(layout) } as usize;
    if base == 0 {
        return std::ptr::null_mut();
    }
    let address = base + front;
    fill(base, front, CANARY);
    fill(address, size, if zero { 0 } else { FRESH });
    fill(address + size, GUARD, CANARY);
    let block = Block {
        base,
        layout,
        size,
        tag,
        caller: stack::caller_rva(),
        number: fault::alloc_count(),
    };
    with(|s| s.live.insert(address, block));
    address as *mut u8
}

fn describe(address: usize, b: &Block) -> String {
    format!(
        "block {address:#x}, {} bytes, tag '{}', allocation {} by driver+0x{:x}",
        b.size,
        tag_name(b.tag),
        b.number,
        b.caller
    )
}

fn check_canaries(address: usize, b: &Block) {
    let front = address - b.base;
    if bytes(b.base, front).iter().any(|v| *v != CANARY) {
        violate!(
            Rule::LabPoolOverrun,
            "written in front of {}",
            describe(address, b)
        );
    }
    if let Some(at) = bytes(address + b.size, GUARD)
        .iter()
        .position(|v| *v != CANARY)
    {
        violate!(
            Rule::LabPoolOverrun,
            "written {at} bytes behind the end of {}",
            describe(address, b)
        );
    }
}

fn check_poison(address: usize, b: &Block, freed_by: u32) {
    if let Some(at) = bytes(address, b.size).iter().position(|v| *v != FREED) {
        violate!(
            Rule::LabPoolUseAfterFree,
            "offset {at} written after free (freed by driver+0x{freed_by:x}): {}",
            describe(address, b)
        );
    }
}

/// Frees a block. With `tag`, it must be the tag it was allocated with.
pub fn free(ptr: *mut u8, tag: Option<u32>) {
    irql::require_max_rule(Rule::IrqlExFree, "pool free", irql::DISPATCH_LEVEL);
    let address = ptr as usize;
    let Some(block) = with(|s| s.live.get(&address).copied()) else {
        let old = with(|s| s.freed_at.get(&address).copied());
        if let Some((b, by)) = old {
            violate!(
                Rule::LabPoolDoubleFree,
                "freed before by driver+0x{by:x}: {}",
                describe(address, &b)
            );
        }
        violate!(
            Rule::LabPoolBadFree,
            "{address:#x} is not the start of a pool block"
        );
    };
    if let Some(tag) = tag
        && tag != block.tag
    {
        violate!(
            Rule::LabPoolWrongTag,
            "freed with tag '{}': {}",
            tag_name(tag),
            describe(address, &block)
        );
    }
    check_canaries(address, &block);
    if let Some((rule, what)) = active::inside(address, block.size) {
        violate!(
            rule,
            "{what} in freed memory: {}",
            describe(address, &block)
        );
    }
    let by = stack::caller_rva();
    let removed = with(|s| s.live.remove(&address));
    if removed.is_none() {
        violate!(
            Rule::LabPoolDoubleFree,
            "freed by two threads: {}",
            describe(address, &block)
        );
    }
    fill(address, block.size, FREED);
    let out = with(|s| {
        s.freed.push_back(address);
        s.freed_at.insert(address, (block, by));
        s.freed_bytes += block.layout.size();
        let mut out = Vec::new();
        while s.freed_bytes > QUARANTINE_BYTES {
            let Some(oldest) = s.freed.pop_front() else {
                break;
            };
            if let Some((block, by)) = s.freed_at.remove(&oldest) {
                s.freed_bytes -= block.layout.size();
                out.push((oldest, block, by));
            }
        }
        out
    });
    for (address, block, by) in out {
        release(address, &block, by);
    }
}

fn release(address: usize, block: &Block, by: u32) {
    check_poison(address, block, by);
    // SAFETY: `base` came from `alloc` with this layout, and the block left
    // both tables, so nobody frees it again.
    unsafe { heap::dealloc(block.base as *mut u8, block.layout) }
}

/// The live block that contains `address`, as (start, size).
pub fn find(address: usize) -> Option<(usize, usize)> {
    with(|s| {
        s.live
            .range(..=address)
            .next_back()
            .filter(|(start, b)| address < **start + b.size)
            .map(|(start, b)| (*start, b.size))
    })
}

/// Whether `address` lies in a block that was freed (and is in quarantine).
pub fn is_freed(address: usize) -> bool {
    with(|s| {
        let below = s.freed_at.range(..=address).next_back();
        below.is_some_and(|(start, (block, _))| address < start + block.size)
    })
}

/// Live blocks and bytes by tag.
pub fn by_tag() -> BTreeMap<String, (u64, u64)> {
    with(|s| {
        let mut out = BTreeMap::new();
        for b in s.live.values() {
            let entry = out.entry(tag_name(b.tag)).or_insert((0, 0));
            entry.0 += 1;
            entry.1 += b.size as u64;
        }
        out
    })
}

/// One line for each live block.
pub fn leaks() -> Vec<String> {
    with(|s| s.live.iter().map(|(a, b)| describe(*a, b)).collect())
}

/// Checks the canaries of all live blocks and the poison of all freed ones.
pub fn verify() {
    let (live, freed) = with(|s| (s.live.clone(), s.freed_at.clone()));
    for (address, block) in live {
        check_canaries(address, &block);
    }
    for (address, (block, by)) in freed {
        check_poison(address, &block, by);
    }
}

/// Ends a session: lets go of the quarantine, and of what leaked.
pub fn session_end() {
    let freed = with(|s| {
        s.freed_bytes = 0;
        s.live.clear();
        s.freed.clear();
        std::mem::take(&mut s.freed_at)
    });
    for (address, (block, by)) in freed {
        release(address, &block, by);
    }
}
