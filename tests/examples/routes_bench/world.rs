//! Fresh network namespaces, the routes of a bench, and what the kernel says it holds. Measures nothing.

use std::net::Ipv6Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use relay_core::types::{IfIndex, Prefix};

/// Routes of one client: an address and a prefix.
pub const PER_CLIENT: u64 = 2;
/// Protocol number and metric of everything that is measured.
pub const PROTOCOL: u8 = 207;
pub const METRIC: u32 = 2070;
/// Nothing here takes longer, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A route to be installed.
#[derive(Clone, Copy)]
pub struct Wanted {
    pub prefix: Prefix,
    pub gateway: Ipv6Addr,
}

/// So many routes, two for each client, clients in no order: as leases come.
pub fn wanted(routes: u64) -> Vec<Wanted> {
    let clients = routes.div_ceil(PER_CLIENT).max(1);
    // Next to the golden section; a prime, so that each client comes once.
    let step = 618_033_989;
    (0..routes)
        .map(|at| {
            let client = u128::from(at / PER_CLIENT * step % clients);
            let lease = match at % PER_CLIENT {
                0 => Prefix::host(Ipv6Addr::from_bits(
                    0x2001_0db8_000a_0001_8000 << 48 | client,
                )),
                _ => {
                    let address = Ipv6Addr::from_bits((0x2001_0db8_d000 << 80) + (client << 72));
                    Prefix::new(address, 56).expect("a length that exists")
                }
            };
            Wanted {
                prefix: lease,
                gateway: Ipv6Addr::from_bits((0xfe80 << 112) | (0x00c1_1e47 << 32) | client),
            }
        })
        .collect()
}

/// Runs `work` in a network namespace of its own with the interface `acc0`, and sees to it that the kernel has
/// thrown all its routes away before anything else is measured.
pub fn in_namespace<T: Send>(
    work: impl FnOnce(IfIndex) -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
                .context("make a network namespace (root is needed)")?;
            ip("link set lo up")?;
            let result = work(make_interface()?);
            ip("link del acc0")?;
            result
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes `acc0`.
pub fn make_interface() -> anyhow::Result<IfIndex> {
    ip("link add acc0 address 02:00:00:00:00:01 type veth peer name cli0")?;
    ip("link set cli0 up")?;
    ip("link set acc0 up")?;
    index()
}

/// The number of `acc0`.
fn index() -> anyhow::Result<IfIndex> {
    let text = std::fs::read_to_string("/proc/thread-self/net/igmp6")?;
    let line = text
        .lines()
        .find(|line| line.contains("acc0"))
        .context("no acc0")?;
    let number = line.split_whitespace().next().context("no number")?;
    Ok(IfIndex(number.parse()?))
}

/// `ip ARGUMENTS` in the namespace of this thread.
pub fn ip(arguments: &str) -> anyhow::Result<()> {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .stdout(Stdio::null())
        .status()
        .context("run ip")?;
    if !status.success() {
        bail!("ip {arguments}: {status}");
    }
    Ok(())
}

/// Waits until the kernel holds so many entries, and tells how long that took.
pub fn wait_for_entries(count: u64, since: Instant) -> anyhow::Result<Duration> {
    while entries()? < count {
        if since.elapsed() > PATIENCE {
            bail!("{} of {count} entries", entries()?);
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(since.elapsed())
}

/// Entries of the kernel's IPv6 tables in the namespace of this thread, those of its own included.
pub fn entries() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/rt6_stats")?;
    let field = text.split_whitespace().nth(3).context("rt6_stats")?;
    Ok(u64::from_str_radix(field, 16)?)
}
