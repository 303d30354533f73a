//! One run: offers frames at a rate, serves the stub between them, and counts. Decides the pace.

use crate::Load;
use crate::cpu::Watch;
use crate::frames::{self, HEADERS, message};
use crate::socket::{BATCH, Packet};
use crate::stub::Stub;
use anyhow::Result;
use std::time::{Duration, Instant};

/// After the last frame: what has not come for so long is lost.
const SILENCE: Duration = Duration::from_millis(150);
/// And in any case, for an endless stream must not hold the bench.
const LONGEST_DRAIN: Duration = Duration::from_secs(3);
/// Transaction ids are 24 bits; send times are kept by their lower bits.
const TIMES: usize = 1 << 16;
/// So many are kept of each kind.
const TIMES_MAX: usize = 1 << 20;

/// Messages are due up to so much later.
const NAP: Duration = Duration::from_micros(500);

#[derive(Default)]
struct Counts {
    renews_sent: u64,
    solicits_sent: u64,
    unasked_sent: u64,
    forwarded: u64,
    replies: u64,
    advertises: u64,
    solicitations: u64,
    /// Answers that the stub could not hand to the kernel.
    stub_lost: u64,
}

struct Run {
    access: Packet,
    core: Packet,
    stub: Stub,
    renews: Vec<Vec<u8>>,
    solicits: Vec<Vec<u8>>,
    unasked: Vec<Vec<u8>>,
    /// By transaction: when its frame left, until it has reached the server, and until the answer is back.
    sent_at: Vec<Option<Instant>>,
    asked_at: Vec<Option<Instant>>,
    latencies: Vec<u64>,
    round_trips: Vec<u64>,
    answers: Vec<Vec<u8>>,
    counts: Counts,
    next: u32,
}

/// Offers `load` and returns the counts as text.
pub fn run(load: &Load, access: Packet, core: Packet, cpu: &Watch) -> Result<String> {
    let all = |kind| {
        (0..load.clients)
            .map(|client| frames::client_frame(kind, client))
            .collect()
    };
    let mut run = Run {
        access,
        core,
        stub: Stub::new(load.clients),
        renews: all(message::RENEW),
        solicits: all(message::SOLICIT),
        unasked: (0..load.clients.max(BATCH as u32))
            .map(|client| frames::unasked_frame(load.relay_mac, client % load.clients))
            .collect(),
        sent_at: vec![None; TIMES],
        asked_at: vec![None; TIMES],
        latencies: Vec::with_capacity(TIMES_MAX),
        round_trips: Vec::with_capacity(TIMES_MAX),
        answers: vec![Vec::new(); BATCH],
        counts: Counts::default(),
        next: u32::from(Instant::now().elapsed().subsec_nanos() as u16),
    };
    let before = cpu.read()?;
    let start = Instant::now();
    let length = Duration::from_millis(load.milliseconds);
    loop {
        let now = start.elapsed();
        if now >= length {
            break;
        }
        let due = |rate: u64| (u128::from(rate) * now.as_nanos() / 1_000_000_000) as u64;
        run.offer(
            message::RENEW,
            due(load.renews) - run.counts.renews_sent.min(due(load.renews)),
        );
        run.offer(
            message::SOLICIT,
            due(load.solicits) - run.counts.solicits_sent.min(due(load.solicits)),
        );
        run.offer_unasked(due(load.unasked) - run.counts.unasked_sent.min(due(load.unasked)));
        if run.serve() == 0 && load.naps {
            Packet::wait([&run.access, &run.core], NAP);
        }
    }
    let window = start.elapsed();
    let answered_in_window = run.counts.replies + run.counts.advertises;
    let forwarded_in_window = run.counts.forwarded;
    let mut last = Instant::now();
    let drain = Instant::now();
    while last.elapsed() < SILENCE && drain.elapsed() < LONGEST_DRAIN {
        if run.serve() > 0 {
            last = Instant::now();
        }
    }
    let after = cpu.read()?;
    let total = start.elapsed().as_micros() as u64;
    run.latencies.sort_unstable();
    run.round_trips.sort_unstable();
    let part = |times: &[u64], percent: usize| {
        let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(at).copied().unwrap_or(0)
    };
    let Counts {
        renews_sent,
        solicits_sent,
        unasked_sent,
        forwarded,
        replies,
        advertises,
        solicitations,
        stub_lost,
    } = run.counts;
    let foreign = (after.user - before.user).saturating_sub(after.relay_user - before.relay_user);
    Ok(format!(
        "sent={} renews_sent={renews_sent} forwarded={forwarded} answered={} replies={replies} \
         advertises={advertises} solicitations={solicitations} stub_lost={stub_lost} \
         unasked_sent={unasked_sent} \
         window_us={} window_answered={answered_in_window} window_forwarded={forwarded_in_window} \
         total_us={} busy_us={} relay_us={} interrupts_us={} foreign_user_us={foreign} latency_ns={} \
         round_trip_ns={} round_trip_99_ns={} round_trip_most_ns={}",
        renews_sent + solicits_sent,
        replies + advertises,
        window.as_micros(),
        total,
        total.saturating_sub(after.idle - before.idle),
        after.relay - before.relay,
        after.interrupts - before.interrupts,
        part(&run.latencies, 50),
        part(&run.round_trips, 50),
        part(&run.round_trips, 99),
        part(&run.round_trips, 100),
    ))
}

impl Run {
    /// Sends up to one batch of the `due` messages.
    fn offer(&mut self, kind: u8, due: u64) {
        let count = due.min(BATCH as u64) as usize;
        if count == 0 {
            return;
        }
        let set = if kind == message::RENEW {
            &mut self.renews
        } else {
            &mut self.solicits
        };
        let clients = set.len();
        let first = self.next as usize % clients;
        let count = count.min(clients - first);
        let now = Instant::now();
        for (frame, transaction) in set[first..first + count].iter_mut().zip(self.next..) {
            frames::set_transaction(frame, transaction & 0x00ff_ffff);
            self.sent_at[transaction as usize % TIMES] = Some(now);
            self.asked_at[transaction as usize % TIMES] = Some(now);
        }
        let frames: [&[u8]; BATCH] = std::array::from_fn(|i| {
            if i < count {
                set[first + i].as_slice()
            } else {
                &[]
            }
        });
        let sent = self.access.send(&frames[..count]);
        self.next = self.next.wrapping_add(sent as u32);
        let counter = if kind == message::RENEW {
            &mut self.counts.renews_sent
        } else {
            &mut self.counts.solicits_sent
        };
        *counter += sent as u64;
    }

    /// Sends a batch of answers that nobody asked for, once so many are due.
    fn offer_unasked(&mut self, due: u64) {
        if due < BATCH as u64 {
            return;
        }
        let frames: [&[u8]; BATCH] = std::array::from_fn(|i| self.unasked[i].as_slice());
        self.counts.unasked_sent += self.core.send(&frames) as u64;
    }

    /// Answers what reached the server and counts what reached the clients; returns how many frames.
    fn serve(&mut self) -> usize {
        let Self {
            core,
            stub,
            answers,
            counts,
            sent_at,
            asked_at,
            latencies,
            round_trips,
            access,
            ..
        } = self;
        let mut filled = 0;
        let arrived = core.receive(|frame| {
            let Some(transaction) = stub.answer(frame, &mut answers[filled]) else {
                return;
            };
            filled += 1;
            counts.forwarded += 1;
            note(sent_at, transaction, latencies);
        });
        if filled > 0 {
            let frames: [&[u8]; BATCH] = std::array::from_fn(|i| {
                if i < filled {
                    answers[i].as_slice()
                } else {
                    &[]
                }
            });
            counts.stub_lost += (filled - core.send(&frames[..filled])) as u64;
        }
        let back = access.receive(|frame| match (frame[20], frame.get(HEADERS)) {
            (58, _) => counts.solicitations += 1,
            (_, Some(&kind @ (message::REPLY | message::ADVERTISE))) => {
                match kind {
                    message::REPLY => counts.replies += 1,
                    _ => counts.advertises += 1,
                }
                if let Some(&[a, b, c]) = frame.get(HEADERS + 1..HEADERS + 4) {
                    note(asked_at, u32::from_be_bytes([0, a, b, c]), round_trips);
                }
            }
            _ => {}
        });
        arrived + back
    }
}

/// Keeps how long a transaction has taken so far, once.
fn note(since: &mut [Option<Instant>], transaction: u32, times: &mut Vec<u64>) {
    if let Some(time) = since[transaction as usize % TIMES].take()
        && times.len() < TIMES_MAX
    {
        times.push(time.elapsed().as_nanos() as u64);
    }
}
