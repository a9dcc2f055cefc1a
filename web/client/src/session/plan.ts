/**
 * What the server has ordered this node to do: links, edges to children and parents. Pure: an order list goes in, and
 * out come the steps for links and worker, so that a restatement (`reset`) undoes exactly what is no longer in force.
 */
import type { EdgeReason, Order, Orders, RelayLink, StreamRef } from "../signal/messages.ts";
import type { ToWorker } from "../worker/messages.ts";

/** An edge to a child, and what it may take, bit/s. */
export interface Feed {
  stream: StreamRef;
  child: number;
  rateBps: number;
}

export interface Plan {
  epoch: number;
  /** Peer to whether we offer. */
  links: ReadonlyMap<number, boolean>;
  /** Edges to children, by `node/stream>child`. */
  feeds: ReadonlyMap<string, Feed>;
  /** By `node/stream`. */
  parents: ReadonlyMap<string, { stream: StreamRef; parent: number | null; reason: EdgeReason }>;
}

export const emptyPlan: Plan = { epoch: 0, links: new Map(), feeds: new Map(), parents: new Map() };

/** One thing to do. A `link` that exists already is kept by whoever owns links, unless it has failed. */
export type Step =
  | { do: "link"; peer: number; offer: boolean; relay?: RelayLink }
  | { do: "unlink"; peer: number }
  | { do: "worker"; message: ToWorker };

export const streamId = (stream: StreamRef): string => `${stream.node}/${stream.stream}`;
const feedId = (stream: StreamRef, child: number): string => `${streamId(stream)}>${child}`;

/** Applies orders, in order; a restatement first undoes what it does not name. */
export function applyOrders(before: Plan, orders: Orders): { plan: Plan; steps: Step[] } {
  const plan = {
    epoch: orders.epoch,
    links: new Map(orders.reset ? [] : before.links),
    feeds: new Map(orders.reset ? [] : before.feeds),
    parents: new Map(orders.reset ? [] : before.parents),
  };
  const steps: Step[] = [];
  for (const order of orders.changes) steps.push(...apply(plan, order));
  return { plan, steps: orders.reset ? [...leftovers(before, plan), ...steps] : steps };
}

function apply(
  plan: { links: Map<number, boolean>; feeds: Map<string, unknown>; parents: Map<string, unknown> },
  order: Order,
): Step[] {
  switch (order.order) {
    case "link":
      plan.links.set(order.peer, order.offer);
      return [
        {
          do: "link",
          peer: order.peer,
          offer: order.offer,
          ...(order.relay === undefined ? {} : { relay: order.relay }),
        },
      ];
    case "unlink":
      plan.links.delete(order.peer);
      return [{ do: "unlink", peer: order.peer }];
    case "feed": {
      const { stream, child, layers, rate_bps } = order;
      plan.feeds.set(feedId(stream, child), { stream, child, rateBps: rate_bps });
      return [{ do: "worker", message: { type: "feed", stream, child, layers, rateBps: rate_bps } }];
    }
    case "release": {
      const { stream, child } = order;
      plan.feeds.delete(feedId(stream, child));
      return [{ do: "worker", message: { type: "release", stream, child } }];
    }
    case "parent": {
      const { stream, parent, layers, reason } = order;
      plan.parents.set(streamId(stream), { stream, parent, reason });
      return [{ do: "worker", message: { type: "parent", stream, parent, layers } }];
    }
  }
}

/** What was in force and is not restated. Edges go before the links that carry them. */
function leftovers(before: Plan, now: Plan): Step[] {
  const steps: Step[] = [];
  for (const [id, { stream, child }] of before.feeds) {
    if (!now.feeds.has(id)) steps.push({ do: "worker", message: { type: "release", stream, child } });
  }
  for (const [id, { stream, parent }] of before.parents) {
    if (parent !== null && !now.parents.has(id)) {
      steps.push({ do: "worker", message: { type: "parent", stream, parent: null, layers: [] } });
    }
  }
  for (const peer of before.links.keys()) if (!now.links.has(peer)) steps.push({ do: "unlink", peer });
  return steps;
}

/** A stream ended: its edges are gone with it. */
export function forgetStream(before: Plan, stream: StreamRef): Plan {
  const id = streamId(stream);
  return {
    ...before,
    feeds: new Map([...before.feeds].filter(([, feed]) => streamId(feed.stream) !== id)),
    parents: new Map([...before.parents].filter(([key]) => key !== id)),
  };
}
