//! Files made byte by byte, whole and damaged.

use std::io::{self, Write as _};

use weir_client::filetime::UNIX_EPOCH;

use super::*;
use crate::file::bytes::Order::{self, Big, Little};

/// What a reader gives for a frame.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    number: u64,
    interface: usize,
    link_type: u32,
    /// 100 ns since 1970.
    time: Option<u64>,
    direction: Option<Direction>,
    frame_len: u32,
    bytes: Vec<u8>,
}

/// All frames, and the damage at the end if there is any.
fn read(bytes: &[u8]) -> (Vec<Got>, Option<Damage>) {
    let mut reader = match Reader::new(bytes, false) {
        Ok(reader) => reader,
        Err(damage) => return (Vec::new(), Some(damage)),
    };
    let mut frames = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(r)) => frames.push(Got {
                number: r.number,
                interface: r.interface,
                link_type: r.link_type(),
                time: r.time_100ns.map(|t| t - UNIX_EPOCH),
                direction: r.direction,
                frame_len: r.frame_len,
                bytes: r.bytes.to_vec(),
            }),
            Ok(None) => {
                assert!(reader.next().is_ok_and(|r| r.is_none()), "it stays ended");
                return (frames, None);
            }
            Err(damage) => {
                assert!(reader.next().is_ok_and(|r| r.is_none()), "one error only");
                return (frames, Some(damage));
            }
        }
    }
}

#[track_caller]
fn whole(bytes: &[u8]) -> Vec<Got> {
    let (frames, damage) = read(bytes);
    assert!(damage.is_none(), "{damage:?}");
    frames
}

#[track_caller]
fn broken(bytes: &[u8]) -> (usize, u64, String) {
    let (frames, damage) = read(bytes);
    let damage = damage.expect("damage");
    (frames.len(), damage.offset, damage.fault.to_string())
}

fn u16(order: Order, n: u16) -> [u8; 2] {
    match order {
        Little => n.to_le_bytes(),
        Big => n.to_be_bytes(),
    }
}

fn u32(order: Order, n: u32) -> [u8; 4] {
    match order {
        Little => n.to_le_bytes(),
        Big => n.to_be_bytes(),
    }
}

fn words(order: Order, words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| u32(order, *w)).collect()
}

fn pcap_header(order: Order, magic: u32, minor: u16, link_type: u32) -> Vec<u8> {
    let mut file = u32(order, magic).to_vec();
    file.extend(u16(order, 2));
    file.extend(u16(order, minor));
    file.extend(words(order, &[0, 0, 96, link_type]));
    file
}

/// A block of a type with a body, which is padded.
fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let len = padded as u32 + 12;
    let mut block = words(order, &[kind, len]);
    block.extend(body);
    block.resize(8 + padded, 0);
    block.extend(u32(order, len));
    block
}

fn section(order: Order) -> Vec<u8> {
    let mut body = u32(order, 0x1a2b_3c4d).to_vec();
    body.extend(u16(order, 1));
    body.extend(u16(order, 0));
    body.extend([0xff; 8]);
    block(order, 0x0a0d_0d0a, &body)
}

fn option(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
    let mut option = [u16(order, code), u16(order, value.len() as u16)].concat();
    option.extend(value);
    option.resize(4 + value.len().next_multiple_of(4), 0);
    option
}

fn interface(order: Order, link_type: u16, snaplen: u32, options: &[u8]) -> Vec<u8> {
    let mut body = [u16(order, link_type), [0; 2]].concat();
    body.extend(u32(order, snaplen));
    body.extend(options);
    block(order, 1, &body)
}

fn packet_body(order: Order, first: u32, ticks: u64, original: u32, data: &[u8]) -> Vec<u8> {
    let head = [
        first,
        (ticks >> 32) as u32,
        ticks as u32,
        data.len() as u32,
        original,
    ];
    let mut body = words(order, &head);
    body.extend(data);
    body.resize(20 + data.len().next_multiple_of(4), 0);
    body
}

fn enhanced(order: Order, interface: u32, ticks: u64, data: &[u8], flags: Option<u32>) -> Vec<u8> {
    let mut body = packet_body(order, interface, ticks, data.len() as u32, data);
    if let Some(flags) = flags {
        body.extend(option(order, 1, b"a comment"));
        body.extend(option(order, 2, &u32(order, flags)));
        body.extend(option(order, 0, b""));
    }
    block(order, 6, &body)
}

#[test]
fn pcap_in_each_order_and_precision() {
    for order in [Little, Big] {
        for (magic, fraction, extra) in [
            (0xa1b2_c3d4, 123_456, 0),
            (0xa1b2_3c4d, 123_456_789, 0),
            (0xa1b2_cd34, 123_456, 8),
        ] {
            let mut file = pcap_header(order, magic, 4, 1);
            for (captured, original) in [(3, 3), (5, 1500), (6, 2), (0, 0)] {
                file.extend(words(order, &[1_700_000_000, fraction, captured, original]));
                file.extend(vec![9; extra]);
                file.extend(vec![7; captured as usize]);
            }
            let frames = whole(&file);
            let lengths: Vec<_> = frames
                .iter()
                .map(|f| (f.bytes.len(), f.frame_len))
                .collect();
            assert_eq!(lengths, [(3, 3), (5, 1500), (6, 6), (0, 0)]);
            let time = 17_000_000_000_000_000
                + if fraction > 999_999 {
                    1_234_567
                } else {
                    1_234_560
                };
            assert!(frames.iter().all(|f| f.time == Some(time)), "{frames:?}");
            assert_eq!(frames[0].bytes, [7, 7, 7]);
            assert_eq!((frames[3].number, frames[3].link_type), (4, 1));
        }
    }
}

#[test]
fn old_versions_tell_the_lengths_the_other_way_around() {
    for (minor, first, second) in [(2, 9, 4), (3, 9, 4), (3, 4, 9), (4, 4, 9)] {
        let mut file = pcap_header(Little, 0xa1b2_c3d4, minor, 1);
        file.extend(words(Little, &[0, 0, first, second]));
        file.extend([1; 4]);
        let frames = whole(&file);
        assert_eq!(
            (frames[0].bytes.len(), frames[0].frame_len),
            (4, 9),
            "2.{minor}"
        );
    }
    let file = pcap_header(Big, 0xa1b2_c3d4, 5, 1);
    let (_, offset, fault) = broken(&file);
    assert_eq!(
        (offset, fault.as_str()),
        (0, "pcap version 2.5 is not known; 2.0 to 2.4 is")
    );
}

#[test]
fn the_fcs_length_is_no_part_of_the_link_type() {
    let mut file = pcap_header(Little, 0xa1b2_c3d4, 4, 0x2400_0001);
    file.extend(words(Little, &[0, 0, 1, 1]));
    file.push(0);
    assert_eq!(whole(&file)[0].link_type, ETHERNET);
    assert_eq!(link_type_name(113), "LINUX_SLL (link type 113)");
    assert_eq!(link_type_name(59_999), "link type 59999");
}

#[test]
fn pcapng_with_sections_of_both_orders() {
    let mut file = Vec::new();
    for order in [Little, Big, Little] {
        file.extend(section(order));
        file.extend(block(order, 0x0bad, b"nobody knows this"));
        file.extend(interface(
            order,
            1,
            0,
            &option(order, 2, "eth0 é".as_bytes()),
        ));
        let options = [
            option(order, 9, &[9]),
            option(
                order,
                14,
                &match order {
                    Little => (-5_i64).to_le_bytes(),
                    Big => (-5_i64).to_be_bytes(),
                },
            ),
        ];
        file.extend(interface(order, 113, 4, &options.concat()));
        file.extend(interface(order, 1, 0, &option(order, 9, &[0x80 | 10])));
        file.extend(enhanced(order, 0, 1_000_001, b"abc", Some(1)));
        file.extend(enhanced(order, 1, 7_000_000_199, b"abcd", Some(2 | 0xff00)));
        file.extend(enhanced(order, 2, 1536, b"", Some(3)));
        file.extend(block(order, 3, &[&u32(order, 3)[..], b"xyz"].concat()));
        file.extend(block(
            order,
            2,
            &packet_body(
                order,
                match order {
                    // Interface 2, 9 drops: two halves of a word.
                    Little => 2 | 9 << 16,
                    Big => 2 << 16 | 9,
                },
                512,
                60,
                b"old",
            ),
        ));
    }
    let frames = whole(&file);
    assert_eq!(frames.len(), 15);
    assert_eq!(frames[14].number, 15);
    for part in frames.chunks(5) {
        let seen: Vec<_> = part
            .iter()
            .map(|f| {
                (
                    f.interface,
                    f.link_type,
                    f.time,
                    f.direction,
                    f.frame_len,
                    f.bytes.as_slice(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (0, 1, Some(10_000_010), Some(Direction::In), 3, &b"abc"[..]),
                (1, 113, Some(20_000_001), Some(Direction::Out), 4, b"abcd"),
                (2, 1, Some(15_000_000), None, 0, b""),
                (0, 1, None, None, 3, b"xyz"),
                (2, 1, Some(5_000_000), None, 60, b"old"),
            ]
        );
    }
    let mut reader = Reader::new(&file[..], false).expect("a section");
    let record = reader.next().expect("no damage").expect("a frame");
    assert_eq!((record.section, record.interfaces.len()), (1, 3));
    assert_eq!(record.interfaces[0].name.as_deref(), Some("eth0 é"));
}

#[test]
fn a_simple_packet_ends_at_the_snap_length() {
    let mut file = section(Big);
    file.extend(interface(Big, 1, 5, &[]));
    file.extend(block(Big, 3, &[&u32(Big, 99)[..], b"12345..."].concat()));
    let frames = whole(&file);
    assert_eq!(
        (frames[0].bytes.as_slice(), frames[0].frame_len),
        (&b"12345"[..], 99)
    );
}

#[test]
fn blocks_larger_than_the_window() {
    let huge = vec![0x55; 3 * window::CAPACITY + 2];
    let mut file = section(Little);
    file.extend(interface(Little, 1, 0, &[]));
    file.extend(block(Little, 0x0bad, &huge));
    let before = file.len();
    let mut body = packet_body(Little, 0, 0, 3, b"abc");
    for _ in 0..40 {
        body.extend(option(Little, 1, &[b'x'; 65_000]));
    }
    file.extend(block(Little, 6, &body));
    let end = file.len();
    file.extend(enhanced(Little, 0, 0, b"last", None));
    let frames = whole(&file);
    assert_eq!(frames.len(), 2);
    assert_eq!(
        (frames[0].bytes.as_slice(), frames[1].bytes.as_slice()),
        (&b"abc"[..], &b"last"[..])
    );

    // Wrong at its end, and cut off there: the frame was whole before.
    let mut wrong = file.clone();
    wrong[end - 1] ^= 1;
    let (frames, offset, fault) = broken(&wrong);
    assert!(fault.contains("ends with length"), "{fault}");
    assert_eq!((frames, offset), (1, end as u64 - 4));
    let (frames, offset, fault) = broken(&file[..end - 2]);
    assert!(
        fault.starts_with("the file is cut off: a block of"),
        "{fault}"
    );
    assert_eq!((frames, offset), (1, end as u64 - 4));
    assert!(before < end);
}

#[test]
fn a_file_cut_anywhere_gives_all_that_is_whole() {
    let mut pcap = pcap_header(Little, 0xa1b2_c3d4, 4, 1);
    let mut pcapng = section(Big);
    pcapng.extend(interface(Big, 1, 0, &option(Big, 2, b"x")));
    let (mut ends_pcap, mut ends_pcapng) = (vec![pcap.len()], vec![28, pcapng.len()]);
    for len in 0..6 {
        pcap.extend(words(Little, &[0, 0, len, len]));
        pcap.extend(vec![1; len as usize]);
        ends_pcap.push(pcap.len());
        pcapng.extend(enhanced(Big, 0, 0, &vec![1; len as usize], Some(1)));
        ends_pcapng.push(pcapng.len());
    }
    for (file, ends, before) in [(&pcap, &ends_pcap, 1), (&pcapng, &ends_pcapng, 2)] {
        for cut in 1..file.len() {
            let (frames, damage) = read(&file[..cut]);
            let whole = ends.iter().filter(|e| **e <= cut).count();
            assert_eq!(frames.len(), whole.saturating_sub(before), "cut at {cut}");
            assert_eq!(
                damage.is_none(),
                ends.contains(&cut),
                "cut at {cut}: {damage:?}"
            );
            let last = ends
                .iter()
                .filter(|e| **e <= cut)
                .max()
                .copied()
                .unwrap_or(0);
            if let Some(damage) = damage {
                assert_eq!(damage.offset, last as u64, "cut at {cut}");
            }
        }
    }
}

#[test]
fn damage_is_told_with_its_place() {
    let pcap = |record: &[u32]| {
        let mut file = pcap_header(Big, 0xa1b2_c3d4, 4, 1);
        file.extend(words(Big, &[0, 0, 1, 1]));
        file.push(0);
        file.extend(words(Big, record));
        file
    };
    let frame = "a frame of 4294967295 bytes, and none has more than 262144: the file is damaged";
    assert_eq!(
        broken(&pcap(&[0, 0, u32::MAX, 60])),
        (1, 41, frame.to_owned())
    );

    let ng = |rest: Vec<u8>| {
        let mut file = section(Little);
        file.extend(interface(Little, 1, 0, &[]));
        file.extend(enhanced(Little, 0, 0, b"good", None));
        file.extend(rest);
        broken(&file)
    };
    let mut trailer = enhanced(Little, 0, 0, b"bad", None);
    *trailer.last_mut().expect("bytes") = 1;
    let mut room = packet_body(Little, 0, 0, 60, b"data");
    room[12] = 5;
    for (rest, want) in [
        (
            words(Little, &[6, 13, 0, 0]),
            "a block of 13 bytes: the length is damaged",
        ),
        (
            words(Little, &[6, 8, 8, 8]),
            "a block of 8 bytes: the length is damaged",
        ),
        (
            words(Little, &[0x0bad, 0xffff_fffc, 0, 0]),
            "the file is cut off: a block of 4294967292 bytes, and 16 are there",
        ),
        (
            trailer,
            "a block starts with length 36 and ends with length 16777252: it is damaged",
        ),
        (
            enhanced(Little, 1, 0, b"bad", None),
            "a frame of interface 1, and this section has described 1 so far",
        ),
        (
            block(Little, 6, &room),
            "a frame of 5 bytes in a block with room for 4: it is damaged",
        ),
        (
            block(Little, 6, &[0; 16]),
            "an enhanced packet block of 28 bytes is too short for its fields",
        ),
        (
            block(Little, 2, &[0; 16]),
            "a packet block of 28 bytes is too short for its fields",
        ),
        (
            block(Little, 3, &[]),
            "a simple packet block of 12 bytes is too short for its fields",
        ),
        (
            block(Little, 1, &[0; 4]),
            "an interface description block of 16 bytes is too short for its fields",
        ),
        (
            interface(Little, 1, 0, &[2, 0, 9, 0]),
            "the options of an interface go on past their block",
        ),
        (
            words(Little, &[0x0a0d_0d0a, 28, 7]),
            "a section's byte order is 0x07000000, which is none",
        ),
        (
            block(Little, 0x0a0d_0d0a, &words(Little, &[0x1a2b_3c4d, 2])),
            "pcapng version 2.0 is not known; 1.0 is",
        ),
    ] {
        assert_eq!(ng(rest), (1, 84, want.to_owned()));
    }
}

#[test]
fn what_is_no_capture_is_said_to_be_none() {
    for (bytes, want) in [
        (
            &b""[..],
            "the file is empty: not even a header of pcap or pcapng is there",
        ),
        (
            b"hello world",
            "this is no pcap or pcapng file: it starts with 68 65 6c 6c",
        ),
        (
            b"\x28\xb5\x2f\xfd..",
            "this is no pcap or pcapng file: it starts with 28 b5 2f fd (zstd: decompress it first)",
        ),
        (
            b"\xd4\xc3\xb2\xa1\x02",
            "the file is cut off: a file header of 24 bytes, and 5 are there",
        ),
        (
            b"\x0a\x0d\x0d\x0a",
            "the file is cut off: a block's header of 12 bytes, and 4 are there",
        ),
    ] {
        assert_eq!(broken(bytes), (0, 0, want.to_owned()));
    }
    let (_, damage) = read(b"x");
    let text = damage.expect("damage").to_string();
    assert_eq!(
        text,
        "at byte 0: this is no pcap or pcapng file: it starts with 78"
    );
}

#[test]
fn files_without_frames_are_files() {
    assert!(whole(&pcap_header(Little, 0xa1b2_c3d4, 4, 1)).is_empty());
    assert!(whole(&section(Little)).is_empty());
}

#[test]
fn an_endless_list_of_interfaces_ends() {
    let mut file = section(Little);
    for _ in 0..65_537 {
        file.extend(interface(Little, 1, 0, &[]));
    }
    let (frames, _, fault) = broken(&file);
    assert_eq!(
        (frames, fault.as_str()),
        (0, "more than 65536 interfaces in a section")
    );
}

#[test]
fn no_bytes_make_it_panic() {
    let mut file = section(Little);
    file.extend(interface(Little, 1, 64, &option(Little, 9, &[6])));
    file.extend(enhanced(Little, 0, 5, b"frame", Some(1)));
    file.extend(block(Little, 3, &[&u32(Little, 3)[..], b"xyz"].concat()));
    for at in 0..file.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = file.clone();
            changed[at] = value;
            let (frames, _) = read(&changed);
            assert!(frames.len() <= 2);
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).expect("packs");
    packer.finish().expect("packs")
}

/// Through a file on disk, as a command reads it.
fn on_disk(bytes: &[u8]) -> (u64, Option<String>) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("writes");
    let source = Source::open(file.path()).expect("opens");
    let packed = source.packed;
    let mut reader = match Reader::new(source.stream, packed) {
        Ok(reader) => reader,
        Err(damage) => return (0, Some(damage.to_string())),
    };
    let mut frames = 0;
    loop {
        match reader.next() {
            Ok(Some(record)) => frames = record.number,
            Ok(None) => {
                assert_eq!(source.position.get(), bytes.len() as u64);
                return (frames, None);
            }
            Err(damage) => return (frames, Some(damage.to_string())),
        }
    }
}

#[test]
fn packed_files() {
    let mut file = section(Little);
    file.extend(interface(Little, 1, 0, &[]));
    for i in 0..200_u32 {
        let data: Vec<u8> = (0..60).map(|b| ((b * i) ^ i) as u8).collect();
        file.extend(enhanced(Little, 0, i.into(), &data, None));
    }
    assert_eq!(on_disk(&file), (200, None));
    let packed = gzip(&file);
    assert_eq!(on_disk(&packed), (200, None));
    // Members one behind the other.
    let (first, second) = file.split_at(1001);
    assert_eq!(on_disk(&[gzip(first), gzip(second)].concat()), (200, None));
    // Cut: what was unpacked is used, and the place is one of the contents.
    let (frames, error) = on_disk(&packed[..packed.len() / 2]);
    let error = error.expect("damage");
    assert!(frames > 10 && frames < 200, "{frames}");
    assert!(
        error.contains("of the decompressed data: the gzip data is damaged or cut off"),
        "{error}"
    );
    // A whole gzip of a cut capture is another thing.
    let (frames, error) = on_disk(&gzip(&file[..file.len() - 1]));
    assert_eq!(frames, 199);
    assert!(
        error
            .expect("damage")
            .contains("the file is cut off: a block of")
    );
    assert_eq!(on_disk(&[]).0, 0);
    assert!(
        on_disk(&[0x1f])
            .1
            .expect("damage")
            .contains("it starts with 1f")
    );
    assert!(
        on_disk(&[0x1f, 0x8b])
            .1
            .expect("damage")
            .contains("gzip data is damaged")
    );
}

#[test]
fn a_stream_that_fails_says_so() {
    struct Failing(usize, Vec<u8>);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let rest = &self.1[self.0..];
            if rest.is_empty() {
                return Err(io::Error::other("the disk is gone"));
            }
            let n = rest.len().min(buffer.len());
            buffer[..n].copy_from_slice(&rest[..n]);
            self.0 += n;
            Ok(n)
        }
    }
    let mut file = pcap_header(Little, 0xa1b2_c3d4, 4, 1);
    file.extend(words(Little, &[0, 0, 1, 1]));
    file.push(0);
    for cut in [file.len(), file.len() - 1] {
        let mut reader = Reader::new(Failing(0, file[..cut].to_vec()), false).expect("a header");
        let mut error = None;
        while error.is_none() {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the failure was lost"),
                Err(e) => error = Some(e.to_string()),
            }
        }
        assert!(error.is_some_and(|e| e.ends_with("reading failed: the disk is gone")));
    }
}
