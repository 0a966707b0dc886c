//! An echo server with a thread for each connection. Port 0 lets the driver
//! choose.
//!
//! usage: tcp_server ADDR:PORT

use std::io;
use std::net::SocketAddr;

use weir_client::net::{TcpListener, TcpStream};
use weir_client::{Device, Error};

fn echo(stream: &TcpStream) -> Result<u64, Error> {
    // Both directions of one stream at once: `Read` and `Write` are for `&TcpStream`.
    let (mut from, mut to) = (stream, stream);
    let bytes = io::copy(&mut from, &mut to).map_err(|error| match Error::from_io(error) {
        Ok(error) => error,
        Err(other) => Error::System {
            what: "copying",
            source: other,
        },
    })?;
    stream.shutdown()?;
    Ok(bytes)
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let at: SocketAddr = std::env::args()
        .nth(1)
        .ok_or("usage: tcp_server ADDR:PORT")?
        .parse()?;
    let device = Device::open()?;
    let listener = TcpListener::bind(&device, at)?;
    println!("listening on {}", listener.local_addr());
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || match echo(&stream) {
            Ok(bytes) => println!("{bytes} bytes echoed"),
            // Its kind says what a program would do about it.
            Err(error) => eprintln!("{:?}: {error}", error.kind()),
        });
    }
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
