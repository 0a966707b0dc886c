//! How a TLS peer is believed: its certificate is the one of a pin, or signed by
//! an authority of a file.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};

use crate::error::CtlError;

/// SHA-256 of a certificate (DER), as `openssl x509 -fingerprint -sha256` has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pin([u8; 32]);

impl Pin {
    /// The pin of a certificate.
    pub(crate) fn of(certificate: &[u8]) -> Pin {
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        let mut pin = [0; 32];
        for (to, from) in pin.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Pin(pin)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Pin, String> {
        let text = text.rsplit_once('=').map_or(text, |(_, pin)| pin);
        let text = text.strip_prefix("sha256:").unwrap_or(text);
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let wrong = || {
            "not the SHA-256 of a certificate: 64 hex digits, as `weirctl tcp listen --tls` \
             prints them"
                .to_owned()
        };
        // Each: a number may have a sign, a pair of digits has none.
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut pin = [0; 32];
        for (i, byte) in pin.iter_mut().enumerate() {
            let pair = digits.get(2 * i..2 * i + 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Pin(pin))
    }
}

/// The certificate is another than the pin's.
#[derive(Debug)]
pub(crate) struct WrongPin {
    pub(crate) got: Pin,
}

impl fmt::Display for WrongPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate has SHA-256 {}", self.got)
    }
}

impl std::error::Error for WrongPin {}

/// Believes the one certificate of a pin, whatever it says of itself, and only
/// who has its key.
#[derive(Debug)]
pub(super) struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    pub(super) const fn new(pin: Pin, provider: Arc<CryptoProvider>) -> Pinned {
        Pinned { pin, provider }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let got = Pin::of(end_entity);
        if got == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let why = OtherError(Arc::new(WrongPin { got }));
        Err(CertificateError::Other(why).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// The certificates in a PEM file; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CtlError> {
    let bad = |problem: String| CtlError::Pem {
        path: path.display().to_string(),
        problem,
    };
    let found = CertificateDer::pem_file_iter(path)
        .map_err(|e| bad(e.to_string()))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| bad(e.to_string()))?;
    if found.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    Ok(found)
}

/// The authorities in a PEM file.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, CtlError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| CtlError::Pem {
            path: path.display().to_string(),
            problem: e.to_string(),
        })?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_as_tools_print_them() {
        // SHA-256 of no bytes (FIPS 180-4 examples).
        let plain = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let pin: Pin = plain.parse().expect("a pin");
        assert_eq!(pin, Pin::of(b""));
        assert_eq!(pin.to_string(), plain);
        let colons: Vec<String> = plain
            .as_bytes()
            .chunks(2)
            .map(|c| String::from_utf8_lossy(c).to_uppercase())
            .collect();
        let openssl = format!("sha256 Fingerprint={}", colons.join(":"));
        assert_eq!(openssl.parse(), Ok(pin));
        assert_eq!(format!("sha256:{plain}").parse(), Ok(pin));
        let signed = format!("+a{}", &plain[2..]);
        for bad in [
            "",
            "ab",
            &plain[1..],
            &format!("{}g", &plain[1..]),
            &signed,
            "ä",
        ] {
            assert!(bad.parse::<Pin>().is_err(), "{bad}");
        }
    }
}
