//! Writing, opening again, merging, failing and recovering.

use super::*;
use crate::state::Kept;

const POINT: ResumePoint = ResumePoint {
    base_time_secs: 800_000_000,
    server: Some(0x0102_0304_0506_0708),
};

#[test]
fn changes_survive_and_the_last_of_each_binding_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::open(folder.path());

    running.write([(1, Some(10)), (2, Some(20)), (1, Some(11)), (3, Some(30))]);
    running.write([(2, None), (4, Some(40))]);
    running.write([(4, None), (4, Some(41))]);
    running.store.close();

    assert_eq!(contents(folder.path()), [(1, 11), (3, 30), (4, 41)].into());
}

#[test]
fn batches_that_wait_become_one_commit_of_their_last_changes() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::open(folder.path());

    for version in 0..50 {
        running.submit([(1, Some(version)), (u64::from(version) + 2, Some(version))]);
    }
    running.wait(|event| *event == Event::Durable(50));

    let commits = running
        .store
        .status()
        .counters
        .commits
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!((1..=50).contains(&commits));
    running.store.close();
    let found = contents(folder.path());
    assert_eq!((found.len(), found[&1]), (51, 49));
}

#[test]
fn facts_and_ids_survive() {
    let folder = tempfile::tempdir().unwrap();
    let kept = Kept {
        relay_id: Some("00:04:01".to_owned()),
        source_address: None,
        link_addresses: [("acc0".to_owned(), "fd00::1".parse().unwrap())].into(),
    };
    let opened = open(folder.path(), SMALL, &FakeClock::new()).unwrap();
    assert!(opened.report().is_new && opened.facts().kept().is_none());
    assert_eq!(opened.report().next_id, 1);
    let mut running = Running::start(opened);
    let mut batch = running.store.batch();
    batch.keep(&kept);
    assert!(batch.resume_point("r2", Some(&POINT)) && batch.resume_point("r3", Some(&POINT)));
    assert!(batch.resume_point("r3", None));
    assert!(batch.counter("created", 1 << 40));
    assert!(!batch.counter(&"x".repeat(250), 1));
    assert!(!batch.fact(b"large", &[0; facts::FACT_MAX + 1]));
    running.store.submit(batch).unwrap();
    running.write([(7, Some(1)), (9, Some(1))]);
    running.write([(9, None)]);
    running.store.close();

    let opened = open(folder.path(), SMALL, &FakeClock::new()).unwrap();

    assert_eq!(opened.facts().kept(), Some(kept));
    assert_eq!(
        opened.facts().resume_points(),
        [("r2".to_owned(), POINT)].into()
    );
    assert_eq!(
        opened.facts().counters(),
        [("created".to_owned(), 1 << 40)].into()
    );
    assert!(!opened.report().is_new && opened.report().next_id > 9);
}

#[test]
fn merge_keeps_what_is_true_and_frees_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        merge_bytes: 20_000,
        ..SMALL
    };
    let clock = FakeClock::new();
    let mut running = Running::start(open(folder.path(), options, &clock).unwrap());

    for version in 0..40 {
        running.write((1..=20).map(|id| (id, Some(version))));
        running.write([(100 + u64::from(version), Some(version))]);
        running.write([(100 + u64::from(version), None)]);
    }
    let merges = || {
        running
            .store
            .status()
            .counters
            .merges
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    for _ in 0..1000 {
        if merges() > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }

    assert!(merges() > 0);
    running.store.close();
    assert_eq!(
        contents(folder.path()),
        (1..=20).map(|id| (id, 39)).collect()
    );
    let bytes: u64 = files(folder.path())
        .iter()
        .map(|it| it.metadata().unwrap().len())
        .sum();
    assert!(bytes < 100_000, "{bytes} bytes of 40 × 20 records are left");
}

#[test]
fn rewrite_removes_what_was_not_offered() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::open(folder.path());
    running.write([(1, Some(1)), (2, Some(2)), (3, Some(3))]);

    assert!(running.store.begin_rewrite());
    running.submit([(1, Some(5))]);
    running.submit([(4, Some(4))]);
    assert!(running.store.end_rewrite(running.sequence));
    running.wait(|event| *event == Event::Durable(3));
    running.write([(5, Some(5))]);
    running.store.close();

    assert_eq!(contents(folder.path()), [(1, 5), (4, 4), (5, 5)].into());
    assert!(files(folder.path()).len() <= 2);
}

#[test]
fn unfinished_rewrite_removes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::open(folder.path());
    running.write([(1, Some(1)), (2, Some(2))]);

    assert!(running.store.begin_rewrite());
    running.submit([(1, Some(5))]);
    running.store.close();

    assert_eq!(contents(folder.path()), [(1, 5), (2, 2)].into());
}

#[test]
fn failed_write_degrades_and_recovers_by_a_rewrite() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 0,
        ..SMALL
    };
    let mut running = Running::start(open(folder.path(), options, &FakeClock::new()).unwrap());
    running.write([(1, Some(1)), (2, Some(2))]);
    let (store, away) = (folder.path().join("store"), folder.path().join("away"));
    std::fs::rename(&store, &away).unwrap();
    std::fs::write(&store, "in the way").unwrap();

    running.submit([(3, Some(3))]);

    let event =
        running.wait(|event| matches!(event, Event::State(_)) && *event != Event::State(State::Ok));
    let Event::State(State::Degraded { reason, .. }) = event else {
        panic!("{event:?}");
    };
    assert!(
        reason.starts_with("cannot write") && reason.contains("Check"),
        "{reason}"
    );
    // Meanwhile changes are taken, and dropped.
    running.submit([(2, None)]);
    std::fs::remove_file(&store).unwrap();
    std::fs::rename(&away, &store).unwrap();
    running.wait(|event| *event == Event::Rewrite);
    assert!(matches!(
        running.store.status().state(),
        State::Degraded { .. }
    ));
    running.rewrite([(1, 1), (3, 3)]);
    assert_eq!(running.store.status().state(), State::Ok);
    running.write([(4, Some(4))]);
    running.store.close();
    assert_eq!(contents(folder.path()), [(1, 1), (3, 3), (4, 4)].into());
}

#[test]
fn nothing_is_reported_durable_between_a_failure_and_the_end_of_the_rewrite() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 0,
        ..SMALL
    };
    let mut running = Running::start(open(folder.path(), options, &FakeClock::new()).unwrap());
    let (store, away) = (folder.path().join("store"), folder.path().join("away"));
    running.write([(1, Some(1))]);
    std::fs::rename(&store, &away).unwrap();
    std::fs::write(&store, "in the way").unwrap();
    running.submit([(2, Some(2))]);
    running.wait(|event| matches!(event, Event::State(State::Degraded { .. })));
    std::fs::remove_file(&store).unwrap();
    std::fs::rename(&away, &store).unwrap();
    running.wait(|event| *event == Event::Rewrite);

    running.submit([(3, Some(3))]);
    assert!(running.store.begin_rewrite());
    running.submit([(1, Some(1)), (2, Some(2))]);
    running.submit([(3, Some(3))]);
    assert!(running.store.end_rewrite(running.sequence));

    let first = running.wait(|event| matches!(event, Event::Durable(_)));
    assert_eq!(first, Event::Durable(running.sequence));
}

#[test]
fn store_of_a_later_version_is_refused_and_left_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::open(folder.path());
    running.write([(1, Some(1))]);
    running.store.close();
    let file = files(folder.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let header = entry::Header::decode(&bytes).unwrap();
    let newer = entry::Header {
        format: entry::FORMAT + 1,
        ..header
    };
    bytes[..entry::HEADER_BYTES].copy_from_slice(&newer.encode());
    std::fs::write(&file, &bytes).unwrap();

    let error = open(folder.path(), SMALL, &FakeClock::new())
        .unwrap_err()
        .to_string();

    assert!(
        error.contains("later version") && error.contains("untouched"),
        "{error}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    assert_eq!(files(folder.path()), [file]);
}

#[test]
fn what_is_no_folder_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("store"), "old").unwrap();

    let mut running = Running::open(folder.path());
    running.write([(1, Some(1))]);
    running.store.close();

    let opened = open(folder.path(), SMALL, &FakeClock::new()).unwrap();
    assert_eq!(opened.report().bindings, 1);
    let aside = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|it| it.unwrap().path());
    let aside = aside.filter(|it| it.to_string_lossy().contains("store.damaged-"));
    let texts: Vec<String> = aside
        .map(|it| std::fs::read_to_string(it).unwrap())
        .collect();
    assert_eq!(texts, ["old"]);
}

#[test]
fn full_queue_gives_the_batch_back() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::open(folder.path());

    let refused = (1..=1_000_000_u64).find_map(|id| {
        let mut batch = running.store.batch();
        batch.put(&binding(id, 1));
        batch.set_sequence(id);
        running.store.submit(batch).err()
    });

    let back = refused.expect("a queue is bounded");
    assert_eq!((back.len(), back.sequence() > 0), (1, true));
    running.wait(|event| *event == Event::Durable(back.sequence() - 1));
    running.store.submit(back).unwrap();
}

#[test]
fn times_go_on_across_boots() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    let mut running = Running::start(open(folder.path(), SMALL, &clock).unwrap());
    running.write([(1, Some(1))]);
    running.store.close();

    // Valid until 3000 s of the first boot, written at 1000 s; 500 s later the next boot is 10 s old.
    clock.change(|clock| {
        clock.boot_id = [2; 16];
        clock.boot = Instant::from_nanos(10 * SECOND);
        clock.wall_nanos += 500 * i128::from(SECOND);
    });
    let mut opened = open(folder.path(), SMALL, &clock).unwrap();
    let mut ends = Vec::new();
    opened
        .load(|it| ends.push((it.binding.record.valid_until, it.is_expired)))
        .unwrap();
    assert_eq!(ends, [(Instant::from_nanos(1510 * SECOND), false)]);
    drop(opened);

    clock.change(|clock| clock.wall_nanos += 2000 * i128::from(SECOND));
    let mut opened = open(folder.path(), SMALL, &clock).unwrap();
    let report = opened.load(|it| assert!(it.is_expired)).unwrap();
    assert_eq!((report.bindings, report.expired), (1, 1));
}

#[test]
fn wrong_clock_drops_nothing_and_is_corrected_when_it_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    let mut running = Running::start(open(folder.path(), SMALL, &clock).unwrap());
    running.write([(1, Some(1))]);
    running.store.close();

    clock.change(|clock| {
        clock.boot_id = [2; 16];
        clock.boot = Instant::from_nanos(10 * SECOND);
        clock.wall_nanos = 0;
    });
    let mut opened = open(folder.path(), SMALL, &clock).unwrap();
    let mut ends = Vec::new();
    let report = opened
        .load(|it| {
            ends.push((
                it.binding.record.valid_until,
                it.is_expired,
                it.is_correctable,
            ))
        })
        .unwrap();
    assert!(report.clock_behind.is_some());
    assert!(
        report.to_string().contains("behind the newest stored time"),
        "{report}"
    );
    assert_eq!(ends, [(Instant::from_nanos(2010 * SECOND), false, true)]);

    let running = Running::start(opened);
    clock.change(|clock| {
        clock.boot = Instant::from_nanos(30 * SECOND);
        clock.wall_nanos = (1_800_000_000 + 620) * i128::from(SECOND);
    });
    let event = running.wait(|event| matches!(event, Event::Correction(_)));

    // 620 s passed, 20 of them in this boot.
    let Event::Correction(correction) = event else {
        panic!("{event:?}");
    };
    assert_eq!(correction.earlier_nanos, 600 * i128::from(SECOND));
    assert_eq!(
        correction.apply(ends[0].0),
        Instant::from_nanos(1410 * SECOND)
    );
    running.store.close();
    let mut again = open(folder.path(), SMALL, &clock).unwrap();
    again
        .load(|it| {
            assert_eq!(
                it.binding.record.valid_until,
                Instant::from_nanos(1410 * SECOND)
            )
        })
        .unwrap();
    assert!(again.report().clock_behind.is_none());
}

#[test]
fn epochs_that_no_record_refers_to_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    for boot in 1..=5 {
        clock.change(|clock| {
            clock.boot_id = [boot; 16];
            clock.wall_nanos += 100 * i128::from(SECOND);
        });
        let mut opened = open(folder.path(), SMALL, &clock).unwrap();
        let found = load(&mut opened);
        assert!(boot == 1 || !found.is_empty());
        let mut running = Running::start(opened);
        // Of the second boot one record stays; each boot replaces the other.
        running.write([(1, Some(u32::from(boot)))]);
        if boot == 2 {
            running.write([(2, Some(2))]);
        }
        running.store.close();
    }

    let mut opened = open(folder.path(), SMALL, &clock).unwrap();
    let found = load(&mut opened);
    let epochs = opened.facts().starting_with(b"epoch/").count();

    assert_eq!(found, [(1, 5), (2, 2)].into());
    // Boots 2, 5, and 4 whose record was replaced only after the start.
    assert_eq!(epochs, 3);
}

#[test]
fn hung_disk_is_not_waited_for_without_limit() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        patience: Duration::from_millis(50),
        ..SMALL
    };
    let clock = FakeClock::new();
    let mut running = Running::start(open(folder.path(), options, &clock).unwrap());
    running.write([(1, Some(1))]);
    // The writer reads the clock before each commit: there it hangs.
    let hung = clock.0.lock().unwrap();
    running.submit([(1, Some(2))]);

    assert!(!running.store.close());

    drop(hung);
}

#[test]
fn panic_of_the_thread_is_told_and_nothing_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (tell, events) = mpsc::channel();
    let opened = open(folder.path(), SMALL, &FakeClock::new()).unwrap();
    let store = opened.start(move |event| {
        assert!(!matches!(event, Event::Durable(_)), "a fault, on purpose");
        drop(tell.send(event));
    });
    let mut running = Running {
        store: store.unwrap(),
        events,
        sequence: 0,
    };

    running.submit([(1, Some(1))]);

    let told = running.wait(|event| matches!(event, Event::State(State::Off(_))));
    assert_eq!(told, Event::State(running.store.status().state()));
    assert!(running.store.close());
}
