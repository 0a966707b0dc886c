//! Sends a line to an echo server through a kernel socket, and shows what comes
//! back.
//!
//! usage: tcp_client ADDR:PORT TEXT

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use weir_client::Device;
use weir_client::net::TcpStream;

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(to), Some(text)) = (arguments.next(), arguments.next()) else {
        return Err("usage: tcp_client ADDR:PORT TEXT".into());
    };
    let to: SocketAddr = to.parse()?;
    let device = Device::open()?;
    let mut stream = TcpStream::connect(&device, to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)));
    stream.write_all(text.as_bytes())?;
    // Half close: the server reads the end, and may still answer.
    stream.shutdown()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("{answer}");
    Ok(())
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
