//! Times across boots, with clocks that are right and wrong.

use super::*;
use proptest::prelude::*;

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 24 * 3600 * SECOND;
const THEN: i128 = 1_800_000_000 * SECOND;

fn clock(boot: u8, boot_secs: u64, wall_nanos: i128, synchronised: bool) -> Clock {
    Clock {
        boot: Instant::from_nanos(boot_secs * SECOND as u64),
        wall_nanos,
        boot_id: [boot; 16],
        synchronised,
    }
}

fn at(secs: u64) -> Instant {
    Instant::from_nanos(secs * SECOND as u64)
}

/// The facts after a boot in which the clock was this at the end.
fn after(facts: &Facts, first: &Clock, last: &Clock) -> (Facts, u32) {
    let mut times = Times::judge(facts, first);
    times.advance(last);
    let mut facts = facts.clone();
    for (key, value) in times.facts() {
        facts.set(&key, &value);
    }
    (facts, times.present())
}

fn first_boot() -> (Facts, u32) {
    let clock = clock(1, 1000, THEN, true);
    after(&Facts::default(), &clock, &clock)
}

#[test]
fn restart_in_the_same_boot_is_exact_whatever_the_wall_clock_says() {
    let (facts, epoch) = first_boot();
    for wall in [0, THEN - DAY, THEN + 400 * DAY] {
        let now = clock(1, 1100, wall, false);

        let times = Times::judge(&facts, &now);

        assert_eq!(times.present(), epoch);
        assert_eq!(times.clock_behind(), None);
        assert_eq!(
            times.translation(epoch, at(1), &now).apply(at(1500)),
            at(1500)
        );
    }
}

#[test]
fn next_boot_goes_by_the_wall_clock() {
    let (facts, epoch) = first_boot();
    let now = clock(2, 50, THEN + 300 * SECOND, false);

    let times = Times::judge(&facts, &now);

    assert_ne!(times.present(), epoch);
    let translation = times.translation(epoch, at(1), &now);
    // 500 s were left, 300 s passed.
    assert_eq!(translation.apply(at(1500)), at(250));
    assert_eq!(translation.apply(at(900)), at(0));
    assert_eq!(translation.apply(Instant::NEVER), Instant::NEVER);
    assert!(!translation.is_correctable);
}

#[test]
fn clock_that_is_behind_or_leapt_keeps_what_was_left() {
    let (facts, epoch) = first_boot();
    let wrong = [
        (0, true),
        (THEN - 3 * SECOND, true),
        (THEN + 2 * DAY, false),
    ];
    for (wall, synchronised) in wrong {
        let now = clock(2, 50, wall, synchronised);

        let times = Times::judge(&facts, &now);

        let behind = times.clock_behind().expect("it is not credible");
        assert_eq!((behind.wall_nanos, behind.newest_nanos), (wall, THEN));
        let translation = times.translation(epoch, at(1), &now);
        assert_eq!(translation.apply(at(1500)), at(550));
        assert!(translation.is_correctable);
    }
    for (wall, synchronised) in [
        (THEN - SECOND, false),
        (THEN + 2 * DAY, true),
        (THEN + DAY, false),
    ] {
        let now = clock(2, 50, wall, synchronised);
        assert_eq!(Times::judge(&facts, &now).clock_behind(), None);
    }
}

#[test]
fn second_start_in_a_boot_comes_to_the_same_times() {
    let (facts, epoch) = first_boot();
    let first = clock(2, 50, 0, false);
    let (facts, _) = after(&facts, &first, &clock(2, 80, 30 * SECOND, false));
    let now = clock(2, 100, 60 * SECOND, false);

    let times = Times::judge(&facts, &now);

    assert_eq!(
        times.translation(epoch, at(1), &now).apply(at(1500)),
        at(550)
    );
    assert!(times.clock_behind().is_some());
}

#[test]
fn clock_that_became_right_between_two_starts_in_a_boot_corrects() {
    let (facts, epoch) = first_boot();
    let first = clock(2, 50, 0, false);
    let (facts, _) = after(&facts, &first, &first);
    let now = clock(2, 100, THEN + 350 * SECOND, true);

    let times = Times::judge(&facts, &now);

    assert_eq!(times.clock_behind(), None);
    assert_eq!(
        times.translation(epoch, at(1), &now).apply(at(1500)),
        at(250)
    );
}

#[test]
fn correction_comes_once_and_says_how_long_the_relay_was_off() {
    let (facts, epoch) = first_boot();
    let first = clock(2, 50, 0, false);
    let mut times = Times::judge(&facts, &first);
    let restored = times.translation(epoch, at(1), &first).apply(at(1500));

    assert_eq!(times.advance(&clock(2, 60, 10 * SECOND, false)), None);
    let right = clock(2, 70, THEN + 320 * SECOND, true);
    let correction = times.advance(&right).expect("it is credible now");

    assert_eq!(correction.apply(restored), at(250));
    assert_eq!(
        times.translation(epoch, at(1), &right).apply(at(1500)),
        at(250)
    );
    assert_eq!(times.advance(&right), None);
}

#[test]
fn lease_of_a_boot_whose_clock_was_never_right_is_kept_as_if_that_boot_ended_now() {
    let (facts, _) = first_boot();
    let wrong = clock(2, 50, 0, false);
    let (facts, epoch) = after(&facts, &wrong, &clock(2, 200, 150 * SECOND, false));
    // Five days later, with a right clock.
    let now = clock(3, 20, THEN + 5 * DAY, true);

    let times = Times::judge(&facts, &now);

    assert_eq!(
        times.translation(epoch, at(1), &now).apply(at(3800)),
        at(3620)
    );
    assert_eq!(times.clock_behind(), None);
}

#[test]
fn record_of_a_lost_epoch_is_kept_as_if_its_client_was_just_heard() {
    let now = clock(2, 5000, THEN, true);
    let times = Times::judge(&Facts::default(), &now);

    let translation = times.translation(7, at(1000), &now);

    assert_eq!(translation.apply(at(1600)), at(5600));
}

#[test]
fn step_of_a_synchronised_clock_is_believed_and_of_another_only_when_small() {
    for (synchronised, step, believed) in [
        (true, -3600 * SECOND, true),
        (false, -3600 * SECOND, false),
        (false, 3600 * SECOND, true),
        (false, 2 * DAY, false),
    ] {
        let first = clock(1, 1000, THEN, true);
        let last = clock(1, 1010, THEN + 10 * SECOND + step, synchronised);
        let (facts, epoch) = after(&Facts::default(), &first, &last);
        let offset = if believed { step } else { 0 };
        let now = clock(2, 0, THEN + 10 * SECOND + offset, true);

        let times = Times::judge(&facts, &now);

        assert_eq!(times.clock_behind(), None);
        assert_eq!(
            times.translation(epoch, at(1), &now).apply(at(1010)),
            at(0),
            "{step}"
        );
    }
}

#[test]
fn clocks_of_this_machine_can_be_read() {
    let clock = Clock::read();

    assert!(clock.boot.as_nanos() > 0 && clock.wall_nanos > 0);
    assert_ne!(clock.boot_id, [0; 16]);
}

proptest! {
    #[test]
    fn any_facts_and_clocks_are_judged_without_overflow(
        values in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..60)), 0..5),
        boot: u64, wall in any::<i64>(), id: u8, synchronised: bool, time: u64, epoch: u32,
    ) {
        let mut facts = Facts::default();
        for (number, value) in &values {
            facts.set(&key(*number), value);
        }
        let now = Clock {
            boot: Instant::from_nanos(boot),
            wall_nanos: i128::from(wall),
            boot_id: [id; 16],
            synchronised,
        };
        let mut times = Times::judge(&facts, &now);
        for epoch in values.iter().map(|it| it.0).chain([epoch]) {
            let time = Instant::from_nanos(time);
            let _ = times.translation(epoch, time, &now).apply(time);
        }
        let _ = times.advance(&now);
        let _ = times.present_fact();
    }
}
