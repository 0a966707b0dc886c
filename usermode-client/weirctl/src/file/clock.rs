//! Times of capture files in the engine's unit.

use weir_client::filetime;

const UNITS_PER_SECOND: u128 = 10_000_000;

/// What one tick of an interface's clock is, and when it was zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    resolution: Resolution,
    /// Seconds to add: `if_tsoffset`.
    offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    /// A tick is 10 to the power of minus this, in seconds.
    Decimal(u8),
    /// A tick is 2 to the power of minus this, in seconds; 0..=127.
    Binary(u8),
}

impl Clock {
    /// Ticks of a microsecond: what an interface has that says nothing.
    pub(super) const MICROSECONDS: Self = Clock {
        resolution: Resolution::Decimal(6),
        offset: 0,
    };

    /// From `if_tsresol`: the highest bit chooses between powers of 2 and of 10.
    pub(super) fn with_resolution(self, if_tsresol: u8) -> Self {
        let resolution = match if_tsresol {
            power @ 0..=127 => Resolution::Decimal(power),
            _ => Resolution::Binary(if_tsresol & 0x7f),
        };
        Clock { resolution, ..self }
    }

    /// From `if_tsoffset`, seconds.
    pub(super) fn with_offset(self, if_tsoffset: i64) -> Self {
        Clock {
            offset: if_tsoffset,
            ..self
        }
    }

    /// 100 ns since 1601-01-01 UTC, rounded down. Times that don't fit are the
    /// nearest that do.
    pub(super) fn time(self, ticks: u64) -> u64 {
        let units = u128::from(ticks) * UNITS_PER_SECOND;
        let units = match self.resolution {
            // A product of 64 and 24 bits has at most 27 digits.
            Resolution::Decimal(power @ 0..=27) => units / 10_u128.pow(power.into()),
            Resolution::Decimal(_) => 0,
            Resolution::Binary(power) => units >> power,
        };
        // 88 bits, and 63 with another 24: both fit.
        let offset = i128::from(self.offset) * UNITS_PER_SECOND as i128;
        let time = units as i128 + offset + i128::from(filetime::UNIX_EPOCH);
        u64::try_from(time.max(0)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = filetime::UNIX_EPOCH;

    #[test]
    fn each_resolution() {
        let at = |resol: u8, ticks: u64| Clock::MICROSECONDS.with_resolution(resol).time(ticks);
        assert_eq!(Clock::MICROSECONDS.time(1_000_001), EPOCH + 10_000_010);
        assert_eq!(at(0, 5), EPOCH + 50_000_000);
        assert_eq!(at(3, 5), EPOCH + 50_000);
        assert_eq!(at(7, 5), EPOCH + 5);
        // Nanoseconds are rounded down.
        assert_eq!(at(9, 1_999), EPOCH + 19);
        assert_eq!(at(12, 1_999_999), EPOCH + 19);
        assert_eq!(at(127, u64::MAX), EPOCH);
        assert_eq!(at(0x80, 3), EPOCH + 30_000_000);
        assert_eq!(at(0x80 | 10, 1536), EPOCH + 15_000_000);
        assert_eq!(at(0x80 | 32, 1 << 31), EPOCH + 5_000_000);
        assert_eq!(at(0xff, u64::MAX), EPOCH);
    }

    #[test]
    fn offsets_and_the_ends_of_time() {
        let clock = |offset| Clock::MICROSECONDS.with_offset(offset);
        assert_eq!(clock(10).time(0), EPOCH + 100_000_000);
        assert_eq!(clock(-10).time(10_500_000), EPOCH + 5_000_000);
        assert_eq!(clock(i64::MIN).time(0), 0);
        assert_eq!(clock(i64::MAX).with_resolution(0).time(u64::MAX), u64::MAX);
    }
}
