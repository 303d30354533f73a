//! What `cargo xtask` does, as a library: the netns tests use its lab.

pub mod bench;
pub mod bpf_sources;
pub mod build_ebpf;
pub mod ci;
pub mod fuzz;
pub mod lab;
pub mod requirements;
pub mod run;
pub mod setup;
pub mod test;
pub mod tidy;
pub mod toml;
pub mod toolchain;
pub mod trace;
