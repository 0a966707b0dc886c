#!/usr/bin/env python3
"""Makes lossy/*.pcap.gz: two real Linux stacks across a wire that loses frames.

    make-lossy.py [--only NAME…] [--seed N] [--out DIR] [--big]

Each scene is a pair of namespaces, a wire with rules (wire.py) and a tcpdump at
each end, because observers at the two ends see different things: the sender's
sees the frames that will be lost, the receiver's does not. --big carries larger
objects and keeps both ends of every scene, for folders that are not committed.
A new run gives other bytes; the wire's rules are seeded, the stacks' times are not.
Wants root, iproute2, ethtool, tcpdump, curl, nginx, iperf3, netcat-openbsd.
"""
import argparse
import random
import socket
import struct
import sys
import time
from pathlib import Path

from lossy_net import A, B, MAC, V4, V6, Net, drain, inside, pour, reset

SCENES = {}
BIG = False


def scene(ab="", ba="", keep="ab", **net):
    """A scene: the wire's rules, and whose captures are kept (a, b or both)."""

    def register(function):
        SCENES[function.__name__.replace("_", "-")] = (function, ab, ba, keep, net)
        return function

    return register


def size(small, big):
    return big if BIG else small


# --- transfers: nginx on b, curl on a ---


@scene(ab="delay:5,drop:0.01", ba="delay:5,drop:0.02")
def bulk(net):
    net.nginx()
    net.curl(size("1000k", "3000k"))
    for _ in range(size(8, 40)):
        net.curl("20k")


@scene(ab="delay:8,drop:0.02", ba="delay:8,drop:0.03")
def bulk_ipv6(net):
    net.nginx()
    net.curl(size("1000k", "3000k"), v6=True)
    for _ in range(size(4, 30)):
        net.curl("20k", v6=True)


@scene(ab="delay:5,drop:0.01", ba="delay:5,drop:0.03", sysctl=["net.ipv4.tcp_sack=0"])
def without_sack(net):
    net.nginx()
    net.curl(size("300k", "3000k"))


@scene(ab="delay:5,drop:0.01", ba="delay:5,drop:0.02", keep="a",
       sysctl=["net.ipv4.tcp_timestamps=0", "net.ipv4.tcp_window_scaling=0"])
def without_options(net):
    net.nginx()
    net.curl(size("150k", "1000k"))
    for _ in range(size(4, 20)):
        net.curl("20k")


@scene(ab="delay:4,jitter:3", ba="delay:6,jitter:6,drop:0.005", nano=True)
def jitter(net):
    net.nginx()
    net.curl(size("300k", "1000k"))


@scene(ab="delay:3,dup:0.03,reorder:0.03", ba="delay:3,dup:0.03,reorder:0.05", keep="a")
def duplicates(net):
    net.nginx()
    net.curl(size("150k", "1000k"))
    for _ in range(size(6, 30)):
        net.curl("20k")


@scene(ab="delay:2,drop:0.12", ba="delay:2,drop:0.12")
def heavy(net):
    net.nginx()
    for _ in range(size(20, 80)):
        net.curl("20k", timeout=15)
    net.curl(size("60k", "300k"), timeout=30)


@scene(ab="delay:10,rate:1000,queue:20", ba="delay:10,rate:6000,queue:15", congestion=None)
def congested(net):
    net.nginx()
    first = net.exec("a", "curl", "-s", "-o", "/dev/null", "-m", 30, f"http://{V4['b']}/{size('150k', '1000k')}", wait=False)
    net.curl(size("300k", "1000k"))
    first.wait(30)


@scene(ba="delay:10,nth:20/45/46/80/81/82/150/199")
def single_losses(net):
    net.nginx()
    net.curl("300k")


@scene(ba="delay:10,black:0.06-0.9")
def blackout(net):
    net.nginx()
    net.curl("150k")
    net.curl("20k")


@scene(ab="delay:10", ba="delay:10,spike:60+450")
def delay_spike(net):
    net.nginx()
    net.curl("150k")


@scene(ab="delay:10,black:0.08-0.6", ba="delay:10", keep="b")
def acks_lost(net):
    net.nginx()
    net.curl("150k")


@scene(ab="delay:6,syn:3", ba="delay:6,syn:2,fin:2", keep="a")
def handshakes_lost(net):
    net.nginx()
    net.curl("small")
    net.curl("small", v6=True)
    net.curl("20k")


@scene(ab="delay:4,drop:0.02", ba="delay:4,drop:0.02", offloads=True, congestion=None)
def offloads(net):
    net.nginx()
    net.curl(size("1000k", "3000k"))
    net.curl(size("1000k", "1000k"), v6=True)


@scene(ab="delay:3,drop:0.06", ba="delay:3,drop:0.06", keep="a", vlan=77)
def tagged(net):
    net.nginx()
    for _ in range(size(5, 30)):
        net.curl("20k")


@scene(ab="delay:3,drop:0.02", ba="delay:3,drop:0.03", keep="a", late=True)
def joined_late(net):
    """The captures begin when the connections have been running for a while."""
    pairs = [net.pair(v6=v6) for v6 in (False, True)]
    for n in range(size(60, 400)):
        if n == 15:
            net.listen_to_wire()
        for a, b in pairs:
            a.sendall(b"w" * 200)
            b.sendall(b"w" * 4000)
            drain(a, 4000)
            drain(b, 200)
        time.sleep(0.01)
    for a, b in pairs:
        a.close()
        b.close()
    time.sleep(0.3)


@scene(ab="delay:3,drop:0.01", ba="delay:3,drop:0.03", keep="a", only="in")
def one_direction(net):
    net.nginx()
    net.curl(size("60k", "300k"))
    net.curl("20k")


@scene(ab="delay:4,drop:0.02", ba="delay:4,drop:0.02", keep="b")
def iperf(net):
    net.exec("b", "iperf3", "-s", "-1", wait=False)
    time.sleep(0.4)
    net.exec("a", "iperf3", "-c", V4["b"], "-P", 3, "-n", size("60K", "500K"), "-l", "8K", timeout=30)
    if BIG:
        net.exec("b", "iperf3", "-s", "-1", wait=False)
        time.sleep(0.4)
        net.exec("a", "iperf3", "-c", V4["b"], "--bidir", "-n", "500K", "-l", "8K", timeout=30)


@scene(ab="delay:4,drop:0.02", ba="delay:4,drop:0.02", keep="a", sysctl=["net.ipv4.tcp_ecn=1"], mtu=600)
def small_frames(net):
    net.nginx()
    net.curl("60k")
    net.curl("20k")


@scene(ab="delay:5,drop:0.05", ba="delay:5,drop:0.05", nano=True)
def talk(net):
    """Both send small things all the time: acknowledgements ride on data."""
    roll = random.Random(7)
    pairs = [net.pair(v6=v6) for v6 in (False, True, False)]
    for a, b in pairs:
        a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for s in (a, b):
            s.settimeout(0.0)
    for _ in range(size(120, 1500)):
        for one, other in pairs:
            for s in (one, other):
                if roll.random() < 0.6:
                    try:
                        s.send(b"t" * roll.randrange(1, 400))
                    except OSError:
                        pass
                if roll.random() < 0.8:
                    try:
                        s.recv(65536)
                    except OSError:
                        pass
        time.sleep(roll.random() * 0.02)
    for a, b in pairs:
        a.close()
        b.close()
    time.sleep(1.0)


@scene(ab="delay:4,drop:0.02", ba="delay:4,drop:0.02", keep="b", deaf=True)
def missed_by_observer(net):
    """The observer misses frames that the stacks had: ACKs of what it never saw."""
    net.nginx()
    net.curl(size("300k", "1000k"))
    net.curl(size("300k", "1000k"), v6=True)
    for _ in range(size(10, 60)):
        net.curl("20k")
    slow_reader(net)


@scene(ab="delay:4,drop:0.06", ba="delay:4,drop:0.06", keep="a", snap=60)
def cut_in_the_options(net):
    """Frames cut before the options end: what they say is not known."""
    net.nginx()
    for _ in range(size(5, 30)):
        net.curl("20k")


@scene(ab="delay:4,drop:0.05", ba="delay:4,drop:0.05", keep="a", sysctl=["net.ipv4.tcp_fastopen=3"])
def fast_open(net):
    """Data in the SYN, once the cookie is known."""
    listener = net.socket("b", port=5700, options=[(socket.IPPROTO_TCP, 23, 8)])
    listener.listen(8)
    for _ in range(size(6, 30)):
        s = net.socket("a")
        s.setblocking(True)
        try:
            s.sendto(b"early " * 40, 0x20000000, (V4["b"], 5700))
            other = listener.accept()[0]
            drain(other, 240)
            other.sendall(b"w" * 3000)
            other.close()
            drain(s)
        except OSError:
            pass
        s.close()


@scene(ab="delay:2", ba="delay:2", keep="a")
def file_by_netcat(net):
    net.exec("b", "sh", "-c", "nc -l -p 7000 -N < /dev/null > /dev/null", wait=False)
    time.sleep(0.3)
    net.exec("a", "sh", "-c", f"head -c {size(60000, 600000)} /dev/zero | nc -N {V4['b']} 7000", timeout=20)


# --- windows ---


def slow_reader(net, v6=False):
    a, b = net.pair(v6=v6, server={"rcvbuf": 4096})
    poured = pour(a, 60000)
    time.sleep(2.2)
    for pause in (0.0, 0.3, 0.0, 0.7):
        drain(b, 12000, pause=pause / 10)
        time.sleep(pause)
    drain(b, 60000 - 48000)
    poured.join(20)
    a.close()
    b.close()
    time.sleep(0.2)


@scene(ab="delay:1", ba="delay:1")
def zero_window(net):
    slow_reader(net)
    slow_reader(net, v6=True)
    # A reader that takes a byte now and then.
    a, b = net.pair(server={"rcvbuf": 2304})
    poured = pour(a, 9000)
    for _ in range(30):
        drain(b, 100)
        time.sleep(0.03)
    drain(b, 6000)
    poured.join(10)
    reset(b)
    time.sleep(0.1)


@scene(ab="delay:3,drop:0.08", ba="delay:3,drop:0.08")
def zero_window_lossy(net):
    for _ in range(size(1, 4)):
        slow_reader(net)
        slow_reader(net, v6=True)


@scene(ab="delay:15", ba="delay:15")
def window_full(net):
    """A window far smaller than what the way holds: the sender fills it again and again."""
    for v6 in (False, True):
        a, b = net.pair(v6=v6, server={"rcvbuf": 6000}, client={"mss": 536})
        poured = pour(a, 40000)
        drain(b, 40000, piece=1500)
        poured.join(10)
        a.close()
        b.close()


# --- keep-alives ---

ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
         (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)]


@scene(ab="delay:5,drop:0.1", ba="delay:5,drop:0.1")
def keep_alive(net):
    both = [net.pair(client={"options": ALIVE}, v6=v6) for v6 in (False, True)]
    answered = net.pair(server={"options": ALIVE})
    for n in range(3):
        time.sleep(2.3)
        for one, other in both + [answered]:
            try:
                one.send(b"still here")
                other.send(b"so am I")
            except OSError:
                pass
    # One of them is told nothing any more: its keep-alives go unanswered.
    time.sleep(1.2)
    for a, b in both + [answered]:
        a.close()
        b.close()
    time.sleep(0.5)


# --- how connections begin and end ---


@scene(ab="delay:8", ba="delay:8")
def ends(net):
    # Half close: b goes on sending after a's FIN.
    a, b = net.pair()
    a.sendall(b"question")
    a.shutdown(socket.SHUT_WR)
    drain(b)
    for _ in range(5):
        b.sendall(b"w" * 700)
        time.sleep(0.02)
    b.close()
    drain(a)
    a.close()
    # The same the other way, over IPv6.
    a, b = net.pair(v6=True)
    b.shutdown(socket.SHUT_WR)
    a.sendall(b"w" * 5000)
    time.sleep(0.1)
    a.close()
    drain(b)
    b.close()
    # Both close at the same time: the FINs cross.
    for _ in range(2):
        a, b = net.pair()
        a.sendall(b"hello")
        drain(b, 5)
        a.close()
        b.close()
        time.sleep(0.1)
    # Resets: by each side, idle and with data under way, and with data unread.
    a, b = net.pair()
    reset(a)
    a, b = net.pair()
    a.sendall(b"w" * 4000)
    time.sleep(0.05)
    reset(b)
    a, b = net.pair()
    a.sendall(b"w" * 3000)
    time.sleep(0.05)
    b.close()
    time.sleep(0.05)
    a.close()
    # Sending to one who is gone.
    a, b = net.pair()
    b.close()
    time.sleep(0.05)
    for _ in range(3):
        try:
            a.sendall(b"anyone?")
            time.sleep(0.05)
        except OSError:
            pass
    # A port nobody listens on.
    for v6 in (False, True):
        s = net.socket("a", v6)
        try:
            s.connect(((V6 if v6 else V4)["b"], 4444))
        except ConnectionRefusedError:
            pass
    # Simultaneous open: the SYNs cross.
    one, other = net.socket("a", port=6001), net.socket("b", port=6002)
    one.setblocking(False)
    other.setblocking(False)
    one.connect_ex((V4["b"], 6002))
    other.connect_ex((V4["a"], 6001))
    time.sleep(0.2)
    one.setblocking(True)
    other.setblocking(True)
    one.sendall(b"both began")
    drain(other, 10)
    other.close()
    one.close()
    # Urgent data.
    a, b = net.pair()
    a.send(b"!", socket.MSG_OOB)
    a.sendall(b"calm")
    drain(b, 4)
    a.close()
    b.close()
    time.sleep(0.3)


@scene(ab="delay:2", ba="delay:2", keep="a")
def ports_reused(net):
    """The same two ports again and again, ended in different ways."""
    for ending in (reset, socket.socket.close, reset, reset):
        a, b = net.pair(port=5555, source=50123)
        a.sendall(b"w" * 100)
        drain(b, 100)
        b.sendall(b"w" * 2000)
        drain(a, 2000)
        if ending is reset:
            reset(a)
        else:  # b first, so that b waits in TIME-WAIT and a can come again
            b.close()
            time.sleep(0.05)
            a.close()
        time.sleep(0.2)
        b.close()
    for n in range(3):
        s = net.socket("a", port=50200)
        try:
            s.connect((V4["b"], 4445))
        except ConnectionRefusedError:
            pass
        s.close()


@scene(ab="delay:3,drop:0.01", ba="delay:3,drop:0.01", keep="ab")
def sequence_wrap(net):
    """Sequence numbers that go past 2^32 in the middle of a transfer."""
    for isn in (0xFFFF8000, 0xFFFFFFF0, 0x7FFFF000):
        a, b = net.pair(client={"isn": isn})
        poured = pour(a, 80000)
        drain(b, 80000)
        poured.join(10)
        a.close()
        b.close()
        time.sleep(0.1)


@scene(keep="a")
def port_scan(net):
    net.nginx()
    with inside(A):
        for port in list(range(20, 140)) + [80, 443]:
            s = socket.socket()
            s.settimeout(1)
            s.connect_ex((V4["b"], port))
            s.close()
    # A SYN scan: what comes back is answered with RST by the stack that knows of nothing.
    send = packets(net)
    for port in list(range(70, 90)):
        send(V4["a"], V4["b"], 55555, port, port * 1000, 0, 2)
        time.sleep(0.002)
    time.sleep(0.5)


@scene(keep="b")
def syn_flood(net):
    net.nginx()
    send, roll = packets(net), random.Random(5)
    for _ in range(400):
        send(f"198.51.100.{roll.randrange(1, 255)}", V4["b"], roll.randrange(1024, 65536), 80, roll.randrange(1 << 32), 0, 2)
        time.sleep(0.001)
    net.curl("small")
    time.sleep(1.5)


@scene(ab="delay:2", keep="a", sysctl=["net.ipv4.tcp_syn_retries=2"])
def full_backlog(net):
    """A listener that never accepts: connects beyond its backlog retransmit their SYN."""
    listener = net.socket("b", port=5600)
    listener.listen(2)
    for _ in range(8):
        s = net.socket("a")
        s.setblocking(False)
        s.connect_ex((V4["b"], 5600))
    time.sleep(3.5)


def checksum(bytes_):
    if len(bytes_) % 2:
        bytes_ += b"\0"
    total = sum(struct.unpack(f"!{len(bytes_) // 2}H", bytes_))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packets(net):
    """A function that puts a bare TCP segment of any sender on the wire, from a's end."""
    with inside(A):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        raw.bind((net.device[A], 0))
    net.sockets.append(raw)
    ether = bytes.fromhex((MAC["b"] + MAC["a"]).replace(":", "")) + b"\x08\x00"

    def send(source, destination, sport, dport, seq, ack, flags, window=1024):
        ends = socket.inet_aton(source) + socket.inet_aton(destination)
        tcp = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 0x50, flags, window, 0, 0)
        sum_ = checksum(ends + struct.pack("!HH", 6, len(tcp)) + tcp)
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 7, 0, 64, 6, 0) + ends
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        raw.send(ether + ip + tcp[:16] + struct.pack("!H", sum_) + tcp[18:])

    return send


def main():
    global BIG
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--only", nargs="*", default=list(SCENES), choices=list(SCENES), metavar="NAME")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "lossy")
    arguments.add_argument("--big", action="store_true")
    got = arguments.parse_args()
    BIG = got.big
    for name in got.only:
        function, ab, ba, keep, net = SCENES[name]
        began = time.monotonic()
        with Net(ab, ba, got.seed, **net) as made:
            function(made)
            for side in "ab" if BIG else keep:
                made.keep(side, got.out / f"{name}-{side}.pcap.gz")
        kept = ", ".join(f"{side} {(got.out / f'{name}-{side}.pcap.gz').stat().st_size}" for side in ("ab" if BIG else keep))
        print(f"{name}: {time.monotonic() - began:.1f} s, bytes: {kept}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
