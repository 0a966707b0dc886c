//! Where to connect or send to: a name or an address, and a port.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use weir_abi::IpVersion;
use weir_client::{Device, Error};

use crate::error::CtlError;

/// A host and a port, in one word or in two.
#[derive(Args, Clone, Debug)]
pub(crate) struct PlaceArgs {
    /// A host's name or address; or with its port, as 127.0.0.1:7, [::1]:7 or host:7
    #[arg(value_name = "HOST")]
    host: String,
    /// The port, if HOST doesn't have it
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Use its IPv4 addresses only
    #[arg(short = '4', conflicts_with = "six")]
    four: bool,
    /// Use its IPv6 addresses only
    #[arg(short = '6')]
    six: bool,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    version: Option<IpVersion>,
}

impl PlaceArgs {
    /// The place they name.
    pub(crate) fn place(&self) -> Result<Place, CtlError> {
        let version = match (self.four, self.six) {
            (true, _) => Some(IpVersion::V4),
            (_, true) => Some(IpVersion::V6),
            _ => None,
        };
        let (host, port) = match self.port {
            Some(port) => (self.host.as_str(), port),
            None => split(&self.host).ok_or_else(|| CtlError::NoPort(self.host.clone()))?,
        };
        let host = host.strip_prefix('[').unwrap_or(host);
        let host = host.strip_suffix(']').unwrap_or(host);
        Ok(Place {
            host: host.to_owned(),
            port,
            version,
        })
    }
}

/// Host and port in one word. An IPv6 address has colons of its own, so with a
/// port it is in brackets.
fn split(word: &str) -> Option<(&str, u16)> {
    let (host, port) = word.rsplit_once(':')?;
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return None;
    }
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then_some((host, port))
}

impl Place {
    /// Its addresses, of the version of IP asked for, and of that of `source` if
    /// one is given; the kernel looks a name up, within `timeout`.
    pub(crate) fn addresses(
        &self,
        device: &Device,
        source: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Result<Vec<SocketAddr>, CtlError> {
        // With a scope, an address is more than an IpAddr can say.
        let scoped = SocketAddr::from_str(&format!("[{}]:{}", self.host, self.port));
        let plain = IpAddr::from_str(&self.host).map(|ip| SocketAddr::new(ip, self.port));
        let mut found = match plain.or(scoped) {
            Ok(address) => vec![address],
            Err(_) => device.resolve_within(&self.host, self.port, self.version, timeout)?,
        };
        if found.is_empty() {
            let name = self.host.clone();
            return Err(Error::NoAddress { name }.into());
        }
        if let Some(version) = self.version {
            found.retain(|a| a.is_ipv4() == (version == IpVersion::V4));
            if found.is_empty() {
                return Err(CtlError::NoVersion {
                    host: self.host.clone(),
                    version: if version == IpVersion::V4 { '4' } else { '6' },
                });
            }
        }
        if let Some(source) = source {
            found.retain(|a| a.is_ipv4() == source.is_ipv4());
            if found.is_empty() {
                return Err(CtlError::SourceVersion {
                    host: self.host.clone(),
                    from: source,
                });
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str, port: Option<u16>) -> Result<(String, u16), CtlError> {
        let args = PlaceArgs {
            host: host.to_owned(),
            port,
            four: false,
            six: false,
        };
        args.place().map(|p| (p.host, p.port))
    }

    #[test]
    fn a_place_is_one_word_or_two() {
        for (host, port, want) in [
            ("127.0.0.1", Some(7), ("127.0.0.1", 7)),
            ("127.0.0.1:7", None, ("127.0.0.1", 7)),
            ("[::1]:7", None, ("::1", 7)),
            ("::1", Some(7), ("::1", 7)),
            ("[::1]", Some(7), ("::1", 7)),
            ("host.example:80", None, ("host.example", 80)),
        ] {
            let got = place(host, port).expect(host);
            assert_eq!((got.0.as_str(), got.1), want);
        }
        for host in [
            "127.0.0.1",
            "::1",
            "fe80::1:7",
            "host:",
            ":7",
            "host:0",
            "host:65536",
            "",
        ] {
            assert!(place(host, None).is_err(), "{host}");
        }
    }
}
