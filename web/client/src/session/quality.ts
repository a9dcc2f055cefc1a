/**
 * How well somebody arrives, in words. The thresholds are Jitsi's: good from half the bit rate aimed at or below 6 %
 * loss, fair from 30 % or below 8 %, else poor; lost when nothing came for 3 s. A still picture needs few bits, so
 * either of the two measures is enough.
 */
import type { Quality } from "../api.ts";
import type { IncomingStats } from "../worker/messages.ts";

/** No media for this long is a lost stream. */
export const LOST_MS = 3_000;

/** What came of one stream in a window of a few seconds. */
export interface Arrival {
  /** Share of the bit rate aimed at, 0..; null when nothing is aimed at. */
  rate: number | null;
  /** Share of video frames or of sound packets that never came, 0..1, the worse of the two. */
  loss: number;
}

/** Compares two looks at the totals of one stream. */
export function arrival(before: IncomingStats, now: IncomingStats, targetBps: number): Arrival {
  const share = (lost: number, came: number) => (lost > 0 ? lost / (lost + Math.max(came, 0)) : 0);
  const video = share(now.framesLost - before.framesLost, now.framesReceived - before.framesReceived);
  const audio = share(now.audioConcealed - before.audioConcealed, now.audioPackets - before.audioPackets);
  return { rate: targetBps > 0 ? now.bps / targetBps : null, loss: Math.max(video, audio) };
}

export function levelOf({ rate, loss }: Arrival): "good" | "fair" | "poor" {
  if (loss < 0.06 || (rate !== null && rate >= 0.5)) return "good";
  if (loss < 0.08 || (rate !== null && rate >= 0.3)) return "fair";
  return "poor";
}

export type Level = Quality["level"];

/** Whom a person's quality is told about, and what may be the cause. */
export interface Circumstances {
  name: string;
  level: Level;
  /** 0..1. */
  loss: number;
  /** Everybody arrives badly: the cause is most likely at this end. */
  everybody: boolean;
  /** Who passes the stream on, when it is not its sender. */
  through: string | null;
}

/** One sentence or two: what happens, the likely cause, and what would help. */
export function qualityWords({ name, level, loss, everybody, through }: Circumstances): string {
  const percent = `${Math.max(1, Math.round(loss * 100))} %`;
  switch (level) {
    case "unknown":
      return `Nothing has been measured for ${name} yet.`;
    case "good":
      return `${name} arrives well.`;
    case "lost":
      return everybody
        ? "Nothing arrives from anybody. Your network seems to be away; everything comes back by itself when it is."
        : `Nothing arrives from ${name} at present. Another way to ${name} is being looked for.`;
    default: {
      const what = `${percent} of what ${name} sends does not arrive`;
      if (everybody) return `${what}, and it is the same for others: the cause seems to be your own network.`;
      const way = through === null ? "" : ` on the way through ${through}`;
      return level === "fair"
        ? `${what}${way}. Small gaps are possible.`
        : `${what}${way}. ${name}'s picture may freeze; turning off the camera there would help.`;
    }
  }
}
