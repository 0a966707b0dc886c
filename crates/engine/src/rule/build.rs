//! Building the index of a program.

use core::ops::Range;

use super::Action;
use super::error::{Counted, ProgramError, RuleFault};
use super::format::{MAX_FRAME_INSNS, MAX_SHAPES, RuleEntry};
use super::index::{Entry, Index, PROBES, RECORD, Record, Seed, Sizes, place, slot};
use super::key::{self, CLASSES, Class, Fields, Words};
use super::program::{Program, Shape, confirms};
use super::sort::heap_sort;

/// How often a table is tried with another seed before it is given up. A table
/// at most a quarter full practically always succeeds with the first.
const ATTEMPTS: u64 = 8;

/// Builds the index of a verified program in `words`.
pub(super) fn index(program: &Program<'_>, words: &mut [u32]) -> Result<Index, ProgramError> {
    let sizes = Sizes::of(program);
    let memory = ProgramError::Memory {
        have: words.len(),
        need: sizes.total(),
    };
    let mut parts = PartsMut::split(&sizes, words).ok_or(memory)?;
    names_differ(program, parts.linear)?;
    let linear = linear(program, parts.linear);
    sort(program, parts.order);
    enter(program, parts.order, parts.entries);
    let mut groups = Groups::default();
    groups.collect(program, &parts);
    groups.check_cost(linear.insns)?;
    let (seed, classes) = groups.hash(program, &mut parts)?;
    let sizes = Sizes {
        linear: linear.rules,
        ..sizes
    };
    let places = sizes.places();
    let shapes_at = places.shapes.start;
    Ok(Index {
        places,
        seed,
        classes: classes.map(|(start, end)| {
            let at = |shape: usize| shapes_at.saturating_add(shape.saturating_mul(RECORD));
            at(start)..at(end)
        }),
        has_tuples: sizes.tuples != 0,
        has_linear: sizes.linear != 0,
        notes: linear.notes || groups.each().any(|group| group.notes),
    })
}

struct PartsMut<'a> {
    slots: &'a mut [u32],
    order: &'a mut [u32],
    entries: &'a mut [u32],
    shapes: &'a mut [[u32; RECORD]],
    linear: &'a mut [u32],
}

impl<'a> PartsMut<'a> {
    fn split(sizes: &Sizes, words: &'a mut [u32]) -> Option<Self> {
        let (slots, rest) = words.split_at_mut_checked(sizes.slots)?;
        let (order, rest) = rest.split_at_mut_checked(sizes.tuples)?;
        let (entries, rest) = rest.split_at_mut_checked(sizes.tuples)?;
        let (shapes, rest) = rest.split_at_mut_checked(sizes.shapes)?;
        let (shapes, _) = shapes.as_chunks_mut();
        Some(PartsMut {
            slots,
            order,
            entries,
            shapes,
            linear: rest.get_mut(..sizes.linear)?,
        })
    }
}

fn count_up(items: &mut [u32]) {
    for (value, item) in (0u32..).zip(items) {
        *item = value;
    }
}

/// `scratch`: a word for each rule.
fn names_differ(program: &Program<'_>, scratch: &mut [u32]) -> Result<(), ProgramError> {
    count_up(scratch);
    heap_sort(scratch, |a, b| (program.name(a), a) < (program.name(b), b));
    // Reported is the first rule in the file that takes another's name.
    let mut worst: Option<(u32, u32)> = None;
    for pair in scratch.windows(2) {
        if let [by, rule] = *pair
            && program.name(by) == program.name(rule)
            && worst.is_none_or(|(earlier, _)| rule < earlier)
        {
            worst = Some((rule, by));
        }
    }
    match worst {
        None => Ok(()),
        Some((rule, by)) => Err(ProgramError::Rule {
            rule,
            fault: RuleFault::NameTaken { by },
        }),
    }
}

struct Linear {
    rules: usize,
    insns: u64,
    notes: bool,
}

/// Lists the rules without tuples.
fn linear(program: &Program<'_>, list: &mut [u32]) -> Linear {
    let mut found = Linear {
        rules: 0,
        insns: 0,
        notes: false,
    };
    let rules = (0u32..).zip(program.rules.iter().map(|rule| rule.get()));
    let linear = rules.filter(|(_, rule)| rule.tuple_count == 0);
    for ((index, rule), place) in linear.zip(list) {
        let entry = entry(index, &rule, true);
        *place = entry.to_bits();
        found.rules = found.rules.saturating_add(1);
        found.insns = found.insns.saturating_add(u64::from(rule.insn_count));
        found.notes |= !entry.action().is_terminal();
    }
    found
}

fn entry(index: u32, rule: &RuleEntry, confirm: bool) -> Entry {
    let action = Action::from_format(rule.action).unwrap_or(Action::Count);
    Entry::new(index, action, rule.directions, confirm)
}

/// What tuples of one run have in common.
fn sort_key(program: &Program<'_>, tuple: u32) -> Option<(u32, Words)> {
    let tuple = program.tuple(tuple)?;
    Some((Shape::of(&tuple).to_bits(), key::of_tuple(&tuple)))
}

/// Sorts the tuples by shape and fields, then by rule, which is the order they
/// have in the program.
fn sort(program: &Program<'_>, order: &mut [u32]) {
    count_up(order);
    heap_sort(order, |a, b| {
        (sort_key(program, a), a) < (sort_key(program, b), b)
    });
}

/// The index of the rule that a tuple belongs to.
fn rule_of(program: &Program<'_>, tuple: u32) -> u32 {
    let behind = program
        .rules
        .partition_point(|rule| rule.get().tuple_start <= tuple);
    u32::try_from(behind).unwrap_or(0).saturating_sub(1)
}

/// Makes the entries of the sorted tuples, the last of each run marked.
fn enter(program: &Program<'_>, order: &[u32], entries: &mut [u32]) {
    for (at, (tuple, place)) in order.iter().zip(entries).enumerate() {
        let rule = rule_of(program, *tuple);
        let Some(parsed) = usize::try_from(rule)
            .ok()
            .and_then(|i| program.rules.get(i))
        else {
            continue;
        };
        let confirm = program.tuple(*tuple).is_none_or(|tuple| confirms(&tuple));
        let entry = entry(rule, &parsed.get(), confirm);
        let next = order.get(at.saturating_add(1));
        let goes_on =
            next.is_some_and(|next| sort_key(program, *next) == sort_key(program, *tuple));
        let entry = if goes_on { entry } else { entry.as_last() };
        *place = entry.to_bits();
    }
}

/// The tuples of one shape.
#[derive(Clone, Copy)]
struct Group {
    shape: Shape,
    class: Class,
    /// The first terminal rule.
    first: u32,
    notes: bool,
    /// Instructions of the rules in the run that has most of them, and entries
    /// of the run that has most of these.
    cost: (u64, u64),
}

/// The shapes of a program.
struct Groups {
    all: [Option<Group>; MAX_SHAPES as usize],
}

impl Default for Groups {
    fn default() -> Self {
        Groups {
            all: [None; MAX_SHAPES as usize],
        }
    }
}

impl Groups {
    fn each(&self) -> impl Iterator<Item = &Group> {
        self.all.iter().flatten()
    }

    fn collect(&mut self, program: &Program<'_>, parts: &PartsMut<'_>) {
        let mut groups = self.all.iter_mut();
        let mut current: Option<&mut Group> = None;
        let mut run = (0u64, 0u64);
        for (tuple, entry) in parts.order.iter().zip(&*parts.entries) {
            let (Some(tuple), entry) = (program.tuple(*tuple), Entry::from_bits(*entry)) else {
                continue;
            };
            let shape = Shape::of(&tuple);
            if current.as_ref().is_none_or(|group| group.shape != shape) {
                let Some(class) = Class::from_format(shape.class) else {
                    continue;
                };
                current = groups.next().map(|place| {
                    place.insert(Group {
                        shape,
                        class,
                        first: u32::MAX,
                        notes: false,
                        cost: (0, 0),
                    })
                });
            }
            let Some(group) = current.as_deref_mut() else {
                continue;
            };
            if entry.action().is_terminal() {
                group.first = group.first.min(entry.rule());
            } else {
                group.notes = true;
            }
            let code = program
                .rule(entry.rule())
                .map_or(0, |rule| rule.code().len());
            run.0 = run
                .0
                .saturating_add(u64::try_from(code).unwrap_or(u64::MAX));
            run.1 = run.1.saturating_add(1);
            if entry.is_last() {
                group.cost = (group.cost.0.max(run.0), group.cost.1.max(run.1));
                run = (0, 0);
            }
        }
        // At most 64, and mostly in order: by class, the earliest rules first.
        let order =
            |group: &Option<Group>| group.map_or((usize::MAX, 0), |g| (g.class.index(), g.first));
        for end in 1..self.all.len() {
            for at in (0..end).rev() {
                if let Some([a, b]) = self.all.get_mut(at..).and_then(<[_]>::first_chunk_mut)
                    && order(b) < order(a)
                {
                    core::mem::swap(a, b);
                }
            }
        }
    }

    /// Checks what one frame could cost: the linear rules, and one run of each
    /// shape of its class. Where notes of several shapes are put in order, an
    /// entry costs a look at each shape as well.
    fn check_cost(&self, linear: u64) -> Result<(), ProgramError> {
        for class in [Class::Ipv4, Class::Ipv6, Class::Arp, Class::Rarp] {
            let groups = || self.each().filter(|group| group.class == class);
            let noting = groups().filter(|group| group.notes).count();
            let noting = u64::try_from(noting).unwrap_or(u64::MAX);
            let have = groups().fold(linear, |sum, group| {
                let (insns, entries) = group.cost;
                let looks = if group.notes { noting } else { 0 };
                sum.saturating_add(insns)
                    .saturating_add(entries.saturating_mul(looks))
            });
            if have > u64::from(MAX_FRAME_INSNS) {
                return Err(ProgramError::TooMany {
                    what: Counted::FrameInstructions,
                    have,
                    most: MAX_FRAME_INSNS,
                });
            }
        }
        Ok(())
    }

    /// Writes the shapes and fills the hash table.
    fn hash(
        &self,
        program: &Program<'_>,
        parts: &mut PartsMut<'_>,
    ) -> Result<(Seed, [(usize, usize); CLASSES]), ProgramError> {
        for attempt in 0..ATTEMPTS {
            let seed = Seed::new(attempt);
            if fill(program, parts, &seed) {
                return Ok((seed, self.write(parts.shapes, &seed)));
            }
        }
        Err(ProgramError::Collisions)
    }

    fn write(&self, records: &mut [[u32; RECORD]], seed: &Seed) -> [(usize, usize); CLASSES] {
        let mut classes = [(0usize, 0usize); CLASSES];
        for (at, (group, place)) in self.each().zip(records).enumerate() {
            let shape = group.shape;
            let record = Record {
                shape,
                needed: Fields::needed(shape),
                first: group.first,
                notes: group.notes,
                mask: key::mask(shape),
                salt: seed.salt(shape),
            };
            *place = record.write();
            if let Some((start, end)) = classes.get_mut(group.class.index()) {
                if start == end {
                    *start = at;
                }
                *end = at.saturating_add(1);
            }
        }
        classes
    }
}

/// Enters every run into the hash table. False if one would lie too far from
/// its place.
fn fill(program: &Program<'_>, parts: &mut PartsMut<'_>, seed: &Seed) -> bool {
    parts.slots.fill(0);
    let mask = parts.slots.len().wrapping_sub(1);
    let mut is_first = true;
    for (start, (tuple, entry)) in (0u32..).zip(parts.order.iter().zip(&*parts.entries)) {
        let begins = core::mem::replace(&mut is_first, Entry::from_bits(*entry).is_last());
        if !begins {
            continue;
        }
        let Some(tuple) = program.tuple(*tuple) else {
            return false;
        };
        let shape = Shape::of(&tuple);
        let wide = Class::from_format(shape.class).is_some_and(Class::is_wide);
        let hash = seed.hash(seed.salt(shape), &key::of_tuple(&tuple), wide);
        let (first, tag) = place(hash, parts.slots.len());
        let tried: Range<usize> = first..first.saturating_add(PROBES);
        let free = tried
            .map(|at| at & mask)
            .find(|at| parts.slots.get(*at) == Some(&0));
        let Some(free) = free.and_then(|at| parts.slots.get_mut(at)) else {
            return false;
        };
        *free = slot(tag, start);
    }
    true
}
