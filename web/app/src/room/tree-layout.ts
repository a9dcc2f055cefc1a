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
 * A bent line from one circle of this radius to another. It bends away from the straight lines between parents and children, and
 * passes below those who stand between two neighbours of one layer.
 */
export function bow(from: Point, to: Point, radius: number): string {
  const dx = to.x - from.x;
  const dy = to.y - from.y;
  const length = Math.hypot(dx, dy) || 1;
  const side = dx < 0 ? 1 : -1;
  // A curve goes half as far as its control point. Below its layer a picture has its margin, and no more.
  const bend = (dy === 0 ? Math.min(54, 20 + 0.22 * length) : 0.22 * length) * side;
  const middle = { x: (from.x + to.x) / 2 + (bend * dy) / length, y: (from.y + to.y) / 2 - (bend * dx) / length };
  const start = towards(from, middle, radius);
  const end = towards(to, middle, radius);
  const at = ({ x, y }: Point) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  return `M${at(start)}Q${at(middle)} ${at(end)}`;
}

function towards(from: Point, to: Point, distance: number): Point {
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  return { x: from.x + ((to.x - from.x) * distance) / length, y: from.y + ((to.y - from.y) * distance) / length };
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
