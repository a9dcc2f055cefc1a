import { describe, expect, test } from "vitest";
import { Net, Source } from "./simulation.ts";
import { streamKey } from "./types.ts";

const CAMERA = { node: 1, stream: 0 };
const KEY = streamKey(1, 0);

function chain(net: Net, length: number): void {
  for (let n = 1; n < length; n += 1) net.link(n, n + 1);
  for (let n = 1; n < length; n += 1) net.edge(CAMERA, n, n + 1);
}

describe("a chain of five nodes", () => {
  test("delivers the very bytes in the order in which they were made", () => {
    const net = new Net(1);
    for (let n = 1; n <= 5; n += 1) net.node(n).transport.setTrace(true);
    chain(net, 5);
    const source = new Source(net, 1);
    net.run(4000);
    source.stopped = true;
    net.run(500);

    const sent = new Map(
      net
        .node(1)
        .transport.records()
        .map((r) => [`${r.track}.${r.number}`, r]),
    );
    for (const hop of [2, 3, 4, 5]) {
      const got = net.node(hop).transport.records();
      expect(got.length).toBeGreaterThan(300);
      for (const r of got) {
        const original = sent.get(`${r.track}.${r.number}`);
        expect(r.hash).toBe(original?.hash);
        expect(r.from).toBe(hop - 1);
        expect(r.sent).toEqual(hop < 5 ? [{ to: hop + 1, hash: original?.hash }] : []);
      }
      const decoded = net.node(hop).media.numbers(KEY, 0);
      expect(decoded).toEqual(Array.from({ length: source.numbers[0] ?? 0 }, (_, i) => i).slice(-decoded.length));
      expect(decoded.length).toBeGreaterThan(115);
      const audio = net.node(hop).media.audio.get(KEY) ?? [];
      expect(audio).toEqual([...audio].sort((a, b) => a - b));
    }
    expect(net.node(5).posted.filter((m) => m.type === "ready")).toEqual([
      { type: "ready", stream: CAMERA, parent: 4 },
    ]);
  });
});
