/**
 * Keys that bind a room together: what the room secret gives, and who a participant is.
 *
 * The room secret stands in the link's fragment and never reaches the server. From it come the identity key, which
 * vouches for participants' public keys, and the chat key. Whoever holds the link can make an identity: that is all that
 * a verified identity says. Formats are in `docs/ref/frame.md`; `crates/frame/src/keys.rs` is the twin.
 *
 * WebCrypto needs a secure context (https or localhost). Foreign text that does not verify gives null or false, never an
 * exception.
 */
import { concat, fromBase64url, hkdf, toBase64url, transcript, utf8 } from "./bytes.ts";

/** Bytes of a room secret. */
export const SECRET_BYTES = 16;
const NONCE_BYTES = 12;

/** What the room secret gives. */
export interface RoomKeys {
  /** The room's id. */
  room: string;
  /** HMAC-SHA-256, for identities. */
  identity: CryptoKey;
  /** AES-128-GCM, for chat. */
  chat: CryptoKey;
}

/** A participant's public keys as they are announced: `Identity` of the signalling protocol. All base64url. */
export interface PublicIdentity {
  /** 16 random bytes. */
  nonce: string;
  /** X25519, 32 bytes. */
  kem_key: string;
  /** Ed25519, 32 bytes. */
  sign_key: string;
  /** HMAC-SHA-256, 32 bytes. */
  mac: string;
}

/** Our own identity in one room, new for every join. The private keys cannot be exported. */
export interface OwnIdentity {
  public: PublicIdentity;
  kem: CryptoKeyPair;
  sign: CryptoKeyPair;
}

/** Somebody's identity whose MAC was right: the holder of these keys also has the room secret. */
export interface RemoteIdentity {
  kemKey: CryptoKey;
  /** The same, 32 bytes. */
  kemRaw: Uint8Array<ArrayBuffer>;
  signKey: CryptoKey;
}

/** A new room secret: 16 random bytes, base64url as in the link. */
export function makeSecret(): string {
  return toBase64url(crypto.getRandomValues(new Uint8Array(SECRET_BYTES)));
}

/** The keys of a room; null when `secret` is not the base64url of 16 bytes, or `room` has more than 65535 bytes. */
export async function roomKeys(room: string, secret: string): Promise<RoomKeys | null> {
  const bytes = fromBase64url(secret);
  if (bytes?.length !== SECRET_BYTES || utf8(room).length > 0xffff) return null;
  const [identity, chat] = await Promise.all([
    hkdf(bytes, utf8(room), utf8("Grove 1 identity"), 32),
    hkdf(bytes, utf8(room), utf8("Grove 1 chat"), 16),
  ]);
  return {
    room,
    identity: await crypto.subtle.importKey("raw", identity, { name: "HMAC", hash: "SHA-256" }, false, [
      "sign",
      "verify",
    ]),
    chat: await crypto.subtle.importKey("raw", chat, "AES-GCM", false, ["encrypt", "decrypt"]),
  };
}

/** Makes an identity for `participant` (the id that we chose for this join) and vouches for it with the room's key. */
export async function makeIdentity(keys: RoomKeys, participant: string): Promise<OwnIdentity> {
  const [kem, sign] = (await Promise.all([
    crypto.subtle.generateKey({ name: "X25519" }, false, ["deriveBits"]),
    crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]),
  ])) as [CryptoKeyPair, CryptoKeyPair];
  const nonce = crypto.getRandomValues(new Uint8Array(16));
  const kemKey = new Uint8Array(await crypto.subtle.exportKey("raw", kem.publicKey));
  const signKey = new Uint8Array(await crypto.subtle.exportKey("raw", sign.publicKey));
  const covered = identityTranscript(keys.room, participant, nonce, kemKey, signKey);
  const mac = new Uint8Array(await crypto.subtle.sign("HMAC", keys.identity, covered));
  return {
    public: {
      nonce: toBase64url(nonce),
      kem_key: toBase64url(kemKey),
      sign_key: toBase64url(signKey),
      mac: toBase64url(mac),
    },
    kem,
    sign,
  };
}

/** Checks that whoever made the identity of `participant` has the room secret; null when not. */
export async function verifyIdentity(
  keys: RoomKeys,
  participant: string,
  identity: PublicIdentity,
): Promise<RemoteIdentity | null> {
  const nonce = fromBase64url(identity.nonce);
  const kemRaw = fromBase64url(identity.kem_key);
  const signRaw = fromBase64url(identity.sign_key);
  const mac = fromBase64url(identity.mac);
  if (nonce?.length !== 16 || kemRaw?.length !== 32 || signRaw?.length !== 32 || mac?.length !== 32) return null;
  try {
    const covered = identityTranscript(keys.room, participant, nonce, kemRaw, signRaw);
    if (!(await crypto.subtle.verify("HMAC", keys.identity, mac, covered))) return null;
    const [kemKey, signKey] = await Promise.all([
      crypto.subtle.importKey("raw", kemRaw, { name: "X25519" }, true, []),
      crypto.subtle.importKey("raw", signRaw, { name: "Ed25519" }, true, ["verify"]),
    ]);
    return { kemKey, kemRaw, signKey };
  } catch {
    // Bytes that are no point of the curve.
    return null;
  }
}

function identityTranscript(
  room: string,
  participant: string,
  nonce: Uint8Array,
  kemKey: Uint8Array,
  signKey: Uint8Array,
): Uint8Array<ArrayBuffer> {
  return transcript("Grove 1 identity", room, participant, nonce, kemKey, signKey);
}

/** Seals a chat line of participant number `node`; base64url of nonce (12 bytes), ciphertext and tag. */
export async function sealChat(keys: RoomKeys, node: number, text: string): Promise<string> {
  const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  const params = { name: "AES-GCM", iv: nonce, additionalData: transcript("Grove 1 chat", keys.room, node) };
  return toBase64url(concat(nonce, new Uint8Array(await crypto.subtle.encrypt(params, keys.chat, utf8(text)))));
}

/** The text of a chat line that the server says came from `node`; null when it does not open for that node. */
export async function openChat(keys: RoomKeys, node: number, body: string): Promise<string | null> {
  const bytes = fromBase64url(body);
  if (bytes === null || bytes.length < NONCE_BYTES) return null;
  const params = {
    name: "AES-GCM",
    iv: bytes.subarray(0, NONCE_BYTES),
    additionalData: transcript("Grove 1 chat", keys.room, node),
  };
  try {
    const text = await crypto.subtle.decrypt(params, keys.chat, bytes.subarray(NONCE_BYTES));
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(text);
  } catch {
    return null;
  }
}
