/**
 * Sealing and opening of frames: AES-128-GCM under keys that only the room's members have.
 *
 * A `Sealer` owns the keys and the frame numbers of one sender. No nonce is used twice because both live and die
 * together: numbers count on through every change of key, and a new `Sealer` always makes a new random key. An `Opener`
 * holds the keys of one remote sender and lets each frame open once.
 *
 * Derivation, nonce and limits are in `docs/ref/frame.md`; `crates/frame/src/seal.rs` is the twin. WebCrypto does the
 * work off this thread: about one task per frame each way.
 */
import { ascii, concat, equal, hkdf } from "./bytes.ts";
import { encodeHeader, HEADER_BYTES, type Header, isNewer, TAG_BYTES } from "./header.ts";

/** Bytes of a base key. */
export const BASE_KEY_BYTES = 16;
/** How long a generation opens frames after a newer one was first used, ms: longer than a frame can be on its way. */
export const GENERATION_GRACE_MS = 10_000;
/** How many ratchet steps ahead a receiver goes without mail: joins that happen while a mail is on its way. */
export const RATCHET_WINDOW = 8;
/** How far behind the newest frame of a layer one may still open, frames: 34 s of video at 30/s, 20 s of audio at 50/s. */
export const REPLAY_WINDOW = 1024;
/** Generations that an `Opener` holds at once; the oldest goes first. A bound, not a schedule. */
const MOST_GENERATIONS = 32;
/** AES_128_GCM_SHA256_128 in the registry of RFC 9605. */
const CIPHER_SUITE = 4;

/** One generation of a sender's key, as it is mailed to the participants. `key` has 16 bytes and is secret. */
export interface SenderKey {
  generation: number;
  key: Uint8Array<ArrayBuffer>;
}

/** What seals the frames of one generation. */
export interface FrameKeys {
  aead: CryptoKey;
  /** 12 bytes. */
  salt: Uint8Array<ArrayBuffer>;
}

/** Derives the frame key and the salt from a base key (RFC 9605 section 4.4.2, with labels of our own). */
export async function deriveFrameKeys(base: Uint8Array, sender: number, generation: number): Promise<FrameKeys> {
  const id = new Uint8Array(6);
  const view = new DataView(id.buffer);
  view.setUint16(0, sender);
  view.setUint16(2, generation);
  view.setUint16(4, CIPHER_SUITE);
  const none = new Uint8Array(0);
  const [key, salt] = await Promise.all([
    hkdf(base, none, concat(ascii("Grove 1 frame key "), id), 16),
    hkdf(base, none, concat(ascii("Grove 1 frame salt "), id), 12),
  ]);
  const aead = await crypto.subtle.importKey("raw", key, "AES-GCM", false, ["encrypt", "decrypt"]);
  return { aead, salt };
}

/** The next base key of the chain (RFC 9605 section 5.1). It cannot be undone. */
export function ratchetKey(base: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  return hkdf(base, new Uint8Array(0), ascii("Grove 1 ratchet"), BASE_KEY_BYTES);
}

/** The nonce of a frame: salt XOR (sender u16, stream and track u8, spatial layer u8, number u32, 0 u32). */
export function frameNonce(salt: Uint8Array, h: Header): Uint8Array<ArrayBuffer> {
  const nonce = new Uint8Array(12);
  const view = new DataView(nonce.buffer);
  view.setUint16(0, h.sender);
  nonce[2] = (h.stream << 4) | h.track;
  nonce[3] = h.spatial;
  view.setUint32(4, h.number);
  for (let i = 0; i < 12; i++) nonce[i] = (nonce[i] as number) ^ (salt[i] as number);
  return nonce;
}

/**
 * Seals one frame exactly as its header says. The caller answers for the nonce: use a `Sealer`, unless the frame is
 * a fixture.
 *
 * @throws RangeError as `encodeHeader`.
 */
export async function sealFrame(keys: FrameKeys, h: Header, payload: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  const header = encodeHeader(h);
  const sealed = await crypto.subtle.encrypt(
    { name: "AES-GCM", iv: frameNonce(keys.salt, h), additionalData: header, tagLength: 8 * TAG_BYTES },
    keys.aead,
    payload as BufferSource,
  );
  return concat(header, new Uint8Array(sealed));
}

/** The payload of a frame, or null when it does not authenticate. `h` is the frame's decoded header. */
async function openFrame(keys: FrameKeys, h: Header, sealed: Uint8Array): Promise<Uint8Array<ArrayBuffer> | null> {
  try {
    const payload = await crypto.subtle.decrypt(
      {
        name: "AES-GCM",
        iv: frameNonce(keys.salt, h),
        additionalData: sealed.subarray(0, HEADER_BYTES) as BufferSource,
        tagLength: 8 * TAG_BYTES,
      },
      keys.aead,
      sealed.subarray(HEADER_BYTES) as BufferSource,
    );
    return new Uint8Array(payload);
  } catch {
    return null;
  }
}

/** What a sealer is told about a frame; sender, number and generation are its own to give. */
export type SealFields = Omit<Header, "sender" | "number" | "generation">;

export interface SealerOptions {
  /**
   * The first generation, u16. By default from the clock, one a second, so that whoever reloads the page comes back with
   * a newer generation than it left with.
   */
  generation?: number;
  /** Frame numbers per layer under one key, at most (and by default) 2^32; then the key is replaced at once. */
  numbers?: number;
  /** The key had to be replaced because numbers ran out. It is in use already: mail it. */
  onForcedRotation?: (key: SenderKey) => void;
}

interface OwnGeneration {
  generation: number;
  base: Promise<Uint8Array<ArrayBuffer>>;
  keys: Promise<FrameKeys>;
}

/** Seals everything that one sender sends. Two of them never share a key. */
export class Sealer {
  readonly sender: number;
  readonly #numbers: number;
  readonly #onForcedRotation: (key: SenderKey) => void;
  #current: OwnGeneration;
  /** Made but not in use, oldest first. */
  #prepared: OwnGeneration[] = [];
  /** By stream, track and spatial layer: the next number, and the last result, for the order. */
  readonly #lanes = new Map<number, { next: number; last: Promise<unknown> }>();
  #sealed = 0;

  constructor(sender: number, options: SealerOptions = {}) {
    this.sender = sender;
    this.#numbers = options.numbers ?? 2 ** 32;
    this.#onForcedRotation = options.onForcedRotation ?? (() => {});
    this.#current = this.#fresh((options.generation ?? Math.floor(Date.now() / 1000)) & 0xffff);
  }

  /** The generation that seals at present. */
  get generation(): number {
    return this.#current.generation;
  }

  /** Frames sealed under the present key: renew it (`rotate`) before 2^24. */
  get sealedUnderKey(): number {
    return this.#sealed;
  }

  /** The key that seals at present. */
  async key(): Promise<SenderKey> {
    return told(this.#current);
  }

  /**
   * Seals a frame: gives it the next number of its layer, at the call, under the generation in use at the call. Results
   * of one (stream, track, spatial layer) come in the order of the calls. `payload` must stay as it is until then.
   *
   * Rejects with a RangeError when a field does not fit; its number is spent all the same.
   */
  seal(fields: SealFields, payload: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
    const id = lane(fields);
    let state = this.#lanes.get(id);
    if (state === undefined) {
      state = { next: 0, last: Promise.resolve() };
      this.#lanes.set(id, state);
    }
    if (state.next >= this.#numbers) this.#replaceKey(state);
    const { generation, keys } = this.#current;
    const header: Header = { ...fields, sender: this.sender, number: state.next, generation };
    state.next += 1;
    this.#sealed += 1;
    const sealed = keys.then((ready) => sealFrame(ready, header, payload));
    const inOrder = Promise.allSettled([sealed, state.last]).then(() => sealed);
    state.last = inOrder.catch(() => {});
    return inOrder;
  }

  /** Prepares the next step of the newest key's chain, for a newcomer: it opens nothing sealed before. Then `use` it. */
  ratchet(): Promise<SenderKey> {
    const newest = this.#newest();
    return told(this.#prepare(this.#step(newest)));
  }

  /** Prepares a new random key, after somebody left: whoever has only the older keys opens nothing. Then `use` it. */
  rotate(): Promise<SenderKey> {
    return told(this.#prepare(this.#fresh(step(this.#newest()))));
  }

  /**
   * Seals with a prepared generation from the next call of `seal` on, and forgets those before it. False when there is
   * no such generation (an older one than is in use, for example); then nothing changes.
   */
  use(generation: number): boolean {
    if (generation === this.#current.generation) return true;
    const at = this.#prepared.findIndex((own) => own.generation === generation);
    const own = this.#prepared[at];
    if (own === undefined) return false;
    this.#prepared.splice(0, at + 1);
    this.#current = own;
    this.#sealed = 0;
    return true;
  }

  #newest(): OwnGeneration {
    return this.#prepared.at(-1) ?? this.#current;
  }

  #prepare(own: OwnGeneration): OwnGeneration {
    this.#prepared.push(own);
    return own;
  }

  #fresh(generation: number): OwnGeneration {
    return this.#own(generation, Promise.resolve(crypto.getRandomValues(new Uint8Array(BASE_KEY_BYTES))));
  }

  #step(from: OwnGeneration): OwnGeneration {
    return this.#own(step(from), from.base.then(ratchetKey));
  }

  #own(generation: number, base: Promise<Uint8Array<ArrayBuffer>>): OwnGeneration {
    return { generation, base, keys: base.then((key) => deriveFrameKeys(key, this.sender, generation)) };
  }

  /** Numbers of a layer ran out: a new key at once, because under the old one they would come again. */
  #replaceKey(state: { next: number }): void {
    const own = this.#fresh(step(this.#newest()));
    // A generation that was prepared before is older than this one and would bring old numbers back: it is dropped.
    this.#prepared = [];
    this.#current = own;
    this.#sealed = 0;
    state.next = 0;
    told(own).then(this.#onForcedRotation);
  }
}

async function told(own: OwnGeneration): Promise<SenderKey> {
  return { generation: own.generation, key: (await own.base).slice() };
}

/** Stream, track and spatial layer as one number. */
function lane(h: { stream: number; track: number; spatial: number }): number {
  return (h.stream << 8) | (h.track << 4) | h.spatial;
}

/**
 * Why a frame did not open. `no_key`: its generation is not known (yet). `refused`: it does not authenticate.
 * `replayed`: it opened before, or is too old to tell. `malformed`: no header, or not of this sender.
 */
export type OpenFailure = "no_key" | "refused" | "replayed" | "malformed";

export type OpenResult = { ok: true; payload: Uint8Array<ArrayBuffer> } | { ok: false; why: OpenFailure };

/** What became of frames, counted since the opener was made. */
export interface OpenCounts {
  opened: number;
  no_key: number;
  refused: number;
  replayed: number;
  malformed: number;
}

interface Generation {
  generation: number;
  /** It came by mail, or opened a frame. Otherwise it was ratcheted from one that did, on trial. */
  believed: boolean;
  base: Promise<Uint8Array>;
  keys: Promise<FrameKeys>;
  /** By lane. They outlive a change of the key, so that frames on their way through the cipher stay claimed. */
  windows: Map<number, ReplayWindow>;
  /** On the caller's clock; infinite while no newer generation is in use. */
  expiresMs: number;
}

/** Opens what one remote sender sealed, each frame once. Make a new one when the sender has a new identity. */
export class Opener {
  readonly sender: number;
  readonly counts: OpenCounts = { opened: 0, no_key: 0, refused: 0, replayed: 0, malformed: 0 };
  readonly #held = new Map<number, Generation>();
  /** The newest generation that opened a frame, and when it first did. */
  #used: { generation: number; sinceMs: number } | null = null;
  /** The newest generation that expired. It and everything before it stay forgotten, whatever mail comes again. */
  #expired: number | null = null;

  constructor(sender: number) {
    this.sender = sender;
  }

  /**
   * Takes a key that the sender mailed; the bytes are copied. The same key again changes nothing, another key under
   * the same generation replaces it. False when the generation has expired already, or the key has not 16 bytes.
   */
  async addKey(generation: number, key: Uint8Array): Promise<boolean> {
    if (key.length !== BASE_KEY_BYTES || generation !== (generation & 0xffff)) return false;
    if (this.#expired !== null && !isNewer(generation, this.#expired)) return false;
    const copy = key.slice();
    const held = this.#held.get(generation);
    if (held !== undefined && equal(await held.base, copy)) {
      held.believed = true;
      return true;
    }
    // On trial, the generation may have frames on their way through the cipher: the mailed key goes on with its windows.
    let last = this.#hold(generation, Promise.resolve(copy), held?.believed ? undefined : held?.windows);
    last.believed = true;
    // Steps that were derived past it stand on another key now.
    for (let next = this.#held.get(step(last)); next?.believed === false; next = this.#held.get(step(last))) {
      last = this.#hold(next.generation, last.base.then(ratchetKey), next.windows);
    }
    return true;
  }

  /** The generations whose keys are believed, in no order. */
  get generations(): number[] {
    return [...this.#held.values()].filter((held) => held.believed).map((held) => held.generation);
  }

  /**
   * Opens a frame, at most once. `header` is `decodeHeader(sealed)`; `sealed` must stay as it is until the result is
   * there; `nowMs` is any monotonic clock, always the same. Results may come in another order than the calls.
   */
  async open(header: Header | null, sealed: Uint8Array, nowMs: number): Promise<OpenResult> {
    const result = await this.#open(header, sealed, nowMs);
    this.counts[result.ok ? "opened" : result.why] += 1;
    return result;
  }

  async #open(header: Header | null, sealed: Uint8Array, nowMs: number): Promise<OpenResult> {
    if (header === null || header.sender !== this.sender || sealed.length < HEADER_BYTES + TAG_BYTES) {
      return { ok: false, why: "malformed" };
    }
    this.#expire(nowMs);
    const held = this.#held.get(header.generation) ?? this.#ratcheted(header.generation);
    if (held === null) return { ok: false, why: "no_key" };
    const window = windowOf(held, lane(header));
    // A copy on its way through the cipher may be a forgery: wait for it rather than call this one a replay.
    for (let claim = window.claims.get(header.number); claim !== undefined; claim = window.claims.get(header.number)) {
      await claim;
    }
    if (window.has(header.number)) return { ok: false, why: "replayed" };
    const opening = held.keys.then((keys) => openFrame(keys, header, sealed));
    const settled = opening.then((payload) => {
      window.claims.delete(header.number);
      if (payload !== null) window.add(header.number);
    });
    window.claims.set(header.number, settled);
    const payload = await opening;
    await settled;
    if (payload === null) return { ok: false, why: held.believed ? "refused" : "no_key" };
    this.#opened(held, nowMs);
    return { ok: true, payload };
  }

  /** A frame opened under this generation: it is real, and older ones have their last seconds. */
  #opened(held: Generation, nowMs: number): void {
    held.believed = true;
    if (this.#used !== null && !isNewer(held.generation, this.#used.generation)) return;
    this.#used = { generation: held.generation, sinceMs: nowMs };
    for (const other of this.#held.values()) {
      if (isNewer(held.generation, other.generation)) {
        other.expiresMs = Math.min(other.expiresMs, nowMs + GENERATION_GRACE_MS);
      }
    }
  }

  #expire(nowMs: number): void {
    for (const { generation, expiresMs } of this.#held.values()) if (nowMs >= expiresMs) this.#forget(generation);
  }

  #forget(generation: number): void {
    this.#held.delete(generation);
    if (this.#expired === null || isNewer(generation, this.#expired)) this.#expired = generation;
  }

  /** A generation that no mail brought, from the closest believed one before it; null when that is too far. */
  #ratcheted(generation: number): Generation | null {
    let from: Generation | undefined;
    for (let back = 1; back <= RATCHET_WINDOW && from === undefined; back++) {
      const held = this.#held.get((generation - back) & 0xffff);
      if (held?.believed) from = held;
    }
    if (from === undefined) return null;
    while (from.generation !== generation) {
      from = this.#held.get(step(from)) ?? this.#hold(step(from), from.base.then(ratchetKey));
    }
    return from;
  }

  #hold(generation: number, base: Promise<Uint8Array>, windows = new Map<number, ReplayWindow>()): Generation {
    const keys = base.then((key) => deriveFrameKeys(key, this.sender, generation));
    const old = this.#used !== null && isNewer(this.#used.generation, generation);
    const expiresMs = old && this.#used ? this.#used.sinceMs + GENERATION_GRACE_MS : Number.POSITIVE_INFINITY;
    const held: Generation = { generation, believed: false, base, keys, windows, expiresMs };
    this.#held.set(generation, held);
    if (this.#held.size > MOST_GENERATIONS) {
      let oldest = generation;
      for (const other of this.#held.keys()) if (isNewer(oldest, other)) oldest = other;
      this.#forget(oldest);
    }
    return held;
  }
}

/** The generation after. */
function step(held: { generation: number }): number {
  return (held.generation + 1) & 0xffff;
}

function windowOf(generation: Generation, id: number): ReplayWindow {
  let window = generation.windows.get(id);
  if (window === undefined) {
    window = new ReplayWindow();
    generation.windows.set(id, window);
  }
  return window;
}

/** Which of the last `REPLAY_WINDOW` numbers of a layer have opened. */
class ReplayWindow {
  /** Numbers on their way through the cipher; each settles, without throwing, when its outcome is known. */
  readonly claims = new Map<number, Promise<unknown>>();
  /** Slot `number % REPLAY_WINDOW` holds the number that opened there last, plus one. */
  readonly #slots = new Float64Array(REPLAY_WINDOW);
  #newest = -1;

  has(number: number): boolean {
    return number <= this.#newest - REPLAY_WINDOW || this.#slots[number % REPLAY_WINDOW] === number + 1;
  }

  add(number: number): void {
    if (number <= this.#newest - REPLAY_WINDOW) return;
    this.#slots[number % REPLAY_WINDOW] = number + 1;
    this.#newest = Math.max(this.#newest, number);
  }
}
