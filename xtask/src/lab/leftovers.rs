//! Whether a lab that ended is really gone. Decides nothing about how it ends.

use super::node::start_time;
use super::{Lab, prefix};
use std::path::PathBuf;

/// What a lab consists of, remembered beyond its end.
pub struct Belongings {
    prefix: String,
    dir: PathBuf,
    /// Number, start and label of each process.
    processes: Vec<(u32, Option<u64>, String)>,
}

impl Lab {
    /// Everything of this lab that is there now.
    pub fn belongings(&self) -> Belongings {
        let processes = self.processes().into_iter();
        Belongings {
            prefix: prefix(&self.name),
            dir: self.dir.clone(),
            processes: processes
                .filter(|(.., alive)| *alive)
                .map(|(pid, label, _)| (pid, start_time(pid), label))
                .collect(),
        }
    }
}

impl Belongings {
    /// How many processes.
    pub fn processes(&self) -> usize {
        self.processes.len()
    }

    /// What of it is still there, for a person; empty after an orderly end.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (pid, start, label) in &self.processes {
            if start.is_some() && start_time(*pid) == *start {
                left.push(format!("process {pid} ({label})"));
            }
        }
        let spaces = std::fs::read_dir("/run/netns").into_iter().flatten();
        for space in spaces.flatten() {
            let name = space.file_name().to_string_lossy().into_owned();
            if name.starts_with(&format!("{}-", self.prefix)) {
                left.push(format!("network namespace {name}"));
            }
        }
        if self.dir.exists() {
            left.push(format!("folder {}", self.dir.display()));
        }
        left
    }
}
