//! The IOCTL codes.
//!
//! Source: MSDN "Defining I/O Control Codes".

/// `FILE_DEVICE_NETWORK`.
pub const DEVICE_TYPE: u32 = 0x12;
/// `METHOD_BUFFERED`: the I/O manager copies both ways.
pub const METHOD_BUFFERED: u32 = 0;
/// `FILE_READ_DATA | FILE_WRITE_DATA`: the handle must have been opened for both.
pub const ACCESS: u32 = 0x1 | 0x2;
/// The first function number that is free for vendors.
pub const FUNCTION_BASE: u32 = 0x800;

/// `CTL_CODE`: device type in bits 16..32, access in 14..16, function in 2..14,
/// method in 0..2.
#[must_use]
pub const fn ctl_code(device_type: u32, function: u32, method: u32, access: u32) -> u32 {
    (device_type << 16) | ((access & 0x3) << 14) | ((function & 0xfff) << 2) | (method & 0x3)
}

const fn weir(n: u32) -> u32 {
    ctl_code(DEVICE_TYPE, FUNCTION_BASE | n, METHOD_BUFFERED, ACCESS)
}

macro_rules! ioctls {
    ( $( $(#[$meta:meta])* $name:ident = $n:literal $text:literal, )+ ) => {
        /// Everything the driver can be asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Ioctl {
            $( $(#[$meta])* $name, )+
        }

        impl Ioctl {
            /// Every IOCTL, in order of its function number.
            pub const ALL: &[Ioctl] = &[ $( Ioctl::$name, )+ ];

            /// The 32-bit control code.
            #[must_use]
            pub const fn code(self) -> u32 {
                match self { $( Ioctl::$name => weir($n), )+ }
            }

            /// The IOCTL with this control code.
            #[must_use]
            pub const fn from_code(code: u32) -> Option<Ioctl> {
                $( if code == weir($n) { return Some(Ioctl::$name); } )+
                None
            }

            /// The name used in messages.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Ioctl::$name => $text, )+ }
            }
        }
    };
}

ioctls! {
    /// What the driver speaks; accepted whatever version the request states.
    GetVersion = 0 "GET_VERSION",
    /// Uptime, and how many of each object there are.
    GetStatus = 1 "GET_STATUS",
    /// The adapters the filter is attached to, from a start index on.
    ListAdapters = 2 "LIST_ADAPTERS",
    /// The balance and the protocol counters of one adapter.
    GetAdapterStats = 3 "GET_ADAPTER_STATS",
    /// Gives a control handle the capture role.
    OpenCapture = 4 "OPEN_CAPTURE",
    /// The handle's own balance; on a handle in the capture, divert or inject
    /// role.
    GetReaderStats = 5 "GET_READER_STATS",
    /// Starts a network service in the kernel.
    ServiceStart = 6 "SERVICE_START",
    /// The running services, from a start index on.
    ServiceList = 7 "SERVICE_LIST",
    /// Stops a service by its id.
    ServiceStop = 8 "SERVICE_STOP",
    /// Puts a rule program in force in place of the one before; without a
    /// program behind the request, none.
    RulesLoad = 9 "RULES_LOAD",
    /// The program in force, from an offset on.
    RulesRead = 10 "RULES_READ",
    /// What the rules in force have done, from a start index on.
    RulesStats = 11 "RULES_STATS",
    /// Gives a control handle the divert role.
    OpenDivert = 12 "OPEN_DIVERT",
    /// Gives a control handle the inject role.
    OpenInject = 13 "OPEN_INJECT",
    /// The flows of one adapter, from a cursor on.
    FlowList = 14 "FLOW_LIST",
    /// What the flow table of one adapter has counted.
    FlowStats = 15 "FLOW_STATS",
    /// The alarms of all adapters, from a number on.
    AlarmList = 16 "ALARM_LIST",
    /// Gives a control handle the role of a socket; pends until it is bound,
    /// listens or is connected.
    SocketOpen = 17 "SOCKET_OPEN",
    /// Gives a control handle the role of a TCP stream; pends until the listener
    /// it names has a connection.
    SocketAccept = 18 "SOCKET_ACCEPT",
    /// Ends one direction of the handle's TCP stream, or both at once.
    SocketShutdown = 19 "SOCKET_SHUTDOWN",
    /// Sets an option of the handle's socket.
    SocketSetOption = 20 "SOCKET_SET_OPTION",
    /// Reads an option of the handle's socket.
    SocketGetOption = 21 "SOCKET_GET_OPTION",
    /// How the handle's socket is.
    SocketInfo = 22 "SOCKET_INFO",
    /// Every socket of the driver, those of services too, from a cursor on.
    SocketList = 23 "SOCKET_LIST",
    /// The addresses a name has; pends until they are known.
    Resolve = 24 "RESOLVE",
}

const _: () = assert!(Ioctl::GetVersion.code() == 0x0012_E000);
const _: () = assert!(Ioctl::ServiceStop.code() == 0x0012_E020);
const _: () = assert!(Ioctl::AlarmList.code() == 0x0012_E040);
const _: () = assert!(Ioctl::Resolve.code() == 0x0012_E060);
