/**
 * Looking for what encoders gave in what travels. A sealed or split picture is nowhere whole, so pieces of it are looked
 * for: {@link PIECE} bytes out of every {@link EVERY}, so that each packet that holds plaintext holds some whole.
 */

/** Long enough that none is there by chance: 2^-128 for each place in which it is looked for. */
const PIECE = 16;
const EVERY = 48;
/** Fewer different values than this are zeros and the like, which a header has too. */
const LEAST_VALUES = 8;

export class Plaintext {
  /** By the first four bytes. */
  readonly #pieces = new Map<number, Buffer[]>();
  /** Pieces that are looked for, each counted once. */
  readonly count: number;

  constructor(chunks: readonly Buffer[]) {
    const pieces = new Map<string, Buffer>();
    for (const chunk of chunks) {
      for (let at = 0; at + PIECE <= chunk.length; at += EVERY) {
        const piece = chunk.subarray(at, at + PIECE);
        if (new Set(piece).size >= LEAST_VALUES) pieces.set(piece.toString("latin1"), piece);
      }
    }
    for (const piece of pieces.values()) {
      const start = piece.readUInt32BE(0);
      this.#pieces.set(start, [...(this.#pieces.get(start) ?? []), piece]);
    }
    this.count = pieces.size;
  }

  /** How many of the pieces are in the bytes given. */
  foundIn(all: readonly Buffer[]): number {
    const found = new Set<Buffer>();
    for (const bytes of all) {
      for (let at = 0; at + PIECE <= bytes.length; at++) {
        for (const piece of this.#pieces.get(bytes.readUInt32BE(at)) ?? [])
          if (bytes.compare(piece, 0, PIECE, at, at + PIECE) === 0) found.add(piece);
      }
    }
    return found.size;
  }
}
