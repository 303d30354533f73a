//! What went wrong with a connection: for the core, and in words for people, with what to do.

use std::io;

use relay_core::alq::CloseReason;
use rustls::{AlertDescription, CertificateError, Error};

/// Of an error while connecting, reading, writing or in the handshake.
pub fn reason_of(error: &io::Error) -> (CloseReason, String) {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(error) => of_tls(error),
        // TCP has given up: [`super::super::Limits::send_timeout`], or no answer to its keep-alives.
        None if error.kind() == io::ErrorKind::TimedOut => (
            CloseReason::SendTimeout,
            "nothing is acknowledged".to_owned(),
        ),
        None => (CloseReason::Remote, error.to_string()),
    }
}

fn of_tls(error: &Error) -> (CloseReason, String) {
    match error {
        Error::InvalidCertificate(why) => (CloseReason::TlsCertificate, of_certificate(why)),
        Error::NoCertificatesPresented => {
            let text = "the peer shows no certificate; give it [tls] certificate and key";
            (CloseReason::TlsCertificate, text.to_owned())
        }
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            let text = format!("what the peer sends is no TLS: {error}");
            (CloseReason::TlsFailed, text)
        }
        Error::PeerIncompatible(why) => {
            let text = format!("no common way of TLS ({why:?}); TLS 1.2 or 1.3 is needed");
            (CloseReason::TlsFailed, text)
        }
        other => (CloseReason::TlsFailed, other.to_string()),
    }
}

fn of_certificate(why: &CertificateError) -> String {
    use CertificateError as E;
    match why {
        E::Expired | E::ExpiredContext { .. } => {
            "the peer's certificate has expired; make a new one, or set the clock".to_owned()
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "the peer's certificate is not valid yet; set the clock of this relay".to_owned()
        }
        E::UnknownIssuer | E::BadSignature => {
            "the peer's certificate is not signed by an authority of [tls] ca; give both relays the same ca.pem".to_owned()
        }
        E::NotValidForName => {
            "the peer's certificate bears another name; set tls_name to the name in it".to_owned()
        }
        E::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "the peer's certificate bears the name {}, not {}; set tls_name to the name in it",
            presented.join(", "),
            expected.to_str()
        ),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "the peer's certificate is not for both TLS servers and TLS clients".to_owned()
        }
        other => format!("the peer's certificate cannot be used: {other}"),
    }
}

fn of_alert(alert: AlertDescription) -> (CloseReason, String) {
    use AlertDescription as A;
    let text = match alert {
        A::CertificateExpired => "the peer says that our certificate has expired",
        A::UnknownCA => "the peer does not know the authority of our certificate",
        // Of an authority with the same name and another key.
        A::DecryptError => {
            "the peer does not know the authority of our certificate, or our key is not that of it"
        }
        A::CertificateRequired => "the peer misses our certificate",
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateUnknown
        | A::AccessDenied => {
            "the peer refuses our certificate: look at its log, and at the tls_name that it has for us"
        }
        A::ProtocolVersion => {
            let text = "the peer has no common version of TLS: 1.2 or 1.3 is needed";
            return (CloseReason::TlsFailed, text.to_owned());
        }
        other => {
            let text = format!("the peer ended TLS: {other:?}");
            return (CloseReason::TlsFailed, text);
        }
    };
    (CloseReason::TlsCertificate, text.to_owned())
}
