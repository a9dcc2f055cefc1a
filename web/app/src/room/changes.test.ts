import type { EdgeReason, Tree } from "@grove/client/signal/messages";
import { expect, test } from "vitest";
import { withChanges } from "./changes.ts";

const edge = (parent: number, child: number, reason: EdgeReason = "joined") => ({
  ...{ parent, child, reason, level: 1, layer: 0, live: true, bps: 1, delay_ms: 1, rtt_ms: 1, loss: 0 },
});
const tree = (...edges: Tree["edges"]): Tree => ({ stream: { node: 1, stream: 0 }, edges, unserved: [] });
const chain = tree(edge(1, 2), edge(2, 3), edge(2, 4), edge(1, 5));

test("a tree's first picture is no change, and neither is a picture in which only measurements differ", () => {
  expect(withChanges(new Map(), [], [chain], 7).size).toBe(0);
  const measured = tree(...chain.edges.map((one) => ({ ...one, bps: 99 })));
  expect(withChanges(new Map(), [chain], [measured], 7).size).toBe(0);
});

test("whoever got the same parent for the same reason is one change, and the largest is told", () => {
  const after = tree(edge(1, 3, "parent_lost"), edge(1, 4, "parent_lost"), edge(3, 5, "capacity"));
  expect(withChanges(new Map(), [chain], [after], 7).get("1-0")).toEqual({
    parent: 1,
    children: [3, 4],
    reason: "parent_lost",
    more: 1,
    atMs: 7,
  });
});

test("a change is remembered until the next one, and forgotten with its tree", () => {
  const after = tree(edge(1, 2), edge(1, 3, "layers"), edge(2, 4), edge(1, 5));
  const first = withChanges(new Map(), [chain], [after], 7);
  expect(withChanges(first, [after], [after], 8).get("1-0")?.atMs).toBe(7);
  expect(withChanges(first, [after], [chain], 9).get("1-0")).toMatchObject({ parent: 2, children: [3], atMs: 9 });
  expect(withChanges(first, [after], [], 8).size).toBe(0);
});
