//! A relay that runs: what gives it orders, and its shards.
//!
//! A shard is a core of its own with its own part of the UDP port, driven by one task ([`crate::driver`]); each has a thread and
//! a runtime of its own where there are several. A room is in one shard, from the order that enters it to the one that leaves
//! it: the least loaded at that moment. Whoever gives orders and takes events knows nothing of that.
//!
//! A core that panics costs what it costs alone. Should a shard end all the same, all end: then the events do, and whoever
//! started the relay starts it anew.
//!
//! Cost: an order takes a lock; what comes and goes on links does not.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::bounds::Bounds;
use crate::command::{Command, Node, Room, Token};
use crate::driver::{AttachError, Attached, Driver, Message, Seat};
use crate::event::{Event, Stats};
use crate::relay::Settings;
use crate::rtp::MOST_SHARDS;
use crate::udp::{Exchange, Udp};

/// Threads that a relay can have.
pub const MOST_THREADS: usize = MOST_SHARDS;
/// Loads that differ by less are the same: then the number of rooms decides, since a room that was just entered is no load yet.
const LOAD_STEP_PERMILLE: u32 = 100;

/// Gives orders to a relay that runs. Cheap to clone; the relay stops when the last is dropped, which waits for its threads: not
/// to be done under a lock.
#[derive(Debug, Clone)]
pub struct Handle {
    shards: Arc<Shards>,
    instance: Arc<str>,
}

#[derive(Debug)]
struct Shards {
    all: Vec<Shard>,
    directory: Mutex<Directory>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shard {
    messages: mpsc::UnboundedSender<Message>,
    stats: watch::Receiver<Stats>,
}

impl Drop for Shards {
    fn drop(&mut self) {
        // A shard ends when nobody can give it orders.
        self.all.clear();
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Where rooms are, and whose tokens are.
#[derive(Debug)]
struct Directory {
    rooms: HashMap<Room, Place>,
    tokens: HashMap<Token, Room>,
    /// How many rooms each shard has.
    counts: Vec<usize>,
}

#[derive(Debug)]
struct Place {
    shard: usize,
    tokens: BTreeMap<Node, Token>,
}

impl Directory {
    /// Of so many shards.
    fn new(shards: usize) -> Self {
        Self {
            rooms: HashMap::new(),
            tokens: HashMap::new(),
            counts: vec![0; shards],
        }
    }

    /// Which shard an order is for; `fresh` says where a room goes that is nowhere yet, given how many rooms each shard has.
    fn note(&mut self, command: &Command, fresh: impl FnOnce(&[usize]) -> usize) -> usize {
        let room = command.room();
        if matches!(command, Command::Enter { .. }) && !self.rooms.contains_key(&room) {
            let tokens = BTreeMap::new();
            let shard = fresh(&self.counts);
            if let Some(count) = self.counts.get_mut(shard) {
                *count += 1;
            }
            self.rooms.insert(room, Place { shard, tokens });
        }
        // Of a room that is not there any shard knows nothing.
        let Some(place) = self.rooms.get_mut(&room) else {
            return 0;
        };
        let shard = place.shard;
        let void = match *command {
            Command::Link { peer, token, .. } => {
                self.tokens.insert(token, room);
                place
                    .tokens
                    .insert(peer, token)
                    .filter(|&former| former != token)
            }
            Command::Unlink { peer, .. } => place.tokens.remove(&peer),
            Command::Leave { .. } => {
                let place = self.rooms.remove(&room);
                if let Some(count) = self.counts.get_mut(shard) {
                    *count -= 1;
                }
                for token in place
                    .into_iter()
                    .flat_map(|place| place.tokens.into_values())
                {
                    self.void(token, room);
                }
                None
            }
            _ => None,
        };
        if let Some(token) = void {
            self.void(token, room);
        }
        shard
    }

    fn void(&mut self, token: Token, room: Room) {
        if self.tokens.get(&token) == Some(&room) {
            self.tokens.remove(&token);
        }
    }

    /// Which shard expects this token.
    fn holder(&self, token: Token) -> Option<usize> {
        let room = self.tokens.get(&token)?;
        self.rooms.get(room).map(|place| place.shard)
    }
}

impl Handle {
    /// Gives an order. Orders are obeyed in the order in which they were given.
    pub fn command(&self, command: Command) {
        let mut directory = self.directory();
        let shards = &self.shards.all;
        let shard = if shards.len() > 1 {
            directory.note(&command, |rooms| self.least_loaded(rooms))
        } else {
            0
        };
        if let Some(shard) = shards.get(shard) {
            // A relay that has stopped obeys nothing; whoever gave the order sees its events end.
            let _ = shard.messages.send(Message::Command(command));
        }
    }

    /// Which run of the relay this is: 16 random characters. Links to another instance are dead.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Sums and what is held, at most a second old; of several shards together.
    pub fn stats(&self) -> Stats {
        Stats::together(self.shards())
    }

    /// The same, shard by shard.
    pub fn shards(&self) -> impl Iterator<Item = Stats> {
        self.shards.all.iter().map(|shard| *shard.stats.borrow())
    }

    /// Opens the link that was ordered with this token. A second one replaces the first.
    pub async fn attach(&self, token: Token) -> Result<Attached, AttachError> {
        let (answer, answered) = oneshot::channel();
        let shard = self.directory().holder(token).unwrap_or(0);
        let shard = self.shards.all.get(shard).ok_or(AttachError::Stopped)?;
        shard
            .messages
            .send(Message::Attach(token, answer))
            .map_err(|_| AttachError::Stopped)?;
        answered.await.unwrap_or(Err(AttachError::Stopped))
    }

    fn directory(&self) -> std::sync::MutexGuard<'_, Directory> {
        let directory = self.shards.directory.lock();
        directory.unwrap_or_else(PoisonError::into_inner)
    }

    fn least_loaded(&self, rooms: &[usize]) -> usize {
        let loads = self.shards().zip(rooms).enumerate();
        let least = loads.min_by_key(|(shard, (stats, rooms))| {
            (stats.load_permille / LOAD_STEP_PERMILLE, **rooms, *shard)
        });
        least.map_or(0, |(shard, _)| shard)
    }
}

/// Runs a relay in a task of its own, on the current tokio runtime: a handle on it, and its events. With a UDP port links
/// can be made by RTP. Events that nobody takes pile up: take them.
///
/// # Panics
/// When the system has no descriptors left for the port's sockets.
pub fn spawn(
    settings: Settings,
    udp: Option<Arc<Udp>>,
) -> (Handle, mpsc::UnboundedReceiver<Event>) {
    let (handle, seats, told) = seats(settings, udp, 1);
    for (seat, inbox) in seats {
        tokio::spawn(Driver::new(seat).run(inbox));
    }
    (handle, told)
}

/// Runs a relay in threads of its own, each of which takes some of the rooms: so many ([`MOST_THREADS`] at most), but no more
/// than the port was bound for. Otherwise as [`spawn`]. Where the system gives not all of them the relay ends at once.
pub fn spawn_threads(
    settings: Settings,
    udp: Option<Arc<Udp>>,
    threads: usize,
) -> (Handle, mpsc::UnboundedReceiver<Event>) {
    let most = udp.as_ref().map_or(MOST_THREADS, |udp| udp.shards());
    let (mut handle, seats, told) = seats(settings, udp, threads.clamp(1, most));
    let all: Arc<[_]> = seats
        .iter()
        .map(|(seat, _)| seat.messages.clone())
        .collect();
    let start = |(seat, inbox): (Seat, _)| {
        // Dropped with the rest where there is no thread: so the others end, too.
        let end = End(Arc::clone(&all));
        let thread = std::thread::Builder::new()
            .name(format!("grove-relay-{}", seat.shard))
            .spawn(move || {
                let _end = end;
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("the system gives what a runtime needs");
                runtime.block_on(async { Driver::new(seat).run(inbox).await });
            });
        // Said where a thread that panics says it.
        let thread = thread.inspect_err(|error| eprintln!("no thread for the relay: {error}"));
        thread.ok()
    };
    let threads = seats.into_iter().filter_map(start).collect();
    if let Some(shards) = Arc::get_mut(&mut handle.shards) {
        shards.threads = threads;
    }
    (handle, told)
}

/// Where a shard ends, by order or by a panic, the others do.
struct End(Arc<[mpsc::WeakUnboundedSender<Message>]>);

impl Drop for End {
    fn drop(&mut self) {
        for messages in self.0.iter().filter_map(|shard| shard.upgrade()) {
            // One that has ended already needs no telling.
            let _ = messages.send(Message::Stop);
        }
    }
}

/// A handle, a seat for each shard with its messages, and the events of all.
type Seats = Vec<(Seat, mpsc::UnboundedReceiver<Message>)>;

fn seats(
    settings: Settings,
    udp: Option<Arc<Udp>>,
    shards: usize,
) -> (Handle, Seats, mpsc::UnboundedReceiver<Event>) {
    let (events, told) = mpsc::unbounded_channel();
    let bounds = Arc::new(Bounds::new(settings, shards));
    let exchange = udp.as_ref().map(|_| Arc::new(Exchange::new(shards)));
    let started = Instant::now();
    let (mut all, mut seats) = (Vec::new(), Vec::new());
    for shard in 0..shards {
        let (messages, inbox) = mpsc::unbounded_channel();
        let (publish, stats) = watch::channel(Stats::default());
        let seat = Seat {
            shard,
            started,
            settings,
            bounds: Arc::clone(&bounds),
            port: udp.clone().zip(exchange.clone()),
            messages: messages.downgrade(),
            events: events.clone(),
            publish,
        };
        all.push(Shard { messages, stats });
        seats.push((seat, inbox));
    }
    let count = all.len();
    let shards = Shards {
        all,
        directory: Mutex::new(Directory::new(count)),
        threads: Vec::new(),
    };
    let handle = Handle {
        shards: Arc::new(shards),
        instance: instance(),
    };
    (handle, seats, told)
}

/// Random enough to differ from every other run: the standard library seeds its hashers from the operating system.
fn instance() -> Arc<str> {
    let seed = RandomState::new();
    let mut hasher = seed.build_hasher();
    hasher.write_u32(std::process::id());
    format!("{:016x}", hasher.finish()).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::command::{Layers, Stream};
    use crate::overload::Shedding;
    use crate::relay::{Incoming, Outgoing};
    use crate::testing;

    const ROOM: Room = 5;

    fn link(room: Room, peer: Node, token: u8) -> Command {
        let token = Token([token; 16]);
        Command::Link { room, peer, token }
    }

    #[test]
    fn a_room_stays_where_it_is_until_it_is_left_and_its_tokens_with_it() {
        let mut directory = Directory::new(3);
        let enter = |room| Command::Enter { room, node: 9 };
        let note = |directory: &mut Directory, command| directory.note(&command, |_| 2);
        assert_eq!(note(&mut directory, link(ROOM, 1, 1)), 0);
        assert_eq!(directory.holder(Token([1; 16])), None);
        assert_eq!(note(&mut directory, enter(ROOM)), 2);
        assert_eq!(directory.note(&enter(ROOM), |_| 1), 2);
        for token in [1, 2] {
            assert_eq!(note(&mut directory, link(ROOM, 1, token)), 2);
        }
        assert_eq!(directory.note(&enter(6), |rooms| rooms[2]), 1);
        let holders = |directory: &Directory| [1, 2].map(|n| directory.holder(Token([n; 16])));
        assert_eq!(holders(&directory), [None, Some(2)]);
        assert_eq!(note(&mut directory, Command::Leave { room: ROOM }), 2);
        assert_eq!(holders(&directory), [None, None]);
        assert_eq!((directory.rooms.len(), directory.tokens.len()), (1, 0));
        assert_eq!(directory.counts, [0, 1, 0]);
        assert_eq!(note(&mut directory, link(ROOM, 1, 1)), 0);
    }

    /// A room in which one is fed all that the other sends.
    struct Feed {
        ends: [Attached; 2],
        pictures: u32,
        /// Bytes of pictures that came.
        came: usize,
    }

    impl Feed {
        async fn new(handle: &Handle, room: Room) -> Self {
            let stream = Stream::new(1, 0);
            let (layers, rate_bps) = (Layers::one(0), 80_000_000);
            handle.command(Command::Enter { room, node: 9 });
            let token = |peer| room as u8 * 16 + peer as u8;
            for peer in [1, 2] {
                handle.command(link(room, peer, token(peer)));
            }
            let parent = Command::Parent {
                room,
                stream,
                parent: 1,
                layers,
            };
            handle.command(parent);
            let feed = Command::Feed {
                room,
                stream,
                child: 2,
                layers,
                rate_bps,
            };
            handle.command(feed);
            let attach = async |peer| handle.attach(Token([token(peer); 16])).await;
            Self {
                ends: [
                    attach(1).await.expect("ordered"),
                    attach(2).await.expect("ordered"),
                ],
                pictures: 0,
                came: 0,
            }
        }

        /// Sends a picture, every tenth a key frame.
        async fn send(&mut self, bytes: usize) {
            let number = self.pictures;
            self.pictures += 1;
            let header = if number.is_multiple_of(10) {
                testing::key(number)
            } else {
                testing::delta(number, 1, 1)
            };
            let mut sealed = header.encode().expect("a header").to_vec();
            sealed.resize(bytes, 0);
            let frame = Incoming::Frame(sealed.into());
            self.ends[0].incoming.send(frame).await.expect("open");
        }

        fn take(&mut self) {
            for end in &mut self.ends {
                while let Some(Some(out)) = end.outgoing.recv().now_or_never() {
                    if let Outgoing::Frame(frame) = out {
                        self.came += frame.len();
                    }
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn shards_together_send_no_more_than_the_cap_and_what_one_leaves_the_other_has() {
        let settings = Settings {
            egress_bps: 16_000_000,
            ..Settings::default()
        };
        let (handle, seats, _events) = seats(settings, None, 2);
        for (seat, inbox) in seats {
            tokio::spawn(Driver::new(seat).run(inbox));
        }
        let mut feeds = [Feed::new(&handle, 1).await, Feed::new(&handle, 2).await];
        let mut came = Vec::new();
        // Each wants twice the cap.
        for sending in [2, 1] {
            let mut before = [0, 0];
            for tick in 0..2_400 {
                if tick == 400 {
                    before = feeds.each_ref().map(|feed| feed.came);
                }
                for feed in feeds.iter_mut().take(sending) {
                    feed.send(10_000).await;
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
                feeds.iter_mut().for_each(Feed::take);
            }
            let now = feeds.each_ref().map(|feed| feed.came);
            came.push([now[0] - before[0], now[1] - before[1]]);
        }
        let cap = 6 * 16_000_000 / 8;
        let [both, one] = came[..] else {
            panic!("two runs")
        };
        let all = both[0] + both[1];
        assert!(
            (cap * 8 / 10..=cap * 21 / 20).contains(&all),
            "{both:?} {cap}"
        );
        assert!(
            both.iter().all(|&came| came > cap * 3 / 10),
            "{both:?} {cap}"
        );
        assert!(
            (cap * 8 / 10..=cap * 21 / 20).contains(&one[0]),
            "{one:?} {cap}"
        );
        assert_eq!(one[1], 0);
    }

    #[tokio::test(start_paused = true)]
    async fn shards_shed_when_together_they_send_nearly_what_they_may() {
        let settings = Settings {
            egress_bps: 16_000_000,
            ..Settings::default()
        };
        let (handle, seats, _events) = seats(settings, None, 2);
        for (seat, inbox) in seats {
            tokio::spawn(Driver::new(seat).run(inbox));
        }
        let mut feeds = [Feed::new(&handle, 1).await, Feed::new(&handle, 2).await];
        // Of what they may send in all: 0.85, and 0.93.
        for (bytes, sheds) in [(8_500, false), (9_300, true)] {
            for _ in 0..400 {
                for feed in &mut feeds {
                    feed.send(bytes).await;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                feeds.iter_mut().for_each(Feed::take);
            }
            let shed = handle.shards().map(|stats| stats.shedding);
            let shed: Vec<_> = shed.map(|what| what > Shedding::Nothing).collect();
            assert_eq!(shed, [sheds; 2], "{bytes}");
        }
    }

    #[tokio::test]
    async fn where_one_shard_ends_all_do_and_so_do_the_events() {
        let (handle, mut events) = spawn_threads(Settings::default(), None, 3);
        let _ = handle.shards.all[1].messages.send(Message::Stop);
        assert_eq!(events.recv().await, None);
        let attached = handle.attach(Token([1; 16])).await;
        assert_eq!(attached.err(), Some(AttachError::Stopped));
    }

    #[test]
    fn a_token_that_another_room_has_taken_over_is_not_voided_by_the_first() {
        let mut directory = Directory::new(2);
        for room in [5, 6] {
            let enter = Command::Enter { room, node: 9 };
            directory.note(&enter, |rooms| rooms[0]);
            directory.note(&link(room, 1, 1), |_| 0);
        }
        directory.note(&Command::Unlink { room: 5, peer: 1 }, |_| 0);
        assert_eq!(directory.holder(Token([1; 16])), Some(1));
    }
}
