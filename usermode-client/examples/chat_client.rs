//! Joins a room of `weirctl chat serve`, says one thing, and shows what is said
//! for a while.
//!
//! usage: chat_client ADDR:PORT NAME ROOM TEXT

use std::io::{BufRead as _, BufReader, Write};
use std::net::SocketAddr;
use std::time::Duration;

use weir_client::Device;
use weir_client::net::TcpStream;

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [to, name, room, text] = arguments.as_slice() else {
        return Err("usage: chat_client ADDR:PORT NAME ROOM TEXT".into());
    };
    let to: SocketAddr = to.parse()?;
    let device = Device::open()?;
    let stream = TcpStream::connect(&device, to)?;
    write!(&stream, "join {name} {room}\n{text}\n")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)));
    let lines = BufReader::new(&stream).lines();
    for line in lines {
        match line {
            Ok(line) => println!("{line}"),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => break,
            Err(error) => return Err(error.into()),
        }
    }
    writeln!(&stream, "/quit")?;
    stream.shutdown()?;
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
