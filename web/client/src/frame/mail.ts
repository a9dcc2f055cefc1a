/**
 * Letters between two participants that the server passes on and cannot read or forge: sender keys, sealed to the
 * recipient and signed by the sender, and signatures over the DTLS fingerprints of links.
 *
 * A letter is HPKE in base mode (RFC 9180: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM) around the key, and
 * Ed25519 over everything that says for whom and what it is. Formats are in `docs/ref/frame.md`; `crates/frame/src/mail.rs`
 * is the twin.
 */
import { Aes128Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import { concat, fromBase64url, toBase64url, transcript, u16, utf8 } from "./bytes.ts";
import type { OwnIdentity, RemoteIdentity } from "./keys.ts";
import { BASE_KEY_BYTES, type SenderKey } from "./seal.ts";

/** One end of a letter: the number in the room, and the participant's own id. */
export interface Party {
  node: number;
  id: string;
}

/** Who writes to whom, in which room. */
export interface Envelope {
  room: string;
  from: Party;
  to: Party;
}

const SENDER_KEY = 1;
const ENC_BYTES = 32;
const SEALED_BYTES = BASE_KEY_BYTES + 16;
const SIGNATURE_BYTES = 64;
const LETTER_BYTES = 1 + 2 + ENC_BYTES + SEALED_BYTES + SIGNATURE_BYTES;
const INFO = utf8("Grove 1 mail");

const suite = new CipherSuite({
  kem: new DhkemX25519HkdfSha256(),
  kdf: new HkdfSha256(),
  aead: new Aes128Gcm(),
});

/** The body of a mail that brings `key`, made by `own` (who is `envelope.from`) for `to`. */
export async function sealSenderKey(
  own: OwnIdentity,
  envelope: Envelope,
  to: RemoteIdentity,
  key: SenderKey,
): Promise<string> {
  const covered = letterTranscript(envelope, to.kemRaw, key.generation);
  const context = await suite.createSenderContext({ recipientPublicKey: to.kemKey, info: INFO });
  const sealed = new Uint8Array(await context.seal(key.key, covered));
  const enc = new Uint8Array(context.enc);
  const signature = await crypto.subtle.sign("Ed25519", own.sign.privateKey, signed(covered, enc, sealed));
  return toBase64url(concat(Uint8Array.of(SENDER_KEY), u16(key.generation), enc, sealed, new Uint8Array(signature)));
}

/**
 * The key in a mail that came for `own` (who is `envelope.to`) from `from`; null when it is anything else than that
 * sender's own letter, in this room, to this recipient.
 */
export async function openSenderKey(
  own: OwnIdentity,
  envelope: Envelope,
  from: RemoteIdentity,
  body: string,
): Promise<SenderKey | null> {
  const bytes = fromBase64url(body);
  const ownKey = fromBase64url(own.public.kem_key);
  if (bytes?.length !== LETTER_BYTES || bytes[0] !== SENDER_KEY || ownKey === null) return null;
  const generation = new DataView(bytes.buffer).getUint16(1);
  const enc = bytes.slice(3, 3 + ENC_BYTES);
  const sealed = bytes.slice(3 + ENC_BYTES, 3 + ENC_BYTES + SEALED_BYTES);
  const signature = bytes.slice(-SIGNATURE_BYTES);
  const covered = letterTranscript(envelope, ownKey, generation);
  try {
    const right = await crypto.subtle.verify("Ed25519", from.signKey, signature, signed(covered, enc, sealed));
    if (!right) return null;
    const context = await suite.createRecipientContext({ recipientKey: own.kem, enc, info: INFO });
    return { generation, key: new Uint8Array(await context.open(sealed, covered)) };
  } catch {
    // HPKE says no by throwing; so does an `enc` that is no usable point.
    return null;
  }
}

function letterTranscript(envelope: Envelope, kemKey: Uint8Array, generation: number): Uint8Array<ArrayBuffer> {
  const { room, from, to } = envelope;
  return transcript("Grove 1 sender key", room, from.node, from.id, to.node, to.id, kemKey, generation);
}

function signed(covered: Uint8Array, enc: Uint8Array, sealed: Uint8Array): Uint8Array<ArrayBuffer> {
  return transcript("Grove 1 letter", covered, enc, sealed);
}

/** A session description as far as it is signed. */
export interface SignedDescription {
  room: string;
  /** Participants' own ids. */
  from: string;
  to: string;
  kind: "offer" | "answer";
  sdp: string;
}

/**
 * Signs the DTLS fingerprint of our own description; base64url.
 *
 * @throws RangeError when the description has no fingerprint, or several.
 */
export async function signDescription(own: OwnIdentity, description: SignedDescription): Promise<string> {
  const covered = descriptionTranscript(description);
  if (covered === null) throw new RangeError("the description has no single DTLS fingerprint");
  return toBase64url(new Uint8Array(await crypto.subtle.sign("Ed25519", own.sign.privateKey, covered)));
}

/** Whether `from` signed the DTLS fingerprint of this description for this recipient. */
export async function verifyDescription(
  from: RemoteIdentity,
  description: SignedDescription,
  signature: string,
): Promise<boolean> {
  const bytes = fromBase64url(signature);
  const covered = descriptionTranscript(description);
  if (bytes?.length !== SIGNATURE_BYTES || covered === null) return false;
  return crypto.subtle.verify("Ed25519", from.signKey, bytes, covered);
}

function descriptionTranscript(d: SignedDescription): Uint8Array<ArrayBuffer> | null {
  const fingerprint = dtlsFingerprint(d.sdp);
  return fingerprint === null ? null : transcript("Grove 1 description", d.room, d.from, d.to, d.kind, fingerprint);
}

/**
 * The DTLS fingerprint of a session description, as `sha-256 AB:CD:...`: the name in lower case, the digits in upper case.
 * Null when there is none, when its hash is weaker than SHA-256, or when not all lines say the same: a second one would
 * be a way round the signature.
 */
export function dtlsFingerprint(sdp: string): string | null {
  const found = new Set<string>();
  for (const line of sdp.split(/\r\n|\r|\n/)) {
    const attribute = /^\s*a\s*=\s*fingerprint\s*:(.*)$/i.exec(line)?.[1];
    if (attribute === undefined) continue;
    const [, name, digits] =
      /^\s*(sha-(?:256|384|512)) +((?:[0-9A-Fa-f]{2}:)+[0-9A-Fa-f]{2})\s*$/i.exec(attribute) ?? [];
    if (name === undefined || digits === undefined) return null;
    found.add(`${name.toLowerCase()} ${digits.toUpperCase()}`);
  }
  const [only] = found;
  return found.size === 1 && only !== undefined ? only : null;
}
