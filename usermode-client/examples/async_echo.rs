//! An echo server with a task for each connection, on a pool of threads; the
//! completion port wakes the tasks. Port 0 lets the driver choose.
//!
//! usage: async_echo ADDR:PORT

use std::net::SocketAddr;

use futures::executor::{ThreadPool, block_on};
use futures::io::AsyncWriteExt as _;
use futures::task::SpawnExt as _;
use weir_client::Device;
use weir_client::aio::{TcpListener, TcpStream};

async fn echo(stream: TcpStream) -> std::io::Result<()> {
    // Two sides of one connection, which is copied to itself.
    let (from, mut to) = (stream.clone(), stream);
    let bytes = futures::io::copy(from, &mut to).await?;
    to.close().await?;
    println!("{bytes} bytes echoed");
    Ok(())
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let at: SocketAddr = std::env::args()
        .nth(1)
        .ok_or("usage: async_echo ADDR:PORT")?
        .parse()?;
    let device = Device::open()?;
    let pool = ThreadPool::new()?;
    block_on(async {
        let listener = TcpListener::bind(&device, at).await?;
        println!("listening on {}", listener.local_addr());
        loop {
            let stream = listener.accept().await?;
            pool.spawn(async move {
                if let Err(error) = echo(stream).await {
                    eprintln!("{error}");
                }
            })?;
        }
    })
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
