//! The tree in which sockets are found by id: it has what was put in, in order, and
//! is never deep.

#[path = "../../driver/src/socket/tree.rs"]
mod tree;

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use tree::{Keyed, Links, Tree};

struct Item {
    key: u64,
    links: Links<Item>,
}

thread_local! {
    /// How often a key was looked at.
    static LOOKED: Cell<u32> = const { Cell::new(0) };
}

impl Keyed for Item {
    fn key(&self) -> u64 {
        LOOKED.set(LOOKED.get() + 1);
        self.key
    }

    fn links(&self) -> &Links<Self> {
        &self.links
    }
}

fn item(key: u64) -> Box<Item> {
    Box::new(Item {
        key,
        links: Links::new(),
    })
}

/// A tree beside a map that has the same things in it, and owns them.
struct Both {
    tree: Tree<Item>,
    map: BTreeMap<u64, *mut Item>,
}

impl Both {
    fn new() -> Self {
        Both {
            tree: Tree::new(),
            map: BTreeMap::new(),
        }
    }

    fn put(&mut self, key: u64) {
        if self.map.contains_key(&key) {
            return;
        }
        let item = Box::into_raw(item(key));
        self.map.insert(key, item);
        // SAFETY: not there yet; it stays until `take`.
        unsafe { self.tree.insert(item) };
    }

    fn take(&mut self, key: u64) {
        if let Some(item) = self.map.remove(&key) {
            // SAFETY: put in by `put`.
            unsafe { self.tree.remove(item) };
            // SAFETY: of `put`, and in the tree no more.
            let item = unsafe { Box::from_raw(item) };
            assert!(!item.links.is_linked());
        }
    }

    fn check(&self) {
        let mut walked = Vec::new();
        let mut last = None;
        while let Some(found) = self.tree.above(last) {
            assert!(found.links.is_linked());
            walked.push(found.key);
            last = Some(found.key);
        }
        assert!(walked.iter().eq(self.map.keys()));
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        let keys: Vec<u64> = self.map.keys().copied().collect();
        for key in keys {
            self.take(key);
        }
    }
}

proptest! {
    #[test]
    fn it_is_what_a_map_is(steps in prop::collection::vec((0u64..60, any::<bool>()), 0..200)) {
        let mut both = Both::new();
        for (key, put) in steps {
            // The highest keys too.
            let key = if key > 50 { u64::MAX - key + 50 } else { key };
            if put {
                both.put(key);
            } else {
                both.take(key);
            }
            prop_assert_eq!(both.tree.get(key).is_some(), put);
            let above = both.map.range(key.saturating_add(1)..).next().map(|(key, _)| *key);
            let above = above.filter(|above| *above > key);
            prop_assert_eq!(both.tree.above(Some(key)).map(|found| found.key), above);
        }
        both.check();
    }
}

#[test]
fn ids_in_order_make_it_no_deeper() {
    let mut both = Both::new();
    for key in 1..=10_000 {
        both.put(key);
    }
    both.check();
    // Every other one goes, as of connections that come and go.
    for key in (1..=10_000).step_by(2) {
        both.take(key);
    }
    both.check();
    for key in 10_001..=15_000 {
        both.put(key);
    }
    both.check();
    let mut most = 0;
    for key in both.map.keys() {
        LOOKED.set(0);
        assert!(both.tree.get(*key).is_some());
        most = most.max(LOOKED.get());
    }
    assert!(most < 60, "{most} steps for one of 10,000");
}
