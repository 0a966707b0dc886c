//! What the filter counts and learns, in the words of the contract.

use wdk_sys::UNICODE_STRING;
use weir_abi::AdapterInfo;
use weir_abi::limits::ADAPTER_NAME_UNITS;
use weir_engine::stats;
use zerocopy::FromZeros;

use super::sys::NDIS_FILTER_ATTACH_PARAMETERS;

/// `NDIS_LINK_SPEED_UNKNOWN`
const LINK_SPEED_UNKNOWN: u64 = u64::MAX;

pub(super) fn balance(from: &stats::Balance) -> weir_abi::Balance {
    weir_abi::Balance {
        seen: from.seen,
        passed: from.passed,
        dropped: from.dropped,
        diverted: from.diverted,
        lost_paused: from.lost_paused,
        lost_resources: from.lost_resources,
        lost_other: from.lost_other,
        seen_bytes: from.seen_bytes,
        passed_bytes: from.passed_bytes,
    }
}

pub(super) fn protocols(from: &stats::Protocols) -> weir_abi::ProtocolCounters {
    weir_abi::ProtocolCounters {
        frames: from.frames,
        vlan: from.vlan,
        arp: from.arp,
        ipv4: from.ipv4,
        ipv6: from.ipv6,
        icmp: from.icmp,
        icmpv6: from.icmpv6,
        udp: from.udp,
        tcp: from.tcp,
        ipv4_fragments: from.ipv4_fragments,
        ipv6_fragments: from.ipv6_fragments,
        truncated: from.truncated,
        malformed: from.malformed,
        other: from.other,
        bad_network_checksum: from.bad_network_checksum,
        bad_transport_checksum: from.bad_transport_checksum,
    }
}

/// A link speed in bits per second, 0 if unknown.
pub(super) fn link_speed(from: u64) -> u64 {
    if from == LINK_SPEED_UNKNOWN { 0 } else { from }
}

/// What NDIS says of an adapter at attach. The MTU comes with the restart.
///
/// # Safety
/// The strings that `from` points to are null or valid, as in `FilterAttach`.
pub(super) unsafe fn adapter_info(id: u32, from: &NDIS_FILTER_ATTACH_PARAMETERS) -> AdapterInfo {
    let mut info = AdapterInfo::new_zeroed();
    info.id = id;
    info.if_index = from.BaseMiniportIfIndex;
    info.media = from.MiniportMediaType;
    info.link_speed = link_speed(from.XmitLinkSpeed);
    let len = usize::from(from.MacAddressLength).min(info.mac.len());
    for (to, byte) in info.mac.iter_mut().zip(&from.CurrentMacAddress).take(len) {
        *to = *byte;
    }
    info.mac_len = u32::try_from(len).unwrap_or(0);
    // SAFETY: null or a valid string, for the call.
    if let Some(name) = unsafe { from.BaseMiniportInstanceName.as_ref() } {
        // SAFETY: a valid string.
        let len = unsafe { copy_name(name, &mut info.name) };
        info.name_len = u32::try_from(len).unwrap_or(0);
    }
    info
}

/// Copies as much of a string as fits, without cutting a surrogate pair in two;
/// says how many units.
///
/// # Safety
/// `from` is a valid `UNICODE_STRING`.
unsafe fn copy_name(from: &UNICODE_STRING, to: &mut [u16; ADAPTER_NAME_UNITS]) -> usize {
    if from.Buffer.is_null() {
        return 0;
    }
    let units = usize::from(from.Length / 2);
    // SAFETY: a valid string has `Length` bytes at `Buffer`, aligned for UTF-16.
    let units = unsafe { core::slice::from_raw_parts(from.Buffer, units) };
    let mut len = units.len().min(to.len());
    if units.len() > len && is_high_surrogate(len.checked_sub(1).and_then(|i| units.get(i))) {
        len = len.saturating_sub(1);
    }
    for (to, unit) in to.iter_mut().zip(units).take(len) {
        *to = *unit;
    }
    len
}

fn is_high_surrogate(unit: Option<&u16>) -> bool {
    unit.is_some_and(|unit| matches!(unit, 0xd800..=0xdbff))
}
