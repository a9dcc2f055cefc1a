/**
 * Key requests of one stream, merged per layer: at most one per `KEY_INTERVAL_MS` goes up, and a request that comes
 * in between goes at the end of the interval instead of being lost (without that trailing edge the second hop of a
 * chain may never start). Pure.
 */

/** A key frame costs every receiver of the layer; more than four a second help nobody. */
export const KEY_INTERVAL_MS = 250;

export class KeyRequests {
  asked = 0;
  private readonly layers = new Map<number, { last: number; pending: boolean }>();

  request(layer: number): void {
    const l = this.layers.get(layer);
    if (l) l.pending = true;
    else this.layers.set(layer, { last: Number.NEGATIVE_INFINITY, pending: true });
  }

  /** A key frame came and is on its way to everybody who asked before it. */
  satisfied(layer: number): void {
    const l = this.layers.get(layer);
    if (l) l.pending = false;
  }

  /** Layers whose request goes up now. Call after `request` and by the clock. */
  due(now: number): number[] {
    const out: number[] = [];
    for (const [layer, l] of this.layers) {
      if (!l.pending || now - l.last < KEY_INTERVAL_MS) continue;
      out.push(layer);
    }
    return out;
  }

  /** The request for this layer was handed to the parent, or to our own encoder. */
  sent(layer: number, now: number): void {
    const l = this.layers.get(layer);
    if (!l) return;
    l.last = now;
    l.pending = false;
    this.asked += 1;
  }
}
