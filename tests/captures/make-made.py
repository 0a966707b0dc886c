#!/usr/bin/env python3
"""Makes made.pcap and soup.pcap.gz: TCP that no Linux stack sends, frame by frame.

    make-made.py [--soup SEED FRAMES FILE]

made.pcap has each fact of TCP analysis in its textbook form, and at the edges
of what defines it. soup.pcap.gz is a random walk: many connections at once
whose ends mostly behave, and often do what is just beside it: a sequence number
one off, an old segment again, an ACK of what nobody sent, a window of nothing.
Deterministic: the same script gives the same bytes. With --soup only another
soup is made, of another seed. Python's standard library only.
"""
import gzip
import random
import socket
import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
MASK = 0xFFFFFFFF
BEGIN = 1_700_000_000


def checksum(bytes_):
    if len(bytes_) % 2:
        bytes_ += b"\0"
    total = sum(struct.unpack(f"!{len(bytes_) // 2}H", bytes_))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def wscale(n):
    return bytes([1, 3, 3, n])


MSS = bytes([2, 4, 5, 180])


class File:
    """A pcap file in the making: frames, and a clock in microseconds."""

    def __init__(self, snap=94):
        self.now, self.out, self.snap, self.frames = 0, bytearray(), snap, 0
        self.out += struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)

    def frame(self, bytes_, after=0, snap=None, missing=0):
        """`missing`: bytes the frame has on the wire beyond those given."""
        self.now += after
        have = bytes_[:self.snap if snap is None else snap]
        self.out += struct.pack("<4I", BEGIN + self.now // 1_000_000, self.now % 1_000_000, len(have), len(bytes_) + missing)
        self.out += have
        self.frames += 1

    def write(self, path):
        bytes_ = bytes(self.out)
        if path.suffix == ".gz":
            with open(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as out:
                out.write(bytes_)
        else:
            path.write_bytes(bytes_)
        print(f"{path.name}: {self.frames} frames, {path.stat().st_size} bytes")


class End:
    def __init__(self, address, port):
        self.v6 = ":" in address
        self.ip = socket.inet_pton(socket.AF_INET6 if self.v6 else socket.AF_INET, address)
        self.port = port


def segment(source, destination, flags, seq, ack, length=0, window=1000, options=b"", tags=b"", total=None, offset=None,
            pad=True, extension=b""):
    """An Ethernet frame with one TCP segment of `length` bytes of data."""
    options += b"\0" * (-len(options) % 4)
    words = 5 + len(options) // 4 if offset is None else offset
    tcp = struct.pack("!HHIIBBHHH", source.port, destination.port, seq & MASK, ack & MASK, words << 4, flags, window, 0, 0)
    tcp += options + b"w" * length
    ends = source.ip + destination.ip
    sum_ = checksum(ends + struct.pack("!IHH", len(tcp), 0, 6) + tcp)
    tcp = tcp[:16] + struct.pack("!H", sum_) + tcp[18:]
    if source.v6:
        following, body = (extension[:1][0], extension[1:]) if extension else (6, b"")
        ip = struct.pack("!IHBB", 6 << 28, len(body) + len(tcp) if total is None else total, following, 64) + ends + body
        kind = b"\x86\xdd"
    else:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp) if total is None else total, 7, 0x4000, 64, 6, 0) + ends
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        kind = b"\x08\x00"
    frame = bytes.fromhex("020000000002020000000001") + tags + kind + ip + tcp
    return frame.ljust(60, b"\0") if pad else frame


class Talk:
    """A connection whose ends the script plays. `c` is the client, `s` the server."""

    port = 40000

    def __init__(self, file, v6=False, isn=(1000, 5000), ports=None, tags=b"", scales=(7, 7), window=8192):
        Talk.port += 1
        self.file, self.tags, self.scales, self.window = file, tags, scales, window
        client, server = ports or (Talk.port, 80)
        self.end = {"c": End("fd77::1" if v6 else "10.77.0.1", client), "s": End("fd77::2" if v6 else "10.77.0.2", server)}
        self.seq = {"c": isn[0] & MASK, "s": isn[1] & MASK}

    def say(self, who, flags=ACK, length=0, seq=0, ack=0, after=1000, window=None, options=b"", move=True, **more):
        """`seq` and `ack` are offsets from where this end, and the other, are."""
        other = "s" if who == "c" else "c"
        at = (self.seq[who] + seq) & MASK
        self.file.frame(segment(self.end[who], self.end[other], flags, at, self.seq[other] + ack if flags & ACK else 0,
                                length, self.window if window is None else window, options, self.tags, **more), after)
        if move:
            self.seq[who] = (at + length + (1 if flags & (SYN | FIN) else 0)) & MASK
        return self

    def open(self, rtt=10_000):
        def option(n):
            return MSS + (wscale(n) if n is not None else b"")

        self.say("c", SYN, options=option(self.scales[0]))
        self.say("s", SYN | ACK, after=rtt - 500, options=option(self.scales[1]))
        return self.say("c", after=500)

    def close(self):
        self.say("c", FIN | ACK)
        self.say("s", FIN | ACK)
        return self.say("c")

    def exchange(self):
        self.say("c", ACK | PSH, 300)
        self.say("s")
        self.say("s", ACK | PSH, 1400)
        return self.say("c")


def zero_windows(f, v6):
    # A receiver without room, probed with one byte, which it refuses; then it has room.
    t = Talk(f, v6).open()
    t.say("c", length=1000).say("s", window=0)
    for _ in range(3):
        t.say("c", length=1, after=300_000, move=False)
        t.say("s", window=0)
    t.say("s", window=500, after=100_000)
    t.say("c", length=1000).say("s")
    # A probe that is taken; the answer is an ordinary ACK.
    t.say("s", window=0)
    t.say("c", length=1, after=300_000)
    t.say("s", window=900)
    # One byte where the window is closed, but not at the edge; and two bytes.
    t.say("s", window=0)
    t.say("c", length=1, seq=5, move=False).say("c", length=2, move=False).say("c", length=1, seq=-1, move=False)
    t.close()
    # Closed from the beginning: SYN-ACK with no window.
    t = Talk(f, v6)
    t.say("c", SYN, options=MSS).say("s", SYN | ACK, window=0, options=MSS).say("c")
    t.say("c", length=1, move=False).say("s", window=0).say("s", window=0).say("s", RST | ACK, window=0)


def windows_full(f, v6):
    for scales in ((2, 2), (None, None), (2, None), (0, 0), (14, 14)):
        t = Talk(f, v6, scales=scales, window=350).open()
        t.say("c", length=350).say("s").say("c", length=350).say("s")
        edge = 350 << (scales[1] if None not in scales else 0)
        if edge <= 1400:
            t.say("c", length=edge).say("s").say("c", length=edge - 1).say("c", length=1).say("c", length=1)
        t.close()
    # Whoever didn't see the SYN knows no scale.
    t = Talk(f, v6, window=350)
    t.say("c", length=100).say("s").say("c", length=350).say("s").say("c", length=350).close()


def keep_alives(f, v6):
    for length in (0, 1):
        t = Talk(f, v6).open().exchange()
        for _ in range(2):
            t.say("c", length=length, seq=-1, after=1_000_000, move=False).say("s")
        # Unanswered, then answered twice; then the other side's.
        t.say("c", length=length, seq=-1, after=1_000_000, move=False)
        t.say("c", length=length, seq=-1, after=1_000_000, move=False).say("s").say("s")
        t.say("s", length=length, seq=-1, after=1_000_000, move=False).say("c", window=17)
        # Not keep-alives: two bytes, FIN, one further back.
        t.say("c", length=2, seq=-1, after=1_000_000, move=False).say("c", FIN | ACK, seq=-1, move=False)
        t.say("c", length=1, seq=-2, move=False)
        t.close()


def lost(f, v6):
    # A hole before what is seen; the ACK of what was never seen; both again.
    t = Talk(f, v6).open().exchange()
    t.say("c", length=500, seq=700).say("s")
    t.say("s", ack=4000).say("s", ack=4000).say("s", ack=5000)
    t.say("c", length=100).say("s", ack=9000).say("s", ack=9100)
    t.say("c", length=100, seq=9100).say("s")
    # A hole without data in it, and one before a FIN; RST beyond is no loss.
    t.say("c", seq=10, move=False).say("c", FIN | ACK, seq=10).say("c", RST, seq=100)
    # ACKs of what was never seen while nothing else comes.
    t = Talk(f, v6).open()
    for n in range(1, 6):
        t.say("s", ack=n * 1000)
        t.say("s", ack=n * 1000)
    t.close()


def again(f, v6):
    # Fast or by time-out: two duplicate ACKs, and 20 ms between them.
    for wait in (1_000, 19_000, 19_999, 20_000, 20_001, 300_000):
        for dups in (0, 1, 2, 3):
            t = Talk(f, v6).open().exchange()
            t.say("c", length=1000)
            for _ in range(4):
                t.say("c", length=1000)
            for _ in range(dups + 1):
                t.say("s", ack=-4000)
            t.say("c", length=1000, seq=-4000, after=wait, move=False)
            t.say("s").close()
    # Out of order or again: the initial round trip is the line between them.
    for rtt in (2_000, 10_000):
        for wait in (rtt - 1, rtt, rtt + 1, 2_999, 3_000, 3_001):
            t = Talk(f, v6).open(rtt)
            t.say("c", length=1000).say("c", length=1000, seq=1000)
            t.say("c", length=1000, seq=-2000, after=wait, move=False)
            t.close()
    for wait in (2_999, 3_000, 3_001):
        t = Talk(f, v6)
        t.say("c", length=1000).say("c", length=1000, seq=1000)
        t.say("c", length=1000, seq=-2000, after=wait, move=False)
        t.close()
    # The last segment again, at once: it ends where the connection is.
    t = Talk(f, v6).open().exchange()
    t.say("c", length=700).say("c", length=700, seq=-700, after=100, move=False)
    # Again although it was acknowledged; in part; overlapping what is new.
    t.say("s").say("c", length=700, seq=-700, move=False).say("c", length=300, seq=-700, move=False)
    t.say("c", length=1000, seq=-700).say("s")
    # FINs and SYNs again.
    t.say("c", FIN | ACK).say("c", FIN | ACK, seq=-1, after=200_000, move=False).say("s", FIN | ACK)
    t.say("s", FIN | ACK, seq=-1, after=100, move=False).say("c")


def opening(f, v6):
    # Both open at once.
    t = Talk(f, v6, ports=(6001, 6002))
    t.say("c", SYN, options=MSS).say("s", SYN, options=MSS)
    t.say("c", SYN | ACK, seq=-1, move=False).say("s", SYN | ACK, seq=-1, move=False).exchange().close()
    # SYN again, SYN-ACK again, SYN-ACK of another start, then RST.
    t = Talk(f, v6)
    t.say("c", SYN).say("c", SYN, seq=-1, after=1_000_000, move=False)
    t.say("s", SYN | ACK).say("s", SYN | ACK, seq=-1, after=1_000_000, move=False)
    t.say("s", SYN | ACK, seq=77777, move=False).say("c").say("c", RST)
    # The same ports again: after RST, after FIN, at once; with the same start and with another.
    for ending in ("none", "reset", "close", "refused"):
        t = Talk(f, v6, ports=(7000 + len(ending), 443), isn=(100, 900))
        if ending == "refused":
            t.say("c", SYN).say("s", RST | ACK, seq=-900)
        else:
            t.open().exchange()
        if ending == "reset":
            t.say("c", RST | ACK)
        if ending == "close":
            t.close()
        t.seq = {"c": 100, "s": 900}
        t.say("c", SYN, after=1_000_000, options=MSS)
        t.seq = {"c": 70_000, "s": 80_000}
        t.open().exchange().close()
        # The server's start is another, the client's is not.
        t.seq = {"c": 70_000, "s": 180_000}
        t.open().exchange().close()
    # Who begins is not who began before.
    t = Talk(f, v6, ports=(8001, 8002)).open().exchange().close()
    t.seq = {"c": 500_000, "s": 600_000}
    t.say("s", SYN, options=MSS).say("c", SYN | ACK, options=MSS).say("s").exchange().close()
    # Data with the SYN, and with the SYN-ACK.
    t = Talk(f, v6)
    t.say("c", SYN, 100, options=MSS).say("s", SYN | ACK, 50).say("c").exchange().close()
    # Never opened where it was seen from: from the middle, and only one side of it.
    Talk(f, v6).exchange().close()
    t = Talk(f, v6)
    for _ in range(3):
        t.say("s", length=900)
    # Flags nobody means: none, all, SYN and FIN, SYN and RST, FIN alone, data without ACK.
    t = Talk(f, v6)
    for flags in (0, 0x3F, SYN | FIN, SYN | RST, FIN, PSH, URG | PSH | FIN):
        t.say("c", flags, 10)
    # From a port to the same port of the same address.
    t = Talk(f, v6, ports=(139, 139))
    t.end["s"] = t.end["c"]
    t.say("c", SYN).say("s", SYN | ACK).say("c", length=10).say("c", length=10, seq=-10, after=50_000)


def numbers_wrap(f, v6):
    for isn in (MASK - 2000, MASK - 1, MASK, MASK - 1300, 0x7FFFFFFF - 500):
        t = Talk(f, v6, isn=(isn, isn - 300)).open().exchange()
        for _ in range(3):
            t.say("c", length=650)
        t.say("s", ack=-1950).say("s", ack=-1950).say("s", ack=-1950).say("c", length=650, seq=-1950, move=False).say("s")
        t.say("s", length=10, seq=5).say("c").close()


def odd_frames(f):
    # Tags, one and two.
    for tags in ("8100004d", "88a800648100004d"):
        Talk(f, tags=bytes.fromhex(tags)).open().exchange().close()
    # An IPv6 header that says which header comes next: hop-by-hop, with padding.
    t = Talk(f, True)
    for who, flags in (("c", SYN), ("s", SYN | ACK), ("c", ACK)):
        t.say(who, flags, extension=bytes([0, 6, 0, 1, 4, 0, 0, 0, 0]))
    # A total length of nothing: what segmentation offload shows. The frame's length says how much it is.
    t = Talk(f).open()
    t.say("c", length=1200, total=0, pad=False).say("s").say("c", length=900, total=0, pad=False).say("s").close()
    # A data offset that is too small, and one that is beyond the segment.
    t = Talk(f).open()
    t.say("c", length=20, offset=4, move=False).say("c", length=4, offset=15, move=False).exchange().close()
    # Cut off: in the options, before them, and in the middle of the header.
    for snap in (62, 54, 50, 40):
        whole, f.snap = f.snap, snap
        t = Talk(f).open().exchange()
        t.say("c", length=500, seq=-300, options=bytes([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1])).close()
        f.snap = whole
    # An ICMP error that quotes a segment of a connection is none of its segments.
    t = Talk(f).open()
    quoted = segment(t.end["c"], t.end["s"], ACK, t.seq["c"], t.seq["s"], 100)[14:42]
    icmp = struct.pack("!BBHI", 3, 1, 0, 0) + quoted
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(icmp), 7, 0, 64, 1, 0) + t.end["s"].ip + t.end["c"].ip
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    f.frame(bytes.fromhex("0200000000010200000000020800") + ip + icmp, 1000)
    t.exchange().close()
    # A clock that goes back.
    t = Talk(f).open().exchange()
    t.say("c", length=1000).say("c", length=1000, seq=1000, after=5_000)
    t.say("c", length=1000, seq=-2000, after=-3_000, move=False).say("s").close()


def made():
    f = File()
    for v6 in (False, True):
        for part in (zero_windows, windows_full, keep_alives, lost, again, opening, numbers_wrap):
            part(f, v6)
            f.now += 1_000_000
    odd_frames(f)
    return f


class Walker:
    """One connection of the soup: what an observer would expect, and steps beside it."""

    def __init__(self, roll, number):
        self.roll, v6 = roll, roll.random() < 0.2
        low, high = ("fd77::1", "fd77::2") if v6 else ("10.77.0.1", "10.77.0.2")
        if roll.random() < 0.5:
            low, high = high, low
        self.ends = (End(low, 20000 + number), End(high, roll.choice((80, 443, 60000 + number))))
        start = roll.choice((lambda: roll.randrange(1 << 32), lambda: MASK - roll.randrange(3000), lambda: roll.randrange(2)))
        self.next, self.acked = [start() & MASK, start() & MASK], [0, 0]
        self.base = list(self.next)
        self.window, self.scale = [1000, 1000], [roll.choice((None, 0, 2, 7)), roll.choice((None, 0, 2, 7))]
        self.steps = ["syn", "synack", "ack"] if roll.random() < 0.8 else []
        self.rtt, self.old = roll.choice((800, 5_000, 40_000)), []

    def frame(self, f):
        r = self.roll
        if self.steps and r.random() < 0.95:
            step = self.steps.pop(0)
            who = 1 if step == "synack" else 0
            if step == "ack":
                return self.send(f, who, ACK, self.next[who], self.next[1 - who])
            options = MSS + (wscale(self.scale[who]) if self.scale[who] is not None else b"")
            return self.send(f, who, SYN | (ACK if who else 0), self.next[who], self.next[1 - who] if who else 0, options=options)
        who = r.randrange(2)
        kind = r.choices(
            ("data", "ack", "dup", "replay", "skip", "ahead", "behind", "zero", "probe", "alive", "update", "full", "fin", "rst", "syn", "any"),
            (25, 20, 12, 9, 3, 3, 6, 3, 5, 5, 3, 4, 1, 0.5, 3, 6))[0]
        seq, ack, other = self.next[who], self.acked[who], 1 - who
        if kind == "data":
            return self.send(f, who, ACK, seq, r.choice((ack, self.next[other])), r.choice((1, 100, 1000, 1448)))
        if kind == "ack":
            return self.send(f, who, ACK, seq, self.next[other])
        if kind == "dup":
            for _ in range(r.randrange(1, 5)):
                self.send(f, who, ACK, seq, ack)
            if r.random() < 0.6:
                self.send(f, other, ACK, ack, r.choice((self.acked[other], seq)), r.choice((1, 100, 1000)))
            return None
        if kind == "replay" and self.old:
            who, flags, seq, ack, length, window, options = r.choice(self.old[-12:])
            return self.send(f, who, flags, seq, ack, length, window, options)
        if kind == "skip":
            return self.send(f, who, ACK, seq + r.choice((1, 100, 1448)), ack, r.choice((0, 1, 1000)))
        if kind == "ahead":
            return self.send(f, who, ACK, seq, self.next[other] + r.choice((1, 100, 5000)), r.choice((0, 0, 100)))
        if kind == "behind":
            return self.send(f, who, ACK, seq - r.choice((1, 2, 100, 1000, 1448)), ack, r.choice((1, 2, 100, 1000, 1448, 3000)))
        if kind == "zero":
            return self.send(f, who, ACK, seq, r.choice((ack, self.next[other])), window=0)
        if kind == "probe":
            self.send(f, other, ACK, self.next[other], r.choice((seq, self.acked[other])), window=0)
            for _ in range(r.randrange(1, 3)):
                self.send(f, who, ACK, self.next[who], ack, 1)
                if r.random() < 0.3:
                    self.next[who] = (self.next[who] + 1) & MASK
                if r.random() < 0.8:
                    self.send(f, other, ACK, self.next[other], self.acked[other], window=r.choice((0, 0, 500)))
            return None
        if kind == "alive":
            self.send(f, who, ACK, seq - 1, ack, r.randrange(2))
            return self.send(f, other, ACK, self.next[other], self.acked[other]) if r.random() < 0.7 else None
        if kind == "update":
            return self.send(f, who, ACK, seq, ack, window=r.randrange(1, 3000))
        if kind == "full":
            scale = self.scale[other] if None not in self.scale else 0
            edge = (self.acked[other] + (self.window[other] << scale) - seq) & MASK
            return self.send(f, who, ACK, seq, ack, edge if 0 < edge < 60000 else 10)
        if kind == "fin":
            return self.send(f, who, FIN | ACK, seq, ack, r.choice((0, 0, 50)))
        if kind == "rst":
            return self.send(f, who, r.choice((RST, RST | ACK)), seq + r.choice((0, 0, 700)), r.choice((0, ack)), window=0)
        if kind == "syn":
            if r.random() < 0.5:
                self.base[who] = r.randrange(1 << 32)
                self.next[who] = self.base[who]
                if r.random() < 0.7:
                    self.steps = ["syn", "synack", "ack"] if not who else []
                    return None
            flags = SYN | (ACK if r.random() < 0.3 else 0)
            return self.send(f, who, flags, self.base[who], self.next[other] if flags & ACK else 0)
        return self.send(f, who, r.choice((ACK, ACK, PSH | ACK, 0, FIN | ACK)), r.choice((seq, seq - 1, ack, self.base[who] + 1)),
                         r.choice((ack, self.next[other], self.acked[other], 0)), r.choice((0, 0, 1, 2, 700)), r.choice((0, 1, 500)))

    def send(self, f, who, flags, seq, ack, length=0, window=None, options=b""):
        r, seq, ack = self.roll, seq & MASK, ack & MASK
        if window is None:
            window = self.window[who] or (1000 if r.random() < 0.4 else 0)
        wait = r.choice((10, 300, 1_000, 2_900, 3_100, self.rtt - 10, self.rtt, 19_900, 20_100))
        if r.random() < 0.02:
            wait = r.randrange(200_000, 1_500_000)
        # No more bytes are written than are kept; the rest is on the wire only.
        header = segment(self.ends[who], self.ends[1 - who], flags, seq, ack, 0, window, options, pad=False,
                         total=(0 if self.ends[0].v6 else 20) + 20 + len(options) + length)
        f.frame(header, wait, missing=length)
        self.window[who], self.acked[who] = window, ack
        end = (seq + length + (1 if flags & (SYN | FIN) else 0)) & MASK
        if (end - self.next[who]) & MASK < 1 << 31:
            self.next[who] = end
        self.old.append((who, flags, seq, ack, length, window, options))


def soup(seed, frames):
    roll, f, number, walkers = random.Random(seed), File(), 0, []
    while f.frames < frames:
        if len(walkers) < 6:
            number += 1
            walkers.append(Walker(roll, number % 1000))
        walker = roll.choice(walkers)
        for _ in range(roll.randrange(1, 6)):
            walker.frame(f)
        if roll.random() < 0.015:
            walkers.remove(walker)
    return f


if __name__ == "__main__":
    if sys.argv[1:2] == ["--soup"]:
        soup(int(sys.argv[2]), int(sys.argv[3])).write(Path(sys.argv[4]))
    else:
        made().write(HERE / "lossy" / "made.pcap.gz")
        soup(1, 3000).write(HERE / "lossy" / "soup.pcap.gz")
