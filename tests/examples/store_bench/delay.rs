//! How long a Reply waits for its changes, those of an address and a prefix, where a thousand come a second: from
//! the moment on when they are told to the store until their owner hears that they are durable. Beside it, at the
//! same pace, a bare append and fdatasync of the same bytes.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use relay_userspace::store::Options;
use xtask::bench::goals::Goal;

use crate::binding::{OVERHEAD, with_binding};
use crate::{Args, median, start};

/// Between two Replies.
const PACE: Duration = Duration::from_millis(1);

/// Measures both, round after round, and prints.
pub fn measure(args: &Args) -> anyhow::Result<Goal> {
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        bare.push(log(args)?);
        ours.push(store(args)?);
    }
    let ratio = median(
        bare.iter()
            .zip(&ours)
            .map(|(bare, ours)| ours / bare)
            .collect(),
    );
    println!(
        "\n1000 Replies a second, medians: their changes are durable after {:.0} us; a bare append and fdatasync takes \
         {:.0} us",
        median(ours),
        median(bare)
    );
    Ok(Goal::at_most(
        "delay of a Reply at 1000 a second / bare append and fdatasync",
        ratio,
        3.0,
        "x",
    ))
}

fn log(args: &Args) -> anyhow::Result<f64> {
    let path = args.folder.join("raw");
    let _ = std::fs::remove_file(&path);
    let mut file = File::create(&path)?;
    let mut bytes = vec![0; OVERHEAD];
    with_binding(1, |binding| binding.encode(0, &mut bytes));
    let bytes = bytes.repeat(2);
    paced(args, |_| {
        file.write_all(&bytes)?;
        file.sync_data()?;
        Ok(())
    })
}

fn store(args: &Args) -> anyhow::Result<f64> {
    let folder = args.folder.join("delay");
    let _ = std::fs::remove_dir_all(&folder);
    let (store, durable) = start(&folder, Options::default())?;
    let median = paced(args, |number| {
        let mut change = store.batch();
        for id in [2 * number, 2 * number + 1] {
            with_binding(id, |binding| change.put(binding));
        }
        change.set_sequence(number);
        store.submit(change).map_err(|_| anyhow!("refused"))?;
        while durable.recv()? < number {}
        Ok(())
    })?;
    store.close();
    Ok(median)
}

/// The median time of what is done once in each [`PACE`], in microseconds.
fn paced(args: &Args, mut one: impl FnMut(u64) -> anyhow::Result<()>) -> anyhow::Result<f64> {
    // The first makes the file.
    one(1)?;
    let mut times = Vec::new();
    let begin = Instant::now();
    for number in 2.. {
        let due = begin + PACE * (number as u32 - 2);
        if due > begin + args.time {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let started = Instant::now();
        one(number)?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(times))
}
