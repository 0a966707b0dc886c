#!/usr/bin/env python3
"""Makes odd.pcap: frames that no quiet network shows, one of each kind, by scapy.

Stacked VLAN tags, 802.3 with LLC, IPv4 options, IPv6 extension headers, errors
that quote a packet, frames too short for what they claim to be. Deterministic:
the same script gives the same bytes.
"""
import sys
from pathlib import Path

from scapy.all import (
    ARP, AH, Dot1AD, Dot1Q, Dot3, Ether, ICMP, IP, IPOption_Router_Alert, IPerror, IPv6,
    IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting,
    ICMPv6DestUnreach, ICMPv6EchoRequest, ICMPv6ND_NS, LLC, Raw, RawPcapWriter, STP, TCP, UDP, UDPerror,
)

A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
DOWN, UP = Ether(src=A, dst=B), Ether(src=B, dst=A)
V4, V6 = IP(src="10.77.0.1", dst="10.77.0.2"), IPv6(src="fd77::1", dst="fd77::2")
TEXT = Raw(b"weir " * 8)

frames = [
    # Tags: one, two, priority only, and a tag with nothing behind it.
    DOWN / Dot1Q(vlan=77) / V4 / UDP(sport=40000, dport=53) / TEXT,
    UP / Dot1AD(vlan=100) / Dot1Q(vlan=77) / V4 / TCP(sport=80, dport=40000, flags="SA"),
    DOWN / Dot1Q(vlan=0, prio=5) / V6 / UDP(sport=1, dport=2),
    Raw(bytes(DOWN)[:12] + b"\x81\x00\x00"),
    # 802.3: a length, not a type.
    Dot3(src=B, dst="01:80:c2:00:00:00") / LLC() / STP(),
    # ARP: request, reply, and one cut short.
    Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=A, psrc="10.77.0.1", pdst="10.77.0.2"),
    UP / ARP(op=2, hwsrc=B, psrc="10.77.0.2", hwdst=A, pdst="10.77.0.1"),
    Raw(bytes(DOWN / ARP())[:20]),
    # IPv4: options, a first and a later fragment, header lengths that lie.
    DOWN / IP(src="10.77.0.1", dst="224.0.0.22", options=[IPOption_Router_Alert()]) / Raw(b"\x11" * 8),
    DOWN / IP(src="10.77.0.1", dst="10.77.0.2", flags="MF", proto=17) / UDP(sport=9, dport=9, len=2000) / TEXT,
    DOWN / IP(src="10.77.0.1", dst="10.77.0.2", frag=185, proto=17) / TEXT,
    DOWN / IP(src="10.77.0.1", dst="10.77.0.2", ihl=4) / TEXT,
    DOWN / IP(src="10.77.0.1", dst="10.77.0.2", len=9000) / UDP() / TEXT,
    DOWN / IP(src="10.77.0.1", dst="10.77.0.2", version=6) / TEXT,
    # IPv6: every extension header, in a chain and alone; a next header nobody knows.
    DOWN / V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting() / UDP(sport=5, dport=6) / TEXT,
    DOWN / V6 / IPv6ExtHdrFragment(offset=0, m=1, id=7) / UDP(sport=5, dport=6) / TEXT,
    DOWN / V6 / IPv6ExtHdrFragment(offset=100, m=0, id=7, nh=17) / TEXT,
    DOWN / V6 / AH(nh=6, payloadlen=4, spi=1, seq=1, icv=b"\0" * 12) / TCP(sport=5, dport=6, flags="S"),
    DOWN / IPv6(src="fd77::1", dst="fd77::2", nh=253) / TEXT,
    Raw(bytes(DOWN / V6)[:30]),
    # Errors that quote the packet they are about.
    UP / IP(src="10.77.0.2", dst="10.77.0.1") / ICMP(type=3, code=3) / IPerror(src="10.77.0.1", dst="10.77.0.2") / UDPerror(sport=7, dport=7),
    UP / IPv6(src="fd77::2", dst="fd77::1") / ICMPv6DestUnreach(code=4) / V6 / UDP(sport=7, dport=7),
    DOWN / V6 / ICMPv6EchoRequest(id=1, seq=1),
    DOWN / IPv6(src="fd77::1", dst="ff02::1:ff00:2", hlim=255) / ICMPv6ND_NS(tgt="fd77::2"),
    # TCP: no flags, all flags, options, a data offset that lies, a header cut short.
    DOWN / V4 / TCP(sport=1, dport=2, flags=""),
    DOWN / V4 / TCP(sport=1, dport=2, flags="FSRPAUEC"),
    DOWN / V4 / TCP(sport=1, dport=2, flags="S", options=[("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("WScale", 7)]),
    DOWN / V4 / TCP(sport=1, dport=2, dataofs=3) / TEXT,
    Raw(bytes(DOWN / V4 / TCP())[:40]),
    # UDP: a length of zero, one too long, checksum absent.
    DOWN / V4 / UDP(sport=1, dport=2, len=0) / TEXT,
    DOWN / V4 / UDP(sport=1, dport=2, len=60000) / TEXT,
    DOWN / V4 / UDP(sport=1, dport=2, chksum=0) / TEXT,
    # Types nobody here dissects, a runt, and a jumbo.
    Ether(src=A, dst=B, type=0x88CC) / TEXT,
    Raw(bytes(DOWN)[:10]),
    Raw(bytes(DOWN)[:14]),
    DOWN / V4 / UDP(sport=1, dport=2) / Raw(bytes(range(256)) * 34),
]

out = sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).parent / "odd.pcap")
with RawPcapWriter(out, linktype=1, snaplen=65535) as writer:
    writer.write_header(None)
    for i, frame in enumerate(frames):
        data = bytes(frame)
        writer.write_packet(data, sec=1_700_000_000, usec=i * 1000, caplen=len(data), wirelen=len(data))
