#!/usr/bin/env bash
# Makes mixed.pcap: real traffic of two Linux stacks over a veth pair, in two
# network namespaces this script makes and removes. Wants root, iproute2,
# tcpdump, curl, nginx, iperf3, ping, netcat-openbsd, ethtool.
#
# Addresses: host a is 02:00:00:00:00:01, 10.77.0.1 and fd77::1; host b is
# 02:00:00:00:00:02, 10.77.0.2 and fd77::2.
# Replayed through an adapter whose address is a's, a's frames go down and
# b's go up.
set -euo pipefail
out=${1:-$(dirname "$0")/mixed.pcap}
a=weir-cap-a b=weir-cap-b
work=$(mktemp -d)
clean() {
  jobs -p | xargs -r kill 2>/dev/null || true
  wait 2>/dev/null || true
  for ns in $a $b; do
    ip netns pids $ns 2>/dev/null | xargs -r kill 2>/dev/null || true
    ip netns del $ns 2>/dev/null || true
  done
  rm -rf "$work"
}
trap clean EXIT
for ns in $a $b; do ip netns add $ns; ip -n $ns link set lo up; done
ip -n $a link add v0 address 02:00:00:00:00:01 type veth peer name v0 netns $b address 02:00:00:00:00:02
ip -n $a addr add 10.77.0.1/24 dev v0; ip -n $b addr add 10.77.0.2/24 dev v0
ip -n $a addr add fd77::1/64 dev v0 nodad; ip -n $b addr add fd77::2/64 dev v0 nodad
# What a NIC would put on the wire: no frame larger than the MTU, checksums filled in.
for ns in $a $b; do ip netns exec $ns ethtool -K v0 tso off gso off gro off tx off >/dev/null; done

# One end up first: tcpdump takes no interface that is down.
ip -n $a link set v0 up
ip netns exec $a tcpdump -Z root -i v0 -w "$work/all.pcap" -s 0 -U 2>/dev/null & sleep 1
ip -n $b link set v0 up
sleep 1

mkdir "$work/www"
head -c 200 /dev/zero | tr '\0' w > "$work/www/small"
head -c 60000 /dev/urandom | base64 -w 76 > "$work/www/large"
cat > "$work/nginx.conf" <<CONF
daemon off; pid $work/nginx.pid; error_log $work/error.log; user root;
events {}
http { access_log off; client_body_temp_path $work; proxy_temp_path $work; fastcgi_temp_path $work;
  uwsgi_temp_path $work; scgi_temp_path $work;
  server { listen 80; listen [::]:80; root $work/www; } }
CONF
ip netns exec $b nginx -c "$work/nginx.conf" & sleep 1
inside() { ip netns exec $a "$@"; }

for i in $(seq 160); do inside curl -s -o /dev/null http://10.77.0.2/small; done
for i in $(seq 80); do inside curl -s -g -o /dev/null 'http://[fd77::2]/small'; done
inside curl -s -o /dev/null http://10.77.0.2/large
inside curl -s -o /dev/null --limit-rate 100k http://10.77.0.2/large
# Echo requests small, large enough to be fragmented, and over IPv6.
inside ping -q -c 100 -i 0.01 10.77.0.2 >/dev/null
inside ping -q -c 10 -i 0.01 -s 4000 10.77.0.2 >/dev/null
inside ping -q -c 60 -i 0.01 fd77::2 >/dev/null
inside ping -q -c 10 -i 0.01 -s 4000 fd77::2 >/dev/null
# Ports nobody listens on: resets, and ICMP unreachable for UDP.
for p in $(seq 7001 7040); do inside curl -s -o /dev/null http://10.77.0.2:$p/ || true; done
for p in $(seq 7001 7040); do echo x | inside nc -u -w 0 10.77.0.2 $p || true; done
for p in $(seq 7001 7020); do echo x | inside nc -u -w 0 fd77::2 $p || true; done
# UDP and TCP at some rate, both ways.
ip netns exec $b iperf3 -s -1 >/dev/null & sleep 0.5
inside iperf3 -c 10.77.0.2 -u -b 500k -l 120 -t 2 >/dev/null; sleep 0.5
ip netns exec $b iperf3 -s -1 >/dev/null & sleep 0.5
inside iperf3 -c fd77::2 -u -R -b 500k -l 120 -t 2 >/dev/null; sleep 0.5
ip netns exec $b iperf3 -s -1 >/dev/null & sleep 0.5
inside iperf3 -c 10.77.0.2 -n 48K -l 8K >/dev/null; sleep 0.5
# A neighbour that is not there: ARP requests without an answer.
inside ping -q -c 3 -W 1 10.77.0.99 >/dev/null || true
sleep 1
pkill -INT -f "tcpdump.*$work" || true
sleep 1
cp "$work/all.pcap" "$out"
