//! Measures one way of forwarding packets to subscribers, as `NAME=VALUE` lines. `cargo xtask bench forward` builds it,
//! runs its ways in turn and compares them.
//!
//! In one network namespace: generator ═ core, router, access ═ sink, two veth pairs. Frames leave the
//! generator by live test runs on CPU 0; the NAPI threads of the router's and the sink's interface run on
//! CPU 1. What counts is the time that the router's thread had that CPU, beside the packets that it received:
//! whether the CPU was idle in between does not matter.

mod network;
mod tables;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use aya::maps::xdp::DevMapHash;
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};

use network::{Network, Threads};

/// Octets of a frame.
const FRAME: usize = 128;
/// Frames that one system call sends.
const REPEAT: u32 = 1 << 16;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [way, bindings, milliseconds] = &words[..] else {
        bail!("expected a way, a number of bindings and a number of milliseconds");
    };
    let bindings: u64 = bindings.parse()?;
    let milliseconds = Duration::from_millis(milliseconds.parse()?);
    let network = Network::build()?;
    let mut bench = load("forward_bench", |loader| loader)?;
    let mut plan: Array<_, [u64; 2]> = bench.take_map("plan").context("plan")?.try_into()?;
    plan.set(0, [(bindings / 2).max(1), network.access.into()], 0)?;
    let mut egress: DevMapHash<_> = bench
        .take_map("bench_egress")
        .context("egress")?
        .try_into()?;
    egress.insert(network.access, network.access, None, 0)?;
    let swallowed: PerCpuArray<_, u64> = bench.take_map("swallowed").context("sink")?.try_into()?;
    attach(&mut bench, "swallow", "sink")?;
    // Held until the end: what it loaded is detached with it.
    let _ours;
    match way.as_str() {
        "kernel" => network.install(bindings)?,
        "fib" => {
            network.install(bindings)?;
            attach(&mut bench, "by_fib", "core")?;
        }
        "bare" => attach(&mut bench, "bare", "core")?,
        "ours" => {
            let mut ours = tables::load(bindings)?;
            // Before its maps are taken out of it.
            let program: &mut Xdp = ours
                .program_mut("core_ingress")
                .context("core_ingress")?
                .try_into()?;
            program.load()?;
            let fill = tables::fill(&mut ours, &network, bindings)?;
            println!("fill={:.6}", fill.as_secs_f64());
            attach(&mut ours, "core_ingress", "core")?;
            _ours = ours;
        }
        other => bail!("{other}: no such way"),
    }
    let threads = network.steer()?;
    measure(&mut bench, &network, &threads, &swallowed, milliseconds)
}

/// An object that `cargo xtask build-ebpf` made.
fn load(
    name: &str,
    sized: impl for<'a> FnOnce(&'a mut EbpfLoader<'static>) -> &'a mut EbpfLoader<'static>,
) -> anyhow::Result<Ebpf> {
    let path = format!("{}/../target/bpf/{name}.o", env!("CARGO_MANIFEST_DIR"));
    let object = std::fs::read(&path).with_context(|| format!("{path}: cargo xtask build-ebpf"))?;
    Ok(sized(&mut EbpfLoader::new()).load(&object)?)
}

fn attach(ebpf: &mut Ebpf, program: &str, interface: &str) -> anyhow::Result<()> {
    let program: &mut Xdp = ebpf.program_mut(program).context("program")?.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    program.attach(interface, XdpMode::Driver)?;
    Ok(())
}

/// What happens while the generator sends what it can.
fn measure(
    bench: &mut Ebpf,
    network: &Network,
    threads: &Threads,
    swallowed: &PerCpuArray<MapData, u64>,
    length: Duration,
) -> anyhow::Result<()> {
    let generate: &mut Xdp = bench
        .program_mut("generate")
        .context("generate")?
        .try_into()?;
    generate.load()?;
    let generate: &Xdp = generate;
    let frame = network::frame();
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context: Vec<u8> = [0, FRAME as u32, 0, network.generator, 0, 0]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect();
    let stop = AtomicBool::new(false);
    let count = || -> anyhow::Result<u64> { Ok(swallowed.get(&0, 0)?.iter().sum()) };
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| -> anyhow::Result<()> {
            network::enter(&network::LOAD)?;
            while !stop.load(Ordering::Relaxed) {
                generate.test_run(TestRunOptions {
                    data_in: Some(&frame),
                    ctx_in: Some(&context),
                    repeat: REPEAT,
                    attrs: TestRunAttrs::new().xdp_live_frames(64),
                    ..TestRunOptions::default()
                })?;
            }
            Ok(())
        });
        std::thread::sleep(Duration::from_millis(300));
        let (before, account, begin) = (count()?, threads.account()?, Instant::now());
        std::thread::sleep(length);
        let (after, now, elapsed) = (count()?, threads.account()?, begin.elapsed());
        stop.store(true, Ordering::Relaxed);
        sender.join().expect("the sender does not panic")?;
        ensure!(after > before, "nothing arrives at the sink");
        println!("packets={}", after - before);
        println!("received={}", now.received - account.received);
        println!("elapsed={:.6}", elapsed.as_secs_f64());
        println!("core={:.6}", now.core - account.core);
        println!("sink={:.6}", now.sink - account.sink);
        println!("idle={:.2}", now.idle - account.idle);
        Ok(())
    })
}
