//! What the daemon may do after its start: four capabilities, and another user where one is set.
//!
//! Capabilities belong to threads, and a thread that is made inherits them: this runs before the
//! daemon makes any. `CAP_NET_ADMIN` writes routes and attaches programs, `CAP_BPF` loads them,
//! `CAP_NET_RAW` opens packet sockets, `CAP_NET_BIND_SERVICE` binds port 547. `CAP_PERFMON` is not
//! among them, because it lets its owner read the kernel's memory. It is there while programs are loaded
//! at the start, so that the kernel puts no barriers against speculation into them; they load
//! without it, too, only slower ones.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::statfs::{FsType, statfs};
use nix::unistd::{Gid, Uid, User};

use crate::config::{Capture, Config};

/// What the daemon keeps: loading, attaching, routing and relaying work with these and no others.
pub const NEEDED: [Capability; 4] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
    Capability::CAP_BPF,
    Capability::CAP_NET_BIND_SERVICE,
];

/// Becomes the configured user, does `first` while `CAP_PERFMON` is still there, then gives up all that is
/// not needed. What `first` makes is the user's, who can remove it later.
///
/// # Errors
/// The user does not exist, or the kernel refuses.
pub fn drop_after<T>(config: &Config, first: impl FnOnce() -> T) -> anyhow::Result<T> {
    let mut needed = NEEDED.to_vec();
    if must_mount(config) {
        tracing::info!(
            pin_path = %config.dataplane.pin_path.display(),
            "CAP_SYS_ADMIN is kept, because a bpffs has to be mounted; \
             mount -t bpf bpf /sys/fs/bpf before the start makes it needless"
        );
        needed.push(Capability::CAP_SYS_ADMIN);
    }
    if let Some(name) = config.relay.user.as_deref() {
        become_user(name, &[&config.relay.state_dir, &config.relay.run_dir])?;
    }
    keep_only(&[needed.as_slice(), &[Capability::CAP_PERFMON]].concat())?;
    let done = first();
    let missing = keep_only(&needed)?;
    if !missing.is_empty() {
        tracing::warn!(
            missing = missing.join(" "),
            "capabilities are missing; run as root, or grant them in the unit file"
        );
    }
    Ok(done)
}

/// Gives up all capabilities of this thread but these, for itself and for what it executes; returns
/// the names of those that it never had.
///
/// # Errors
/// The kernel refuses.
pub fn keep_only(needed: &[Capability]) -> anyhow::Result<Vec<String>> {
    let permitted = caps::read(None, CapSet::Permitted).context("read capabilities")?;
    let (keep, missing): (CapsHashSet, CapsHashSet) =
        needed.iter().partition(|it| permitted.contains(it));
    // What this process executes must not get back what it gave up. Without CAP_SETPCAP there is
    // nothing to give up.
    let _ = caps::clear(None, CapSet::Bounding);
    nix::sys::prctl::set_no_new_privs().context("drop capabilities")?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).context("drop capabilities")?;
    caps::set(None, CapSet::Effective, &keep).context("drop capabilities")?;
    caps::set(None, CapSet::Permitted, &keep).context("drop capabilities")?;
    let mut missing: Vec<String> = missing.iter().map(Capability::to_string).collect();
    missing.sort_unstable();
    Ok(missing)
}

/// Whether programs are to be pinned where no bpffs is yet.
fn must_mount(config: &Config) -> bool {
    let uses_programs = config.access.iter().any(|it| it.capture != Capture::Socket);
    uses_programs && !is_on_bpffs(&config.dataplane.pin_path)
}

fn is_on_bpffs(path: &Path) -> bool {
    let mut path = PathBuf::from(path);
    // The nearest folder that exists says what file system it would be.
    while !path.exists() && path.pop() {}
    statfs(&path).is_ok_and(|it| it.filesystem_type() == FsType(libc::BPF_FS_MAGIC as _))
}

/// Changes the user and keeps the permitted capabilities.
fn become_user(name: &str, own_folders: &[&Path]) -> anyhow::Result<()> {
    let user = User::from_name(name).with_context(|| format!("look up user {name}"))?;
    let Some(user) = user else {
        bail!("[relay] user = \"{name}\": there is no such user; make it, or leave user empty");
    };
    if user.uid == Uid::effective() {
        return Ok(());
    }
    for folder in own_folders {
        give(folder, user.uid, user.gid)
            .with_context(|| format!("give {} to user {name}", folder.display()))?;
    }
    nix::sys::prctl::set_keepcaps(true).context("keep capabilities")?;
    let group = std::ffi::CString::new(name).context("user name")?;
    nix::unistd::initgroups(&group, user.gid).context("set groups")?;
    nix::unistd::setgid(user.gid).context("set group")?;
    nix::unistd::setuid(user.uid).with_context(|| format!("become user {name}"))?;
    nix::sys::prctl::set_keepcaps(false).context("keep capabilities")?;
    Ok(())
}

fn give(folder: &Path, uid: Uid, gid: Gid) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    nix::unistd::chown(folder, Some(uid), Some(gid))?;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            give(&path, uid, gid)?;
        } else if path.is_file() {
            nix::unistd::chown(&path, Some(uid), Some(gid))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_capabilities_are_kept_and_documented() {
        let manual = include_str!("../../../docs/operations.md");
        let documented: Vec<&str> = manual
            .lines()
            .filter_map(|line| line.strip_prefix("| `CAP_")?.split('`').next())
            .collect();

        let kept = NEEDED.map(|it| it.to_string());

        assert_eq!(
            documented,
            kept.each_ref()
                .map(|it| it.strip_prefix("CAP_").expect("a prefix"))
        );
    }
}
