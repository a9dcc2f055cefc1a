//! A call that goes through the relay as a whole: native clients send sealed frames' headers and sizes as browsers would,
//! the relay of the real server forwards them, and the receivers measure when they came.
//!
//! Everybody sends two layers of 30 pictures a second and 50 packets of sound, and gets the higher layer and the sound of
//! everybody else. Clients and server share the machine: delays include the clients' own waiting for a processor.

use crate::client::{Client, ClientError};
use crate::limit::Limit;
use crate::narrow::Narrow;
use crate::process::{Server, find_server};
use crate::report::{Measure, Report, quantile};
use crate::svg::Panel;
use crate::{Common, LabError};
use clap::Args;
use fastrand::Rng;
use futures_util::{SinkExt, StreamExt};
use grove_frame::{Header, Kind};
use grove_server::relay::ws::SUBPROTOCOL;
use grove_server::signal::message::{Policy, RelayLink};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

const MEMORY: u64 = 512 << 20;
/// Before anything is counted: links, key frames, queues.
const SETTLE: Duration = Duration::from_secs(4);
/// Bytes of a picture per layer and of a packet of sound: 150 and 600 kbit/s at 30 pictures, 32 kbit/s at 50 packets.
const PICTURE: [usize; 2] = [625, 2500];
const SOUND: usize = 80;

/// The command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// People in the call.
    #[arg(long, default_value_t = 6)]
    clients: usize,
    /// The last of them reads only so many bit/s of its link to the relay.
    #[arg(long, value_name = "BPS")]
    narrow: Option<u32>,
    /// How long is counted.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    #[command(flatten)]
    pub(crate) common: Common,
}

type Socket = WebSocketStream<Narrow>;

/// What one client saw while it was counted.
#[derive(Debug, Default)]
struct Seen {
    sound_ms: Vec<f64>,
    picture_ms: Vec<f64>,
    sounds_sent: usize,
    failure: Option<String>,
}

/// Run it.
///
/// # Errors
/// When the server is not there or does not start.
pub fn run(options: &Options) -> Result<(Report, Vec<Panel>), LabError> {
    let binary = find_server(options.common.grove.clone())?;
    let limit = Limit::set(1.0, MEMORY);
    let server = Server::start(&binary, &limit)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| LabError::CannotRun(e.to_string()))?;
    let (seen, cpu) = runtime.block_on(call(options, &server))?;

    let mut report = Report::new("relay-call");
    report.condition("clients", options.clients);
    report.condition("seconds", options.seconds);
    report.condition("limit", limit.how.as_str());
    report.condition("limit_enforced", limit.enforced);
    let failures: Vec<&String> = seen.iter().filter_map(|one| one.failure.as_ref()).collect();
    if let Some(first) = failures.first() {
        report.condition("first_failure", first.as_str());
    }
    let measure = |name: &str, unit: &str, value| Measure::new(name, unit, value);
    report
        .measures
        .push(measure("clients_that_failed", "1", failures.len() as f64).goal(Some(0.0)));
    // Behind a narrow link it is another story, told by itself.
    let wide = options.clients - usize::from(options.narrow.is_some());
    let all = |pick: fn(&Seen) -> &Vec<f64>| -> Vec<f64> {
        seen.iter().take(wide).flat_map(pick).copied().collect()
    };
    let (sound, picture) = (all(|one| &one.sound_ms), all(|one| &one.picture_ms));
    let sent: usize = seen.iter().map(|one| one.sounds_sent).sum();
    // Everybody's sound goes to everybody else.
    let each = sent / options.clients.max(1) * options.clients.saturating_sub(1);
    let expected = each * wide;
    let forwarded = sound.len() + picture.len();
    let seconds = options.seconds as f64;
    report.measures.push(
        measure(
            "sound_that_came",
            "%",
            100.0 * sound.len() as f64 / expected.max(1) as f64,
        )
        .higher(),
    );
    report
        .measures
        .push(measure("frames_forwarded", "1/s", forwarded as f64 / seconds).higher());
    let mut groups = vec![("sound", &sound), ("picture", &picture)];
    if let Some(last) = seen.last().filter(|_| options.narrow.is_some()) {
        report.condition("narrow_bps", options.narrow);
        let came = 100.0 * last.sound_ms.len() as f64 / each.max(1) as f64;
        report
            .measures
            .push(measure("narrow_sound_that_came", "%", came).higher());
        groups.push(("narrow_sound", &last.sound_ms));
        groups.push(("narrow_picture", &last.picture_ms));
    }
    for (name, samples) in groups {
        for (suffix, q) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            if let Some(value) = quantile(samples, q) {
                report
                    .measures
                    .push(measure(&format!("{name}_delay_{suffix}"), "ms", value));
            }
        }
    }
    report
        .measures
        .push(measure("server_cpu", "cores", cpu / seconds));
    if forwarded > 0 {
        let each = cpu * 1e6 / forwarded as f64;
        report
            .measures
            .push(measure("server_cpu_per_forwarded_frame", "us", each));
    }
    Ok((report, Vec::new()))
}

/// When frames are sent, and when they count.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Settling,
    Counting,
    Over,
}

/// What the clients saw, and the processor time that the server took meanwhile, seconds.
async fn call(options: &Options, server: &Server) -> Result<(Vec<Seen>, f64), LabError> {
    let cannot = |error: ClientError| LabError::CannotRun(error.to_string());
    let mut rng = Rng::with_seed(options.common.seed);
    let mut host = Client::connect(server.address, rng.fork())
        .await
        .map_err(cannot)?;
    let room = host.create(Some(Policy::Relay)).await.map_err(cannot)?;
    let (phase, _) = watch::channel(Phase::Settling);
    let epoch = Instant::now();
    let mut members = Vec::new();
    for n in 0..options.clients {
        let member = Member {
            address: server.address,
            room: room.clone(),
            name: format!("caller-{n}"),
            epoch,
            phase: phase.subscribe(),
            narrow: options.narrow.filter(|_| n + 1 == options.clients),
            seen: Seen::default(),
        };
        members.push(tokio::spawn(member.live(rng.fork())));
        // Cameras do not start at one instant: pictures of all would stand before each other at every tick.
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    tokio::time::sleep(SETTLE).await;
    let before = server.usage();
    let _ = phase.send(Phase::Counting);
    let bar = crate::progress(options.seconds);
    for second in 0..options.seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bar.set_position(second + 1);
    }
    let after = server.usage();
    let _ = phase.send(Phase::Over);
    bar.finish_and_clear();
    let mut seen = Vec::new();
    for member in members {
        if let Ok(Ok(one)) = timeout(Duration::from_secs(5), member).await {
            seen.push(one);
        }
    }
    let cpu = before.zip(after).map_or(0.0, |(before, after)| {
        after.cpu_seconds - before.cpu_seconds
    });
    Ok((seen, cpu))
}

struct Member {
    address: SocketAddr,
    room: String,
    name: String,
    epoch: Instant,
    phase: watch::Receiver<Phase>,
    narrow: Option<u32>,
    seen: Seen,
}

impl Member {
    async fn live(mut self, rng: Rng) -> Seen {
        if let Err(error) = self.take_part(rng).await {
            self.seen.failure = Some(error.to_string());
        }
        self.seen
    }

    async fn take_part(&mut self, rng: Rng) -> Result<(), ClientError> {
        let mut client = Client::connect(self.address, rng).await?;
        client.join(&self.room, &self.name).await?;
        let mut link: Option<Socket> = None;
        let mut sender = Sender::default();
        let ticks = |millis| {
            let mut ticks = interval(Duration::from_millis(millis));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            ticks
        };
        let (mut sounds, mut pictures, mut beats) = (ticks(20), ticks(33), ticks(250));
        let mut reports = ticks(1000);
        loop {
            if let Some(order) = client.relay.take() {
                link = Some(open(self.address, &order, self.narrow).await?);
            }
            if let Some(socket) = &mut link {
                for stream in std::mem::take(&mut client.moved) {
                    let stream = u32::from(stream.node) * 16 + u32::from(stream.stream);
                    let take = json!({ "t": "take", "s": stream, "have": [] });
                    socket.send(Message::text(take.to_string())).await?;
                }
            }
            let phase = *self.phase.borrow();
            if phase == Phase::Over {
                return Ok(());
            }
            let now = self.epoch.elapsed().as_micros() as u64;
            tokio::select! {
                message = client.receive() => { client.handle(message?).await?; }
                message = next(&mut link) => match message? {
                    Message::Binary(frame) if phase == Phase::Counting => self.came(&frame),
                    Message::Text(text) => sender.hear(&text),
                    _ => {}
                },
                _ = reports.tick() => client.report().await?,
                _ = self.phase.changed() => {}
                _ = beats.tick() => sender.beat(&mut link).await?,
                _ = sounds.tick() => {
                    self.seen.sounds_sent += usize::from(phase == Phase::Counting);
                    sender.sound(&mut link, client.node, now).await?;
                }
                _ = pictures.tick() => sender.picture(&mut link, client.node, now).await?,
            }
        }
    }

    fn came(&mut self, frame: &[u8]) {
        let Some(header) = Header::decode(frame) else {
            return;
        };
        let now = self.epoch.elapsed().as_micros() as u64;
        let delay = now.saturating_sub(header.capture_us) as f64 / 1000.0;
        match header.kind {
            Kind::Audio { .. } => self.seen.sound_ms.push(delay),
            _ => self.seen.picture_ms.push(delay),
        }
    }
}

/// The next message on the link; never, while there is none.
async fn next(link: &mut Option<Socket>) -> Result<Message, ClientError> {
    let Some(socket) = link else {
        return std::future::pending().await;
    };
    match socket.next().await {
        Some(Ok(Message::Close(frame))) => {
            let why = frame.map_or_else(String::new, |frame| frame.reason.to_string());
            Err(ClientError::Closed(why))
        }
        Some(message) => Ok(message?),
        None => Err(ClientError::Closed("without a word".into())),
    }
}

/// Opens a link to the relay.
async fn open(
    address: SocketAddr,
    order: &RelayLink,
    narrow: Option<u32>,
) -> Result<Socket, ClientError> {
    let mut request = format!("ws://{address}/api/v1/relay").into_client_request()?;
    let header = |value: &str| value.parse().expect("the header is made of ASCII");
    let headers = request.headers_mut();
    headers.insert("Origin", header(&format!("http://{address}")));
    headers.insert("Sec-WebSocket-Protocol", header(SUBPROTOCOL));
    let stream = Narrow::connect(address, narrow)
        .await
        .map_err(tokio_tungstenite::tungstenite::Error::Io)?;
    let (mut socket, _) = client_async(request, stream).await?;
    let hello = json!({ "t": "hello", "token": order.token });
    socket.send(Message::text(hello.to_string())).await?;
    let mut link = Some(socket);
    let welcome: Value = serde_json::from_str(next(&mut link).await?.to_text()?)?;
    match (&welcome["t"], link) {
        (Value::String(word), Some(socket)) if word == "welcome" => Ok(socket),
        _ => Err(ClientError::Refused("no welcome".into())),
    }
}

/// Counters of what one client sends.
#[derive(Debug)]
struct Sender {
    pictures: u32,
    sounds: u32,
    beats: u32,
    frames: u32,
    /// A key frame is due.
    key: bool,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            pictures: 0,
            sounds: 0,
            beats: 0,
            frames: 0,
            key: true,
        }
    }
}

impl Sender {
    fn hear(&mut self, text: &str) {
        let message: Option<Value> = serde_json::from_str(text).ok();
        self.key |= message.is_some_and(|message| message["t"] == "key");
    }

    async fn beat(&mut self, link: &mut Option<Socket>) -> Result<(), ClientError> {
        let Some(socket) = link else { return Ok(()) };
        self.beats += 1;
        let beat = json!({ "t": "hb", "n": self.beats, "f": self.frames });
        Ok(socket.send(Message::text(beat.to_string())).await?)
    }

    async fn sound(
        &mut self,
        link: &mut Option<Socket>,
        node: u16,
        now: u64,
    ) -> Result<(), ClientError> {
        let (number, kind) = (self.sounds, Kind::Audio { level: 40 });
        self.sounds += 1;
        self.send(link, node, (number, 0, kind), now, SOUND).await
    }

    async fn picture(
        &mut self,
        link: &mut Option<Socket>,
        node: u16,
        now: u64,
    ) -> Result<(), ClientError> {
        if link.is_none() {
            return Ok(());
        }
        let kind = if std::mem::take(&mut self.key) {
            let (width, height) = (640, 360);
            Kind::Key { width, height }
        } else {
            let (farthest, nearest) = (1, 1);
            Kind::Delta { farthest, nearest }
        };
        let number = self.pictures;
        self.pictures += 1;
        for (layer, bytes) in (0..).zip(PICTURE) {
            self.send(link, node, (number, layer, kind), now, bytes)
                .await?;
        }
        Ok(())
    }

    async fn send(
        &mut self,
        link: &mut Option<Socket>,
        sender: u16,
        (number, spatial, kind): (u32, u8, Kind),
        capture_us: u64,
        bytes: usize,
    ) -> Result<(), ClientError> {
        let Some(socket) = link else { return Ok(()) };
        let header = Header {
            kind,
            spatial,
            temporal: 0,
            number,
            capture_us,
            sender,
            stream: 0,
            track: u8::from(!matches!(kind, Kind::Audio { .. })),
            generation: 1,
            droppable: false,
            rotation: 0,
        };
        let mut frame = header
            .encode()
            .expect("the fields are within their ranges")
            .to_vec();
        frame.resize(bytes, 0x5a);
        self.frames += 1;
        Ok(socket.send(Message::binary(frame)).await?)
    }
}
