//! A browser's side of a link, played by str0m: it offers, sends sealed frames in two layers, and keeps what its slots get.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grove_frame::{BaseKey, FrameKeys, Header, Kind};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId};
use str0m::media::{Direction, MediaKind, Mid, Rid, Simulcast, SimulcastLayer};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Rtc, RtcConfig};

pub const RIDS: [&str; 2] = ["l", "h"];
/// Bytes of a delta frame's payload, by layer. A key frame has 4 times as many.
const SIZES: [usize; 2] = [900, 3_800];
pub const FRAME: Duration = Duration::from_micros(33_333);

/// Sealed frames by (sender, layer, number).
pub type Sealed = BTreeMap<(u16, u8, u32), Vec<u8>>;

/// A packet as it came to a slot.
#[derive(Debug, Clone)]
pub struct Got {
    pub time: u64,
    pub marker: bool,
    pub payload: Arc<[u8]>,
}

#[derive(Default)]
struct Layer {
    number: u32,
    since_key: u32,
    seq: u64,
}

pub struct Client {
    pub rtc: Rtc,
    pub timeout: Instant,
    pub connected: bool,
    pub open: bool,
    pub control: Vec<String>,
    /// What came, by track and sequence number.
    pub got: BTreeMap<(Mid, u64), Got>,
    /// How many packets came twice under one number.
    pub twice: usize,
    pub slots: Vec<Mid>,
    /// The slots of which the relay's reports came.
    pub reported: BTreeSet<Mid>,
    /// Key frames that the relay asked for.
    pub asked: usize,
    pub sender: u16,
    pub generation: u16,
    video: Option<Mid>,
    pub audio: Option<Mid>,
    channel: Option<ChannelId>,
    want_key: bool,
    layers: [Layer; 2],
    sounds: u32,
    keys: FrameKeys,
    pub start: Instant,
}

impl Client {
    pub fn new(address: SocketAddr, sender: u16, now: Instant) -> Self {
        let mut rtc = RtcConfig::new()
            .set_crypto_provider(Arc::new(str0m::crypto::from_feature_flags()))
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").expect("an address"));
        Self {
            rtc,
            timeout: now,
            connected: false,
            open: false,
            control: Vec::new(),
            got: BTreeMap::new(),
            twice: 0,
            slots: Vec::new(),
            reported: BTreeSet::new(),
            asked: 0,
            sender,
            generation: 1,
            video: None,
            audio: None,
            channel: None,
            want_key: true,
            layers: Default::default(),
            sounds: 0,
            keys: FrameKeys::derive(&BaseKey::from_bytes([7; 16]), sender, 1),
            start: now,
        }
    }

    /// An offer to send sound and video in two layers (if `sends`), and of `slots` pairs to receive.
    pub fn offer(&mut self, sends: bool, slots: usize) -> (String, SdpPendingOffer) {
        let first = self.channel.is_none();
        let mut api = self.rtc.sdp_api();
        if first {
            self.channel = Some(api.add_channel_with_config(ChannelConfig {
                label: "control".to_owned(),
                negotiated: Some(0),
                ..ChannelConfig::default()
            }));
        }
        if sends {
            let mut simulcast = Simulcast::new();
            for rid in RIDS {
                simulcast.add_send_layer(SimulcastLayer::new(rid));
            }
            let (audio, video) = (MediaKind::Audio, MediaKind::Video);
            self.audio = Some(api.add_media(audio, Direction::SendOnly, None, None, None));
            let mid = api.add_media(video, Direction::SendOnly, None, None, Some(simulcast));
            self.video = Some(mid);
        }
        for _ in 0..slots {
            for kind in [MediaKind::Audio, MediaKind::Video] {
                let mid = api.add_media(kind, Direction::RecvOnly, None, None, None);
                self.slots.push(mid);
            }
        }
        let (offer, pending) = api.apply().expect("something to offer");
        (offer.to_sdp_string(), pending)
    }

    /// The number of its next sound.
    pub fn sounds(&self) -> u32 {
        self.sounds
    }

    pub fn answer(&mut self, pending: SdpPendingOffer, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).expect("an answer");
        let api = self.rtc.sdp_api();
        api.accept_answer(pending, answer)
            .expect("a fitting answer");
    }

    pub fn say(&mut self, text: &str) {
        let id = self.channel.expect("a channel");
        let mut channel = self.rtc.channel(id).expect("an open channel");
        assert!(channel.write(false, text.as_bytes()).expect("room"));
    }

    /// The next picture is a key frame.
    pub fn want_key(&mut self) {
        self.want_key = true;
    }

    pub fn note(&mut self, event: Event) {
        match event {
            Event::Connected => self.connected = true,
            Event::ChannelOpen(..) => self.open = true,
            Event::ChannelData(data) => {
                let text = String::from_utf8(data.data).expect("text");
                if text.starts_with(r#"{"t":"key""#) {
                    self.asked += 1;
                    self.want_key = true;
                }
                self.control.push(text);
            }
            Event::RtpPacket(packet) => {
                let mut api = self.rtc.direct_api();
                let mid = api
                    .stream_rx(&packet.header.ssrc)
                    .expect("a known stream")
                    .mid();
                if packet.last_sender_info.is_some() {
                    self.reported.insert(mid);
                }
                let got = Got {
                    time: packet.time.numer(),
                    marker: packet.header.marker,
                    payload: packet.payload,
                };
                if self.got.insert((mid, *packet.seq_no), got).is_some() {
                    self.twice += 1;
                }
            }
            _ => {}
        }
    }

    /// Sends a picture in each of the layers `0..layers`.
    pub fn send_picture(&mut self, layers: usize, now: Instant, sealed: &mut Sealed) {
        let Some(mid) = self.video.filter(|_| self.connected) else {
            return;
        };
        let capture_us = now.duration_since(self.start).as_micros() as u64;
        let key = std::mem::take(&mut self.want_key);
        for (n, layer) in self.layers.iter_mut().enumerate().take(layers) {
            if key || layer.number == 0 {
                layer.since_key = 0;
            }
            let is_key = layer.since_key == 0;
            let (temporal, farthest, nearest) = match layer.since_key % 4 {
                0 => (0, 4, 4),
                2 => (1, 2, 2),
                _ if layer.since_key == 1 => (2, 1, 1),
                _ => (2, 3, 1),
            };
            let header = Header {
                kind: if is_key {
                    Kind::Key {
                        width: 320 << n,
                        height: 180 << n,
                    }
                } else {
                    Kind::Delta { farthest, nearest }
                },
                spatial: n as u8,
                temporal: if is_key { 0 } else { temporal },
                number: layer.number,
                capture_us,
                sender: self.sender,
                stream: 0,
                track: 1,
                generation: self.generation,
                droppable: temporal == 2 && !is_key,
                rotation: 0,
            };
            let length = SIZES[n] * if is_key { 4 } else { 1 } + (layer.number as usize * 97) % 400;
            let payload = vec![layer.number as u8; length];
            let frame = self.keys.seal(&header, &payload).expect("a valid header");
            let rid: Rid = RIDS[n].into();
            let mut api = self.rtc.direct_api();
            let stream = api.stream_tx_by_mid(mid, Some(rid)).expect("a layer");
            let pt = 96.into();
            let parts = frame.chunks(1100);
            let last = parts.len() - 1;
            for (part, bytes) in parts.enumerate() {
                // Chromium's descriptor: long picture id, TL0PICIDX, TID.
                let head = if part == 0 { 0x90 } else { 0x80 };
                let picture = (layer.number as u16 | 0x8000).to_be_bytes();
                let mut payload = vec![head, 0xe0, picture[0], picture[1], 0];
                payload.push(header.temporal << 6);
                payload.extend(bytes);
                let time = (capture_us * 90 / 1000) as u32 + (n as u32) * 1_000_000;
                // Layers begin at different numbers, one close to the wrap.
                let seq = layer.seq + [65_000, 100][n];
                let write = RtpWrite::new(pt, seq.into(), time, now, payload);
                stream.write_rtp(write.marker(part == last).nackable(true));
                layer.seq += 1;
            }
            sealed.insert((self.sender, n as u8, layer.number), frame);
            layer.number += 1;
            layer.since_key += 1;
        }
    }

    /// Sends 20 ms of sound.
    pub fn send_sound(&mut self, now: Instant, sealed: &mut Sealed) {
        let Some(mid) = self.audio.filter(|_| self.connected) else {
            return;
        };
        let header = Header {
            kind: Kind::Audio { level: 30 },
            spatial: 0,
            temporal: 0,
            number: self.sounds,
            capture_us: u64::from(self.sounds) * 20_000,
            sender: self.sender,
            stream: 0,
            track: 0,
            generation: self.generation,
            droppable: false,
            rotation: 0,
        };
        let frame = self.keys.seal(&header, &[self.sounds as u8; 80]);
        let frame = frame.expect("a valid header");
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(mid, None).expect("sound");
        let (seq, time) = (u64::from(self.sounds) + 500, self.sounds * 960);
        let write = RtpWrite::new(111.into(), seq.into(), time, now, frame.clone());
        stream.write_rtp(write);
        // Sounds share the map: no layer has this number.
        sealed.insert((self.sender, 255, self.sounds), frame);
        self.sounds += 1;
    }
}
