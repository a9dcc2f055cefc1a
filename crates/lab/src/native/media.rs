//! What native peers send and receive: pictures and sound of the sizes that a browser makes, sealed as a browser seals them,
//! with contents that the receiver can check.
//!
//! Peers of one process hand each other their keys through a [`Keyring`], where browsers mail them. Nobody on the way can
//! tell: what passes is sealed under keys that the server and every forwarder lack.

use bytes::Bytes;
use grove_frame::{BaseKey, Fields, Header, Kind, Opener, Refusal, Sealer};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Bytes of a packet of sound: 32 kbit/s at 50 packets.
const SOUND: usize = 80;

/// What one peer sends.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Bytes of a picture, per spatial layer, lowest first.
    pub layers: &'static [usize],
    /// Between two pictures.
    pub picture_every: Duration,
    /// Every picture is a key frame.
    pub all_keys: bool,
    /// 50 packets a second beside the pictures.
    pub sound: bool,
}

/// Two layers of 150 and 600 kbit/s at 30 pictures a second, and sound: what a browser sends of a camera.
pub const CAMERA: Shape = Shape {
    layers: &[625, 2500],
    picture_every: Duration::from_millis(33),
    all_keys: false,
    sound: true,
};

/// A key frame twice a second and no sound: next to nothing, so that a room of fifty fits on one machine, and somebody who
/// comes still gets a picture at once from whatever ring is nearest.
pub const SLIDES: Shape = Shape {
    layers: &[1000],
    picture_every: Duration::from_millis(500),
    all_keys: true,
    sound: false,
};

/// The keys of everybody in a room, by number.
#[derive(Debug, Clone, Default)]
pub struct Keyring(Arc<RwLock<HashMap<u16, (u16, BaseKey)>>>);

impl Keyring {
    fn put(&self, sender: u16, sealer: &Sealer) {
        let key = sealer.key();
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.insert(sender, (key.generation, key.key.clone()));
    }

    fn get(&self, sender: u16) -> Option<(u16, BaseKey)> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(&sender).cloned()
    }
}

/// The bytes below the seal: they name the frame, so that one frame's cannot stand for another's.
fn payload(capture_us: u64, bytes: usize) -> Vec<u8> {
    let seed = capture_us as u8;
    let mut payload: Vec<u8> = (0..bytes).map(|n| (n as u8).wrapping_add(seed)).collect();
    if let Some(first) = payload.first_chunk_mut::<8>() {
        *first = capture_us.to_le_bytes();
    }
    payload
}

/// Camera and microphone of one peer.
#[derive(Debug)]
pub struct Camera {
    shape: Shape,
    sealer: Sealer,
    /// Layers whose next picture must be a key frame.
    due: Vec<bool>,
}

impl Camera {
    /// Of the peer with this number. Everybody with the keyring can open what it sends.
    pub fn new(shape: Shape, sender: u16, keyring: &Keyring) -> Self {
        let sealer = Sealer::new(sender, 1);
        keyring.put(sender, &sealer);
        Self {
            shape,
            sealer,
            due: vec![true; shape.layers.len()],
        }
    }

    /// Somebody needs a key frame.
    pub fn key_please(&mut self, layer: usize) {
        if let Some(due) = self.due.get_mut(layer) {
            *due = true;
        }
    }

    /// A picture, in every layer.
    pub fn picture(&mut self, capture_us: u64) -> Vec<Bytes> {
        let mut frames = Vec::new();
        for (layer, &bytes) in self.shape.layers.iter().enumerate() {
            let key = std::mem::take(&mut self.due[layer]) || self.shape.all_keys;
            let kind = if key {
                let (width, height) = (640, 360);
                Kind::Key { width, height }
            } else {
                let (farthest, nearest) = (1, 1);
                Kind::Delta { farthest, nearest }
            };
            frames.push(self.seal(kind, layer as u8, capture_us, bytes));
        }
        frames
    }

    /// A packet of sound.
    pub fn sound(&mut self, capture_us: u64) -> Bytes {
        self.seal(Kind::Audio { level: 40 }, 0, capture_us, SOUND)
    }

    fn seal(&mut self, kind: Kind, spatial: u8, capture_us: u64, bytes: usize) -> Bytes {
        let fields = Fields {
            kind,
            spatial,
            temporal: 0,
            capture_us,
            stream: 0,
            track: u8::from(!matches!(kind, Kind::Audio { .. })),
            droppable: false,
            rotation: 0,
        };
        let sealed = self.sealer.seal(&fields, &payload(capture_us, bytes));
        sealed.expect("the fields are within their ranges").into()
    }
}

/// What a screen was shown.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Frames that opened and had the very contents that were sealed.
    pub opened: u64,
    /// Frames that came twice, which is no fault: a forwarder may send again.
    pub again: u64,
    /// Frames that did not open, or opened to something else.
    pub wrong: u64,
    /// Capture to arrival of sound captured in the window, ms.
    pub sound_ms: Vec<f64>,
    /// The same of pictures, by layer.
    pub picture_ms: BTreeMap<u8, Vec<f64>>,
}

/// Opens and checks what a peer receives.
#[derive(Debug)]
pub struct Screen {
    keyring: Keyring,
    openers: HashMap<u16, Opener>,
    /// Capture times that count, microseconds.
    window: Range<u64>,
    /// So far.
    pub seen: Seen,
}

impl Screen {
    /// Delays are noted of frames that were captured within `window`.
    pub fn new(keyring: Keyring, window: Range<u64>) -> Self {
        Self {
            keyring,
            openers: HashMap::new(),
            window,
            seen: Seen::default(),
        }
    }

    /// A frame came. Returns its sender if it is what was sealed there.
    pub fn show(&mut self, frame: &[u8], now_us: u64) -> Option<u16> {
        let sender = Header::decode(frame).map(|header| header.sender);
        let opened = sender.map(|sender| self.open(sender, frame, now_us));
        match opened {
            Some(Ok((header, payload_came)))
                if payload_came == payload(header.capture_us, payload_came.len()) =>
            {
                self.seen.opened += 1;
                self.note(&header, now_us);
                sender
            }
            Some(Err(Refusal::Replayed)) => {
                self.seen.again += 1;
                None
            }
            _ => {
                self.seen.wrong += 1;
                None
            }
        }
    }

    fn open(
        &mut self,
        sender: u16,
        frame: &[u8],
        now_us: u64,
    ) -> Result<(Header, Vec<u8>), Refusal> {
        let keyring = &self.keyring;
        let opener = self.openers.entry(sender).or_insert_with(|| {
            let mut opener = Opener::new(sender);
            if let Some((generation, key)) = keyring.get(sender) {
                opener.add_key(generation, key);
            }
            opener
        });
        opener.open(frame, now_us / 1000)
    }

    fn note(&mut self, header: &Header, now_us: u64) {
        if !self.window.contains(&header.capture_us) {
            return;
        }
        let delay = now_us.saturating_sub(header.capture_us) as f64 / 1000.0;
        match header.kind {
            Kind::Audio { .. } => self.seen.sound_ms.push(delay),
            _ => self
                .seen
                .picture_ms
                .entry(header.spatial)
                .or_default()
                .push(delay),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_counts_what_opens_and_what_does_not() {
        let keyring = Keyring::default();
        let mut camera = Camera::new(CAMERA, 3, &keyring);
        let mut screen = Screen::new(keyring, 0..2000);
        let first = camera.picture(1000);
        assert_eq!(first.len(), 2);
        assert_eq!(screen.show(&first[1], 1500), Some(3));
        assert_eq!(screen.show(&first[1], 1600), None);
        let mut altered = camera.sound(1000).to_vec();
        *altered.last_mut().expect("it has bytes") ^= 1;
        assert_eq!(screen.show(&altered, 1700), None);
        assert_eq!(screen.show(b"junk", 1700), None);
        assert_eq!(screen.show(&camera.sound(2000), 2500), Some(3));
        let Seen {
            opened,
            again,
            wrong,
            sound_ms,
            picture_ms,
        } = screen.seen;
        assert_eq!((opened, again, wrong), (2, 1, 2));
        // The packet of sound was captured after the window.
        assert_eq!((sound_ms.len(), &picture_ms[&1]), (0, &vec![0.5]));
    }

    #[test]
    fn a_key_frame_is_made_when_somebody_asks_and_only_then() {
        let mut camera = Camera::new(CAMERA, 3, &Keyring::default());
        let mut keys = |asked: Option<usize>| {
            if let Some(layer) = asked {
                camera.key_please(layer);
            }
            let frames = camera.picture(0);
            frames
                .iter()
                .map(|frame| grove_frame::is_key(frame))
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(None), [true, true]);
        assert_eq!(keys(None), [false, false]);
        assert_eq!(keys(Some(1)), [false, true]);
        assert_eq!(keys(Some(7)), [false, false]);
    }
}
