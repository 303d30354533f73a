//! Damaged files: whatever still reads is used, nothing panics, nothing is lost without a word.

use super::*;
use proptest::prelude::*;

/// Each place takes a few synced writes; these steps hit every field of the layout somewhere.
const FLIP_EVERY: usize = 13;
/// See [`FLIP_EVERY`].
const CUT_EVERY: usize = 29;

/// One commit each, so that what was synced is known.
fn written(folder: &Path) -> BTreeMap<u64, u32> {
    let mut running = Running::open(folder);
    for id in 1..=60 {
        running.write([(id, Some(id as u32))]);
    }
    running.store.close();
    (1..=60).map(|id| (id, id as u32)).collect()
}

fn copy_of(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("store")).unwrap();
    for file in files(folder) {
        let name = file.file_name().unwrap();
        std::fs::copy(&file, copy.path().join("store").join(name)).unwrap();
    }
    copy
}

#[test]
fn flipped_bit_costs_at_most_one_record_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let all = written(folder.path());
    let mut seen_lost = 0;
    for file in files(folder.path()) {
        let bytes = std::fs::read(&file).unwrap();
        for at in (0..bytes.len()).step_by(FLIP_EVERY) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(&file, &changed).unwrap();

            let mut opened = open(folder.path(), SMALL, &FakeClock::new()).unwrap();
            let found = load(&mut opened);

            let lost = all
                .iter()
                .filter(|(id, version)| found.get(id) != Some(version))
                .count();
            let harm = opened.report().harm;
            assert!(
                lost <= 1,
                "{lost} records lost by one bit at {at} of {}",
                file.display()
            );
            let told = harm.damaged_bytes + harm.torn_bytes > 0;
            assert!(lost == 0 || told, "a record is lost at {at} without a word");
            assert!(found.keys().all(|id| all.contains_key(id)));
            seen_lost += lost;
        }
        std::fs::write(&file, &bytes).unwrap();
    }
    // The test does damage: most of the bytes are of records.
    assert!(seen_lost > 60, "{seen_lost}");
}

#[test]
fn cut_file_keeps_what_stands_before_the_cut_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let all = written(folder.path());
    let files = files(folder.path());
    let last = files.last().unwrap().clone();
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        for length in (0..bytes.len()).step_by(CUT_EVERY) {
            std::fs::write(&file, &bytes[..length]).unwrap();

            let mut opened = open(folder.path(), SMALL, &FakeClock::new()).unwrap();
            let found = load(&mut opened);

            assert!(
                found
                    .iter()
                    .all(|(id, version)| all.get(id) == Some(version))
            );
            // Of the last one nobody can tell a cut from a write that never was.
            let is_told = opened.report().harm.damaged_bytes > 0;
            assert!(found == all || file == last || is_told, "cut at {length}");
        }
        std::fs::write(&file, &bytes).unwrap();
    }
    assert_eq!(contents(folder.path()), all);
}

#[test]
fn damaged_segment_is_set_aside_after_the_rewrite_and_never_deleted() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let file = files(folder.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[600] ^= 0xff;
    std::fs::write(&file, &bytes).unwrap();
    let mut opened = open(folder.path(), SMALL, &FakeClock::new()).unwrap();
    let found = load(&mut opened);
    assert!(opened.report().to_string().contains("the store is damaged"));

    let mut running = Running::start(opened);
    running.wait(|event| *event == Event::Rewrite);
    assert!(running.store.begin_rewrite());
    running.submit(found.iter().map(|(id, version)| (*id, Some(*version))));
    assert!(running.store.end_rewrite(1));
    let event = running.wait(|event| matches!(event, Event::SetAside(_)));
    running.store.close();

    let Event::SetAside(aside) = event else {
        panic!("{event:?}");
    };
    assert_eq!(
        std::fs::read(aside.join(file.file_name().unwrap())).unwrap(),
        bytes
    );
    let mut opened = open(folder.path(), SMALL, &FakeClock::new()).unwrap();
    assert_eq!(load(&mut opened), found);
    assert_eq!(opened.report().harm, Harm::default());
}

#[test]
fn forged_entry_inside_a_damaged_one_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    // A client chooses its DUID: an entry as it would look in a file of another salt.
    let mut forged = entry::Entries::default();
    forged.begin_commit();
    forged.push(0, &entry::Body::Remove { id: 1 });
    let mut running = Running::open(folder.path());
    running.write([(1, Some(1))]);
    let mut batch = running.store.batch();
    let mut second = binding(2, 2);
    second.record.duid = &forged.bytes;
    batch.put(&second);
    running.store.submit(batch).unwrap();
    running.write([(3, Some(3))]);
    running.store.close();
    let file = files(folder.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes
        .windows(forged.bytes.len())
        .position(|it| it == forged.bytes)
        .unwrap();
    bytes[at - 20] ^= 1;
    std::fs::write(&file, &bytes).unwrap();

    assert_eq!(contents(folder.path()), [(1, 1), (3, 3)].into());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn anything_in_the_files_is_opened(
        noise in prop::collection::vec(any::<u8>(), 0..600),
        at in any::<prop::sample::Index>(),
        which in any::<prop::sample::Index>(),
    ) {
        let folder = shared();
        let copy = copy_of(folder);
        let files = files(copy.path());
        let file = which.get(&files);
        let mut bytes = std::fs::read(file).unwrap();
        let at = at.index(bytes.len());
        let end = (at + noise.len()).min(bytes.len());
        bytes.splice(at..end, noise);
        std::fs::write(file, &bytes).unwrap();

        let mut opened = open(copy.path(), SMALL, &FakeClock::new()).unwrap();
        let found = load(&mut opened);
        prop_assert!(found.iter().all(|(id, version)| *id == u64::from(*version)));
    }
}

fn shared() -> &'static Path {
    static FOLDER: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            written(folder.path());
            folder
        })
        .path()
}
