import { expect, test } from "vitest";
import type { Order, Orders } from "../signal/messages.ts";
import { applyOrders, emptyPlan, forgetStream, type Plan } from "./plan.ts";

const stream = { node: 7, stream: 0 };
const link = (peer: number): Order => ({ order: "link", peer, offer: true });
const feed = (child: number): Order => ({ order: "feed", stream, child, layers: [0, 1], rate_bps: 900_000 });
const parent = (from: number | null): Order => ({
  order: "parent",
  stream,
  parent: from,
  layers: [0],
  reason: "joined",
});
const orders = (changes: Order[], reset = false): Orders => ({ epoch: 1, reset, changes });
const after = (...changes: Order[]): Plan => applyOrders(emptyPlan, orders(changes)).plan;

test("orders become steps in the same order", () => {
  const { steps } = applyOrders(emptyPlan, orders([link(2), feed(2), parent(3)]));
  expect(steps).toEqual([
    { do: "link", peer: 2, offer: true },
    { do: "worker", message: { type: "feed", stream, child: 2, layers: [0, 1], rateBps: 900_000 } },
    { do: "worker", message: { type: "parent", stream, parent: 3, layers: [0] } },
  ]);
});

test("a link to a relay keeps what its order says of the relay", () => {
  const relay = { instance: "i", token: "t" };
  const { steps } = applyOrders(emptyPlan, orders([{ order: "link", peer: 65535, offer: true, relay }]));
  expect(steps).toEqual([{ do: "link", peer: 65535, offer: true, relay }]);
});

test("unlink and release take back what was ordered", () => {
  const { plan } = applyOrders(
    after(link(2), feed(2)),
    orders([
      { order: "release", stream, child: 2 },
      { order: "unlink", peer: 2 },
    ]),
  );
  expect([plan.links.size, plan.feeds.size]).toEqual([0, 0]);
});

test("a restatement undoes exactly what it does not name, edges before links", () => {
  const before = after(link(2), link(3), feed(2), feed(3), parent(3));
  const { plan, steps } = applyOrders(before, orders([link(3), feed(3)], true));
  expect(steps.slice(0, 3)).toEqual([
    { do: "worker", message: { type: "release", stream, child: 2 } },
    { do: "worker", message: { type: "parent", stream, parent: null, layers: [] } },
    { do: "unlink", peer: 2 },
  ]);
  expect(steps.slice(3).map((step) => step.do)).toEqual(["link", "worker"]);
  expect([...plan.links.keys()]).toEqual([3]);
  expect([plan.feeds.size, plan.parents.size]).toEqual([1, 0]);
});

test("restating everything undoes nothing", () => {
  const all = [link(2), feed(2), parent(2)];
  const { steps } = applyOrders(after(...all), orders(all, true));
  expect(steps).toEqual(applyOrders(emptyPlan, orders(all)).steps);
});

const standBy = (child: number): Order => ({ order: "stand_by", stream, child, layers: [0], rate_bps: 200_000 });
const backup = (from: number | null): Order => ({ order: "backup", stream, parent: from, layers: [0] });

test("an edge stands by or is fed, as the last order says, and either ends with its release", () => {
  const { plan, steps } = applyOrders(after(feed(2), standBy(3)), orders([standBy(2), feed(3)]));
  expect([[...plan.feeds.keys()], [...plan.standBys.keys()]]).toEqual([["7/0>3"], ["7/0>2"]]);
  expect(steps[0]).toEqual({
    do: "worker",
    message: { type: "stand_by", stream, child: 2, layers: [0], rateBps: 200_000 },
  });
  const release = (child: number): Order => ({ order: "release", stream, child });
  const { feeds, standBys } = applyOrders(plan, orders([release(2), release(3)])).plan;
  expect([feeds.size, standBys.size]).toEqual([0, 0]);
});

test("a restatement takes back backups that it does not name, and leaves an edge alone that it names in either form", () => {
  const before = after(standBy(2), standBy(3), feed(4), backup(5));
  const { plan, steps } = applyOrders(before, orders([feed(2), standBy(4)], true));
  expect(steps.map((step) => step.do === "worker" && step.message)).toEqual([
    { type: "release", stream, child: 3 },
    { type: "backup", stream, parent: null },
    { type: "feed", stream, child: 2, layers: [0, 1], rateBps: 900_000 },
    { type: "stand_by", stream, child: 4, layers: [0], rateBps: 200_000 },
  ]);
  expect(plan.backups.size).toBe(0);
  expect(applyOrders(after(backup(5)), orders([backup(5)], true)).steps).toHaveLength(1);
});

test("a stream that ended takes its edges along", () => {
  const plan = forgetStream(after(link(2), feed(2), standBy(4), parent(3), backup(4)), stream);
  expect([plan.links.size, plan.feeds.size, plan.standBys.size]).toEqual([1, 0, 0]);
  expect([plan.parents.size, plan.backups.size]).toEqual([0, 0]);
});
