//! Many small rooms at once, as one small machine must carry them: signalling clients that link, report, chat and come
//! and go, against the real server under one processor and 512 MB (the machine BBVoice's server ran on).

use crate::client::{Client, ClientError};
use crate::limit::Limit;
use crate::process::{Server, Usage, find_server};
use crate::report::{Measure, Report, quantile};
use crate::svg::Panel;
use crate::{Common, LabError};
use clap::Args;
use fastrand::Rng;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

const MEMORY: u64 = 512 << 20;

/// The command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Rooms at once.
    #[arg(long, default_value_t = 50)]
    rooms: u32,
    /// Clients in each.
    #[arg(long, default_value_t = 4)]
    clients: u32,
    /// How long the load lasts once everybody is in.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Each client leaves and comes back about this often, seconds.
    #[arg(long, default_value_t = 20)]
    stay: u64,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What the clients saw.
#[derive(Debug, Clone, Default)]
struct Seen {
    joins_ms: Vec<f64>,
    chat_ms: Vec<f64>,
    failures: Vec<String>,
    errors: Vec<String>,
}

/// Run it.
///
/// # Errors
/// When the server is not there or does not start.
pub fn run(options: &Options) -> Result<(Report, Vec<Panel>), LabError> {
    let binary = find_server(options.common.grove.clone())?;
    let limit = Limit::set(1.0, MEMORY);
    let mut server = Server::start(&binary, &limit)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| LabError::CannotRun(e.to_string()))?;
    let idle = server.usage();
    let (seen, usages) = runtime.block_on(load(options, &server));
    let survived = server.is_running();

    let mut report = Report::new("rooms");
    report.condition("rooms", options.rooms);
    report.condition("clients_per_room", options.clients);
    report.condition("seconds", options.seconds);
    report.condition("stay_seconds", options.stay);
    report.condition("seed", options.common.seed);
    report.condition("limit", limit.how.as_str());
    report.condition("limit_enforced", limit.enforced);
    report.condition("server_survived", survived);
    let first_words = |list: &[String]| list.iter().take(5).cloned().collect::<Vec<_>>();
    if !seen.failures.is_empty() {
        report.condition("first_failures", first_words(&seen.failures));
    }
    if !seen.errors.is_empty() {
        report.condition("first_errors", first_words(&seen.errors));
    }
    let count = |name: &str, n: usize| Measure::new(name, "1", n as f64);
    report
        .measures
        .push(count("joins", seen.joins_ms.len()).higher());
    report
        .measures
        .push(count("clients_that_failed", seen.failures.len()).goal(Some(0.0)));
    report
        .measures
        .push(count("errors_from_the_server", seen.errors.len()).goal(Some(0.0)));
    for (name, samples) in [("join", &seen.joins_ms), ("chat_round_trip", &seen.chat_ms)] {
        for (suffix, q) in [("p50", 0.5), ("p95", 0.95)] {
            if let Some(value) = quantile(samples, q) {
                report
                    .measures
                    .push(Measure::new(format!("{name}_{suffix}"), "ms", value));
            }
        }
    }
    if let (Some((t0, first)), Some((t1, last))) = (usages.first(), usages.last()) {
        let cores = (last.cpu_seconds - first.cpu_seconds) / (t1 - t0).max(0.001);
        report
            .measures
            .push(Measure::new("server_cpu", "cores", cores).goal(Some(1.0)));
        report.measures.push(
            Measure::new("server_peak_rss", "bytes", last.peak_rss as f64)
                .goal(Some(MEMORY as f64)),
        );
    }
    if let Some(idle) = idle {
        report
            .measures
            .push(Measure::new("server_idle_rss", "bytes", idle.rss as f64).goal(Some(80e6)));
    }
    drop(server);
    drop(limit);
    Ok((report, vec![panel(&usages)]))
}

fn panel(usages: &[(f64, Usage)]) -> Panel {
    let cpu = usages.windows(2).map(|w| {
        let ((t0, a), (t1, b)) = (w[0], w[1]);
        (
            t1,
            100.0 * (b.cpu_seconds - a.cpu_seconds) / (t1 - t0).max(0.001),
        )
    });
    let rss = usages
        .iter()
        .map(|(t, u)| (*t, u.rss as f64 / f64::from(1 << 20)));
    Panel::Lines {
        title: "The server under load".into(),
        unit: "% / MB".into(),
        series: vec![
            ("CPU, % of one processor".into(), cpu.collect()),
            ("memory, MB".into(), rss.collect()),
        ],
        marks: Vec::new(),
    }
}

/// All clients, and a look at the server each second.
async fn load(options: &Options, server: &Server) -> (Seen, Vec<(f64, Usage)>) {
    let mut rng = Rng::with_seed(options.common.seed);
    let (results, mut collected) = mpsc::unbounded_channel();
    let (stop, stopped) = watch::channel(false);
    let bar = crate::progress(options.seconds);
    for _ in 0..options.rooms {
        let (room, known) = watch::channel(None);
        for n in 0..options.clients {
            let member = Member {
                address: server.address,
                name: format!("load-{n}"),
                rng: rng.fork(),
                stay: options.stay,
                room: known.clone(),
                stopped: stopped.clone(),
            };
            let creates = (n == 0).then(|| room.clone());
            let results = results.clone();
            tokio::spawn(async move {
                let _ = results.send(member.live(creates).await);
            });
        }
    }
    drop(results);
    let mut usages = Vec::new();
    let start = Instant::now();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while start.elapsed() < Duration::from_secs(options.seconds) {
        second.tick().await;
        if let Some(usage) = server.usage() {
            usages.push((start.elapsed().as_secs_f64(), usage));
        }
        bar.set_position(start.elapsed().as_secs());
    }
    let _ = stop.send(true);
    let mut seen = Seen::default();
    while let Ok(Some(one)) = timeout(Duration::from_secs(10), collected.recv()).await {
        seen.joins_ms.extend(one.joins_ms);
        seen.chat_ms.extend(one.chat_ms);
        seen.failures.extend(one.failures);
        seen.errors.extend(one.errors);
    }
    bar.finish_and_clear();
    (seen, usages)
}

/// One client that comes and goes.
struct Member {
    address: SocketAddr,
    name: String,
    rng: Rng,
    stay: u64,
    room: watch::Receiver<Option<String>>,
    stopped: watch::Receiver<bool>,
}

impl Member {
    async fn live(mut self, creates: Option<watch::Sender<Option<String>>>) -> Seen {
        let mut seen = Seen::default();
        // Everybody within the first two seconds: a rush, not one instant.
        tokio::time::sleep(Duration::from_millis(self.rng.u64(0..2000))).await;
        let mut creates = creates;
        while !*self.stopped.borrow() {
            if let Err(error) = self.stay_once(creates.take(), &mut seen).await {
                seen.failures.push(error.to_string());
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        seen
    }

    /// Join, stay, leave.
    async fn stay_once(
        &mut self,
        creates: Option<watch::Sender<Option<String>>>,
        seen: &mut Seen,
    ) -> Result<(), ClientError> {
        let mut client = Client::connect(self.address, self.rng.fork()).await?;
        if let Some(room) = creates {
            let _ = room.send(Some(client.create(None).await?));
        }
        let room = match timeout(Duration::from_secs(10), self.room.wait_for(Option::is_some)).await
        {
            Ok(Ok(room)) => room.clone().unwrap_or_default(),
            _ => return Err(ClientError::Refused("nobody made the room".into())),
        };
        let before = Instant::now();
        client.join(&room, &self.name).await?;
        seen.joins_ms.push(before.elapsed().as_secs_f64() * 1000.0);

        let stay = Duration::from_secs_f64(self.stay as f64 * (0.5 + self.rng.f64()));
        let end = Instant::now() + stay;
        let mut reports = interval(Duration::from_secs(1));
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said: Option<(String, Instant)> = None;
        let outcome = loop {
            tokio::select! {
                _ = self.stopped.changed() => break Ok(()),
                () = tokio::time::sleep_until(end) => break Ok(()),
                _ = reports.tick() => {
                    if let Err(error) = client.report().await {
                        break Err(error);
                    }
                    // A line about every ten seconds.
                    if said.is_none() && self.rng.u8(0..10) == 0 {
                        let at = Instant::now();
                        match client.chat().await {
                            Ok(body) => said = Some((body, at)),
                            Err(error) => break Err(error),
                        }
                    }
                }
                message = client.receive() => {
                    let handled = match message {
                        Ok(message) => client.handle(message).await,
                        Err(error) => Err(error),
                    };
                    match handled {
                        Ok(Some(body)) => {
                            if let Some((_, at)) = said.take_if(|(own, _)| *own == body) {
                                seen.chat_ms.push(at.elapsed().as_secs_f64() * 1000.0);
                            }
                        }
                        Ok(None) => {}
                        Err(error) => break Err(error),
                    }
                }
            }
        };
        seen.errors.append(&mut client.errors);
        outcome?;
        client.leave().await
    }
}
