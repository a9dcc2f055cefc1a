/** Sizes and dependencies of the pictures that an encoder makes. Pure. */

/**
 * The size of a layer for a source: the source's shape, its longer side at most the order's longer side, never larger
 * than the source, both sides even (VP8's chroma is half size) and at least 16.
 */
export function fit(order: { width: number; height: number }, source: { width: number; height: number }) {
  const scale = Math.min(1, Math.max(order.width, order.height) / Math.max(source.width, source.height));
  const even = (side: number): number => Math.max(16, 2 * Math.round((side * scale) / 2));
  return { width: even(source.width), height: even(source.height) };
}

/** The orders worth encoding for a source: what is no larger than the layer below it shows nothing more. */
export function distinct<Order extends { width: number; height: number }>(
  orders: readonly Order[],
  source: { width: number; height: number },
): Order[] {
  return orders.filter((order, i) => {
    const below = orders[i - 1];
    return below === undefined || fit(order, source).width > fit(below, source).width;
  });
}

/** What a frame's header says about the frames it needs. */
export interface Needs {
  farthest: number;
  nearest: number;
  droppable: boolean;
}

/**
 * Follows one layer's frames as they leave the encoder: every frame needs the last one of temporal layer 0, and those
 * of temporal layer 1 (L1T2) are needed by none.
 */
export class Dependencies {
  /** Frames since the last of temporal layer 0, itself not counted. */
  #since = 0;

  next(key: boolean, temporal: number): Needs {
    const distance = key ? 0 : this.#since + 1;
    this.#since = temporal === 0 ? 0 : this.#since + 1;
    return { farthest: distance, nearest: distance, droppable: temporal > 0 };
  }
}

/**
 * The layer to decode among those that come, for a view of this many pixels on its longer side (0: not known): the
 * lowest that fills three quarters of it, else the highest. `sides` are the longer sides by layer, lowest first, null
 * for a layer that does not come.
 */
export function wantedLayer(sides: readonly (number | null)[], view: number): number | null {
  let best: number | null = null;
  for (const [layer, side] of sides.entries()) {
    if (side === null) continue;
    best = layer;
    if (view > 0 && side >= view * 0.75) break;
  }
  return best;
}
