//! Grove's relay as a process of its own, and the orders to it: one JSON object a line, over a local connection.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use grove_relay::{
    Command, Event, Handle, Layers, Node, Room, Settings, Stream, Token, Udp, spawn_threads,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// The relay's own number in each room.
const SELF: Node = 65_535;
/// Numbers of peers in a room: the first of the second room has this one.
const IN_ROOM: Node = 1_000;
/// Rooms whose peers have numbers.
pub(crate) const MOST_ROOMS: u16 = SELF / IN_ROOM;

/// The number of the `n`th peer of a room.
pub(crate) fn peer(room: u16, n: u16) -> Node {
    room * IN_ROOM + n
}

fn room(peer: Node) -> Room {
    Room::from(peer / IN_ROOM)
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Order {
    /// A link with this peer, who offers.
    Link { peer: Node, sdp: String },
    /// A link with this peer whose socket takes nothing.
    Stuck { peer: Node },
    /// The stream of `from` goes to each of `to`.
    Feed {
        from: Node,
        to: Vec<Node>,
        audio: bool,
        rate_bps: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum News {
    Answer { peer: Node, sdp: String },
    Lost { peer: Node },
}

fn token(peer: Node) -> Token {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&peer.to_be_bytes());
    Token(bytes)
}

/// Runs the relay at `address`, as the server does, until whoever gives the orders is gone. Prints where it takes them.
pub(crate) async fn serve(address: IpAddr, threads: usize) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let udp = Udp::bind(&[address], 0, threads)?;
    let udp = Some(Arc::new(udp));
    let (handle, mut events) = spawn_threads(Settings::default(), udp, threads);
    println!("{}", listener.local_addr()?);
    let (read, mut write) = listener.accept().await?.0.into_split();
    let mut orders = BufReader::new(read).lines();
    let mut stuck = Vec::new();
    loop {
        let news = tokio::select! {
            line = orders.next_line() => match line? {
                None => return Ok(()),
                Some(line) => {
                    let order = serde_json::from_str(&line)?;
                    obey(&handle, &order);
                    if let Order::Stuck { peer } = order {
                        let link = handle.attach(token(peer)).await;
                        stuck.push(link.map_err(io::Error::other)?);
                    }
                    continue;
                }
            },
            event = events.recv() => match event {
                None => return Ok(()),
                Some(Event::Answer { peer, sdp, .. }) => News::Answer { peer, sdp },
                Some(Event::Lost { peer, .. }) => News::Lost { peer },
                Some(_) => continue,
            },
        };
        let line = serde_json::to_string(&news)? + "\n";
        write.write_all(line.as_bytes()).await?;
    }
}

fn obey(handle: &Handle, order: &Order) {
    let link = |peer| {
        let (room, node, token) = (room(peer), SELF, token(peer));
        handle.command(Command::Enter { room, node });
        handle.command(Command::Link { room, peer, token });
    };
    match *order {
        Order::Link { peer, ref sdp } => {
            link(peer);
            handle.command(Command::Offer {
                room: room(peer),
                peer,
                sdp: sdp.clone(),
            });
        }
        Order::Stuck { peer } => link(peer),
        Order::Feed {
            from,
            ref to,
            audio,
            rate_bps,
        } => {
            let stream = Stream::new(from, 0);
            let layers = if audio { Layers::NONE } else { Layers::one(0) };
            handle.command(Command::Parent {
                room: room(from),
                stream,
                parent: from,
                layers,
            });
            for &child in to {
                handle.command(Command::Feed {
                    room: room(from),
                    stream,
                    child,
                    layers,
                    rate_bps,
                });
            }
        }
    }
}

/// Gives the orders.
#[derive(Debug)]
pub(crate) struct Orders {
    write: tokio::sync::Mutex<OwnedWriteHalf>,
    answers: Arc<Mutex<HashMap<Node, oneshot::Sender<String>>>>,
    lost: Arc<AtomicUsize>,
}

impl Orders {
    /// Connects to a relay's process.
    pub(crate) async fn connect(at: SocketAddr) -> io::Result<Self> {
        let (read, write) = TcpStream::connect(at).await?.into_split();
        let answers: Arc<Mutex<HashMap<Node, oneshot::Sender<String>>>> = Arc::default();
        let lost = Arc::<AtomicUsize>::default();
        let (waiting, losses) = (Arc::clone(&answers), Arc::clone(&lost));
        tokio::spawn(async move {
            let mut news = BufReader::new(read).lines();
            while let Ok(Some(line)) = news.next_line().await {
                match serde_json::from_str(&line) {
                    Ok(News::Answer { peer, sdp }) => {
                        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Some(answer) = waiting.remove(&peer) {
                            let _ = answer.send(sdp);
                        }
                    }
                    Ok(News::Lost { .. }) => {
                        losses.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => return,
                }
            }
        });
        Ok(Self {
            write: tokio::sync::Mutex::new(write),
            answers,
            lost,
        })
    }

    async fn give(&self, order: &Order) -> io::Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        self.write.lock().await.write_all(line.as_bytes()).await
    }

    /// The relay's answer to a peer's offer.
    pub(crate) async fn link(&self, peer: Node, sdp: String) -> io::Result<String> {
        let (answer, answered) = oneshot::channel();
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(peer, answer);
        self.give(&Order::Link { peer, sdp }).await?;
        let answer = answered.await.unwrap_or_default();
        // What names the offer is for peers with several.
        match answer.split_once("a=grove-offer:") {
            Some((sdp, _)) => Ok(sdp.to_owned()),
            None => Err(io::Error::other("the relay takes no link by RTP")),
        }
    }

    /// Has the stream of `from` sent to each of `to`.
    pub(crate) async fn feed(
        &self,
        from: Node,
        to: Vec<Node>,
        audio: bool,
        rate_bps: u64,
    ) -> io::Result<()> {
        self.give(&Order::Feed {
            from,
            to,
            audio,
            rate_bps,
        })
        .await
    }

    /// A link with this peer whose socket takes nothing.
    pub(crate) async fn stuck(&self, peer: Node) -> io::Result<()> {
        self.give(&Order::Stuck { peer }).await
    }

    /// Links that the relay gave up.
    pub(crate) fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }
}
