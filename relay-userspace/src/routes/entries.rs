//! Carries the steps of `neighbors.rs` to the kernel, many at a time. Decides only whose an entry is that
//! stands in the way.

use std::io;

use super::message::Batch;
use super::neighbors::Step;
use super::netlink::Requests;
use super::objects::{self, KernelNeighbor};

/// Whether an entry of ours is there afterwards, and how many of them the kernel or somebody's
/// permanent entry refused.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) is_there: Vec<bool>,
    pub(super) refused: u64,
}

/// Carries out one batch. `protocol` marks ours.
///
/// # Errors
/// Answers were lost: a comparison is due.
pub(super) fn carry_out(requests: &mut Requests, protocol: u8, steps: &[Step]) -> io::Result<Done> {
    let mut done = Done {
        is_there: steps.iter().map(|step| step.mac.is_some()).collect(),
        refused: 0,
    };
    let puts = positions(steps, |step| step.mac.is_some());
    let failed = put(requests, protocol, steps, &puts, false)?;
    let mut in_the_way = Vec::new();
    for (at, errno) in failed {
        if errno == libc::EEXIST {
            in_the_way.push(at);
        } else {
            tracing::debug!(address = %steps[at].key.1, errno, "neighbour entry refused");
            done.refuse(at);
        }
    }
    let found = get(requests, steps, &in_the_way)?;
    let mut replace = Vec::new();
    for (at, found) in in_the_way.into_iter().zip(found) {
        match found {
            Some(it) if it.permanent => done.refuse(at),
            Some(it) if is_ours(&it, protocol) && it.mac == steps[at].mac => {}
            // Learned by the kernel itself, or gone meanwhile.
            _ => replace.push(at),
        }
    }
    for (at, _) in put(requests, protocol, steps, &replace, true)? {
        done.refuse(at);
    }
    done.refused += delete(requests, protocol, steps)?;
    Ok(done)
}

impl Done {
    fn refuse(&mut self, at: usize) {
        self.is_there[at] = false;
        self.refused += 1;
    }
}

fn positions(steps: &[Step], is_meant: impl Fn(&Step) -> bool) -> Vec<usize> {
    (0..steps.len())
        .filter(|at| is_meant(&steps[*at]))
        .collect()
}

/// Position and errno of those that failed.
fn put(
    requests: &mut Requests,
    protocol: u8,
    steps: &[Step],
    meant: &[usize],
    replace: bool,
) -> io::Result<Vec<(usize, i32)>> {
    let mut bytes = Batch::default();
    let errors = requests.write_batch(&mut bytes, meant.len(), |bytes, index, sequence| {
        let step = &steps[meant[index]];
        let mac = step.mac.unwrap_or_default();
        objects::put_neighbor(bytes, sequence, step.key, mac, protocol, replace);
    })?;
    Ok(errors
        .into_iter()
        .map(|(index, errno)| (meant[index], errno))
        .collect())
}

/// Deletes those that are ours and wanted no more: the kernel would delete anybody's.
fn delete(requests: &mut Requests, protocol: u8, steps: &[Step]) -> io::Result<u64> {
    let meant = positions(steps, |step| step.mac.is_none());
    let found = get(requests, steps, &meant)?;
    let ours: Vec<usize> = meant
        .into_iter()
        .zip(found)
        .filter(|(_, found)| found.is_some_and(|it| is_ours(&it, protocol)))
        .map(|(at, _)| at)
        .collect();
    let mut bytes = Batch::default();
    let errors = requests.write_batch(&mut bytes, ours.len(), |bytes, index, sequence| {
        objects::delete_neighbor(bytes, sequence, steps[ours[index]].key);
    })?;
    let gone = |errno: i32| matches!(errno, libc::ENOENT | libc::ENODEV);
    let refused = errors.iter().filter(|(_, errno)| !gone(*errno)).count();
    Ok(u64::try_from(refused).expect("fits"))
}

fn get(
    requests: &mut Requests,
    steps: &[Step],
    meant: &[usize],
) -> io::Result<Vec<Option<KernelNeighbor>>> {
    requests.get_batch(
        meant.len(),
        |bytes, index, flags, sequence| {
            objects::get_neighbor(bytes, flags, sequence, steps[meant[index]].key);
        },
        |message| objects::read_neighbor(&message),
    )
}

/// Whether it bears our mark.
pub(super) fn is_ours(entry: &KernelNeighbor, protocol: u8) -> bool {
    entry.externally_learned && !entry.permanent && entry.protocol == protocol
}
