//! TLS of leasequery sessions: our certificate, those whose signature counts, and how a session is
//! begun in either role (RFC 7653 §8.2, §9.1; RFC 9325).
//!
//! Decides who may be at the other end: both sides show a certificate of the private CA, valid now,
//! that bears the name of the peer. Nothing is resumed, so that each session is judged by the
//! certificates of its day. Must not know of messages, nor of whether TLS is demanded.

mod certificate;
mod error;
mod name;

use std::fs::File as OpenFile;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::CompleteTls;
use certificate::not_after;
use name::PeerVerifier;

pub use error::reason_of;

/// Files of certificates are a few kilobytes.
const FILE_MAX: u64 = 1 << 20;
/// Anybody may read.
const WORLD_READABLE: u32 = 0o004;

/// A file of `[tls]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum File {
    /// Ours.
    Certificate,
    /// Its key.
    Key,
    /// Those who sign for peers.
    Ca,
}

/// A file that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message} (expected {expected})")]
pub struct Fault {
    /// Which.
    pub file: File,
    /// What is wrong with it.
    pub message: String,
    /// What is expected there.
    pub expected: &'static str,
}

/// The end of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expiry {
    /// `certificate`, ours with those between it and the CA, or `ca`: of several the one that ends first.
    pub name: &'static str,
    /// When it ends.
    pub not_after: Timestamp,
}

/// What sessions are begun with; made anew from its files by a reload.
pub struct Tls {
    own: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    /// Ends of our certificate and of the CA.
    pub expiries: Vec<Expiry>,
    /// A warning where everybody may read the key.
    pub exposed_key: Option<String>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("expiries", &self.expiries)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// The first that cannot be used, and why.
    pub fn load(files: &CompleteTls) -> Result<Self, Fault> {
        let provider = ring::default_provider();
        let chain = certificates(File::Certificate, &files.certificate)?;
        let (text, exposed_key) = key_file(&files.key)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| Fault {
            file: File::Key,
            message: format!("{} holds no private key: {error}", files.key.display()),
            expected: "a private key in PEM, without a pass phrase",
        })?;
        let authorities = certificates(File::Ca, &files.ca)?;
        let mut expiries = Vec::new();
        expiries.extend(expiry("certificate", &chain));
        expiries.extend(expiry("ca", &authorities));
        let own = CertifiedKey::from_der(chain, key, &provider).map_err(|error| Fault {
            file: File::Key,
            message: format!(
                "{} does not go with the certificate: {error}",
                files.key.display()
            ),
            expected: "the private key of the certificate beside it",
        })?;
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|error| Fault {
                file: File::Ca,
                message: format!("{} cannot sign for peers: {error}", files.ca.display()),
                expected: "the certificates of authorities, such as ca.pem of `twinrelay tls init`",
            })?;
        }
        Ok(Self {
            own: Arc::new(own),
            roots: Arc::new(roots),
            expiries,
            exposed_key,
        })
    }

    /// As TLS client, toward a peer of this name.
    // req: ALQ-24, ALQ-26
    pub fn connector(&self, clock: &Clock) -> TlsConnector {
        let builder = ClientConfig::builder_with_details(provider(), clock.provider())
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3")
            .with_root_certificates(Arc::clone(&self.roots));
        let own = SingleCertAndKey::from(Arc::clone(&self.own));
        let mut config = builder.with_client_cert_resolver(Arc::new(own));
        config.resumption = Resumption::disabled();
        TlsConnector::from(Arc::new(config))
    }

    /// As TLS server, for a peer of this name and nobody else.
    // req: ALQ-52, ALQ-53
    pub fn acceptor(&self, name: &ServerName<'static>, clock: &Clock) -> TlsAcceptor {
        let signed =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider())
                .build()
                .expect("there is at least one authority");
        let verifier = PeerVerifier::new(signed, name.clone());
        let own = SingleCertAndKey::from(Arc::clone(&self.own));
        let mut config = ServerConfig::builder_with_details(provider(), clock.provider())
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(own));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        TlsAcceptor::from(Arc::new(config))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What certificates are judged by: a clock that was set back does not make an expired one valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// The newest time that the store knows of.
    pub not_before: SystemTime,
}

impl Clock {
    /// The later of the wall clock and the newest stored time.
    pub fn now(&self) -> SystemTime {
        SystemTime::now().max(self.not_before)
    }

    fn provider(&self) -> Arc<dyn TimeProvider> {
        Arc::new(*self)
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = self.now().duration_since(SystemTime::UNIX_EPOCH);
        Some(UnixTime::since_unix_epoch(since.unwrap_or(Duration::ZERO)))
    }
}

/// At least one.
fn certificates(file: File, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let fault = |message: String| Fault {
        file,
        message,
        expected: "certificates in PEM",
    };
    let (text, _) = read(path).map_err(|error| unreadable(file, path, &error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| fault(format!("{} is no PEM: {error}", path.display())))?;
    if found.is_empty() {
        return Err(fault(format!("{} holds no certificate", path.display())));
    }
    if let Some(broken) = found.iter().position(|it| not_after(it).is_none()) {
        let number = broken + 1;
        return Err(fault(format!(
            "certificate {number} of {} cannot be read",
            path.display()
        )));
    }
    Ok(found)
}

fn key_file(path: &Path) -> Result<(Vec<u8>, Option<String>), Fault> {
    let (text, mode) = read(path).map_err(|error| unreadable(File::Key, path, &error))?;
    let exposed = (mode & WORLD_READABLE != 0).then(|| {
        format!(
            "everybody on this machine can read the key {}",
            path.display()
        )
    });
    Ok((text, exposed))
}

fn unreadable(file: File, path: &Path, error: &std::io::Error) -> Fault {
    Fault {
        file,
        message: format!("cannot read {}: {error}", path.display()),
        expected: "a file that the daemon can read, also as the user of [relay] user",
    }
}

/// The contents and the mode of a file.
fn read(path: &Path) -> std::io::Result<(Vec<u8>, u32)> {
    let file = OpenFile::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut text)?;
    Ok((text, metadata.mode()))
}

fn expiry(name: &'static str, certificates: &[CertificateDer<'_>]) -> Option<Expiry> {
    let not_after = certificates.iter().filter_map(|it| not_after(it)).min()?;
    Some(Expiry { name, not_after })
}

#[cfg(test)]
pub(crate) mod tests;
