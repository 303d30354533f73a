//! The store against what happens to disks: power cuts, full and read-only file systems, wrong
//! owners. What needs root or strace is skipped and counted where it is missing.

mod disk;
mod harness;
mod power_cut;
mod replay;
mod trace;
