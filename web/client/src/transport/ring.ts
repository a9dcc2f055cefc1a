/**
 * What a node remembers of one stream: per video layer the frames since the last key frame, at most `RING_MS`; of the
 * sound the last `AUDIO_MS`. It answers repairs by number and starts newcomers ("replay"). Pure; holds references to
 * the received bytes, never copies. Bounded in time and in bytes per layer.
 */
import { EVERYTHING, type Header, isNewer } from "../frame/header.ts";

/** How far back a replay may start. Longer saves key frames for newcomers and costs memory and a longer burst. */
export const RING_MS = 2000;
/** Sound is kept to answer a late question only; older sound is of no use to a player. */
export const AUDIO_MS = 500;
/** Per layer: 2 s at 16 Mbit/s. Over it the oldest go, and with the key frame the replay. */
export const RING_BYTES = 4 << 20;

export const AUDIO = 0;
export const VIDEO = 1;

export interface Stored {
  readonly header: Header;
  readonly sealed: Uint8Array;
  /** When it came to this node, ms. */
  readonly at: number;
}

interface Layer {
  /** Insertion order is arrival order. */
  frames: Map<number, Stored>;
  bytes: number;
  key: number | null;
  highest: number;
  generation: number;
}

export class Ring {
  private readonly layers = new Map<number, Layer>();
  private readonly sound = new Map<number, Stored>();
  private soundBytes = 0;

  /** Remember a frame. A newer generation whose numbers start again replaces the layer. */
  add(frame: Stored): void {
    const h = frame.header;
    if (h.track === AUDIO) {
      this.sound.set(h.number, frame);
      this.soundBytes += frame.sealed.byteLength;
      this.expire(frame.at);
      return;
    }
    let layer = this.layers.get(h.spatial);
    if (!layer || (isNewer(h.generation, layer.generation) && h.number <= layer.highest)) {
      layer = { frames: new Map(), bytes: 0, key: null, highest: h.number, generation: h.generation };
      this.layers.set(h.spatial, layer);
    }
    if (layer.frames.has(h.number)) return;
    if (h.number >= layer.highest) {
      layer.highest = h.number;
      layer.generation = h.generation;
    }
    layer.frames.set(h.number, frame);
    layer.bytes += frame.sealed.byteLength;
    if (h.key && (layer.key === null || h.number > layer.key)) {
      layer.key = h.number;
      for (const [number, old] of layer.frames) if (number < h.number) forget(layer, number, old);
    }
    this.expire(frame.at);
  }

  /** The frame with this number, if it is still here. */
  get(track: number, layer: number, number: number): Stored | null {
    const frames = track === AUDIO ? this.sound : this.layers.get(layer)?.frames;
    return frames?.get(number) ?? null;
  }

  /**
   * What a newcomer needs of a layer, in order of numbers: the last key frame and all that depends on it and counts
   * (droppable frames are left out: they only cost time now). `null`: no key frame young enough, or a hole behind it
   * that frames depend on; a key request must go out.
   */
  replay(layer: number, now: number): Stored[] | null {
    const l = this.layers.get(layer);
    if (!l || l.key === null) return null;
    const key = l.frames.get(l.key);
    if (!key || now - key.at > RING_MS) return null;
    const numbers = [...l.frames.keys()].filter((n) => n >= (l.key ?? 0)).sort((a, b) => a - b);
    const whole = new Set<number>();
    const frames: Stored[] = [];
    for (const number of numbers) {
      const frame = l.frames.get(number);
      if (!frame) continue;
      if (!needsMet(frame.header, whole, l.key)) {
        if (frame.header.droppable) continue;
        return null;
      }
      whole.add(number);
      if (!frame.header.droppable) frames.push(frame);
    }
    return frames;
  }

  /**
   * Everything after `number` for somebody who has the layer up to there; `null` when the ring does not reach back so
   * far, or counts differently.
   */
  after(layer: number, generation: number, number: number, now: number): Stored[] | null {
    const l = this.layers.get(layer);
    if (!l || l.frames.size === 0 || isNewer(generation, l.generation)) return null;
    // Under an older generation a higher number is of another count, and says nothing about this one.
    if (number > l.highest) return generation === l.generation && number - l.highest < 256 ? [] : null;
    if (l.frames.get(number)?.header.generation !== generation) return null;
    const frames: Stored[] = [];
    for (const n of [...l.frames.keys()].sort((a, b) => a - b)) {
      const frame = l.frames.get(n);
      if (n > number && frame && now - frame.at <= RING_MS) frames.push(frame);
    }
    return frames;
  }

  /** Drop what is too old, or too much. */
  expire(now: number): void {
    for (const [number, frame] of this.sound) {
      if (now - frame.at <= AUDIO_MS) break;
      this.sound.delete(number);
      this.soundBytes -= frame.sealed.byteLength;
    }
    for (const layer of this.layers.values()) {
      for (const [number, frame] of layer.frames) {
        if (now - frame.at <= RING_MS && layer.bytes <= RING_BYTES) break;
        forget(layer, number, frame);
        if (number === layer.key) layer.key = null;
      }
    }
  }

  get bytes(): number {
    let bytes = this.soundBytes;
    for (const layer of this.layers.values()) bytes += layer.bytes;
    return bytes;
  }

  get frames(): number {
    let frames = this.sound.size;
    for (const layer of this.layers.values()) frames += layer.frames.size;
    return frames;
  }
}

function forget(layer: Layer, number: number, frame: Stored): void {
  layer.frames.delete(number);
  layer.bytes -= frame.sealed.byteLength;
}

/** The numbers that a frame names as needed: its farthest and nearest reference. */
export function references(header: Header): number[] {
  if (header.key) return [];
  const out: number[] = [];
  for (const distance of [header.farthest, header.nearest]) {
    if (distance > 0 && distance < EVERYTHING && distance <= header.number) {
      const number = header.number - distance;
      if (!out.includes(number)) out.push(number);
    }
  }
  return out;
}

/** The frame needs everything before it. */
export function needsAll(header: Header): boolean {
  return !header.key && (header.farthest === EVERYTHING || header.nearest === EVERYTHING);
}

function needsMet(header: Header, whole: ReadonlySet<number>, key: number): boolean {
  if (header.key) return true;
  if (needsAll(header)) {
    for (let n = key; n < header.number; n += 1) if (!whole.has(n)) return false;
    return true;
  }
  return references(header).every((n) => whole.has(n));
}
