//! A server whose configuration changes while it runs.

use crate::client::{Running, config, start};
use crate::relay::{CAMERA, Call, DELTA, KEY, Link, PATH, PROTOCOL, call, ordered, sealed};
use grove_relay::Udp;
use grove_server::config::change::{Effect, Relay};
use grove_server::config::{Config, Flags};
use grove_server::room::relay::RELAY;
use grove_server::signal::message::*;
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::Message;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ANEW: Relay = Relay::Start { end_first: true };

/// The configuration of a running server, with these values.
fn with(server: &Running, values: &[(&'static str, &str)]) -> Config {
    config(&server.data, values)
}

/// Does something hold the relay's UDP port, which has the number of the TCP port?
fn port_is_held(server: &Running) -> bool {
    UdpSocket::bind(server.address).is_err()
}

/// Ada's camera goes to Bob over these links.
async fn goes_on(server: &Running, links: [&RelayLink; 2]) {
    let up = Link::open(server, links[0]).await;
    let mut down = Link::open(server, links[1]).await;
    down.take(CAMERA);
    for (number, kind) in [(100, KEY), (101, DELTA)] {
        let frame = sealed(number, kind);
        up.send(Message::Binary(frame.clone()));
        assert_eq!(down.frame().await, frame);
    }
}

#[tokio::test]
async fn a_relay_whose_settings_change_starts_anew_and_the_call_goes_on_over_new_links() {
    let Call {
        mut server,
        mut ada,
        mut bob,
        up,
        down,
    } = call().await;
    let new = with(&server, &[("relay.egress_bps", "5000000")]);
    let change = server.reloader.reload(Ok(new)).await.expect("it is taken");
    assert_eq!((change.relay, change.appeared.len()), (ANEW, 0));
    assert!(port_is_held(&server));
    assert_eq!([up.close().await.0, down.close().await.0], [4407, 4407]);
    let links = [ordered(&mut ada).await, ordered(&mut bob).await];
    goes_on(&server, [&links[0], &links[1]]).await;
    // Nobody left or came again.
    assert_eq!(server.metric("grove_participants").await, 2.0);
    assert_eq!(
        server.metric("grove_joins_total{result=\"resumed\"}").await,
        0.0
    );
}

#[tokio::test]
async fn what_does_not_touch_the_relay_leaves_its_links_alone() {
    let mut call = call().await;
    let new = with(
        &call.server,
        &[
            ("rooms.max", "1"),
            ("signal.burst", "7"),
            ("listen", "127.0.0.1:1"),
        ],
    );
    let change = call.server.reloader.reload(Ok(new)).await;
    let change = change.expect("it is taken");
    assert_eq!(change.relay, Relay::Keep);
    let later: Vec<_> = change.with(Effect::Restart).collect();
    assert_eq!(later, ["listen", "signal.burst"]);
    let frame = sealed(1, DELTA);
    call.up.send(Message::Binary(frame.clone()));
    assert_eq!(call.down.frame().await, frame);
    // The other holds: there is a room already.
    let mut client = call.server.client().await;
    client.send(json!({ "type": "create" })).await;
    assert!(matches!(client.next().await, ServerMessage::Error { .. }));
    let new = with(&call.server, &[("rooms.preset", "bbvoice")]);
    call.server.reloader.reload(Ok(new)).await.expect("taken");
    let room = call.server.room().await;
    let (_, joined) = call.server.enter(&room, 3).await;
    assert_eq!(joined.policy, Policy::Tree { branching: 2 });
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_changes_nothing() {
    let mut call = call().await;
    let flags = Flags {
        file: Some(call.server.data.path().join("missing.toml")),
        ..Flags::default()
    };
    let read = Config::load(&flags, std::iter::empty());
    let error = call.server.reloader.reload(read).await;
    let error = error.expect_err("there is no file").to_string();
    assert!(error.contains("missing.toml: No such file"), "{error}");
    let frame = sealed(1, DELTA);
    call.up.send(Message::Binary(frame.clone()));
    assert_eq!(call.down.frame().await, frame);
}

/// A certificate of its own in two files; returns it.
fn certificate(files: [&Path; 2]) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("it is made");
    let texts = [made.cert.pem(), made.signing_key.serialize_pem()];
    for (file, text) in files.into_iter().zip(texts) {
        std::fs::write(file, text).expect("the file can be written");
    }
    made.cert.der().clone()
}

/// Does a new connection get this certificate?
async fn shows(server: &Running, certificate: &CertificateDer<'static>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("it is a certificate");
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(server.address).await;
    let name = ServerName::try_from("localhost").expect("this is a name");
    TlsConnector::from(Arc::new(client))
        .connect(name, socket.expect("the server listens"))
        .await
        .is_ok()
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_whoever_comes_and_a_broken_one_changes_nothing() {
    let files = tempfile::tempdir().expect("a directory for the test");
    let [cert, key] = ["chain.pem", "key.pem"].map(|name| files.path().join(name));
    let first = certificate([&cert, &key]);
    let paths = [&cert, &key].map(|path| path.display().to_string());
    let tls = [("tls.cert", paths[0].as_str()), ("tls.key", &paths[1])];
    let mut server = start(&tls).await;
    assert!(shows(&server, &first).await);
    let second = certificate([&cert, &key]);
    assert!(shows(&server, &first).await, "nobody has said so yet");
    let same = with(&server, &tls);
    let change = server.reloader.reload(Ok(same)).await;
    assert_eq!(change.expect("it is taken").relay, Relay::Keep);
    assert_eq!(
        [shows(&server, &first).await, shows(&server, &second).await],
        [false, true]
    );
    std::fs::write(&cert, "no certificate").expect("the file can be written");
    let off = with(&server, &[tls[0], tls[1], ("relay.enabled", "false")]);
    let error = server.reloader.reload(Ok(off)).await;
    let error = error.expect_err("that is no certificate").to_string();
    assert!(error.contains("holds no certificate"), "{error}");
    assert!(shows(&server, &second).await);
    assert!(port_is_held(&server), "nor has the relay ended");
}

#[tokio::test]
async fn a_port_that_is_taken_leaves_the_relay_as_it_was() {
    let mut call = call().await;
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let taken = taken
        .local_addr()
        .map(|address| (taken, address.to_string()));
    let (_taken, address) = taken.expect("it is bound");
    let values = [("relay.udp_listen", address.as_str()), ("rooms.max", "1")];
    let new = with(&call.server, &values);
    let change = call.server.reloader.reload(Ok(new)).await;
    let change = change.expect("the rest is taken");
    assert_eq!(change.relay, Relay::Keep);
    assert_eq!(change.keys, [("rooms.max", Effect::AtOnce)]);
    assert!(port_is_held(&call.server));
    let frame = sealed(1, DELTA);
    call.up.send(Message::Binary(frame.clone()));
    assert_eq!(call.down.frame().await, frame, "no link has noticed");
}

#[tokio::test]
async fn a_relay_that_cannot_have_its_port_at_another_address_starts_anew_at_the_former() {
    let Call {
        mut server,
        mut ada,
        mut bob,
        ..
    } = call().await;
    let port = server.address.port();
    let other: IpAddr = Ipv4Addr::new(127, 0, 0, 2).into();
    let _taken = UdpSocket::bind((other, port)).expect("nobody has it");
    let new = with(&server, &[("relay.udp_listen", &format!("{other}:{port}"))]);
    let change = server.reloader.reload(Ok(new)).await;
    assert_eq!(change.expect("the rest is taken").relay, Relay::Keep);
    assert!(port_is_held(&server));
    let links = [ordered(&mut ada).await, ordered(&mut bob).await];
    goes_on(&server, [&links[0], &links[1]]).await;
}

#[tokio::test]
async fn another_port_is_taken_before_the_former_is_given_back() {
    let mut call = call().await;
    let other = Udp::bind(&[LOCAL], 0, 1).expect("a port is free");
    let port = other.candidates()[0].port();
    drop(other);
    let new = with(
        &call.server,
        &[("relay.udp_listen", &format!("127.0.0.1:{port}"))],
    );
    let change = call.server.reloader.reload(Ok(new)).await;
    let anew = Relay::Start { end_first: false };
    assert_eq!(change.expect("it is taken").relay, anew);
    assert!(!port_is_held(&call.server));
    assert!(UdpSocket::bind((LOCAL, port)).is_err());
    let links = [ordered(&mut call.ada).await, ordered(&mut call.bob).await];
    goes_on(&call.server, [&links[0], &links[1]]).await;
}

#[tokio::test]
async fn a_relay_can_be_turned_off_and_on_and_its_door_with_it() {
    let Call {
        mut server,
        mut ada,
        mut bob,
        up,
        ..
    } = call().await;
    let off = with(&server, &[("relay.enabled", "false")]);
    let change = server.reloader.reload(Ok(off)).await.expect("it is taken");
    assert_eq!(change.relay, Relay::End);
    assert!(!port_is_held(&server));
    assert_eq!(up.close().await.0, 4407);
    let auto = |message| match message {
        ServerMessage::PolicyChanged { policy, by, .. } => Some((policy, by)),
        _ => None,
    };
    assert_eq!(ada.find(auto).await, (Policy::Auto, 0));
    let own = server.origin();
    let answer = server.open(PATH, Some(&own), Some(PROTOCOL)).await;
    assert_eq!(answer.map(drop), Err(404));

    let on = with(&server, &[]);
    server.reloader.reload(Ok(on)).await.expect("it is taken");
    assert!(port_is_held(&server));
    ada.send(json!({ "type": "set_policy", "policy": { "kind": "relay" } }))
        .await;
    let links = [ordered(&mut ada).await, ordered(&mut bob).await];
    goes_on(&server, [&links[0], &links[1]]).await;
    let room = server.room().await;
    let (_, joined) = server.enter(&room, 3).await;
    assert_eq!(joined.relays, [RELAY]);
}

#[tokio::test]
async fn links_over_quic_are_told_the_port_that_holds() {
    let quic = |port: &str| format!("127.0.0.1:{port}");
    let mut server = start(&[("relay.quic_listen", &quic("0"))]).await;
    let room = server
        .create(json!({ "type": "create", "policy": { "kind": "relay" } }))
        .await;
    let (mut ada, _) = server.enter(&room, 1).await;
    let (_bob, _) = server.enter(&room, 2).await;
    ada.send(crate::client::camera()).await;
    let first = ordered(&mut ada).await.quic.expect("there is a port");
    let values = [
        ("relay.quic_listen", quic("0")),
        ("relay.slots", "9".into()),
    ];
    let values = values.each_ref().map(|(key, value)| (*key, value.as_str()));
    let new = with(&server, &values);
    server.reloader.reload(Ok(new)).await.expect("it is taken");
    let second = ordered(&mut ada).await.quic;
    assert_eq!(second.as_ref(), Some(&first), "the endpoint is the same");
    let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let other = free.expect("a port is free").port();
    let new = with(&server, &[("relay.quic_listen", &quic(&other.to_string()))]);
    server.reloader.reload(Ok(new)).await.expect("it is taken");
    let third = ordered(&mut ada).await.quic.expect("there is a port");
    assert_eq!(third.port, other);
    assert_ne!(third.certificate_sha256, first.certificate_sha256);
    let new = with(&server, &[]);
    server.reloader.reload(Ok(new)).await.expect("it is taken");
    assert_eq!(ordered(&mut ada).await.quic, None);
}

#[test]
fn sighup_takes_the_file_over_and_says_in_words_what_needs_a_restart() {
    let data = tempfile::tempdir().expect("a directory for the test");
    let file = data.path().join("grove.toml");
    let write = |listen: &str, more: &str| {
        let place = data.path().display();
        let text = format!("listen = \"{listen}\"\ndata = \"{place}\"\n{more}");
        std::fs::write(&file, text).expect("the file can be written");
    };
    write("127.0.0.1:0", "[log]\nlevel = \"warn\"\n");
    let mut server = Command::new(env!("CARGO_BIN_EXE_grove"))
        .args(["serve", "--config"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let pipe = |pipe: Option<_>| BufReader::new(pipe.expect("it is piped")).lines();
    let mut said = pipe(
        server
            .stdout
            .take()
            .map(|out| Box::new(out) as Box<dyn std::io::Read>),
    );
    let mut log = pipe(
        server
            .stderr
            .take()
            .map(|err| Box::new(err) as Box<dyn std::io::Read>),
    );
    let greeting = said.next().expect("it greets").expect("text");
    assert!(greeting.starts_with("Grove serves on"), "{greeting}");
    let pid = server.id().to_string();
    let mut hang_up_until = |words: &str| {
        let sent = Command::new("kill").args(["-HUP", &pid]).status();
        assert!(sent.expect("there is such a command").success());
        let mut before = Vec::new();
        loop {
            let line = log.next().expect("it says so").expect("text");
            if line.contains(words) {
                return before;
            }
            before.push(line);
        }
    };
    // A file with a mistake first: it is said, and nothing else.
    write("127.0.0.1:0", "[relay]\negress = 1\n");
    hang_up_until("nothing of the configuration has changed: unknown key");
    write(
        "127.0.0.1:1",
        "[log]\nlevel = \"info\"\n[relay]\nudp_listen = \"off\"\n",
    );
    let lines = hang_up_until("the configuration was read again");
    let said = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!(
        said("`listen` has changed; it takes effect after a restart"),
        1
    );
    assert_eq!(
        said("the relay has started anew keys=[\"relay.udp_listen\"]"),
        1
    );
    server.kill().expect("it runs");
    server.wait().expect("it ends");
}
