//! What a forwarded packet costs the server: Grove's relay, beside the least that any server could pay and beside Janus, one
//! after the other in the same run.
//!
//! The server runs in a process of its own, whose processor time is the scheduler's account of its threads; so does the
//! load: one publisher and N receivers, each a whole WebRTC client with its own socket. All speak over an address of this
//! machine, so nothing leaves it. The kernel charges most of a receiver's wake-up to whoever sent: figures are for
//! comparison within one run, never with a network card.

mod floor;
mod janus;
mod load;
mod peer;
mod relay;
mod shape;
mod tally;

use crate::process::{Usage, run_time};
use crate::report::{Measure, Report, quantile};
use crate::svg::Panel;
use crate::{Common, LabError};
use clap::{Args, Subcommand, ValueEnum};
use shape::Shape;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};
use tally::Count;

/// The load's words for the counted time.
const BEGIN: &str = "begin";
const END: &str = "end";
/// What is aimed at: times the floor with GSO, Janus's share, bytes a receiver.
const GOAL_FLOOR: f64 = 1.4;
const GOAL_JANUS: f64 = 4.0;
const GOAL_MEMORY: f64 = 102_400.0;

/// The command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// What is measured. Without it: the floor, Grove, and Janus where it is installed.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Family>,
    /// Under which loads.
    #[arg(long, value_delimiter = ',', default_values_t = Shape::value_variants().to_vec(), value_enum)]
    shape: Vec<Shape>,
    /// How long is counted, seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often everything is measured, in turns; the median counts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
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
    },
    /// Publish and receive.
    Load(LoadArgs),
}

/// What the load is told.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    subject: Subject,
    shape: Shape,
    seconds: u64,
    address: IpAddr,
    control: SocketAddr,
}

/// Run a part.
///
/// # Errors
/// When it cannot go on.
pub fn run_part(part: &Part) -> Result<(), LabError> {
    let cannot = |error: String| LabError::CannotRun(error);
    match part {
        Part::Floor => floor::serve().map_err(|e| cannot(format!("the floor: {e}"))),
        Part::Relay { address } => {
            // As the server runs it.
            let runtime = tokio::runtime::Runtime::new().map_err(|e| cannot(e.to_string()))?;
            let served = runtime.block_on(relay::serve(*address));
            served.map_err(|e| cannot(format!("the relay: {e}")))
        }
        Part::Load(args) => load::run(&load::Task {
            subject: args.subject,
            shape: args.shape,
            seconds: args.seconds,
            address: args.address,
            control: args.control,
        })
        .map_err(|e| cannot(format!("the load on {}: {e}", args.subject.name()))),
    }
}

/// One server under one load.
#[derive(Debug, Clone)]
struct Outcome {
    /// Seconds of processor time while it was counted.
    cpu: f64,
    seconds: f64,
    /// Resident bytes before anybody came, and at the end.
    rss: (u64, u64),
    count: Count,
}

impl Outcome {
    /// Microseconds of processor time for each packet that arrived.
    fn cost(&self) -> f64 {
        self.cpu * 1e6 / self.count.packets_came.max(1) as f64
    }

    /// Bytes of memory per receiver.
    fn memory(&self) -> f64 {
        let grown = self.rss.1 as f64 - self.rss.0 as f64;
        grown / self.count.receivers.max(1) as f64
    }

    /// Percent of the frames that the publisher, on a busy machine, was too late to send.
    fn not_sent(&self, shape: Shape) -> f64 {
        let due = self.seconds * f64::from(shape.frames_per_second());
        let sent = self.count.frames_due as f64 / self.count.receivers.max(1) as f64;
        // The window may hold one frame more or less.
        (100.0 * (due - sent - 1.0) / due).max(0.0)
    }

    fn delay(&self, q: f64) -> Option<f64> {
        quantile(&self.count.delays_ms, q)
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
    report.condition("video", "30 frames/s, datagrams of about 1200 bytes");
    report.condition("audio", "50 frames/s, datagrams of about 120 bytes");
    if let Some(load) = load_average() {
        report.condition("load_average_before", load);
    }
    eprintln!("{}", row(&HEAD.map(str::to_owned)));
    let mut outcomes: BTreeMap<(usize, Subject), Vec<Outcome>> = BTreeMap::new();
    for _ in 0..options.rounds {
        for (at, &shape) in options.shape.iter().enumerate() {
            for &subject in &subjects {
                let outcome = measure(subject, shape, options.seconds, address)?;
                eprintln!("{}", row(&cells(subject, shape, &outcome)));
                outcomes.entry((at, subject)).or_default().push(outcome);
            }
        }
    }
    if let Some(load) = load_average() {
        report.condition("load_average_after", load);
    }
    let medians: BTreeMap<(usize, Subject), Outcome> = outcomes
        .into_iter()
        .map(|(key, outcomes)| (key, median(outcomes)))
        .collect();
    for (at, &shape) in options.shape.iter().enumerate() {
        let of = |subject| medians.get(&(at, subject));
        report.measures.extend(measures(shape, of));
    }
    let panels = panels(&options.shape, &subjects, |at, subject| {
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
    fn start(subject: Subject, address: IpAddr) -> Result<Self, LabError> {
        let arguments = match subject {
            Subject::Janus => return Ok(Server::Janus(janus::Process::start(address)?)),
            Subject::FloorSingle | Subject::FloorGso => vec!["floor".to_owned()],
            Subject::Grove => vec!["relay".to_owned(), address.to_string()],
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

fn measure(
    subject: Subject,
    shape: Shape,
    seconds: u64,
    address: IpAddr,
) -> Result<Outcome, LabError> {
    let server = Server::start(subject, address)?;
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
    let mut load = Own::start(&[
        "load".to_owned(),
        named.get_name().to_owned(),
        shape.name().to_owned(),
        value(&seconds),
        value(&address),
        value(&server.control()),
    ])?;
    let word = load.line()?;
    let start = cpu()?;
    let second = load.line()?;
    let used = cpu()? - start;
    let after = rss()?;
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
        count,
    })
}

/// The run whose cost is in the middle, with everything else that it saw.
fn median(mut outcomes: Vec<Outcome>) -> Outcome {
    outcomes.sort_by(|a, b| a.cost().total_cmp(&b.cost()));
    outcomes.swap_remove((outcomes.len() - 1) / 2)
}

fn measures<'a>(shape: Shape, of: impl Fn(Subject) -> Option<&'a Outcome>) -> Vec<Measure> {
    let mut measures = Vec::new();
    let single = of(Subject::FloorSingle).map(Outcome::cost);
    let gso = of(Subject::FloorGso).map(Outcome::cost);
    for &subject in Subject::value_variants() {
        let Some(outcome) = of(subject) else {
            continue;
        };
        let named = |name: &str, unit: &str, value| {
            Measure::new(
                format!("{}_{}_{name}", shape.name(), subject.name()),
                unit,
                value,
            )
        };
        let ours = subject == Subject::Grove;
        let cost = outcome.cost();
        measures.push(named("cpu_per_packet", "us", cost).reference(gso));
        if subject.family() != Family::Floor {
            if let Some(single) = single {
                measures.push(named("over_floor_single", "1", cost / single));
            }
            if let Some(gso) = gso {
                let goal = (ours && !shape.is_audio()).then_some(GOAL_FLOOR);
                measures.push(named("over_floor_gso", "1", cost / gso).goal(goal));
            }
            let goal = ours.then_some(GOAL_MEMORY);
            measures.push(named("memory_per_receiver", "bytes", outcome.memory()).goal(goal));
        }
        let goal = ours.then_some(0.0);
        let count = &outcome.count;
        measures.push(named("packets_lost", "%", count.packet_loss()).goal(goal));
        measures.push(named("frames_lost", "%", count.frame_loss()).goal(goal));
        for (name, q) in [("delay_p50", 0.5), ("delay_p99", 0.99)] {
            measures.extend(outcome.delay(q).map(|delay| named(name, "ms", delay)));
        }
        let forwarded = count.packets_came.max(1) as f64;
        let again = 100.0 * count.packets_twice as f64 / forwarded;
        measures.push(named("packets_again", "%", again));
        let all = count.datagrams as f64 / forwarded;
        measures.push(named("datagrams_per_packet", "1", all));
        let bytes = count.bytes as f64 / forwarded;
        measures.push(named("bytes_per_packet", "bytes", bytes));
        measures.push(named("links_lost", "1", count.links_lost as f64));
        measures.push(named("frames_not_sent", "%", outcome.not_sent(shape)));
    }
    if let (Some(grove), Some(janus)) = (of(Subject::Grove), of(Subject::Janus)) {
        let name = format!("{}_janus_over_grove", shape.name());
        let times = Measure::new(name, "1", janus.cost() / grove.cost());
        measures.push(times.higher().goal(Some(GOAL_JANUS)));
    }
    measures
}

const HEAD: [&str; 9] = [
    "load",
    "server",
    "us/packet",
    "packets",
    "lost %",
    "frames lost %",
    "KiB/receiver",
    "p50 ms",
    "p99 ms",
];

fn row(cells: &[String; 9]) -> String {
    let [load, server, rest @ ..] = cells;
    let mut line = format!("{load:9} {server:12}");
    for cell in rest {
        line += &format!(" {cell:>13}");
    }
    line
}

fn cells(subject: Subject, shape: Shape, outcome: &Outcome) -> [String; 9] {
    let delay = |q| outcome.delay(q).map_or("-".into(), |ms| format!("{ms:.2}"));
    [
        shape.name().to_owned(),
        subject.name().to_owned(),
        format!("{:.2}", outcome.cost()),
        outcome.count.packets_came.to_string(),
        format!("{:.3}", outcome.count.packet_loss()),
        format!("{:.3}", outcome.count.frame_loss()),
        format!("{:.0}", outcome.memory() / 1024.0),
        delay(0.5),
        delay(0.99),
    ]
}

fn panels<'a>(
    shapes: &[Shape],
    subjects: &[Subject],
    of: impl Fn(usize, Subject) -> Option<&'a Outcome>,
) -> Vec<Panel> {
    let panel = |title: &str, unit: &str, subjects: &[Subject], value: fn(&Outcome) -> f64| {
        let values = |subject| {
            let value = |at| of(at, subject).map(value);
            (0..shapes.len()).map(value).collect()
        };
        Panel::Bars {
            title: title.into(),
            unit: unit.into(),
            groups: shapes.iter().map(|s| s.name().to_owned()).collect(),
            series: subjects
                .iter()
                .map(|&subject| (subject.title().to_owned(), values(subject)))
                .collect(),
        }
    };
    let served: Vec<Subject> = subjects
        .iter()
        .copied()
        .filter(|subject| subject.family() != Family::Floor)
        .collect();
    vec![
        panel(
            "Processor time of the server for one forwarded packet",
            "us",
            subjects,
            Outcome::cost,
        ),
        panel("Memory of the server per receiver", "KiB", &served, |o| {
            o.memory() / 1024.0
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(cpu: f64, packets: usize) -> Outcome {
        Outcome {
            cpu,
            seconds: 0.1,
            rss: (10 << 20, 15 << 20),
            count: Count {
                receivers: 50,
                frames_due: 100,
                frames_whole: 99,
                packets_due: 1000,
                packets_lost: 5,
                packets_came: packets,
                delays_ms: vec![1.0, 2.0, 3.0, 4.0],
                ..Count::default()
            },
        }
    }

    fn values(measures: &[Measure]) -> BTreeMap<&str, f64> {
        measures
            .iter()
            .map(|m| (m.name.as_str(), m.value))
            .collect()
    }

    #[test]
    fn a_report_sets_grove_beside_both_floors_and_janus() {
        let by = BTreeMap::from([
            (Subject::FloorSingle, outcome(0.004, 1000)),
            (Subject::FloorGso, outcome(0.002, 1000)),
            (Subject::Grove, outcome(0.003, 1000)),
            (Subject::Janus, outcome(0.012, 1000)),
        ]);
        let measures = measures(Shape::Video50, |subject| by.get(&subject));
        let values = values(&measures);
        for (name, value) in [
            ("video50_floor_gso_cpu_per_packet", 2.0),
            ("video50_grove_cpu_per_packet", 3.0),
            ("video50_grove_over_floor_single", 0.75),
            ("video50_grove_over_floor_gso", 1.5),
            ("video50_grove_memory_per_receiver", 104_857.6),
            ("video50_grove_packets_lost", 0.5),
            ("video50_grove_frames_lost", 1.0),
            ("video50_grove_delay_p50", 2.0),
            ("video50_grove_delay_p99", 4.0),
            ("video50_janus_over_grove", 4.0),
        ] {
            assert_eq!(values.get(name), Some(&value), "{name}");
        }
        let names: std::collections::BTreeSet<_> = values.keys().collect();
        assert_eq!(names.len(), measures.len(), "names are unique");
    }

    #[test]
    fn what_was_not_measured_is_not_reported() {
        let grove = outcome(0.003, 1000);
        let measures = measures(Shape::Audio50, |subject| {
            (subject == Subject::Grove).then_some(&grove)
        });
        assert!(
            measures
                .iter()
                .all(|m| m.name.starts_with("audio50_grove_"))
        );
        assert!(!values(&measures).contains_key("audio50_grove_over_floor_gso"));
        assert_eq!(measures[0].reference, None);
    }

    #[test]
    fn the_median_run_is_one_of_the_runs() {
        let costs = |given: &[f64]| median(given.iter().map(|&c| outcome(c, 1000)).collect()).cpu;
        assert_eq!(costs(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(costs(&[4.0, 1.0]), 1.0);
        assert_eq!(costs(&[7.0]), 7.0);
    }
}
