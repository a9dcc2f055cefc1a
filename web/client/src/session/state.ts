/**
 * What is known about the room, as one value. Pure: `reduce` takes what the server, the worker or the page itself say,
 * with the time, and returns the next value; nothing is awaited and nothing is sent. `view.ts` turns it into the
 * `RoomState` that people are shown.
 */
import type { ChatEntry, Connection, Sending } from "../api.ts";
import type { RelayWay } from "../link/relay-links.ts";
import type {
  ChatLine,
  Participant,
  Policy,
  Publication,
  ServerMessage,
  StreamRef,
  Trees,
} from "../signal/messages.ts";
import { isRelay } from "../signal/relays.ts";
import type { FromWorker, WorkerStats } from "../worker/messages.ts";
import { emptyPlan, forgetStream, type Plan, streamId } from "./plan.ts";
import { noSpeakers, type Speakers, stepSpeakers } from "./speaker.ts";

/** Seconds over which quality is measured. */
const WINDOW = 5;
/** Chat lines kept; the oldest go. */
const MOST_LINES = 1_000;
/** Frames that do not open are normal for a moment around joins and key changes; told after this many in a row. */
const UNDECODABLE_TOLD = 50;
/** ... and forgotten when none came for this long. */
const UNDECODABLE_MS = 5_000;

/** One of the others. */
export interface Other {
  participant: Participant;
  /** Null while the identity is being checked. */
  verified: boolean | null;
  /** RFC 6464. */
  level: number;
  /** What happened to the direct link, where one was ordered. */
  link: LinkState | null;
  /** The last direct link that was ordered ended without having been up, by itself or because the other end gave up. */
  apart: boolean;
  /** Frames of theirs that nothing opens, lately. */
  undecodable: { frames: number; atMs: number } | null;
}

/** `never`: this pair cannot connect; `refused`: the other end's signature is not its own. */
export type LinkState = "connecting" | "up" | "never" | "lost" | "refused";

/** A chat line with its sealed form, which tells a returned line from a new one. */
export interface ChatRecord extends ChatEntry {
  body: string;
}

/** Whether media of one stream moves. */
export interface Flow {
  /** Frames and packets so far. */
  count: number;
  /** When the count last rose. */
  movedMs: number;
  /** Whose frames were usable last; null until the worker says so. An order for another comes before its first frame. */
  from: number | null;
}

export interface Model {
  connection: Connection;
  me: number | null;
  policy: Policy;
  /** Media must not pass a relay. */
  neverRelay: boolean;
  /** Numbers of the relays that the server has; nobody's presence. */
  relays: readonly number[];
  /** Links to them, where they were ordered. */
  relayLinks: ReadonlyMap<number, LinkState>;
  /** ... and by which way those go that are up or on their way up. */
  relayWays: ReadonlyMap<number, RelayWay>;
  others: ReadonlyMap<number, Other>;
  chat: readonly ChatRecord[];
  trees: Trees | null;
  sending: Sending;
  plan: Plan;
  /** By stream id: only streams of which something has arrived. */
  flows: ReadonlyMap<string, Flow>;
  /** The last looks at the worker's totals, oldest first. */
  stats: readonly WorkerStats[];
  speakers: Speakers;
  /** Whether this page can hear and speak: `held` until the browser is given a gesture, `failed` for good. */
  sound: "ok" | "held" | "failed";
  /** Our picture is reduced because our links are full. */
  uplinkFull: boolean;
  /** The browser's words for the encoders that it refused, until the device is turned on anew. */
  encoderFailed: { audio: string | null; video: string | null };
  /** The media worker's words for something that must not happen, and when. */
  fault: { message: string; atMs: number } | null;
  /** The media worker says nothing any more. */
  workerSilent: boolean;
  /** The server's words for something that it could not do, and when. */
  refused: { message: string; atMs: number } | null;
}

/** What the page itself has to tell. */
export type PageEvent =
  | { type: "connection"; connection: Connection }
  | { type: "verified"; node: number; id: string; verified: boolean }
  | { type: "chat_line"; line: ChatLine; text: string | null }
  | { type: "chat_sent"; id: string; text: string; body: string; name: string }
  | { type: "plan"; plan: Plan }
  | { type: "link"; peer: number; state: LinkState | null; way?: RelayWay }
  | { type: "sending"; sending: Partial<Pick<Sending, "microphone" | "camera" | "layers" | "passesOn">> }
  | { type: "sound"; sound: Model["sound"] }
  | { type: "worker_silent"; silent: boolean };

export type Input =
  | { from: "server"; message: ServerMessage }
  | { from: "worker"; message: FromWorker }
  | { from: "page"; event: PageEvent };

export const emptyModel: Model = {
  connection: { state: "joining" },
  me: null,
  policy: { kind: "auto" },
  neverRelay: false,
  relays: [],
  relayLinks: new Map(),
  relayWays: new Map(),
  others: new Map(),
  chat: [],
  trees: null,
  sending: {
    microphone: "off",
    camera: "off",
    layers: [],
    audioLevel: 127,
    forwarding: { people: 0, bps: 0 },
    passesOn: true,
  },
  plan: emptyPlan,
  flows: new Map(),
  stats: [],
  speakers: noSpeakers,
  sound: "ok",
  uplinkFull: false,
  encoderFailed: { audio: null, video: null },
  fault: null,
  workerSilent: false,
  refused: null,
};

/** Streams that come from the parent in force: what the server was told by `ready`, or should have been. */
export function deliveries({ plan, flows }: Model): { stream: StreamRef; parent: number }[] {
  return [...plan.parents].flatMap(([id, { stream, parent }]) =>
    parent !== null && flows.get(id)?.from === parent ? [{ stream, parent }] : [],
  );
}

export function reduce(model: Model, input: Input, nowMs: number): Model {
  switch (input.from) {
    case "server":
      return fromServer(model, input.message, nowMs);
    case "worker":
      return fromWorker(model, input.message, nowMs);
    case "page":
      return fromPage(model, input.event, nowMs);
  }
}

const newcomer = (participant: Participant): Other => ({
  participant,
  verified: null,
  level: 127,
  link: null,
  apart: false,
  undecodable: null,
});

/** The same presence under the same keys; anything else is somebody else in the same seat. */
export const sameIdentity = (a: Participant, b: Participant): boolean =>
  a.id === b.id && a.identity.sign_key === b.identity.sign_key && a.identity.mac === b.identity.mac;

function fromServer(model: Model, message: ServerMessage, nowMs: number): Model {
  switch (message.type) {
    case "joined": {
      const others = new Map<number, Other>();
      for (const participant of message.participants) {
        if (participant.node === message.node) continue;
        const known = model.others.get(participant.node);
        const same = known !== undefined && sameIdentity(known.participant, participant);
        others.set(participant.node, same ? { ...known, participant } : newcomer(participant));
      }
      const { node: me, policy, never_relay: neverRelay, relays } = message;
      return { ...model, connection: { state: "joined" }, me, policy, neverRelay, relays, others };
    }
    case "entered": {
      const { participant } = message;
      if (participant.node === model.me) return model;
      const others = new Map(model.others);
      const known = others.get(participant.node);
      const same = known !== undefined && sameIdentity(known.participant, participant);
      others.set(participant.node, same ? { ...known, participant } : newcomer(participant));
      return { ...model, others };
    }
    case "left": {
      const others = new Map(model.others);
      const leaver = others.get(message.node);
      if (!leaver) return model;
      others.delete(message.node);
      let next: Model = { ...model, others };
      for (const { stream } of leaver.participant.publications) next = dropStream(next, { node: message.node, stream });
      return next;
    }
    case "connection":
      return withParticipant(model, message.node, (p) => ({ ...p, connected: message.connected }));
    case "presence":
      return withParticipant(model, message.node, (p) => ({ ...p, presence: message.presence }));
    case "published": {
      const { node, publication } = message;
      return withParticipant(model, node, (p) => ({ ...p, publications: publish(p.publications, publication) }));
    }
    case "unpublished": {
      const { stream } = message;
      const left = (p: Participant) => p.publications.filter((one) => one.stream !== stream.stream);
      return withParticipant(dropStream(model, stream), stream.node, (p) => ({ ...p, publications: left(p) }));
    }
    case "trees":
      return { ...model, trees: { epoch: message.epoch, trees: message.trees } };
    case "policy_changed":
      return { ...model, policy: message.policy, neverRelay: message.never_relay };
    case "error":
      return { ...model, refused: { message: message.message, atMs: nowMs } };
    default:
      return model;
  }
}

function publish(publications: readonly Publication[], one: Publication): Publication[] {
  return [...publications.filter(({ stream }) => stream !== one.stream), one].sort((a, b) => a.stream - b.stream);
}

function withOther(model: Model, node: number, change: (other: Other) => Other): Model {
  const other = model.others.get(node);
  return other ? { ...model, others: new Map(model.others).set(node, change(other)) } : model;
}

function withParticipant(model: Model, node: number, change: (participant: Participant) => Participant): Model {
  return withOther(model, node, (other) => ({ ...other, participant: change(other.participant) }));
}

function dropStream(model: Model, stream: StreamRef): Model {
  const flows = new Map(model.flows);
  flows.delete(streamId(stream));
  return { ...model, flows, plan: forgetStream(model.plan, stream) };
}

function fromWorker(model: Model, message: FromWorker, nowMs: number): Model {
  switch (message.type) {
    case "ready": {
      const id = streamId(message.stream);
      const count = model.flows.get(id)?.count ?? 0;
      return { ...model, flows: new Map(model.flows).set(id, { count, movedMs: nowMs, from: message.parent }) };
    }
    case "stats":
      return measured(model, message.stats, nowMs);
    case "levels": {
      let next = model;
      for (const { node, level } of message.levels) {
        if (node === model.me) next = { ...next, sending: { ...next.sending, audioLevel: level } };
        else next = withOther(next, node, (other) => ({ ...other, level }));
      }
      const levels = new Map([...next.others].map(([node, { level }]) => [node, level]));
      return { ...next, speakers: stepSpeakers(next.speakers, levels, nowMs) };
    }
    case "encoding": {
      if (message.stream !== 0) return model;
      const layers = message.layers.map(({ width, height, bps }) => ({ width, height, bps }));
      const uplinkFull = message.reason === "uplink";
      return { ...model, uplinkFull, sending: { ...model.sending, layers } };
    }
    case "encoder_failed":
      return { ...model, encoderFailed: { ...model.encoderFailed, [message.track]: message.message } };
    case "undecodable":
      return withOther(model, message.node, (other) => {
        const recent =
          other.undecodable && nowMs - other.undecodable.atMs < UNDECODABLE_MS ? other.undecodable.frames : 0;
        return { ...other, undecodable: { frames: recent + message.frames, atMs: nowMs } };
      });
    case "fault":
      return { ...model, fault: { message: message.message, atMs: nowMs } };
    default:
      return model;
  }
}

/** A newcomer's first undecodable frames are no news; a lasting trouble is. */
export const cannotOpen = (other: Other, nowMs: number): boolean =>
  other.undecodable !== null &&
  other.undecodable.frames >= UNDECODABLE_TOLD &&
  nowMs - other.undecodable.atMs < UNDECODABLE_MS;

function measured(model: Model, stats: WorkerStats, nowMs: number): Model {
  const flows = new Map(model.flows);
  for (const one of stats.incoming) {
    const id = streamId(one.stream);
    const count = one.framesReceived + one.audioPackets;
    const before = flows.get(id);
    if (before && before.count === count) continue;
    if (before || count > 0) flows.set(id, { count, movedMs: nowMs, from: before?.from ?? null });
  }
  const passedOn = stats.outgoing.filter(({ stream }) => stream.node !== model.me);
  const forwarding = {
    people: new Set(passedOn.map(({ child }) => child).filter((child) => !isRelay(child))).size,
    bps: passedOn.reduce((sum, { bps }) => sum + bps, 0),
  };
  const levels = new Map([...model.others].map(([node, { level }]) => [node, level]));
  return {
    ...model,
    flows,
    stats: [...model.stats, stats].slice(-(WINDOW + 1)),
    sending: { ...model.sending, forwarding },
    speakers: stepSpeakers(model.speakers, levels, nowMs),
  };
}

function fromPage(model: Model, event: PageEvent, nowMs: number): Model {
  switch (event.type) {
    case "connection":
      return { ...model, connection: event.connection };
    case "verified":
      return withOther(model, event.node, (other) =>
        other.participant.id === event.id ? { ...other, verified: event.verified } : other,
      );
    case "chat_line":
      return { ...model, chat: withLine(model, event.line, event.text) };
    case "chat_sent": {
      const { id, text, body, name } = event;
      const line = { id, node: model.me ?? 0, name, mine: true, atMs: nowMs, text, delivered: false, body };
      return { ...model, chat: [...model.chat, line] };
    }
    case "plan":
      return { ...model, plan: event.plan };
    case "link": {
      if (!isRelay(event.peer)) {
        return withOther(model, event.peer, (other) => ({
          ...other,
          link: event.state,
          apart: stayApart(other, event.state),
        }));
      }
      const relayLinks = new Map(model.relayLinks);
      if (event.state === null) relayLinks.delete(event.peer);
      else relayLinks.set(event.peer, event.state);
      const relayWays = new Map(model.relayWays);
      if (event.state === null || event.way === undefined) relayWays.delete(event.peer);
      else relayWays.set(event.peer, event.way);
      return { ...model, relayLinks, relayWays };
    }
    case "sending": {
      const sending = { ...model.sending, ...event.sending };
      const begins = (device: "camera" | "microphone") => model.sending[device] === "off" && sending[device] !== "off";
      const { audio, video } = model.encoderFailed;
      const encoderFailed = { audio: begins("microphone") ? null : audio, video: begins("camera") ? null : video };
      return { ...model, sending, encoderFailed };
    }
    case "sound":
      return event.sound === model.sound ? model : { ...model, sound: event.sound };
    case "worker_silent":
      return event.silent === model.workerSilent ? model : { ...model, workerSilent: event.silent };
  }
}

function stayApart({ link, apart }: Other, next: LinkState | null): boolean {
  if (next === "never" || (next === null && link === "connecting")) return true;
  return next === "up" ? false : apart;
}

/** Puts a line that the server told, at its time; our own becomes delivered, one that is known already changes nothing. */
function withLine(model: Model, line: ChatLine, text: string | null): readonly ChatRecord[] {
  const known = model.chat.findIndex(({ body }) => body === line.body);
  const mine = line.node === model.me;
  const record: ChatRecord = {
    id: `${line.node}-${line.at_ms}-${line.body.slice(0, 12)}`,
    node: line.node,
    name: line.name,
    mine,
    atMs: line.at_ms,
    text,
    delivered: true,
    body: line.body,
  };
  if (known === -1) return [...model.chat.slice(-(MOST_LINES - 1)), record];
  const old = model.chat[known] as ChatRecord;
  if (old.delivered) return model.chat;
  return model.chat.with(known, { ...old, atMs: line.at_ms, delivered: true });
}
