//! What to do about an error, by its kind: connects, and tries again for a while
//! where that may help.
//!
//! usage: retry HOST PORT

use std::time::Duration;

use weir_client::net::{OpenOptions, TcpStream};
use weir_client::{Device, Error, ErrorKind};

const USAGE: &str = "usage: retry HOST PORT";
const TRIES: u32 = 5;

fn connect(device: &Device, host: &str, port: u16) -> Result<TcpStream, Error> {
    let name = host.to_owned();
    let mut last = Error::NoAddress { name };
    for address in device.resolve(host, port, None)? {
        let wait = Some(Duration::from_secs(3));
        match TcpStream::connect_with(device, address, &OpenOptions::default(), wait) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let port: u16 = port.parse()?;
    let device = Device::open()?;
    for attempt in 1..=TRIES {
        let error = match connect(&device, host, port) {
            Ok(stream) => {
                println!(
                    "connected to {} as {}",
                    stream.peer_addr()?,
                    stream.local_addr()
                );
                return Ok(());
            }
            Err(error) => error,
        };
        // The message says what is wrong and what to do, for a person; the kind
        // is for the program.
        match error.kind() {
            // The peer may start, the network come back, another socket close.
            ErrorKind::Refused
            | ErrorKind::Reset
            | ErrorKind::TimedOut
            | ErrorKind::Unreachable
            | ErrorKind::OutOfRoom
                if attempt < TRIES =>
            {
                eprintln!("attempt {attempt}: {error}");
                std::thread::sleep(Duration::from_millis(200) * 2_u32.pow(attempt));
            }
            // A mistake stays one.
            _ => return Err(error.into()),
        }
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
