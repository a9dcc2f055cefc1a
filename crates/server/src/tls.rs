//! Certificates: from two files, or one of our own that is kept in the data directory so that a phone is asked once.

use crate::config::{Config, TlsMode};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Browsers take no certificate for longer than about 13 months.
const VALID: Duration = Duration::from_secs(390 * 86_400);
/// A certificate older than this is replaced at the next start or reload.
const RENEW: Duration = Duration::from_secs(300 * 86_400);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("cannot read or write {path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not PEM, or nothing in it.
    #[error("{path} holds no {wanted} in PEM form")]
    Pem {
        /// Which.
        path: PathBuf,
        /// Certificate or key.
        wanted: &'static str,
    },
    /// The two do not go together.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// Our own certificate.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// What the configuration asks for; `None` for plain HTTP.
pub fn load(config: &Config) -> Result<Option<Arc<ServerConfig>>, TlsError> {
    let (cert, key) = match config.tls.mode {
        TlsMode::Off => return Ok(None),
        TlsMode::Files => (config.tls.cert.clone(), config.tls.key.clone()),
        TlsMode::SelfSigned => self_signed(&config.data)?,
    };
    let file = |path: &Path| {
        std::fs::read(path).map_err(|error| TlsError::File {
            path: path.into(),
            error,
        })
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&file(&cert)?)
        .filter_map(Result::ok)
        .collect();
    if chain.is_empty() {
        return Err(TlsError::Pem {
            path: cert,
            wanted: "certificate",
        });
    }
    let private = PrivateKeyDer::from_pem_slice(&file(&key)?).map_err(|_| TlsError::Pem {
        path: key,
        wanted: "private key",
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(server)))
}

/// The certificate for the names that this machine has now: the kept one while it fits, else a new one.
fn self_signed(data: &Path) -> Result<(PathBuf, PathBuf), TlsError> {
    let directory = data.join("tls");
    let [cert, key, names] = ["self-signed.crt", "self-signed.key", "self-signed.names"]
        .map(|name| directory.join(name));
    let wanted = own_names();
    let age = std::fs::metadata(&cert)
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|made| made.elapsed().ok());
    let kept: Vec<String> = std::fs::read_to_string(&names)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect();
    let fits = wanted.iter().all(|name| kept.contains(name))
        && age.is_some_and(|age| age < RENEW)
        && key.exists();
    if !fits {
        let pair = KeyPair::generate()?;
        let mut params = CertificateParams::new(wanted.clone())?;
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Grove on this machine");
        params.not_before = (SystemTime::now() - Duration::from_secs(86_400)).into();
        params.not_after = (SystemTime::now() + VALID).into();
        let certificate = params.self_signed(&pair)?;
        let written = std::fs::create_dir_all(&directory)
            .and_then(|()| write_private(&key, &pair.serialize_pem()))
            .and_then(|()| std::fs::write(&cert, certificate.pem()))
            .and_then(|()| std::fs::write(&names, wanted.join("\n")));
        written.map_err(|error| TlsError::File {
            path: directory,
            error,
        })?;
    }
    Ok((cert, key))
}

/// For the owner's eyes from the first byte on.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}

fn own_names() -> Vec<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .trim()
        .to_lowercase();
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    if !host.is_empty() {
        names.extend([format!("{host}.local"), host]);
    }
    names.extend(local_addresses().iter().map(IpAddr::to_string));
    names.sort();
    names.dedup();
    names
}

/// The addresses of this machine that another one in the network could use.
pub fn local_addresses() -> Vec<IpAddr> {
    addresses_of(|_| true)
}

/// The same without those of bridges to containers and virtual machines: nobody else reaches them.
pub fn outside_addresses() -> Vec<IpAddr> {
    addresses_of(|interface| !is_inner(interface))
}

/// By the names that Docker, Podman, CNI, libvirt, LXC and LXD give.
fn is_inner(interface: &str) -> bool {
    const NAMES: [&str; 8] = [
        "docker", "br-", "podman", "cni", "virbr", "lxcbr", "lxdbr", "veth",
    ];
    NAMES.iter().any(|name| interface.starts_with(name))
}

fn addresses_of(wanted: impl Fn(&str) -> bool) -> Vec<IpAddr> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let useful = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    all.into_iter()
        .filter(|interface| wanted(&interface.name))
        .map(|interface| interface.ip())
        .filter(useful)
        .collect()
}
