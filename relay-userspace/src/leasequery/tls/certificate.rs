//! When a certificate ends: the one field that is shown and alarmed of. Reads no more of X.509 than
//! the way to it (RFC 5280 §4.1); whether a certificate counts is rustls's decision.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `version [0] EXPLICIT`.
const VERSION: u8 = 0xa0;

/// notAfter; `None` where these bytes are no certificate.
pub(super) fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (mut certificate, _) = element(certificate, SEQUENCE)?;
    let (mut tbs, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(tbs, VERSION) {
        tbs = rest;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, tbs) = element(tbs, tag)?;
    }
    (certificate, _) = element(tbs, SEQUENCE)?;
    let (_, rest) = time(certificate)?;
    time(rest).map(|(not_after, _)| not_after)
}

fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (text, century, rest) = match element(bytes, UTC_TIME) {
        Some((text, rest)) => {
            let year: u8 = str::from_utf8(text.get(..2)?).ok()?.parse().ok()?;
            // RFC 5280 §4.1.2.5.1.
            (text, if year >= 50 { "19" } else { "20" }, rest)
        }
        None => {
            let (text, rest) = element(bytes, GENERALIZED_TIME)?;
            (text, "", rest)
        }
    };
    let text = format!("{century}{}", str::from_utf8(text).ok()?);
    let date = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    let timestamp = TimeZone::UTC.to_timestamp(date).ok()?;
    Some((timestamp, rest))
}

/// The contents of the first element, which has this tag, and what is behind it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, bytes) = bytes.split_first()?;
    if found != tag {
        return None;
    }
    let (&first, bytes) = bytes.split_first()?;
    let (len, bytes) = match first {
        0..=0x7f => (usize::from(first), bytes),
        0x81 | 0x82 => {
            let (len, bytes) = bytes.split_at_checked(usize::from(first & 0x0f))?;
            let len = len
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (len, bytes)
        }
        // No certificate is longer than 64 KiB, and indefinite lengths are not DER.
        _ => return None,
    };
    bytes.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_a_certificate_is_that_which_was_put_into_it() {
        for (year, text) in [
            (2049, "2049-12-31T00:00:00Z"),
            (2051, "2051-12-31T00:00:00Z"),
        ] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["r1".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 12, 31);
            let certificate = params.self_signed(&key).unwrap();

            let end = not_after(certificate.der()).expect("it is a certificate");

            assert_eq!(end.to_string(), text);
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_end() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["r1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();

        for len in 0..certificate.der().len().min(200) {
            assert_eq!(not_after(&certificate.der()[..len]), None);
        }
        assert_eq!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
