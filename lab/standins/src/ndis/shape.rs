//! What the lab's configuration may say about the shape of traffic (`"shape"`).

use std::time::Duration;

use serde::Deserialize;

/// The knobs of the traffic generator and of the time limits. All percentages
/// are 0 to 100, all lengths in bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Shape {
    /// Seed of every choice below.
    pub(crate) seed: u64,
    /// Most NET_BUFFER_LISTs in one call.
    pub(crate) max_chain: usize,
    /// Most NET_BUFFERs in one NET_BUFFER_LIST of a send.
    pub(crate) max_nbs: usize,
    /// The same of a receive: 1 for an Ethernet miniport.
    pub(crate) max_receive_nbs: usize,
    /// Most MDLs in one NET_BUFFER.
    pub(crate) max_mdls: usize,
    /// How many frames are cut over several MDLs, one-byte and empty ones included.
    pub(crate) split_percent: u32,
    /// Most bytes before the data in the MDL chain.
    pub(crate) headroom_max: usize,
    /// How many MDLs are not yet mapped into system space.
    pub(crate) unmapped_percent: u32,
    /// How many receive calls carry `NDIS_RECEIVE_FLAGS_RESOURCES`.
    pub(crate) resources_percent: u32,
    /// How many data calls are made at DISPATCH_LEVEL.
    pub(crate) dispatch_percent: u32,
    /// How many completions and returns come inside the call that passed the frame on.
    pub(crate) inline_percent: u32,
    /// The longest an asynchronous completion or return takes, in microseconds.
    pub(crate) delay_us_max: u64,
    /// Whether offload and VLAN information accompanies frames.
    pub(crate) offload: bool,
    /// How many lists carry checksum information: receives that the NIC has
    /// verified, sends whose checksums it is to compute.
    pub(crate) checksum_percent: u32,
    /// How many lists carry an 802.1Q tag of their own beside the frame.
    pub(crate) tag_percent: u32,
    /// Bytes of payload in each of the datagrams of UDP over IPv4 that the NIC has
    /// put together to a longer one, and says so beside it; 0: it has not.
    pub(crate) datagrams: usize,
    /// Whether the adapter says that it takes and gives 802.1Q tags beside frames.
    pub(crate) takes_tags: bool,
    /// How many restarts come with a null list of restart attributes.
    pub(crate) restart_attributes_null_percent: u32,
    /// Whether frames are still below and above when `FilterPause` is called.
    pub(crate) inflight_at_pause: bool,
    /// Whether frames are still offered while `FilterPause` is pending.
    pub(crate) offer_while_pausing: bool,
    /// Whether the host issues OID requests of its own around a restart.
    pub(crate) restart_oids: bool,
    /// How many sends the miniport completes with a failure status.
    pub(crate) send_fail_percent: u32,
    /// Whether the filter may change the bytes of frames that pass.
    pub(crate) allow_modify: bool,
    /// Limit on `FilterPause`. Driver Verifier allows 10 seconds; the lab has to
    /// speak before Wine's service manager gives up on a start or a stop, after 10.
    pub(crate) pause_timeout_ms: u64,
    /// Limit on `FilterRestart`.
    pub(crate) restart_timeout_ms: u64,
    /// Limit on an OID request. Driver Verifier allows 12 seconds; as above.
    pub(crate) oid_timeout_ms: u64,
    /// Limit on a frame that stays with the filter; Driver Verifier's pages give no number.
    pub(crate) data_timeout_ms: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            seed: 1,
            max_chain: 8,
            max_nbs: 4,
            max_receive_nbs: 1,
            max_mdls: 5,
            split_percent: 40,
            headroom_max: 96,
            unmapped_percent: 5,
            resources_percent: 20,
            dispatch_percent: 70,
            inline_percent: 50,
            delay_us_max: 400,
            offload: true,
            checksum_percent: 100,
            tag_percent: 0,
            datagrams: 0,
            takes_tags: false,
            restart_attributes_null_percent: 25,
            inflight_at_pause: true,
            offer_while_pausing: true,
            restart_oids: true,
            send_fail_percent: 0,
            allow_modify: false,
            pause_timeout_ms: 8_000,
            restart_timeout_ms: 8_000,
            oid_timeout_ms: 8_000,
            data_timeout_ms: 8_000,
        }
    }
}

impl Shape {
    pub(crate) fn pause_timeout(&self) -> Duration {
        Duration::from_millis(self.pause_timeout_ms)
    }

    pub(crate) fn restart_timeout(&self) -> Duration {
        Duration::from_millis(self.restart_timeout_ms)
    }

    pub(crate) fn oid_timeout(&self) -> Duration {
        Duration::from_millis(self.oid_timeout_ms)
    }

    pub(crate) fn data_timeout(&self) -> Duration {
        Duration::from_millis(self.data_timeout_ms)
    }
}
