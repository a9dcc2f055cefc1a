//! The load, in a process of its own: a publisher for each room on a thread of its own, N receivers of each on another, all
//! with their own sockets. Says on standard output when the counted time begins and ends, and at last what came.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use str0m::media::MediaKind;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::flood::{Fault, Flood, Tap};
use super::floor::{Place, Plan};
use super::janus::Gateway;
use super::peer::{Arrivals, Came, Peer};
use super::relay::{self, Orders};
use super::shape::{self, Shape, TAG};
use super::tally::{Count, Sent, Tally};
use super::{BEGIN, END, Subject};

/// After everybody is connected: estimates rise, caches fill.
const WARM_UP: Duration = Duration::from_secs(3);
/// What was sent last may take so long, repairs included.
const TAIL: Duration = Duration::from_millis(700);
/// A peer has so long to connect.
const PATIENCE: Duration = Duration::from_secs(30);
/// Handshakes at a time.
const HANDSHAKES: usize = 8;
/// How often peers are looked at that wait for something else.
const LOOK: Duration = Duration::from_millis(150);
/// A peer says that it is there as Grove's client does: where for so long nothing went and nothing came,
const BEAT: Duration = Duration::from_millis(150);
/// and at least so often.
const PROBE: Duration = Duration::from_secs(1);
/// What an edge may carry, beside what the stream takes: nothing is to be left out for want of it.
const RATE_FACTOR: f64 = 2.0;
/// The publisher's number in its room; receivers follow.
const PUBLISHER: u16 = 1;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub subject: Subject,
    pub shape: Shape,
    pub receivers: usize,
    pub fault: Option<Fault>,
    pub seconds: u64,
    /// The machine's address on which everything runs.
    pub address: IpAddr,
    /// Where the server takes its orders.
    pub control: SocketAddr,
    /// Rooms of that shape.
    pub rooms: u16,
}

/// Whom the peers speak to.
#[derive(Debug, Clone)]
enum Server {
    Floor { at: SocketAddr },
    Grove(Arc<Orders>),
    Janus(Arc<Gateway>),
}

/// One clock for everybody.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn micros(self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

/// Runs the load and prints what came.
pub(crate) fn run(task: &Task) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let count = runtime.block_on(call(task))?;
    println!("{}", serde_json::to_string(&count)?);
    Ok(())
}

async fn call(task: &Task) -> Result<Count, Failure> {
    let clock = Clock(Instant::now());
    let arrivals = Arc::<Arrivals>::default();
    let (over, ending) = watch::channel(false);
    let n = task.receivers;
    let mut sockets = Vec::new();
    let server = match task.subject {
        Subject::FloorSingle | Subject::FloorGso => {
            for _ in 0..n {
                sockets.push(UdpSocket::bind((task.address, 0)).await?);
            }
            let receivers = sockets.iter().map(UdpSocket::local_addr);
            let plan = Plan {
                address: task.address,
                receivers: receivers.collect::<Result<_, _>>()?,
                packets: task.shape.packets(),
                gso: task.subject == Subject::FloorGso,
            };
            let at = tell_floor(task.control, &plan).await?;
            Server::Floor { at }
        }
        Subject::Grove => Server::Grove(Arc::new(Orders::connect(task.control).await?)),
        Subject::Janus => {
            let gateway = Gateway::connect(task.control, task.shape.is_audio()).await?;
            Server::Janus(Arc::new(gateway))
        }
    };

    let tap = task.fault.map(|_| Arc::<Tap>::default());
    let mut publishers = Vec::new();
    for room in 0..task.rooms {
        let (up, is_up) = oneshot::channel();
        let (task, server, ending) = (task.clone(), server.clone(), ending.clone());
        let tap = tap.clone();
        let publisher = std::thread::spawn(move || -> Result<Vec<Sent>, Failure> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(publish(&task, room, &server, clock, (up, ending), tap))
        });
        // A publisher that fails drops its end; the reason is known when its thread is joined.
        if is_up.await.is_err() {
            return Err(joined(publisher)?.err().unwrap_or("no publisher".into()));
        }
        publishers.push(publisher);
    }

    let (begun, beginning) = watch::channel(false);
    let mut receiving = JoinSet::new();
    if let Server::Floor { .. } = server {
        for socket in sockets {
            receiving.spawn(receive_plainly(
                socket,
                Arc::clone(&arrivals),
                clock,
                ending.clone(),
            ));
        }
    } else {
        let mut connecting = JoinSet::new();
        let turns = Arc::new(Semaphore::new(HANDSHAKES));
        let all = (0..task.rooms).flat_map(|room| receivers(room, n));
        for (room, number) in all {
            let (task, server, turns) = (task.clone(), server.clone(), Arc::clone(&turns));
            let (arrivals, mut ending) = (Arc::clone(&arrivals), ending.clone());
            let last = relay::peer(room, PUBLISHER + n as u16);
            let deaf = task.fault == Some(Fault::Deaf) && number == last;
            let deaf = deaf.then(|| beginning.clone());
            let (up, is_up) = oneshot::channel();
            receiving.spawn(async move {
                let turn = turns.acquire_owned().await?;
                let mut peer =
                    timeout(PATIENCE, subscribe(&task, &server, number, &arrivals)).await??;
                drop(turn);
                let _ = up.send(());
                let reading = deaf.as_ref().unwrap_or(&ending).clone();
                let tally = receive(&mut peer, &server, task.shape, clock, reading).await?;
                // The socket stays open.
                ending.wait_for(|&over| over).await?;
                Ok(deaf.is_none().then_some((room, tally)))
            });
            connecting.spawn(is_up);
        }
        while let Some(connected) = connecting.join_next().await {
            if connected?.is_err() {
                // One of the receivers has failed, and says why.
                while let Some(one) = receiving.join_next().await {
                    one??;
                }
            }
        }
    }
    if let Server::Grove(orders) = &server {
        let rate = (task.shape.bps() as f64 * RATE_FACTOR) as u64;
        let audio = task.shape.is_audio();
        for room in 0..task.rooms {
            let mut children: Vec<u16> = receivers(room, n).map(|(_, peer)| peer).collect();
            if task.fault == Some(Fault::Stuck) {
                let peer = relay::peer(room, PUBLISHER + 1 + n as u16);
                orders.stuck(peer).await?;
                children.push(peer);
            }
            let publisher = relay::peer(room, PUBLISHER);
            orders.feed(publisher, children, audio, rate).await?;
        }
    }
    let lost = |server: &Server| match server {
        Server::Grove(orders) => orders.lost(),
        _ => 0,
    };
    let lost_before = lost(&server);
    sleep(WARM_UP).await;
    let (begin, before) = (clock.micros(), arrivals.sum());
    println!("{BEGIN}");
    begun.send_replace(true);
    let flood = match task.fault.zip(tap) {
        Some((fault, tap)) => Flood::start(fault, &tap, task.address)?,
        None => None,
    };
    sleep(Duration::from_secs(task.seconds)).await;
    let flooded = flood.map_or(0, Flood::stop);
    println!("{END}");
    let (end, after) = (clock.micros(), arrivals.sum());
    sleep(TAIL).await;
    let links_lost = lost(&server) - lost_before;
    over.send(true)?;
    let mut tallies = vec![Vec::new(); usize::from(task.rooms)];
    while let Some(tally) = receiving.join_next().await {
        if let Some((room, tally)) = tally?? {
            tallies[usize::from(room)].push(tally);
        }
    }
    let (packets, bytes) = (task.shape.packets(), task.shape.frame_bytes());
    let bytes = match server {
        // The floor's packets have no header of a frame of their own, only its bytes.
        Server::Floor { .. } => packets * task.shape.payload_bytes(),
        _ => bytes,
    };
    let mut count = Count::default();
    for (publisher, tallies) in publishers.into_iter().zip(tallies) {
        let sent = joined(publisher)??;
        if !tallies.iter().any(Tally::has_any) {
            return Err("nothing came to anybody".into());
        }
        count.add(Count::of(&tallies, &sent, begin..end, packets, bytes));
    }
    count.links_lost = links_lost;
    count.flooded = flooded;
    count.datagrams = after.0 - before.0;
    count.bytes = after.1 - before.1;
    Ok(count)
}

/// The receivers of a room, with it.
fn receivers(room: u16, n: usize) -> impl Iterator<Item = (u16, u16)> {
    let numbers = (PUBLISHER + 1..).take(n);
    numbers.map(move |number| (room, relay::peer(room, number)))
}

fn joined<T>(thread: std::thread::JoinHandle<T>) -> Result<T, Failure> {
    thread
        .join()
        .map_err(|_| "the publisher's thread failed".into())
}

async fn tell_floor(control: SocketAddr, plan: &Plan) -> Result<SocketAddr, Failure> {
    let (read, mut write) = TcpStream::connect(control).await?.into_split();
    let line = serde_json::to_string(plan)? + "\n";
    write.write_all(line.as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(read).read_line(&mut answer).await?;
    Ok(answer.trim().parse()?)
}

/// Sends frames until the end, from when its connection is up.
async fn publish(
    task: &Task,
    room: u16,
    server: &Server,
    clock: Clock,
    (up, ending): (oneshot::Sender<()>, watch::Receiver<bool>),
    tap: Option<Arc<Tap>>,
) -> Result<Vec<Sent>, Failure> {
    let shape = task.shape;
    let mut ticks = interval(Duration::from_secs(1) / shape.frames_per_second());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut sent = Vec::new();
    if let Server::Floor { at } = *server {
        let socket = UdpSocket::bind((task.address, 0)).await?;
        let _ = up.send(());
        for number in 0.. {
            ticks.tick().await;
            if *ending.borrow() {
                break;
            }
            let at_micros = clock.micros();
            let payload = vec![0x5a; shape.payload_bytes()];
            for part in 0..shape.packets() as u16 {
                let place = Place { number, part };
                let header = place.header(part, 0);
                let datagram = [&header, &payload[..], &[0; TAG]].concat();
                socket.send_to(&datagram, at).await?;
            }
            sent.push(Sent {
                number,
                at: at_micros,
            });
        }
        return Ok(sent);
    }

    let own = relay::peer(room, PUBLISHER);
    let mut peer = timeout(PATIENCE, connect_publisher(task, own, server, tap)).await??;
    let _ = up.send(());
    let (mut key, mut beats) = (true, Beats::default());
    let mut number = 0;
    while !*ending.borrow() {
        let note = &mut |came: Came| match came {
            Came::KeyWanted => key = true,
            Came::Text(text) => key |= beats.hear(&text) == Some("key"),
            Came::Packet { .. } => {}
        };
        tokio::select! {
            _ = ticks.tick() => {
                let frame = shape.frame(own, number, std::mem::take(&mut key));
                let payloads = shape.payloads(&frame);
                sent.push(Sent { number, at: clock.micros() });
                peer.send(shape, payloads, number)?;
                number += 1;
                beats.lived();
                if matches!(server, Server::Grove(_)) && Instant::now() >= beats.due() {
                    peer.say(&beats.next(number))?;
                }
            }
            stepped = peer.step(Instant::now() + LOOK, note) => stepped?,
        }
    }
    Ok(sent)
}

fn kind(shape: Shape) -> MediaKind {
    if shape.is_audio() {
        MediaKind::Audio
    } else {
        MediaKind::Video
    }
}

async fn connect_publisher(
    task: &Task,
    own: u16,
    server: &Server,
    tap: Option<Arc<Tap>>,
) -> Result<Peer, Failure> {
    let mut peer = Peer::bind(task.address, &Arc::default()).await?;
    if let Some(tap) = tap {
        peer.tap(tap);
    }
    match server {
        Server::Floor { .. } => return Err("the floor has no connections".into()),
        Server::Grove(orders) => {
            // A pair, as every stream of a browser has.
            let kinds = match kind(task.shape) {
                MediaKind::Audio => [MediaKind::Video, MediaKind::Audio],
                MediaKind::Video => [MediaKind::Audio, MediaKind::Video],
            };
            let (offer, pending) = peer.offer(true, &kinds, true)?;
            let answer = orders.link(own, offer).await?;
            peer.accept(pending, &answer)?;
        }
        Server::Janus(gateway) => {
            let (offer, pending) = peer.offer(false, &[kind(task.shape)], true)?;
            let answer = gateway.publish(offer).await?;
            peer.accept(pending, &answer)?;
        }
    }
    rise(&mut peer).await?;
    Ok(peer)
}

async fn subscribe(
    task: &Task,
    server: &Server,
    number: u16,
    arrivals: &Arc<Arrivals>,
) -> Result<Peer, Failure> {
    let mut peer = Peer::bind(task.address, arrivals).await?;
    match server {
        Server::Floor { .. } => return Err("the floor has no connections".into()),
        Server::Grove(orders) => {
            let slot = [MediaKind::Audio, MediaKind::Video];
            let (offer, pending) = peer.offer(true, &slot, false)?;
            let answer = orders.link(number, offer).await?;
            peer.accept(pending, &answer)?;
        }
        Server::Janus(gateway) => {
            let (handle, offer) = gateway.subscribe().await?;
            let answer = peer.answer(&offer)?;
            gateway.start(handle, answer).await?;
        }
    }
    rise(&mut peer).await?;
    Ok(peer)
}

async fn rise(peer: &mut Peer) -> Result<(), Failure> {
    while !peer.is_up() {
        peer.step(Instant::now() + LOOK, &mut |_| {}).await?;
    }
    Ok(())
}

/// Receives through a connection until the end.
async fn receive(
    peer: &mut Peer,
    server: &Server,
    shape: Shape,
    clock: Clock,
    ending: watch::Receiver<bool>,
) -> Result<Tally, Failure> {
    let beating = matches!(server, Server::Grove(_));
    let (mut tally, mut beats) = (Tally::default(), Beats::default());
    while !*ending.borrow() {
        if beating && beats.due() <= Instant::now() {
            peer.say(&beats.next(0))?;
        }
        let latest = if beating {
            beats.due()
        } else {
            Instant::now() + TAIL / 4
        };
        let note = &mut |came: Came| match came {
            Came::Packet { seq, payload } => {
                beats.lived();
                // What is of no frame is padding.
                if let Some((number, bytes)) = shape::read(&payload, shape.is_audio()) {
                    tally.came(number, seq, bytes, clock.micros());
                }
            }
            Came::Text(text) => {
                beats.hear(&text);
            }
            Came::KeyWanted => {}
        };
        peer.step(latest, note).await?;
    }
    Ok(tally)
}

/// Receives the floor's packets, unopened, until the end.
async fn receive_plainly(
    socket: UdpSocket,
    arrivals: Arc<Arrivals>,
    clock: Clock,
    mut ending: watch::Receiver<bool>,
) -> Result<Option<(u16, Tally)>, Failure> {
    let mut tally = Tally::default();
    let mut bytes = [0; 2048];
    loop {
        tokio::select! {
            ready = socket.readable() => ready?,
            _ = ending.changed() => return Ok(Some((0, tally))),
        }
        while let Ok(length) = socket.try_recv(&mut bytes) {
            arrivals.add(length);
            if let Some((place, payload)) = Place::read(&bytes[..length]) {
                tally.came(place.number, place.part.into(), payload, clock.micros());
            }
        }
    }
}

/// Heartbeats of a link, with an echo of the other side's.
#[derive(Debug)]
struct Beats {
    sent: u32,
    sent_at: Option<Instant>,
    /// When something went or came last: a heartbeat, a packet.
    lived_at: Instant,
    heard: Option<(u64, Instant)>,
}

impl Default for Beats {
    fn default() -> Self {
        Self {
            sent: 0,
            sent_at: None,
            lived_at: Instant::now(),
            heard: None,
        }
    }
}

impl Beats {
    /// When the next is to go out. The first does at once.
    fn due(&self) -> Instant {
        let probe = self.sent_at.map(|at| at + PROBE);
        probe.map_or(self.lived_at, |at| at.min(self.lived_at + BEAT))
    }

    /// Something went, or came: this side is heard without a heartbeat.
    fn lived(&mut self) {
        self.lived_at = Instant::now();
    }

    fn next(&mut self, frames: u32) -> String {
        self.sent += 1;
        self.lived();
        self.sent_at = Some(self.lived_at);
        let mut beat = json!({ "t": "hb", "n": self.sent, "f": frames });
        if let Some((n, at)) = self.heard {
            beat["e"] = n.into();
            beat["d"] = (at.elapsed().as_micros() as f64 / 1000.0).into();
        }
        beat.to_string()
    }

    /// Takes a heartbeat, and says when it is a request for a key frame.
    fn hear(&mut self, text: &str) -> Option<&'static str> {
        self.lived();
        let message: Value = serde_json::from_str(text).ok()?;
        if message["t"] == "hb" {
            self.heard = message["n"].as_u64().map(|n| (n, Instant::now()));
        }
        (message["t"] == "key").then_some("key")
    }
}
