//! TLS over a kernel socket, for one thread that reads and one that writes.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::{CryptoProvider, ring::default_provider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use weir_client::net::TcpStream;

use super::deadline::Deadline;
use super::duplex::{Duplex, flush, is_late, shutdown, write_all};
use super::verify::{Pin, Pinned, WrongPin, authorities, certificates};
use crate::error::CtlError;

/// How long a peer gets for the whole handshake, if no other time was given.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(30);
/// How long a handshake waits before it looks whether it is over.
const TICK: Duration = Duration::from_millis(200);
/// Bytes of ciphertext received at once: a record and a little.
const ROOM: usize = 18 * 1024;
/// Bytes of plaintext that become ciphertext at once.
const CHUNK: usize = 16 * 1024;

/// TLS of who connects.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClientArgs {
    /// Speak TLS; say with --pin or --ca whom to believe
    #[arg(long)]
    pub(crate) tls: bool,
    /// Believe the peer whose certificate has this SHA-256
    #[arg(long, value_name = "SHA256", requires = "tls", conflicts_with = "ca")]
    pin: Option<Pin>,
    /// Believe whom an authority in this PEM file has signed, under its name
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca: Option<PathBuf>,
    /// The name the certificate must have, if it is not HOST
    #[arg(long, value_name = "NAME", requires = "tls")]
    server_name: Option<String>,
}

/// TLS of who listens.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    /// Speak TLS, with a new certificate of its own, whose SHA-256 is shown
    #[arg(long)]
    pub(crate) tls: bool,
    /// The certificate, and those that lead to its authority (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["tls", "key"])]
    cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["tls", "cert"])]
    key: Option<PathBuf>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// How to speak TLS to a server.
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl ClientArgs {
    /// How to speak to `host`; `None` without TLS.
    pub(crate) fn client(&self, host: &str) -> Result<Option<Client>, CtlError> {
        if !self.tls {
            return Ok(None);
        }
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(CtlError::tls)?;
        let config = match (self.pin, &self.ca) {
            (Some(pin), _) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Pinned::new(pin, provider())))
                .with_no_client_auth(),
            (None, Some(path)) => builder
                .with_root_certificates(authorities(path)?)
                .with_no_client_auth(),
            (None, None) => return Err(CtlError::Trust),
        };
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| CtlError::ServerName(name.to_owned()))?;
        Ok(Some(Client {
            config: Arc::new(config),
            name,
        }))
    }
}

impl Client {
    /// Shakes hands over a connected stream, in the time there is for that; `None`
    /// when `stop` says so.
    pub(crate) fn connect(
        &self,
        stream: TcpStream,
        time: Deadline,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Tls>, CtlError> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(CtlError::tls)?;
        Tls::shake_hands(stream, connection.into(), time, stop)
    }
}

/// How to speak TLS to clients.
pub(crate) struct Server {
    config: Arc<ServerConfig>,
    /// Of the certificate.
    pub(crate) pin: Pin,
}

impl ServerArgs {
    /// How to speak to who connects to this address; `None` without TLS.
    pub(crate) fn server(&self, at: SocketAddr) -> Result<Option<Server>, CtlError> {
        if !self.tls {
            return Ok(None);
        }
        let (chain, key) = match (&self.cert, &self.key) {
            (Some(cert), Some(path)) => {
                let key = PrivateKeyDer::from_pem_file(path).map_err(|e| CtlError::Pem {
                    path: path.display().to_string(),
                    problem: e.to_string(),
                })?;
                (certificates(cert)?, key)
            }
            _ => {
                let CertifiedKey { cert, signing_key } =
                    generate_simple_self_signed(names(at.ip())).map_err(CtlError::certificate)?;
                let key = PrivateKeyDer::try_from(signing_key.serialize_der())
                    .map_err(|e| CtlError::Tls(e.to_owned()))?;
                (vec![cert.der().clone()], key)
            }
        };
        let pin = chain.first().map(|c| Pin::of(c));
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(CtlError::tls)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(CtlError::tls)?;
        Ok(pin.map(|pin| Server {
            config: Arc::new(config),
            pin,
        }))
    }
}

/// The names of a certificate of one's own.
fn names(at: IpAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    if at.is_unspecified() {
        names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    } else {
        names.push(at.to_string());
    }
    names
}

impl Server {
    /// Shakes hands over an accepted stream, in the time there is for that; `None`
    /// when `stop` says so.
    pub(crate) fn accept(
        &self,
        stream: TcpStream,
        time: Deadline,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Tls>, CtlError> {
        let connection = ServerConnection::new(Arc::clone(&self.config)).map_err(CtlError::tls)?;
        Tls::shake_hands(stream, connection.into(), time, stop)
    }
}

/// A stream with TLS.
pub(crate) struct Tls {
    stream: TcpStream,
    /// Taken before `state` by who sends what `state` has made, so that records
    /// go out in the order they were made.
    sending: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    connection: Connection,
    /// Ciphertext that came: `came[at..]` isn't with the connection yet.
    came: Vec<u8>,
    at: usize,
    ended: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Gives the connection ciphertext that came; whether there was any.
    fn digest(&mut self) -> Result<bool, rustls::Error> {
        let rest = self.came.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(false);
        }
        let mut reader = rest;
        let before = reader.len();
        // From memory, this fails only when plaintext has to be taken first.
        let _ = self.connection.read_tls(&mut reader);
        self.at += before - reader.len();
        self.connection.process_new_packets()?;
        Ok(true)
    }

    /// What the connection wants to send.
    fn outgoing(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            // To memory, this doesn't fail.
            if self.connection.write_tls(&mut bytes).is_err() {
                break;
            }
        }
        bytes
    }
}

/// An error of TLS as one of I/O, to pass through `Duplex`.
fn as_io(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Tls {
    fn shake_hands(
        stream: TcpStream,
        connection: Connection,
        time: Deadline,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Tls>, CtlError> {
        let tls = Tls {
            stream,
            sending: Mutex::new(()),
            state: Mutex::new(State {
                connection,
                came: Vec::new(),
                at: 0,
                ended: false,
            }),
        };
        // One time for all of it: a peer that sends a byte now and then has no more.
        let over = || time.is_over() || stop();
        let result = tls.handshake(time, &over);
        // The peer is told with an alert why it is not wanted.
        let _ = tls.send_made(&|| false);
        if result.is_err() {
            let _ = flush(&tls.stream, Duration::from_secs(1));
        }
        match result {
            Err(_) if stop() => return Ok(None),
            other => other?,
        }
        let state = lock(&tls.state);
        tracing::debug!(
            version = ?state.connection.protocol_version(),
            suite = ?state.connection.negotiated_cipher_suite(),
            "TLS is up"
        );
        drop(state);
        Ok(Some(tls))
    }

    fn handshake(&self, time: Deadline, over: &dyn Fn() -> bool) -> Result<(), CtlError> {
        let too_late = || {
            CtlError::Tls(format!(
                "the peer has not done its part of the handshake in {:.1} seconds; see that it \
                 speaks TLS, or give it more time with -w",
                time.given.as_secs_f64()
            ))
        };
        let late = |error: io::Error| match is_late(&error) {
            true => too_late(),
            false => CtlError::stream(error),
        };
        while lock(&self.state).connection.is_handshaking() {
            self.send_made(&|| !over()).map_err(late)?;
            if lock(&self.state).digest().map_err(refused)? {
                continue;
            }
            if !lock(&self.state).connection.is_handshaking() {
                break;
            }
            let wait = time.left().map_or(TICK, |left| left.min(TICK));
            self.stream.set_read_timeout(Some(wait));
            match self.fetch() {
                Ok(0) => {
                    return Err(CtlError::Tls(
                        "the peer ended the connection in the handshake; see that it speaks TLS, \
                         and what it says of why"
                            .to_owned(),
                    ));
                }
                Err(e) if is_late(&e) && !over() => {}
                // Also while it sends: a byte at a time is no end.
                Ok(_) if over() => return Err(too_late()),
                Ok(_) => {}
                Err(e) => return Err(late(e)),
            }
        }
        Ok(())
    }

    /// Waits for ciphertext.
    fn fetch(&self) -> io::Result<usize> {
        let mut buf = vec![0; ROOM];
        let n = (&self.stream).read(&mut buf)?;
        buf.truncate(n);
        let mut state = lock(&self.state);
        state.came = buf;
        state.at = 0;
        if n == 0 {
            state.ended = true;
            // Tells the connection that this is the end.
            let _ = state.connection.read_tls(&mut io::empty());
        }
        Ok(n)
    }

    /// Sends what the connection has made by itself.
    fn send_made(&self, go_on: &dyn Fn() -> bool) -> io::Result<()> {
        if !lock(&self.state).connection.wants_write() {
            return Ok(());
        }
        let _turn = lock(&self.sending);
        let bytes = lock(&self.state).outgoing();
        write_all(&self.stream, &bytes, go_on)
    }
}

impl Duplex for Tls {
    fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            {
                let mut state = lock(&self.state);
                match state.connection.reader().read(buf) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                        return Err(io::Error::new(e.kind(), Truncated));
                    }
                    other => return other,
                }
                if state.digest().map_err(as_io)? {
                    continue;
                }
                if state.ended {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, Truncated));
                }
            }
            self.send_made(&|| true)?;
            self.fetch()?;
        }
    }

    fn send(&self, bytes: &[u8], go_on: &dyn Fn() -> bool) -> io::Result<()> {
        for chunk in bytes.chunks(CHUNK) {
            let _turn = lock(&self.sending);
            let made = {
                let mut state = lock(&self.state);
                state.connection.writer().write_all(chunk)?;
                state.outgoing()
            };
            write_all(&self.stream, &made, go_on)?;
        }
        Ok(())
    }

    fn finish(&self, go_on: &dyn Fn() -> bool) -> io::Result<()> {
        let _turn = lock(&self.sending);
        let made = {
            let mut state = lock(&self.state);
            state.connection.send_close_notify();
            state.outgoing()
        };
        write_all(&self.stream, &made, go_on)?;
        shutdown(&self.stream, go_on)
    }

    fn tcp(&self) -> &TcpStream {
        &self.stream
    }
}

/// The peer ended the connection without saying so in TLS.
#[derive(Debug, thiserror::Error)]
#[error(
    "the peer ended the connection without ending TLS: what came may be cut off; \
     see whether it was stopped, or who is in between"
)]
struct Truncated;

/// What an error of the handshake means.
fn refused(error: rustls::Error) -> CtlError {
    use rustls::{CertificateError as C, Error as E};
    let text = match &error {
        E::InvalidCertificate(C::Other(other)) if other.0.is::<WrongPin>() => format!(
            "{}, which is not --pin: if you trust that it is the peer's, give that",
            other.0
        ),
        E::InvalidCertificate(C::UnknownIssuer) => {
            "no authority in the file of --ca has signed the peer's certificate; \
             give the right file, or --pin"
                .to_owned()
        }
        E::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            format!("{error}; give the name it is for with --server-name")
        }
        E::InvalidCertificate(why) => {
            format!(
                "the peer's certificate is not to be believed: {why}; have it replaced, or if it \
                 has signed itself and you trust that it is the peer's, give its --pin"
            )
        }
        E::AlertReceived(alert) => {
            format!("the peer refused the handshake ({alert:?}); see its log")
        }
        E::InvalidMessage(_) => {
            format!("{error}: the peer doesn't seem to speak TLS; try without --tls")
        }
        _ => format!("{error}; see that both sides speak TLS 1.2 or 1.3"),
    };
    CtlError::Tls(text)
}
