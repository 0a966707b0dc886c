#!/usr/bin/env python3
"""A wire that loses, delays, repeats and reorders frames, between two network namespaces.

    wire.py NS_A NS_B [--seed N] [--ab RULES] [--ba RULES] [--ready FILE]

Opens a TAP named w0 in each namespace (the wire's two ends) and carries frames
between them until it is told to end (SIGTERM). RULES, for one direction, is a
list of words with commas between:

    drop:P dup:P            each frame is lost, or sent twice, with probability P
    delay:MS jitter:MS      how long a frame is under way; jitter makes frames overtake
    reorder:P               with probability P a frame waits for 4 ms more, and others overtake it
    rate:KBIT queue:N       so many kilobits a second; of those that wait, N at most
    nth:I/J/K               the I-th, J-th and K-th TCP segment that carries data is lost (from 1)
    syn:N                   the first N SYN or SYN-ACK are lost
    ack:I-J                 the I-th to the J-th TCP segment without data are lost
    fin:N                   the first N FIN are lost
    black:FROM-TO           all is lost FROM..TO seconds after the first TCP segment with data
    spike:I+MS              the I-th segment with data waits for MS more, and so do all behind it

What happens depends on the seed and on when frames come, no more. IP frames
only; ARP and neighbour discovery always pass. Python's standard library only.
"""
import argparse
import ctypes
import fcntl
import heapq
import os
import random
import select
import signal
import struct
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 2, 0x1000
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def tap(namespace, name):
    with open(f"/var/run/netns/{namespace}") as ns:
        if libc.setns(ns.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


def tcp(frame):
    """(flags, bytes of payload) of a TCP segment, None of anything else."""
    kind, at = frame[12:14], 14
    if kind == b"\x81\x00":
        kind, at = frame[16:18], 18
    if kind == b"\x08\x00" and frame[at + 9] == 6:
        header, total = (frame[at] & 15) * 4, struct.unpack_from("!H", frame, at + 2)[0]
    elif kind == b"\x86\xdd" and frame[at + 6] == 6:
        header, total = 40, 40 + struct.unpack_from("!H", frame, at + 4)[0]
    else:
        return None
    at += header
    return frame[at + 13], total - header - (frame[at + 12] >> 4) * 4


def always_passes(frame):
    return frame[12:14] == b"\x08\x06" or (frame[12:14] == b"\x86\xdd" and frame[20] == 58)


class Way:
    """One direction."""

    def __init__(self, rules, random_):
        self.random, self.out, self.waiting = random_, [], 0
        self.serial = self.data = self.acks = self.fins = self.syns = 0
        self.began, self.last, self.busy = None, 0.0, 0.0
        self.p = {}
        for word in filter(None, (rules or "").split(",")):
            key, _, value = word.partition(":")
            self.p[key] = value
        known = {"drop", "dup", "delay", "jitter", "reorder", "rate", "queue", "nth", "syn", "ack", "fin", "black", "spike"}
        if set(self.p) - known:
            sys.exit(f"wire.py: no such rule: {', '.join(sorted(set(self.p) - known))}")
        self.nth = {int(n) for n in self.p.get("nth", "").split("/") if n}
        self.ack = self.span("ack", int)
        self.black = self.span("black", float)
        spike = self.p.get("spike", "0+0").split("+")
        self.spike, self.spike_s = int(spike[0]), float(spike[1]) / 1e3

    def span(self, key, kind):
        """FROM and TO of a rule that names a span; of one that isn't there, none."""
        low, _, high = self.p.get(key, "1-0").partition("-")
        return kind(low), kind(high)

    def number(self, key):
        return float(self.p.get(key, 0))

    def lost(self, segment, now):
        chance = self.random.random() < self.number("drop")
        if segment:
            flags, payload = segment
            if flags & 2:
                self.syns += 1
                if self.syns <= self.number("syn"):
                    return True
            if flags & 1:
                self.fins += 1
                if self.fins <= self.number("fin"):
                    return True
            if payload > 0:
                self.data += 1
                if self.began is None:
                    self.began = now
                if self.data in self.nth:
                    return True
            elif not flags & 7:
                self.acks += 1
                if self.ack[0] <= self.acks <= self.ack[1]:
                    return True
        if self.began is not None and self.black[0] <= now - self.began < self.black[1]:
            return True
        return chance

    def take(self, frame, now):
        """A frame enters: when it comes out, if it does, goes on the heap."""
        if always_passes(frame):
            return self.put(now, frame)
        segment = tcp(frame)
        before = self.data
        if self.lost(segment, now):
            return
        r = self.random
        due = now + self.number("delay") / 1e3 + r.random() * self.number("jitter") / 1e3
        if "rate" in self.p:
            if self.waiting >= (self.number("queue") or 100):
                return
            self.busy = max(self.busy, now) + len(frame) * 8 / (self.number("rate") * 1e3)
            due += self.busy - now
        if self.spike and before < self.spike == self.data:
            self.last = due + self.spike_s
        if r.random() < self.number("reorder"):
            due += 0.004
        elif "jitter" not in self.p:
            self.last = due = max(due, self.last)
        self.put(due, frame)
        if r.random() < self.number("dup"):
            self.put(due + r.random() * 0.002, frame)

    def put(self, due, frame):
        self.serial += 1
        self.waiting += 1
        heapq.heappush(self.out, (due, self.serial, frame))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("a")
    arguments.add_argument("b")
    for option in ("--ab", "--ba", "--ready"):
        arguments.add_argument(option)
    arguments.add_argument("--seed", type=int, default=1)
    got = arguments.parse_args()
    ways = [Way(got.ab, random.Random(got.seed)), Way(got.ba, random.Random(got.seed + 1))]
    ends = [tap(got.a, "w0"), tap(got.b, "w0")]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if got.ready:
        open(got.ready, "w").close()
    while True:
        now = time.monotonic()
        pending = [w.out[0][0] for w in ways if w.out]
        wait = max(0.0, min(pending) - now) if pending else 1.0
        for fd in select.select(ends, [], [], wait)[0]:
            side = ends.index(fd)
            # A few at a time: the other direction is not to wait for a burst.
            for _ in range(16):
                try:
                    frame = os.read(fd, 70000)
                except OSError:  # none left, or the end is down
                    break
                ways[side].take(frame, time.monotonic())
        now = time.monotonic()
        for side, way in enumerate(ways):
            while way.out and way.out[0][0] <= now:
                way.waiting -= 1
                try:
                    os.write(ends[1 - side], heapq.heappop(way.out)[2])
                except OSError:  # that end is down or full: a wire loses
                    pass


if __name__ == "__main__":
    main()
