//! Pages, headers, health, certificates.

use crate::client::{config, start};
use grove_server::server::Server;
use grove_server::web::assets::ASSETS;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

#[tokio::test]
async fn the_app_answers_at_its_own_addresses_and_nothing_elsewhere() {
    let server = start(&[]).await;
    let table = [
        ("/", 200),
        ("/r/Zm9ydHktdHdvIGJ5", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/r/", 404),
        ("/r/a/b", 404),
        ("/nothing", 404),
        ("/../Cargo.toml", 404),
        ("/assets/", 404),
    ];
    for (path, expected) in table {
        assert_eq!(server.get(path, "").await.0, expected, "{path}");
    }
}

#[tokio::test]
async fn everything_is_only_read_and_says_so() {
    let server = start(&[]).await;
    for path in ["/", "/nothing", "/healthz", "/metrics", "/api/v1/signal"] {
        for method in ["POST", "OPTIONS", "DELETE"] {
            let (status, head, body) = server.ask(method, path, "").await;
            assert_eq!(status, 405, "{method} {path}");
            assert!(head.contains("\r\nallow: get"), "{head}");
            assert_eq!(body, "This address can only be read: GET and HEAD.\n");
        }
    }
    let (status, head, body) = server.ask("HEAD", "/", "").await;
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(head.contains("content-length: "), "{head}");
}

#[tokio::test]
async fn every_answer_carries_the_headers_that_bind_it() {
    let server = start(&[]).await;
    for path in ["/", "/healthz", "/nothing", "/api/v1/signal"] {
        let head = server.get(path, "").await.1;
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self';",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-opener-policy: same-origin",
            "permissions-policy: camera=(self), microphone=(self), display-capture=(self)",
        ] {
            assert!(head.contains(header), "{path}: {header}\n{head}");
        }
        let socket = format!("connect-src 'self' ws://{0} wss://{0};", server.address);
        assert!(head.contains(&socket), "{head}");
    }
}

#[tokio::test]
async fn built_files_are_kept_for_ever_and_the_page_is_asked_for_again() {
    let server = start(&[]).await;
    let (_, head, _) = server.get("/", "").await;
    assert!(head.contains("cache-control: no-cache"), "{head}");
    let tag = head
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .expect("the page has a tag")
        .to_owned();
    let (status, _, body) = server.get("/", &format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!((status, body.as_str()), (304, ""));
    for asset in ASSETS
        .iter()
        .filter(|asset| asset.path.starts_with("assets/"))
    {
        let (status, head, _) = server.get(&format!("/{}", asset.path), "").await;
        assert_eq!(status, 200);
        assert!(
            head.contains("immutable") && !head.contains("octet-stream"),
            "{}: {head}",
            asset.path
        );
    }
}

#[tokio::test]
async fn a_certificate_of_its_own_is_kept_private_and_trusted_once() {
    let data = tempfile::tempdir().expect("a directory for the test");
    let file = data.path().join("tls/self-signed.crt");
    let mut certificates = Vec::new();
    for _ in 0..2 {
        let server =
            Server::load(config(&data, &[("tls.mode", "self-signed")])).expect("the server loads");
        let address = server.address();
        assert!(server.greeting().starts_with(&format!(
            "Grove serves on https://localhost:{}",
            address.port()
        )));
        let running = tokio::spawn(server.run());
        let pem = std::fs::read(&file).expect("the certificate is kept");
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&pem).expect("it is PEM"))
            .expect("it is a certificate");
        let client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        for name in ["localhost", "127.0.0.1"] {
            let socket = TcpStream::connect(address)
                .await
                .expect("the server listens");
            let name = ServerName::try_from(name).expect("this is a name");
            connector
                .connect(name, socket)
                .await
                .expect("the certificate names this machine");
        }
        certificates.push(pem);
        running.abort();
    }
    assert_eq!(
        certificates[0], certificates[1],
        "the second start made another one"
    );
    let key = std::fs::metadata(data.path().join("tls/self-signed.key")).expect("the key is kept");
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_server_that_cannot_start_says_why_and_what_to_do() {
    let data = tempfile::tempdir().expect("a directory for the test");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let address = taken.local_addr().expect("it has an address").to_string();
    let missing = data.path().join("none.pem").display().to_string();
    let cases: [(&[(&'static str, &str)], &str); 2] = [
        (&[("listen", &address)], "`--listen` chooses another port"),
        (
            &[("tls.cert", &missing), ("tls.key", &missing)],
            "none.pem: No such file",
        ),
    ];
    for (values, words) in cases {
        let error = Server::load(config(&data, values))
            .expect_err("it cannot start")
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}
