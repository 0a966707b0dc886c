//! Times in few bits.

/// A second, in the unit of all times here: 100 ns.
pub(super) const SECOND: u64 = 10_000_000;

/// A span in 16 bits: exact to 4,095 units, then to one part in 4,096, up to
/// 4.4e12 units, which is five days of 100 ns. 0 means that it isn't known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Short(pub(super) u16);

/// Bits of the fraction; there is one more, which is always set.
const FRACTION: u32 = 11;
const HIDDEN: u64 = 1 << FRACTION;

impl Short {
    /// The nearest that can be told.
    pub(super) fn new(span: u64) -> Self {
        if span < HIDDEN {
            return Self(u16::try_from(span).unwrap_or(u16::MAX));
        }
        let bits = u64::BITS.saturating_sub(span.leading_zeros());
        let mut shift = bits.saturating_sub(FRACTION).saturating_sub(1);
        let half = (1u64 << shift) >> 1;
        let mut value = span.saturating_add(half) >> shift;
        if value >> 1 >= HIDDEN {
            value >>= 1;
            shift = shift.saturating_add(1);
        }
        let exponent = u64::from(shift).saturating_add(1);
        let packed = exponent << FRACTION | (value & HIDDEN.wrapping_sub(1));
        Self(u16::try_from(packed).unwrap_or(u16::MAX))
    }

    /// The longest that can be told and is not longer.
    pub(super) fn floor(span: u64) -> Self {
        let nearest = Self::new(span);
        if nearest.span() > span {
            Self(nearest.0.saturating_sub(1))
        } else {
            nearest
        }
    }

    pub(super) fn span(self) -> u64 {
        let fraction = u64::from(self.0) & HIDDEN.wrapping_sub(1);
        match u32::from(self.0 >> FRACTION).checked_sub(1) {
            None => fraction,
            Some(shift) => (HIDDEN | fraction) << shift,
        }
    }

    pub(super) fn known(self) -> Option<u64> {
        (self.0 != 0).then(|| self.span())
    }
}

/// An age that stops at its limit, in units of 2^`shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Age(pub(super) u16);

impl Age {
    /// Older than anybody asks.
    pub(super) const OLD: Self = Self(u16::MAX);

    /// From one time to another. Ages of consecutive spans add up exactly,
    /// because it is the times that are rounded, not the spans.
    pub(super) fn between(from: u64, to: u64, shift: u32) -> Self {
        let units = (to >> shift).saturating_sub(from >> shift);
        Self(u16::try_from(units).unwrap_or(u16::MAX))
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The same age in other units.
    pub(super) fn rescaled(self, from: u32, to: u32) -> Self {
        if self == Self::OLD {
            return self;
        }
        let units = u64::from(self.0) << from >> to;
        Self(u16::try_from(units).unwrap_or(u16::MAX))
    }

    /// Whether it is less than a span.
    pub(super) fn is_less_than(self, span: u64, shift: u32) -> bool {
        self != Self::OLD && u64::from(self.0) < span >> shift
    }
}

/// The latest time not after `clock` whose low `bits` bits are `low`.
pub(super) fn widen(low: u64, bits: u32, clock: u64) -> u64 {
    let mask = (1u64 << bits).wrapping_sub(1);
    clock.wrapping_sub(clock.wrapping_sub(low) & mask)
}

#[cfg(test)]
mod tests {
    use super::{Age, Short, widen};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_short_span_is_within_its_precision(bits in 0u32..42, low: u64) {
            let span = low & ((1 << bits) - 1);
            let told = Short::new(span).span();
            prop_assert!(told.abs_diff(span) <= span / 4096, "{span} told as {told}");
            let below = Short::floor(span).span();
            prop_assert!(below <= span && span - below <= span / 2048, "{span} told as {below}");
            if span < 4096 {
                prop_assert_eq!(told, span);
            }
        }

        #[test]
        fn short_spans_keep_their_order(a in 0u64..1 << 41, b in 0u64..1 << 41) {
            prop_assert_eq!(a.cmp(&b) as i8 * (Short::new(a) != Short::new(b)) as i8,
                Short::new(a).span().cmp(&Short::new(b).span()) as i8);
        }

        #[test]
        fn ages_add_up_as_the_times_do(start in 0u64..1 << 62, steps in prop::collection::vec(0u64..2000, 1..20), shift in 0u32..12) {
            let mut at = start;
            let mut age = Age(0);
            for step in steps {
                age = age.plus(Age::between(at, at + step, shift));
                at += step;
            }
            prop_assert_eq!(age, Age::between(start, at, shift));
        }

        #[test]
        fn a_time_of_few_bits_is_found_again(clock in 0u64.., back in 0u64..1 << 40) {
            let then = clock.saturating_sub(back);
            prop_assert_eq!(widen(then & ((1 << 40) - 1), 40, clock), then);
        }
    }

    #[test]
    fn the_longest_span_is_days() {
        assert_eq!(Short::new(u64::MAX), Short(u16::MAX));
        assert_eq!(Short(u16::MAX).span(), 4095 << 30);
        assert_eq!(Short(0).known(), None);
    }

    #[test]
    fn what_is_old_stays_old() {
        assert!(!Age::OLD.is_less_than(u64::MAX, 0));
        assert_eq!(Age::OLD.rescaled(8, 0), Age::OLD);
        assert_eq!(Age::OLD.plus(Age(1)), Age::OLD);
        assert_eq!(Age(1000).rescaled(8, 0), Age::OLD);
        assert_eq!(Age(1000).rescaled(4, 6), Age(250));
    }
}
