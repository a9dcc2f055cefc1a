import { expect, test } from "vitest";
import type { IncomingStats, WorkerStats } from "../worker/messages.ts";
import { reportOf } from "./report.ts";

const stream = { node: 2, stream: 0 };
const stats: WorkerStats = {
  atMs: 0,
  links: [
    { peer: 2, rttMs: 12.5, sentBps: 1_000.7, receivedBps: 0, loss: 1.5, queuedBytes: 0 },
    { peer: 3, rttMs: Number.NaN, sentBps: -4, receivedBps: 0, loss: Number.NaN, queuedBytes: 0 },
  ],
  incoming: [
    { stream, parent: 3, bps: 99.5, delayMs: Number.POSITIVE_INFINITY, layer: null } as IncomingStats,
    { stream: { node: 4, stream: 0 }, parent: null, bps: 5, delayMs: 1, layer: 0 } as IncomingStats,
  ],
  outgoing: [],
  senders: [],
  counters: {
    malformed: 0,
    stray: 0,
    looped: 0,
    foreign: 0,
    oversized: 0,
    misplaced: 0,
    junk: 0,
    unknown: 0,
    flooded: 0,
    failed: 0,
  },
  own: [],
};

test("what the protocol wants whole is whole, what must be finite is finite, and an edge without parent is none", () => {
  expect(reportOf(stats, 500_000.4, { hidden: true, passes_on: false })).toEqual({
    uplink_bps: 500_000,
    hidden: true,
    passes_on: false,
    links: [
      { peer: 2, rtt_ms: 12.5, sent_bps: 1_001, loss: 1 },
      { peer: 3, rtt_ms: 0, sent_bps: 0, loss: 0 },
    ],
    edges: [{ stream, parent: 3, bps: 100, delay_ms: 0, layer: null }],
  });
});
