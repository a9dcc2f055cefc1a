//! A participant without a browser: it speaks the signalling protocol as one, and says what a browser would say about
//! media that it does not have.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fastrand::Rng;
use futures_util::{SinkExt, StreamExt};
use grove_server::signal::message::{
    Capabilities, ClientMessage, DescriptionKind, EdgeReport, Identity, Join, Joined, LinkReport,
    Order, Orders, Policy, Publication, RelayLink, Report, SUBPROTOCOL, ServerMessage, StreamKind,
    StreamRef, VERSION, VideoLayer,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Why a client gave up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Connection(#[from] tokio_tungstenite::tungstenite::Error),
    /// The server closed it.
    #[error("the server closed the connection: {0}")]
    Closed(String),
    /// The server said something that the protocol does not have.
    #[error("not a message: {0}")]
    NotAMessage(#[from] serde_json::Error),
    /// The server refused.
    #[error("refused: {0}")]
    Refused(String),
}

/// A connection, and what the orders have made of this node.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    rng: Rng,
    parents: BTreeMap<StreamRef, u16>,
    links: BTreeMap<u16, bool>,
    /// The own number, once joined.
    pub node: u16,
    /// How to reach the relay, since it was last ordered. Whoever opens the link takes it out.
    pub relay: Option<RelayLink>,
    /// Streams that were given another parent. Whoever receives frames takes them out.
    pub moved: BTreeSet<StreamRef>,
    /// Errors that the server reported, by its words.
    pub errors: Vec<String>,
}

impl Client {
    /// Connect to the server at `address`.
    pub async fn connect(address: SocketAddr, rng: Rng) -> Result<Self, ClientError> {
        let mut request = format!("ws://{address}/api/v1/signal").into_client_request()?;
        let headers = request.headers_mut();
        let header = |value: &str| value.parse().expect("the header is made of ASCII");
        headers.insert("Origin", header(&format!("http://{address}")));
        headers.insert("Sec-WebSocket-Protocol", header(SUBPROTOCOL));
        // Without Nagle: a browser has it off, and 40 ms of it would be taken for the server's.
        let (socket, _) = tokio_tungstenite::connect_async_with_config(request, None, true).await?;
        Ok(Self {
            socket,
            rng,
            parents: BTreeMap::new(),
            links: BTreeMap::new(),
            node: 0,
            relay: None,
            moved: BTreeSet::new(),
            errors: Vec::new(),
        })
    }

    fn random(&mut self, bytes: usize) -> String {
        let mut buffer = vec![0; bytes];
        self.rng.fill(&mut buffer);
        URL_SAFE_NO_PAD.encode(buffer)
    }

    /// Say something.
    pub async fn send(&mut self, message: &ClientMessage) -> Result<(), ClientError> {
        let text = serde_json::to_string(message)?;
        Ok(self.socket.send(Message::text(text)).await?)
    }

    /// The next thing that the server says.
    pub async fn receive(&mut self) -> Result<ServerMessage, ClientError> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text)?),
                Some(Ok(Message::Close(frame))) => {
                    return Err(ClientError::Closed(
                        frame.map_or_else(String::new, |f| f.reason.to_string()),
                    ));
                }
                // Pings are answered inside the library.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(ClientError::Closed("without a word".into())),
            }
        }
    }

    /// Make a room.
    pub async fn create(&mut self, policy: Option<Policy>) -> Result<String, ClientError> {
        self.send(&ClientMessage::Create {
            policy,
            never_relay: None,
        })
        .await?;
        loop {
            match self.receive().await? {
                ServerMessage::Created { room } => return Ok(room),
                ServerMessage::Error { message, .. } => return Err(ClientError::Refused(message)),
                _ => {}
            }
        }
    }

    /// Enter `room` and publish camera and microphone. The orders that come with the answer are obeyed.
    pub async fn join(&mut self, room: &str, name: &str) -> Result<(), ClientError> {
        let joined = self.enter(room, name, Some(5_000_000)).await?;
        self.obey(&joined.orders).await?;
        self.publish(2).await
    }

    /// Enter `room`, and no more: what the answer orders is for the caller to obey.
    pub async fn enter(
        &mut self,
        room: &str,
        name: &str,
        uplink_bps: Option<u64>,
    ) -> Result<Joined, ClientError> {
        let identity = Identity {
            nonce: self.random(16),
            kem_key: self.random(32),
            sign_key: self.random(32),
            mac: self.random(32),
        };
        let join = Join {
            version: VERSION,
            room: room.to_owned(),
            participant: self.random(12),
            name: name.to_owned(),
            identity,
            capabilities: Capabilities {
                frames: true,
                forward: true,
            },
            uplink_bps,
            resume: None,
        };
        self.send(&ClientMessage::Join(join)).await?;
        loop {
            match self.receive().await? {
                ServerMessage::Joined(joined) => {
                    self.node = joined.node;
                    return Ok(joined);
                }
                ServerMessage::Error { message, .. } => return Err(ClientError::Refused(message)),
                _ => {}
            }
        }
    }

    /// Publish a microphone and a camera of one layer or two.
    pub async fn publish(&mut self, layers: usize) -> Result<(), ClientError> {
        let layer = |width, height, bps| VideoLayer { width, height, bps };
        let both = [layer(320, 180, 150_000), layer(640, 360, 600_000)];
        let publication = Publication {
            stream: 0,
            kind: StreamKind::Camera,
            audio_bps: Some(32_000),
            layers: both.into_iter().take(layers).collect(),
        };
        self.send(&ClientMessage::Publish { publication }).await
    }

    /// Offer a link, in words that only the other end has to understand.
    pub async fn offer(&mut self, to: u16, words: String) -> Result<(), ClientError> {
        let signature = self.random(64);
        self.send(&ClientMessage::Description {
            to,
            kind: DescriptionKind::Offer,
            sdp: words,
            signature,
        })
        .await
    }

    /// Answer one message as a browser would. Returns the body of a chat line, somebody's or the own one.
    pub async fn handle(&mut self, message: ServerMessage) -> Result<Option<String>, ClientError> {
        match message {
            ServerMessage::Orders(orders) => self.obey(&orders).await?,
            ServerMessage::Description {
                from,
                kind: DescriptionKind::Offer,
                ..
            } => {
                self.describe(from, DescriptionKind::Answer).await?;
            }
            ServerMessage::Chat(line) => return Ok(Some(line.body)),
            ServerMessage::Error { message, .. } => self.errors.push(message),
            _ => {}
        }
        Ok(None)
    }

    /// Make the ordered links (descriptions of a browser's length and four candidates each), and have every stream at
    /// once.
    async fn obey(&mut self, orders: &Orders) -> Result<(), ClientError> {
        if orders.reset {
            self.links.clear();
            self.parents.clear();
        }
        for change in &orders.changes {
            match change {
                Order::Link { peer, offer, relay } => {
                    self.links.insert(*peer, *offer);
                    if relay.is_some() {
                        self.relay.clone_from(relay);
                    } else if *offer {
                        self.describe(*peer, DescriptionKind::Offer).await?;
                    }
                }
                Order::Unlink { peer } => {
                    self.links.remove(peer);
                }
                Order::Parent {
                    stream,
                    parent: Some(parent),
                    ..
                } => {
                    self.parents.insert(*stream, *parent);
                    self.moved.insert(*stream);
                    self.send(&ClientMessage::Ready {
                        stream: *stream,
                        parent: *parent,
                    })
                    .await?;
                }
                Order::Parent {
                    stream,
                    parent: None,
                    ..
                } => {
                    self.parents.remove(stream);
                }
                // It has no frames, so it does without them; the server's word on a backup changes nothing for it.
                Order::Feed { .. }
                | Order::Release { .. }
                | Order::StandBy { .. }
                | Order::Backup { .. } => {}
            }
        }
        Ok(())
    }

    async fn describe(&mut self, to: u16, kind: DescriptionKind) -> Result<(), ClientError> {
        // Chromium's description of three data channels is about this long.
        let sdp = format!(
            "v=0\r\na=ice-ufrag:{}\r\n{}",
            self.random(4),
            "a=x-filler:0123456789abcdef\r\n".repeat(16)
        );
        let signature = self.random(64);
        self.send(&ClientMessage::Description {
            to,
            kind,
            sdp,
            signature,
        })
        .await?;
        for n in 0..4 {
            let candidate =
                format!("candidate:{n} 1 udp 2113937151 192.0.2.{n} 50000 typ host generation 0");
            self.send(&ClientMessage::Candidate {
                to,
                candidate,
                mid: Some("0".into()),
            })
            .await?;
        }
        let body = self.random(180);
        self.send(&ClientMessage::Mail { to, body }).await
    }

    /// What a browser reports once a second.
    pub async fn report(&mut self) -> Result<(), ClientError> {
        let links = self.links.keys().map(|&peer| LinkReport {
            peer,
            rtt_ms: 20.0,
            sent_bps: 700_000,
            loss: 0.0,
        });
        let edges = self.parents.iter().map(|(&stream, &parent)| EdgeReport {
            stream,
            parent,
            bps: 700_000,
            delay_ms: 12.0,
            layer: Some(1),
        });
        let report = Report {
            uplink_bps: Some(5_000_000),
            links: links.collect(),
            edges: edges.collect(),
            ..Report::default()
        };
        self.send(&ClientMessage::Report(report)).await
    }

    /// A chat line of usual length. Returns its body.
    pub async fn chat(&mut self) -> Result<String, ClientError> {
        let body = self.random(120);
        self.send(&ClientMessage::Chat { body: body.clone() })
            .await?;
        Ok(body)
    }

    /// Leave for good.
    pub async fn leave(mut self) -> Result<(), ClientError> {
        self.send(&ClientMessage::Leave).await?;
        Ok(self.socket.close(None).await?)
    }
}
