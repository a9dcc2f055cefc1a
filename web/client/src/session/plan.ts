/**
 * What the server has ordered this node to do: links, edges to children and parents, and who stands by for whom. Pure: an order list goes in, and
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
  /** Edges to children that stand by, likewise; none is also in `feeds`. */
  standBys: ReadonlyMap<string, Feed>;
  /** By `node/stream`. */
  parents: ReadonlyMap<string, { stream: StreamRef; parent: number | null; reason: EdgeReason }>;
  /** Who takes a parent's place should it fall silent, by `node/stream`. */
  backups: ReadonlyMap<string, { stream: StreamRef; parent: number }>;
}

export const emptyPlan: Plan = {
  epoch: 0,
  links: new Map(),
  feeds: new Map(),
  standBys: new Map(),
  parents: new Map(),
  backups: new Map(),
};

/** One thing to do. A `link` that exists already is kept by whoever owns links, unless it has failed. */
export type Step =
  | { do: "link"; peer: number; offer: boolean; relay?: RelayLink }
  | { do: "unlink"; peer: number }
  | { do: "worker"; message: ToWorker };

export const streamId = (stream: StreamRef): string => `${stream.node}/${stream.stream}`;
const feedId = (stream: StreamRef, child: number): string => `${streamId(stream)}>${child}`;

/** Applies orders, in order; a restatement first undoes what it does not name. */
export function applyOrders(before: Plan, orders: Orders): { plan: Plan; steps: Step[] } {
  const kept = orders.reset ? emptyPlan : before;
  const plan = {
    epoch: orders.epoch,
    links: new Map(kept.links),
    feeds: new Map(kept.feeds),
    standBys: new Map(kept.standBys),
    parents: new Map(kept.parents),
    backups: new Map(kept.backups),
  };
  const steps: Step[] = [];
  for (const order of orders.changes) steps.push(...apply(plan, order));
  return { plan, steps: orders.reset ? [...leftovers(before, plan), ...steps] : steps };
}

interface Changing {
  links: Map<number, boolean>;
  feeds: Map<string, Feed>;
  standBys: Map<string, Feed>;
  parents: Map<string, unknown>;
  backups: Map<string, unknown>;
}

function apply(plan: Changing, order: Order): Step[] {
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
    case "feed":
    case "stand_by": {
      const { stream, child, layers, rate_bps: rateBps } = order;
      const id = feedId(stream, child);
      plan.feeds.delete(id);
      plan.standBys.delete(id);
      (order.order === "feed" ? plan.feeds : plan.standBys).set(id, { stream, child, rateBps });
      return [{ do: "worker", message: { type: order.order, stream, child, layers, rateBps } }];
    }
    case "release": {
      const { stream, child } = order;
      plan.feeds.delete(feedId(stream, child));
      plan.standBys.delete(feedId(stream, child));
      return [{ do: "worker", message: { type: "release", stream, child } }];
    }
    case "parent": {
      const { stream, parent, layers, reason } = order;
      plan.parents.set(streamId(stream), { stream, parent, reason });
      return [{ do: "worker", message: { type: "parent", stream, parent, layers } }];
    }
    case "backup": {
      const { stream, parent } = order;
      if (parent === null) plan.backups.delete(streamId(stream));
      else plan.backups.set(streamId(stream), { stream, parent });
      return [{ do: "worker", message: { type: "backup", stream, parent } }];
    }
  }
}

/** What was in force and is not restated. Edges go before the links that carry them. */
function leftovers(before: Plan, now: Plan): Step[] {
  const steps: Step[] = [];
  for (const [id, { stream, child }] of [...before.feeds, ...before.standBys]) {
    if (now.feeds.has(id) || now.standBys.has(id)) continue;
    steps.push({ do: "worker", message: { type: "release", stream, child } });
  }
  for (const [id, { stream }] of before.backups) {
    if (!now.backups.has(id)) steps.push({ do: "worker", message: { type: "backup", stream, parent: null } });
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
    standBys: new Map([...before.standBys].filter(([, feed]) => streamId(feed.stream) !== id)),
    parents: new Map([...before.parents].filter(([key]) => key !== id)),
    backups: new Map([...before.backups].filter(([key]) => key !== id)),
  };
}
