//! What the driver accepts at most and at least.

/// Adapters that can be attached at once.
pub const MAX_ADAPTERS: usize = 64;
/// Handles in the capture or the divert role at once.
pub const MAX_READERS: usize = 32;
/// Handles in the inject role at once.
pub const MAX_WRITERS: usize = 32;
/// Services at once.
pub const MAX_SERVICES: usize = 64;
/// Most bytes of one frame that a reader can ask for. Above the largest frame
/// that large send offload makes.
pub const MAX_SNAPLEN: u32 = 262_144;
/// Smallest backlog of a reader, in bytes.
pub const MIN_BACKLOG: u32 = 64 * 1024;
/// Largest backlog of a reader, in bytes.
pub const MAX_BACKLOG: u32 = 64 * 1024 * 1024;
/// Largest sum of the backlogs of all readers, in bytes.
pub const MAX_TOTAL_BACKLOG: u32 = 256 * 1024 * 1024;
/// Longest time a captured frame waits for its read to fill, in milliseconds.
/// 0 completes a read with its first frame.
pub const MAX_FLUSH_MS: u32 = 60_000;
/// Longest read the driver fills; a longer buffer is filled up to here.
pub const MAX_READ_LEN: u32 = 16 * 1024 * 1024;
/// Longest write of frames that is taken.
pub const MAX_WRITE_LEN: u32 = 1024 * 1024;
/// Shortest frame that can be written: an Ethernet header.
pub const MIN_WRITE_FRAME: u32 = 14;
/// Bytes of memory that written frames may take on one adapter until it has sent
/// them, or the host is done with them.
pub const MAX_UNDER_WAY: u32 = 8 * 1024 * 1024;
/// The same on all adapters together.
pub const MAX_TOTAL_UNDER_WAY: u32 = 32 * 1024 * 1024;
/// Frames of one reader in the divert role that can be with it at once. The
/// oldest that has not come back is given up for each one above.
pub const MAX_OUTSTANDING: u32 = 65_536;
/// Longest rule program.
pub const MAX_PROGRAM: u32 = 24 * 1024 * 1024;
/// Alarms that are kept; the oldest goes for each one above.
pub const MAX_ALARMS: u32 = 256;
/// Room for an adapter's name, in UTF-16 units.
pub const ADAPTER_NAME_UNITS: usize = 64;
/// Reads outstanding on one handle in the role of a socket; SOCKET_ACCEPTs that
/// wait for one listener are not bounded by this but by their handles.
pub const MAX_SOCKET_READS: u32 = 64;
/// Writes outstanding on one handle in the role of a socket.
pub const MAX_SOCKET_WRITES: u32 = 64;
/// Longest write to a TCP stream; a longer read is filled up to here.
pub const MAX_STREAM_IO: u32 = 16 * 1024 * 1024;
/// Most bytes of a datagram that can be written.
pub const MAX_DATAGRAM: u32 = 65_527;
/// Connections that wait in the driver for a SOCKET_ACCEPT, at most.
pub const MAX_LISTEN_BACKLOG: u32 = 4096;
/// Largest receive or send buffer of a socket that can be asked for, in bytes.
pub const MAX_SOCKET_BUFFER: u32 = 16 * 1024 * 1024;
/// Longest keep-alive time and interval, in seconds.
pub const MAX_KEEP_ALIVE_S: u32 = 32_767;
/// Addresses RESOLVE gives at most.
pub const MAX_RESOLVED: usize = 32;
/// Room for a name that is to be resolved, in UTF-16 units; one shorter is the
/// longest name.
pub const NAME_UNITS: usize = 256;
/// Room for the name of a network service, likewise.
pub const NET_SERVICE_UNITS: usize = 64;
/// Alignment of each capture record within a read, in bytes.
pub const RECORD_ALIGN: usize = 8;

/// Every limit with its name, for the contract check.
pub const ALL: &[(&str, u64)] = &[
    ("MAX_ADAPTERS", MAX_ADAPTERS as u64),
    ("MAX_READERS", MAX_READERS as u64),
    ("MAX_WRITERS", MAX_WRITERS as u64),
    ("MAX_SERVICES", MAX_SERVICES as u64),
    ("MAX_SNAPLEN", MAX_SNAPLEN as u64),
    ("MIN_BACKLOG", MIN_BACKLOG as u64),
    ("MAX_BACKLOG", MAX_BACKLOG as u64),
    ("MAX_TOTAL_BACKLOG", MAX_TOTAL_BACKLOG as u64),
    ("MAX_FLUSH_MS", MAX_FLUSH_MS as u64),
    ("MAX_READ_LEN", MAX_READ_LEN as u64),
    ("MAX_WRITE_LEN", MAX_WRITE_LEN as u64),
    ("MIN_WRITE_FRAME", MIN_WRITE_FRAME as u64),
    ("MAX_UNDER_WAY", MAX_UNDER_WAY as u64),
    ("MAX_TOTAL_UNDER_WAY", MAX_TOTAL_UNDER_WAY as u64),
    ("MAX_OUTSTANDING", MAX_OUTSTANDING as u64),
    ("MAX_PROGRAM", MAX_PROGRAM as u64),
    ("MAX_ALARMS", MAX_ALARMS as u64),
    ("MAX_SOCKET_READS", MAX_SOCKET_READS as u64),
    ("MAX_SOCKET_WRITES", MAX_SOCKET_WRITES as u64),
    ("MAX_STREAM_IO", MAX_STREAM_IO as u64),
    ("MAX_DATAGRAM", MAX_DATAGRAM as u64),
    ("MAX_LISTEN_BACKLOG", MAX_LISTEN_BACKLOG as u64),
    ("MAX_SOCKET_BUFFER", MAX_SOCKET_BUFFER as u64),
    ("MAX_KEEP_ALIVE_S", MAX_KEEP_ALIVE_S as u64),
    ("MAX_RESOLVED", MAX_RESOLVED as u64),
    ("NAME_UNITS", NAME_UNITS as u64),
    ("NET_SERVICE_UNITS", NET_SERVICE_UNITS as u64),
    ("ADAPTER_NAME_UNITS", ADAPTER_NAME_UNITS as u64),
    ("RECORD_ALIGN", RECORD_ALIGN as u64),
];
