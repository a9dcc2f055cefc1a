/** What the app says in words about trees, edges and people. Pure: plain data in, one sentence out. */

import type { EdgeReason, Policy, Tree, TreeEdge } from "@grove/client/signal/messages";
import { isRelay } from "@grove/client/signal/relays";
import type { Change } from "./changes.ts";

/** A person's name as it stands inside a sentence. */
export type NameOf = (node: number) => string;

export type Health = "good" | "fair" | "poor" | "starting";

/** An edge's health from what its child reported. The thresholds of loss are those of the quality bars. */
export function edgeHealth(edge: TreeEdge): Health {
  if (!edge.live) return "starting";
  if (edge.bps === 0 || edge.loss >= 0.08 || edge.delay_ms >= 800) return "poor";
  if (edge.loss >= 0.03 || edge.delay_ms >= 400) return "fair";
  return "good";
}

const HEALTH: Record<Health, string> = {
  good: "good",
  fair: "with gaps",
  poor: "bad",
  starting: "not running yet",
};

export function healthWords(health: Health): string {
  return HEALTH[health];
}

export function bitrate(bps: number): string {
  if (bps >= 999_500) return `${(bps / 1e6).toFixed(1)} Mbit/s`;
  return `${Math.round(bps / 1000)} kbit/s`;
}

/** A share 0..1 as per cent; small losses keep one digit. */
export function percent(share: number): string {
  const value = share * 100;
  return `${value > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} %`;
}

export function milliseconds(ms: number): string {
  return `${Math.round(ms)} ms`;
}

export interface LayerSize {
  width: number;
  height: number;
}

/** What an edge carries: `640x360`, or sound only. `sizes` are the stream's layers, lowest first, as far as known. */
export function carried(edge: TreeEdge, sizes: readonly LayerSize[]): string {
  if (edge.layer === null) return "sound only";
  const size = sizes[edge.layer];
  return size === undefined ? `picture in layer ${edge.layer + 1}` : `${size.width}\u00d7${size.height}`;
}

export function reasonWords(reason: EdgeReason, child: string): string {
  switch (reason) {
    case "joined":
      return `this was the shortest way when ${child} or the stream came`;
    case "parent_left":
      return `whoever fed ${child} before has left`;
    case "parent_lost":
      return `the link from whoever fed ${child} before failed`;
    case "capacity":
      return "somebody's upload changed";
    case "layers":
      return `${child} shows it in another size now`;
    case "policy":
      return "the way trees are chosen was changed";
    case "ended":
      return "the stream ended";
    case "no_capacity":
      return "nobody who has the stream can carry one more receiver";
    case "unreachable":
      return "nobody who has the stream can be reached from there";
  }
}

/** A node as it stands by itself: on a button, in a table. */
export function label(node: number, nameOf: NameOf): string {
  return isRelay(node) ? "Server" : nameOf(node);
}

/**
 * One sentence that explains an edge. `way` is the sentence that the client has for the reader's own way to the sender:
 * it stands before an edge by which a relay feeds the reader.
 */
export function edgeSentence(
  edge: TreeEdge,
  stream: string,
  sizes: readonly LayerSize[],
  nameOf: NameOf,
  way: string | null = null,
): string {
  const parent = capital(nameOf(edge.parent));
  const child = nameOf(edge.child);
  const because = `because ${why(edge, nameOf)}`;
  if (!edge.live) return `${parent} will send ${stream} to ${child}, ${because}; nothing has arrived yet.`;
  const then = edge.backup === undefined ? "" : ` ${standsBy(edge.backup, nameOf)} should it fail.`;
  const facts = [
    carried(edge, sizes),
    bitrate(edge.bps),
    `${milliseconds(edge.rtt_ms)} there and back`,
    `${percent(edge.loss)} lost`,
  ];
  if (way !== null && isRelay(edge.parent) && child === "You") return `${way} It brings ${facts.join(", ")}.${then}`;
  return `${parent} ${verb(parent, "sends", "send")} ${stream} to ${child}: ${facts.join(", ")}, ${because}.${then}`;
}

/** Why an edge is as it is: the end of a sentence. */
function why(edge: Pick<TreeEdge, "parent" | "child" | "reason">, nameOf: NameOf): string {
  const relayed = isRelay(edge.parent) || isRelay(edge.child);
  return relayed ? relayReason(edge.reason) : reasonWords(edge.reason, nameOf(edge.child));
}

/** `Ben stands by`, `You stand by`. */
export function standsBy(node: number, nameOf: NameOf): string {
  const who = capital(nameOf(node));
  return `${who} ${verb(who, "stands", "stand")} by`;
}

/** What changed last in a tree, and why. `more`: further changes came with it, for other reasons. */
export function changeSentence(change: Change, nameOf: NameOf): string {
  const { parent, children, reason, more } = change;
  const [first] = children;
  if (first === undefined) return "";
  const who = capital(list(children.map(nameOf)));
  const gets = children.length > 1 ? "get" : verb(who, "gets", "get");
  const from = parent === children[0] ? "" : ` from ${nameOf(parent)}`;
  const others =
    more === 0 ? "" : more === 1 ? " One more line changed with it." : ` ${more} more lines changed with it.`;
  const child = children.length > 1 ? "them" : nameOf(first);
  const because = isRelay(parent) || children.some(isRelay) ? relayReason(reason) : reasonWords(reason, child);
  return `${who} now ${gets} it${from}, because ${because}.${others}`;
}

/** Why the server stands in a way. */
function relayReason(reason: EdgeReason): string {
  switch (reason) {
    case "policy":
      return "this is how trees are chosen";
    case "parent_left":
    case "parent_lost":
      return "the way before it came to an end";
    default:
      return "the browsers in the room cannot carry it by themselves";
  }
}

/** One sentence or two that explain a node of a tree. */
export function nodeSentence(node: number, tree: Tree, stream: string, nameOf: NameOf): string {
  const who = capital(nameOf(node));
  const children = tree.edges.filter((edge) => edge.parent === node).map((edge) => nameOf(edge.child));
  const incoming = tree.edges.find((edge) => edge.child === node);
  if (tree.unserved.includes(node)) return `Nobody can bring ${stream} to ${who} at present.`;
  if (node === tree.stream.node) {
    if (children.length === 0) return `${who} ${verb(who, "sends", "send")} ${stream}; nobody receives it yet.`;
    return `${who} ${verb(who, "is", "are")} the root: ${stream} starts here and goes to ${list(children)}.`;
  }
  const level = incoming?.level ?? 1;
  const from = incoming === undefined ? "" : ` from ${nameOf(incoming.parent)}`;
  const steps = level === 1 ? "directly" : `in ${level} steps`;
  const passes =
    children.length === 0
      ? `and ${verb(who, "passes", "pass")} it on to nobody`
      : `and ${verb(who, "passes", "pass")} it on to ${list(children)}`;
  const sealed = isRelay(node) ? " It has no key to open it." : "";
  const ready = tree.edges.filter((edge) => edge.backup === node).map((edge) => nameOf(edge.child));
  const backup = ready.length === 0 ? "" : ` ${standsBy(node, nameOf)} for ${list(ready)}.`;
  return `${who} ${verb(who, "receives", "receive")} ${stream}${from}, ${steps}, ${passes}.${sealed}${backup}`;
}

/** What this browser does for others, and whether it may. */
export function forwardingSentence(people: number, bps: number, may: boolean): string {
  const what = `${people} ${people === 1 ? "person" : "people"}, ${bitrate(bps)}`;
  if (!may) return people === 0 ? "You are passing on nothing." : `Others are taking over from you: ${what}.`;
  if (people === 0) return "You are passing on nobody's stream at present.";
  return `You are passing on to ${what}.`;
}

/** What the switch beside it does. */
export function passOnWords(may: boolean): string {
  return may
    ? "Other people's pictures and sound may go through this device. They are sealed; it costs upload and a little battery."
    : "Others carry what you would. Where nobody has upload to spare, somebody sees less or nothing. What you send yourself goes on.";
}

export function policyWords(policy: Policy): string {
  switch (policy.kind) {
    case "mesh":
      return "Everybody sends to everybody: the shortest delay, the most upload.";
    case "tree":
      return `Each browser sends a stream to at most ${policy.branching}; they pass it on. Less upload, a little more delay.`;
    case "relay":
      return "Everybody sends to the server, which passes it on to everybody: the least upload. The server cannot open it.";
    case "auto":
      return "Senders feed everybody while their upload suffices; then others help, and the server where it has a relay and may.";
  }
}

/** What it means that the server may, or must not, pass on pictures and sound. */
export function neverRelayWords(never: boolean): string {
  return never
    ? "Pictures and sound go between browsers only. Two whose networks cannot connect see each other only if somebody else here passes it on."
    : "The server may pass on what browsers cannot carry. It is sealed, and the server has no key to open it.";
}

/** `Ana`, `Ana and Ben`, `Ana, Ben and Carl`. */
export function list(names: readonly string[]): string {
  if (names.length <= 1) return names[0] ?? "nobody";
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

function verb(who: string, third: string, second: string): string {
  return who === "You" || who === "you" ? second : third;
}

/** As the first word of a sentence. */
function capital(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** At most two letters that stand for a name. */
export function initials(name: string): string {
  const words = name.trim().split(/\s+/u).filter(Boolean);
  const first = [...(words[0] ?? "")][0] ?? "?";
  const last = words.length > 1 ? ([...(words.at(-1) ?? "")][0] ?? "") : "";
  return (first + last).toUpperCase();
}
