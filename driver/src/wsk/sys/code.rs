//! Numbers of `wsk.h` and of the Winsock headers it includes: flags, events, options,
//! families and protocols.

/// `MAKE_WSK_VERSION(1, 0)`: all this driver needs, and what every Windows has.
pub(in crate::wsk) const WSK_VERSION_1_0: u16 = 0x100;
/// `WSK_NO_WAIT`.
pub(in crate::wsk) const WSK_NO_WAIT: u32 = 0;
/// `WSK_FLAG_LISTEN_SOCKET`.
pub(in crate::wsk) const WSK_FLAG_LISTEN_SOCKET: u32 = 1;
/// `WSK_FLAG_DATAGRAM_SOCKET`.
pub(in crate::wsk) const WSK_FLAG_DATAGRAM_SOCKET: u32 = 4;
/// `WskSetOption` of `WSK_CONTROL_SOCKET_TYPE`.
pub(in crate::wsk) const WSK_SET_OPTION: u32 = 0;
/// `SO_WSK_EVENT_CALLBACK`.
pub(in crate::wsk) const SO_WSK_EVENT_CALLBACK: u32 = 0x4002;
/// `WSK_EVENT_ACCEPT`.
pub(in crate::wsk) const WSK_EVENT_ACCEPT: u32 = 0x200;
/// `WSK_EVENT_RECEIVE`.
pub(in crate::wsk) const WSK_EVENT_RECEIVE: u32 = 0x40;
/// `WSK_EVENT_DISCONNECT`.
pub(in crate::wsk) const WSK_EVENT_DISCONNECT: u32 = 0x80;
/// `WSK_FLAG_RELEASE_ASAP` of `WskReceiveEvent`.
pub(in crate::wsk) const WSK_FLAG_RELEASE_ASAP: u32 = 2;
/// `WSK_FLAG_DRAIN` of `WskReceive`.
pub(in crate::wsk) const WSK_FLAG_DRAIN: u32 = 4;
/// `WSK_FLAG_CONNECTION_SOCKET`.
pub(in crate::wsk) const WSK_FLAG_CONNECTION_SOCKET: u32 = 2;
/// `WSK_FLAG_ABORTIVE` of `WskDisconnect`.
pub(in crate::wsk) const WSK_FLAG_ABORTIVE: u32 = 1;
/// `WskGetOption` of `WSK_CONTROL_SOCKET_TYPE`.
pub(in crate::wsk) const WSK_GET_OPTION: u32 = 1;
/// `WskIoctl` of `WSK_CONTROL_SOCKET_TYPE`.
pub(in crate::wsk) const WSK_IOCTL: u32 = 2;
/// `WskInspectReject` of `WSK_INSPECT_ACTION`.
pub(in crate::wsk) const WSK_INSPECT_REJECT: u32 = 0;
/// `WskInspectAccept`.
pub(in crate::wsk) const WSK_INSPECT_ACCEPT: u32 = 1;
/// `SIO_WSK_SET_REMOTE_ADDRESS`, `_WSAIOW(IOC_WSK, 0x1)`.
pub(in crate::wsk) const SIO_WSK_SET_REMOTE_ADDRESS: u32 = 0x8F00_0001;
/// `NS_ALL` of `WskGetAddressInfo`.
pub(in crate::wsk) const NS_ALL: u32 = 0;
/// Bytes of a `SOCKADDR_IN`.
pub(in crate::wsk) const SOCKADDR_IN_LEN: usize = 16;
/// Bytes of a `SOCKADDR_IN6`.
pub(in crate::wsk) const SOCKADDR_IN6_LEN: usize = 28;
/// `SOL_SOCKET`.
pub(in crate::wsk) const SOL_SOCKET: u32 = 0xFFFF;
/// `IPPROTO_IP`, the level of IPv4's options.
pub(in crate::wsk) const IPPROTO_IP: u32 = 0;
/// `IPPROTO_IPV6`, the level of IPv6's options.
pub(in crate::wsk) const IPPROTO_IPV6: u32 = 41;
/// Options of `SOL_SOCKET`.
pub(in crate::wsk) const SO_REUSEADDR: u32 = 4;
/// See above.
pub(in crate::wsk) const SO_KEEPALIVE: u32 = 8;
/// See above.
pub(in crate::wsk) const SO_BROADCAST: u32 = 0x20;
/// See above.
pub(in crate::wsk) const SO_SNDBUF: u32 = 0x1001;
/// See above.
pub(in crate::wsk) const SO_RCVBUF: u32 = 0x1002;
/// See above.
pub(in crate::wsk) const SO_CONDITIONAL_ACCEPT: u32 = 0x3002;
/// Options of `IPPROTO_TCP`: seconds of idleness, of them between probes, and
/// how many of these.
pub(in crate::wsk) const TCP_KEEPIDLE: u32 = 3;
/// See above.
pub(in crate::wsk) const TCP_KEEPCNT: u32 = 16;
/// See above.
pub(in crate::wsk) const TCP_KEEPINTVL: u32 = 17;
/// `TCP_NODELAY`.
pub(in crate::wsk) const TCP_NODELAY: u32 = 1;
/// Options that have the same number in `IPPROTO_IP` and `IPPROTO_IPV6`:
/// `IP_TTL` and `IPV6_UNICAST_HOPS`.
pub(in crate::wsk) const IP_TTL: u32 = 4;
/// `IP_MULTICAST_IF` and `IPV6_MULTICAST_IF`.
pub(in crate::wsk) const IP_MULTICAST_IF: u32 = 9;
/// `IP_MULTICAST_TTL` and `IPV6_MULTICAST_HOPS`.
pub(in crate::wsk) const IP_MULTICAST_TTL: u32 = 10;
/// `IP_MULTICAST_LOOP` and `IPV6_MULTICAST_LOOP`.
pub(in crate::wsk) const IP_MULTICAST_LOOP: u32 = 11;
/// `IP_ADD_MEMBERSHIP` and `IPV6_ADD_MEMBERSHIP`.
pub(in crate::wsk) const IP_ADD_MEMBERSHIP: u32 = 12;
/// `IP_DROP_MEMBERSHIP` and `IPV6_DROP_MEMBERSHIP`.
pub(in crate::wsk) const IP_DROP_MEMBERSHIP: u32 = 13;
/// `IPV6_V6ONLY`.
pub(in crate::wsk) const IPV6_V6ONLY: u32 = 27;
/// `AF_INET`.
pub(in crate::wsk) const AF_INET: u16 = 2;
/// `AF_INET6`.
pub(in crate::wsk) const AF_INET6: u16 = 23;
/// `SOCK_STREAM`.
pub(in crate::wsk) const SOCK_STREAM: u16 = 1;
/// `SOCK_DGRAM`.
pub(in crate::wsk) const SOCK_DGRAM: u16 = 2;
/// `IPPROTO_TCP`.
pub(in crate::wsk) const IPPROTO_TCP: u32 = 6;
/// `IPPROTO_UDP`.
pub(in crate::wsk) const IPPROTO_UDP: u32 = 17;
/// `MSG_TRUNC` of ws2def.h: the datagram was longer than the buffer.
pub(in crate::wsk) const MSG_TRUNC: u32 = 0x0100;
/// `MSG_BCAST`: received as a broadcast.
pub(in crate::wsk) const MSG_BCAST: u32 = 0x0400;
/// `MSG_MCAST`: received as a multicast.
pub(in crate::wsk) const MSG_MCAST: u32 = 0x0800;
