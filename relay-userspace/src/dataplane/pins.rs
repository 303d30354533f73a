//! What is pinned under `pin_path`: maps by name, links as `access_IFINDEX_MODE` and
//! `core_IFINDEX_MODE` (a bpffs takes no dots, interface names may have some).
//!
//! Decides where a bpffs is needed, and what of it was made here and has to go again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::{FsType, statfs};
use relay_common::maps;

use super::Role;
use super::attach::Mode;

/// linux/magic.h; libc's own is an i64 on some targets and an u32 on others.
const BPF_FS: FsType = FsType(libc::BPF_FS_MAGIC as _);
/// Where systemd and everybody else mount it. It lies in sysfs, where no folder can be made.
const USUAL: &str = "/sys/fs/bpf";

/// The folder of pins.
pub(super) struct Pins {
    path: PathBuf,
    state: State,
    made: Vec<PathBuf>,
    mounted: Option<PathBuf>,
}

enum State {
    Unused,
    Ready,
    /// Why nothing can be pinned.
    Unpinned,
}

impl Pins {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            state: State::Unused,
            made: Vec::new(),
            mounted: None,
        }
    }

    /// Makes the folder; where that is not possible, says so and nothing will be pinned.
    pub(super) fn prepare(&mut self) {
        if !matches!(self.state, State::Unused) {
            return;
        }
        self.state = match self.make() {
            Ok(()) => State::Ready,
            Err(error) => {
                tracing::warn!(
                    pin_path = %self.path.display(), %error,
                    "cannot pin kernel maps and programs: they end with the daemon; \
                     mount a bpffs (mount -t bpf bpf {USUAL})"
                );
                State::Unpinned
            }
        };
    }

    fn make(&mut self) -> io::Result<()> {
        if !on_bpffs(&self.path) {
            let at = if self.path.starts_with(USUAL) && Path::new(USUAL).is_dir() {
                PathBuf::from(USUAL)
            } else {
                make_folders(&self.path, &mut self.made)?;
                self.path.clone()
            };
            mount(
                Some("bpf"),
                &at,
                Some("bpf"),
                MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
                Some("mode=0700"),
            )?;
            tracing::info!(path = %at.display(), "mounted a bpffs");
            self.mounted = Some(at);
        }
        make_folders(&self.path, &mut self.made)
    }

    /// Where to pin a map; `None` where nothing can be pinned.
    pub(super) fn map(&self, name: &str) -> Option<PathBuf> {
        matches!(self.state, State::Ready).then(|| self.path.join(name))
    }

    /// Where to pin the link of an interface.
    pub(super) fn link(&self, role: Role, ifindex: u32, mode: Mode) -> Option<PathBuf> {
        let name = format!("{}_{ifindex}_{}", role.name(), mode.word());
        matches!(self.state, State::Ready).then(|| self.path.join(name))
    }

    /// Takes away the pinned maps, so that new ones are made.
    pub(super) fn remove_maps(&self) {
        for name in maps::PINNED {
            remove(&self.path.join(name));
        }
    }

    /// Takes away the pinned links of these interfaces: their programs are detached with them.
    pub(super) fn remove_links(&self, of: impl Fn(Role, u32, Mode) -> bool) {
        // Nothing was ever pinned here where there is no such folder.
        let Ok(entries) = fs::read_dir(&self.path) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let link = name.to_str().and_then(read_link_name);
            if link.is_some_and(|(role, ifindex, mode)| of(role, ifindex, mode)) {
                remove(&entry.path());
            }
        }
    }

    /// Takes away everything that a daemon ever pinned here, and what was made to hold it.
    pub(super) fn remove_all(&mut self) {
        self.remove_links(|_, _, _| true);
        self.remove_maps();
        // Fails where something else is in there, which then stays.
        let _ = fs::remove_dir(&self.path);
        if let Some(at) = self.mounted.take()
            && let Err(error) = umount(&at)
        {
            tracing::info!(path = %at.display(), %error, "the bpffs stays mounted");
        }
        for folder in self.made.drain(..).rev() {
            let _ = fs::remove_dir(folder);
        }
        self.state = State::Unused;
    }
}

/// The interface, its role and the mode of a pinned link's name.
fn read_link_name(name: &str) -> Option<(Role, u32, Mode)> {
    let (role, rest) = name.split_once('_')?;
    let role = Role::ALL.into_iter().find(|it| it.name() == role)?;
    let (ifindex, word) = rest.split_once('_')?;
    let mode = Mode::ALL.into_iter().find(|mode| mode.word() == word)?;
    Some((role, ifindex.parse().ok()?, mode))
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "a pin stays behind");
        }
        _ => {}
    }
}

/// Whether `path`, or the nearest folder above it that exists, lies on a bpffs.
fn on_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|folder| folder.exists());
    existing
        .and_then(|folder| statfs(folder).ok())
        .is_some_and(|stat| stat.filesystem_type() == BPF_FS)
}

fn make_folders(path: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|folder| !folder.exists())
        .collect();
    for folder in missing.into_iter().rev() {
        fs::create_dir(folder)?;
        made.push(folder.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_name_reads_back_and_other_names_do_not() {
        let access = Some((Role::Access, 17, Mode::Native));
        assert_eq!(read_link_name("access_17_native"), access);
        let core = Some((Role::Core, 4, Mode::Generic));
        assert_eq!(read_link_name("core_4_generic"), core);
        for other in [
            "access_17",
            "access_x_native",
            "interfaces",
            "core_1_x",
            "drop_counters",
        ] {
            assert_eq!(read_link_name(other), None, "{other}");
        }
    }
}
