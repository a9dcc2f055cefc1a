/**
 * Which layer of which stream this page has use for, from the sizes at which its views are shown. Whoever feeds us
 * sends no more than that, so a small tile costs little and a stream that nobody looks at costs only its sound.
 */
import type { StreamRef, Want } from "../signal/messages.ts";

/** A view up to this much wider than a layer still looks well in it; a larger one asks for the next layer. */
const STRETCH = 1.3;
/** A resize drag asks once, at its end. */
export const SETTLE_MS = 300;
/** A stream that is not shown keeps its picture for this long: views come and go while a page is laid out. */
export const UNSHOWN_MS = 2_000;

/** A stream's video as published, lowest layer first, and the widths at which it is shown, device pixels. */
export interface Shown {
  stream: StreamRef;
  layers: readonly { width: number }[];
  /** Null in the list: a view whose size is not known yet. Null itself: not decided, the last want stands. */
  widths: readonly (number | null)[] | null;
}

/** The highest layer of use for views of these widths: null for sound only. */
export function wantedLayer(layers: Shown["layers"], widths: readonly (number | null)[]): number | null {
  if (widths.length === 0) return null;
  const width = Math.max(...widths.map((w) => w ?? Number.POSITIVE_INFINITY));
  const enough = layers.findIndex((layer) => width < STRETCH * layer.width);
  return enough === -1 ? Math.max(layers.length - 1, 0) : enough;
}

/**
 * What to tell the server: the wants that differ from `told` (a stream that is not in it stands at its top layer).
 * `told` is keyed by `node/stream` and is brought up to date.
 */
export function changedWants(shown: readonly Shown[], told: Map<string, number | null>): Want[] {
  const changed: Want[] = [];
  const present = new Set<string>();
  for (const one of shown) {
    const key = `${one.stream.node}/${one.stream.stream}`;
    present.add(key);
    if (one.widths === null) continue;
    const layer = wantedLayer(one.layers, one.widths);
    if (told.has(key) ? told.get(key) === layer : layer === one.layers.length - 1) continue;
    told.set(key, layer);
    changed.push({ stream: one.stream, layer });
  }
  for (const key of told.keys()) if (!present.has(key)) told.delete(key);
  return changed;
}
