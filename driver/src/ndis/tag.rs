//! 802.1Q tags beside a frame and within it.
//!
//! An adapter that does VLANs itself takes the tag out of a frame and hands its
//! contents over beside it, and the other way round (MSDN,
//! "NDIS_NET_BUFFER_LIST_8021Q_INFO": `UserPriority` in bits 0 to 2,
//! `CanonicalFormatId` in bit 3, `VlanId` in bits 4 to 15). Everything here that
//! looks at frames sees them with their tag in them, as on the wire.

/// The tag protocol identifier of 802.1Q.
const TPID: u16 = 0x8100;

/// The four bytes that belong behind the addresses of a frame with this
/// `Ieee8021QNetBufferListInfo`; `None` if it says nothing.
pub(super) fn on_wire(info: usize) -> Option<[u8; 4]> {
    let info = u16::try_from(info & 0xffff)
        .ok()
        .filter(|&info| info != 0)?;
    let (priority, format, vlan) = (info & 7, info >> 3 & 1, info >> 4);
    let tci = priority << 13 | format << 12 | vlan;
    let ([a, b], [c, d]) = (TPID.to_be_bytes(), tci.to_be_bytes());
    Some([a, b, c, d])
}

/// The `Ieee8021QNetBufferListInfo` of a tag with these contents.
pub(super) fn beside(tci: u16) -> usize {
    let (priority, format, vlan) = (tci >> 13, tci >> 12 & 1, tci & 0xfff);
    usize::from(vlan << 4 | format << 3 | priority)
}
