//! TCP options: by hand, of any bytes, and beside `etherparse`.

use etherparse::{TcpOptionElement, TcpOptionsIterator};
use proptest::prelude::*;
use weir_engine::wire::tcp::Options;

fn sack(options: &Options) -> Vec<(u32, u32)> {
    options.sack.iter().collect()
}

#[test]
fn a_syn_of_a_real_stack() {
    // Linux 6.1: MSS 1460, SACK permitted, timestamps, NOP, window scale 7.
    let bytes = [
        2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 1, 2, 0, 0, 0, 0, 1, 3, 3, 7,
    ];
    let expected = Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some((0x102, 0)),
        ..Options::default()
    };
    assert_eq!(Options::parse(&bytes), expected);
}

#[test]
fn an_acknowledgment_with_blocks() {
    let mut bytes = vec![1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8, 1, 1, 5, 26];
    for edge in [10u32, 20, 30, 40, 50, 60] {
        bytes.extend(edge.to_be_bytes());
    }
    let options = Options::parse(&bytes);
    assert_eq!(options.timestamps, Some((9, 8)));
    assert_eq!(sack(&options), [(10, 20), (30, 40), (50, 60)]);
    assert!(!options.malformed && options.mss.is_none() && !options.sack_permitted);
}

#[test]
fn timestamps_alone_read_the_same_however_they_are_laid_out() {
    let stamps = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    let expected = Options {
        timestamps: Some((0x0102_0304, 0x0506_0708)),
        ..Options::default()
    };
    for layout in [
        [&[1, 1][..], &stamps].concat(),
        [&stamps[..], &[1, 1]].concat(),
        [&stamps[..], &[0, 0]].concat(),
    ] {
        assert_eq!(Options::parse(&layout), expected);
    }
}

#[test]
fn nothing_is_read_behind_the_end() {
    assert_eq!(Options::parse(&[]), Options::default());
    assert_eq!(Options::parse(&[0, 2, 4, 5, 0xb4]), Options::default());
    // What stands behind the end need not be padding, nor be whole.
    assert_eq!(Options::parse(&[1, 0, 2, 99]), Options::default());
}

#[test]
fn of_two_the_last_counts_and_a_shift_is_capped() {
    let options = Options::parse(&[3, 3, 1, 3, 3, 200, 2, 4, 0, 1, 2, 4, 0, 2]);
    assert_eq!(options.window_scale, Some(14));
    assert_eq!(options.mss, Some(2));
    assert!(!options.malformed);
}

#[test]
fn a_wrong_length_hides_its_own_option_only() {
    for wrong in [
        &[2u8, 3, 9][..],
        &[3, 4, 9, 9],
        &[4, 3, 9],
        &[5, 2],
        &[5, 9, 1, 2, 3, 4, 5, 6, 7],
        &[8, 9, 1, 2, 3, 4, 5, 6, 7],
    ] {
        let options = Options::parse(&[wrong, &[2, 4, 5, 0xb4]].concat());
        let expected = Options {
            mss: Some(1460),
            malformed: true,
            ..Options::default()
        };
        assert_eq!(options, expected, "{wrong:?}");
    }
    // Five blocks can't come out of a header, but out of a slice.
    assert!(Options::parse(&[&[5u8, 42][..], &[0; 40]].concat()).malformed);
}

#[test]
fn a_length_that_leads_nowhere_ends_the_walk() {
    for tail in [&[3u8][..], &[3, 0], &[3, 1, 7], &[3, 4, 7], &[99, 255]] {
        let options = Options::parse(&[&[2, 4, 5, 0xb4], tail].concat());
        let expected = Options {
            mss: Some(1460),
            malformed: true,
            ..Options::default()
        };
        assert_eq!(options, expected, "{tail:?}");
    }
}

#[test]
fn unknown_kinds_are_passed_over() {
    // Multipath TCP, an experiment, user time-out.
    let options = Options::parse(&[30, 4, 1, 2, 254, 2, 28, 4, 0, 9, 3, 3, 5]);
    assert_eq!(options.window_scale, Some(5));
    assert!(!options.malformed);
}

/// What `etherparse` reads, up to where it finds a mistake.
fn theirs(bytes: &[u8]) -> Options {
    let mut options = Options::default();
    for element in TcpOptionsIterator::from_slice(bytes) {
        match element {
            Ok(TcpOptionElement::Noop) => {}
            Ok(TcpOptionElement::MaximumSegmentSize(mss)) => options.mss = Some(mss),
            Ok(TcpOptionElement::WindowScale(shift)) => {
                options.window_scale = Some(shift.min(14));
            }
            Ok(TcpOptionElement::SelectiveAcknowledgementPermitted) => {
                options.sack_permitted = true;
            }
            Ok(TcpOptionElement::SelectiveAcknowledgement(first, more)) => {
                let mut bytes = Vec::new();
                for (left, right) in [Some(first)].into_iter().chain(more).flatten() {
                    bytes.extend(left.to_be_bytes());
                    bytes.extend(right.to_be_bytes());
                }
                let len = u8::try_from(bytes.len() + 2).unwrap();
                options.sack = Options::parse(&[&[5, len], &bytes[..]].concat()).sack;
            }
            Ok(TcpOptionElement::Timestamp(value, echo)) => {
                options.timestamps = Some((value, echo));
            }
            Err(_) => {
                options.malformed = true;
                break;
            }
        }
    }
    options
}

/// Options that are written right, and then perhaps hurt.
fn written() -> impl Strategy<Value = Vec<u8>> {
    let element = prop_oneof![
        Just(vec![1u8]),
        any::<[u8; 2]>().prop_map(|v| [&[2, 4], &v[..]].concat()),
        any::<u8>().prop_map(|v| vec![3, 3, v]),
        Just(vec![4u8, 2]),
        prop::collection::vec(any::<[u8; 8]>(), 1..=4).prop_map(|v| [
            &[5, 2 + 8 * v.len() as u8],
            &v.concat()[..]
        ]
        .concat()),
        any::<[u8; 8]>().prop_map(|v| [&[8, 10], &v[..]].concat()),
        Just(vec![0u8]),
    ];
    let wound = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (prop::collection::vec(element, 0..8), wound).prop_map(|(elements, wound)| {
        let mut bytes = elements.concat();
        bytes.truncate(40);
        if let (Some((at, value)), false) = (wound, bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes
    })
}

proptest! {
    /// The scale alone is the scale among all, of any bytes and of options.
    #[test]
    fn the_window_scale_alone_reads_the_same(
        any in prop::collection::vec(prop_oneof![0u8..=8, any::<u8>()], 0..=40),
        written in written(),
    ) {
        for bytes in [&any, &written] {
            prop_assert_eq!(Options::window_scale(bytes), Options::parse(bytes).window_scale);
        }
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..=64)) {
        let options = Options::parse(&bytes);
        prop_assert!(options.window_scale.is_none_or(|shift| shift <= 14));
        prop_assert!(options.sack.len() <= 4);
    }

    #[test]
    fn both_read_the_same_where_both_read_all(bytes in written()) {
        let theirs = theirs(&bytes);
        let ours = Options::parse(&bytes);
        // It stops at the first kind it doesn't know and at the first length it
        // doesn't like, so what it read is the start of what is read here.
        if theirs.malformed {
            prop_assert!(theirs.sack_permitted <= ours.sack_permitted);
            prop_assert!(theirs.mss.is_none() || ours.mss.is_some());
            prop_assert!(theirs.timestamps.is_none() || ours.timestamps.is_some());
            prop_assert!(theirs.sack.is_empty() || !ours.sack.is_empty());
        } else {
            prop_assert_eq!(ours, theirs);
        }
    }
}
