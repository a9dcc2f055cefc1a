//! The keys of SRTP, taken from str0m's DTLS handshake as it ends.
//!
//! str0m keeps what DTLS exports to itself. Its crypto is exchangeable, though, so the DTLS of a connection built here is the
//! usual one in a wrapper that looks at what passes: when the keying material comes out, a copy is put where the builder of
//! the connection finds it. Nothing else is changed, and nothing is stored beyond the life of the connection.
//!
//! The provider of str0m's crypto has to be static, while there is a place for keys per connection: [`catching`] leaves the
//! place in a thread-local variable, where the provider takes it as the connection is being built.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use str0m::config::{CryptoProvider, DtlsCert, DtlsVersion};
use str0m::crypto::CryptoError;
use str0m::crypto::dtls::{
    DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion, SrtpProfile,
};
use str0m::{Rtc, RtcConfig};

use super::srtp::{Keys, MasterKey, Open, Profile, Seal};

/// What a handshake agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    /// How packets are protected.
    pub profile: Profile,
    /// The keys of both directions.
    pub keys: Keys,
    /// We are the DTLS client.
    pub client: bool,
}

impl Caught {
    fn ours_and_theirs(&self) -> (&MasterKey, &MasterKey) {
        let Keys { client, server } = &self.keys;
        if self.client {
            (client, server)
        } else {
            (server, client)
        }
    }

    /// For what we send. One connection needs but one: it counts.
    pub fn seal(&self) -> Option<Seal> {
        let (ours, _) = self.ours_and_theirs();
        Seal::new(self.profile, &ours.key, &ours.salt)
    }

    /// For the RTCP that comes, and for RTP of who has just begun to send.
    pub fn open(&self) -> Option<Open> {
        let (_, theirs) = self.ours_and_theirs();
        Open::new(self.profile, &theirs.key, &theirs.salt)
    }
}

/// What is seen of a connection's DTLS.
#[derive(Debug, Default)]
pub struct Seen {
    caught: OnceLock<Caught>,
    records: AtomicUsize,
}

impl Seen {
    /// The keys, once they are there.
    pub fn caught(&self) -> Option<&Caught> {
        self.caught.get()
    }

    /// Records with data that came and were genuine.
    pub fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }
}

/// Where the keys of a connection will be. str0m compares the fingerprint of the other side's certificate before they come
/// out, so once they are here they are those of the browser whose offer was accepted.
pub type Place = Arc<Seen>;

thread_local! {
    /// The place that the next DTLS of this thread gets.
    static NEXT: Cell<Option<Place>> = const { Cell::new(None) };
}

/// Builds a connection whose keys can be had: they are in the place when it says that it is connected. The crypto is
/// aws-lc-rs's, whatever the configuration names.
pub fn catching(config: RtcConfig, now: Instant) -> (Rtc, Place) {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| {
        Arc::new(CryptoProvider {
            dtls_provider: &Catching,
            ..usual().clone()
        })
    });
    let place = Place::default();
    NEXT.set(Some(Arc::clone(&place)));
    let rtc = config.set_crypto_provider(Arc::clone(provider)).build(now);
    (rtc, place)
}

fn usual() -> &'static CryptoProvider {
    static USUAL: OnceLock<CryptoProvider> = OnceLock::new();
    USUAL.get_or_init(str0m::crypto::from_feature_flags)
}

#[derive(Debug)]
struct Catching;

impl DtlsProvider for Catching {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        usual().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let inner = usual().dtls_provider.new_dtls(cert, now, version, mtu)?;
        Ok(match NEXT.take() {
            Some(place) => Box::new(Watched { inner, place }),
            None => inner,
        })
    }

    fn is_test(&self) -> bool {
        usual().dtls_provider.is_test()
    }
}

struct Watched {
    inner: Box<dyn DtlsInstance>,
    place: Place,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl DtlsInstance for Watched {
    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        let output = self.inner.poll_output(buffer);
        if let DtlsOutput::ApplicationData(_) = &output {
            self.place.records.fetch_add(1, Ordering::Relaxed);
        }
        if let DtlsOutput::KeyingMaterial(bytes, profile) = &output
            && let Some(profile) = known(*profile)
            && let Some(keys) = Keys::from_exporter(profile, bytes)
        {
            let client = self.inner.is_active();
            // Keys come once: there is no renegotiation in WebRTC.
            let _ = self.place.caught.set(Caught {
                profile,
                keys,
                client,
            });
        }
        output
    }

    fn set_active(&mut self, active: bool) {
        self.inner.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.inner.handle_packet(packet)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.inner.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.inner.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.inner.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.inner.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.inner.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.inner.close()
    }
}

/// `None`: str0m has learned of one that we do not know, and sends and receives with it by itself.
fn known(profile: SrtpProfile) -> Option<Profile> {
    match profile {
        SrtpProfile::AEAD_AES_128_GCM => Some(Profile::AeadAes128Gcm),
        SrtpProfile::AEAD_AES_256_GCM => Some(Profile::AeadAes256Gcm),
        SrtpProfile::AES128_CM_SHA1_80 => Some(Profile::Aes128CmSha1_80),
        _ => None,
    }
}
