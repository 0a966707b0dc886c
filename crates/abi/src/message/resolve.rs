//! Names.

use core::char::decode_utf16;

use super::{ReplyHeader, Request, RequestError, RequestHeader};
use crate::address::{FAMILY_V4, FAMILY_V6};
use crate::{Ioctl, limits};

message! {
    /// Asks for the addresses a name has. Units after the name's are 0.
    pub struct ResolveRequest [656] {
        /// Version and size.
        0 => header: RequestHeader,
        /// Field 1: 4 or 6 for addresses of this version of IP alone, 0 for both.
        8 => family: u32,
        /// Field 2: UTF-16 units of `name`, at least 1 and fewer than it has room
        /// for.
        12 => name_len: u16,
        /// Field 3: UTF-16 units of `service`, fewer than it has room for; 0: no
        /// service.
        14 => service_len: u16,
        /// The name in UTF-16: a host's name, or an address as text.
        16 => name: [u16; limits::NAME_UNITS],
        /// The service in UTF-16: its name, or a port as text.
        528 => service: [u16; limits::NET_SERVICE_UNITS],
    }
}

message! {
    /// Start of the addresses; `count` times
    /// [`SocketAddress`](crate::SocketAddress) follow, with the service's port,
    /// or 0.
    pub struct ResolveReply [16] {
        /// Version and size, the addresses included.
        0 => header: ReplyHeader,
        /// How many addresses there are, up to
        /// [`MAX_RESOLVED`](limits::MAX_RESOLVED) of them.
        8 => total: u32,
        /// How many addresses follow: as many as there are, or as fit.
        12 => count: u32,
    }
}

/// A name to look up, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolveQuery<'a> {
    /// Addresses of which version of IP; `None` for both.
    pub family: Option<IpVersion>,
    /// The name, not empty: UTF-16, with a zero behind it.
    pub name: &'a [u16],
    /// The service, likewise.
    pub service: Option<&'a [u16]>,
}

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The first `len` units of `room` and the zero behind them, if they are text
/// without a zero or a control character and all behind them is 0.
fn text(room: &[u16], len: u16) -> Option<&[u16]> {
    let len = usize::from(len);
    let (text, rest) = room.split_at_checked(len)?;
    if rest.is_empty() || rest.iter().any(|unit| *unit != 0) {
        return None;
    }
    let good = decode_utf16(text.iter().copied()).all(|c| c.is_ok_and(|c| !c.is_control()));
    good.then(|| room.get(..len.saturating_add(1)))?
}

/// The units of `text`, if they fit `room` with a zero behind them.
fn put(room: &mut [u16], text: &str) -> Option<u16> {
    let (_, places) = room.split_last_mut()?;
    let mut places = places.iter_mut();
    let mut len: u16 = 0;
    for unit in text.encode_utf16() {
        *places.next()? = unit;
        len = len.checked_add(1)?;
    }
    Some(len)
}

impl ResolveRequest {
    /// A request for the addresses of `name`. `None` for a name or a service that
    /// is too long.
    #[must_use]
    pub fn new(name: &str, service: Option<&str>, family: Option<IpVersion>) -> Option<Self> {
        let mut request = ResolveRequest {
            header: RequestHeader::of::<Self>(),
            family: match family {
                None => 0,
                Some(IpVersion::V4) => FAMILY_V4,
                Some(IpVersion::V6) => FAMILY_V6,
            },
            name_len: 0,
            service_len: 0,
            name: [0; limits::NAME_UNITS],
            service: [0; limits::NET_SERVICE_UNITS],
        };
        request.name_len = put(&mut request.name, name)?;
        request.service_len = put(&mut request.service, service.unwrap_or(""))?;
        Some(request)
    }

    /// What is asked for.
    pub fn query(&self) -> Result<ResolveQuery<'_>, RequestError> {
        let bad = |n, name, value: u32| RequestError::Field { n, name, value };
        let family = match self.family {
            0 => None,
            FAMILY_V4 => Some(IpVersion::V4),
            FAMILY_V6 => Some(IpVersion::V6),
            other => return Err(bad(1, "family of the addresses", other)),
        };
        let wrong_name = bad(2, "name (its length is shown)", self.name_len.into());
        if self.name_len == 0 {
            return Err(wrong_name);
        }
        let name = text(&self.name, self.name_len).ok_or(wrong_name)?;
        let wrong_service = bad(3, "service (its length is shown)", self.service_len.into());
        let service = text(&self.service, self.service_len).ok_or(wrong_service)?;
        Ok(ResolveQuery {
            family,
            name,
            service: (self.service_len != 0).then_some(service),
        })
    }
}

impl Request for ResolveRequest {
    const IOCTL: Ioctl = Ioctl::Resolve;
    type Reply = ResolveReply;
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use super::*;
    use crate::status;

    #[test]
    fn a_name_comes_back() {
        let name = "\u{fc}ber.example";
        let request = ResolveRequest::new(name, Some("http"), Some(IpVersion::V6)).expect("short");
        let query = request.query().expect("good");
        let units: Vec<u16> = name.encode_utf16().chain([0]).collect();
        assert_eq!(query.name, units);
        assert_eq!(query.service.map(<[u16]>::len), Some(5));
        assert_eq!(query.family, Some(IpVersion::V6));
        let longest: String = "x".repeat(255);
        let request = ResolveRequest::new(&longest, None, None).expect("it fits");
        let query = request.query().expect("good");
        assert_eq!((query.name.len(), query.service), (256, None));
        assert_eq!(ResolveRequest::new(&"x".repeat(256), None, None), None);
        assert_eq!(ResolveRequest::new("x", Some(&"x".repeat(64)), None), None);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let good = ResolveRequest::new("host", None, None).expect("short");
        let with = |change: fn(&mut ResolveRequest)| {
            let mut request = good;
            change(&mut request);
            request.query().expect_err("bad").status()
        };
        assert_eq!(with(|r| r.family = 5), status::INVALID_PARAMETER_1);
        assert_eq!(with(|r| r.name_len = 0), status::INVALID_PARAMETER_2);
        assert_eq!(with(|r| r.name_len = 3), status::INVALID_PARAMETER_2);
        assert_eq!(with(|r| r.name_len = 5), status::INVALID_PARAMETER_2);
        assert_eq!(with(|r| r.name_len = 256), status::INVALID_PARAMETER_2);
        assert_eq!(with(|r| r.name_len = u16::MAX), status::INVALID_PARAMETER_2);
        assert_eq!(with(|r| r.name[1] = 0xd800), status::INVALID_PARAMETER_2);
        assert_eq!(with(|r| r.name[1] = 10), status::INVALID_PARAMETER_2);
        assert_eq!(with(|r| r.name[255] = 1), status::INVALID_PARAMETER_2);
        assert_eq!(with(|r| r.service_len = 1), status::INVALID_PARAMETER_3);
        assert_eq!(with(|r| r.service[0] = 65), status::INVALID_PARAMETER_3);
    }
}
