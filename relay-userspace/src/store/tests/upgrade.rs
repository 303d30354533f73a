//! What the version before wrote is read, and written anew.

use std::sync::atomic::Ordering::Relaxed;

use relay_common::net::{MacAddr, VlanTag};

use super::*;

/// A store of format 1: bindings 1 and 2, a binding 3 that was removed, and choices.
const FORMAT_1: &[u8] = include_bytes!("format_1/0000000000000001.log");

fn format_1() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    std::fs::create_dir(&store).unwrap();
    std::fs::write(store.join("0000000000000001.log"), FORMAT_1).unwrap();
    folder
}

/// What the bindings of that store mean today.
fn expected() -> [StoredBinding<'static>; 2] {
    let tag = |tpid, vid| VlanTag { tpid, vid };
    let mut tagged = binding(2, 8);
    tagged.interface = "acc1";
    tagged.record.link.vlans = VlanTags::double(tag(0x88a8, 5), tag(0x8100, 7));
    tagged.record.ia_type = IaType::Na;
    tagged.record.prefix = Prefix::host("2001:db8:1::2".parse().unwrap());
    tagged.record.mac = Some(MacAddr([2, 0, 0, 0, 0, 1]));
    tagged.record.is_first_hop = false;
    tagged.record.valid_until = Instant::NEVER;
    [binding(1, 7), tagged]
}

fn assert_as_expected(opened: &mut Opened) {
    let mut found = 0;
    let load = opened.load(|restored| {
        let id = restored.binding.record.id;
        assert_eq!(restored.binding, expected()[id as usize - 1]);
        found += 1;
    });
    assert_eq!((load.unwrap().unreadable, found), (0, 2));
    let kept = opened.facts().kept().unwrap();
    assert_eq!(kept.relay_id.as_deref(), Some("00:04:01"));
    assert_eq!(kept.source_address, Some("2001:db8::1".parse().unwrap()));
}

#[test]
fn store_of_the_version_before_is_read_and_written_anew() {
    let folder = format_1();
    let mut opened = open(folder.path(), SMALL, &FakeClock::new()).unwrap();
    assert_as_expected(&mut opened);

    let mut running = Running::start(opened);
    running.wait(|event| *event == Event::Rewrite);
    assert!(running.store.begin_rewrite());
    let mut batch = running.store.batch();
    for binding in &expected() {
        batch.put(binding);
    }
    running.sequence = 1;
    batch.set_sequence(1);
    running.store.submit(batch).unwrap();
    assert!(running.store.end_rewrite(1));
    running.wait(|event| *event == Event::Durable(1));
    running.store.close();

    let of_old_format = |path: &std::path::PathBuf| {
        let header = std::fs::read(path).unwrap();
        entry::Header::decode(&header[..entry::HEADER_BYTES])
            .unwrap()
            .format
            < entry::FORMAT
    };
    assert!(!files(folder.path()).iter().any(of_old_format));
    let mut opened = open(folder.path(), SMALL, &FakeClock::new()).unwrap();
    assert_as_expected(&mut opened);
    let running = Running::start(opened);
    running.store.close();
    assert!(running.events.try_iter().all(|it| it != Event::Rewrite));
}

#[test]
fn merged_segment_may_hold_records_of_both_versions() {
    let folder = format_1();
    let options = Options {
        segment_bytes: 0,
        merge_bytes: 1,
        ..SMALL
    };
    let mut running = Running::start(open(folder.path(), options, &FakeClock::new()).unwrap());
    while running.store.status().counters.merges.load(Relaxed) == 0 {
        running.write([(9, Some(9))]);
    }
    running.store.close();

    assert!(!folder.path().join("store/0000000000000001.log").exists());
    let found = contents(folder.path());

    assert_eq!(found, [(1, 7), (2, 8), (9, 9)].into());
}
