//! Sorting in place, without memory and without a panic when a comparison
//! contradicts itself.

/// Heapsort: n log n whatever the order was.
pub(super) fn heap_sort(items: &mut [u32], before: impl Fn(u32, u32) -> bool) {
    let len = items.len();
    for root in (0..len.div_ceil(2)).rev() {
        sift_down(items, root, &before);
    }
    for end in (1..len).rev() {
        exchange(items, 0, end);
        if let Some(heap) = items.get_mut(..end) {
            sift_down(heap, 0, &before);
        }
    }
}

/// Moves the item at `root` down until none below it comes later.
fn sift_down(heap: &mut [u32], mut root: usize, before: &impl Fn(u32, u32) -> bool) {
    loop {
        let left = root.saturating_mul(2).saturating_add(1);
        let right = left.saturating_add(1);
        let Some(mut last) = heap.get(left).copied() else {
            return;
        };
        let mut child = left;
        if let Some(other) = heap.get(right).copied().filter(|o| before(last, *o)) {
            (last, child) = (other, right);
        }
        if !heap.get(root).is_some_and(|item| before(*item, last)) {
            return;
        }
        exchange(heap, root, child);
        root = child;
    }
}

fn exchange(items: &mut [u32], a: usize, b: usize) {
    let (Some(x), Some(y)) = (items.get(a).copied(), items.get(b).copied()) else {
        return;
    };
    if let Some(place) = items.get_mut(a) {
        *place = y;
    }
    if let Some(place) = items.get_mut(b) {
        *place = x;
    }
}

#[cfg(test)]
mod tests {
    use super::heap_sort;

    proptest::proptest! {
        #[test]
        fn it_sorts(mut items in proptest::collection::vec(0u32..50, 0..80)) {
            let mut expected = items.clone();
            expected.sort_unstable();
            heap_sort(&mut items, |a, b| a < b);
            proptest::prop_assert_eq!(items, expected);
        }

        /// An order that is none ends all the same, with the same items.
        #[test]
        fn an_order_that_is_none_does_no_harm(mut items in proptest::collection::vec(0u32..50, 0..80)) {
            let mut expected = items.clone();
            heap_sort(&mut items, |a, b| (a ^ b) & 1 == 0);
            expected.sort_unstable();
            items.sort_unstable();
            proptest::prop_assert_eq!(items, expected);
        }
    }
}
