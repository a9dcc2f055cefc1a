/**
 * Who delivers a stream to this node: the parent by order, the former parent until the new one has begun, and the backup
 * while whoever should deliver is silent. Pure functions over a `Stream`; what is said to neighbours goes through `Ports`.
 *
 * Nothing here ends what comes from anybody by itself: more than one may deliver at a time, and the router drops what came
 * already. So a wrong guess about a silence costs some frames twice, and a right one no time.
 */
import type { Have } from "./control.ts";
import type { Neighbour } from "./router.ts";
import { GRACE_MS, type Parent, parentAt, type Stream } from "./stream.ts";

/** The link to a node, if there is one. */
export type Ports = (node: number) => Neighbour | undefined;

/** A backup that sends nothing is told again after so long, or two round trips: its order may have come after our word. */
const TAKE_AGAIN_MS = 300;

/** Who delivers at present; in the place of one who has fallen silent the backup, if it was told to begin. */
export function sourceOf(stream: Stream, ports: Ports): Parent | null {
  const due = dueFrom(stream, ports);
  return stream.standIn && !(due && alive(due, ports)) ? stream.standIn : due;
}

/**
 * The order names another parent, or nobody. Whoever delivers goes on until that one has begun. True: it has, because it is the
 * backup that took over already.
 */
export function appoint(stream: Stream, node: number | null, ports: Ports, now: number): boolean {
  const { standIn } = stream;
  stream.standIn = null;
  stream.previousUntil = Number.POSITIVE_INFINITY;
  if (standIn && standIn.node === node) {
    if (stream.parent?.ready) stream.previous = stream.parent;
    stream.parent = standIn;
    standIn.unordered = false;
    return standIn.ready;
  }
  if (standIn) stream.previous = standIn;
  else if (stream.parent?.ready || !stream.previous) stream.previous = stream.parent;
  stream.told(null);
  if (node === null) {
    stream.parent = null;
    return false;
  }
  // Back to the one that we were just leaving: it has never stopped being good.
  if (stream.previous?.node === node) stream.previous = null;
  stream.parent = parentAt(node, now);
  ask(stream, stream.parent, ports, now);
  return false;
}

/** The parent has delivered something usable: the former one is not needed any more. */
export function settle(stream: Stream, ports: Ports, now: number): Parent | null {
  const { parent, previous } = stream;
  stream.previousUntil = now + GRACE_MS;
  stream.told(parent?.given ?? null);
  if (previous) letGo(stream, previous, ports);
  return parent;
}

/** A frame came from `parent`. If that is who should deliver, the backup is not needed any more. */
export function relieve(stream: Stream, parent: Parent, ports: Ports, now: number): void {
  const { standIn } = stream;
  if (!standIn || parent !== dueFrom(stream, ports)) return;
  stream.standIn = null;
  stream.told(parent.given);
  letGo(stream, standIn, ports);
  if (!stream.parent?.ready) return;
  // What it has sent meanwhile is still on its way.
  stream.previous = standIn;
  stream.previousUntil = now + GRACE_MS;
}

/** By the clock: ends the former parent's time, tells to begin who could not be told, and has the backup begin if need be. */
export function attend(stream: Stream, ports: Ports, now: number): void {
  if (stream.previous && now >= stream.previousUntil) stream.previous = null;
  for (const parent of [stream.parent, stream.standIn]) if (parent && !parent.taken) take(stream, parent, ports);
  const due = dueFrom(stream, ports);
  if (!due?.asked || alive(due, ports)) return;
  const { backup, standIn } = stream;
  // A parent that has yet to begin is waited for.
  if (backup === null || backup === stream.parent?.node || backup === due.node) return;
  const port = ports(backup);
  if (standIn?.node === backup) {
    if (standIn.ready || now - standIn.since < Math.max(TAKE_AGAIN_MS, 2 * (port?.srtt ?? 0))) return;
    standIn.since = now;
    take(stream, standIn, ports);
    return;
  }
  if ((standIn && alive(standIn, ports)) || !port?.open || port.silent) return;
  stream.standIn = parentAt(backup, now);
  stream.standIn.unordered = true;
  stream.backupsTaken += 1;
  ask(stream, stream.standIn, ports, now);
}

/** Who delivers by order: the new parent once it has begun, before that the former one if there is one. */
function dueFrom(stream: Stream, ports: Ports): Parent | null {
  if (stream.parent?.ready) return stream.parent;
  const previous = stream.previous && ports(stream.previous.node)?.open ? stream.previous : null;
  return previous ?? stream.parent;
}

/** Do we hear from this parent, and has it been told to begin? */
function alive(parent: Parent, ports: Ports): boolean {
  const port = ports(parent.node);
  return parent.taken && port?.open === true && !port.silent;
}

/** Somebody new is to deliver: what is missing is asked of whoever delivers from now on. */
function ask(stream: Stream, parent: Parent, ports: Ports, now: number): void {
  for (const gaps of stream.video.values()) gaps.reparent(now);
  take(stream, parent, ports);
}

/** Tell a parent to begin, once the link is up. */
function take(stream: Stream, parent: Parent, ports: Ports): void {
  const port = ports(parent.node);
  if (!port?.open) return;
  const have: Have[] = [];
  for (const [layer, gaps] of stream.video) {
    if (gaps.whole && layer < 4) have.push({ layer, generation: gaps.generation, number: gaps.highest });
  }
  parent.taken = port.control({ t: "take", s: stream.key, have });
  if (parent.taken) parent.asked = true;
}

/** Tell a backup to stand by again, if it delivers without an order. */
function letGo(stream: Stream, parent: Parent, ports: Ports): void {
  if (parent.unordered) ports(parent.node)?.control({ t: "drop", s: stream.key });
  parent.unordered = false;
}
