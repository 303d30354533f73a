//! `twinrelay tls init`: a private CA and the certificates of a pair, so that the secure way is the
//! easy way.
//!
//! Decides what such certificates look like. The key of the CA is never written: nobody can make a
//! third certificate, and the pair is renewed by making a new one.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Certificates begin a day ago: the clocks of routers differ.
const BACKDATED_SECS: i64 = 86_400;
/// Five years: the end is alarmed of a month before, and until then a pair should need no care.
const VALID_SECS: i64 = 5 * 365 * 86_400;
/// The CA outlives what it signed.
const CA_LONGER_SECS: i64 = 86_400;
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

/// PEM.
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// Certificates of two relays and the CA that signed both.
pub struct Pair {
    /// In both relays' `[tls] ca`.
    pub ca: String,
    /// One for each name.
    pub relays: [Certified; 2],
}

/// Makes a pair that is valid from `now_secs` (Unix time) on.
///
/// # Errors
/// A name that no certificate can bear.
pub fn make(names: [&str; 2], now_secs: i64) -> anyhow::Result<Pair> {
    if names[0] == names[1] {
        bail!(
            "both relays are named {}; each needs a name of its own",
            names[0]
        );
    }
    let valid = |until: i64| -> anyhow::Result<CertificateParams> {
        let mut params = CertificateParams::default();
        params.not_before = moment(now_secs - BACKDATED_SECS)?;
        params.not_after = moment(now_secs + until)?;
        Ok(params)
    };
    let mut authority = valid(VALID_SECS + CA_LONGER_SECS)?;
    let title = format!("twinrelay {} and {}", names[0], names[1]);
    authority.distinguished_name.push(DnType::CommonName, title);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().context("make a key")?;
    let ca = authority.self_signed(&key).context("sign the CA")?.pem();
    let issuer = Issuer::new(authority, key);
    let relay = |name: &str| -> anyhow::Result<Certified> {
        let mut params = valid(VALID_SECS)?;
        let names = CertificateParams::new(vec![name.to_owned()]);
        params.subject_alt_names = names
            .with_context(|| format!("no certificate can bear the name {name}"))?
            .subject_alt_names;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A relay is TLS client of its peer and TLS server for it.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("make a key")?;
        let certificate = params.signed_by(&key, &issuer).context("sign")?.pem();
        let key = key.serialize_pem();
        Ok(Certified { certificate, key })
    };
    Ok(Pair {
        ca,
        relays: [relay(names[0])?, relay(names[1])?],
    })
}

fn moment(unix_secs: i64) -> anyhow::Result<time::OffsetDateTime> {
    time::OffsetDateTime::from_unix_timestamp(unix_secs).context("the system clock")
}

/// Makes a pair and writes it into a folder, which is made where it is not there; answers what to do
/// with the files.
///
/// # Errors
/// A file is there already, or cannot be written: nothing that was there is changed.
pub fn init(names: [&str; 2], dir: &Path) -> anyhow::Result<String> {
    let now = jiff::Timestamp::now().as_second();
    let pair = make(names, now)?;
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let dir = dir
        .canonicalize()
        .with_context(|| format!("find {}", dir.display()))?;
    let mut files = vec![(dir.join("ca.pem"), &pair.ca, CERTIFICATE_MODE)];
    for (name, relay) in names.iter().zip(&pair.relays) {
        files.push((
            dir.join(format!("{name}.pem")),
            &relay.certificate,
            CERTIFICATE_MODE,
        ));
        files.push((dir.join(format!("{name}.key")), &relay.key, KEY_MODE));
    }
    if let Some((path, ..)) = files
        .iter()
        .find(|(path, ..)| path.symlink_metadata().is_ok())
    {
        bail!("{} is there already; name another folder", path.display());
    }
    for (path, text, mode) in &files {
        write(path, text, *mode).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(advice(names, &dir))
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The lines for both configurations. Whoever pastes them has only the addresses to fill in.
fn advice(names: [&str; 2], dir: &Path) -> String {
    let mut text = String::new();
    for (own, peer) in [(names[0], names[1]), (names[1], names[0])] {
        let path = |file: String| -> PathBuf { dir.join(file) };
        let (certificate, key, ca) = (
            path(format!("{own}.pem")),
            path(format!("{own}.key")),
            path("ca.pem".to_owned()),
        );
        let _ = write!(
            text,
            "# ---- on {own}: needs ca.pem, {own}.pem and {own}.key\n\
             [active_leasequery]\n\
             enabled = true\n\n\
             [[active_leasequery.peer]]\n\
             name = \"{peer}\"\n\
             address = \"ADDRESS-OF-{peer}\"\n\n\
             [tls]\n\
             certificate = \"{}\"\n\
             key = \"{}\"\n\
             ca = \"{}\"\n\n",
            certificate.display(),
            key.display(),
            ca.display(),
        );
    }
    let _ = writeln!(
        text,
        "# Copy the three files of {0} to the same folder there, then delete {0}.key here: it is the\n\
         # secret of {0}. The addresses are those that each relay sends to servers from\n\
         # (`twinrelay show interfaces`). Valid for five years.",
        names[1]
    );
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn files_are_private_keys_and_what_is_pasted_is_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("tls");

        let text = init(["r1", "r2"], &dir).unwrap();

        let mut names: Vec<String> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["ca.pem", "r1.key", "r1.pem", "r2.key", "r2.pem"]);
        for name in ["r1.key", "r2.key"] {
            let mode = std::fs::metadata(dir.join(name)).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        for half in text.split("# ---- on ").skip(1) {
            let pasted = half
                .split_once('\n')
                .unwrap()
                .1
                .replace("ADDRESS-OF-r2", "2001:db8:ff::2")
                .replace("ADDRESS-OF-r1", "2001:db8:ff::1");
            let file =
                format!("{pasted}\n[[access]]\ninterface = \"a\"\n[[core]]\ninterface = \"c\"\n");
            let loaded = crate::config::parse(Path::new("t.toml"), &file)
                .unwrap_or_else(|report| panic!("{report}"));
            assert_eq!(loaded.report.diagnostics(), []);
            assert!(loaded.config.needs_tls());
        }
    }

    #[test]
    fn examples_of_a_pair_have_the_lines_that_are_printed() {
        let text = advice(["r1", "r2"], Path::new("/etc/twinrelay/tls"));
        let halves: Vec<&str> = text.split("# ---- on ").skip(1).collect();
        let addresses = |text: &str| {
            text.replace("ADDRESS-OF-r1", "2001:db8:c::1")
                .replace("ADDRESS-OF-r2", "2001:db8:c::2")
        };

        for (name, half) in ["r1", "r2"].into_iter().zip(halves) {
            let file = format!("{}/../examples/{name}.toml", env!("CARGO_MANIFEST_DIR"));
            let example = std::fs::read_to_string(&file).unwrap();
            let lines = half.lines().skip(1).take_while(|it| !it.starts_with('#'));
            let pasted = addresses(&lines.collect::<Vec<_>>().join("\n"));
            assert!(pasted.starts_with("[active_leasequery]\n"));
            assert!(
                example.ends_with(&format!("{}\n", pasted.trim_end())),
                "{file}\n{pasted}"
            );
        }
    }

    #[test]
    fn nothing_that_is_there_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("r2.pem"), "precious").unwrap();

        let error = init(["r1", "r2"], folder.path()).unwrap_err().to_string();

        assert!(error.contains("r2.pem is there already"), "{error}");
        let entries = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(entries, 1);
    }

    #[test]
    fn relays_need_names_of_their_own() {
        assert!(make(["r1", "r1"], 0).is_err());
    }

    #[test]
    fn openssl_accepts_the_chain_for_both_purposes() {
        if std::process::Command::new("openssl")
            .arg("version")
            .output()
            .is_err()
        {
            return crate::testing::skipped("openssl is not installed");
        }
        let folder = tempfile::tempdir().unwrap();
        init(["r1", "r2"], folder.path()).unwrap();

        for (purpose, name) in [
            ("sslclient", "r1"),
            ("sslserver", "r2"),
            ("sslserver", "r1"),
        ] {
            let verified = std::process::Command::new("openssl")
                .args(["verify", "-x509_strict", "-purpose", purpose])
                .args(["-verify_hostname", name, "-CAfile"])
                .arg(folder.path().join("ca.pem"))
                .arg(folder.path().join(format!("{name}.pem")))
                .output()
                .unwrap();
            assert!(verified.status.success(), "{verified:?}");
        }
    }
}
