//! Ethernet II and IEEE 802.3 frames, VLAN tags, LLC and SNAP.
//!
//! Sources: IEEE Std 802.3-2022 clause 3.2 (MAC frame, Length/Type), IEEE Std
//! 802.1Q-2022 clause 9 (tags), IEEE Std 802.2 clause 3 (LLC PDU), RFC 1042
//! (SNAP over LLC), RFC 894.

use core::fmt;

use super::{Cursor, Defect};

/// A 48-bit MAC address, in wire order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Group bit (I/G) set: multicast, broadcast included. IEEE 802.3 3.2.3.
    #[must_use]
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// All ones.
    #[must_use]
    pub fn is_broadcast(self) -> bool {
        self.0 == [0xff; 6]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An EtherType, from IANA's "IEEE 802 Numbers".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EtherType(pub u16);

impl EtherType {
    /// RFC 894.
    pub const IPV4: Self = Self(0x0800);
    /// RFC 826.
    pub const ARP: Self = Self(0x0806);
    /// RFC 2464.
    pub const IPV6: Self = Self(0x86dd);
    /// Customer tag, IEEE 802.1Q.
    pub const VLAN: Self = Self(0x8100);
    /// Service tag, IEEE 802.1ad, now in 802.1Q.
    pub const SERVICE_VLAN: Self = Self(0x88a8);
    /// What switches used for the outer tag before 802.1ad.
    pub const OLD_QINQ: Self = Self(0x9100);

    /// Whether a VLAN tag's control information follows.
    #[must_use]
    pub fn is_vlan(self) -> bool {
        matches!(self, Self::VLAN | Self::SERVICE_VLAN | Self::OLD_QINQ)
    }
}

/// Smallest Length/Type value that is a type. IEEE 802.3 3.2.6.
const FIRST_TYPE: u16 = 0x0600;
/// Largest Length/Type value that is a length. IEEE 802.3 3.2.6.
const LAST_LENGTH: u16 = 1500;

/// Tags a frame may carry here; more are a defect, not a longer walk.
pub const MAX_TAGS: usize = 4;

/// Header: bytes on the wire: two addresses and Length/Type.
pub const HEADER_LEN: usize = 14;

/// The fixed 14 bytes of a MAC frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// # Errors
    /// [`Defect::Truncated`] or [`Defect::Snapped`] when fewer than 14 bytes are there.
    pub fn parse(cursor: &mut Cursor<'a>) -> Result<Self, Defect> {
        cursor.take().map(Self)
    }

    pub(super) const fn of(bytes: &'a [u8; HEADER_LEN]) -> Self {
        Self(bytes)
    }

    /// Destination address.
    #[must_use]
    pub fn destination(&self) -> MacAddr {
        let [a, b, c, d, e, f, ..] = *self.0;
        MacAddr([a, b, c, d, e, f])
    }

    /// Source address.
    #[must_use]
    pub fn source(&self) -> MacAddr {
        let [_, _, _, _, _, _, a, b, c, d, e, f, _, _] = *self.0;
        MacAddr([a, b, c, d, e, f])
    }

    /// The Length/Type field as it stands, before any tag.
    #[must_use]
    pub fn length_or_type(&self) -> u16 {
        u16::from_be_bytes([self.0[12], self.0[13]])
    }
}

/// Tag control information. IEEE 802.1Q 9.6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag(pub u16);

impl Tag {
    /// VLAN identifier, 0..=4095; 0 means that the tag carries a priority only.
    #[must_use]
    pub fn id(self) -> u16 {
        self.0 & 0x0fff
    }

    /// Priority code point, 0..=7.
    #[must_use]
    pub fn priority(self) -> u8 {
        (self.0 >> 13) as u8
    }

    /// Drop eligible indicator.
    #[must_use]
    pub fn drop_eligible(self) -> bool {
        self.0 & 0x1000 != 0
    }
}

/// The tags of a frame, outermost first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    tags: [Tag; MAX_TAGS],
    count: usize,
}

impl Tags {
    /// Outermost first.
    pub fn iter(&self) -> impl Iterator<Item = Tag> + '_ {
        self.tags.iter().copied().take(self.count)
    }

    /// How many tags, 0..=[`MAX_TAGS`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// No tag in the frame's bytes. (An adapter may hold the tag out of band.)
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn push(&mut self, tag: Tag) -> Result<(), Defect> {
        let slot = self.tags.get_mut(self.count).ok_or(Defect::TooManyTags)?;
        *slot = tag;
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

/// The start of an LLC PDU. IEEE 802.2 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Llc {
    /// Destination service access point.
    pub dsap: u8,
    /// Source service access point.
    pub ssap: u8,
    /// First byte of the control field.
    pub control: u8,
}

impl Llc {
    /// SNAP: unnumbered information between the SAPs 0xAA. RFC 1042.
    const SNAP: Self = Self {
        dsap: 0xaa,
        ssap: 0xaa,
        control: 0x03,
    };
}

/// What follows LLC's bytes in a SNAP frame. RFC 1042.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snap {
    /// Who numbers the protocols.
    pub oui: [u8; 3],
    /// Protocol, as that organisation numbers it.
    pub protocol: u16,
}

impl Snap {
    /// Protocols are EtherTypes.
    pub const ETHERNET: [u8; 3] = [0, 0, 0];
}

/// What the link layer says that it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Ethernet II.
    Type(EtherType),
    /// An 802.3 frame with LLC and SNAP.
    Snap(Snap),
    /// An 802.3 frame with LLC other than SNAP.
    Llc(Llc),
    /// Length/Type in 1501..=1535, which is neither. IEEE 802.3 3.2.6.
    Undefined(u16),
}

impl Carries {
    /// The EtherType, of Ethernet II and of SNAP that has one. (The expressions
    /// of libpcap look at the first kind only.)
    #[must_use]
    pub fn ether_type(&self) -> Option<EtherType> {
        match self {
            Self::Type(kind) => Some(*kind),
            Self::Snap(snap) if snap.oui == Snap::ETHERNET => Some(EtherType(snap.protocol)),
            Self::Snap(_) | Self::Llc(_) | Self::Undefined(_) => None,
        }
    }
}

/// A frame's link layer: MAC header, tags, and what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// MAC header.
    pub header: Header<'a>,
    /// VLAN tags in the frame's bytes.
    pub tags: Tags,
    /// What follows, unless the frame ended or was malformed before that was known.
    pub carries: Option<Carries>,
}

impl<'a> Link<'a> {
    /// Of Ethernet II without tags.
    #[inline(always)]
    pub(super) fn untagged(header: Header<'a>) -> Self {
        Self {
            header,
            tags: Tags::default(),
            carries: Some(Carries::Type(EtherType(header.length_or_type()))),
        }
    }

    /// Reads the link layer and leaves `cursor` at the network layer. With a
    /// readable MAC header the first part is there whatever follows; the second
    /// says what was wrong after it.
    ///
    /// # Errors
    /// As [`Header::parse`]: not even a MAC header.
    pub fn parse(cursor: &mut Cursor<'a>) -> Result<(Self, Option<Defect>), Defect> {
        let header = Header::parse(cursor)?;
        let mut link = Self {
            header,
            tags: Tags::default(),
            carries: None,
        };
        let defect = link.parse_rest(cursor).err();
        Ok((link, defect))
    }

    fn parse_rest(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Defect> {
        let mut word = self.header.length_or_type();
        while EtherType(word).is_vlan() {
            let [c0, c1, t0, t1] = *cursor.take::<4>()?;
            self.tags.push(Tag(u16::from_be_bytes([c0, c1])))?;
            word = u16::from_be_bytes([t0, t1]);
        }
        if word >= FIRST_TYPE {
            self.carries = Some(Carries::Type(EtherType(word)));
            return Ok(());
        }
        if word > LAST_LENGTH {
            self.carries = Some(Carries::Undefined(word));
            return Ok(());
        }
        // A length that goes past the frame's end is reported, and what there
        // is gets read all the same.
        let length = cursor.limit(usize::from(word));
        let [dsap, ssap, control] = *cursor.take::<3>()?;
        let llc = Llc {
            dsap,
            ssap,
            control,
        };
        if llc == Llc::SNAP {
            let [o0, o1, o2, t0, t1] = *cursor.take::<5>()?;
            self.carries = Some(Carries::Snap(Snap {
                oui: [o0, o1, o2],
                protocol: u16::from_be_bytes([t0, t1]),
            }));
        } else {
            self.carries = Some(Carries::Llc(llc));
        }
        length
    }
}
