/**
 * The jitter buffer of one remote microphone: decoded packets in, an even stream of samples out.
 *
 * Pure: all times are counts of samples on the playing sound card's clock, given by the caller. So a sender's clock that
 * drifts against ours shows as arrivals that drift, and is answered by repeating or leaving out 10 ms now and then.
 *
 * The delay aims at p97 of the last 100 arrivals, relative to the fastest, and 15 ms more. It rises fast and falls
 * slowly, because a gap is heard and a little delay is not (figures: `docs/design/playing.md`). Costs per 10 ms one copy
 * while there is sound, nothing else while there is none; holds 2 s at most.
 */
import { Window } from "./window.ts";

/** Samples per second. */
export const RATE = 48_000;
/** Samples in a packet, 20 ms. */
export const PACKET = 960;
/** Samples decided at once, 10 ms. */
export const CHUNK = 480;

const ms = (value: number): number => (value * RATE) / 1000;

const ARRIVALS = 100;
const MARGIN = ms(15);
const LEAST_TARGET = ms(20);
const MOST_TARGET = ms(400);
const FIRST_TARGET = ms(40);
/** Too early by this much: play 10 ms twice. At most each 100 ms. */
const EARLY = ms(10);
const STRETCH_EVERY = ms(100);
/** Too late by this much: leave 10 ms out. At most each 200 ms. */
const LATE = ms(30);
const DROP_EVERY = ms(200);
/** In near-silence corrections are not heard: they come earlier. */
const QUIET_RMS = 0.003;
const QUIET_LATE = ms(12);
/** Further off than this, playing jumps instead of creeping. */
const JUMP = ms(250);
/** Arrivals this far from all others are another timeline: a device changed, or a machine slept. */
const NEW_TIMELINE = ms(1000);
const MOST_PACKETS = 100;
/** Each 10 ms without anything to play is the last again, this much quieter; after six of them playing stops. */
const FADE = 0.5;
const IDLE_AFTER = 6;
/** A lost packet is the last again, this much quieter. */
const CONCEAL = 0.3;
/** Samples over which one piece of sound passes into another. */
const BLEND = 120;
/** What an idle buffer plays; never written to. */
const NOTHING = new Float32Array(CHUNK);

interface Packet {
  number: number;
  /** Capture time of its first sample, in samples. */
  at: number;
  pcm: Float32Array;
}

export interface JitterCounts {
  /** Packets played, whole or in part. */
  played: number;
  /** Packets that were missing while later ones were there. */
  concealed: number;
  /** 10 ms steps without anything to play. */
  starved: number;
  stretched: number;
  dropped: number;
  /** Packets that came after their turn. */
  late: number;
}

export class JitterBuffer {
  readonly counts: JitterCounts = { played: 0, concealed: 0, starved: 0, stretched: 0, dropped: 0, late: 0 };
  readonly #packets = new Map<number, Packet>();
  readonly #transits = new Window(ARRIVALS);
  /** Transit of the fastest packet in the window. */
  #base = 0;
  #target = FIRST_TARGET;
  #floor = 0;
  /** The packet that plays, and how many of its chunks have. Null while idle. */
  #head: { number: number; half: number; at: number } | null = null;
  #chunk: Float32Array = NOTHING;
  #chunkAt = CHUNK;
  #starving = 0;
  #concealing = false;
  #pausedFrom = Number.POSITIVE_INFINITY;
  #stretchedAt = Number.NEGATIVE_INFINITY;
  #droppedAt = Number.NEGATIVE_INFINITY;

  /** The delay aimed at, relative to the fastest packet of late, samples. */
  get target(): number {
    return Math.max(this.#target, this.#floor);
  }

  /** At least this delay, in samples: sound waits for a picture that takes longer. */
  set floor(samples: number) {
    this.#floor = Math.min(Math.max(samples, 0), MOST_TARGET);
  }

  /** Packets waiting. */
  get size(): number {
    return this.#packets.size;
  }

  /** Capture time of the next sample out, microseconds; null while nothing plays. */
  get playingUs(): number | null {
    if (this.#head === null) return null;
    return ((this.#head.at + this.#head.half * CHUNK - (CHUNK - this.#chunkAt)) * 1e6) / RATE;
  }

  /** The delay of what plays now, samples; null while nothing plays. */
  delay(now: number): number | null {
    const head = this.#head;
    return head === null ? null : now - this.#base - (head.at + head.half * CHUNK - (CHUNK - this.#chunkAt));
  }

  /** Takes a packet. `pcm` has `PACKET` samples and is the buffer's from now on. */
  push(number: number, captureUs: number, pcm: Float32Array, now: number): void {
    const at = (captureUs * RATE) / 1e6;
    this.#measure(now - at);
    if (this.#head !== null && number < this.#head.number) {
      this.counts.late += 1;
      return;
    }
    this.#packets.set(number, { number, at, pcm });
    if (number > this.#pausedFrom) this.#pausedFrom = Number.POSITIVE_INFINITY;
    if (this.#packets.size > MOST_PACKETS) this.#packets.delete(Math.min(...this.#packets.keys()));
  }

  /** The sender has nothing to say from this number on: running dry there is no loss. */
  pause(number: number): void {
    this.#pausedFrom = number;
  }

  /** The sender began anew (another key of numbers): nothing before counts. */
  restart(): void {
    this.#packets.clear();
    this.#pausedFrom = Number.POSITIVE_INFINITY;
    this.#transits.clear();
    this.#head = null;
  }

  /** Adds the next samples to `out`; `now` is the time of its first. Returns the sum of their squares. */
  mix(out: Float32Array, now: number): number {
    let power = 0;
    for (let i = 0; i < out.length; ) {
      if (this.#chunkAt >= CHUNK) this.#next(now + i);
      const [chunk, from] = [this.#chunk, this.#chunkAt];
      const count = Math.min(out.length - i, CHUNK - from);
      for (let k = 0; k < count && chunk !== NOTHING; k++) {
        const sample = chunk[from + k] as number;
        out[i + k] = (out[i + k] as number) + sample;
        power += sample * sample;
      }
      this.#chunkAt += count;
      i += count;
    }
    return power;
  }

  #measure(transit: number): void {
    if (this.#transits.size > 0 && Math.abs(transit - this.#base) > NEW_TIMELINE) this.restart();
    this.#transits.push(transit);
    this.#base = this.#transits.quantile(0);
    const p97 = this.#transits.quantile(0.97);
    const wanted = Math.min(Math.max(p97 - this.#base + MARGIN, LEAST_TARGET), MOST_TARGET);
    this.#target += (wanted - this.#target) * (wanted > this.#target ? 0.1 : 0.01);
  }

  /** Decides the next 10 ms. */
  #next(now: number): void {
    const before = this.#chunk;
    this.#chunkAt = 0;
    if (this.#head === null && !this.#begin(now)) {
      this.#chunk = this.#starving > 0 ? new Float32Array(CHUNK) : NOTHING;
      if (this.#starving > 0) blend(this.#chunk, mirrored(before), 1);
      this.#starving = 0;
      return;
    }
    const head = this.#head as { number: number; half: number; at: number };
    const packet = this.#packets.get(head.number);
    if (packet === undefined) {
      if (this.#packets.size > 0) this.#conceal(head, before);
      else this.#starve(before, head.number >= this.#pausedFrom);
      return;
    }
    head.at = packet.at;
    const fresh = part(packet, head.half);
    if (this.#starving > 0 || this.#concealing) blend(fresh, mirrored(before), 1);
    this.#starving = 0;
    this.#concealing = false;

    const error = now - this.#base - (packet.at + head.half * CHUNK) - this.target;
    const late = rms(fresh) < QUIET_RMS ? QUIET_LATE : LATE;
    if (error < -EARLY && now - this.#stretchedAt >= STRETCH_EVERY) {
      this.#stretchedAt = now;
      this.counts.stretched += 1;
      // Starts as what comes next would, passes into the last 10 ms, and so ends where what comes next begins.
      this.#chunk = before.slice();
      blend(this.#chunk, fresh, 1);
      return;
    }
    if (head.half === 0) this.counts.played += 1;
    this.#step(head);
    this.#chunk = fresh;
    if (error > JUMP) {
      this.#jump(now, fresh);
    } else if (error > late && now - this.#droppedAt >= DROP_EVERY) {
      const after = this.#packets.get(head.number);
      if (after === undefined) return;
      this.#droppedAt = now;
      this.counts.dropped += 1;
      this.#chunk = part(after, head.half);
      blend(this.#chunk, fresh, 1);
      this.#step(head);
    }
  }

  /** Starts to play with the packet whose turn it is; false when none is due. */
  #begin(now: number): boolean {
    const due = now - this.#base - this.target;
    let first: Packet | null = null;
    for (const packet of this.#packets.values()) {
      if (packet.at + PACKET <= due - EARLY) this.#packets.delete(packet.number);
      else if (first === null || packet.number < first.number) first = packet;
    }
    if (first === null || first.at > due) return false;
    this.#head = { number: first.number, half: 0, at: first.at };
    this.#concealing = true;
    return true;
  }

  #jump(now: number, fresh: Float32Array): void {
    this.counts.dropped += 1;
    this.#head = null;
    if (!this.#begin(now)) return;
    const head = this.#head as unknown as { number: number; half: number; at: number };
    this.#chunk = part(this.#packets.get(head.number) as Packet, 0);
    blend(this.#chunk, fresh, 1);
    this.#concealing = false;
    this.#step(head);
  }

  /** A packet is missing and later ones are there: its turn passes with a fainter echo of the last. */
  #conceal(head: { number: number; half: number; at: number }, before: Float32Array): void {
    if (head.half === 0) this.counts.concealed += 1;
    this.#chunk = before.map((sample) => sample * (head.half === 0 ? CONCEAL : 1));
    if (head.half === 0) blend(this.#chunk, mirrored(before), 1);
    this.#concealing = true;
    // Numbers that silence markers took, or a muted minute: go to what is there rather than through all of it.
    const nearest = Math.min(...this.#packets.keys());
    if (nearest < head.number || nearest - head.number > 10) {
      this.#head = null;
      return;
    }
    this.#step(head);
  }

  /** Nothing is there: fade out, then wait for a new beginning. Time stands still for the head meanwhile. */
  #starve(before: Float32Array, paused: boolean): void {
    if (!paused) this.counts.starved += 1;
    this.#starving += 1;
    this.#chunk = before.map((sample) => sample * FADE);
    if (this.#starving === 1) blend(this.#chunk, mirrored(before), 1);
    if (this.#starving >= IDLE_AFTER) this.#head = null;
  }

  #step(head: { number: number; half: number; at: number }): void {
    if (head.half === 0) {
      head.half = 1;
      return;
    }
    this.#packets.delete(head.number);
    head.number += 1;
    head.half = 0;
    head.at += PACKET;
  }
}

function part(packet: Packet, half: number): Float32Array<ArrayBuffer> {
  return new Float32Array(packet.pcm.subarray(half * CHUNK, (half + 1) * CHUNK));
}

/** What might follow a piece of sound: itself backwards, which begins with the value it ends with. */
function mirrored(pcm: Float32Array): Float32Array {
  return pcm.slice().reverse();
}

/** Lets `to` begin as `from * gain` does. */
function blend(to: Float32Array, from: Float32Array, gain: number): void {
  for (let i = 0; i < BLEND; i++) {
    const share = (i + 1) / (BLEND + 1);
    to[i] = (to[i] as number) * share + (from[i] as number) * gain * (1 - share);
  }
}

function rms(pcm: Float32Array): number {
  let power = 0;
  for (const sample of pcm) power += sample * sample;
  return Math.sqrt(power / pcm.length);
}
