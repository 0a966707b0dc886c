//! Programs nobody here wrote, run against the driver; and ones of ours that
//! run beside a test.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::lab::Fixture;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A port of the host that nobody has, and that nobody is given who asks for any:
/// those are above 32768.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests of other processes start elsewhere.
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..10_000 {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (number % 20_000) as u16;
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
            && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
        if free {
            return port;
        }
    }
    panic!("no port is free");
}

/// Waits until somebody listens on a port of the host.
///
/// # Panics
/// When nobody does in time.
pub fn until_listening(port: u16) {
    let deadline = Instant::now() + PATIENCE;
    let end = format!(":{port} ");
    while !listening().contains(&end) {
        assert!(Instant::now() < deadline, "nobody listens on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What `ss` says is bound or listening, TCP and UDP.
///
/// # Panics
/// When it can't be run.
#[must_use]
pub fn listening() -> String {
    let out = Command::new("ss").args(["-Hlntu"]).output().expect("ss");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A program that ends with its owner.
pub struct Background {
    child: Child,
    /// Standard input, until it is closed.
    pub input: Option<ChildStdin>,
    said: Receiver<String>,
}

impl Background {
    /// Starts a program of the host; its standard output is kept for
    /// [`Background::output`].
    ///
    /// # Panics
    /// When it can't be.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let input = child.stdin.take();
        let said = lines(child.stderr.take().expect("a pipe"));
        Self { child, input, said }
    }

    /// Starts weirctl.
    #[must_use]
    pub fn weirctl(fixture: &Fixture, arguments: &[&str]) -> Self {
        Self::start(&mut fixture.command(arguments))
    }

    /// The rest of a line of standard error that begins so.
    ///
    /// # Panics
    /// When there is none in time.
    #[must_use]
    pub fn says(&self, beginning: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) => match line.strip_prefix(beginning) {
                    Some(rest) => return rest.trim().to_owned(),
                    None => before.push(line),
                },
                Err(_) => panic!("it never said {beginning:?}, but: {before:?}"),
            }
        }
    }

    /// Where it says that it listens.
    ///
    /// # Panics
    /// When it doesn't say.
    #[must_use]
    pub fn listening(&self) -> SocketAddr {
        self.says("listening on ").parse().expect("an address")
    }

    /// Gives it its whole input.
    ///
    /// # Panics
    /// When it doesn't take it.
    pub fn tell(&mut self, text: &[u8]) {
        let mut input = self.input.take().expect("an input");
        if let Err(error) = input.write_all(text) {
            std::thread::sleep(Duration::from_millis(200));
            let said: Vec<_> = self.said.try_iter().collect();
            panic!("it does not read: {error}; it said {said:?}");
        }
    }

    /// All it writes, to its end.
    ///
    /// # Panics
    /// When it fails to end, or to be read.
    #[must_use]
    pub fn output(mut self) -> Vec<u8> {
        drop(self.input.take());
        let mut all = Vec::new();
        let mut stdout = self.child.stdout.take().expect("a pipe");
        let reader = std::thread::spawn(move || stdout.read_to_end(&mut all).map(|_| all));
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("a child").is_none() {
            if Instant::now() > deadline {
                let _gone = self.child.kill();
                let said: Vec<_> = self.said.try_iter().collect();
                panic!("it does not end; it said {said:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        reader.join().expect("a reader").expect("a pipe")
    }

    /// Its exit code, and all it says on its way to its end. Standard input stays
    /// open, for those that would end with it.
    ///
    /// # Panics
    /// When it doesn't end.
    #[must_use]
    pub fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        // The pipe may stay open longer than the program: Wine's server has it too.
        let mut said = Vec::new();
        while let Ok(line) = self.said.recv_timeout(Duration::from_millis(500)) {
            said.push(line);
        }
        (status.code(), said.join("\n"))
    }

    /// The first line it writes, when there is one.
    ///
    /// # Panics
    /// When it ends before.
    #[must_use]
    pub fn first_line(&mut self) -> String {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            self.read_exact(&mut byte);
            line.extend(byte);
        }
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }

    /// The first bytes it writes.
    ///
    /// # Panics
    /// When it ends before it has written so many.
    pub fn read_exact(&mut self, bytes: &mut [u8]) {
        let stdout = self.child.stdout.as_mut().expect("a pipe");
        stdout.read_exact(bytes).expect("it writes");
    }

    /// Ends it as Ctrl-C does; [`Background::output`] waits for the end.
    ///
    /// # Panics
    /// When it has ended.
    #[cfg(unix)]
    pub fn interrupt(&self) {
        crate::lab::ctrl_c(&self.child);
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }

    /// Its process, as the host counts them.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (to, from) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
    from
}

/// Whether a process may have so many files open, here and in the lab, which this
/// process starts: as many as the system lets it have, if it has to be.
#[cfg(unix)]
#[must_use]
pub fn room_for(files: u64) -> bool {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let wanted = files + 500;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) if soft >= wanted => true,
        Ok((_, hard)) => {
            setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard).is_ok() && hard >= wanted
        }
        Err(_) => false,
    }
}

/// Has a connection end with a reset when it is dropped.
///
/// # Panics
/// When the system refuses.
pub fn reset(stream: TcpStream) {
    let socket = socket2::SockRef::from(&stream);
    let none = socket.set_linger(Some(Duration::ZERO));
    none.expect("linger is set");
}

/// Runs a program with this input.
///
/// # Panics
/// When it can't be run.
#[must_use]
pub fn run(program: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}; `cargo xtask setup` installs it"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let bytes = input.to_vec();
    // A program that ends early reads no more.
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let out = child.wait_with_output().expect("it ends");
    let _written = writer.join();
    out
}

/// Connects, with a time-out on reads.
///
/// # Panics
/// When nobody is there.
#[must_use]
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("somebody accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

/// The next who connects, with a time-out on reads.
///
/// # Panics
/// When nobody does in time.
#[must_use]
pub fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("a mode");
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).expect("a mode");
                stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
                return stream;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(Instant::now() < deadline, "nobody connects");
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Bytes that repeat only after a long time.
#[must_use]
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A web server on a folder of the host: nginx, as Debian ships it.
///
/// # Panics
/// When it doesn't start.
#[must_use]
pub fn nginx(folder: &Path) -> (Background, u16) {
    let port = free_port();
    let at = folder.display();
    let file = folder.join("nginx.conf");
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;
         events {{ worker_connections 256; }}
         http {{ access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
         fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
         server {{ listen 127.0.0.1:{port}; root {at}; }} }}"
    );
    std::fs::write(&file, config).expect("a configuration");
    let server = Background::start(Command::new("nginx").arg("-c").arg(&file));
    until_listening(port);
    (server, port)
}
