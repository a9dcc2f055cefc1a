/**
 * Where tiles go: a pure function of how many there are and how large the stage is. Tiles are 16:9 and as large as the
 * stage allows; a tall narrow stage shows the speaker large above a strip of the others.
 */

export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Layout {
  /** One per tile, in the order given. */
  tiles: Rect[];
  /** The strip's width when it is wider than the stage (it scrolls then); 0 without a strip. */
  stripWidth: number;
  kind: "grid" | "speaker";
}

/** Tiles on one page; more are turned over. */
export const TILES_PER_PAGE = 25;

const ASPECT = 16 / 9;
/** Below this many tiles a grid serves a tall stage better than a speaker with a strip. */
const STRIP_FROM = 4;
/** Heights of the strip's tiles, CSS pixels: as much as the speaker leaves, within these, and a share of the stage. */
const STRIP_LEAST = 108;
const STRIP_MOST = 180;
const STRIP_SHARE = 0.3;
/** On a phone a tile is no taller than this times its width: pictures are wide, and more would cut off the sides. */
const TALLNESS = 1.25;
/** Elsewhere a tile covers at most a fifth of the picture's width, or an eighth of its height. */
const WIDE_LEAST = ASPECT / 1.25;
const WIDE_MOST = ASPECT * 1.125;

/** `speaker` is the index of the tile to show large, where the layout has one. */
export function layout(count: number, width: number, height: number, gap: number, speaker = 0): Layout {
  if (count <= 0 || width <= 0 || height <= 0) return { tiles: [], stripWidth: 0, kind: "grid" };
  const narrow = width < 600 && height > width * 1.15;
  if (narrow && count >= STRIP_FROM) return withStrip(count, width, height, gap, speaker);
  return { tiles: grid(count, width, height, gap, narrow ? 1 / TALLNESS : WIDE_LEAST), stripWidth: 0, kind: "grid" };
}

/** The grid with the largest 16:9 tiles, which then fill what is left. Rows are as even as can be, so that no tile stands alone under a full row. */
export function grid(count: number, width: number, height: number, gap: number, least = WIDE_LEAST): Rect[] {
  let best = { columns: 1, width: 0, height: 0 };
  let widest = 0;
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const roomX = (width - gap * (columns - 1)) / columns;
    const roomY = (height - gap * (rows - 1)) / rows;
    if (roomX <= 0 || roomY <= 0) continue;
    const wide = Math.min(roomX, roomY * ASPECT);
    if (wide > widest + 0.5) {
      widest = wide;
      best = { columns, ...fit(roomX, roomY, least) };
    }
  }
  const rows = Math.ceil(count / best.columns);
  const used = rows * best.height + (rows - 1) * gap;
  const tiles: Rect[] = [];
  for (let row = 0; row < rows; row++) {
    const inRow = Math.ceil(((row + 1) * count) / rows) - Math.ceil((row * count) / rows);
    const rowWidth = inRow * best.width + (inRow - 1) * gap;
    for (let column = 0; column < inRow; column++) {
      tiles.push({
        x: (width - rowWidth) / 2 + column * (best.width + gap),
        y: (height - used) / 2 + row * (best.height + gap),
        width: best.width,
        height: best.height,
      });
    }
  }
  return tiles;
}

/** The largest tile in this much room, as far from 16:9 as it may be: the picture covers the tile. */
function fit(roomX: number, roomY: number, least: number): { width: number; height: number } {
  const aspect = Math.min(WIDE_MOST, Math.max(least, roomX / roomY));
  const width = Math.min(roomX, roomY * aspect);
  return { width, height: width / aspect };
}

function withStrip(count: number, width: number, height: number, gap: number, speaker: number): Layout {
  const least = Math.min(STRIP_LEAST, height * STRIP_SHARE);
  const speakerHeight = Math.min(width * TALLNESS, height - gap - least);
  const stripHeight = Math.min(height - gap - speakerHeight, STRIP_MOST);
  const thumb = { width: stripHeight * (4 / 3), height: stripHeight };
  const large = Math.min(Math.max(speaker, 0), count - 1);
  const top = (height - speakerHeight - gap - stripHeight) / 2;
  const stripWidth = (count - 1) * thumb.width + (count - 2) * gap;
  const start = Math.max(0, (width - stripWidth) / 2);
  const tiles: Rect[] = [];
  let place = 0;
  for (let index = 0; index < count; index++) {
    if (index === large) {
      tiles.push({ x: 0, y: top, width, height: speakerHeight });
    } else {
      tiles.push({ x: start + place * (thumb.width + gap), y: top + speakerHeight + gap, ...thumb });
      place++;
    }
  }
  return { tiles, stripWidth: Math.max(stripWidth, width), kind: "speaker" };
}
