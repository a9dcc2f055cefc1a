/** One tree as a picture, the same as a table, and a sentence for what is chosen in it. */
import type { Tree, TreeEdge } from "@grove/client/signal/messages";
import { isRelay } from "@grove/client/signal/relays";
import { Server } from "lucide";
import { useState } from "preact/hooks";
import { Icon } from "../ui/icon.tsx";
import type { Change } from "./changes.ts";
import * as say from "./sentences.ts";
import { bow, type Point, placeTree } from "./tree-layout.ts";
import { useMoving } from "./use-moving.ts";

interface TreeViewProps {
  tree: Tree;
  me: number | null;
  nameOf: say.NameOf;
  /** `Ana's camera and microphone`, at the beginning and inside of a sentence. */
  title: string;
  stream: string;
  sizes: readonly say.LayerSize[];
  /** How the reader gets the stream, in a sentence. */
  way: string | null;
  /** What changed last in it. */
  change: Change | null;
}

type Chosen = { kind: "node"; node: number } | { kind: "edge"; child: number };

const SPACING = { x: 60, y: 72, margin: 30 };
const RADIUS = 17;
/** The sign in a server's square. */
const SERVER = 18;

export function TreeView({ tree, me, nameOf, title, stream, sizes, way, change }: TreeViewProps) {
  const [chosen, setChosen] = useState<Chosen | null>(null);
  const picture = placeTree(tree, SPACING);
  const points = useMoving(picture.points);
  const root = tree.stream.node;
  const order: Chosen[] = [
    { kind: "node", node: root },
    ...tree.edges.flatMap(({ child }): Chosen[] => [
      { kind: "edge", child },
      { kind: "node", node: child },
    ]),
    ...tree.unserved.map((node): Chosen => ({ kind: "node", node })),
  ];
  const current = order.findIndex((item) => same(item, chosen));
  const stop = Math.max(0, current);

  const step = (event: KeyboardEvent) => {
    const to = target(event.key, stop, order.length);
    const item = order[to ?? -1];
    if (to === null || item === undefined) return;
    event.preventDefault();
    setChosen(item);
    const svg = event.currentTarget as SVGElement;
    svg.querySelectorAll<SVGElement>("[data-place]").forEach((element) => {
      if (element.dataset.place === String(to)) element.focus();
    });
  };
  const bind = (item: Chosen) => {
    const place = order.findIndex((other) => same(item, other));
    return {
      "data-place": place,
      role: "button" as const,
      // Inside of an SVG attribute names keep their case.
      tabindex: place === stop ? 0 : -1,
      "aria-pressed": same(item, chosen),
      onClick: () => setChosen(item),
      onFocus: () => setChosen(item),
    };
  };

  const sentence = chosen === null ? null : sentenceFor(chosen, tree, stream, sizes, nameOf, way);
  const width = Math.max(picture.width, 2 * SPACING.margin + SPACING.x * 3);
  const shift = (width - picture.width) / 2;
  return (
    <section class="tree" aria-label={title}>
      <h3>{title}</h3>
      <div class="tree-scroll">
        {/* biome-ignore lint/a11y/useSemanticElements: a group of buttons inside a picture */}
        <svg
          class="tree-picture"
          role="group"
          aria-label={`${title}: ${tree.edges.length} lines, ${picture.levels} levels. Arrow keys go from one to the next.`}
          viewBox={`${-shift} 0 ${width} ${picture.height}`}
          style={{ minWidth: `${Math.min(width, picture.width)}px`, maxWidth: `${width * 1.25}px` }}
          onKeyDown={step}
        >
          <Backups tree={tree} points={points} chosen={chosen} />
          {tree.edges.map((edge) => {
            const from = points.get(edge.parent);
            const to = points.get(edge.child);
            if (from === undefined || to === undefined) return null;
            return (
              <g
                key={edge.child}
                class="tree-edge"
                {...bind({ kind: "edge", child: edge.child })}
                aria-label={edgeLabel(edge, nameOf)}
              >
                <Line edge={edge} from={from} to={to} />
              </g>
            );
          })}
          {[...picture.points.keys()].map((node) => {
            const at = points.get(node);
            if (at === undefined) return null;
            const unserved = tree.unserved.includes(node);
            const classes = ["tree-node"];
            if (node === root) classes.push("root");
            if (node === me) classes.push("me");
            if (unserved) classes.push("unserved");
            if (isRelay(node)) classes.push("relay");
            return (
              <g
                key={node}
                class={classes.join(" ")}
                transform={`translate(${at.x} ${at.y})`}
                {...bind({ kind: "node", node })}
                aria-label={`${say.label(node, nameOf)}${node === root ? ", root" : ""}${unserved ? ", not served" : ""}`}
              >
                <circle class="target" r={RADIUS + 6} />
                {isRelay(node) ? (
                  <rect class="body" x={-RADIUS} y={-RADIUS} width={2 * RADIUS} height={2 * RADIUS} rx={7} />
                ) : (
                  <circle class="body" r={RADIUS} />
                )}
              </g>
            );
          })}
          <Writing tree={tree} points={points} label={(node) => (node === me ? "You" : say.initials(nameOf(node)))} />
        </svg>
      </div>
      <p class="tree-sentence" role="status">
        {sentence ?? <span class="muted">{summary(tree, nameOf)}</span>}
      </p>
      {change !== null && (
        <p class="tree-change">
          <span class="muted">Latest change, {clock(change.atMs)}:</span> {say.changeSentence(change, nameOf)}
        </p>
      )}
      {tree.edges.length > 0 && (
        <details>
          <summary>As a table</summary>
          <TreeTable tree={tree} sizes={sizes} nameOf={nameOf} title={title} />
        </details>
      )}
    </section>
  );
}

/** From the foot of one circle to the head of the next. */
function Line({ edge, from, to }: { edge: TreeEdge; from: Point; to: Point }) {
  const middle = (from.y + to.y) / 2;
  const path = `M${from.x} ${from.y + RADIUS}C${from.x} ${middle} ${to.x} ${middle} ${to.x} ${to.y - RADIUS}`;
  return (
    <>
      <path class="target" d={path} />
      <path class={`line ${say.edgeHealth(edge)}`} d={path} stroke-width={lineWidth(edge.bps)} />
    </>
  );
}

interface BackupsProps {
  tree: Tree;
  points: ReadonlyMap<number, Point>;
  chosen: Chosen | null;
}

/** Who stands by for whom, behind everything else. The lines' own names and the table tell it in words. */
function Backups({ tree, points, chosen }: BackupsProps) {
  return (
    // biome-ignore lint/a11y/noAriaHiddenOnFocusable: a plain group inside a picture takes no focus
    <g aria-hidden="true">
      {tree.edges.map(({ child, backup }) => {
        const from = backup === undefined ? undefined : points.get(backup);
        const to = points.get(child);
        if (from === undefined || to === undefined) return null;
        const meant =
          chosen !== null &&
          (chosen.kind === "edge" ? chosen.child === child : chosen.node === child || chosen.node === backup);
        return <path key={child} class={meant ? "backup-line meant" : "backup-line"} d={bow(from, to, RADIUS + 2)} />;
      })}
    </g>
  );
}

interface WritingProps {
  tree: Tree;
  points: ReadonlyMap<number, Point>;
  label: (node: number) => string;
}

/** Initials and marks lie over the buttons, which have their own names. */
function Writing({ tree, points, label }: WritingProps) {
  return (
    // biome-ignore lint/a11y/noAriaHiddenOnFocusable: a plain group inside a picture takes no focus
    <g aria-hidden="true" class="tree-writing">
      {[...points].map(([node, { x, y }]) =>
        isRelay(node) ? (
          <g key={node} transform={`translate(${x - SERVER / 2} ${y - SERVER / 2})`}>
            <Icon of={Server} size={SERVER} />
          </g>
        ) : (
          <text key={node} class={node === tree.stream.node ? "root" : ""} x={x} y={y} dy="0.35em">
            {label(node)}
          </text>
        ),
      )}
      {tree.edges.map((edge) => {
        const health = say.edgeHealth(edge);
        const from = points.get(edge.parent);
        const to = points.get(edge.child);
        if (from === undefined || to === undefined || (health !== "fair" && health !== "poor")) return null;
        return (
          <g
            key={edge.child}
            class={`line-mark ${health}`}
            transform={`translate(${(from.x + to.x) / 2} ${(from.y + to.y) / 2})`}
          >
            <circle r="8" />
            <text dy="0.35em">{health === "poor" ? "×" : "!"}</text>
          </g>
        );
      })}
    </g>
  );
}

/** From 1.5 for next to nothing to 7 for 2 Mbit/s and more. */
function lineWidth(bps: number): number {
  return 1.5 + 5.5 * Math.min(1, Math.sqrt(bps / 2e6));
}

function edgeLabel(edge: TreeEdge, nameOf: say.NameOf): string {
  const backup = edge.backup === undefined ? "" : `, ${say.standsBy(edge.backup, nameOf)}`;
  return `${say.label(edge.parent, nameOf)} to ${say.label(edge.child, nameOf)}, ${say.healthWords(say.edgeHealth(edge))}${backup}`;
}

function clock(atMs: number): string {
  return new Date(atMs).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

function same(a: Chosen, b: Chosen | null): boolean {
  if (b === null || a.kind !== b.kind) return false;
  return a.kind === "node" ? a.node === (b as { node: number }).node : a.child === (b as { child: number }).child;
}

function target(key: string, now: number, count: number): number | null {
  switch (key) {
    case "ArrowRight":
    case "ArrowDown":
      return Math.min(count - 1, now + 1);
    case "ArrowLeft":
    case "ArrowUp":
      return Math.max(0, now - 1);
    case "Home":
      return 0;
    case "End":
      return count - 1;
    default:
      return null;
  }
}

function sentenceFor(
  chosen: Chosen,
  tree: Tree,
  stream: string,
  sizes: readonly say.LayerSize[],
  nameOf: say.NameOf,
  way: string | null,
): string | null {
  if (chosen.kind === "edge") {
    const edge = tree.edges.find(({ child }) => child === chosen.child);
    return edge === undefined ? null : say.edgeSentence(edge, stream, sizes, nameOf, way);
  }
  const there =
    chosen.node === tree.stream.node ||
    tree.unserved.includes(chosen.node) ||
    tree.edges.some(({ child }) => child === chosen.node);
  return there ? say.nodeSentence(chosen.node, tree, stream, nameOf) : null;
}

/** What stands under a picture in which nothing is chosen: what is wrong, else how far it reaches. */
function summary(tree: Tree, nameOf: say.NameOf): string {
  if (tree.unserved.length > 0) return `Nobody can feed ${say.list(tree.unserved.map(nameOf))} at present.`;
  const bad = tree.edges.filter((edge) => say.edgeHealth(edge) === "poor");
  if (bad.length > 0) return `${bad.length === 1 ? "One line is" : `${bad.length} lines are`} bad.`;
  const deepest = Math.max(0, ...tree.edges.map((edge) => edge.level));
  if (deepest === 0) return "Nobody receives it yet.";
  const steps = deepest === 1 ? "directly" : `in at most ${deepest} steps`;
  const people = tree.edges.filter(({ child }) => !isRelay(child)).length;
  return `Reaches ${people} ${people === 1 ? "person" : "people"} ${steps}.${backedWords(tree)}`;
}

/** For how many lines somebody stands by; nothing where nobody could. */
function backedWords(tree: Tree): string {
  const backed = tree.edges.filter(({ backup }) => backup !== undefined).length;
  if (backed === 0) return "";
  return backed === tree.edges.length
    ? " Somebody stands by for every line."
    : ` Somebody stands by for ${backed} of ${tree.edges.length} lines.`;
}

interface TreeTableProps {
  tree: Tree;
  sizes: readonly say.LayerSize[];
  nameOf: say.NameOf;
  title: string;
}

function TreeTable({ tree, sizes, nameOf, title }: TreeTableProps) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <section class="table-scroll" tabIndex={0} aria-label={`Table: ${title}`}>
      <table>
        <thead>
          <tr>
            <th scope="col">From</th>
            <th scope="col">To</th>
            <th scope="col">Level</th>
            <th scope="col">Picture</th>
            <th scope="col">Rate</th>
            <th scope="col">Round trip</th>
            <th scope="col">Delay</th>
            <th scope="col">Lost</th>
            <th scope="col">State</th>
            <th scope="col">Stands by</th>
          </tr>
        </thead>
        <tbody>
          {tree.edges.map((edge) => (
            <tr key={edge.child}>
              <td>{say.label(edge.parent, nameOf)}</td>
              <td>{say.label(edge.child, nameOf)}</td>
              <td>{edge.level}</td>
              <td>{say.carried(edge, sizes)}</td>
              <td>{say.bitrate(edge.bps)}</td>
              <td>{say.milliseconds(edge.rtt_ms)}</td>
              <td>{say.milliseconds(edge.delay_ms)}</td>
              <td>{say.percent(edge.loss)}</td>
              <td>{say.healthWords(say.edgeHealth(edge))}</td>
              <td>{edge.backup === undefined ? "nobody" : say.label(edge.backup, nameOf)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
