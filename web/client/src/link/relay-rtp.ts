/**
 * One link to a relay by RTP: a peer connection that we always offer and the relay answers. What it carries is sealed in
 * the worker by the transforms of its senders, and leaves the browser's RTP again in those of its receivers; this class
 * makes senders, receivers and descriptions, and sees no frame.
 *
 * One exchange of descriptions at a time; what changes meanwhile is in the next one. No candidates are exchanged: the
 * relay's are in its answer, and ours it learns from our checks. There is nobody to trust at the other end, so nothing is
 * signed; the media keys are not the connection's.
 */
import type { TransformOptions, VideoEncoding } from "../worker/messages.ts";
import { iceUfrag, splitAnswer } from "./sdp.ts";
import { FIRST_SLOTS, Slots } from "./slots.ts";

/** Names of layers, lowest first: the relay knows them by these. */
const RIDS = ["l", "h"] as const;
/** The microphone's. Copies of packets are added behind the encoder. */
const AUDIO_BPS = 32_000;

/** What one of our own streams sends to the relay. */
export interface Outgoing {
  audio: MediaStreamTrack | null;
  video: MediaStreamTrack | null;
  /** Of the video, lowest first; `bps` 0: not sent at present. */
  layers: readonly VideoEncoding[];
}

export type RtpNews = "up" | "lost";

export interface RtpHost {
  /** To the relay, through the server. */
  offer(sdp: string): void;
  /** A transform in the media worker. */
  transform(options: TransformOptions): RTCRtpScriptTransform;
  news(news: RtpNews): void;
}

interface Senders {
  audio: RTCRtpTransceiver;
  video: RTCRtpTransceiver;
  wanted: Outgoing;
  /** Changes of the senders, one after another. */
  work: Promise<void>;
}

const NOTHING: Outgoing = { audio: null, video: null, layers: [] };

/** Whether this browser has what such a link needs. */
export const hasRtp = (): boolean =>
  typeof RTCPeerConnection === "function" && typeof RTCRtpScriptTransform === "function";

export class RelayRtp {
  readonly peer: number;
  readonly token: string;
  /** To be transferred to the worker at once. */
  readonly control: RTCDataChannel;
  readonly #host: RtpHost;
  readonly #connection = new RTCPeerConnection();
  readonly #slots = new Slots();
  readonly #streams = new Map<number, Senders>();
  #state: "new" | "up" | "over" = "new";
  #offering = false;
  #again = false;

  /** `streams`: our streams that may be sent from the start; others cost another exchange. */
  constructor(peer: number, token: string, streams: readonly number[], host: RtpHost) {
    this.peer = peer;
    this.token = token;
    this.#host = host;
    const connection = this.#connection;
    this.control = connection.createDataChannel("control", { ordered: true, negotiated: true, id: 0 });
    connection.onconnectionstatechange = () => this.#changed(connection.connectionState);
    for (const stream of streams) this.#senders(stream);
    this.#receive(this.#slots.grow(FIRST_SLOTS));
    this.#offer();
  }

  get up(): boolean {
    return this.#state === "up";
  }

  /** The relay's answer. One that names another offer than the present one is for an earlier link. */
  answer(told: string): void {
    const { offerUfrag, sdp } = splitAnswer(told);
    const ours = iceUfrag(this.#connection.localDescription?.sdp ?? "");
    if (!this.#offering || (offerUfrag !== null && offerUfrag !== ours)) return;
    this.#connection.setRemoteDescription({ type: "answer", sdp }).then(
      () => {
        this.#offering = false;
        for (const senders of this.#streams.values()) this.#apply(senders);
        if (this.#again) this.#offer();
      },
      (error) => this.#broken(error),
    );
  }

  /** The connection to the server is back: an offer, or its answer, may have been lost with the former one. */
  renew(): void {
    const { localDescription } = this.#connection;
    if (this.#offering && localDescription) this.#host.offer(localDescription.sdp);
  }

  /** The relay wants so many pairs of receivers in all. */
  slots(pairs: number): void {
    const more = this.#slots.grow(pairs);
    if (more === 0) return;
    this.#receive(more);
    this.#offer();
  }

  /** What a stream sends from now on; null: nothing. */
  send(stream: number, outgoing: Outgoing | null): void {
    const isNew = !this.#streams.has(stream);
    if (isNew && outgoing === null) return;
    const senders = this.#senders(stream);
    if (isNew) this.#offer();
    senders.wanted = outgoing ?? NOTHING;
    this.#apply(senders);
  }

  /** All layers of a stream begin anew. */
  keyFrame(stream: number): void {
    const senders = this.#streams.get(stream);
    if (!senders) return;
    senders.work = senders.work.then(async () => {
      const { sender } = senders.video;
      const parameters = sender.getParameters();
      const options = { encodingOptions: parameters.encodings.map(() => ({ keyFrame: true })) };
      // Whoever cannot does it in the transform.
      await setParameters(sender, parameters, options).catch(() => {});
    });
  }

  /** Idempotent; tells nobody. */
  close(): void {
    this.#state = "over";
    this.#connection.onconnectionstatechange = null;
    this.#connection.close();
  }

  #changed(state: RTCPeerConnectionState): void {
    if (state === "connected" && this.#state === "new") {
      this.#state = "up";
      this.#host.news("up");
    } else if (state === "failed") this.#end();
  }

  #end(): void {
    if (this.#state === "over") return;
    this.close();
    this.#host.news("lost");
  }

  #broken(error: unknown): void {
    if (this.#state === "over") return;
    console.warn("grove: the link to the relay", error);
    this.#end();
  }

  #offer(): void {
    if (this.#offering) {
      this.#again = true;
      return;
    }
    this.#offering = true;
    this.#again = false;
    const connection = this.#connection;
    connection
      .setLocalDescription()
      .then(() => {
        if (this.#state !== "over") this.#host.offer(connection.localDescription?.sdp ?? "");
      })
      .catch((error) => this.#broken(error));
  }

  #receive(pairs: number): void {
    for (let pair = 0; pair < pairs; pair++) {
      for (const kind of ["audio", "video"] as const) {
        const { receiver } = this.#connection.addTransceiver(kind, { direction: "recvonly" });
        receiver.transform = this.#host.transform({ way: "receive", peer: this.peer, token: this.token });
      }
    }
  }

  #senders(stream: number): Senders {
    const known = this.#streams.get(stream);
    if (known) return known;
    const audio = this.#connection.addTransceiver("audio", { direction: "sendonly" });
    const video = this.#connection.addTransceiver("video", {
      direction: "sendonly",
      sendEncodings: RIDS.map((rid) => ({ rid, active: false })),
    });
    const kinds = ["audio", "video"] as const;
    for (const [at, { sender }] of [audio, video].entries()) {
      const kind = kinds[at] as (typeof kinds)[number];
      sender.transform = this.#host.transform({ way: "send", peer: this.peer, token: this.token, stream, kind });
    }
    preferVp8(video);
    const made = { audio, video, wanted: NOTHING, work: Promise.resolve() };
    this.#streams.set(stream, made);
    return made;
  }

  #apply(senders: Senders): void {
    senders.work = senders.work.then(() => this.#bringAbout(senders)).catch((error) => this.#broken(error));
  }

  async #bringAbout({
    audio: { sender: audio, currentDirection },
    video: transceiver,
    wanted,
  }: Senders): Promise<void> {
    // A track that is there before the descriptions are would be sent past the transform by Chromium, and so in clear.
    if (this.#state === "over" || currentDirection !== "sendonly" || transceiver.currentDirection !== "sendonly")
      return;
    const video = transceiver.sender;
    if (audio.track !== wanted.audio) {
      await audio.replaceTrack(wanted.audio);
      const parameters = audio.getParameters();
      for (const encoding of parameters.encodings) encoding.maxBitrate = AUDIO_BPS;
      await setParameters(audio, parameters);
    }
    const parameters = video.getParameters();
    const source = wanted.video?.getSettings() ?? {};
    // Where a camera does not tell its size, the uppermost layer is taken for it.
    const top = wanted.layers.at(-1);
    const side = Math.max(source.width ?? top?.width ?? 0, source.height ?? top?.height ?? 0);
    for (const [at, encoding] of parameters.encodings.entries()) {
      const layer = wanted.video === null ? undefined : wanted.layers[at];
      encoding.active = layer !== undefined && layer.bps > 0;
      if (!layer || !encoding.active) continue;
      encoding.maxBitrate = layer.bps;
      encoding.maxFramerate = layer.fps;
      encoding.scaleResolutionDownBy = Math.max(1, side / Math.max(layer.width, layer.height));
    }
    // A sender that is told of its layers first does not begin with the wrong ones.
    await setParameters(video, parameters);
    if (video.track !== wanted.video) await video.replaceTrack(wanted.video);
  }
}

/** `options` is in the standard (WebRTC extensions), and not in every type library. */
function setParameters(
  sender: RTCRtpSender,
  parameters: RTCRtpSendParameters,
  options: { encodingOptions?: { keyFrame: boolean }[] } = {},
): Promise<void> {
  const set = sender.setParameters as (p: RTCRtpSendParameters, o: typeof options) => Promise<void>;
  return set.call(sender, parameters, options);
}

/** The sealed header imitates VP8; the relay answers nothing else. Firefox refuses the call on a sender. */
function preferVp8(video: RTCRtpTransceiver): void {
  const codecs = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
  const wanted = codecs.filter(({ mimeType }) => /\/(vp8|rtx)$/i.test(mimeType));
  try {
    video.setCodecPreferences(wanted);
  } catch {
    // The answer decides.
  }
}
