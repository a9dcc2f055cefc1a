import { useEffect, useRef, useState } from "preact/hooks";
import type { Point } from "./tree-layout.ts";

/** How long nodes take to their new places. */
const MOVE_MS = 300;

/** Points that glide to where they should be; at once for people who prefer reduced motion. */
export function useMoving(wanted: ReadonlyMap<number, Point>): ReadonlyMap<number, Point> {
  const shown = useRef(wanted);
  const [, redraw] = useState(0);
  const places = [...wanted].map(([node, { x, y }]) => `${node}:${x},${y}`).join(" ");
  useEffect(() => {
    const start = new Map(shown.current);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches || places === key(start)) {
      shown.current = wanted;
      redraw((n) => n + 1);
      return;
    }
    let frame = 0;
    const begin = performance.now();
    const move = (now: number) => {
      const t = Math.min(1, Math.max(0, (now - begin) / MOVE_MS));
      const eased = 1 - (1 - t) ** 3;
      shown.current = new Map(
        [...wanted].map(([node, to]) => {
          const from = start.get(node) ?? to;
          return [node, { x: from.x + (to.x - from.x) * eased, y: from.y + (to.y - from.y) * eased }];
        }),
      );
      redraw((n) => n + 1);
      if (t < 1) frame = requestAnimationFrame(move);
    };
    frame = requestAnimationFrame(move);
    return () => cancelAnimationFrame(frame);
  }, [places]);
  // A node that is new in this very render already has its place.
  return new Map([...wanted].map(([node, to]) => [node, shown.current.get(node) ?? to]));
}

function key(points: ReadonlyMap<number, Point>): string {
  return [...points].map(([node, { x, y }]) => `${node}:${x},${y}`).join(" ");
}
