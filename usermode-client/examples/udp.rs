//! Joins a multicast group, says something to it, and shows who answers.
//!
//! usage: udp GROUP:PORT TEXT

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use weir_client::abi::SocketFlags;
use weir_client::net::{OpenOptions, UdpSocket};
use weir_client::{Device, ErrorKind};

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(group), Some(text)) = (arguments.next(), arguments.next()) else {
        return Err("usage: udp GROUP:PORT TEXT".into());
    };
    let group: SocketAddr = group.parse()?;
    let any = match group {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let device = Device::open()?;
    let options = OpenOptions {
        // Others of this machine may be in the group too.
        flags: SocketFlags::REUSE_ADDRESS,
        ..OpenOptions::default()
    };
    let socket = UdpSocket::bind_with(&device, SocketAddr::new(any, group.port()), &options)?;
    socket.join(group.ip(), 0)?;
    socket.set_multicast_ttl(1)?;
    socket.send_to(text.as_bytes(), group)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)));
    let mut buffer = [0; 2048];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok(got) => {
                let text = String::from_utf8_lossy(buffer.get(..got.len).unwrap_or_default());
                println!("{}: {text}", got.from);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        // For a person: it says what is wrong, and what to do.
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}
