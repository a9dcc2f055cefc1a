/**
 * Which of two encoders a layer's frames come from, while a stream moves from one to the other: WebCodecs (`codec`) or
 * the sender of an RTP link (`rtp`). A layer changes hands at the first key frame of the encoder that is wanted, and
 * from then on nothing of the other is sealed: a layer's frames never come from two encoders by turns.
 *
 * Pure. Sound is one layer whose every packet is a key frame.
 */
export type Source = "codec" | "rtp";

/**
 * After the first layer has changed hands the others have so long; then the former encoder stops all the same. An RTP
 * sender begins its upper layer when its bandwidth estimate allows it, which may be never.
 */
export const HANDOVER_MS = 2_000;

export class Handover {
  #wanted: Source = "codec";
  readonly #owners = new Map<number, Source>();
  /** When the wanted source took over its first layer. */
  #sinceMs: number | null = null;

  get wanted(): Source {
    return this.#wanted;
  }

  want(source: Source): void {
    if (source === this.#wanted) return;
    this.#wanted = source;
    this.#sinceMs = null;
  }

  /** May this frame be sealed? Takes the layer over where it is the wanted encoder's first key frame. */
  admit(source: Source, layer: number, key: boolean, nowMs: number): boolean {
    if (source === this.owner(layer)) return true;
    if (source !== this.#wanted || !key) return false;
    this.#owners.set(layer, source);
    this.#sinceMs ??= nowMs;
    return true;
  }

  /** Whose frames of the layer are sealed at present. */
  owner(layer: number): Source {
    return this.#owners.get(layer) ?? "codec";
  }

  /** Has this encoder anything to do in the layer? */
  runs(source: Source, layer: number, nowMs: number): boolean {
    if (source === this.#wanted) return true;
    const waiting = this.#sinceMs === null || nowMs - this.#sinceMs < HANDOVER_MS;
    return this.owner(layer) === source && waiting;
  }
}
