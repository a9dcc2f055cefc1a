//! StreamSmart's star: one sends, and the relay hands it to everybody else. By RTP, as to browsers, it is the relay alone, with
//! the load of [`crate::forward`]. By QUIC it is the real server with native peers: frames are sealed, every one that arrives
//! is opened and compared with what was sent.
//!
//! Receivers send nothing. The server runs by itself and its processor time is the kernel's account of it; senders and
//! receivers share the machine with it, so delays include their own waiting for a processor.

use crate::client::{Client, ClientError};
use crate::forward::star::{MEDIA, Star};
use crate::limit::Limit;
use crate::native::media::{CAMERA, Keyring};
use crate::native::{First, Peer, Setup, Tally};
use crate::process::{Server, Usage, find_server};
use crate::report::{Measure, Report, quantile};
use crate::svg::Panel;
use crate::{Common, LabError};
use clap::{Args, ValueEnum};
use fastrand::Rng;
use grove_server::signal::message::Policy;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

/// More processors than a test machine has: nothing is limited, only accounted for.
const MEMORY: u64 = 4 << 30;
const CPUS: f64 = 64.0;
/// Published (Gaeta, Kosta, Stefa, Mei): processor of the root clone with 16 receivers, in percent of a core.
const STREAMSMART: f64 = 60.0;
const STREAMSMART_RECEIVERS: usize = 16;
/// Ours, for the same number, percent.
const GOAL: f64 = 3.0;
/// Everybody is to have had a frame by then.
const PATIENCE: Duration = Duration::from_secs(20);
/// Peers that are told to leave have so long.
const GOODBYE: Duration = Duration::from_secs(5);
/// What was captured last may take so long to arrive.
const TAIL: Duration = Duration::from_millis(700);

/// The command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How many receive.
    #[arg(long, value_delimiter = ',', default_values_t = [16])]
    pub receivers: Vec<usize>,
    /// How long is counted, seconds.
    #[arg(long, default_value_t = 15)]
    pub seconds: u64,
    /// What carries it.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [By::Rtp])]
    pub link: Vec<By>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// The kind of the links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// RTP, as to browsers: the relay's processor time.
    Rtp,
    /// QUIC, as to native peers: the whole server's.
    Quic,
}

/// One number of receivers by QUIC.
#[derive(Debug)]
pub(crate) struct Outcome {
    receivers: usize,
    /// Percent of a core.
    cpu: f64,
    rss: f64,
    idle_rss: f64,
    /// The sender first.
    pub(crate) tallies: Vec<Tally>,
}

/// Run it.
///
/// # Errors
/// When the server is not there or does not start, or nobody gets a frame.
pub fn run(options: &Options) -> Result<(Report, Vec<Panel>), LabError> {
    let mut report = Report::new("star");
    report.condition("seconds", options.seconds);
    report.condition("seed", options.common.seed);
    report.condition(
        "reference",
        "StreamSmart: root clone with 16 receivers, over 60 %",
    );
    let mut series = Vec::new();
    for &link in &options.link {
        let (title, cpu) = match link {
            By::Rtp => ("Grove by RTP, the relay", by_rtp(options, &mut report)?),
            By::Quic => (
                "Grove by QUIC, the whole server",
                by_quic(options, &mut report)?,
            ),
        };
        series.push((title.into(), cpu.into_iter().map(Some).collect()));
    }
    let receivers = options.receivers.iter();
    let published = receivers.map(|&n| (n == STREAMSMART_RECEIVERS).then_some(STREAMSMART));
    series.push(("StreamSmart, published".into(), published.collect()));
    let groups = options.receivers.iter();
    let panel = Panel::Bars {
        title: "Processor of the root of a star".into(),
        unit: "% of a core".into(),
        groups: groups.map(|n| format!("{n} receivers")).collect(),
        series,
    };
    Ok((report, vec![panel]))
}

/// Percent of a core, by number of receivers.
fn by_rtp(options: &Options, report: &mut Report) -> Result<Vec<f64>, LabError> {
    report.condition("rtp_media", MEDIA);
    let mut cpu = Vec::new();
    for &receivers in &options.receivers {
        let star = Star::run(receivers, options.seconds)?;
        let (measure, more) = (
            root_cpu(receivers, "rtp_relay", star.cpu()),
            star.measures(),
        );
        report.measures.extend([measure].into_iter().chain(more));
        cpu.push(star.cpu());
    }
    Ok(cpu)
}

fn by_quic(options: &Options, report: &mut Report) -> Result<Vec<f64>, LabError> {
    let binary = find_server(options.common.grove.clone())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| LabError::CannotRun(e.to_string()))?;
    report.condition(
        "quic_media",
        "30 pictures/s in two layers (150 and 600 kbit/s), 50 packets of sound/s",
    );
    report.condition("quic", "every frame sealed, opened and compared");
    let mut cpu = Vec::new();
    for &receivers in &options.receivers {
        let limit = Limit::set(CPUS, MEMORY);
        report.condition("limit", limit.how.as_str());
        let server = Server::start(&binary, &limit)?;
        let outcome =
            runtime.block_on(star(receivers, options, server.address, || server.usage()))?;
        report.measures.extend(measures(&outcome, options.seconds));
        if let Some(failure) = outcome.tallies.iter().find_map(|t| t.failure.as_ref()) {
            report.condition("first_failure", failure.as_str());
        }
        cpu.push(outcome.cpu);
    }
    Ok(cpu)
}

/// Beside what was published, where that is for as many receivers.
fn root_cpu(receivers: usize, of: &str, percent: f64) -> Measure {
    let published = receivers == STREAMSMART_RECEIVERS;
    Measure::new(format!("{receivers}_{of}_cpu"), "%", percent)
        .reference(published.then_some(STREAMSMART))
        .goal(published.then_some(GOAL))
}

/// What was sent and what came of it: sound, pictures of the upper layer.
pub(crate) fn counts(outcome: &Outcome) -> [(&'static str, usize, usize); 2] {
    let (sender, receivers) = outcome
        .tallies
        .split_first()
        .expect("the sender has a tally");
    let top = CAMERA.layers.len() as u8 - 1;
    let sounds = receivers.iter().map(|tally| tally.seen.sound_ms.len());
    let pictures = receivers
        .iter()
        .map(|tally| tally.seen.picture_ms.get(&top).map_or(0, Vec::len));
    [
        ("sound", sender.sounds * receivers.len(), sounds.sum()),
        (
            "pictures",
            sender.pictures * receivers.len(),
            pictures.sum(),
        ),
    ]
}

fn measures(outcome: &Outcome, seconds: u64) -> Vec<Measure> {
    let n = outcome.receivers;
    let named =
        |name: &str, unit: &str, value: f64| Measure::new(format!("{n}_quic_{name}"), unit, value);
    let mut measures = vec![root_cpu(n, "quic_server", outcome.cpu)];
    let mut forwarded = 0;
    for (name, sent, came) in counts(outcome) {
        forwarded += came;
        let lost = 100.0 * (1.0 - came as f64 / sent.max(1) as f64);
        measures.push(named(&format!("{name}_lost"), "%", lost).goal(Some(0.0)));
    }
    let per_frame = outcome.cpu / 100.0 * seconds as f64 * 1e6 / forwarded.max(1) as f64;
    measures.push(named("server_cpu_per_forwarded_frame", "us", per_frame));
    let each = (outcome.rss - outcome.idle_rss) / n.max(1) as f64;
    measures.push(named("server_memory_per_receiver", "bytes", each).goal(Some(102_400.0)));
    let receivers = &outcome.tallies[1..];
    let wrong: u64 = receivers.iter().map(|tally| tally.seen.wrong).sum();
    measures.push(named("frames_that_did_not_open", "1", wrong as f64).goal(Some(0.0)));
    let opened: u64 = receivers.iter().map(|tally| tally.seen.opened).sum();
    measures.push(named("frames_opened", "1", opened as f64).higher());
    let sound = receivers.iter().flat_map(|tally| &tally.seen.sound_ms);
    let pictures = receivers
        .iter()
        .flat_map(|tally| tally.seen.picture_ms.values().flatten());
    for (name, delays) in [
        ("sound", sound.copied().collect::<Vec<_>>()),
        ("picture", pictures.copied().collect()),
    ] {
        for (suffix, q) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            if let Some(value) = quantile(&delays, q) {
                measures.push(named(&format!("{name}_delay_{suffix}"), "ms", value));
            }
        }
    }
    measures
}

pub(crate) async fn star(
    receivers: usize,
    options: &Options,
    address: SocketAddr,
    usage: impl Fn() -> Option<Usage>,
) -> Result<Outcome, LabError> {
    let cannot = |error: ClientError| LabError::CannotRun(error.to_string());
    let mut rng = Rng::with_seed(options.common.seed);
    let mut host = Client::connect(address, rng.fork()).await.map_err(cannot)?;
    let room = host.create(Some(Policy::Relay)).await.map_err(cannot)?;
    let idle = usage();
    let (over, watching) = watch::channel(false);
    let (first, mut met) = mpsc::unbounded_channel();
    // Counting begins by the clock, when everybody is sure to be there.
    let begin = Duration::from_secs(3) + Duration::from_millis(60) * receivers as u32;
    let end = begin + Duration::from_secs(options.seconds);
    let epoch = Instant::now();
    let mut setup = Setup {
        address,
        room,
        name: "sender".into(),
        keyring: Keyring::default(),
        shape: Some(CAMERA),
        uplink_bps: 20_000_000,
        epoch,
        window: begin.as_micros() as u64..end.as_micros() as u64,
        first,
        over: watching,
    };
    let mut peers = Vec::new();
    for n in 0..=receivers {
        let peer = Peer::arrive(setup.clone(), rng.fork()).await;
        peers.push(tokio::spawn(peer.map_err(cannot)?.live()));
        if n == 0 {
            // The sender has the lowest number: whoever comes later only watches.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        setup.shape = None;
        setup.name = format!("receiver-{}", n + 1);
    }
    drop(setup);
    all_met(&mut met, receivers).await?;
    if epoch.elapsed() > begin {
        return Err(LabError::CannotRun("the receivers came too slowly".into()));
    }
    tokio::time::sleep_until(epoch + begin).await;
    let before = usage();
    let bar = crate::progress(options.seconds);
    for second in 0..options.seconds {
        tokio::time::sleep_until(epoch + begin + Duration::from_secs(second + 1)).await;
        bar.set_position(second + 1);
    }
    let after = usage();
    bar.finish_and_clear();
    tokio::time::sleep(TAIL).await;
    let _ = over.send(true);
    let mut tallies = Vec::new();
    for peer in peers {
        if let Ok(Ok(tally)) = timeout(GOODBYE, peer).await {
            tallies.push(tally);
        }
    }
    let (Some(before), Some(after), Some(idle)) = (before, after, idle) else {
        return Err(LabError::CannotRun("the server ended".into()));
    };
    let cpu = 100.0 * (after.cpu_seconds - before.cpu_seconds) / options.seconds as f64;
    Ok(Outcome {
        receivers,
        cpu,
        rss: after.rss as f64,
        idle_rss: idle.rss as f64,
        tallies,
    })
}

/// Until so many had their first frame.
async fn all_met(
    met: &mut mpsc::UnboundedReceiver<First>,
    receivers: usize,
) -> Result<(), LabError> {
    let all = async {
        for _ in 0..receivers {
            if met.recv().await.is_none() {
                return false;
            }
        }
        true
    };
    match timeout(PATIENCE, all).await {
        Ok(true) => Ok(()),
        _ => Err(LabError::CannotRun(
            "not every receiver got a frame within 20 s".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::served;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_receiver_of_a_star_opens_every_frame() {
        let (address, _data) = served::start();
        let Line { options } = Line::parse_from(["star", "--seconds", "1"]);
        let usage = || Usage::of(std::process::id());
        let outcome = star(3, &options, address, usage).await;
        let outcome = outcome.expect("it runs");
        for (name, sent, came) in counts(&outcome) {
            assert!(sent > 3 * 20, "{name}: {sent}");
            assert_eq!(came, sent, "{name}");
        }
        for tally in &outcome.tallies {
            assert_eq!(
                (&tally.failure, tally.seen.wrong, tally.lost),
                (&None, 0, 0)
            );
            assert_eq!(tally.errors, Vec::<String>::new());
        }
    }
}
