//! What is kept for those who ask: bindings that ended, and changes that were not sent.

use std::sync::atomic::Ordering::Relaxed;

use relay_core::record::Ending;

use super::*;

// What ALQ-D-26 needs.
#[test]
fn ended_binding_is_remembered_with_its_times_until_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    let options = Options {
        segment_bytes: 0,
        merge_bytes: 1,
        ..SMALL
    };
    let ended = |secs: u64| RecordState::Ended {
        how: Ending::Released,
        forget_at: Instant::from_nanos(secs * SECOND),
    };
    let mut running = Running::start(open(folder.path(), options, &clock).unwrap());
    for id in [1, 2] {
        let mut batch = running.store.batch();
        let mut binding = binding(id, 1);
        binding.origin = "active-leasequery:r2";
        binding.record.snooped_by = "2001:db8::2".parse().unwrap();
        binding.record.state = ended(5000);
        batch.put(&binding);
        running.store.submit(batch).unwrap();
    }
    running.write([(2, None)]);
    while running.store.status().counters.merges.load(Relaxed) == 0 {
        running.write([(3, Some(1))]);
    }
    running.store.close();

    // 500 s after the first boot's 1000 s.
    clock.change(|clock| {
        clock.boot_id = [2; 16];
        clock.boot = Instant::from_nanos(2010 * SECOND);
        clock.wall_nanos += 500 * i128::from(SECOND);
    });
    let mut opened = open(folder.path(), SMALL, &clock).unwrap();
    let mut found = Vec::new();
    let report = opened.load(|restored| {
        let StoredBinding { record, origin, .. } = restored.binding;
        if record.id != 3 {
            assert!(!restored.is_expired);
            let times = [record.changed_at, record.cltt];
            assert_eq!(times, [Instant::from_nanos(1510 * SECOND); 2]);
            found.push((
                record.id,
                record.state,
                record.snooped_by,
                origin.to_owned(),
            ));
        }
    });
    let report = report.unwrap();
    let who = (
        "2001:db8::2".parse().unwrap(),
        "active-leasequery:r2".to_owned(),
    );
    assert_eq!(found, [(1, ended(5510), who.0, who.1)]);
    assert_eq!((report.bindings, report.ended), (2, 1));
    assert!(
        report.to_string().starts_with("1 bindings kept"),
        "{report}"
    );
}

// What ALQ-D-25 needs.
#[test]
fn oldest_unsent_change_of_a_requestor_moves_to_the_next_boot() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    let mut running = Running::start(open(folder.path(), SMALL, &clock).unwrap());
    let mut batch = running.store.batch();
    assert!(batch.oldest_unsent("r2", Some(Instant::from_nanos(990 * SECOND))));
    assert!(batch.oldest_unsent("r3", Some(Instant::from_nanos(990 * SECOND))));
    assert!(batch.oldest_unsent("r3", None));
    running.store.submit(batch).unwrap();
    running.write([(1, Some(1))]);
    running.store.close();

    // The second boot has nothing to say of it: it still means the moment of the first.
    for boot in [2, 3] {
        clock.change(|clock| {
            clock.boot_id = [boot; 16];
            clock.boot = Instant::from_nanos(5000 * SECOND);
            clock.wall_nanos += 500 * i128::from(SECOND);
        });
        let mut opened = open(folder.path(), SMALL, &clock).unwrap();
        load(&mut opened);
        let ago = 10 + 500 * u64::from(boot - 1);
        let expected = Instant::from_nanos((5000 - ago) * SECOND);
        assert_eq!(opened.oldest_unsent(), [("r2".to_owned(), expected)].into());
        let mut running = Running::start(opened);
        running.write([(1, Some(2))]);
        running.store.close();
    }
}
