/**
 * The worker's end of an RTP link: frames between the browser's RTP and us, one loop per sender and receiver.
 *
 * A receiver's frames go to the router and are never handed back: RTP is transport only, and the player is the same for
 * every kind of link (docs/design/client.md, The RTP link). A sender's frames are sealed, and the sealed bytes take their
 * place. What is not sealed is not handed back either, so nothing leaves in clear.
 */
import type { RtpFrame } from "../media/own.ts";
import type { TransformOptions } from "./messages.ts";

/** The part of RTCRtpScriptTransformer that is used; `generateKeyFrame` is not in every browser. */
interface Transformer {
  readonly readable: ReadableStream<Frame>;
  readonly writable: WritableStream<Frame>;
  readonly options: TransformOptions;
  generateKeyFrame?(): Promise<unknown>;
}

type Frame = { data: ArrayBuffer } & RtpFrame;

export interface TransformsHost {
  arrived(peer: number, token: string, sealed: ArrayBuffer): void;
  /** The sealed bytes for this frame; null: it goes nowhere. */
  encoded(
    stream: number,
    kind: "audio" | "video",
    frame: RtpFrame,
    peer: number,
  ): Promise<Uint8Array<ArrayBuffer> | null>;
  /** Asks the page for key frames of a stream. */
  askPage(stream: number): void;
  fault(error: unknown): void;
}

export class Transforms {
  readonly #host: TransformsHost;
  /** The latest sender of each stream's pictures. */
  readonly #senders = new Map<number, Transformer>();

  constructor(host: TransformsHost) {
    this.#host = host;
  }

  run(transformer: Transformer): void {
    const { options } = transformer;
    if (options.way === "send" && options.kind === "video") this.#senders.set(options.stream, transformer);
    const loop = options.way === "receive" ? this.#receive(transformer) : this.#send(transformer);
    // A connection that is closed ends its streams by an error.
    loop.catch(() => {});
  }

  /** All layers of a stream anew. */
  keyFrame(stream: number): void {
    const sender = this.#senders.get(stream);
    if (sender?.generateKeyFrame === undefined) this.#host.askPage(stream);
    else sender.generateKeyFrame().catch(() => this.#host.askPage(stream));
  }

  async #receive({ readable, options }: Transformer): Promise<void> {
    const reader = readable.getReader();
    for (;;) {
      const { value: frame, done } = await reader.read();
      if (done) return;
      this.#host.arrived(options.peer, options.token, frame.data);
    }
  }

  async #send({ readable, writable, options }: Transformer): Promise<void> {
    if (options.way !== "send") return;
    const reader = readable.getReader();
    const writer = writable.getWriter();
    for (;;) {
      const { value: frame, done } = await reader.read();
      if (done) return;
      let sealed: Uint8Array<ArrayBuffer> | null = null;
      try {
        sealed = await this.#host.encoded(options.stream, options.kind, frame, options.peer);
      } catch (error) {
        this.#host.fault(error);
      }
      if (sealed === null) continue;
      // Of their own: the ring and the other children keep what was published.
      frame.data = sealed.slice().buffer;
      await writer.write(frame);
    }
  }
}
