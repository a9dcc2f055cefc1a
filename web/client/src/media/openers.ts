/**
 * Opening what others sealed: one `Opener` per sender, results in order of arrival within a track and layer, and frames
 * that came before their key kept for a moment.
 */
import type { Header } from "../frame/header.ts";
import { Opener } from "../frame/seal.ts";
import type { StreamKey } from "../transport/types.ts";
import type { SenderStats } from "../worker/messages.ts";

/** Frames kept per sender until their key comes: about 2 s of sound and one small layer. */
const MOST_KEPT = 200;
/** Frames in a row that do not open, over at least this time, are worth a word to the person. */
const UNDECODABLE_FRAMES = 10;
const UNDECODABLE_MS = 2_000;
/** ... which is not repeated sooner than this. */
const AGAIN_MS = 5_000;

export type Deliver = (stream: StreamKey, header: Header, payload: Uint8Array<ArrayBuffer>) => void;

interface Sealed {
  stream: StreamKey;
  header: Header;
  sealed: Uint8Array;
}

interface Sender {
  opener: Opener;
  /** Ends of the chains that keep order, by stream, track and layer. */
  lanes: Map<number, Promise<void>>;
  kept: Sealed[];
  failures: number;
  failingSinceMs: number;
  saidMs: number;
}

export class Openers {
  readonly #deliver: Deliver;
  readonly #nowMs: () => number;
  readonly #failed: (error: unknown) => void;
  readonly #senders = new Map<number, Sender>();

  /** `failed`: delivering threw, which it should not; the frames behind go on. */
  constructor(deliver: Deliver, failed: (error: unknown) => void, nowMs: () => number) {
    this.#deliver = deliver;
    this.#failed = failed;
    this.#nowMs = nowMs;
  }

  async key(node: number, generation: number, key: Uint8Array): Promise<void> {
    const sender = this.#sender(node);
    if (!(await sender.opener.addKey(generation, key))) return;
    for (const frame of sender.kept.splice(0)) this.#open(sender, frame);
  }

  forget(node: number): void {
    this.#senders.delete(node);
  }

  frame(stream: StreamKey, header: Header, sealed: Uint8Array): void {
    this.#open(this.#sender(header.sender), { stream, header, sealed });
  }

  stats(): SenderStats[] {
    return [...this.#senders].map(([node, { opener, kept }]) => ({
      node,
      opened: opener.counts.opened,
      refused: opener.counts.refused + Math.max(0, opener.counts.no_key - kept.length),
      replayed: opener.counts.replayed,
      malformed: opener.counts.malformed,
    }));
  }

  /** Senders of whom nothing opens, with the number of frames; each is named once in a while. */
  undecodable(): { node: number; frames: number }[] {
    const now = this.#nowMs();
    const out: { node: number; frames: number }[] = [];
    for (const [node, sender] of this.#senders) {
      const long = sender.failures >= UNDECODABLE_FRAMES && now - sender.failingSinceMs >= UNDECODABLE_MS;
      if (!long || now - sender.saidMs < AGAIN_MS) continue;
      sender.saidMs = now;
      out.push({ node, frames: sender.failures });
    }
    return out;
  }

  #sender(node: number): Sender {
    let sender = this.#senders.get(node);
    if (sender === undefined) {
      const saidMs = Number.NEGATIVE_INFINITY;
      sender = { opener: new Opener(node), lanes: new Map(), kept: [], failures: 0, failingSinceMs: 0, saidMs };
      this.#senders.set(node, sender);
    }
    return sender;
  }

  #open(sender: Sender, frame: Sealed): void {
    const { stream, header, sealed } = frame;
    const lane = (header.stream << 8) | (header.track << 4) | header.spatial;
    const opening = sender.opener.open(header, sealed, this.#nowMs());
    const before = sender.lanes.get(lane) ?? Promise.resolve();
    const settled = Promise.all([opening, before]).then(([result]) => {
      if (this.#senders.get(header.sender) !== sender) return;
      if (result.ok) {
        sender.failures = 0;
        this.#deliver(stream, header, result.payload);
        return;
      }
      if (result.why === "replayed") return;
      if (sender.failures === 0) sender.failingSinceMs = this.#nowMs();
      sender.failures += 1;
      if (result.why !== "no_key") return;
      // The key may have come while this frame was being tried.
      if (sender.opener.generations.includes(header.generation)) {
        this.#open(sender, frame);
        return;
      }
      sender.kept.push(frame);
      if (sender.kept.length > MOST_KEPT) sender.kept.shift();
    });
    sender.lanes.set(lane, settled.catch(this.#failed));
  }
}
