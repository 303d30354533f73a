//! What survives a restart: the relay's DUID and the addresses that were chosen once and kept.
//!
//! One small JSON file, `state_dir/state.json`, replaced as a whole. Decides how a DUID is made;
//! what addresses are fit is `surroundings.rs`'s business. Leases are not kept here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::control::json::{colon_hex, parse_hex};

/// DUID-UUID (RFC 6355 §4).
const DUID_UUID: u16 = 4;
/// What the machine's identifier is hashed with, so that the DUID does not give it away: unlike
/// the DUID it is a secret of the machine (machine-id(5)).
const SALT: &[u8] = b"twinrelay relay-id, RFC 6355";
const MACHINE_ID: &str = "/etc/machine-id";

/// What was chosen once.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// The relay's DUID, hex with colons.
    pub relay_id: Option<String>,
    /// Source of RELAY-FORW.
    pub source_address: Option<Ipv6Addr>,
    /// By access interface name.
    pub link_addresses: BTreeMap<String, Ipv6Addr>,
}

impl Kept {
    /// The DUID as bytes.
    pub fn relay_id_bytes(&self) -> Option<Vec<u8>> {
        let bytes = parse_hex(self.relay_id.as_deref()?)?;
        // RFC 8415 §11.1: a 2-byte type and at most 128 bytes.
        (3..=130).contains(&bytes.len()).then_some(bytes)
    }
}

/// The state file.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// In `state_dir`, which need not exist yet.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join("state.json"),
        }
    }

    /// What was kept; nothing where there is no file yet.
    ///
    /// # Errors
    /// The file is there and cannot be used: the daemon goes on with nothing kept.
    pub fn load(&self) -> anyhow::Result<Kept> {
        let text = match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
            result => result.map_err(|error| self.explain("read", &error))?,
        };
        serde_json::from_str(&text).map_err(|error| {
            anyhow::anyhow!(
                "{} is damaged ({error}); it is made anew, and addresses are chosen again",
                self.path.display()
            )
        })
    }

    /// Replaces the file; either the old or the new one is there after a crash.
    ///
    /// # Errors
    /// The folder is missing or cannot be written: the daemon relays all the same.
    pub fn save(&self, kept: &Kept) -> anyhow::Result<()> {
        self.replace(kept)
            .map_err(|error| self.explain("write", &error))
    }

    fn replace(&self, kept: &Kept) -> io::Result<()> {
        let folder = self.path.parent().expect("the path was joined to a folder");
        std::fs::create_dir_all(folder)?;
        let mut text = serde_json::to_vec_pretty(kept)?;
        text.push(b'\n');
        let temporary = self.path.with_extension("json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        File::open(folder)?.sync_all()
    }

    fn explain(&self, verb: &str, error: &io::Error) -> anyhow::Error {
        anyhow::anyhow!(
            "cannot {verb} {}: {error}; relaying goes on, but relay-id and chosen addresses may \
             change with the next start. Check [relay] state_dir and its permissions",
            self.path.display()
        )
    }
}

/// The DUID of this machine: from its machine-id, else random.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn make_relay_id() -> io::Result<String> {
    // req: RLY-55
    let identity = match std::fs::read_to_string(MACHINE_ID) {
        Ok(text) if parse_hex(text.trim()).is_some_and(|bytes| bytes.len() == 16) => {
            text.trim().to_owned().into_bytes()
        }
        _ => random::<16>()?.to_vec(),
    };
    Ok(colon_hex(&duid_uuid(&identity)))
}

/// Type 4 | UUID, made from the hash of what is to stay secret.
fn duid_uuid(identity: &[u8]) -> Vec<u8> {
    let digest = Sha256::new()
        .chain_update(SALT)
        .chain_update(identity)
        .finalize();
    let mut uuid: [u8; 16] = digest[..16].try_into().expect("a digest has 32 bytes");
    // Version 4 and the variant of RFC 9562 §4.
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    [&DUID_UUID.to_be_bytes()[..], &uuid].concat()
}

/// Random bytes of the kernel.
///
/// # Errors
/// `/dev/urandom` cannot be read.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_choices_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(&folder.path().join("made/on/demand"));
        assert_eq!(file.load().unwrap(), Kept::default());
        let kept = Kept {
            relay_id: Some("00:04:01".to_owned()),
            source_address: Some("2001:db8::1".parse().unwrap()),
            link_addresses: BTreeMap::from([("acc0".to_owned(), "fd00::1".parse().unwrap())]),
        };

        file.save(&kept).unwrap();

        assert_eq!(file.load().unwrap(), kept);
        assert_eq!(kept.relay_id_bytes(), Some(vec![0, 4, 1]));
    }

    #[test]
    fn damaged_file_is_reported_and_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("state.json"), "{\"relay_id\": 5").unwrap();
        let file = StateFile::new(folder.path());

        let error = file.load().unwrap_err().to_string();

        assert!(error.contains("state.json is damaged"), "{error}");
        file.save(&Kept::default()).unwrap();
        assert_eq!(file.load().unwrap(), Kept::default());
    }

    #[test]
    fn unwritable_folder_names_what_to_check() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let file = StateFile::new(&folder.path().join("file/below"));

        let error = file.save(&Kept::default()).unwrap_err().to_string();

        assert!(error.contains("[relay] state_dir"), "{error}");
    }

    /// req: RLY-55 (RFC 5460 §5.4.1)
    #[test]
    fn rly_55_relay_id_is_a_stable_duid_uuid_that_hides_the_machine_id() {
        let machine = b"0123456789abcdef0123456789abcdef";

        let duid = duid_uuid(machine);

        assert_eq!(duid, duid_uuid(machine));
        assert_ne!(duid, duid_uuid(b"0123456789abcdef0123456789abcdee"));
        assert_eq!((duid.len(), &duid[..2]), (18, &[0, 4][..]));
        assert_eq!((duid[8] >> 4, duid[10] >> 6), (4, 2));
    }
}
