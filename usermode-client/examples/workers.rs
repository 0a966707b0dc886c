//! One completion port for many connections, with a pool of workers of a chosen
//! size: so many tasks each send one message after the other to an echo server
//! and wait for it. The library's events go to standard error.
//!
//! usage: workers ADDR:PORT [CONNECTIONS] [MESSAGES] [WORKERS]

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Instant;

use futures::executor::block_on;
use futures::future::try_join_all;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weir_client::aio::TcpStream;
use weir_client::{Device, Workers};

const USAGE: &str = "usage: workers ADDR:PORT [CONNECTIONS] [MESSAGES] [WORKERS]";

async fn talk(device: &Device, to: SocketAddr, messages: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(device, to).await?;
    stream.set_nodelay(true)?;
    let mut answer = [0; 64];
    for n in 0..messages {
        let message = [n as u8; 64];
        stream.write_all(&message).await?;
        stream.read_exact(&mut answer).await?;
        if answer != message {
            return Err(std::io::Error::other(
                "the answer is another than the message",
            ));
        }
    }
    stream.close().await
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let to: SocketAddr = arguments.first().ok_or(USAGE)?.parse()?;
    let number = |at: usize, default: usize| match arguments.get(at) {
        Some(text) => text.parse::<usize>(),
        None => Ok(default),
    };
    let (connections, messages) = (number(1, 100)?, number(2, 100)?);
    // The workers only wake tasks and threads, so one a core is enough, which is
    // what `Device::open` has.
    let workers = match NonZeroUsize::new(number(3, 0)?) {
        Some(number) => Workers::Exactly(number),
        None => Workers::PerCore,
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let device = Device::open_with(workers)?;
    let start = Instant::now();
    // All of them are tasks of this thread; any executor would do.
    block_on(try_join_all(
        (0..connections).map(|_| talk(&device, to, messages)),
    ))?;
    let took = start.elapsed().as_secs_f64();
    let all = (connections * messages) as f64;
    println!(
        "{connections} connections, {} workers: {:.0} messages a second",
        workers.number(),
        all / took
    );
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
