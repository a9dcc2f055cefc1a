//! The real server as a child process, and what the kernel says of it.

use crate::LabError;
use crate::limit::Limit;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server with a data directory of its own. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    _data: tempfile::TempDir,
}

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// CPU seconds since it started.
    pub cpu_seconds: f64,
    /// Resident bytes now.
    pub rss: u64,
    /// The most there ever were.
    pub peak_rss: u64,
}

impl Usage {
    /// What a process uses; `None` when it has ended.
    pub fn of(pid: u32) -> Option<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        parse_usage(
            &fs::read_to_string(proc.join("stat")).ok()?,
            &fs::read_to_string(proc.join("status")).ok()?,
        )
    }
}

impl Server {
    /// Start `binary` on a free port under `limit`, and wait until it is ready.
    ///
    /// # Errors
    /// When it cannot be started or is not ready within 15 s.
    pub fn start(binary: &Path, limit: &Limit) -> Result<Self, LabError> {
        Self::start_with(binary, limit, &[])
    }

    /// The same, with further flags.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with(binary: &Path, limit: &Limit, flags: &[&str]) -> Result<Self, LabError> {
        let could_not = |what: &str, e: std::io::Error| LabError::CannotRun(format!("{what}: {e}"));
        let data = tempfile::tempdir().map_err(|e| could_not("no temporary directory", e))?;
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .map_err(|e| could_not("no free port", e))?;
        let mut line = limit.prefix();
        line.push(binary.display().to_string());
        let child = Command::new(&line[0])
            .args(&line[1..])
            .args([
                "serve",
                "--listen",
                &address.to_string(),
                "--public-url",
                &format!("http://{address}"),
                // A free port; whoever is ordered to link is told which.
                "--relay-quic-listen",
                "127.0.0.1:0",
                "--data",
            ])
            .arg(data.path())
            .args(flags)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| could_not(&format!("{} does not start", binary.display()), e))?;
        let mut server = Self {
            child,
            address,
            _data: data,
        };
        limit
            .apply(server.child.id())
            .map_err(|e| could_not("the limit cannot be set", e))?;
        let deadline = Instant::now() + Duration::from_secs(15);
        while !server.is_ready() {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(LabError::CannotRun(format!(
                    "the server ended at once: {status}"
                )));
            }
            if Instant::now() > deadline {
                return Err(LabError::CannotRun(
                    "the server was not ready after 15 s".into(),
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    fn is_ready(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            let request = format!(
                "GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                self.address
            );
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Is it still there?
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it uses; `None` when it has ended.
    pub fn usage(&self) -> Option<Usage> {
        Usage::of(self.child.id())
    }

    /// Seconds for which its threads have run ([`run_time`]).
    pub fn run_time(&self) -> Option<f64> {
        run_time(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From `/proc/PID/stat` and `/proc/PID/status`, proc(5).
fn parse_usage(stat: &str, status: &str) -> Option<Usage> {
    // The command's name stands in parentheses and may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok());
    let kib = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim_start_matches(':')
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    };
    Some(Usage {
        // The kernel counts in hundredths of a second for user space on every architecture in use.
        cpu_seconds: (ticks(11)? + ticks(12)?) / 100.0,
        rss: kib("VmRSS")? * 1024,
        peak_rss: kib("VmHWM")? * 1024,
    })
}

/// Seconds that the threads of a process have run, to the nanosecond, as the scheduler counts them; `None` when it has
/// ended. Threads that have ended are not in it.
pub fn run_time(pid: u32) -> Option<f64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Some(nanos.sum::<u64>() as f64 / 1e9)
}

/// Datagrams to a process's UDP sockets for which the kernel had no room, since they were opened.
pub fn udp_drops(pid: u32) -> u64 {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return 0;
    };
    let targets = open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    let inodes: Vec<String> = targets
        .filter_map(|target| {
            let name = target.to_str()?.strip_prefix("socket:[")?;
            name.strip_suffix(']').map(str::to_owned)
        })
        .collect();
    let tables =
        ["udp", "udp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    let tables = tables.iter().flatten();
    tables.map(|table| parse_drops(table, &inodes)).sum()
}

/// From `/proc/net/udp`: the tenth field is the inode, the last the drops.
fn parse_drops(table: &str, inodes: &[String]) -> u64 {
    let of = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ours = inodes
            .iter()
            .any(|inode| fields.get(9) == Some(&inode.as_str()));
        fields.last().filter(|_| ours)?.parse::<u64>().ok()
    };
    table.lines().filter_map(of).sum()
}

/// The `grove` binary: `--grove`, else beside this one.
///
/// # Errors
/// When it is not there.
pub fn find_server(named: Option<PathBuf>) -> Result<PathBuf, LabError> {
    let beside = || {
        std::env::current_exe()
            .ok()
            .map(|exe| exe.with_file_name("grove"))
    };
    named.or_else(beside).filter(|path| path.exists()).ok_or_else(|| {
        LabError::CannotRun("no server binary beside grove-lab: run `cargo build -p grove-server`, or give --grove".into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_even_when_the_name_has_spaces_and_parentheses() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 4 0 100 1000 200";
        let status = "Name:\ta\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        let usage = Usage {
            cpu_seconds: 2.0,
            rss: 10 << 20,
            peak_rss: 20 << 20,
        };
        assert_eq!(parse_usage(stat, status), Some(usage));
        assert_eq!(parse_usage("nonsense", status), None);
    }

    #[test]
    fn drops_are_those_of_the_sockets_that_the_process_has() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            \x20 10: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 77 2 0000000000000000 5\n\
            \x20 11: 0100007F:0036 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 78 2 0000000000000000 9\n";
        assert_eq!(parse_drops(table, &["77".into(), "5".into()]), 5);
        assert_eq!(parse_drops(table, &[]), 0);
    }
}
