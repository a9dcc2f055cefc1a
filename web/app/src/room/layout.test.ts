import { describe, expect, test } from "vitest";
import { grid, layout, type Rect } from "./layout.ts";

const windows: [number, number][] = [
  [1280, 720],
  [1920, 1080],
  [844, 390],
  [700, 1100],
  [920, 600],
];

function overlap(a: Rect, b: Rect): boolean {
  const e = 0.01;
  return a.x + a.width > b.x + e && b.x + b.width > a.x + e && a.y + a.height > b.y + e && b.y + b.height > a.y + e;
}

function area(rects: Rect[]): number {
  return rects.reduce((sum, rect) => sum + rect.width * rect.height, 0);
}

describe("the grid of tiles", () => {
  test("any number of tiles stays inside any stage and never overlaps", () => {
    for (const [width, height] of windows) {
      for (let count = 1; count <= 25; count++) {
        const tiles = grid(count, width, height, 8);
        expect(tiles).toHaveLength(count);
        for (const [index, tile] of tiles.entries()) {
          expect(tile.x).toBeGreaterThanOrEqual(-0.01);
          expect(tile.y).toBeGreaterThanOrEqual(-0.01);
          expect(tile.x + tile.width).toBeLessThanOrEqual(width + 0.01);
          expect(tile.y + tile.height).toBeLessThanOrEqual(height + 0.01);
          for (const other of tiles.slice(index + 1)) expect(overlap(tile, other)).toBe(false);
        }
      }
    }
  });

  test("no other number of columns would make 16:9 tiles larger", () => {
    for (const [width, height] of windows) {
      for (let count = 1; count <= 25; count++) {
        const chosen = area(grid(count, width, height, 8));
        for (let columns = 1; columns <= count; columns++) {
          const rows = Math.ceil(count / columns);
          const tile = Math.min((width - 8 * (columns - 1)) / columns, ((height - 8 * (rows - 1)) / rows) * (16 / 9));
          if (tile > 0) expect(chosen).toBeGreaterThanOrEqual(0.999 * count * tile * tile * (9 / 16));
        }
      }
    }
  });

  test("tiles of one grid are of one size, and rows differ by one tile at most", () => {
    const tiles = grid(7, 1280, 720, 8);
    expect(new Set(tiles.map((tile) => `${tile.width}x${tile.height}`)).size).toBe(1);
    const rows = new Map<number, number>();
    for (const tile of tiles) rows.set(tile.y, (rows.get(tile.y) ?? 0) + 1);
    expect([...rows.values()]).toEqual([3, 2, 2]);
  });

  test("two people stand side by side in a wide window and one above the other in a tall one", () => {
    const wide = grid(2, 1280, 700, 8);
    const tall = grid(2, 390, 700, 8);
    expect(wide[0]?.y).toBe(wide[1]?.y);
    expect(tall[0]?.x).toBe(tall[1]?.x);
  });

  test("nothing is laid out on a stage without size", () => {
    expect(layout(3, 0, 500, 8).tiles).toEqual([]);
    expect(layout(0, 500, 500, 8).tiles).toEqual([]);
  });
});

describe("a phone held upright", () => {
  test("shows the speaker large above a strip of the others, who keep their order", () => {
    const { tiles, kind } = layout(5, 390, 680, 8, 2);
    expect(kind).toBe("speaker");
    expect(tiles[2]).toMatchObject({ x: 0, width: 390 });
    expect(tiles[2]?.y).toBeLessThan(tiles[0]?.y ?? 0);
    const strip = [0, 1, 3, 4].map((index) => tiles[index]?.x ?? Number.NaN);
    expect(strip).toEqual([...strip].sort((a, b) => a - b));
    expect(new Set([0, 1, 3, 4].map((index) => tiles[index]?.y)).size).toBe(1);
  });

  test("says how far the strip reaches, so that it can scroll", () => {
    expect(layout(4, 390, 680, 8).stripWidth).toBeGreaterThan(390);
    expect(layout(12, 390, 680, 8).stripWidth).toBeGreaterThan(1500);
  });

  test("never cuts more than the sides off the speaker's picture, and leaves the strip its least height", () => {
    for (const height of [560, 680, 900, 1200]) {
      const { tiles } = layout(6, 390, height, 8);
      expect(tiles[0]?.height).toBeLessThanOrEqual(390 * 1.25);
      expect(tiles[1]?.height).toBeGreaterThanOrEqual(108);
      expect((tiles[1]?.y ?? 0) + (tiles[1]?.height ?? 0)).toBeLessThanOrEqual(height + 0.01);
    }
  });

  test("of three people or fewer is a column of taller tiles", () => {
    const { kind, tiles } = layout(2, 390, 680, 8);
    expect(kind).toBe("grid");
    expect(tiles.map((tile) => [tile.x, Math.round(tile.height)])).toEqual([
      [0, 336],
      [0, 336],
    ]);
  });
});
