//! The socket tables of IP Helper, and names of processes.

use std::ffi::OsString;
use std::io;
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::PathBuf;

use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, NO_ERROR};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    GetExtendedTcpTable, GetExtendedUdpTable, MIB_TCP6ROW_OWNER_MODULE, MIB_TCP6TABLE_OWNER_MODULE,
    MIB_TCPROW_OWNER_MODULE, MIB_TCPTABLE_OWNER_MODULE, MIB_UDP6ROW_OWNER_MODULE,
    MIB_UDP6TABLE_OWNER_MODULE, MIB_UDPROW_OWNER_MODULE, MIB_UDPTABLE_OWNER_MODULE,
    TCP_TABLE_OWNER_MODULE_ALL, UDP_TABLE_OWNER_MODULE,
};
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_INET6};
use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION, QueryFullProcessImageNameW,
};

use crate::error::Error;
use crate::owners::{Socket, SocketKind};

/// `MIB_TCP_STATE_LISTEN`
const LISTEN: u32 = 2;
/// Bytes beyond what a table needs: it may grow between two calls.
const SLACK: u32 = 16 * 1024;
/// How often a table that grows is asked for again.
const TRIES: usize = 8;

/// One of the four tables: how it is asked for, and where its rows lie.
struct Layout {
    kind: SocketKind,
    family: u16,
    rows: usize,
    row: usize,
    local: usize,
    local_port: usize,
    remote: Option<Remote>,
    pid: usize,
    created: usize,
}

struct Remote {
    address: usize,
    port: usize,
    state: usize,
}

macro_rules! layout {
    ($kind:ident, $family:expr, $table:ident, $row:ident, $local:ident, $($remote:expr)?) => {
        Layout {
            kind: SocketKind::$kind,
            family: $family,
            rows: offset_of!($table, table),
            row: size_of::<$row>(),
            local: offset_of!($row, $local),
            local_port: offset_of!($row, dwLocalPort),
            remote: layout!(@ $($remote)?),
            pid: offset_of!($row, dwOwningPid),
            created: offset_of!($row, liCreateTimestamp),
        }
    };
    (@) => { None };
    (@ $remote:expr) => { Some($remote) };
}

const TABLES: [Layout; 4] = [
    layout!(
        Tcp,
        AF_INET,
        MIB_TCPTABLE_OWNER_MODULE,
        MIB_TCPROW_OWNER_MODULE,
        dwLocalAddr,
        Remote {
            address: offset_of!(MIB_TCPROW_OWNER_MODULE, dwRemoteAddr),
            port: offset_of!(MIB_TCPROW_OWNER_MODULE, dwRemotePort),
            state: offset_of!(MIB_TCPROW_OWNER_MODULE, dwState),
        }
    ),
    layout!(
        Tcp,
        AF_INET6,
        MIB_TCP6TABLE_OWNER_MODULE,
        MIB_TCP6ROW_OWNER_MODULE,
        ucLocalAddr,
        Remote {
            address: offset_of!(MIB_TCP6ROW_OWNER_MODULE, ucRemoteAddr),
            port: offset_of!(MIB_TCP6ROW_OWNER_MODULE, dwRemotePort),
            state: offset_of!(MIB_TCP6ROW_OWNER_MODULE, dwState),
        }
    ),
    layout!(
        Udp,
        AF_INET,
        MIB_UDPTABLE_OWNER_MODULE,
        MIB_UDPROW_OWNER_MODULE,
        dwLocalAddr,
    ),
    layout!(
        Udp,
        AF_INET6,
        MIB_UDP6TABLE_OWNER_MODULE,
        MIB_UDP6ROW_OWNER_MODULE,
        ucLocalAddr,
    ),
];

/// Every TCP and UDP socket there is.
pub(crate) fn read_sockets() -> Result<Vec<Socket>, Error> {
    let mut sockets = Vec::new();
    for layout in &TABLES {
        let bytes = layout.fetch().map_err(|source| Error::System {
            what: "reading the table of sockets",
            source,
        })?;
        sockets.extend(layout.sockets(&bytes));
    }
    Ok(sockets)
}

impl Layout {
    /// The table's bytes.
    fn fetch(&self) -> io::Result<Vec<u8>> {
        let mut len = SLACK;
        for _ in 0..TRIES {
            let mut bytes = vec![0u8; len as usize];
            let family = u32::from(self.family);
            let to = bytes.as_mut_ptr().cast();
            let code = match self.kind {
                // SAFETY: `to` has room for the `len` bytes it is said to have;
                // both live through the call.
                SocketKind::Tcp => unsafe {
                    GetExtendedTcpTable(to, &mut len, 0, family, TCP_TABLE_OWNER_MODULE_ALL, 0)
                },
                // SAFETY: as above.
                SocketKind::Udp => unsafe {
                    GetExtendedUdpTable(to, &mut len, 0, family, UDP_TABLE_OWNER_MODULE, 0)
                },
            };
            match code {
                NO_ERROR => return Ok(bytes),
                ERROR_INSUFFICIENT_BUFFER => len = len.saturating_add(SLACK),
                code => return Err(io::Error::from_raw_os_error(code.cast_signed())),
            }
        }
        Err(io::Error::other("it grows faster than it can be read"))
    }

    /// The rows of a table. Ends where the bytes do, whatever count they state.
    fn sockets<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Socket> + 'a {
        let count = word(bytes, 0).unwrap_or(0) as usize;
        let rows = bytes.get(self.rows..).unwrap_or_default();
        rows.chunks_exact(self.row)
            .take(count)
            .filter_map(|row| self.socket(row))
    }

    fn socket(&self, row: &[u8]) -> Option<Socket> {
        let local = SocketAddr::new(self.address(row, self.local)?, port(row, self.local_port)?);
        let remote = match &self.remote {
            Some(at) if word(row, at.state)? != LISTEN => Some(SocketAddr::new(
                self.address(row, at.address)?,
                port(row, at.port)?,
            )),
            _ => None,
        };
        let created = row.get(self.created..)?.first_chunk().copied()?;
        let created = u64::try_from(i64::from_ne_bytes(created)).ok();
        Some(Socket {
            kind: self.kind,
            local,
            remote,
            pid: word(row, self.pid)?,
            created_100ns: created.filter(|at| *at != 0),
        })
    }

    /// Addresses lie in the order of the network.
    fn address(&self, row: &[u8], at: usize) -> Option<IpAddr> {
        let bytes = row.get(at..)?;
        if self.family == AF_INET {
            Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into())
        } else {
            Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into())
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u32::from_ne_bytes(*b))
}

/// A port lies in the order of the network in the first two bytes of four.
fn port(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u16::from_be_bytes(*b))
}

/// The file name of a process's image.
pub(crate) fn image_name(pid: u32) -> Option<String> {
    // SAFETY: no pointers; the access asked for is the least there is.
    let raw = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid) };
    if raw.is_null() {
        return None;
    }
    // SAFETY: a handle that was just opened, and that nobody else closes.
    let process = unsafe { OwnedHandle::from_raw_handle(raw) };
    let mut path = [0u16; 1024];
    let mut len = 1024;
    // SAFETY: `path` has room for `len` units, and both live through the call;
    // the handle is open.
    let ok = unsafe {
        QueryFullProcessImageNameW(process.as_raw_handle(), 0, path.as_mut_ptr(), &mut len)
    };
    if ok == 0 {
        return None;
    }
    let path = PathBuf::from(OsString::from_wide(path.get(..len as usize)?));
    Some(path.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn this_process_finds_its_own_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let server = listener.local_addr().expect("an address");
        let client = TcpStream::connect(server).expect("connects");
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let sockets = read_sockets().expect("tables");
        // Wine keeps sockets in its server, and finds no process for them.
        let wine = std::env::var_os("WINEPREFIX").is_some();
        let me = std::process::id();
        let mine = |pid| pid == me || wine && pid == 0;
        let has = |kind, local: SocketAddr, remote: Option<SocketAddr>| {
            sockets
                .iter()
                .any(|s| s.kind == kind && s.local == local && s.remote == remote && mine(s.pid))
        };
        let ours = client.local_addr().expect("an address");
        assert!(has(SocketKind::Tcp, server, None), "listener: {sockets:?}");
        assert!(has(SocketKind::Tcp, ours, Some(server)), "{sockets:?}");
        let udp = datagrams.local_addr().expect("an address");
        assert!(has(SocketKind::Udp, udp, None), "{sockets:?}");
    }

    #[test]
    fn this_process_has_a_name() {
        let name = image_name(std::process::id()).expect("a name");
        assert!(name.to_lowercase().ends_with(".exe"), "{name}");
        assert_eq!(image_name(0xffff_fff0), None);
    }
}
