//! What the stand-ins are told when a driver is loaded: `C:\lab\lab.json`.

use serde::{Deserialize, Serialize};

/// The lab's configuration; the stand-ins read it anew at each driver load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The virtual adapters there are when a filter registers.
    pub adapters: Vec<Adapter>,
    /// Failures to inject.
    pub faults: Faults,
    /// How frames are cut into chains of buffers.
    pub shape: Shape,
    /// Whether each pool allocation is entered in the event log.
    pub alloc_log: bool,
    /// What unloading waits for.
    pub unload: Unload,
    /// What Winsock Kernel does where it may do several things.
    pub wsk: Wsk,
}

/// Winsock Kernel in the lab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wsk {
    /// `wine`: Wine's own `netio.sys` in place of the lab's, as far as it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Per cent of the calls that can complete at once and do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline: Option<u8>,
    /// Per cent of the callbacks and completions at DISPATCH_LEVEL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispatch: Option<u8>,
    /// Per cent of the calls of `WskReceiveEvent` with WSK_FLAG_RELEASE_ASAP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asap: Option<u8>,
    /// Most bytes in one call of `WskReceiveEvent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indication: Option<u32>,
    /// Most bytes in one element of the list that such a call gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<u32>,
    /// Whether connection requests are inspected before the handshake is
    /// answered, where the host allows it; they are by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<bool>,
}

/// A driver stays while a program has its device open, on Windows for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unload {
    /// Unload with handles open after so many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// One virtual Ethernet adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adapter {
    /// Its friendly name.
    pub name: String,
    /// Its address, as `02:00:00:00:00:01`.
    pub mac: String,
    /// Its maximum transfer unit in bytes, without the link header.
    #[serde(default = "ethernet_mtu")]
    pub mtu: u32,
    /// The host's UDP address that stands for the far end of its wire: frames
    /// sent down leave as datagrams to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<String>,
    /// The UDP port on which frames from the wire arrive, one a datagram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire_listen: Option<u16>,
}

fn ethernet_mtu() -> u32 {
    1500
}

/// Failures to inject from the start; the control connection can add others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// The number, from 1, of the one pool allocation that fails.
    pub alloc: Option<u64>,
    /// Calls that fail.
    pub points: Vec<PointFault>,
}

/// The `nth` call, from 1, at `point` (for example `wsk.WskSocket`) gives `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointFault {
    /// The place's name.
    pub point: String,
    /// Which of its calls fails, from 1.
    pub nth: u64,
    /// The NTSTATUS it gives.
    pub status: i32,
}

/// How the stand-ins spread frames over NET_BUFFER_LISTs, NET_BUFFERs and MDLs;
/// what is not said here is as the stand-ins have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The seed of the choices: the same seed gives the same chains.
    pub seed: u64,
    /// How many chains carry an 802.1Q tag beside the frame, in per cent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_percent: Option<u32>,
    /// How many sends the miniport fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_fail_percent: Option<u32>,
    /// How many frames are cut over several MDLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_percent: Option<u32>,
    /// How many receives come with NDIS_RECEIVE_FLAGS_RESOURCES.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources_percent: Option<u32>,
    /// Whether what adapters do for the stack comes with the frames: checksums,
    /// tags, segments put together or to be cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offload: Option<bool>,
    /// How many lists carry checksum information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum_percent: Option<u32>,
    /// Most NET_BUFFER_LISTs in one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_chain: Option<u32>,
    /// Most NET_BUFFERs in one NET_BUFFER_LIST of a send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_nbs: Option<u32>,
    /// Most MDLs in one NET_BUFFER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_mdls: Option<u32>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            seed: 1,
            tag_percent: None,
            send_fail_percent: None,
            split_percent: None,
            resources_percent: None,
            offload: None,
            checksum_percent: None,
            max_chain: None,
            max_nbs: None,
            max_mdls: None,
        }
    }
}
