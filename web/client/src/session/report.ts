/** From the worker's measurements to the server's report: whole numbers where the protocol has integers. Pure. */
import type { Report } from "../signal/messages.ts";
import type { WorkerStats } from "../worker/messages.ts";
import type { Willingness } from "./willing.ts";

const MOST_U32 = 0xffff_ffff;
const whole = (value: number): number =>
  Number.isFinite(value) ? Math.min(MOST_U32, Math.max(0, Math.round(value))) : 0;
const finite = (value: number): number => (Number.isFinite(value) ? value : 0);

/** `stats` are the last ones, if there are any yet. */
export function reportOf(stats: Pick<WorkerStats, "links" | "incoming">, uplinkBps: number, will: Willingness): Report {
  return {
    uplink_bps: whole(uplinkBps),
    ...will,
    links: stats.links.map(({ peer, rttMs, sentBps, loss }) => ({
      peer,
      rtt_ms: finite(rttMs),
      sent_bps: whole(sentBps),
      loss: Math.min(1, Math.max(0, finite(loss))),
    })),
    edges: stats.incoming.flatMap(({ stream, parent, bps, delayMs, layer }) =>
      parent === null ? [] : [{ stream, parent, bps: whole(bps), delay_ms: finite(delayMs), layer }],
    ),
  };
}
