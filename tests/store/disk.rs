//! Full and read-only file systems, and folders of somebody else: the earlier state is intact, and
//! the store goes on by itself when the cause is gone. In a mount namespace of the test's own.

use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use relay_userspace::store::{Event, OpenError, State, StateDir};

use super::harness::{Contents, Running, contents, open, skip};

/// A small file system of its own for this thread and those that it starts. `None`: skipped.
fn small_disk(folder: &Path) -> Option<PathBuf> {
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        skip("a mount namespace needs root");
        return None;
    }
    let (none, no_data) = (None::<&str>, None::<&str>);
    let path = folder.join("disk");
    std::fs::create_dir(&path).expect("a folder");
    mount(
        none,
        "/",
        none,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        no_data,
    )
    .expect("private mounts");
    mount(
        Some("disk"),
        &path,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=512k"),
    )
    .expect("tmpfs");
    Some(path)
}

fn remount(path: &Path, flags: MsFlags) {
    let flags = MsFlags::MS_REMOUNT | flags;
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>).expect("remounts");
}

fn degraded(event: &Event) -> Option<&str> {
    match event {
        Event::State(State::Degraded { reason, .. }) => Some(reason),
        _ => None,
    }
}

#[test]
fn full_disk_keeps_what_was_durable_and_recovers_when_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = small_disk(folder.path()) else {
        return;
    };
    let state = disk.join("state");
    let running = Running::start(open(&state).expect("opens"), |_| {});
    running.submit(1, [(1, Some(1)), (2, Some(2))]);
    running.wait(|event| *event == Event::Durable(1));
    // All the room there is.
    let mut written = 0;
    while std::fs::write(disk.join(format!("filler{written}")), vec![1; 4096]).is_ok() {
        written += 1;
    }

    let mut sequence = 1;
    let reason = loop {
        sequence += 1;
        running.submit(sequence, (10..60).map(|id| (id, Some(3))));
        let event = running.wait(|it| degraded(it).is_some() || *it == Event::Durable(sequence));
        if let Some(reason) = degraded(&event) {
            break reason.to_owned();
        }
    };

    assert!(reason.contains("The disk is full: make room"), "{reason}");
    running.store.close();
    let mut opened = open(&state).expect("a full disk can be read");
    let (found, report) = contents(&mut opened);
    assert_eq!((found.get(&1), found.get(&2)), (Some(&1), Some(&2)));
    assert_eq!(report.harm.damaged_bytes, 0);

    let running = Running::start(opened, |_| {});
    running.wait(|event| degraded(event).is_some());
    for number in 0..written {
        std::fs::remove_file(disk.join(format!("filler{number}"))).expect("makes room");
    }
    running.wait(|event| *event == Event::Rewrite);
    let all: Contents = [(1, 1), (3, 3)].into();
    running.rewrite(9, &all);
    assert_eq!(running.store.status().state(), State::Ok);
    running.store.close();
    assert_eq!(contents(&mut open(&state).expect("opens")).0, all);
}

#[test]
fn read_only_file_system_is_read_and_written_again_when_it_can_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = small_disk(folder.path()) else {
        return;
    };
    let state = disk.join("state");
    let running = Running::start(open(&state).expect("opens"), |_| {});
    running.submit(1, [(1, Some(1))]);
    running.wait(|event| *event == Event::Durable(1));
    running.store.close();
    remount(&disk, MsFlags::MS_RDONLY);

    let mut opened = open(&state).expect("a read-only store can be read");
    let (found, _) = contents(&mut opened);
    let running = Running::start(opened, |_| {});
    let event = running.wait(|event| degraded(event).is_some());

    let reason = degraded(&event).unwrap_or_default();
    assert!(
        reason.contains("read-only: remount it writable"),
        "{reason}"
    );
    assert_eq!(found, [(1, 1)].into());
    remount(&disk, MsFlags::empty());
    running.wait(|event| *event == Event::Rewrite);
    running.rewrite(2, &found);
    assert_eq!(running.store.status().state(), State::Ok);
}

/// Runs as somebody who owns nothing: credentials are those of one thread.
fn as_nobody<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    const NOBODY: libc::c_long = 65534;
    let thread = std::thread::spawn(move || {
        // SAFETY: the call takes three numbers and changes the credentials of this thread only,
        // which ends right after.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        assert_eq!(changed, 0, "root may become anybody");
        act()
    });
    thread.join().expect("no panic")
}

#[test]
fn folder_of_somebody_else_says_whose_it_is_and_what_to_do() {
    if !nix::unistd::geteuid().is_root() {
        return skip("becoming somebody else needs root");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let anyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), anyone).expect("readable");
    let path = folder.path().to_owned();

    let locked = as_nobody(move || {
        StateDir::lock(&path)
            .map(|_| ())
            .map_err(|it| it.to_string())
    });
    let below = folder.path().join("missing/below");
    let made = as_nobody(move || {
        StateDir::lock(&below)
            .map(|_| ())
            .map_err(|it| it.to_string())
    });

    let error = locked.expect_err("it is root's");
    assert!(
        error.contains("belongs to user 0") && error.contains("chown"),
        "{error}"
    );
    let error = made.expect_err("it cannot be made");
    assert!(
        error.starts_with("cannot make") && error.contains("[relay] state_dir"),
        "{error}"
    );
}

#[test]
fn files_of_somebody_else_in_the_store_are_refused_with_advice() {
    if !nix::unistd::geteuid().is_root() {
        return skip("becoming somebody else needs root");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let running = Running::start(open(folder.path()).expect("opens"), |_| {});
    running.submit(1, [(1, Some(1))]);
    running.wait(|event| *event == Event::Durable(1));
    running.store.close();
    let anyone: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    for path in [
        folder.path().to_owned(),
        folder.path().join("store"),
        folder.path().join("lock"),
    ] {
        std::fs::set_permissions(path, anyone.clone()).expect("writable");
    }
    let path = folder.path().to_owned();

    let error = as_nobody(move || open(&path).map(|_| ()));

    let error = error.expect_err("a record is personal data: only its owner reads it");
    assert!(matches!(error, OpenError::Folder { verb: "read", .. }));
    assert!(error.to_string().contains("chown"), "{error}");
}
