//! Packets sealed by us, beside str0m on the same connection: what str0m at the other end makes of them, and what we
//! understand of its answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use grove_relay::rtp::keys::{Caught, catching};
use grove_relay::rtp::rtcp::{Feedback, SenderReport, read, write_sender_reports};
use grove_relay::rtp::srtp::{Keys, Open, Profile, Seal};
use str0m::change::SdpAnswer;
use str0m::config::{CryptoProvider, DtlsCert, DtlsVersion};
use str0m::crypto::CryptoError;
use str0m::crypto::dtls::{
    DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, KeyingMaterial, ProtocolVersion,
    SrtpProfile,
};
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpPacket;
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

const RELAY: ([u8; 4], u16) = ([10, 0, 0, 1], 3478);
const BROWSER: ([u8; 4], u16) = ([10, 0, 0, 2], 1000);
const OURS: u32 = 0x1234_5678;
const STEP: Duration = Duration::from_millis(5);
const TRANSPORT_WIDE: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

fn config() -> RtcConfig {
    RtcConfig::new()
        .set_crypto_provider(Arc::new(str0m::crypto::from_feature_flags()))
        .set_rtp_mode(true)
        .clear_codecs()
        .enable_vp8(true)
}

/// A relay's connection and the browser's, with nothing between them: what one sends the other has at once.
struct Ends {
    now: Instant,
    relay: Rtc,
    browser: Rtc,
    answer: String,
    connected: usize,
    open: Option<Open>,
    heard: Vec<Feedback>,
    got: BTreeMap<u64, RtpPacket>,
}

impl Ends {
    /// The browser offers to receive video. `bend` is done to the answer, in which our stream stands in place of str0m's.
    fn new(mut relay: Rtc, mut browser: Rtc, now: Instant, bend: fn(&mut String)) -> Self {
        for (rtc, address) in [(&mut relay, RELAY), (&mut browser, BROWSER)] {
            let candidate = Candidate::host(address.into(), "udp").expect("an address");
            rtc.add_local_candidate(candidate);
        }
        let mut api = browser.sdp_api();
        api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let (offer, pending) = api.apply().expect("something to offer");
        let answer = relay.sdp_api().accept_offer(offer).expect("an answer");
        let answer = answer.to_sdp_string();
        let (_, rest) = answer.split_once("a=ssrc:").expect("a stream");
        let (theirs, _) = rest.split_once(' ').expect("its number");
        let mut answer = answer.replace(theirs, &OURS.to_string());
        bend(&mut answer);
        let told = SdpAnswer::from_sdp_string(&answer).expect("an answer");
        let api = browser.sdp_api();
        api.accept_answer(pending, told).expect("a fitting answer");
        Self {
            now,
            relay,
            browser,
            answer,
            connected: 0,
            open: None,
            heard: Vec::new(),
            got: BTreeMap::new(),
        }
    }

    fn deliver(&mut self, to_relay: bool, datagram: &[u8]) {
        let ends: [SocketAddr; 2] = [RELAY.into(), BROWSER.into()];
        let (rtc, source, destination) = if to_relay {
            (&mut self.relay, ends[1], ends[0])
        } else {
            (&mut self.browser, ends[0], ends[1])
        };
        let receive = Receive::new(Protocol::Udp, source, destination, datagram);
        let input = Input::Receive(self.now, receive.expect("a known kind of datagram"));
        // What an error is about shows in what was got.
        let _ = rtc.handle_input(input);
        let is_rtcp = matches!(datagram, [128..=191, 192..=223, ..]);
        if let Some(open) = self.open.as_mut().filter(|_| to_relay && is_rtcp) {
            let mut out = Vec::new();
            let compound = open.rtcp(datagram, &mut out).expect("genuine RTCP");
            read(compound, |feedback| self.heard.push(feedback));
        }
    }

    fn end(&mut self, relay: bool) -> &mut Rtc {
        if relay {
            &mut self.relay
        } else {
            &mut self.browser
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        let now = self.now;
        for from_relay in [true, false] {
            let rtc = self.end(from_relay);
            if rtc.is_alive() {
                let _ = rtc.handle_input(Input::Timeout(now));
            }
            self.poll(from_relay);
        }
    }

    fn poll(&mut self, from_relay: bool) {
        loop {
            let rtc = self.end(from_relay);
            match rtc.poll_output() {
                Ok(Output::Transmit(transmit)) => {
                    let datagram = Vec::from(transmit.contents);
                    self.deliver(!from_relay, &datagram);
                    // So that nothing waits in the other for the clock.
                    self.poll(!from_relay);
                }
                Ok(Output::Event(Event::Connected)) => self.connected += 1,
                Ok(Output::Event(Event::RtpPacket(packet))) => {
                    let seq = *packet.seq_no;
                    assert!(self.got.insert(seq, packet).is_none(), "{seq} came twice");
                }
                Ok(Output::Event(_)) => {}
                Ok(Output::Timeout(_)) | Err(_) => return,
            }
        }
    }

    fn connect(&mut self) {
        for _ in 0..400 {
            self.step();
            if self.connected == 2 {
                return;
            }
        }
        panic!("no connection");
    }

    fn relay_is_client(&self) -> bool {
        self.answer.contains("a=setup:active")
    }
}

/// A packet of ours with its transport-wide number in a header extension, ready to be sealed, and its header's length.
fn packet(extension: u8, transport: u16, seq: u64, payload: &[u8]) -> (Vec<u8>, usize) {
    let mut packet = vec![0x90, 96];
    packet.extend((seq as u16).to_be_bytes());
    packet.extend((seq as u32 * 3000).to_be_bytes());
    packet.extend(OURS.to_be_bytes());
    packet.extend([0xbe, 0xde, 0, 1, extension << 4 | 1]);
    packet.extend(transport.to_be_bytes());
    packet.push(0);
    let header = packet.len();
    packet.extend(payload);
    (packet, header)
}

/// What a browser gets of 40 packets, of which the third comes last and the numbers wrap at the seventh, and what it
/// answers.
fn a_browser_gets_all(ends: &mut Ends, mut seal: Seal, open: Open) {
    ends.open = Some(open);
    let line = ends
        .answer
        .lines()
        .find(|line| line.ends_with(TRANSPORT_WIDE));
    let number = line.and_then(|line| line.strip_prefix("a=extmap:")?.split(' ').next());
    let extension: u8 = number.expect("an extension").parse().expect("its number");
    let first = 65_530u64;
    let payload = |seq: u64| vec![seq as u8; 30 + seq as usize % 1000];
    let send = |ends: &mut Ends, transport: u16, seq: u64| {
        let (mut buffer, header) = packet(extension, transport, seq, &payload(seq));
        let length = buffer.len();
        seal.rtp(OURS, seq, header, &mut buffer, 0);
        assert_eq!(buffer.len(), length + seal.rtp_overhead());
        ends.deliver(false, &buffer);
        ends.step();
    };
    let lost = first + 2;
    for n in (0..40).filter(|&n| n != 2) {
        send(ends, n, first + u64::from(n));
    }
    let asked: BTreeSet<Vec<u16>> = ends.heard.iter().filter_map(nack).collect();
    assert_eq!(asked, BTreeSet::from([vec![lost as u16]]));
    // It was never sealed: else its number could not be used with another transport-wide number.
    send(ends, 40, lost);

    let report = SenderReport {
        ssrc: OURS,
        ntp: 0xeeee_0000_8000_0000,
        rtp_time: 77,
        packets: 41,
        bytes: 4242,
    };
    let mut compound = Vec::new();
    write_sender_reports(&[report], "relay", &mut compound);
    seal.rtcp(&mut compound);
    ends.deliver(false, &compound);
    let last = first + 40;
    let (mut buffer, header) = packet(extension, 41, last, &payload(last));
    seal.rtp(OURS, last, header, &mut buffer, 0);
    ends.deliver(false, &buffer);
    for _ in 0..400 {
        ends.step();
    }

    let seqs: Vec<u64> = ends.got.keys().copied().collect();
    assert_eq!(seqs, (first..=last).collect::<Vec<_>>());
    for (&seq, packet) in &ends.got {
        assert_eq!(
            (*packet.header.ssrc, &packet.payload[..]),
            (OURS, &payload(seq)[..])
        );
    }
    let told = ends.got[&last].last_sender_info.expect("the report came");
    assert_eq!(*told.ssrc, OURS);
    assert_eq!(told.rtp_time.numer(), 77);
    assert_eq!(
        (told.sender_packet_count, told.sender_octet_count),
        (41, 4242)
    );

    // Each transport-wide number is told of, and only the lost one's packet as not come.
    let mut arrived = BTreeMap::new();
    let mut blocks = Vec::new();
    for feedback in &ends.heard {
        match feedback {
            Feedback::Transport(feedback) => {
                for (seq, time) in (feedback.base_seq..).zip(&feedback.packets) {
                    *arrived.entry(seq).or_insert(false) |= time.is_some();
                }
            }
            Feedback::Report(block) if block.ssrc == OURS => blocks.push(*block),
            _ => {}
        }
    }
    let numbers: Vec<(u16, bool)> = arrived.into_iter().collect();
    let expected: Vec<(u16, bool)> = (0..=41).map(|n| (n, n != 2)).collect();
    assert_eq!(numbers, expected);
    let block = blocks.last().expect("a report");
    assert_eq!(u64::from(block.highest_seq), last);
    // The middle of the report's time.
    assert_eq!((block.last_sr, block.lost), (0x0000_8000, 0));
}

fn nack(feedback: &Feedback) -> Option<Vec<u16>> {
    match feedback {
        Feedback::Nack { media: OURS, lost } => Some(lost.clone()),
        _ => None,
    }
}

#[test]
fn a_browser_gets_what_is_sealed_with_the_caught_keys_and_its_answers_are_understood() {
    let now = Instant::now();
    let (relay, place) = catching(config().set_ice_lite(true), now);
    let mut ends = Ends::new(relay, config().build(now), now, |_| ());
    assert!(place.caught().is_none());
    ends.connect();
    let caught = place.caught().expect("keys");
    assert_eq!(caught.client, ends.relay_is_client());
    let (seal, open) = (caught.seal().expect("keys"), caught.open().expect("keys"));
    a_browser_gets_all(&mut ends, seal, open);
}

#[test]
fn both_ends_catch_the_same_keys_and_opposite_parts() {
    let now = Instant::now();
    // One in between that is not caught takes nothing away.
    let (relay, ours) = catching(config().set_ice_lite(true), now);
    let _other = config().build(now);
    let (browser, theirs) = catching(config(), now);
    let mut ends = Ends::new(relay, browser, now, |_| ());
    ends.connect();
    let (ours, theirs) = (ours.caught().expect("keys"), theirs.caught().expect("keys"));
    assert_eq!(ours.client, !theirs.client);
    let other_part = Caught {
        client: ours.client,
        ..theirs.clone()
    };
    assert_eq!(&other_part, ours);
    assert_eq!(
        format!("{:?}", ours.keys),
        "Keys { client: MasterKey { .. }, server: MasterKey { .. } }"
    );
}

#[test]
fn a_certificate_that_is_not_the_offered_one_gives_no_keys() {
    let now = Instant::now();
    let (relay, _) = catching(config().set_ice_lite(true), now);
    let (browser, place) = catching(config(), now);
    let mut ends = Ends::new(relay, browser, now, |answer| {
        let (before, rest) = answer.split_once("a=fingerprint:sha-256 ").expect("one");
        let (print, after) = rest.split_once("\r\n").expect("a line");
        let other = if print.starts_with("00") { "11" } else { "00" };
        let other = format!("{other}{}", &print[2..]);
        *answer = format!("{before}a=fingerprint:sha-256 {other}\r\n{after}");
    });
    for _ in 0..400 {
        ends.step();
    }
    assert!(place.caught().is_none());
    assert!(!ends.browser.is_alive());
}

/// The usual DTLS, except that it claims to have agreed on this profile and on keys that count.
#[derive(Debug)]
struct Claimed(SrtpProfile);

impl Claimed {
    fn bytes(&self) -> Vec<u8> {
        (0..self.0.keying_material_len() as u8).collect()
    }
}

fn usual() -> &'static CryptoProvider {
    static USUAL: OnceLock<CryptoProvider> = OnceLock::new();
    USUAL.get_or_init(str0m::crypto::from_feature_flags)
}

impl DtlsProvider for Claimed {
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
        Ok(Box::new(Claiming(inner, Claimed(self.0))))
    }
}

#[derive(Debug)]
struct Claiming(Box<dyn DtlsInstance>, Claimed);

impl DtlsInstance for Claiming {
    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        match self.0.poll_output(buffer) {
            DtlsOutput::KeyingMaterial(..) => {
                let bytes = KeyingMaterial::new(&self.1.bytes());
                DtlsOutput::KeyingMaterial(bytes, self.1.0)
            }
            other => other,
        }
    }

    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}

#[test]
fn a_browser_opens_packets_of_every_profile_and_the_other_way_round() {
    static CLAIMED: [(Profile, Claimed); 3] = [
        (
            Profile::AeadAes128Gcm,
            Claimed(SrtpProfile::AEAD_AES_128_GCM),
        ),
        (
            Profile::AeadAes256Gcm,
            Claimed(SrtpProfile::AEAD_AES_256_GCM),
        ),
        (
            Profile::Aes128CmSha1_80,
            Claimed(SrtpProfile::AES128_CM_SHA1_80),
        ),
    ];
    for (profile, claimed) in &CLAIMED {
        let now = Instant::now();
        let provider = Arc::new(CryptoProvider {
            dtls_provider: claimed,
            ..usual().clone()
        });
        let config = || config().set_crypto_provider(Arc::clone(&provider));
        let relay = config().set_ice_lite(true).build(now);
        let mut ends = Ends::new(relay, config().build(now), now, |_| ());
        ends.connect();
        let agreed = Caught {
            profile: *profile,
            keys: Keys::from_exporter(*profile, &claimed.bytes()).expect("its length"),
            client: ends.relay_is_client(),
        };
        let (seal, open) = (agreed.seal().expect("keys"), agreed.open().expect("keys"));
        a_browser_gets_all(&mut ends, seal, open);
    }
}
