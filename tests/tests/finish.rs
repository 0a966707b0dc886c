//! What the driver does to a frame in an adapter's stead, its own source: the
//! checksums that real stacks put into captured frames come out again, and a
//! frame that was to be cut into segments becomes what a stack would have sent.

#[path = "../../driver/src/ndis/finish.rs"]
mod finish;
#[path = "../../driver/src/ndis/tag.rs"]
mod tag;

use finish::Cut;
use weir_engine::wire::checksum::{Check, Checksums, verify};
use weir_engine::wire::{Dissected, Network, Transport, dissect};

fn frames() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for name in ["mixed.pcap", "odd.pcap"] {
        let file = std::fs::File::open(weir_tests::lab::capture(name)).expect("a capture");
        let mut reader = pcap_file::pcap::PcapReader::new(file).expect("a pcap file");
        while let Some(packet) = reader.next_packet() {
            all.push(packet.expect("a whole capture").data.into_owned());
        }
    }
    all
}

fn headers(frame: &[u8]) -> Dissected<'_> {
    dissect(frame, u32::try_from(frame.len()).expect("a frame"))
}

/// Where the checksums of a frame are that are filled in.
fn fields(frame: &[u8]) -> Vec<usize> {
    let headers = headers(frame);
    let mut fields = Vec::new();
    if let (Network::Ipv4(_), Some(at)) = (&headers.network, headers.network_offset()) {
        fields.push(at + 10);
    }
    match (&headers.transport, headers.transport_offset()) {
        (Transport::Tcp(_), Some(at)) => fields.push(at + 16),
        (Transport::Udp(_), Some(at)) => fields.push(at + 6),
        _ => {}
    }
    fields
}

fn good(checks: Checksums) -> bool {
    ![checks.network, checks.transport].contains(&Check::Bad)
}

#[test]
fn checksums_come_out_as_real_stacks_made_them() {
    let (mut tcp, mut udp, mut v6) = (0, 0, 0);
    for frame in frames() {
        let headers = headers(&frame);
        let checks = verify(&headers, &frame);
        let whole = checks.transport == Check::Good && good(checks);
        if !whole || fields(&frame).is_empty() {
            continue;
        }
        for junk in [[0, 0], [0xff, 0xff], [0x12, 0x34]] {
            let mut spoilt = frame.clone();
            for at in fields(&frame) {
                spoilt[at..at + 2].copy_from_slice(&junk);
            }
            finish::checksums(&mut spoilt);
            assert_eq!(spoilt, frame, "after {junk:x?}");
        }
        match headers.transport {
            Transport::Tcp(_) => tcp += 1,
            Transport::Udp(_) => udp += 1,
            _ => {}
        }
        v6 += usize::from(matches!(headers.network, Network::Ipv6(..)));
    }
    assert!(
        tcp > 100 && udp > 20 && v6 > 20,
        "{tcp} TCP, {udp} UDP, {v6} IPv6"
    );
}

#[test]
fn no_bytes_make_it_panic_or_change_what_is_no_checksum() {
    for frame in frames() {
        for len in 0..frame.len().min(120) {
            let cut = &frame[..len];
            let mut finished = cut.to_vec();
            finish::checksums(&mut finished);
            let fields = fields(cut);
            for (at, (now, then)) in finished.iter().zip(cut).enumerate() {
                let in_field = fields.iter().any(|f| (*f..f + 2).contains(&at));
                assert!(now == then || in_field, "byte {at} of {cut:02x?}");
            }
            let Some(how) = Cut::of(cut, 536) else {
                continue;
            };
            for index in 0..how.count() {
                let mut segment = vec![0; how.len(index)];
                assert!(how.write(cut, index, &mut segment));
            }
        }
    }
}

/// A frame with these headers and `payload` bytes behind them, as a stack hands
/// it over that leaves the cutting to the adapter.
fn large(headers_of: &[u8], payload: &[u8], total_len: bool) -> Vec<u8> {
    let headers = headers(headers_of);
    let network = headers.network_offset().expect("IP");
    let transport = headers.transport_offset().expect("a transport");
    let end = transport
        + match headers.transport {
            Transport::Tcp(tcp) => tcp.header_len(),
            _ => 8,
        };
    let mut frame = headers_of[..end].to_vec();
    frame.extend_from_slice(payload);
    let len = if total_len { frame.len() - network } else { 0 };
    match headers.network {
        Network::Ipv4(_) => {
            let len = u16::try_from(len).expect("a packet");
            frame[network + 2..network + 4].copy_from_slice(&len.to_be_bytes());
        }
        _ => {
            let len = u16::try_from(len.saturating_sub(40)).expect("a packet");
            frame[network + 4..network + 6].copy_from_slice(&len.to_be_bytes());
        }
    }
    if let Transport::Udp(_) = headers.transport {
        let len = u16::try_from(frame.len() - transport).expect("a datagram");
        frame[transport + 4..transport + 6].copy_from_slice(&len.to_be_bytes());
    }
    frame
}

#[test]
fn a_large_send_becomes_what_a_stack_would_have_sent() {
    let payload: Vec<u8> = (0..10_000_u32).map(|n| ((n * 7) >> 3) as u8).collect();
    let mut seen = std::collections::BTreeSet::new();
    for frame in frames() {
        let like = headers(&frame);
        let kind = match (&like.network, &like.transport) {
            (Network::Ipv4(_), Transport::Tcp(_)) => "v4 tcp",
            (Network::Ipv6(..), Transport::Tcp(_)) => "v6 tcp",
            (Network::Ipv4(_), Transport::Udp(_)) => "v4 udp",
            (Network::Ipv6(..), Transport::Udp(_)) => "v6 udp",
            _ => continue,
        };
        if like.fault.is_some() || like.is_fragment() {
            continue;
        }
        // Version 2 of large sends leaves the length to the adapter, for TCP.
        for total_len in [true, !matches!(like.transport, Transport::Tcp(_))] {
            let mut large = large(&frame, &payload, total_len);
            let tcp_flags = like.transport_offset().expect("a transport") + 13;
            if kind.ends_with("tcp") {
                large[tcp_flags] = 0x80 | 0x10 | 0x08 | 0x01;
            }
            let how = Cut::of(&large, 1460).expect("it can be cut");
            assert_eq!(how.count(), 7);
            let mut got = Vec::new();
            for index in 0..7 {
                let mut segment = vec![0; how.len(index)];
                assert!(how.write(&large, index, &mut segment));
                let now = headers(&segment);
                assert_eq!(now.fault, None, "{kind}");
                let checks = verify(&now, &segment);
                assert_eq!(checks.transport, Check::Good, "{kind}: {checks:?}");
                assert!(good(checks), "{kind}: {checks:?}");
                match (now.transport, like.transport) {
                    (Transport::Tcp(now), Transport::Tcp(then)) => {
                        let before = u32::try_from(got.len()).expect("few");
                        assert_eq!(now.seq(), then.seq().wrapping_add(before));
                        assert_eq!(now.ack(), then.ack());
                        let wanted = match index {
                            0 => 0x80 | 0x10,
                            6 => 0x10 | 0x08 | 0x01,
                            _ => 0x10,
                        };
                        assert_eq!(segment[tcp_flags], wanted, "segment {index}");
                    }
                    (Transport::Udp(now), _) => {
                        assert_eq!(now.payload_len(), Some(now_payload(index)));
                    }
                    _ => panic!("{kind}: another transport"),
                }
                if let (Network::Ipv4(now), Network::Ipv4(then)) = (&now.network, &like.network) {
                    let index = u16::try_from(index).expect("few");
                    assert_eq!(now.id(), then.id().wrapping_add(index));
                }
                got.extend_from_slice(now.payload.bytes());
            }
            assert!(got == payload, "{kind}: the payload differs");
            seen.insert(kind);
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

/// Version 2 of large sends goes beyond what a packet's length can say.
#[test]
fn a_large_send_can_be_longer_than_any_packet() {
    let payload: Vec<u8> = (0..200_000_u32).map(|n| (n >> 4) as u8).collect();
    let like = frames().into_iter().find(|frame| {
        let headers = headers(frame);
        matches!(headers.transport, Transport::Tcp(_)) && headers.fault.is_none()
    });
    let large = large(&like.expect("a frame of TCP"), &payload, false);
    let how = Cut::of(&large, 1460).expect("it can be cut");
    let mut got = Vec::new();
    for index in 0..how.count() {
        let mut segment = vec![0; how.len(index)];
        assert!(how.write(&large, index, &mut segment));
        let now = headers(&segment);
        assert_eq!(verify(&now, &segment).transport, Check::Good);
        got.extend_from_slice(now.payload.bytes());
    }
    assert!(got == payload, "the payload differs");
}

fn now_payload(index: usize) -> usize {
    if index == 6 { 10_000 - 6 * 1460 } else { 1460 }
}

/// A datagram of UDP over IPv4, with `flags` where fragments say which they are.
fn datagram(payload: &[u8], flags: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let total = u16::try_from(28 + payload.len()).expect("a packet");
    frame.extend([0x45, 0]);
    frame.extend(total.to_be_bytes());
    frame.extend([0, 7]);
    frame.extend(flags.to_be_bytes());
    frame.extend([64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0, 53, 0, 54]);
    frame.extend((total - 20).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

#[test]
fn a_first_fragment_without_a_checksum_still_has_none() {
    let udp_checksum = 14 + 20 + 6;
    let mut fragment = datagram(&[7; 64], 0x2000);
    finish::checksums(&mut fragment);
    assert_eq!(verify(&headers(&fragment), &fragment).network, Check::Good);
    assert_eq!(fragment[udp_checksum..udp_checksum + 2], [0, 0]);
    let mut whole = datagram(&[7; 64], 0);
    finish::checksums(&mut whole);
    assert_eq!(verify(&headers(&whole), &whole).transport, Check::Good);
}

/// Each segment of UDP is a datagram that somebody sent: none is put together
/// with the next one, however short it is.
#[test]
fn short_datagrams_stay_datagrams() {
    for size in [1, 20, 63, 64] {
        let payload: Vec<u8> = (0..=99).collect();
        let large = datagram(&payload, 0);
        let how = Cut::of(&large, size).expect("it can be cut");
        let wanted: Vec<&[u8]> = payload.chunks(size.into()).collect();
        assert_eq!(how.count(), wanted.len());
        for (index, wanted) in wanted.into_iter().enumerate() {
            let mut segment = vec![0; how.len(index)];
            assert!(how.write(&large, index, &mut segment));
            let now = headers(&segment);
            assert_eq!((now.payload.bytes(), now.fault), (wanted, None));
            assert_eq!(verify(&now, &segment).transport, Check::Good);
        }
    }
}

/// `SegCount` and `SegSize` as NDIS has them beside a received frame.
#[test]
fn what_an_adapter_put_together_is_told_from_what_it_did_not() {
    let beside = |count: usize, size: usize| count | size << 16;
    let size = finish::datagram_size;
    for (payload, wanted) in [(200, 0), (201, 100), (299, 100), (300, 100), (301, 0)] {
        assert_eq!(size(beside(3, 100), payload), wanted, "{payload}");
    }
    // One datagram; nothing said; something else in that place.
    assert_eq!(size(beside(1, 100), 100), 0);
    assert_eq!(size(0, 100), 0);
    assert_eq!(size(beside(0, 100), 0), 0);
    assert_eq!(size(beside(5, 0), 0), 0);
    assert_eq!(size(usize::MAX, 1472), 0);
}

#[test]
fn tags_go_beside_a_frame_and_back() {
    assert_eq!(tag::on_wire(0), None);
    // Bits above the tag's mean something else.
    assert_eq!(tag::on_wire(0xdead_0000), None);
    for priority in 0..8_u16 {
        for format in 0..2_u16 {
            for vlan in [0, 1, 2, 100, 4094, 4095_u16] {
                let tci = priority << 13 | format << 12 | vlan;
                let beside = tag::beside(tci);
                // NDIS_NET_BUFFER_LIST_8021Q_INFO.
                let wanted = usize::from(priority | format << 3 | vlan << 4);
                assert_eq!(beside, wanted);
                let [a, b] = tci.to_be_bytes();
                let wire = (tci != 0).then_some([0x81, 0x00, a, b]);
                assert_eq!(tag::on_wire(beside | 0x7_0000), wire);
            }
        }
    }
}
