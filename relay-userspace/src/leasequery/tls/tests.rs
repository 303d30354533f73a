//! Certificates for tests, and what `check` says of files that cannot be used.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::leasequery::init::{Pair, make};

const NOW: i64 = 1_800_000_000;

/// Files of a relay and of its peer.
pub(crate) struct Files {
    dir: TempDir,
}

impl Files {
    /// Certificates of `r1` and `r2` that began at this Unix time.
    pub(crate) fn from(secs: i64) -> Self {
        Self::of(&make(["r1", "r2"], secs).unwrap())
    }

    /// Valid now.
    pub(crate) fn new() -> Self {
        Self::from(Timestamp::now().as_second())
    }

    pub(crate) fn of(pair: &Pair) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), &pair.ca).unwrap();
        for (name, relay) in ["r1", "r2"].iter().zip(&pair.relays) {
            std::fs::write(dir.path().join(format!("{name}.pem")), &relay.certificate).unwrap();
            let key = dir.path().join(format!("{name}.key"));
            std::fs::write(&key, &relay.key).unwrap();
            std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// As `[tls]` names them.
    pub(crate) fn complete(&self, relay: &str) -> CompleteTls {
        CompleteTls {
            certificate: self.path(&format!("{relay}.pem")),
            key: self.path(&format!("{relay}.key")),
            ca: self.path("ca.pem"),
        }
    }

    pub(crate) fn load(&self, relay: &str) -> Arc<Tls> {
        Arc::new(Tls::load(&self.complete(relay)).unwrap())
    }

    /// The certificate of this relay, of these files, and the CA of others.
    pub(crate) fn load_with_ca_of(&self, relay: &str, other: &Self) -> Arc<Tls> {
        let files = CompleteTls {
            ca: other.path("ca.pem"),
            ..self.complete(relay)
        };
        Arc::new(Tls::load(&files).unwrap())
    }
}

#[test]
fn ends_of_certificate_and_authority_are_known() {
    let tls = Files::from(NOW).load("r1");

    let ends: Vec<(&str, i64)> = tls
        .expiries
        .iter()
        .map(|it| (it.name, (it.not_after.as_second() - NOW) / 86_400))
        .collect();

    assert_eq!(ends, [("certificate", 1825), ("ca", 1826)]);
    assert_eq!(tls.exposed_key, None);
}

/// A session needs all of the chain.
#[test]
fn end_of_a_certificate_is_that_of_the_first_in_its_chain() {
    let files = Files::from(NOW);
    let earlier = make(["between", "other"], NOW - 100 * 86_400).unwrap();
    let path = files.path("r1.pem");
    let own = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, own + &earlier.relays[0].certificate).unwrap();

    let tls = files.load("r1");

    let end = &tls.expiries[0];
    let days = (end.not_after.as_second() - NOW) / 86_400;
    assert_eq!((end.name, days), ("certificate", 1725));
}

#[test]
fn file_that_cannot_be_used_is_named() {
    let files = Files::from(NOW);
    let fault = |change: &dyn Fn(&mut CompleteTls)| {
        let mut complete = files.complete("r1");
        change(&mut complete);
        Tls::load(&complete).unwrap_err()
    };
    let text = files.path("text");
    std::fs::write(&text, "no PEM at all").unwrap();

    let missing = fault(&|it| it.certificate = files.path("gone.pem"));
    assert_eq!(missing.file, File::Certificate);
    assert!(
        missing.message.contains("gone.pem: No such file"),
        "{missing}"
    );
    let other = fault(&|it| it.key = files.path("r2.key"));
    assert_eq!(other.file, File::Key);
    assert!(other.message.contains("does not go with"), "{other}");
    let no_key = fault(&|it| it.key = files.path("r1.pem"));
    assert_eq!(no_key.file, File::Key);
    assert!(no_key.message.contains("holds no private key"), "{no_key}");
    let empty = fault(&|it| it.ca = text.clone());
    assert_eq!(empty.file, File::Ca);
    assert!(empty.message.contains("holds no certificate"), "{empty}");
    let folder = fault(&|it| it.ca = files.path(""));
    assert_eq!(folder.file, File::Ca);
}

#[test]
fn key_that_everybody_can_read_is_warned_of() {
    let files = Files::from(NOW);
    let key = files.path("r1.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();

    let warning = files.load("r1").exposed_key.clone().expect("a warning");

    assert!(warning.contains("r1.key"), "{warning}");
}
