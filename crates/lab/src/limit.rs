//! Running the server as if its machine were small: one processor and 512 MB, the machine BBVoice's server ran on.
//!
//! Control groups (version 2, or version 1's `cpu` and `memory`) limit for real. Where neither can be written, the
//! process is bound to one processor, memory is only watched, and the report says so.

use std::fs;
use std::path::{Path, PathBuf};

/// How a process was limited. Dropping it removes the control groups, which must be empty by then.
#[derive(Debug)]
pub struct Limit {
    /// For the report.
    pub how: String,
    /// True when the limits hold against the process's will.
    pub enforced: bool,
    groups: Vec<PathBuf>,
    pin: bool,
}

impl Limit {
    /// The best that this machine allows, for `cpus` processors and `memory` bytes.
    pub fn set(cpus: f64, memory: u64) -> Self {
        Self::cgroup2(cpus, memory).or_else(|| Self::cgroup1(cpus, memory)).unwrap_or_else(|| Self {
            how: "control groups cannot be written here: bound to one processor by taskset, memory watched, not limited"
                .into(),
            enforced: false,
            groups: Vec::new(),
            pin: true,
        })
    }

    fn cgroup2(cpus: f64, memory: u64) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).ok()?;
        if !["cpu", "memory"]
            .iter()
            .all(|c| controllers.split_whitespace().any(|has| has == *c))
        {
            return None;
        }
        let period = 100_000.0;
        let files = [
            ("cpu.max", format!("{} {period}", cpus * period)),
            ("memory.max", memory.to_string()),
        ];
        let group = make_group(root, &files)?;
        Some(Self {
            how: format!("cgroup v2: {cpus} CPU, {} MB", memory >> 20),
            enforced: true,
            groups: vec![group],
            pin: false,
        })
    }

    fn cgroup1(cpus: f64, memory: u64) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let cpu = make_group(
            &root.join("cpu"),
            &[("cpu.cfs_quota_us", format!("{}", (cpus * 100_000.0) as u64))],
        )?;
        let Some(mem) = make_group(
            &root.join("memory"),
            &[("memory.limit_in_bytes", memory.to_string())],
        ) else {
            let _ = fs::remove_dir(cpu);
            return None;
        };
        Some(Self {
            how: format!("cgroup v1: {cpus} CPU, {} MB", memory >> 20),
            enforced: true,
            groups: vec![cpu, mem],
            pin: false,
        })
    }

    /// The program and arguments in front of the command to run.
    pub fn prefix(&self) -> Vec<String> {
        if self.pin {
            ["taskset", "--cpu-list", "0"].map(String::from).to_vec()
        } else {
            Vec::new()
        }
    }

    /// Put a process that has just started under the limit. Threads it starts later are under it too.
    pub fn apply(&self, pid: u32) -> std::io::Result<()> {
        self.groups
            .iter()
            .try_for_each(|group| fs::write(group.join("cgroup.procs"), pid.to_string()))
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        for group in &self.groups {
            let _ = fs::remove_dir(group);
        }
    }
}

/// A new group under `parent` with these files written; removed again when one cannot be.
fn make_group(parent: &Path, files: &[(&str, String)]) -> Option<PathBuf> {
    let group = parent.join(format!("grove-lab-{}", std::process::id()));
    fs::create_dir(&group).ok()?;
    for (name, value) in files {
        if fs::write(group.join(name), value).is_err() {
            let _ = fs::remove_dir(&group);
            return None;
        }
    }
    Some(group)
}
