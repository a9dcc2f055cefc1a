//! The fixtures that Rust and TypeScript share, `fixtures/frame/frames.json`: bytes are hex.
//!
//! `GROVE_WRITE_FIXTURES=1 cargo test -p grove-frame --test fixtures` writes them anew. Do that when the format changes, and
//! only then: they are how a change of the format shows.

use std::path::PathBuf;

use grove_frame::mail::{Description, Envelope, Party, open_sender_key, seal_sender_key};
use grove_frame::{
    BaseKey, EVERYTHING, FrameKeys, Header, Kind, Opener, OwnIdentity, PublicIdentity, Refusal,
    RoomKeys, SenderKey,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Fixtures {
    frames: Vec<Frame>,
    malformed: Vec<Malformed>,
    chain: Chain,
    room: Room,
}

/// One frame: what goes in, and what must come out, byte for byte.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Frame {
    name: String,
    base_key: String,
    header: FlatHeader,
    payload: String,
    nonce: String,
    sealed: String,
}

/// A frame that no decoder may take.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Malformed {
    name: String,
    sealed: String,
}

/// Base keys, each the ratchet of the one before, and a frame under each.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Chain {
    sender: u16,
    generations: Vec<Link>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Link {
    generation: u16,
    base_key: String,
    sealed: String,
}

/// A room of two, with what one sends the other.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Room {
    id: String,
    secret: String,
    people: Vec<Person>,
    /// From the first to the second.
    letter: String,
    generation: u16,
    sender_key: String,
    /// From the first to the second.
    description: Sdp,
    /// From the first.
    chat: Chat,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Person {
    node: u16,
    id: String,
    kem_private: String,
    sign_seed: String,
    nonce: String,
    kem_key: String,
    sign_key: String,
    mac: String,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Sdp {
    kind: String,
    fingerprint: String,
    signature: String,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Chat {
    text: String,
    body: String,
}

/// A header with the fields of the TypeScript interface.
#[derive(Serialize, Deserialize, PartialEq, Debug, Default)]
#[serde(rename_all = "camelCase")]
struct FlatHeader {
    key: bool,
    kind: String,
    spatial: u8,
    temporal: u8,
    number: u32,
    width: u16,
    height: u16,
    farthest: u16,
    nearest: u16,
    level: u8,
    capture_us: u64,
    sender: u16,
    stream: u8,
    track: u8,
    generation: u16,
    droppable: bool,
    rotation: u8,
}

impl From<&Header> for FlatHeader {
    fn from(h: &Header) -> Self {
        let mut flat = Self {
            key: h.is_key(),
            kind: "video".into(),
            spatial: h.spatial,
            temporal: h.temporal,
            number: h.number,
            capture_us: h.capture_us,
            sender: h.sender,
            stream: h.stream,
            track: h.track,
            generation: h.generation,
            droppable: h.droppable,
            rotation: h.rotation,
            ..Self::default()
        };
        match h.kind {
            Kind::Key { width, height } => (flat.width, flat.height) = (width, height),
            Kind::Delta { farthest, nearest } => {
                (flat.farthest, flat.nearest) = (farthest, nearest)
            }
            Kind::Audio { level } => (flat.kind, flat.level) = ("audio".into(), level),
            Kind::Signature => flat.kind = "signature".into(),
            Kind::Control => flat.kind = "control".into(),
        }
        flat
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/frame/frames.json")
}

fn read() -> Fixtures {
    let text = std::fs::read_to_string(path()).expect("fixtures/frame/frames.json is there");
    serde_json::from_str(&text).expect("and has the shape that is read here")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    unhex(text)
        .try_into()
        .expect("the length that the format says")
}

fn base_key(text: &str) -> BaseKey {
    BaseKey::from_bytes(array(text))
}

fn headers() -> Vec<(&'static str, Header, Vec<u8>)> {
    let delta = |farthest, nearest| Kind::Delta { farthest, nearest };
    let plain = Header {
        kind: delta(1, 1),
        spatial: 0,
        temporal: 0,
        number: 1,
        capture_us: 33_333,
        sender: 1,
        stream: 0,
        track: 1,
        generation: 0,
        droppable: false,
        rotation: 0,
    };
    let sound = Header {
        track: 0,
        kind: Kind::Audio { level: 42 },
        ..plain
    };
    let full = Header {
        kind: delta(EVERYTHING - 1, 1),
        spatial: 3,
        temporal: 3,
        number: u32::MAX,
        capture_us: (1 << 48) - 1,
        sender: u16::MAX,
        stream: 15,
        track: 15,
        generation: u16::MAX,
        droppable: true,
        rotation: 3,
    };
    let long = (0..1500u32).map(|i| (i * 7 % 256) as u8).collect();
    vec![
        (
            "a key frame",
            Header {
                kind: Kind::Key {
                    width: 1280,
                    height: 720,
                },
                number: 0,
                ..plain
            },
            long,
        ),
        ("a delta frame", plain, b"delta".to_vec()),
        (
            "a delta frame that needs none",
            Header {
                kind: delta(0, 0),
                number: 2,
                ..plain
            },
            b"d".to_vec(),
        ),
        (
            "a delta frame that needs everything",
            Header {
                kind: delta(EVERYTHING, 1),
                number: 3,
                ..plain
            },
            b"d".to_vec(),
        ),
        (
            "a droppable frame of the second layer",
            Header {
                kind: delta(4, 2),
                spatial: 1,
                temporal: 2,
                droppable: true,
                ..plain
            },
            b"d".to_vec(),
        ),
        ("every field at its most", full, vec![0xff; 17]),
        (
            "the smallest key frame",
            Header {
                kind: Kind::Key {
                    width: 1,
                    height: 1,
                },
                ..plain
            },
            vec![],
        ),
        (
            "the largest key frame",
            Header {
                kind: Kind::Key {
                    width: u16::MAX,
                    height: u16::MAX,
                },
                ..full
            },
            vec![1],
        ),
        ("sound", sound, b"opus".to_vec()),
        (
            "silence, empty",
            Header {
                kind: Kind::Audio { level: 127 },
                number: 7,
                ..sound
            },
            vec![],
        ),
        (
            "a signature",
            Header {
                kind: Kind::Signature,
                track: 2,
                ..plain
            },
            vec![5; 80],
        ),
        (
            "a control frame, late in the day",
            Header {
                kind: Kind::Control,
                capture_us: 0x1_0000_0000,
                ..sound
            },
            vec![],
        ),
    ]
}

fn make() -> Fixtures {
    let key = BaseKey::from_bytes(std::array::from_fn(|i| i as u8 * 17));
    let frames: Vec<Frame> = headers()
        .into_iter()
        .map(|(name, header, payload)| {
            let keys = FrameKeys::derive(&key, header.sender, header.generation);
            Frame {
                name: name.into(),
                base_key: hex(key.expose()),
                header: (&header).into(),
                nonce: hex(&keys.nonce_bytes(&header)),
                sealed: hex(&keys.seal(&header, &payload).expect("fits")),
                payload: hex(&payload),
            }
        })
        .collect();
    let spoil = |name: &str, from: usize, at: usize, value: u8| {
        let mut sealed = unhex(&frames[from].sealed);
        sealed[at] = value;
        Malformed {
            name: name.into(),
            sealed: hex(&sealed),
        }
    };
    let malformed = vec![
        Malformed {
            name: "nothing".into(),
            sealed: String::new(),
        },
        Malformed {
            name: "39 bytes".into(),
            sealed: frames[1].sealed[..78].into(),
        },
        spoil("an unknown first byte", 1, 0, 0x81),
        spoil("version 0", 1, 1, 0x00),
        spoil("version 2", 1, 1, 0x80),
        spoil("a key frame of sound", 8, 0, 0x80),
        spoil("sound in a spatial layer", 8, 1, 0x54),
        spoil("sound in a temporal layer", 8, 1, 0x51),
        spoil("a level beyond silence", 8, 6, 0x80),
        spoil("bytes behind the level", 8, 7, 0x01),
        spoil("sound that is turned", 8, 21, 0x01),
        spoil("a signature with a level", 10, 6, 0x01),
        spoil("no width", 6, 6, 0x00),
        spoil("nearest beyond farthest", 1, 8, 0x02),
        spoil("nearest itself", 1, 8, 0x00),
        spoil("farthest nothing, nearest something", 2, 8, 0x01),
        spoil("an unknown flag", 1, 21, 0x40),
        spoil("a first zero that is none", 1, 22, 0x01),
        spoil("a last zero that is none", 1, 23, 0x01),
    ];
    Fixtures {
        frames,
        malformed,
        chain: make_chain(),
        room: make_room(),
    }
}

fn make_chain() -> Chain {
    let (sender, mut key) = (3, BaseKey::from_bytes([0x33; 16]));
    let generations = (0xfffa..=0xffff).chain(0..4).map(|generation| {
        let header = Header {
            sender,
            generation,
            ..headers()[1].1
        };
        let sealed = FrameKeys::derive(&key, sender, generation)
            .seal(&header, b"chain")
            .expect("fits");
        let link = Link {
            generation,
            base_key: hex(key.expose()),
            sealed: hex(&sealed),
        };
        key = key.ratchet();
        link
    });
    Chain {
        sender,
        generations: generations.collect(),
    }
}

fn make_room() -> Room {
    let (id, secret) = ("dGhpcyBpcyBhIHJv", [0x5a; 16]);
    let keys = RoomKeys::new(id, &secret).expect("short");
    let make = |node: u16, name: &str, fill: u8| {
        let (nonce, kem, seed) = ([fill; 16], [fill + 1; 32], [fill + 2; 32]);
        let own = OwnIdentity::from_parts(&keys, name, nonce, &kem, &seed).expect("keys");
        let public = own.public();
        let person = Person {
            node,
            id: name.into(),
            kem_private: hex(&kem),
            sign_seed: hex(&seed),
            nonce: hex(&nonce),
            kem_key: hex(&public.kem_key),
            sign_key: hex(&public.sign_key),
            mac: hex(&public.mac),
        };
        (own, person)
    };
    let ((ada, first), (ben, second)) = (
        make(1, "ada-0123456789ab", 0x10),
        make(2, "ben-0123456789ab", 0x20),
    );
    let key = SenderKey {
        generation: 0x0102,
        key: BaseKey::from_bytes([0x77; 16]),
    };
    let to = keys.verify(&second.id, ben.public()).expect("verifies");
    let letter = seal_sender_key(&ada, &envelope(id, &first, &second), &to, &key).expect("seals");
    let fingerprint = vec!["AB"; 32].join(":");
    let description = describe(id, &first, &second, &format!("sha-256 {fingerprint}"))
        .sign(&ada)
        .expect("signs");
    let text = "Grüße, 你好 👋";
    Room {
        id: id.into(),
        secret: hex(&secret),
        letter: hex(&letter),
        generation: key.generation,
        sender_key: hex(key.key.expose()),
        description: Sdp {
            kind: "offer".into(),
            fingerprint: format!("sha-256 {fingerprint}"),
            signature: hex(&description),
        },
        chat: Chat {
            text: text.into(),
            body: hex(&keys.seal_chat(first.node, text)),
        },
        people: vec![first, second],
    }
}

fn envelope<'a>(room: &'a str, from: &'a Person, to: &'a Person) -> Envelope<'a> {
    let party = |person: &'a Person| Party {
        node: person.node,
        id: &person.id,
    };
    Envelope {
        room,
        from: party(from),
        to: party(to),
    }
}

fn describe<'a>(
    room: &'a str,
    from: &'a Person,
    to: &'a Person,
    fingerprint: &'a str,
) -> Description<'a> {
    Description {
        room,
        from: &from.id,
        to: &to.id,
        kind: "offer",
        fingerprint,
    }
}

#[test]
fn what_does_not_depend_on_chance_is_made_the_same_again() {
    let made = make();
    if std::env::var_os("GROVE_WRITE_FIXTURES").is_some() {
        let text = serde_json::to_string_pretty(&made).expect("plain data");
        std::fs::write(path(), text + "\n").expect("fixtures/frame is writable");
    }
    let read = read();
    assert_eq!(made.frames, read.frames);
    assert_eq!(made.malformed, read.malformed);
    assert_eq!(made.chain, read.chain);
    assert_eq!(made.room.people, read.room.people);
    assert_eq!(made.room.description, read.room.description);
}

#[test]
fn every_frame_opens_to_its_header_and_payload() {
    for frame in read().frames {
        let sealed = unhex(&frame.sealed);
        let mut opener = Opener::new(frame.header.sender);
        assert!(opener.add_key(frame.header.generation, base_key(&frame.base_key)));
        let (header, payload) = opener.open(&sealed, 0).expect(&frame.name);
        assert_eq!(FlatHeader::from(&header), frame.header, "{}", frame.name);
        assert_eq!(hex(&payload), frame.payload, "{}", frame.name);
    }
}

#[test]
fn every_malformed_frame_is_refused_as_such() {
    let malformed = read().malformed;
    assert_eq!(malformed.len(), 19);
    for frame in malformed {
        let result = Opener::new(1).open(&unhex(&frame.sealed), 0);
        assert_eq!(result, Err(Refusal::Malformed), "{}", frame.name);
    }
}

#[test]
fn the_first_key_of_the_chain_opens_eight_steps_more_and_each_key_the_next() {
    let Chain {
        sender,
        generations,
    } = read().chain;
    let mut opener = Opener::new(sender);
    assert!(opener.add_key(
        generations[0].generation,
        base_key(&generations[0].base_key)
    ));
    let opens = |opener: &mut Opener, link: &Link| opener.open(&unhex(&link.sealed), 0).is_ok();
    assert!(!opens(&mut opener, &generations[9]));
    assert!(opens(&mut opener, &generations[8]));
    assert!(opens(&mut opener, &generations[9]));
    for pair in generations.windows(2) {
        assert_eq!(
            hex(base_key(&pair[0].base_key).ratchet().expose()),
            pair[1].base_key
        );
    }
}

#[test]
fn the_room_is_verified_and_its_letter_description_and_chat_are_read() {
    let room = read().room;
    let keys = RoomKeys::new(&room.id, &array(&room.secret)).expect("short");
    let seen = |person: &Person| {
        let identity = PublicIdentity {
            nonce: array(&person.nonce),
            kem_key: array(&person.kem_key),
            sign_key: array(&person.sign_key),
            mac: array(&person.mac),
        };
        keys.verify(&person.id, &identity).expect("verifies")
    };
    let (ada, ben) = (&room.people[0], &room.people[1]);
    let own = OwnIdentity::from_parts(
        &keys,
        &ben.id,
        array(&ben.nonce),
        &array(&ben.kem_private),
        &array(&ben.sign_seed),
    )
    .expect("keys");
    let key = open_sender_key(
        &own,
        &envelope(&room.id, ada, ben),
        &seen(ada),
        &unhex(&room.letter),
    );
    let expected = SenderKey {
        generation: room.generation,
        key: base_key(&room.sender_key),
    };
    assert_eq!(key, Some(expected));
    let description = describe(&room.id, ada, ben, &room.description.fingerprint);
    assert!(description.verify(&seen(ada), &unhex(&room.description.signature)));
    let text = keys.open_chat(ada.node, &unhex(&room.chat.body));
    assert_eq!(text.as_deref(), Some(room.chat.text.as_str()));
}
