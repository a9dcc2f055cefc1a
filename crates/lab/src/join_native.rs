//! BBVoice's experiment with native peers: how long until a newcomer is received by everybody, and receives everybody, where
//! no browser stands in the way. What remains is signalling, planning, one handshake per link and the first frame.
//!
//! The newcomer stands at the door: connected to the server, its own port open. The clock starts when it says join. Everybody sends
//! [`SLIDES`]; a stream counts as received when its first frame has been opened and is what was sealed. Peers, links and
//! server share one machine; all links are QUIC on the loopback address, so that no round trip is added.
//!
//! Beside each time stands what the machine had to do for it: processor time of the server and of all peers from the newcomer's
//! join to the last stream, less what they take anyway. That, by the processors that are free, is the least that it can take.

use crate::LabError;
use crate::client::{Client, ClientError};
use crate::join_times::{BBVOICE, Options, PolicyName};
use crate::limit::Limit;
use crate::native::media::{Keyring, SLIDES};
use crate::native::{First, Peer, Setup, Tally};
use crate::process::{Server, find_server, run_time};
use crate::report::{Measure, Report, mean, quantile};
use crate::svg::Panel;
use fastrand::Rng;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// More than a test machine has: nothing is limited.
const MEMORY: u64 = 4 << 30;
const CPUS: f64 = 64.0;
/// Edges that one peer may carry: the default, 64, leaves trees of fifty without places for some.
const SLOTS: &str = "1024";
/// At zero added round-trip time, ms.
const GOAL: f64 = 25.0;
/// From the fewest peers to the most, the time may grow by this factor.
const GOAL_GROWTH: f64 = 1.2;
/// For everybody to receive everybody; and the newcomer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before the newcomer comes.
const SETTLE: Duration = Duration::from_secs(1);

/// What one newcomer saw and was seen by.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    /// Until each of the others had it, ms.
    pub(crate) existing: Vec<f64>,
    /// Until it had each of the others, ms.
    pub(crate) newcomer: Vec<f64>,
    /// Until the server had answered, ms: no stream can come sooner.
    pub(crate) answered: f64,
    /// Processor time for it, ms: the server's and that of all peers.
    pub(crate) processor: [f64; 2],
    /// Processors that they keep busy while nobody comes.
    pub(crate) background: [f64; 2],
    /// Frames that did not open to what was sealed, of all.
    pub(crate) wrong: u64,
    /// Links that were reported lost.
    pub(crate) lost: usize,
    /// What peers gave up for, and errors of the server.
    pub(crate) failures: Vec<String>,
}

impl Sample {
    /// With all processors busy all the time, ms.
    fn least(&self) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let free = cores as f64 - self.background.iter().sum::<f64>();
        self.processor.iter().sum::<f64>() / free.max(0.1)
    }
}

struct Setting {
    policy: PolicyName,
    peers: u32,
    samples: Vec<Sample>,
}

/// Run it.
///
/// # Errors
/// When the server is not there or does not start.
pub(crate) fn run(options: &Options) -> Result<(Report, Vec<Panel>), LabError> {
    let binary = find_server(options.common.grove.clone())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| LabError::CannotRun(e.to_string()))?;
    let limit = Limit::set(CPUS, MEMORY);
    let server = Server::start_with(&binary, &limit, &["--slots", SLOTS])?;
    let mut report = Report::new("join-times --native");
    report.condition("runs", options.runs);
    report.condition("seed", options.common.seed);
    report.condition("limit", limit.how.as_str());
    report.condition("slots", SLOTS);
    report.condition(
        "media",
        "a key picture of 1 kB every 500 ms, no sound; sealed, opened, compared",
    );
    report.condition("link", "QUIC on the loopback address, no added delay");
    report.condition(
        "reference",
        "BBVoice (Prisca 2017): sound, all clients in tabs of one machine",
    );
    let mut rng = Rng::with_seed(options.common.seed);
    let mut settings = Vec::new();
    let mut problems = Vec::new();
    let all = options.policy.len() * options.peers.len() * options.runs as usize;
    let bar = crate::progress(all as u64);
    for &policy in &options.policy {
        for &peers in &options.peers {
            let mut samples = Vec::new();
            for _ in 0..options.runs {
                let used = || {
                    let both = [server.run_time(), run_time(std::process::id())];
                    both.map(|seconds| seconds.unwrap_or(0.0))
                };
                let run = experiment(policy, peers, server.address, rng.fork(), used);
                match runtime.block_on(run) {
                    Ok(sample) => samples.push(sample),
                    Err(error) => problems.push(format!("{} {peers}: {error}", policy.label())),
                }
                bar.inc(1);
            }
            settings.push(Setting {
                policy,
                peers,
                samples,
            });
        }
    }
    bar.finish_and_clear();
    if !problems.is_empty() {
        report.condition("without_result", problems);
    }
    let samples = || settings.iter().flat_map(|setting| &setting.samples);
    let failures: Vec<&String> = samples().flat_map(|s| &s.failures).take(5).collect();
    if !failures.is_empty() {
        report.condition("first_failures", serde_json::json!(failures));
    }
    let wrong: u64 = samples().map(|sample| sample.wrong).sum();
    let lost: usize = samples().map(|sample| sample.lost).sum();
    let count = |name: &str, n: f64| Measure::new(name, "1", n).goal(Some(0.0));
    report
        .measures
        .push(count("frames_that_did_not_open", wrong as f64));
    report
        .measures
        .push(count("links_reported_lost", lost as f64));
    for setting in &settings {
        report.measures.extend(setting.measures());
    }
    report.measures.extend(growth(options, &settings));
    Ok((report, panels(options, &settings)))
}

impl Setting {
    fn all(&self, pick: fn(&Sample) -> &Vec<f64>) -> Vec<f64> {
        self.samples.iter().flat_map(pick).copied().collect()
    }

    /// Of each run the slowest.
    fn last(&self, pick: fn(&Sample) -> &Vec<f64>) -> Vec<f64> {
        let slowest = |sample| pick(sample).iter().copied().fold(0.0, f64::max);
        self.samples.iter().map(slowest).collect()
    }

    fn measures(&self) -> Vec<Measure> {
        let published = BBVOICE.iter().find(|row| row.0 == self.peers);
        let (theirs, own) = (published.map(|r| r.1), published.map(|r| r.2));
        let of = |pick: fn(&Sample) -> f64| -> Vec<f64> { self.samples.iter().map(pick).collect() };
        let answered = of(|sample| sample.answered);
        let median = |name: &str, unit: &str, of: Vec<f64>| {
            let name = format!("{}_{}_{name}_median", self.policy.label(), self.peers);
            Some(Measure::new(name, unit, quantile(&of, 0.5)?))
        };
        let machine = [
            median("join_processor_server", "ms", of(|s| s.processor[0])),
            median("join_processor_peers", "ms", of(|s| s.processor[1])),
            median("background_server", "cores", of(|s| s.background[0])),
            median("background_peers", "cores", of(|s| s.background[1])),
            median("least_possible", "ms", of(Sample::least)),
        ];
        let rows = [
            (
                "existing_receive_newcomer_mean",
                mean(&self.all(|s| &s.existing)),
                theirs,
                Some(GOAL),
            ),
            (
                "existing_receive_newcomer_last_median",
                quantile(&self.last(|s| &s.existing), 0.5),
                theirs,
                Some(GOAL),
            ),
            (
                "newcomer_receives_all_median",
                quantile(&self.last(|s| &s.newcomer), 0.5),
                own,
                Some(GOAL),
            ),
            ("join_answered_median", quantile(&answered, 0.5), None, None),
        ];
        let rows = rows
            .into_iter()
            .filter_map(|(name, value, reference, goal)| {
                let name = format!("{}_{}_{name}", self.policy.label(), self.peers);
                let measure = Measure::new(name, "ms", value?);
                Some(measure.reference(reference).goal(goal))
            });
        rows.chain(machine.into_iter().flatten()).collect()
    }
}

/// How much longer it takes with the most peers than with the fewest.
fn growth(options: &Options, settings: &[Setting]) -> Vec<Measure> {
    let of = |policy: &PolicyName| {
        let mine = settings
            .iter()
            .filter(|setting| setting.policy == *policy && !setting.samples.is_empty());
        let fewest = mine.clone().min_by_key(|setting| setting.peers)?;
        let most = mine.max_by_key(|setting| setting.peers)?;
        let of = |setting: &Setting| mean(&setting.all(|s| &s.existing));
        let name = format!(
            "{}_existing_growth_{}_to_{}",
            policy.label(),
            fewest.peers,
            most.peers
        );
        let ratio = of(most)? / of(fewest)?;
        (fewest.peers < most.peers).then(|| Measure::new(name, "1", ratio).goal(Some(GOAL_GROWTH)))
    };
    options.policy.iter().filter_map(of).collect()
}

fn panels(options: &Options, settings: &[Setting]) -> Vec<Panel> {
    let bars =
        |title: &str, pick: fn(&Sample) -> &Vec<f64>, published: fn(&(u32, f64, f64)) -> f64| {
            let ours = options.policy.iter().map(|policy| {
                let mine = settings.iter().filter(|s| s.policy == *policy);
                let values = mine.map(|s| quantile(&s.last(pick), 0.5));
                (policy.label().to_owned(), values.collect())
            });
            let theirs = options.peers.iter().map(|peers| {
                let row = BBVOICE.iter().find(|row| row.0 == *peers);
                row.map(published)
            });
            Panel::Bars {
                title: title.into(),
                unit: "ms".into(),
                groups: options.peers.iter().map(|n| format!("{n} peers")).collect(),
                series: ours
                    .chain([("BBVoice, published".to_owned(), theirs.collect())])
                    .collect(),
            }
        };
    vec![
        bars(
            "Until the last existing peer receives the newcomer (native, median)",
            |s| &s.existing,
            |r| r.1,
        ),
        bars(
            "Until the newcomer receives everybody (native, median)",
            |s| &s.newcomer,
            |r| r.2,
        ),
    ]
}

/// One newcomer in a room of its own.
pub(crate) async fn experiment(
    policy: PolicyName,
    peers: u32,
    address: SocketAddr,
    mut rng: Rng,
    used: impl Fn() -> [f64; 2],
) -> Result<Sample, LabError> {
    let cannot = |error: ClientError| LabError::CannotRun(error.to_string());
    let mut host = Client::connect(address, rng.fork()).await.map_err(cannot)?;
    let room = host.create(Some(policy.policy())).await.map_err(cannot)?;
    let (over, watching) = watch::channel(false);
    let (first, mut met) = mpsc::unbounded_channel();
    let setup = Setup {
        address,
        room,
        name: "peer".into(),
        keyring: Keyring::default(),
        shape: Some(SLIDES),
        uplink_bps: 1_000_000_000,
        epoch: Instant::now(),
        window: 0..0,
        first,
        over: watching,
    };
    let before = peers.saturating_sub(1) as usize;
    let mut lives: Vec<JoinHandle<Tally>> = Vec::new();
    for _ in 0..before {
        let peer = Peer::arrive(setup.clone(), rng.fork()).await;
        lives.push(tokio::spawn(peer.map_err(cannot)?.live()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pairs = before * before.saturating_sub(1);
    let known = match receive(&mut met, pairs).await {
        Ok(known) => known,
        Err(error) => {
            let _ = over.send(true);
            return Err(why(error, lives).await);
        }
    };
    let known: BTreeSet<u16> = known.iter().map(|first| first.at).collect();
    let (began, idle) = (Instant::now(), used());
    tokio::time::sleep(SETTLE).await;
    let rate = 1.0 / began.elapsed().as_secs_f64();
    let background = grown(idle, used()).map(|seconds| seconds * rate);

    let newcomer = Peer::arrive(setup, rng.fork()).await.map_err(cannot)?;
    let (start, idle) = (Instant::now(), used());
    let newcomer = tokio::spawn(newcomer.live());
    let firsts = receive(&mut met, 2 * before).await?;
    let (took, grown) = (start.elapsed().as_secs_f64(), grown(idle, used()));
    let _ = over.send(true);
    let mut sample = Sample {
        processor: [0, 1].map(|n| (grown[n] - background[n] * took).max(0.0) * 1000.0),
        background,
        ..Sample::default()
    };
    for First { at, when, .. } in firsts {
        let ms = when.duration_since(start).as_secs_f64() * 1000.0;
        if known.contains(&at) {
            sample.existing.push(ms);
        } else {
            sample.newcomer.push(ms);
        }
    }
    let tally = timeout(PATIENCE, newcomer).await;
    let Ok(Ok(tally)) = tally else {
        return Err(LabError::CannotRun("the newcomer did not end".into()));
    };
    sample.answered = tally.answered.as_secs_f64() * 1000.0;
    let mut tallies = vec![tally];
    for life in lives {
        tallies.extend(timeout(PATIENCE, life).await.ok().and_then(Result::ok));
    }
    for tally in tallies {
        sample.wrong += tally.seen.wrong;
        sample.lost += tally.lost;
        sample.failures.extend(tally.failure);
        sample.failures.extend(tally.errors);
    }
    Ok(sample)
}

fn grown(before: [f64; 2], after: [f64; 2]) -> [f64; 2] {
    [after[0] - before[0], after[1] - before[1]]
}

/// What peers have to say when not all met all.
async fn why(error: LabError, lives: Vec<JoinHandle<Tally>>) -> LabError {
    let (mut unserved, mut lost, mut words) = (0, 0, None);
    for life in lives {
        if let Ok(Ok(tally)) = timeout(PATIENCE, life).await {
            unserved += tally.unserved.len();
            lost += tally.lost;
            let reason = tally.unserved.values().next().map(|r| format!("{r:?}"));
            words = words
                .or(tally.failure)
                .or(tally.errors.into_iter().next())
                .or(reason);
        }
    }
    let words = words.unwrap_or_default();
    LabError::CannotRun(format!(
        "{error}; {unserved} edges without a parent, {lost} links lost; {words}"
    ))
}

/// So many first frames.
async fn receive(
    met: &mut mpsc::UnboundedReceiver<First>,
    count: usize,
) -> Result<Vec<First>, LabError> {
    let mut firsts = Vec::new();
    let all = async {
        while firsts.len() < count
            && let Some(first) = met.recv().await
        {
            firsts.push(first);
        }
    };
    let _ = timeout(PATIENCE, all).await;
    if firsts.len() < count {
        let came = firsts.len();
        return Err(LabError::CannotRun(format!(
            "{came} of {count} first frames came within 60 s"
        )));
    }
    Ok(firsts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::served;

    async fn everybody_meets(policy: PolicyName) {
        let (address, _data) = served::start();
        let used = || [run_time(std::process::id()).expect("it runs"), 0.0];
        let sample = experiment(policy, 5, address, Rng::with_seed(7), used).await;
        let sample = sample.expect("it runs");
        assert_eq!((sample.existing.len(), sample.newcomer.len()), (4, 4));
        assert_eq!((sample.wrong, sample.lost), (0, 0));
        assert_eq!(sample.failures, Vec::<String>::new());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_newcomer_to_a_mesh_of_native_peers_meets_everybody() {
        everybody_meets(PolicyName::Mesh).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_newcomer_to_trees_of_native_peers_meets_everybody() {
        everybody_meets(PolicyName::Tree).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_newcomer_to_a_star_of_native_peers_meets_everybody() {
        everybody_meets(PolicyName::Relay).await;
    }
}
