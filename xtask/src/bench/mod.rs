//! `cargo xtask bench NAME`: what is measured, and the help for it. Knows no networking.

mod alq;
mod forward;
pub mod goals;
mod load;
mod network;
mod own;
mod peers;
mod relay;
mod report;
mod restart;
mod routes;
mod store;

use std::process::ExitCode;

pub use report::median;

const USAGE: &str = "\
usage: cargo xtask bench relay [--rounds N] [--clients N] [--rate N]... [--relay NAME]... [--mix PERCENT]
                               [--milliseconds N]
       cargo xtask bench own

  relay: runs twinrelay, a bare reflector, a program that only receives, ISC dhcrelay and dnsmasq one after the
  other, round after round, on a CPU of their own between simulated clients and a stub server; prints medians, and
  what is demanded of them. CPU is compared at equal rates: 5000 exchanges a second, and what each peer relays
  without loss.

  --rounds N         interleaved rounds; the medians are taken over them (5)
  --clients N        simulated clients (500)
  --rate N           only CPU and latency, at so many exchanges a second; may be repeated
  --mix PERCENT      how many of the client messages are SOLICITs, the rest is RENEWs (0)
  --milliseconds N   length of one measurement (1500)
  --relay NAME       only this one; may be repeated: twinrelay, reflector, floor, dhcrelay, dnsmasq

  own: twinrelay alone. RENEWs in a flood of SOLICITs under the default limits, 20,000 clients never seen before,
  system calls a message, memory of 100,000 bindings, and the time to show them while it relays.

  twinrelay is taken from TWINRELAY_BINARY, or built with --release.

usage: cargo xtask bench alq [--rounds N] [--bindings N]... [--part NAME]...

  A relay that starts empty beside a twin that serves it over TLS: until all bindings are in its table, on disk and as
  routes, beside a bare sender of netlink messages; what serving does to the twin's relaying; how soon a new lease is
  a route at the other relay; what a peer that does not read costs.

  --rounds N         medians are taken over them (3)
  --bindings N       may be repeated (100000, 1000000)
  --part NAME        only this one; may be repeated: catch-up, live, silent

usage: cargo xtask bench forward [--rounds N] [--milliseconds N] [--bindings N]...

  Packets a second that one CPU forwards to subscribers chosen at random: by the kernel's routes, by an XDP program that
  asks them for each packet, by twinrelay's, and by one that sends every packet out without asking anything. A second
  is one that the receiving thread of the router had its CPU (schedstat), so an idle CPU does not count.

  --rounds N         interleaved rounds; medians are taken over them (3)
  --milliseconds N   length of one measurement (1500)
  --bindings N       may be repeated (10000, 1000000)

usage: cargo xtask bench restart [--clients N]

  A restart of the daemon with two bindings for each client: routes still in the kernel, beside a bare scan of the
  store and a bare dump of the kernel's routes; routes gone, beside a bare sender of netlink messages. What it does
  to Replies meanwhile, memory, the time of a whole show, and the end of all bindings at one time.

  --clients N        (500000)

usage: cargo xtask bench routes [--rounds N] [--routes N] [--way NAME]...

  Routes a second: the follower, fed as the relay thread feeds it, beside a bare sender of netlink messages (with the
  gateway in each route; in the order of destinations; with next-hop objects) and beside ip -6 -batch, in turn, each
  in a network namespace of its own. Then how soon everything is back after others flap, flush, delete and replace
  what is there.

  --rounds N         interleaved rounds; medians are taken over them (3)
  --routes N         for the large ones (1000000)
  --way NAME         only this one; may be repeated: raw, ours, sorted, next-hops, ip

usage: cargo xtask bench store [--rounds N] [--milliseconds N] [--bindings N] [--folder DIR]

  Durable changes of bindings a second, beside a bare log of the same bytes, round after round; then the
  time to read many bindings at a start, and the memory that the store takes.

  --rounds N         interleaved rounds (5)
  --milliseconds N   length of one measurement (500)
  --bindings N       for the scan (1000000)
  --folder DIR       on the disk to be measured (target/store-bench); is deleted at the end";

/// Runs the bench that the arguments name.
pub fn main(args: &[String]) -> ExitCode {
    let mut args = args.iter().cloned();
    let result = match args.next().as_deref() {
        Some("relay") => relay::Options::parse(args).and_then(|options| relay::run(&options)),
        Some("forward") => {
            forward::Options::parse(args).and_then(|options| forward::main(&options))
        }
        Some("routes") => routes::Options::parse(args).and_then(|options| routes::main(&options)),
        Some("alq") => alq::main(args),
        Some("restart") => restart::main(args),
        Some("store") => store::main(args),
        Some("own") => match args.next() {
            None => own::run(),
            Some(other) => Err(format!("{other}: bench own takes no arguments")),
        },
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            Ok(())
        }
        Some(other) => Err(format!(
            "there is no bench {other:?}; there are: alq, forward, own, relay, restart, routes, store"
        )),
        None => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
