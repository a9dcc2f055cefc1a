//! Janus and its VideoRoom plugin as a process of its own, and the calls of its API that a broadcast needs.
//!
//! The configuration is its default but for two event loops (a thread per handle costs it twice as much), plugins and
//! transports that are not used, and the one address that it may speak from.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream as StdTcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::LabError;

const EVENT_LOOPS: u32 = 2;
const ROOM: u64 = 1;
const READY_WITHIN: Duration = Duration::from_secs(15);
const PLUGIN: &str = "janus.plugin.videoroom";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where the program is, if it is installed.
pub(crate) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("janus"))
        .find(|file| file.is_file())
}

/// A running Janus. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Its WebSocket.
    pub(crate) at: SocketAddr,
    _configuration: tempfile::TempDir,
}

impl Process {
    /// Starts it at `address`, which must not be a loopback one: it skips those.
    pub(crate) fn start(address: IpAddr) -> Result<Self, LabError> {
        let cannot = |error: std::io::Error| LabError::CannotRun(format!("janus: {error}"));
        let program = find().ok_or_else(|| {
            LabError::CannotRun("janus is not installed (Debian package `janus`)".into())
        })?;
        let folder = tempfile::tempdir().map_err(cannot)?;
        let at = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(cannot)?;
        let main = format!(
            "general: {{ event_loops = {EVENT_LOOPS}\n session_timeout = 0\n debug_level = 2 }}\n\
             media: {{ ipv6 = false }}\n\
             nat: {{ ice_lite = true\n ice_enforce_list = \"{address}\" }}\n\
             plugins: {{ disable = \"libjanus_audiobridge.so,libjanus_duktape.so,libjanus_echotest.so,libjanus_lua.so,\
             libjanus_nosip.so,libjanus_recordplay.so,libjanus_sip.so,libjanus_streaming.so,libjanus_textroom.so,\
             libjanus_videocall.so,libjanus_voicemail.so\" }}\n\
             transports: {{ disable = \"libjanus_http.so,libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,\
             libjanus_rabbitmq.so\" }}\n\
             events: {{ broadcast = false }}\n"
        );
        let sockets = format!(
            "general: {{ json = \"compact\"\n ws = true\n ws_port = {}\n ws_ip = \"127.0.0.1\" }}\n",
            at.port()
        );
        for (name, text) in [
            ("janus.jcfg", main),
            ("janus.transport.websockets.jcfg", sockets),
            ("janus.plugin.videoroom.jcfg", "general: { }\n".to_owned()),
        ] {
            std::fs::write(folder.path().join(name), text).map_err(cannot)?;
        }
        let child = Command::new(program)
            .arg("--configs-folder")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(cannot)?;
        let mut process = Self {
            child,
            at,
            _configuration: folder,
        };
        let latest = Instant::now() + READY_WITHIN;
        while StdTcpStream::connect(at).is_err() {
            let ended = process.child.try_wait().map_err(cannot)?.is_some();
            if ended || Instant::now() > latest {
                return Err(LabError::CannotRun("janus did not start".into()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(process)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Value>>>>;

/// One session of Janus's API, with a handle per peer.
#[derive(Debug)]
pub(crate) struct Gateway {
    write: tokio::sync::Mutex<SplitSink<WebSocketStream<TcpStream>, Message>>,
    waiting: Waiting,
    next: AtomicU64,
    session: AtomicU64,
    /// The publisher, once there is one.
    feed: AtomicU64,
}

impl Gateway {
    /// Opens a session, and makes the room.
    pub(crate) async fn connect(at: SocketAddr, audio: bool) -> Result<Self, Failure> {
        let mut request = format!("ws://{at}/").into_client_request()?;
        let headers = request.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", "janus-protocol".parse()?);
        let (socket, _) = client_async(request, TcpStream::connect(at).await?).await?;
        let (write, mut read) = socket.split();
        let waiting = Waiting::default();
        let answers = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Some(Ok(message)) = read.next().await {
                let Ok(Ok(value)) = message.to_text().map(serde_json::from_str::<Value>) else {
                    continue;
                };
                // What is only acknowledged is answered later, under the same name.
                let Some(name) = value["transaction"]
                    .as_str()
                    .filter(|_| value["janus"] != "ack")
                else {
                    continue;
                };
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(answer) = answers.remove(name) {
                    let _ = answer.send(value);
                }
            }
        });
        let gateway = Self {
            write: tokio::sync::Mutex::new(write),
            waiting,
            next: AtomicU64::new(1),
            session: AtomicU64::new(0),
            feed: AtomicU64::new(0),
        };
        let session = gateway.call(json!({ "janus": "create" })).await?;
        gateway.session.store(id(&session)?, Ordering::Relaxed);
        let handle = gateway.attach().await?;
        let (bitrate, codec) = (20_000_000, if audio { "opus" } else { "vp8" });
        let room = json!({ "request": "create", "room": ROOM, "publishers": 2, "bitrate": bitrate,
            if audio { "audiocodec" } else { "videocodec" }: codec });
        gateway.ask(handle, room, None).await?;
        Ok(gateway)
    }

    /// Says something, and returns what comes of it.
    async fn call(&self, mut message: Value) -> Result<Value, Failure> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        message["transaction"] = name.clone().into();
        let session = self.session.load(Ordering::Relaxed);
        if session != 0 {
            message["session_id"] = session.into();
        }
        let (answer, answered) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, answer);
        let text = Message::text(message.to_string());
        self.write.lock().await.send(text).await?;
        let answer = answered.await?;
        let error = &answer["plugindata"]["data"]["error"];
        if answer["janus"] == "error" || !error.is_null() {
            return Err(format!("janus: {answer}").into());
        }
        Ok(answer)
    }

    async fn attach(&self) -> Result<u64, Failure> {
        let attached = self.call(json!({ "janus": "attach", "plugin": PLUGIN }));
        id(&attached.await?)
    }

    async fn ask(&self, handle: u64, body: Value, sdp: Option<Value>) -> Result<Value, Failure> {
        let mut message = json!({ "janus": "message", "handle_id": handle, "body": body });
        if let Some(sdp) = sdp {
            message["jsep"] = sdp;
        }
        self.call(message).await
    }

    /// The answer to the publisher's offer.
    pub(crate) async fn publish(&self, offer: String) -> Result<String, Failure> {
        let handle = self.attach().await?;
        let join = json!({ "request": "join", "ptype": "publisher", "room": ROOM });
        let joined = self.ask(handle, join, None).await?;
        let feed = joined["plugindata"]["data"]["id"].as_u64();
        self.feed
            .store(feed.ok_or("janus: no id")?, Ordering::Relaxed);
        let jsep = json!({ "type": "offer", "sdp": offer, "trickle": false });
        let publish = json!({ "request": "publish" });
        description(&self.ask(handle, publish, Some(jsep)).await?)
    }

    /// An offer to receive what the publisher sends, and to whom the answer goes.
    pub(crate) async fn subscribe(&self) -> Result<(u64, String), Failure> {
        let handle = self.attach().await?;
        let feed = self.feed.load(Ordering::Relaxed);
        let join = json!({ "request": "join", "ptype": "subscriber", "room": ROOM,
            "streams": [{ "feed": feed }] });
        let offer = description(&self.ask(handle, join, None).await?)?;
        Ok((handle, offer))
    }

    /// Takes the answer to [`Gateway::subscribe`]'s offer.
    pub(crate) async fn start(&self, handle: u64, answer: String) -> Result<(), Failure> {
        let jsep = json!({ "type": "answer", "sdp": answer, "trickle": false });
        self.ask(handle, json!({ "request": "start" }), Some(jsep))
            .await?;
        Ok(())
    }
}

fn id(answer: &Value) -> Result<u64, Failure> {
    answer["data"]["id"]
        .as_u64()
        .ok_or_else(|| "janus: no id".into())
}

fn description(answer: &Value) -> Result<String, Failure> {
    let sdp = answer["jsep"]["sdp"].as_str();
    sdp.map(str::to_owned)
        .ok_or_else(|| format!("janus: no description in {answer}").into())
}
