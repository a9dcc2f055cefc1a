/**
 * The control channel's messages: what two neighbours tell each other beside frames. JSON text, one object per
 * message, discriminated by `t`; `docs/ref/links.md` describes them. `parseControl` is the only door for foreign
 * input: it never throws, copies only what it knows, and bounds everything it copies.
 */
import type { StreamKey } from "./types.ts";

/** Longest message read, in UTF-16 units. The longest that is written (a full `need`) is below 1200. */
export const MAX_CONTROL = 4096;
/** Numbers in one `need` or `miss`: more missing frames than this are a case for a key frame. */
export const MAX_NUMBERS = 64;
/** A stream has at most four spatial layers (two header bits). */
export const MAX_LAYERS = 4;

/** The newest frame of a layer that a node has, without a hole that matters. */
export interface Have {
  layer: number;
  generation: number;
  number: number;
}

export type Control =
  /** Alive. `n` counts; `f` frames were sent on this link so far; `e` is the last `n` heard, `d` how long ago, ms. */
  | { t: "hb"; n: number; f: number; e?: number; d?: number }
  /** Child to parent: start now; I have these already. */
  | { t: "take"; s: StreamKey; have: Have[] }
  /** Child to the node that stands by: I am served elsewhere, stop. */
  | { t: "drop"; s: StreamKey }
  /** Child to parent: a key frame of this layer, please. */
  | { t: "key"; s: StreamKey; l: number }
  /** Child to parent: these frames did not come. */
  | { t: "need"; s: StreamKey; l: number; n: number[] }
  /** Parent to child: these will not come. */
  | { t: "miss"; s: StreamKey; l: number; n: number[] }
  /** Parent to child: the newest frame of a layer that has paused, lest its loss go unseen. */
  | { t: "tip"; s: StreamKey; l: number; g: number; n: number }
  /** Parent to child: the layers that you get at present. */
  | { t: "layers"; s: StreamKey; l: number[] }
  /** Relay to browser, on a link by RTP: have receivers for so many streams, a pair for sound and pictures each. */
  | { t: "slots"; n: number };

/** Most pairs of receivers that a relay may ask for. */
export const MAX_SLOTS = 64;

export type Parsed = { ok: true; message: Control } | { ok: false; why: "malformed" | "unknown" };

const MALFORMED: Parsed = { ok: false, why: "malformed" };

export function encodeControl(message: Control): string {
  return JSON.stringify(message);
}

export function parseControl(text: unknown): Parsed {
  if (typeof text !== "string" || text.length > MAX_CONTROL) return MALFORMED;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return MALFORMED;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return MALFORMED;
  const m = value as Record<string, unknown>;
  switch (m.t) {
    case "hb": {
      if (!isInt(m.n, 0xffff_ffff) || !isInt(m.f, Number.MAX_SAFE_INTEGER)) return MALFORMED;
      if (m.e === undefined && m.d === undefined) return { ok: true, message: { t: "hb", n: m.n, f: m.f } };
      if (!isInt(m.e, 0xffff_ffff) || typeof m.d !== "number" || !(m.d >= 0 && m.d <= 60_000)) return MALFORMED;
      return { ok: true, message: { t: "hb", n: m.n, f: m.f, e: m.e, d: m.d } };
    }
    case "take": {
      if (!isInt(m.s, 0xfffff) || !Array.isArray(m.have) || m.have.length > MAX_LAYERS) return MALFORMED;
      const have: Have[] = [];
      for (const entry of m.have as unknown[]) {
        if (typeof entry !== "object" || entry === null) return MALFORMED;
        const { layer, generation, number } = entry as Record<string, unknown>;
        if (!isLayer(layer) || !isInt(generation, 0xffff) || !isInt(number, 0xffff_ffff)) return MALFORMED;
        have.push({ layer, generation, number });
      }
      return { ok: true, message: { t: "take", s: m.s, have } };
    }
    case "drop":
      return isInt(m.s, 0xfffff) ? { ok: true, message: { t: "drop", s: m.s } } : MALFORMED;
    case "key":
      if (!isInt(m.s, 0xfffff) || !isLayer(m.l)) return MALFORMED;
      return { ok: true, message: { t: "key", s: m.s, l: m.l } };
    case "need":
    case "miss": {
      if (!isInt(m.s, 0xfffff) || !isLayer(m.l)) return MALFORMED;
      const n = ints(m.n, MAX_NUMBERS, 0xffff_ffff);
      return n && n.length > 0 ? { ok: true, message: { t: m.t, s: m.s, l: m.l, n } } : MALFORMED;
    }
    case "tip":
      if (!isInt(m.s, 0xfffff) || !isLayer(m.l) || !isInt(m.g, 0xffff) || !isInt(m.n, 0xffff_ffff)) return MALFORMED;
      return { ok: true, message: { t: "tip", s: m.s, l: m.l, g: m.g, n: m.n } };
    case "layers": {
      if (!isInt(m.s, 0xfffff)) return MALFORMED;
      const l = ints(m.l, MAX_LAYERS, MAX_LAYERS - 1);
      return l ? { ok: true, message: { t: "layers", s: m.s, l } } : MALFORMED;
    }
    case "slots":
      return isInt(m.n, MAX_SLOTS) ? { ok: true, message: { t: "slots", n: m.n } } : MALFORMED;
    default:
      return typeof m.t === "string" ? { ok: false, why: "unknown" } : MALFORMED;
  }
}

function isInt(value: unknown, max: number): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max;
}

function isLayer(value: unknown): value is number {
  return isInt(value, MAX_LAYERS - 1);
}

function ints(value: unknown, length: number, max: number): number[] | null {
  if (!Array.isArray(value) || value.length > length) return null;
  return value.every((v) => isInt(v, max)) ? [...(value as number[])] : null;
}
