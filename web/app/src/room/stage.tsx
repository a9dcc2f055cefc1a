/** The stage: tiles where `layout.ts` puts them, turned over when they are many, never re-ordered. */
import { ChevronLeft, ChevronRight } from "lucide";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Call } from "../state/call.ts";
import { Icon } from "../ui/icon.tsx";
import { Alone } from "./alone.tsx";
import { layout, type Rect, TILES_PER_PAGE } from "./layout.ts";
import { ScreenTile, SelfTile, Tile } from "./tile.tsx";
import { type TileModel, tilesOf } from "./tiles.ts";

const GAP = 8;
/** What turning pages takes from the stage. */
const TURN_HEIGHT = 54;
/** With one other person one's own picture floats in a corner. */
const FLOATING_SHARE = 0.22;

export function Stage({ call }: { call: Call }) {
  const { others, activeSpeaker } = call.state.value;
  const element = useRef<HTMLDivElement>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  const [page, setPage] = useState(0);
  const held = useRef(false);

  useLayoutEffect(() => {
    const stage = element.current;
    if (stage === null) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry === undefined) return;
      const { width, height } = entry.contentRect;
      setSize({ width, height });
    });
    observer.observe(stage);
    return () => observer.disconnect();
  }, []);

  const all = tilesOf(others);
  const floating = all.length === 2;
  const placed = floating ? all.slice(0, 1) : all;
  const pages = Math.ceil(placed.length / TILES_PER_PAGE);
  const shownPage = Math.min(page, pages - 1);
  const shown = placed.slice(shownPage * TILES_PER_PAGE, (shownPage + 1) * TILES_PER_PAGE);
  const speaker = useSpeaker(shown, activeSpeaker, held);
  const room = pages > 1 ? size.height - TURN_HEIGHT : size.height;
  const plan = layout(shown.length, size.width, room, GAP, speaker);
  const strip = plan.kind === "speaker" && plan.stripWidth > size.width;

  const rects = shown.map((tile, index) => ({ tile, rect: plan.tiles[index] }));
  const self = all.find((tile) => tile.kind === "self");
  if (floating && self !== undefined) rects.push({ tile: self, rect: corner(size.width, size.height) });

  return (
    <section
      class="stage"
      aria-label="People"
      ref={element}
      onPointerEnter={(event) => {
        held.current = event.pointerType === "mouse";
      }}
      onPointerDown={() => {
        held.current = true;
      }}
      onPointerUp={(event) => {
        if (event.pointerType !== "mouse") held.current = false;
      }}
      onPointerCancel={() => {
        held.current = false;
      }}
      onPointerLeave={() => {
        held.current = false;
      }}
    >
      {/* A strip that is wider than the phone scrolls under the speaker; the speaker's tile stays. */}
      <div
        class={strip ? "tiles scrolls" : "tiles"}
        tabIndex={strip ? 0 : undefined}
        {...(strip ? { role: "group", "aria-label": "Everybody, scrollable" } : {})}
      >
        <div class="tiles-inner" style={{ width: strip ? `${plan.stripWidth}px` : "100%" }}>
          {rects.map(({ tile, rect }, index) => {
            if (rect === undefined) return null;
            const large = strip && index === speaker;
            return (
              <Slot key={tile.key} rect={rect} pinned={large} floating={floating && tile.kind === "self"}>
                {tile.kind === "self" ? (
                  <SelfTile call={call} />
                ) : tile.kind === "screen" ? (
                  <ScreenTile call={call} person={tile.person} stream={tile.stream} />
                ) : (
                  <Tile
                    call={call}
                    person={tile.person}
                    stream={tile.stream}
                    speaking={tile.person.node === activeSpeaker}
                  />
                )}
              </Slot>
            );
          })}
        </div>
      </div>
      {others.length === 0 && <Alone call={call} />}
      {pages > 1 && (
        <nav class="turn" aria-label="Pages of people">
          <button
            type="button"
            class="icon-button"
            aria-label="Previous people"
            disabled={shownPage === 0}
            onClick={() => setPage(shownPage - 1)}
          >
            <Icon of={ChevronLeft} />
          </button>
          <span class="tabular">
            {shownPage + 1} of {pages}
          </span>
          <button
            type="button"
            class="icon-button"
            aria-label="Next people"
            disabled={shownPage === pages - 1}
            onClick={() => setPage(shownPage + 1)}
          >
            <Icon of={ChevronRight} />
          </button>
        </nav>
      )}
    </section>
  );
}

interface SlotProps {
  rect: Rect;
  pinned: boolean;
  floating: boolean;
  children: preact.ComponentChildren;
}

function Slot({ rect, pinned, floating, children }: SlotProps) {
  return (
    <div
      class={`slot${pinned ? " pinned" : ""}${floating ? " floating" : ""}`}
      style={{
        left: `${rect.x}px`,
        top: `${rect.y}px`,
        width: `${rect.width}px`,
        height: `${rect.height}px`,
      }}
    >
      {children}
    </div>
  );
}

function corner(width: number, height: number): Rect {
  const across = Math.max(112, Math.min(240, width * FLOATING_SHARE));
  const tall = (across * 9) / 16;
  return { x: width - across - 12, y: height - tall - 12, width: across, height: tall };
}

/**
 * The tile that stands large on a phone: whoever spoke last, and nobody else while a finger or the pointer is on the
 * stage, so that nothing moves away from under it.
 */
function useSpeaker(tiles: readonly TileModel[], active: number | null, held: { current: boolean }): number {
  const [key, setKey] = useState("");
  const screen = tiles.findIndex((tile) => tile.kind === "screen");
  useEffect(() => {
    if (active !== null && !held.current) setKey(`person-${active}`);
  }, [active, held]);
  if (screen >= 0) return screen;
  return Math.max(
    0,
    tiles.findIndex((tile) => tile.key === key),
  );
}
