/** Places the nodes of one tree in layers, root on top, children under their parent. Pure. */
import type { Tree } from "@grove/client/signal/messages";

export interface Point {
  x: number;
  y: number;
}

export interface Picture {
  width: number;
  height: number;
  /** By node. Unserved nodes stand in a row of their own below the tree. */
  points: Map<number, Point>;
  levels: number;
}

export interface Spacing {
  /** Between neighbours in a layer. */
  x: number;
  /** Between layers. */
  y: number;
  /** Around the picture. */
  margin: number;
}

/**
 * Leaves stand side by side in the order of the plan, and a parent stands above the middle of its children. Runs in
 * the number of edges. An edge whose parent is not in the tree yet is placed under the root.
 */
export function placeTree(tree: Tree, spacing: Spacing): Picture {
  const root = tree.stream.node;
  const placed = new Set([root]);
  const children = new Map<number, number[]>();
  for (const edge of tree.edges) {
    if (placed.has(edge.child)) continue;
    const parent = placed.has(edge.parent) ? edge.parent : root;
    placed.add(edge.child);
    children.set(parent, [...(children.get(parent) ?? []), edge.child]);
  }
  const points = new Map<number, Point>();
  let column = 0;
  let deepest = 0;
  const place = (node: number, level: number): number => {
    deepest = Math.max(deepest, level);
    const below = children.get(node) ?? [];
    let x: number;
    if (below.length === 0) {
      x = column++;
    } else {
      const xs = below.map((child) => place(child, level + 1));
      x = ((xs[0] ?? 0) + (xs.at(-1) ?? 0)) / 2;
    }
    points.set(node, { x: spacing.margin + x * spacing.x, y: spacing.margin + level * spacing.y });
    return x;
  };
  place(root, 0);
  const unserved = tree.unserved.filter((node) => !placed.has(node));
  for (const [index, node] of unserved.entries()) {
    points.set(node, { x: spacing.margin + index * spacing.x, y: spacing.margin + (deepest + 1) * spacing.y });
  }
  const columns = Math.max(column, unserved.length);
  const rows = deepest + (unserved.length > 0 ? 1 : 0);
  return {
    width: (columns - 1) * spacing.x + 2 * spacing.margin,
    height: rows * spacing.y + 2 * spacing.margin,
    points,
    levels: deepest + 1,
  };
}
