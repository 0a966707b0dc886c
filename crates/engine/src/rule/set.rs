//! A program with an index over its tuples, and what it decides.

use weir_abi::Direction;

use super::error::ProgramError;
use super::format::MAX_SHAPES;
use super::index::{Entry, Index, Record, part};
use super::key::Key;
use super::program::Program;
use super::view::View;
use super::{Action, build, direction_bits};

/// What the rules say of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Pass, drop or divert.
    pub action: Action,
    /// Index of the rule that decided; `None`: it is the default.
    pub rule: Option<u32>,
    /// Index of the first rule that logs and matched, before the one that decided.
    pub log: Option<u32>,
}

/// A verified program and the index built from it: `P` is the program's bytes,
/// `I` the memory of the index.
#[derive(Debug)]
pub struct RuleSet<P, I> {
    bytes: P,
    words: I,
    index: Index,
    default: Action,
}

impl<P, I> RuleSet<P, I> {
    /// Words of 32 bits that the index of a program needs.
    #[must_use]
    pub fn index_len(program: &Program<'_>) -> usize {
        program.index_len()
    }
}

impl<P: AsRef<[u8]>, I: AsRef<[u32]>> RuleSet<P, I> {
    /// Verifies `bytes` and builds the index in `index`, of at least
    /// [`RuleSet::index_len`] words; what they hold does not matter. Neither may
    /// change while the set exists. It takes n log n steps for n rules and tuples.
    ///
    /// # Errors
    /// What is wrong with the program, and where; or that the memory is too small.
    pub fn build(bytes: P, mut index: I) -> Result<Self, ProgramError>
    where
        I: AsMut<[u32]>,
    {
        let program = Program::verify(bytes.as_ref())?;
        let default = program.default_action();
        let built = build::index(&program, index.as_mut())?;
        Ok(RuleSet {
            bytes,
            words: index,
            index: built,
            default,
        })
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> Program<'_> {
        Program::split(self.bytes.as_ref()).unwrap_or(Program::EMPTY)
    }

    /// The program's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Words of 32 bits that the index was given.
    #[must_use]
    pub fn index_words(&self) -> usize {
        self.words.as_ref().len()
    }

    /// What happens to a frame. `direction`: `None` where it is not known; rules
    /// of both directions are tried then. `hit` is called with the index of each
    /// rule that takes effect, in order: those that log or count, then the one
    /// that decides. Where none decides the default does, and is not called.
    #[inline]
    pub fn decide(
        &self,
        view: &View<'_>,
        direction: Option<Direction>,
        mut hit: impl FnMut(u32),
    ) -> Decision {
        if self.index.notes {
            return self.decide_and_note(view, direction, hit);
        }
        let found = self.search(view, direction).first(self.key(view));
        self.decided(found, None, &mut hit)
    }

    /// As [`RuleSet::decide`], where rules that log or count are among them.
    fn decide_and_note(
        &self,
        view: &View<'_>,
        direction: Option<Direction>,
        mut hit: impl FnMut(u32),
    ) -> Decision {
        let search = self.search(view, direction);
        let key = self.key(view);
        let found = search.first(key);
        let log = search.notes(key.as_ref(), found, &mut hit);
        self.decided(found, log, &mut hit)
    }

    #[inline(always)]
    fn search<'a>(&'a self, view: &'a View<'a>, direction: Option<Direction>) -> Search<'a> {
        Search {
            bytes: self.bytes.as_ref(),
            words: self.words.as_ref(),
            index: &self.index,
            view,
            directions: direction_bits(direction),
        }
    }

    #[inline(always)]
    fn key(&self, view: &View<'_>) -> Option<Key> {
        if self.index.has_tuples {
            Key::of(view)
        } else {
            None
        }
    }

    #[inline(always)]
    fn decided(
        &self,
        found: Option<Entry>,
        log: Option<u32>,
        hit: &mut impl FnMut(u32),
    ) -> Decision {
        let Some(found) = found else {
            return self.by_default(log);
        };
        hit(found.rule());
        Decision {
            action: found.action(),
            rule: Some(found.rule()),
            log,
        }
    }

    fn by_default(&self, log: Option<u32>) -> Decision {
        Decision {
            action: self.default,
            rule: None,
            log,
        }
    }
}

/// A frame on its way through the index.
#[derive(Clone, Copy)]
struct Search<'a> {
    /// The program's. Most frames match no tuple, and nothing of it is needed.
    bytes: &'a [u8],
    words: &'a [u32],
    index: &'a Index,
    view: &'a View<'a>,
    directions: u32,
}

impl<'a> Search<'a> {
    /// The rule that decides.
    ///
    /// Rules that log or count are passed over: they decide nothing, so that of
    /// each shape nothing behind the best rule so far has to be looked at.
    #[inline(always)]
    fn first(self, key: Option<Key>) -> Option<Entry> {
        let mut best = None;
        let mut bound = u32::MAX;
        if let Some(key) = key {
            for shape in self.index.shapes(self.words, key.class) {
                let shape = Record::read(shape);
                // Those that follow start no earlier.
                if shape.first >= bound {
                    break;
                }
                let Some(run) = self.index.find(self.words, self.bytes, &shape, &key) else {
                    continue;
                };
                if let Some(entry) = self.first_in(run, bound, key.whole) {
                    bound = entry.rule();
                    best = Some(entry);
                }
            }
        }
        if !self.index.has_linear {
            return best;
        }
        self.first_linear(bound).or(best)
    }

    /// The first rule of a run that decides, before `bound`.
    #[inline(always)]
    fn first_in(self, run: &[u32], bound: u32, whole: bool) -> Option<Entry> {
        for entry in run {
            let entry = Entry::from_bits(*entry);
            if entry.rule() >= bound {
                return None;
            }
            if entry.action().is_terminal() && self.holds(entry, whole) {
                return Some(entry);
            }
            if entry.is_last() {
                return None;
            }
        }
        None
    }

    #[inline(never)]
    fn first_linear(self, bound: u32) -> Option<Entry> {
        let linear = part(self.words, &self.index.places.linear);
        let entries = linear.iter().map(|e| Entry::from_bits(*e));
        entries
            .take_while(|entry| entry.rule() < bound)
            .filter(|entry| entry.action().is_terminal())
            .find(|entry| self.holds(*entry, false))
    }

    /// Whether a rule, one of whose tuples matches the frame, matches it.
    #[inline(always)]
    fn holds(self, entry: Entry, whole: bool) -> bool {
        if !entry.applies_to(self.directions) {
            return false;
        }
        (whole && !entry.confirms()) || self.matches(entry.rule())
    }

    #[inline(always)]
    fn matches(self, rule: u32) -> bool {
        let rule = Program::split(self.bytes).and_then(|program| program.rule(rule));
        rule.is_some_and(|rule| rule.matches(self.view))
    }

    /// Reports the rules that log or count before the one that decides, in
    /// order; the first that logs.
    fn notes(
        &self,
        key: Option<&Key>,
        decides: Option<Entry>,
        hit: &mut impl FnMut(u32),
    ) -> Option<u32> {
        let bound = decides.map_or(u32::MAX, Entry::rule);
        let mut runs = Runs::default();
        if let Some(key) = key {
            for shape in self.index.shapes(self.words, key.class) {
                let shape = Record::read(shape);
                if shape.notes
                    && let Some(run) = self.index.find(self.words, self.bytes, &shape, key)
                {
                    runs.add(run);
                }
            }
        }
        let whole = key.is_some_and(|key| key.whole);
        let mut linear = part(self.words, &self.index.places.linear);
        let mut log = None;
        loop {
            let first = linear.first().map(|entry| Entry::from_bits(*entry));
            let rule = match (runs.lowest(), first) {
                (Some(a), Some(b)) => a.min(b.rule()),
                (Some(a), None) => a,
                (None, Some(b)) => b.rule(),
                (None, None) => return log,
            };
            if rule >= bound {
                return log;
            }
            let mut matched = runs.take(rule, |entry| {
                !entry.action().is_terminal() && self.holds(entry, whole)
            });
            if let Some(entry) = first.filter(|entry| entry.rule() == rule) {
                linear = linear.get(1..).unwrap_or_default();
                let notes = !entry.action().is_terminal() && self.holds(entry, false);
                matched = notes.then_some(entry);
            }
            if let Some(entry) = matched {
                hit(rule);
                if entry.action() == Action::Log {
                    log = log.or(Some(rule));
                }
            }
        }
    }
}

/// The runs a frame has found, one for each shape, read side by side.
struct Runs<'a> {
    runs: [&'a [u32]; MAX_SHAPES as usize],
    count: usize,
}

impl Default for Runs<'_> {
    fn default() -> Self {
        Runs {
            runs: [&[]; MAX_SHAPES as usize],
            count: 0,
        }
    }
}

impl<'a> Runs<'a> {
    fn add(&mut self, run: &'a [u32]) {
        if let Some(place) = self.runs.get_mut(self.count) {
            *place = run;
            self.count = self.count.saturating_add(1);
        }
    }

    /// The rule that comes next in any of the runs.
    fn lowest(&self) -> Option<u32> {
        let open = self.runs.iter().take(self.count);
        let next = open.filter_map(|run| run.first());
        next.map(|entry| Entry::from_bits(*entry).rule()).min()
    }

    /// Passes over the entries of a rule, which is the lowest; one of them that
    /// `holds`.
    fn take(&mut self, rule: u32, holds: impl Fn(Entry) -> bool) -> Option<Entry> {
        let mut found = None;
        for run in self.runs.iter_mut().take(self.count) {
            // A run may have several tuples of one rule, if they say the same.
            while let Some((first, rest)) = run.split_first() {
                let entry = Entry::from_bits(*first);
                if entry.rule() != rule {
                    break;
                }
                *run = if entry.is_last() { &[] } else { rest };
                if found.is_none() && holds(entry) {
                    found = Some(entry);
                }
            }
        }
        found
    }
}
