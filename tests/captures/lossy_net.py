"""Two network stacks, a wire between them that loses, and tcpdump at both ends.

What make-lossy.py's scenes stand on. Everything lives in network namespaces
that `Net` makes and removes; sockets are made inside them by switching this
thread's namespace for a moment. Python's standard library only; wants root,
iproute2, ethtool, tcpdump, nginx.
"""
import contextlib
import ctypes
import gzip
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
A, B, BRIDGE_A, BRIDGE_B = "weir-w-a", "weir-w-b", "weir-w-ra", "weir-w-rb"
MAC = {"a": "02:00:00:00:00:01", "b": "02:00:00:00:00:02"}
V4 = {"a": "10.77.0.1", "b": "10.77.0.2"}
V6 = {"a": "fd77::1", "b": "fd77::2"}
libc = ctypes.CDLL(None, use_errno=True)

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21


def run(*words, **more):
    return subprocess.run([str(w) for w in words], check=True, **more)


@contextlib.contextmanager
def inside(namespace):
    """This thread is in the namespace; sockets made here stay there."""
    with open("/proc/thread-self/ns/net") as home, open(f"/var/run/netns/{namespace}") as there:
        if libc.setns(there.fileno(), 0x40000000):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
        try:
            yield
        finally:
            libc.setns(home.fileno(), 0x40000000)


class Net:
    """The two stacks. `ab` and `ba` are wire.py's rules for each direction.

    offloads: each stack has a veth whose segmentation and receive offloads are
    on, bridged to its end of the wire, and the captures are made at the veths.
    vlan: frames get this 802.1Q tag in the captures (a kernel may know no VLANs).
    late: the scene itself says when the captures begin, by listen_to_wire().
    only: tcpdump's -Q, frames of one direction.
    nano: the captures' times are in nanoseconds.
    deaf: the captures miss one frame in sixteen (by its checksum) that the stacks had.
    congestion: which control; namespaces may choose reno only, None is the machine's own.
    """

    def __init__(self, ab="", ba="", seed=1, sysctl=(), offloads=False, mtu=1500, vlan=0, snap=118, late=False, only=None,
                 nano=False, deaf=False, congestion="reno"):
        self.work = Path(tempfile.mkdtemp(prefix="weir-wire-"))
        self.offloads, self.snap, self.only, self.vlan, self.nano, self.deaf = offloads, snap, only, vlan, nano, deaf
        self.dumps, self.jobs, self.sockets, self.port = {}, [], [], 5000
        self.spaces = [A, B] + ([BRIDGE_A, BRIDGE_B] if offloads else [])
        self.remove()
        for space in self.spaces:
            run("ip", "netns", "add", space)
            run("ip", "-n", space, "link", "set", "lo", "up")
        self.start_wire(ab, ba, seed)
        self.device = {A: "w0", B: "w0"}
        if offloads:
            self.bridges()
        for side, space in (("a", A), ("b", B)):
            device = self.device[space]
            ip = ("ip", "-n", space)
            run(*ip, "link", "set", device, "address", MAC[side], "mtu", mtu)
            if not offloads:
                run("ip", "netns", "exec", space, "ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off",
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for setting in ("net.ipv4.tcp_syncookies=0", "net.ipv4.tcp_no_metrics_save=1", *sysctl,
                            *([f"net.ipv4.tcp_congestion_control={congestion}"] if congestion else [])):
                run("ip", "netns", "exec", space, "sysctl", "-qw", setting)
            run(*ip, "link", "set", device, "up")
            run(*ip, "addr", "add", f"{V4[side]}/24", "dev", device)
            if mtu >= 1280:
                run(*ip, "addr", "add", f"{V6[side]}/64", "dev", device, "nodad")
            # Answers to invented senders go somewhere: over the wire.
            run(*ip, "route", "add", "default", "via", V4["b" if side == "a" else "a"])
        time.sleep(0.3)
        if not late:
            self.listen_to_wire()

    def remove(self):
        for space in (A, B, BRIDGE_A, BRIDGE_B):
            pids = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True).stdout.split()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", space], stderr=subprocess.DEVNULL)

    def start_wire(self, ab, ba, seed):
        ends = (BRIDGE_A, BRIDGE_B) if self.offloads else (A, B)
        ready = self.work / "ready"
        self.wire = subprocess.Popen([sys.executable, HERE / "wire.py", *ends, "--seed", str(seed),
                                      "--ab", ab, "--ba", ba, "--ready", ready])
        for _ in range(100):
            if ready.exists():
                return
            time.sleep(0.05)
        raise SystemExit("the wire did not start")

    def bridges(self):
        for space, bridge in ((A, BRIDGE_A), (B, BRIDGE_B)):
            run("ip", "-n", space, "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", bridge)
            run("ip", "-n", bridge, "link", "add", "br0", "type", "bridge")
            for port in ("v1", "w0"):
                run("ip", "-n", bridge, "link", "set", port, "master", "br0", "up")
            run("ip", "-n", bridge, "link", "set", "br0", "up")
            run("ip", "netns", "exec", space, "ethtool", "-K", "v0", "tso", "on", "gso", "on", "gro", "on",
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.device[space] = "v0"

    def listen_to_wire(self):
        for side, space in (("a", A), ("b", B)):
            way = ["-Q", self.only] if self.only else []
            way += ["--time-stamp-precision=nano"] if self.nano else []
            heard = "(ip and tcp and tcp[17] & 15 != 3) or (ip6 and tcp and ip6[57] & 15 != 3)" if self.deaf else "tcp"
            self.dumps[side] = subprocess.Popen(
                ["ip", "netns", "exec", space, "tcpdump", "-Z", "root", "-i", self.device[space], "-s", str(self.snap),
                 "-B", "16384", "--immediate-mode", "-w", self.work / f"{side}.pcap", *way, heard],
                stderr=subprocess.PIPE, text=True)
            # Its first line says that it listens.
            while "listening" not in (line := self.dumps[side].stderr.readline()):
                if not line:
                    raise SystemExit("tcpdump did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in self.sockets:
            with contextlib.suppress(OSError):
                s.close()
        for job in self.jobs:
            job.terminate()
        self.stop_dumps()
        self.wire.terminate()
        self.wire.wait()
        self.remove()
        shutil.rmtree(self.work, ignore_errors=True)

    def stop_dumps(self):
        for dump in self.dumps.values():
            if dump.poll() is None:
                dump.send_signal(signal.SIGINT)
                told = dump.communicate(timeout=20)[1]
                if "0 packets dropped by kernel" not in told:
                    print("  tcpdump lost frames of its own:", told.strip().replace("\n", ", "))

    def keep(self, side, path):
        """The capture of one side, gzip'd, without a time stamp of the packing."""
        time.sleep(0.3)
        self.stop_dumps()
        bytes_ = (self.work / f"{side}.pcap").read_bytes()
        if self.vlan:
            bytes_ = tagged(bytes_, self.vlan)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as out:
            out.write(bytes_)

    # --- programs and sockets of the two stacks ---

    def exec(self, side, *words, wait=True, timeout=60):
        job = subprocess.Popen(["ip", "netns", "exec", A if side == "a" else B, *map(str, words)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.work)
        self.jobs.append(job)
        if wait:
            with contextlib.suppress(subprocess.TimeoutExpired):
                job.wait(timeout)
            job.poll() is None and job.kill()
        return job

    def nginx(self, side="b"):
        www = self.work / "www"
        www.mkdir()
        (www / "small").write_bytes(b"w" * 200)
        for kilobytes in (20, 60, 150, 300, 1000, 3000):
            (www / f"{kilobytes}k").write_bytes(b"w" * 1000 * kilobytes)
        (self.work / "nginx.conf").write_text(f"""
daemon off; pid {self.work}/nginx.pid; error_log {self.work}/error.log; user root; events {{}}
http {{ access_log off; client_body_temp_path {self.work}; proxy_temp_path {self.work};
  fastcgi_temp_path {self.work}; uwsgi_temp_path {self.work}; scgi_temp_path {self.work};
  server {{ listen 80; listen [::]:80; root {www}; }} }}""")
        self.exec(side, "nginx", "-c", self.work / "nginx.conf", wait=False)
        for _ in range(100):
            # Asked over loopback, which no capture sees.
            with inside(A if side == "a" else B):
                s = socket.socket()
            s.settimeout(1)
            if s.connect_ex(("127.0.0.1", 80)) == 0:
                return s.close()
            s.close()
            time.sleep(0.1)
        raise SystemExit("nginx did not start")

    def curl(self, what, v6=False, timeout=40, more=()):
        host = f"[{V6['b']}]" if v6 else V4["b"]
        self.exec("a", "curl", "-s", "-g", "-o", "/dev/null", "-m", timeout, *more, f"http://{host}/{what}", timeout=timeout + 1)

    def socket(self, side, v6=False, port=0, rcvbuf=0, sndbuf=0, mss=0, isn=None, options=()):
        with inside(A if side == "a" else B):
            s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
        self.sockets.append(s)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if rcvbuf:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if sndbuf:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        if mss:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
        for level, name, value in options:
            s.setsockopt(level, name, value)
        s.bind(((V6 if v6 else V4)[side], port))
        if isn is not None:
            # The first sequence number: what TCP_REPAIR lets one choose.
            s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, 2)
            s.setsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, struct.pack("I", isn))
            s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 0)
        s.settimeout(30)
        return s

    def pair(self, v6=False, client={}, server={}, port=None, source=0):
        """A connection from a to b: (a's socket, b's socket)."""
        if port is None:
            self.port += 1
            port = self.port
        listener = self.socket("b", v6, port, **server)
        listener.listen(8)
        s = self.socket("a", v6, source, **client)
        s.connect(((V6 if v6 else V4)["b"], port))
        other = listener.accept()[0]
        other.settimeout(30)
        self.sockets.append(other)
        listener.close()
        return s, other


def tagged(capture, vlan):
    """A pcap file's frames with a tag put in after the addresses."""
    out, at = bytearray(capture[:24]), 24
    while at < len(capture):
        seconds, fraction, have, whole = struct.unpack_from("<4I", capture, at)
        frame = capture[at + 16:at + 16 + have]
        out += struct.pack("<4I", seconds, fraction, have + 4, whole + 4)
        out += frame[:12] + struct.pack("!HH", 0x8100, vlan) + frame[12:]
        at += 16 + have
    return bytes(out)


def pour(s, count):
    """Sends so many bytes from a thread of its own."""

    def body():
        with contextlib.suppress(OSError):
            s.sendall(b"w" * count)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    return thread


def drain(s, count=None, piece=65536, pause=0.0):
    """Reads so many bytes, or all there are; how many it were."""
    got = 0
    with contextlib.suppress(OSError):
        while count is None or got < count:
            bytes_ = s.recv(piece if count is None else min(piece, count - got))
            if not bytes_:
                break
            got += len(bytes_)
            time.sleep(pause)
    return got


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
