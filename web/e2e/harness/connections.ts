/** The peer connections of a page, as the browser's own statistics show them. */
import type { Page } from "puppeteer-core";
import { within } from "./wait.ts";

interface Scope {
  groveConnections: RTCPeerConnection[];
  /** The states of all of them in the order in which they came to them; `new`: one was made. */
  groveStates: RTCPeerConnectionState[];
  /** Ends the watch for standstills: the longest, ms. */
  groveStandstill: () => number;
}

/** For `OpenOptions.before`: keeps hold of every peer connection that the page makes. */
export function watchConnections(): void {
  const scope = globalThis as unknown as Scope & { RTCPeerConnection: typeof RTCPeerConnection };
  scope.groveConnections = [];
  scope.groveStates = [];
  scope.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration?: RTCConfiguration) {
      super(configuration);
      scope.groveConnections.push(this);
      scope.groveStates.push("new");
      this.addEventListener("connectionstatechange", () => scope.groveStates.push(this.connectionState));
    }
  };
}

/**
 * The states of the page's connections since it loaded, in the order in which they came to them: `new` stands for each that
 * was made. One that the page closes comes to none.
 */
export const connectionStates = (page: Page): Promise<RTCPeerConnectionState[]> =>
  within(
    10_000,
    "the page tells the states of its connections",
    page.evaluate(() => (globalThis as unknown as Scope).groveStates),
  );

/** Watches from now on for how long no picture comes by RTP, in steps of 50 ms. */
export async function watchStandstill(page: Page): Promise<void> {
  const watch = (): void => {
    const scope = globalThis as unknown as Scope;
    let [most, last, lastAt] = [0, -1, performance.now()];
    const look = async (): Promise<void> => {
      let came = 0;
      for (const connection of scope.groveConnections) {
        if (connection.connectionState === "closed") continue;
        for (const one of (await connection.getStats()).values())
          if (one.type === "inbound-rtp" && one.kind === "video") came += one.packetsReceived;
      }
      if (came === last) return;
      const now = performance.now();
      most = Math.max(most, now - lastAt);
      [last, lastAt] = [came, now];
    };
    const timer = setInterval(() => void look(), 50);
    scope.groveStandstill = () => {
      clearInterval(timer);
      return Math.max(most, performance.now() - lastAt);
    };
  };
  await within(10_000, "the page watches for standstills", page.evaluate(watch));
}

/** The longest standstill of pictures since {@link watchStandstill}, ms; the watch ends. */
export const longestStandstill = (page: Page): Promise<number> =>
  within(
    10_000,
    "the page tells its longest standstill",
    page.evaluate(() => (globalThis as unknown as Scope).groveStandstill()),
  );

/** How many the page has made since it loaded. */
export const connectionsMade = (page: Page): Promise<number> =>
  within(
    10_000,
    "the page counts its connections",
    page.evaluate(() => (globalThis as unknown as Scope).groveConnections.length),
  );

/** One RTP stream that leaves a page, or sums of those that come. */
export interface RtpOut {
  kind: "audio" | "video";
  /** Of simulcast layers. */
  rid: string | null;
  ssrc: number;
  packets: number;
  /** Of pictures: frames encoded, whether or not they left. */
  encoded: number;
}

/** What the open connections of the page send and receive by RTP. */
export async function rtpOf(page: Page): Promise<{ out: RtpOut[]; came: { audio: number; video: number } }> {
  const read = async (): Promise<Awaited<ReturnType<typeof rtpOf>>> => {
    const out: RtpOut[] = [];
    const came = { audio: 0, video: 0 };
    for (const connection of (globalThis as unknown as Scope).groveConnections) {
      if (connection.connectionState === "closed") continue;
      for (const one of (await connection.getStats()).values()) {
        const kind = one.kind as "audio" | "video";
        if (one.type === "inbound-rtp") came[kind] += one.packetsReceived;
        if (one.type !== "outbound-rtp") continue;
        const { rid = null, ssrc, packetsSent: packets, framesEncoded: encoded = 0 } = one;
        out.push({ kind, rid, ssrc, packets, encoded });
      }
    }
    return { out, came };
  };
  return within(10_000, "the page tells of its RTP", page.evaluate(read));
}

/** Sums over RTP streams of one kind. */
export const sum = (of: readonly RtpOut[], kind: RtpOut["kind"], what: "packets" | "encoded"): number =>
  of.filter((one) => one.kind === kind).reduce((total, one) => total + one[what], 0);

/** RTP frames among UDP packets: distinct times of each source. SRTP leaves the header readable (RFC 3711). */
export function rtpFrames(packets: readonly Buffer[], ssrcs: readonly number[]): Map<number, Set<number>> {
  const frames = new Map(ssrcs.map((ssrc) => [ssrc, new Set<number>()]));
  for (const bytes of packets) {
    // RFC 7983 and RFC 5761: media has 128 to 191 in front, and RTCP 192 to 223 behind it.
    const [first = 0, second = 0] = bytes;
    if (bytes.length < 12 || first >>> 6 !== 2 || (second >= 192 && second <= 223)) continue;
    frames.get(bytes.readUInt32BE(8))?.add(bytes.readUInt32BE(4));
  }
  return frames;
}

/**
 * For `OpenOptions.prepare`: a page that waits half a minute for a link by RTP before it takes a socket instead. Where
 * handshakes take seconds because the machine is busy, that is no sign of a network without UDP.
 */
export async function patient(page: Page): Promise<void> {
  await page.evaluateOnNewDocument(() => {
    const wait = globalThis.setTimeout;
    globalThis.setTimeout = ((run: () => void, ms?: number) =>
      wait(run, ms === 3_000 || ms === 5_000 ? 30_000 : ms)) as typeof globalThis.setTimeout;
  });
}
