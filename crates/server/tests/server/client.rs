//! A running server and clients that speak the protocol.

use futures_util::{SinkExt as _, StreamExt as _};
use grove_server::config::{Config, Flags};
use grove_server::log::Level;
use grove_server::reload::Reloader;
use grove_server::server::{Server, Stopper};
use grove_server::signal::message::{ClientMessage, Join, Joined, ServerMessage};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Nothing here takes this long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Running {
    pub address: SocketAddr,
    pub stopper: Stopper,
    pub reloader: Reloader,
    /// Removed with the server.
    pub data: tempfile::TempDir,
    pub done: tokio::task::JoinHandle<std::io::Result<()>>,
}

pub fn config(data: &tempfile::TempDir, values: &[(&'static str, &str)]) -> Config {
    let mut flags = Flags::default();
    flags.values.insert("listen", "127.0.0.1:0".into());
    flags
        .values
        .insert("data", data.path().display().to_string());
    flags.values.extend(
        values
            .iter()
            .map(|(path, text)| (*path, (*text).to_owned())),
    );
    Config::load(&flags, std::iter::empty()).expect("this is a configuration")
}

/// The server that `main` would run, with these values.
pub async fn start(values: &[(&'static str, &str)]) -> Running {
    let data = tempfile::tempdir().expect("a directory for the test");
    let server = Server::load(config(&data, values)).expect("the server loads");
    let (address, stopper) = (server.address(), server.stopper());
    Running {
        address,
        stopper,
        reloader: server.reloader(Level::default()),
        data,
        done: tokio::spawn(server.run()),
    }
}

impl Running {
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn client(&self) -> Client {
        self.connect(Some(&self.origin()), Some("grove.v1"))
            .await
            .expect("the server takes the connection")
    }

    /// Tries to open a WebSocket for signalling; the status of the answer when it is refused.
    pub async fn connect(
        &self,
        origin: Option<&str>,
        protocol: Option<&str>,
    ) -> Result<Client, u16> {
        let socket = self.open("/api/v1/signal", origin, protocol).await?;
        Ok(Client { socket })
    }

    /// The same with any path.
    pub async fn open(
        &self,
        path: &str,
        origin: Option<&str>,
        protocol: Option<&str>,
    ) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, u16> {
        let url = format!("ws://{}{path}", self.address);
        let mut request = url.into_client_request().expect("this is an address");
        for (name, value) in [("Origin", origin), ("Sec-WebSocket-Protocol", protocol)] {
            if let Some(value) = value {
                request
                    .headers_mut()
                    .insert(name, value.parse().expect("this is a header"));
            }
        }
        match connect_async(request).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// Status, head and body of one answer.
    pub async fn get(&self, path: &str, more: &str) -> (u16, String, String) {
        self.ask("GET", path, more).await
    }

    /// The same with any method.
    pub async fn ask(&self, method: &str, path: &str, more: &str) -> (u16, String, String) {
        let mut socket = TcpStream::connect(self.address)
            .await
            .expect("the server listens");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{more}Connection: close\r\n\r\n",
            self.address
        );
        socket
            .write_all(request.as_bytes())
            .await
            .expect("the server reads");
        let mut answer = Vec::new();
        socket
            .read_to_end(&mut answer)
            .await
            .expect("the server answers");
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("an answer has a status");
        (status, head.to_lowercase(), body.to_owned())
    }

    pub async fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics", "").await.2;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a metric is a number"))
    }

    pub async fn room(&self) -> String {
        self.create(json!({ "type": "create" })).await
    }

    /// The room that a message makes.
    pub async fn create(&self, message: Value) -> String {
        let mut client = self.client().await;
        client.send(message).await;
        match client.next().await {
            ServerMessage::Created { room } => room,
            other => panic!("no room: {other:?}"),
        }
    }

    /// Somebody in a room.
    pub async fn enter(&self, room: &str, seed: u8) -> (Client, Joined) {
        let mut client = self.client().await;
        let joined = client.join(room, seed, None).await;
        (client, joined)
    }
}

pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub async fn send(&mut self, message: Value) {
        self.send_text(message.to_string()).await;
    }

    pub async fn send_text(&mut self, text: String) {
        self.socket
            .send(Message::text(text))
            .await
            .expect("the server reads");
    }

    /// Sends, and says whether that worked.
    pub async fn try_send(&mut self, message: Message) -> bool {
        self.socket.send(message).await.is_ok()
    }

    /// The next message of the protocol.
    pub async fn next(&mut self) -> ServerMessage {
        match tokio::time::timeout(PATIENCE, self.next_or_close())
            .await
            .expect("the server answers in time")
        {
            Ok(message) => message,
            Err(close) => panic!("closed: {close:?}"),
        }
    }

    /// The next message that `pick` takes.
    pub async fn find<T>(&mut self, pick: impl Fn(ServerMessage) -> Option<T>) -> T {
        loop {
            if let Some(found) = pick(self.next().await) {
                return found;
            }
        }
    }

    /// How the server closes; messages before it are dropped.
    pub async fn close(&mut self) -> (u16, String) {
        let closing = async {
            loop {
                if let Err(close) = self.next_or_close().await {
                    return close.expect("the server says why");
                }
            }
        };
        tokio::time::timeout(PATIENCE, closing)
            .await
            .expect("the server closes in time")
    }

    async fn next_or_close(&mut self) -> Result<ServerMessage, Option<(u16, String)>> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(&text).expect("the server speaks the protocol"));
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map(|frame| (frame.code.into(), frame.reason.to_string())));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    pub async fn join(&mut self, room: &str, seed: u8, resume: Option<String>) -> Joined {
        let message = ClientMessage::Join(join(room, seed, resume));
        self.send(serde_json::to_value(message).expect("a message is JSON"))
            .await;
        match self.next().await {
            ServerMessage::Joined(joined) => joined,
            other => panic!("not joined: {other:?}"),
        }
    }
}

pub fn join(room: &str, seed: u8, resume: Option<String>) -> Join {
    use base64::Engine as _;
    let text = |length| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(vec![seed; length]);
    let join = json!({
        "version": 1,
        "room": room,
        "participant": text(12),
        "name": format!("Planted name {seed}"),
        "identity": { "nonce": text(16), "kem_key": text(32), "sign_key": text(32), "mac": text(32) },
        "capabilities": { "frames": true, "forward": true },
        "resume": resume,
    });
    serde_json::from_value(join).expect("this is an entry")
}

pub fn camera() -> Value {
    json!({
        "type": "publish",
        "publication": {
            "stream": 0,
            "kind": "camera",
            "audio_bps": 32_000,
            "layers": [{ "width": 320, "height": 180, "bps": 150_000 }],
        },
    })
}
