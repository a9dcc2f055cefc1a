//! HPKE (RFC 9180) as far as letters need it: base mode, one message, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM.
//!
//! Written out on aws-lc-rs's primitives: the other implementation at hand on this provider is inside rustls, which would
//! put a TLS stack under every crate that only reads headers. Checked against the vectors of RFC 9180 appendix A.1.1, and by
//! the fixtures against the browser's library.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::derive::expand;
use crate::seal::aead;

/// Bytes of an encapsulated key.
pub(crate) const ENC_BYTES: usize = 32;
const KEM: &[u8] = b"KEM\x00\x20";
const SUITE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x01";

/// Seals `message` to the holder of `to`: the encapsulated key, and ciphertext with tag. `None` when `to` is no usable key.
pub(crate) fn seal(
    to: &[u8; 32],
    info: &[u8],
    aad: &[u8],
    message: &[u8],
) -> Option<([u8; ENC_BYTES], Vec<u8>)> {
    seal_with(&PrivateKey::generate(&X25519).ok()?, to, info, aad, message)
}

fn seal_with(
    ephemeral: &PrivateKey,
    to: &[u8; 32],
    info: &[u8],
    aad: &[u8],
    message: &[u8],
) -> Option<([u8; ENC_BYTES], Vec<u8>)> {
    let enc = public_key(ephemeral);
    let (key, nonce) = schedule(&*shared(ephemeral, to, &enc, to)?, info);
    let mut sealed = message.to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed)
        .ok()?;
    Some((enc, sealed))
}

/// Opens what was sealed to `own`; `None` when it does not authenticate.
pub(crate) fn open(
    own: &PrivateKey,
    enc: &[u8; ENC_BYTES],
    info: &[u8],
    aad: &[u8],
    sealed: &[u8],
) -> Option<Vec<u8>> {
    let (key, nonce) = schedule(&*shared(own, enc, enc, &public_key(own))?, info);
    let mut message = sealed.to_vec();
    let length = key
        .open_in_place(nonce, Aad::from(aad), &mut message)
        .ok()?
        .len();
    message.truncate(length);
    Some(message)
}

/// The 32 bytes of the public half of an X25519 key.
pub(crate) fn public_key(private: &PrivateKey) -> [u8; 32] {
    let public = private
        .compute_public_key()
        .expect("an X25519 key has a public half");
    public.as_ref().try_into().expect("which has 32 bytes")
}

/// The shared secret of `own` and `peer` (section 4.1). Fails when the peer's point is of low order.
fn shared(
    own: &PrivateKey,
    peer: &[u8; 32],
    enc: &[u8; 32],
    recipient: &[u8; 32],
) -> Option<Zeroizing<[u8; 32]>> {
    let dh = |secret: &[u8]| Ok(labelled_extract(KEM, &[], b"eae_prk", secret));
    let prk = agree(own, UnparsedPublicKey::new(&X25519, peer), (), dh).ok()?;
    let context = [&enc[..], recipient];
    Some(Zeroizing::new(labelled_expand(
        KEM,
        &prk,
        b"shared_secret",
        &context,
    )))
}

/// The key schedule of base mode (section 5.1), and the nonce of the first and only message.
fn schedule(shared: &[u8; 32], info: &[u8]) -> (LessSafeKey, Nonce) {
    let psk_id = labelled_extract(SUITE, &[], b"psk_id_hash", &[]);
    let info = labelled_extract(SUITE, &[], b"info_hash", info);
    let secret = labelled_extract(SUITE, shared, b"secret", &[]);
    let context = [&[0][..], &psk_id[..], &info[..]];
    let key: Zeroizing<[u8; 16]> =
        Zeroizing::new(labelled_expand(SUITE, &secret, b"key", &context));
    let nonce = labelled_expand(SUITE, &secret, b"base_nonce", &context);
    (aead(&key), Nonce::assume_unique_for_key(nonce))
}

fn labelled_extract(suite: &[u8], salt: &[u8], label: &[u8], secret: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, salt));
    for part in [b"HPKE-v1", suite, label, secret] {
        mac.update(part);
    }
    Zeroizing::new(
        mac.sign()
            .as_ref()
            .try_into()
            .expect("SHA-256 has 32 bytes"),
    )
}

fn labelled_expand<const N: usize>(
    suite: &[u8],
    prk: &[u8; 32],
    label: &[u8],
    info: &[&[u8]],
) -> [u8; N] {
    let length = u16::try_from(N)
        .expect("outputs here are a few bytes")
        .to_be_bytes();
    let mut parts = vec![&length[..], b"HPKE-v1", suite, label];
    parts.extend(info);
    expand(&Prk::new_less_safe(HKDF_SHA256, prk), &parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn the_first_message_of_rfc_9180_appendix_a_1_1_is_sealed_and_opened() {
        let key = |text| PrivateKey::from_private_key(&X25519, &hex(text)).unwrap();
        let ephemeral = key("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736");
        let recipient = key("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8");
        let to = public_key(&recipient);
        assert_eq!(
            to.to_vec(),
            hex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d")
        );
        let message = b"Beauty is truth, truth beauty";
        let (enc, sealed) = seal_with(
            &ephemeral,
            &to,
            b"Ode on a Grecian Urn",
            b"Count-0",
            message,
        )
        .unwrap();
        assert_eq!(
            enc.to_vec(),
            hex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")
        );
        assert_eq!(
            sealed,
            hex(concat!(
                "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a9",
                "6d8770ac83d07bea87e13c512a"
            ))
        );
        let opened = open(
            &recipient,
            &enc,
            b"Ode on a Grecian Urn",
            b"Count-0",
            &sealed,
        );
        assert_eq!(opened.as_deref(), Some(&message[..]));
    }

    #[test]
    fn a_point_of_low_order_is_refused_on_both_sides() {
        let own = PrivateKey::generate(&X25519).unwrap();
        assert_eq!(seal(&[0; 32], b"", b"", b"message"), None);
        assert_eq!(open(&own, &[0; 32], b"", b"", &[0; 32]), None);
    }
}
