//! What a forwarded packet costs the server: Grove's relay, beside the least that any server could pay and beside Janus, one
//! after the other in the same run.
//!
//! The server runs in a process of its own, whose processor time is the scheduler's account of its threads; so does the
//! load: one publisher and N receivers, each a whole WebRTC client with its own socket. All speak over an address of this
//! machine, so nothing leaves it. The kernel charges most of a receiver's wake-up to whoever sent: figures are for
//! comparison within one run, never with a network card.

pub(crate) mod faults;
mod figures;
mod flood;
mod floor;
mod janus;
mod load;
mod peer;
mod relay;
mod shape;
pub(crate) mod star;
mod tally;

use crate::process::{Usage, run_time, udp_drops};
use crate::report::Report;
use crate::svg::Panel;
use crate::{Common, LabError};
use clap::{Args, Subcommand, ValueEnum};
use figures::Outcome;
use flood::Fault;
use shape::Shape;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};

/// The load's words for the counted time.
const BEGIN: &str = "begin";
const END: &str = "end";
/// The command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// What is measured. Without it: the floor, Grove, and Janus where it is installed.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Family>,
    /// Under which loads.
    #[arg(long, value_delimiter = ',', default_values_t = Shape::COMPARED, value_enum)]
    shape: Vec<Shape>,
    /// How long is counted, seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often everything is measured, in turns; the median counts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Rooms of such a load at once, each with its own publisher; of Grove alone.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(relay::MOST_ROOMS)))]
    rooms: u16,
    /// Threads of Grove's relay.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Fail if Janus cannot be measured.
    #[arg(long)]
    janus: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Family {
    /// The least that forwarding can cost: copy, seal, send.
    Floor,
    /// Grove's relay.
    Grove,
    /// Janus with its VideoRoom plugin and two event loops.
    Janus,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Subject {
    /// The floor, one datagram a call.
    FloorSingle,
    /// The floor, a frame's packets in one call.
    FloorGso,
    /// Grove's relay.
    Grove,
    /// Janus.
    Janus,
}

impl Subject {
    fn family(self) -> Family {
        match self {
            Subject::FloorSingle | Subject::FloorGso => Family::Floor,
            Subject::Grove => Family::Grove,
            Subject::Janus => Family::Janus,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Subject::FloorSingle => "floor_single",
            Subject::FloorGso => "floor_gso",
            Subject::Grove => "grove",
            Subject::Janus => "janus",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Subject::FloorSingle => "Floor, one send a packet",
            Subject::FloorGso => "Floor, UDP GSO",
            Subject::Grove => "Grove",
            Subject::Janus => "Janus VideoRoom",
        }
    }
}

/// A process that the bench starts from its own binary.
#[derive(Debug, Clone, Subcommand)]
pub enum Part {
    /// Forward as the floor does.
    Floor,
    /// Run the relay.
    Relay {
        /// Its address.
        address: IpAddr,
        /// Its threads.
        threads: u16,
    },
    /// Publish and receive.
    Load(LoadArgs),
}

/// What the load is told.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    subject: Subject,
    shape: Shape,
    receivers: usize,
    seconds: u64,
    address: IpAddr,
    control: SocketAddr,
    rooms: u16,
    #[arg(long)]
    fault: Option<Fault>,
}

/// Run a part.
///
/// # Errors
/// When it cannot go on.
pub fn run_part(part: &Part) -> Result<(), LabError> {
    let cannot = |error: String| LabError::CannotRun(error);
    match part {
        Part::Floor => floor::serve().map_err(|e| cannot(format!("the floor: {e}"))),
        Part::Relay { address, threads } => {
            let runtime = tokio::runtime::Runtime::new().map_err(|e| cannot(e.to_string()))?;
            let served = runtime.block_on(relay::serve(*address, usize::from(*threads)));
            served.map_err(|e| cannot(format!("the relay: {e}")))
        }
        Part::Load(args) => load::run(&load::Task {
            subject: args.subject,
            shape: args.shape,
            receivers: args.receivers,
            fault: args.fault,
            seconds: args.seconds,
            address: args.address,
            control: args.control,
            rooms: args.rooms,
        })
        .map_err(|e| cannot(format!("the load on {}: {e}", args.subject.name()))),
    }
}

/// Run it.
///
/// # Errors
/// When a server or the load does not start, or nothing arrives.
pub fn run(options: &Options) -> Result<(Report, Vec<Panel>), LabError> {
    let address = own_address();
    let subjects = subjects(options, address)?;
    let mut report = Report::new("forward");
    report.condition("seconds", options.seconds);
    report.condition("rounds", options.rounds);
    report.condition("address", address.to_string());
    report.condition("rooms", options.rooms);
    report.condition("threads", options.threads);
    report.condition("video", "30 frames/s, datagrams of about 1200 bytes");
    report.condition("audio", "50 frames/s, datagrams of about 120 bytes");
    if let Some(load) = load_average() {
        report.condition("load_average_before", load);
    }
    eprintln!("{}", figures::row(&figures::HEAD.map(str::to_owned)));
    let spread = Spread {
        rooms: options.rooms,
        threads: options.threads,
    };
    let mut outcomes: BTreeMap<(usize, Subject), Vec<Outcome>> = BTreeMap::new();
    for _ in 0..options.rounds {
        for (at, &shape) in options.shape.iter().enumerate() {
            for &subject in &subjects {
                let case = Case {
                    spread,
                    ..Case::of(subject, shape)
                };
                let outcome = measure(case, options.seconds, address)?;
                eprintln!(
                    "{}",
                    figures::row(&figures::cells(subject, shape, &outcome))
                );
                outcomes.entry((at, subject)).or_default().push(outcome);
            }
        }
    }
    if let Some(load) = load_average() {
        report.condition("load_average_after", load);
    }
    let medians: BTreeMap<(usize, Subject), Outcome> = outcomes
        .into_iter()
        .map(|(key, outcomes)| (key, figures::median(outcomes)))
        .collect();
    for (at, &shape) in options.shape.iter().enumerate() {
        let of = |subject| medians.get(&(at, subject));
        report.measures.extend(figures::measures(shape, of));
    }
    let panels = figures::panels(&options.shape, &subjects, |at, subject| {
        medians.get(&(at, subject))
    });
    Ok((report, panels))
}

/// Of those asked for, what can be measured here.
fn subjects(options: &Options, address: IpAddr) -> Result<Vec<Subject>, LabError> {
    let only = |family| options.only.is_empty() || options.only.contains(&family);
    let janus = options.janus || options.only.contains(&Family::Janus);
    let mut subjects = Subject::value_variants().to_vec();
    subjects.retain(|subject| only(subject.family()) || (janus && *subject == Subject::Janus));
    if options.rooms > 1 && subjects != [Subject::Grove] {
        let why = "several rooms are for Grove alone: `--only grove`";
        return Err(LabError::CannotRun(why.to_owned()));
    }
    let why = if janus::find().is_none() {
        Some("it is not installed (Debian package `janus`)")
    } else if address.is_loopback() {
        Some("it skips loopback addresses, and this machine has no other")
    } else {
        None
    };
    if let Some(why) = why.filter(|_| subjects.contains(&Subject::Janus)) {
        if janus {
            return Err(LabError::CannotRun(format!("janus: {why}")));
        }
        eprintln!("Janus is left out: {why}.");
        subjects.retain(|subject| *subject != Subject::Janus);
    }
    Ok(subjects)
}

/// The address that this machine would use to reach others, else the loopback one. Nothing is sent.
fn own_address() -> IpAddr {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| {
            // TEST-NET-3: connecting a UDP socket only looks the route up.
            socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9))?;
            socket.local_addr()
        })
        .map_or(loopback, |own| own.ip())
}

fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// A process of ours that says something on its standard output. Killed when dropped.
#[derive(Debug)]
struct Own {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Own {
    fn start(arguments: &[String]) -> Result<Self, LabError> {
        let cannot = |error: std::io::Error| LabError::CannotRun(error.to_string());
        let mut child = Command::new(std::env::current_exe().map_err(cannot)?)
            .arg("forward-part")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(cannot)?;
        let out = child.stdout.take().expect("it was asked for");
        let out = BufReader::new(out);
        Ok(Self { child, out })
    }

    fn line(&mut self) -> Result<String, LabError> {
        let mut line = String::new();
        let read = self.out.read_line(&mut line);
        match read {
            Ok(1..) => Ok(line.trim_end().to_owned()),
            Ok(0) => Err(LabError::CannotRun("a part of the bench ended".into())),
            Err(error) => Err(LabError::CannotRun(error.to_string())),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server under test.
#[derive(Debug)]
enum Server {
    Own(Own, SocketAddr),
    Janus(janus::Process),
}

impl Server {
    fn start(subject: Subject, address: IpAddr, threads: u16) -> Result<Self, LabError> {
        let arguments = match subject {
            Subject::Janus => return Ok(Server::Janus(janus::Process::start(address)?)),
            Subject::FloorSingle | Subject::FloorGso => vec!["floor".to_owned()],
            Subject::Grove => vec!["relay".to_owned(), address.to_string(), threads.to_string()],
        };
        let mut own = Own::start(&arguments)?;
        let line = own.line()?;
        let at = line
            .parse()
            .map_err(|_| LabError::CannotRun(format!("no address: {line}")))?;
        Ok(Server::Own(own, at))
    }

    fn pid(&self) -> u32 {
        match self {
            Server::Own(own, _) => own.child.id(),
            Server::Janus(process) => process.pid(),
        }
    }

    fn control(&self) -> SocketAddr {
        match self {
            Server::Own(_, at) => *at,
            Server::Janus(process) => process.at,
        }
    }
}

/// How many rooms there are, and how many of the relay's threads for them.
#[derive(Debug, Clone, Copy)]
struct Spread {
    rooms: u16,
    threads: u16,
}

impl Spread {
    /// One room, on one thread.
    const ONE: Self = Self {
        rooms: 1,
        threads: 1,
    };
}

/// One call, or several at once.
#[derive(Debug, Clone, Copy)]
struct Case {
    subject: Subject,
    shape: Shape,
    receivers: usize,
    fault: Option<Fault>,
    spread: Spread,
}

impl Case {
    /// One call, in which as many receive as the shape has, and nothing is wrong.
    fn of(subject: Subject, shape: Shape) -> Self {
        let receivers = shape.receivers();
        Self {
            subject,
            shape,
            receivers,
            fault: None,
            spread: Spread::ONE,
        }
    }
}

fn measure(case: Case, seconds: u64, address: IpAddr) -> Result<Outcome, LabError> {
    let Case {
        subject,
        shape,
        receivers,
        fault,
        spread,
    } = case;
    let server = Server::start(subject, address, spread.threads)?;
    let gone = || LabError::CannotRun(format!("{} ended", subject.name()));
    let rss = || {
        Usage::of(server.pid())
            .map(|usage| usage.rss)
            .ok_or_else(gone)
    };
    let cpu = || run_time(server.pid()).ok_or_else(gone);
    let before = rss()?;
    let value = |value: &dyn ToString| value.to_string();
    let named = subject.to_possible_value().expect("none is skipped");
    let mut arguments = vec![
        "load".to_owned(),
        named.get_name().to_owned(),
        shape.name().to_owned(),
        value(&receivers),
        value(&seconds),
        value(&address),
        value(&server.control()),
        value(&spread.rooms),
    ];
    if let Some(fault) = fault.and_then(|fault| fault.to_possible_value()) {
        arguments.push(format!("--fault={}", fault.get_name()));
    }
    let mut load = Own::start(&arguments)?;
    let word = load.line()?;
    let (start, begun, room) = (cpu()?, rss()?, udp_drops(server.pid()));
    let second = load.line()?;
    let used = cpu()? - start;
    let (after, dropped) = (rss()?, udp_drops(server.pid()) - room);
    if (word.as_str(), second.as_str()) != (BEGIN, END) {
        return Err(LabError::CannotRun(format!(
            "the load said {word}, {second}"
        )));
    }
    let count = serde_json::from_str(&load.line()?)
        .map_err(|e| LabError::CannotRun(format!("the load's report: {e}")))?;
    Ok(Outcome {
        cpu: used,
        seconds: seconds as f64,
        rss: (before, after),
        rss_begun: begun,
        dropped,
        count,
    })
}
