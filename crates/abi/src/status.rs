//! The NTSTATUS values the driver answers with, and what each means here.
//!
//! Each kind of bad input has a status of its own. Where Windows has no name
//! for one, `STATUS_INVALID_PARAMETER_n` says that field *n* after the header
//! of the request is out of its range; `STATUS_INVALID_PARAMETER` itself means
//! that a reserved field isn't 0.
//!
//! Source of the codes: MS-ERREF section 2.3.1.

/// One status: its code, its name, what it means from this driver, and what
/// whoever sees it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusInfo {
    /// The NTSTATUS.
    pub code: i32,
    /// Its name in ntstatus.h.
    pub name: &'static str,
    /// What it means when this driver gives it.
    pub meaning: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

macro_rules! statuses {
    ( $( $const:ident = $code:literal $name:literal, $meaning:literal, $advice:literal; )+ ) => {
        $(
            #[doc = concat!("`", $name, "`: ", $meaning, ".")]
            pub const $const: i32 = u32::cast_signed($code);
        )+

        /// Every status above.
        pub const TABLE: &[StatusInfo] = &[
            $( StatusInfo { code: $const, name: $name, meaning: $meaning, advice: $advice }, )+
        ];
    };
}

statuses! {
    SUCCESS = 0x0000_0000 "STATUS_SUCCESS",
        "done",
        "nothing to do";
    PENDING = 0x0000_0103 "STATUS_PENDING",
        "the operation has not ended yet",
        "wait for its completion";
    BUFFER_OVERFLOW = 0x8000_0005 "STATUS_BUFFER_OVERFLOW",
        "the buffer holds only the first part of the answer",
        "ask again with a larger buffer";
    UNSUCCESSFUL = 0xC000_0001 "STATUS_UNSUCCESSFUL",
        "the operation failed for a reason that has no status of its own",
        "look at the driver's log";
    INFO_LENGTH_MISMATCH = 0xC000_0004 "STATUS_INFO_LENGTH_MISMATCH",
        "the request is shorter than its type",
        "send the whole request structure of this contract version";
    INVALID_HANDLE = 0xC000_0008 "STATUS_INVALID_HANDLE",
        "the handle is not open",
        "open the device again";
    INVALID_PARAMETER = 0xC000_000D "STATUS_INVALID_PARAMETER",
        "a reserved field of the request is not 0",
        "set every reserved field to 0";
    NO_SUCH_DEVICE = 0xC000_000E "STATUS_NO_SUCH_DEVICE",
        "no adapter has this id, or a writer's handle is for another one",
        "list the adapters (weirctl adapters); ids change when an adapter is attached anew";
    INVALID_DEVICE_REQUEST = 0xC000_0010 "STATUS_INVALID_DEVICE_REQUEST",
        "the driver has no such IOCTL",
        "use client and driver of the same release";
    ACCESS_DENIED = 0xC000_0022 "STATUS_ACCESS_DENIED",
        "the device is open to SYSTEM and Administrators only",
        "run as administrator (elevated)";
    BUFFER_TOO_SMALL = 0xC000_0023 "STATUS_BUFFER_TOO_SMALL",
        "the output buffer can't hold the reply, a read one whole record of the snap length or the header of a datagram, or a read of a stream is one of no bytes",
        "give a larger buffer; OPEN_CAPTURE's reply says how long a read must be; a datagram's header has 48 bytes";
    OBJECT_NAME_NOT_FOUND = 0xC000_0034 "STATUS_OBJECT_NAME_NOT_FOUND",
        "there is no Weir device: the driver isn't loaded",
        "start it with `sc start weir`, or install it first";
    OBJECT_NAME_COLLISION = 0xC000_0035 "STATUS_OBJECT_NAME_COLLISION",
        "a service already has this address and port",
        "stop it first (weirctl service list, weirctl service stop ID)";
    SHARING_VIOLATION = 0xC000_0043 "STATUS_SHARING_VIOLATION",
        "another handle in the divert role gets the frames of this adapter already",
        "close that one first, or divert another adapter";
    QUOTA_EXCEEDED = 0xC000_0044 "STATUS_QUOTA_EXCEEDED",
        "as many handles have this role, services run, reads or writes are outstanding on one handle, bytes of backlog are promised to all readers together, or written frames are still under way, as the driver allows",
        "close one of them first, let some reads or writes complete, ask for a smaller backlog, or write frames again when the adapter has sent some";
    UNKNOWN_REVISION = 0xC000_0058 "STATUS_UNKNOWN_REVISION",
        "the rule program has another version than this driver knows; the rules in force stay",
        "compile the rules with the client of the driver's release";
    REVISION_MISMATCH = 0xC000_0059 "STATUS_REVISION_MISMATCH",
        "client and driver speak different versions of the contract",
        "use client and driver of the same release (weirctl version shows both)";
    INVALID_IMAGE_FORMAT = 0xC000_007B "STATUS_INVALID_IMAGE_FORMAT",
        "what was to be loaded is no sound rule program; the rules in force stay",
        "compile the rules again with the client of the driver's release";
    ALLOTTED_SPACE_EXCEEDED = 0xC000_0099 "STATUS_ALLOTTED_SPACE_EXCEEDED",
        "the rule program has more rules, tuples, instructions or text than the driver takes; the rules in force stay",
        "load fewer or simpler rules";
    INSUFFICIENT_RESOURCES = 0xC000_009A "STATUS_INSUFFICIENT_RESOURCES",
        "the kernel had no memory for this",
        "try again with a smaller backlog, or when memory is free";
    DEVICE_NOT_READY = 0xC000_00A3 "STATUS_DEVICE_NOT_READY",
        "the network provider is not available to the driver, the adapter to write to is not running, or the driver is unloading",
        "try again when `weirctl status` shows it ready, or `weirctl adapters` the adapter running";
    INVALID_USER_BUFFER = 0xC000_00E8 "STATUS_INVALID_USER_BUFFER",
        "what was written is not a whole number of sound records, or not one sound datagram",
        "write records with header, bytes and padding as a read has them, whole frames; a datagram as header and bytes, its sizes right and its flags 0";
    FILE_FORCED_CLOSED = 0xC000_00B6 "STATUS_FILE_FORCED_CLOSED",
        "the network provider has given up the socket",
        "close the handle and open the socket again; of a service, stop it and start it again (weirctl service stop ID)";
    INVALID_PARAMETER_1 = 0xC000_00EF "STATUS_INVALID_PARAMETER_1",
        "field 1 of the request is out of its range (SERVICE_START, SOCKET_OPEN: kind; SOCKET_SHUTDOWN: how; SOCKET_SET_OPTION, SOCKET_GET_OPTION: option; RESOLVE: family)",
        "services: echo, discard, relay; sockets: TCP stream, TCP listener, UDP; shut down: send or abort; options: those of the kind of socket; family: 4, 6, or 0 for both";
    INVALID_PARAMETER_2 = 0xC000_00F0 "STATUS_INVALID_PARAMETER_2",
        "field 2 of the request is out of its range (OPEN_CAPTURE: snap length; OPEN_DIVERT: backlog; SERVICE_START: transport; RULES_READ: offset; SOCKET_OPEN: flags; SOCKET_SET_OPTION: interface; RESOLVE: name)",
        "snap length: 1 to 262144 bytes, or 0 for whole frames; backlog: 65536 to 67108864 bytes; transport: tcp or udp; offset: up to the program's length; flags: those of the kind of socket; interface: 0 but for a group; name: 1 to 255 characters";
    INVALID_PARAMETER_3 = 0xC000_00F1 "STATUS_INVALID_PARAMETER_3",
        "field 3 is out of its range (OPEN_CAPTURE: backlog; OPEN_DIVERT: flush time; a written record: length of the frame; SOCKET_OPEN: local address; SOCKET_SET_OPTION: value; RESOLVE: service)",
        "backlog: 65536 to 67108864 bytes; flush time: 0 to 60000 milliseconds; frame: 14 to 262144 bytes, all of it; local address: one is needed without a remote address; value: 0 or 1 for a switch, hops up to 255, seconds up to 32767, buffers up to 16777216 bytes; service: a name or a port, up to 63 characters";
    INVALID_PARAMETER_4 = 0xC000_00F2 "STATUS_INVALID_PARAMETER_4",
        "field 4 of the request is out of its range (OPEN_CAPTURE: flush time; SERVICE_START: target; SOCKET_OPEN: remote address; SOCKET_SET_OPTION: group)",
        "flush time: 0 to 60000 milliseconds; target: for a relay, and only for one; remote address: for a TCP stream or a UDP socket, not for a listener; group: only to join or leave one";
    INVALID_PARAMETER_5 = 0xC000_00F3 "STATUS_INVALID_PARAMETER_5",
        "field 5 of the request is out of its range (OPEN_CAPTURE: directions; SERVICE_START: flags; SOCKET_OPEN: backlog)",
        "directions: in, out or both; flags: conditional accept, for TCP only; backlog: 1 to 4096 connections for a listener, else 0";
    INVALID_PARAMETER_6 = 0xC000_00F4 "STATUS_INVALID_PARAMETER_6",
        "field 6 of the request is out of its range (OPEN_CAPTURE: source; SOCKET_OPEN: receive limit)",
        "source: all frames, or those that a log rule matched; receive limit: up to 16777216 bytes, or 0";
    INVALID_PARAMETER_7 = 0xC000_00F5 "STATUS_INVALID_PARAMETER_7",
        "field 7 is out of its range (a written record: direction)",
        "direction: in or out";
    INVALID_PARAMETER_9 = 0xC000_00F7 "STATUS_INVALID_PARAMETER_9",
        "field 9 is out of its range (a written record: flags)",
        "write no flag this driver doesn't know, and no truncated frame";
    CANCELLED = 0xC000_0120 "STATUS_CANCELLED",
        "the operation was cancelled",
        "nothing to do if you closed the handle or pressed Ctrl-C";
    FILE_CLOSED = 0xC000_0128 "STATUS_FILE_CLOSED",
        "the handle is being closed",
        "open the device again";
    INVALID_ADDRESS = 0xC000_0141 "STATUS_INVALID_ADDRESS",
        "the address is not one of this machine's",
        "use an address of this machine, or 0.0.0.0 or [::] for all of them";
    INVALID_DEVICE_STATE = 0xC000_0184 "STATUS_INVALID_DEVICE_STATE",
        "the handle's role doesn't allow this: a read without the capture, divert, TCP stream or UDP role, a write without the divert, inject, TCP stream or UDP role, a request for a socket on a handle that is none, or a second role",
        "give a fresh handle the role with its IOCTL first, once";
    INVALID_BUFFER_SIZE = 0xC000_0206 "STATUS_INVALID_BUFFER_SIZE",
        "the request is longer than its type, its size field disagrees with its length, or a write is longer than one may be",
        "send exactly the request structure of this contract version; write at most 16777216 bytes to a stream at once, 65527 in a datagram";
    INVALID_ADDRESS_COMPONENT = 0xC000_0207 "STATUS_INVALID_ADDRESS_COMPONENT",
        "the address is not of the kind that is wanted: unknown family or not that of the socket; to listen on or connect to, multicast, broadcast or IPv4-mapped; to send to, without address or port; to join, not multicast",
        "listen on a unicast IPv4 or IPv6 address, or 0.0.0.0 or [::]; connect and send to an address with a port; join a multicast group";
    ADDRESS_ALREADY_EXISTS = 0xC000_020A "STATUS_ADDRESS_ALREADY_EXISTS",
        "another socket of this machine has the port",
        "choose another port, or 0 to let the driver choose";
    NOT_FOUND = 0xC000_0225 "STATUS_NOT_FOUND",
        "no service or listener has this id, the name has no address, or no diverted frame with this number is with the writer",
        "list the services or the sockets (weirctl service list, weirctl sockets); look at the name; give each diverted frame back once, and before 65536 more have come";
    RETRY = 0xC000_022D "STATUS_RETRY",
        "the rules in force are not those that were asked about any more",
        "read them again from the start";
    IO_TIMEOUT = 0xC000_00B5 "STATUS_IO_TIMEOUT",
        "the peer doesn't answer",
        "see whether the peer is up and reachable, and whether a firewall or a rule drops what is sent to it";
    NOT_SUPPORTED = 0xC000_00BB "STATUS_NOT_SUPPORTED",
        "this kind of socket, or the network provider, doesn't have this option or operation; or the option can only be chosen when the socket is opened",
        "set options of TCP on TCP sockets and of multicast on UDP sockets; choose reuse of an address with SOCKET_OPEN";
    REQUEST_NOT_ACCEPTED = 0xC000_00D0 "STATUS_REQUEST_NOT_ACCEPTED",
        "the peer's connection was not taken: no room, or a rule refuses it",
        "ask for connections sooner or with a larger backlog, or look at the rules";
    LOCAL_DISCONNECT = 0xC000_013B "STATUS_LOCAL_DISCONNECT",
        "this side ended the connection",
        "nothing more can be sent; connect again";
    REMOTE_DISCONNECT = 0xC000_013C "STATUS_REMOTE_DISCONNECT",
        "the peer ended the connection",
        "connect again";
    INVALID_CONNECTION = 0xC000_0140 "STATUS_INVALID_CONNECTION",
        "the socket has no connection, or no peer a datagram without address could go to",
        "connect first, or give each datagram its address";
    TOO_MANY_ADDRESSES = 0xC000_0209 "STATUS_TOO_MANY_ADDRESSES",
        "there is no free port left",
        "close some sockets, or choose the port";
    CONNECTION_DISCONNECTED = 0xC000_020C "STATUS_CONNECTION_DISCONNECTED",
        "the connection has ended",
        "connect again";
    CONNECTION_RESET = 0xC000_020D "STATUS_CONNECTION_RESET",
        "the peer reset the connection; on a UDP socket, nobody has the port a datagram went to",
        "connect again, or see why the peer gave it up";
    CONNECTION_REFUSED = 0xC000_0236 "STATUS_CONNECTION_REFUSED",
        "nobody listens at this address and port, or who listens refused",
        "start the server first, and see that address and port are its own";
    GRACEFUL_DISCONNECT = 0xC000_0237 "STATUS_GRACEFUL_DISCONNECT",
        "the peer has ended the connection in order, or this side has shut it down",
        "write nothing after shutting down; connect again to send more";
    ADDRESS_ALREADY_ASSOCIATED = 0xC000_0238 "STATUS_ADDRESS_ALREADY_ASSOCIATED",
        "another socket has this address and port",
        "choose another port, or 0 to let the driver choose";
    CONNECTION_INVALID = 0xC000_023A "STATUS_CONNECTION_INVALID",
        "there is no such connection any more",
        "connect again";
    NETWORK_UNREACHABLE = 0xC000_023C "STATUS_NETWORK_UNREACHABLE",
        "no route leads to the address's network",
        "see the address and the routes of this machine";
    HOST_UNREACHABLE = 0xC000_023D "STATUS_HOST_UNREACHABLE",
        "the host doesn't answer on its network",
        "see that the host is up and the address is its own";
    PROTOCOL_UNREACHABLE = 0xC000_023E "STATUS_PROTOCOL_UNREACHABLE",
        "the host doesn't speak this protocol",
        "see that the host takes TCP or UDP";
    PORT_UNREACHABLE = 0xC000_023F "STATUS_PORT_UNREACHABLE",
        "nobody has the port a datagram was sent to",
        "start the server first, and see that the port is its own";
    CONNECTION_ABORTED = 0xC000_0241 "STATUS_CONNECTION_ABORTED",
        "the connection was given up on this side: aborted, its handle closed, or its listener gone",
        "connect again if that was not meant";
    NO_MATCH = 0xC000_0272 "STATUS_NO_MATCH",
        "the name has no address, or not of this family",
        "look at the name and at how this machine resolves names, or give an address";
    DELETE_PENDING = 0xC000_0056 "STATUS_DELETE_PENDING",
        "the driver is unloading",
        "wait until it is gone, then start it again";
}

/// What this driver means by a status, if it is one of [`TABLE`].
#[must_use]
pub fn info(code: i32) -> Option<&'static StatusInfo> {
    TABLE.iter().find(|info| info.code == code)
}

/// Whether this is an error (severity 3), as `NT_ERROR` says.
#[must_use]
pub const fn is_error(code: i32) -> bool {
    code.cast_unsigned() >> 30 == 3
}
