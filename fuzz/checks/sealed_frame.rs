//! What must hold for any bytes that claim to be a sealed frame. The fuzz target and the test of its seeds both include this.

use grove_frame::{BaseKey, FrameKeys, HEADER_BYTES, Header, Opener, Refusal, RoomKeys};

/// The key under which the seeds were sealed (`frames.json`).
fn key() -> BaseKey {
    BaseKey::from_bytes(std::array::from_fn(|i| i as u8 * 17))
}

/// True when the bytes have the form of a frame.
pub fn check(bytes: &[u8]) -> bool {
    assert_eq!(
        RoomKeys::new("room", &[0; 16]).and_then(|keys| keys.open_chat(1, bytes)),
        None
    );
    let Some(header) = Header::decode(bytes) else {
        assert_eq!(Opener::new(1).open(bytes, 0), Err(Refusal::Malformed));
        return false;
    };
    assert_eq!(
        header.encode().expect("what decodes encodes"),
        bytes[..HEADER_BYTES]
    );
    if let Some(needs) = header.needs() {
        assert_ne!(needs.to, header.number, "a frame does not need itself");
    }
    let opener = || {
        let mut opener = Opener::new(header.sender);
        assert!(opener.add_key(header.generation, key()));
        opener
    };
    let keys = FrameKeys::derive(&key(), header.sender, header.generation);

    // Foreign bytes open only when they are a frame sealed under the key, and then once.
    let mut receiver = opener();
    match receiver.open(bytes, 0) {
        Ok((same, payload)) => {
            assert_eq!(same, header);
            assert_eq!(keys.seal(&header, &payload).expect("fits"), bytes);
            assert_eq!(receiver.open(bytes, 0), Err(Refusal::Replayed));
        }
        Err(refusal) => assert_eq!(refusal, Refusal::Altered),
    }

    // Any payload under any header comes back, and with one bit changed it does not.
    let payload = &bytes[HEADER_BYTES..];
    let mut frame = keys.seal(&header, payload).expect("what decodes encodes");
    assert_eq!(opener().open(&frame, 0), Ok((header, payload.to_vec())));
    let bit = (header.number as usize ^ payload.len()) % (8 * frame.len());
    frame[bit / 8] ^= 1 << (bit % 8);
    assert!(opener().open(&frame, 0).is_err());
    true
}
