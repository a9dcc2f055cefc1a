/** What changed last in each tree: two pictures of the trees in, the differences out. Pure. */
import type { EdgeReason, Tree } from "@grove/client/signal/messages";

/** Receivers that got another parent in one picture, for one reason. */
export interface Change {
  parent: number;
  children: number[];
  reason: EdgeReason;
  /** Receivers that got another parent, or theirs for another reason, in the same picture. */
  more: number;
  /** When the picture came, by the caller's clock. */
  atMs: number;
}

/** By `treeId`. */
export type Changes = ReadonlyMap<string, Change>;

export const treeId = ({ stream }: Pick<Tree, "stream">): string => `${stream.node}-${stream.stream}`;

/** Adds what differs between two pictures. A tree's first picture is no change, and one that is gone has none. */
export function withChanges(known: Changes, before: readonly Tree[], now: readonly Tree[], atMs: number): Changes {
  const old = new Map(before.map((tree) => [treeId(tree), tree]));
  const changes = new Map<string, Change>();
  for (const tree of now) {
    const id = treeId(tree);
    const change = difference(old.get(id), tree, atMs) ?? known.get(id);
    if (change !== undefined) changes.set(id, change);
  }
  return changes;
}

/** The largest group of receivers that got the same other parent for the same reason. */
function difference(before: Tree | undefined, now: Tree, atMs: number): Change | null {
  if (before === undefined) return null;
  const parents = new Map(before.edges.map((edge) => [edge.child, edge.parent]));
  const groups = new Map<string, Change>();
  let all = 0;
  for (const { parent, child, reason } of now.edges) {
    if (parents.get(child) === parent) continue;
    all += 1;
    const id = `${parent} ${reason}`;
    const group = groups.get(id) ?? { parent, children: [], reason, more: 0, atMs };
    group.children.push(child);
    groups.set(id, group);
  }
  const [largest] = [...groups.values()].sort((a, b) => b.children.length - a.children.length);
  return largest === undefined ? null : { ...largest, more: all - largest.children.length };
}
