//! Frames of many kinds: of the captures, and made here.

use std::path::{Path, PathBuf};

use pcap_file::pcap::PcapReader;

/// A frame, maybe cut short.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// What is at hand.
    pub(crate) bytes: Vec<u8>,
    /// Bytes on the wire.
    pub(crate) len: u32,
    /// Where it comes from.
    pub(crate) from: String,
}

/// All frames the judge compares on.
pub(crate) fn all() -> Vec<Frame> {
    let mut frames = captured();
    frames.extend(made());
    frames
}

/// Some hundred frames of each capture of the repository.
pub(crate) fn captured() -> Vec<Frame> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/captures");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the captures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "pcap")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no captures in {}", folder.display());
    let mut frames = Vec::new();
    for path in files {
        let file = std::fs::File::open(&path).expect("a capture");
        let mut reader = PcapReader::new(file).expect("a pcap file");
        let mut all = Vec::new();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.expect("a packet");
            all.push(Frame {
                bytes: packet.data.to_vec(),
                len: packet.orig_len,
                from: format!("{} {}", path.display(), all.len() + 1),
            });
        }
        let step = all.len().div_ceil(150).max(1);
        frames.extend(all.into_iter().step_by(step));
    }
    frames
}

/// IPv4 addresses that frames and expressions share.
pub(crate) const HOSTS: [[u8; 4]; 4] = [
    [10, 0, 0, 1],
    [10, 0, 0, 2],
    [192, 168, 1, 1],
    [224, 0, 0, 251],
];
/// IPv6 addresses that frames and expressions share.
pub(crate) const HOSTS6: [&str; 3] = ["fe80::1", "2001:db8::2", "ff02::fb"];

const MACS: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [0xff; 6]];

fn ethernet(dst: usize, src: usize, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [
        &MACS[dst][..],
        &MACS[src][..],
        &ethertype.to_be_bytes(),
        payload,
    ]
    .concat()
}

fn ipv4(
    src: usize,
    dst: usize,
    protocol: u8,
    options: usize,
    fragment: u16,
    body: &[u8],
) -> Vec<u8> {
    let header = 20 + options;
    let total = u16::try_from(header + body.len()).expect("short");
    let mut bytes = vec![0x40 | u8::try_from(header / 4).expect("short"), 0];
    bytes.extend(total.to_be_bytes());
    bytes.extend([0, 9]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(HOSTS[src]);
    bytes.extend(HOSTS[dst]);
    bytes.extend(vec![1; options]);
    bytes.extend(body);
    bytes
}

fn ipv6(src: usize, dst: usize, next: u8, body: &[u8]) -> Vec<u8> {
    let address = |which: usize| {
        HOSTS6[which]
            .parse::<std::net::Ipv6Addr>()
            .expect("one")
            .octets()
    };
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend(address(src));
    bytes.extend(address(dst));
    bytes.extend(body);
    bytes
}

/// A transport header with the ports in front.
fn segment(src: u16, dst: u16, flags: u8) -> Vec<u8> {
    let mut bytes = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 4, 0, 0, 0, 0, 0]);
    bytes.extend(b"GET / HTTP/1.1\r\n\r\n");
    bytes
}

/// Whole frames of every kind the language has a word for.
fn whole() -> Vec<(String, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut add = |name: String, bytes: Vec<u8>| frames.push((name, bytes));
    for (index, protocol) in [6u8, 17, 132, 1, 2, 9, 50, 51, 103, 112]
        .into_iter()
        .enumerate()
    {
        for (src, dst) in [(80, 40_000), (40_000, 443), (53, 53), (7, 80), (443, 7)] {
            let body = segment(src, dst, 0x12 >> (src % 3));
            let at = |more: usize| (index + more) % 3;
            let v4 = ipv4(index % 4, (index + 1) % 4, protocol, 0, 0, &body);
            add(
                format!("ipv4 {protocol} {src}-{dst}"),
                ethernet(at(0), at(1), 0x0800, &v4),
            );
            let v6 = ipv6(at(0), at(1), protocol, &body);
            add(
                format!("ipv6 {protocol} {src}-{dst}"),
                ethernet(at(1), at(0), 0x86dd, &v6),
            );
        }
        let body = segment(80, 443, 0x18);
        for (options, fragment) in [
            (4, 0),
            (40, 0),
            (0, 0x2000),
            (0, 0x2005),
            (8, 0x00b9),
            (0, 0x4000),
        ] {
            let bytes = ipv4(0, 1, protocol, options, fragment, &body);
            add(
                format!("ipv4 {protocol} +{options} {fragment:x}"),
                ethernet(0, 1, 0x0800, &bytes),
            );
        }
        let mut lying = ipv4(0, 1, protocol, 0, 0, &body);
        lying[0] = 0x41;
        add(
            format!("ipv4 {protocol} short header"),
            ethernet(0, 1, 0x0800, &lying),
        );
        let fragment = [&[protocol, 0, 0, 1, 0, 0, 0, 7][..], &body].concat();
        add(
            format!("ipv6 fragment {protocol}"),
            ethernet(0, 1, 0x86dd, &ipv6(0, 1, 44, &fragment)),
        );
        let hop = [&[protocol, 0, 1, 4, 0, 0, 0, 0][..], &body].concat();
        add(
            format!("ipv6 hop {protocol}"),
            ethernet(0, 1, 0x86dd, &ipv6(1, 2, 0, &hop)),
        );
    }
    for kind in [128u8, 129, 135, 136] {
        let body = [kind, 0, 1, 2, 0, 0, 0, 0, 9, 9];
        add(
            format!("icmp6 {kind}"),
            ethernet(2, 1, 0x86dd, &ipv6(0, 2, 58, &body)),
        );
    }
    for (ethertype, name) in [(0x0806, "arp"), (0x8035, "rarp")] {
        for (sender, target) in [(0, 1), (1, 2), (2, 0)] {
            let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1];
            body.extend(MACS[1]);
            body.extend(HOSTS[sender]);
            body.extend([0; 6]);
            body.extend(HOSTS[target]);
            body.extend([0; 18]);
            add(
                format!("{name} {sender}-{target}"),
                ethernet(2, 1, ethertype, &body),
            );
        }
    }
    for ethertype in [
        0x809b, 0x80f3, 0x6001, 0x6002, 0x6003, 0x6004, 0x6007, 0x8137, 0x8863, 0x9000,
    ] {
        add(
            format!("type {ethertype:x}"),
            ethernet(0, 1, ethertype, &[0x55; 48]),
        );
    }
    llc(&mut add);
    frames
}

/// What has a length where the EtherType would be.
fn llc(add: &mut impl FnMut(String, Vec<u8>)) {
    let mut frame = |name: &str, body: &[u8]| {
        let body = [body, &[0x11; 40]].concat();
        let length = u16::try_from(body.len()).expect("short");
        add(format!("llc {name}"), ethernet(0, 1, length, &body));
    };
    frame("stp", &[0x42, 0x42, 0x03, 0, 0, 0]);
    frame("ipx", &[0xe0, 0xe0, 0x03, 0, 0, 0]);
    frame("ipx raw", &[0xff, 0xff, 0, 0x1e]);
    frame("netbeui", &[0xf0, 0xf0, 0x03, 0]);
    frame("ip", &[0x06, 0x06, 0x03, 0x45]);
    frame("snap ipx", &[0xaa, 0xaa, 3, 0, 0, 0, 0x81, 0x37]);
    frame("snap atalk", &[0xaa, 0xaa, 3, 8, 0, 7, 0x80, 0x9b]);
    frame("snap aarp", &[0xaa, 0xaa, 3, 0, 0, 0, 0x80, 0xf3]);
    frame("snap ip", &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]);
    for nlpid in [0x81, 0x82] {
        frame(&format!("iso {nlpid:x}"), &[0xfe, 0xfe, 3, nlpid]);
    }
    for pdu in 14..=28 {
        frame(
            &format!("isis {pdu}"),
            &[0xfe, 0xfe, 3, 0x83, 27, 1, 0, pdu],
        );
    }
    for control in [
        0x00, 0x01, 0x05, 0x09, 0x03, 0x63, 0x43, 0x0f, 0x6f, 0xe3, 0xaf, 0x87, 0x13,
    ] {
        frame(
            &format!("control {control:x}"),
            &[0x04, 0x04, control, 0x20],
        );
    }
}

/// Frames made here: plain, behind VLAN tags, and cut short.
pub(crate) fn made() -> Vec<Frame> {
    let mut frames = Vec::new();
    for (index, (name, bytes)) in whole().into_iter().enumerate() {
        let tag = |bytes: &[u8], ethertype: u16, id: u16| {
            let tag = [ethertype.to_be_bytes(), id.to_be_bytes()].concat();
            [&bytes[..12], &tag, &bytes[12..]].concat()
        };
        let types = [0x8100, 0x88a8, 0x9100];
        let mut variants = vec![(name.clone(), bytes.clone())];
        let outer = types[index % 3];
        let tagged = tag(&bytes, outer, [5, 0x6005, 300][index % 3]);
        if index % 2 == 0 {
            variants.push((format!("{name} vlan"), tagged.clone()));
        }
        if index % 5 == 0 {
            let twice = tag(&tagged, types[(index + 1) % 3], 7);
            variants.push((format!("{name} vlan vlan"), twice));
        }
        for (which, (name, bytes)) in variants.into_iter().enumerate() {
            let len = u32::try_from(bytes.len()).expect("short");
            // Every snapped length between 14 and 80, and shorter, is met often.
            for snap in [
                usize::MAX,
                (index * 7 + which * 13) % 68 + 14,
                (index * 3) % 60,
            ] {
                let bytes = bytes[..bytes.len().min(snap)].to_vec();
                frames.push(Frame {
                    bytes,
                    len,
                    from: format!("{name} cut at {snap}"),
                });
            }
        }
    }
    frames
}
