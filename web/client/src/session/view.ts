/** From what is known (`state.ts`) to what people are shown: streams, quality and notices, in words. Pure. */
import type { Notice, Person, PersonStream, Quality, RoomState } from "../api.ts";
import type { RelayWay } from "../link/relay-links.ts";
import type { Publication, StreamRef } from "../signal/messages.ts";
import { isRelay } from "../signal/relays.ts";
import { streamId } from "./plan.ts";
import { type Arrival, arrival, type Level, LOST_MS, levelOf, qualityWords } from "./quality.ts";
import { cannotOpen, type Model, type Other } from "./state.ts";

export function roomState(model: Model, nowMs: number): RoomState {
  const others = [...model.others.values()];
  const judged = new Map(others.map((other) => [other.participant.node, judge(model, other, nowMs)]));
  const known = [...judged.values()].filter(({ level }) => level !== "unknown");
  const everybody = known.length > 1 && known.every(({ level }) => level !== "good");
  return {
    connection: model.connection,
    me: model.me,
    policy: model.policy,
    neverRelay: model.neverRelay,
    relays: model.relays,
    others: others.map((other) => person(model, other, judged.get(other.participant.node) as Judged, everybody, nowMs)),
    chat: model.chat,
    notices: notices(model, others, nowMs),
    trees: model.trees,
    activeSpeaker: model.speakers.active,
    sending: model.sending,
    stats: model.stats.at(-1) ?? null,
  };
}

function person(model: Model, other: Other, judged: Judged, everybody: boolean, nowMs: number): Person {
  const { node, name, presence, connected, publications } = other.participant;
  const through = judged.parent !== null && judged.parent !== node ? nameOf(model, judged.parent) : null;
  const quality: Quality = {
    level: judged.level,
    words: qualityWords({ name, level: judged.level, loss: judged.loss, everybody, through }),
  };
  return {
    node,
    name,
    presence,
    verified: other.verified !== false,
    connected,
    streams: publications.map((publication) => personStream(model, other, publication, nowMs)),
    audioLevel: other.level,
    quality,
    way: way(model, other),
  };
}

function nameOf(model: Model, node: number): string {
  if (isRelay(node)) return "the server";
  return model.others.get(node)?.participant.name ?? "somebody who has left";
}

/** How somebody's streams come here, and why not directly. */
function way(model: Model, other: Other): string | null {
  const { node, name, publications } = other.participant;
  const from = publications.map(({ stream }) => model.flows.get(streamId({ node, stream }))?.from ?? null);
  const standIn = model.stats.at(-1)?.incoming.find(({ stream, backup }) => stream.node === node && backup !== null);
  if (standIn && standIn.backup !== null && standIn.parent !== null) {
    const instead = `, because nothing comes ${standIn.parent === node ? "directly" : `from ${nameOf(model, standIn.parent)}`}`;
    if (standIn.backup === node) return `You reach ${name} directly for the moment${instead}.`;
    return `You reach ${name} through ${nameOf(model, standIn.backup)} for the moment${instead}.`;
  }
  const by = from.find((one) => one !== null);
  if (by === undefined || by === null) return null;
  if (by === node) return `You reach ${name} directly.`;
  if (!isRelay(by)) return `You reach ${name} through ${nameOf(model, by)}, who passes it on.`;
  return `You reach ${name} through the server, because ${whyRelay(model, other)}.${relayWay(model, by)}`;
}

const WHY_NO_RTP: Readonly<Record<Exclude<RelayWay, "rtp">, string>> = {
  blocked: "Your network lets no media connection (UDP) through to it",
  unoffered: "The server takes no media connection (UDP) at present",
  unsupported: "This browser cannot make a media connection (UDP) to it",
};

/** By which way the server itself is reached, where that is not the good one. */
function relayWay(model: Model, relay: number): string {
  const way = model.relayWays.get(relay);
  if (model.relayLinks.get(relay) !== "up" || way === undefined || way === "rtp") return "";
  return ` ${WHY_NO_RTP[way]}, so all of it comes over an ordinary web connection, which stutters more when the network is bad.`;
}

function whyRelay(model: Model, other: Other): string {
  if (model.policy.kind === "relay") return "this room sends everything through it";
  if (other.apart) return "no direct connection between you came up";
  return "nobody here has enough upload to spare for it";
}

function personStream(model: Model, other: Other, publication: Publication, nowMs: number): PersonStream {
  const ref = { node: other.participant.node, stream: publication.stream };
  const largest = publication.layers.at(-1);
  return {
    ref,
    kind: publication.kind,
    audio: publication.audio_bps !== null,
    video: publication.layers.length > 0,
    ...streamState(model, other, ref, publication, nowMs),
    width: largest?.width ?? 0,
    height: largest?.height ?? 0,
  };
}

function streamState(
  model: Model,
  other: Other,
  ref: StreamRef,
  publication: Publication,
  nowMs: number,
): Pick<PersonStream, "state" | "why"> {
  const edge = model.plan.parents.get(streamId(ref));
  const name = other.participant.name;
  if (edge?.parent === null && edge.reason === "no_capacity") {
    return {
      state: "unserved",
      why: model.neverRelay
        ? `Nobody has upload to spare to bring ${name} to you, and in this room the server must not help. If somebody turns off a camera, it starts by itself.`
        : `Nobody has upload to spare to bring ${name} to you. If somebody turns off a camera, it starts by itself.`,
    };
  }
  if (edge?.parent === null && edge.reason === "unreachable") {
    return {
      state: "unserved",
      why: model.neverRelay
        ? `No way from ${name} to you was found: neither directly nor through anybody else, and in this room the server must not help.`
        : `No way from ${name} to you was found: neither directly nor through anybody else in the room.`,
    };
  }
  const flow = model.flows.get(streamId(ref));
  if (!flow) return { state: "waiting", why: null };
  // A muted microphone without a camera has nothing to send.
  const quiet = publication.layers.length === 0 && !other.participant.presence.microphone;
  if (quiet || nowMs - flow.movedMs < LOST_MS) return { state: "live", why: null };
  return { state: "lost", why: `Nothing has come from ${name} for a while. Another way is being looked for.` };
}

interface Judged extends Arrival {
  level: Level;
  parent: number | null;
}

/** The quality of the worst of somebody's streams. */
function judge(model: Model, other: Other, nowMs: number): Judged {
  let worst: Judged = { level: "unknown", loss: 0, rate: null, parent: null };
  const ranks: Level[] = ["unknown", "good", "fair", "poor", "lost"];
  const [first, last] = [model.stats[0], model.stats.at(-1)];
  for (const publication of other.participant.publications) {
    const ref = { node: other.participant.node, stream: publication.stream };
    const id = streamId(ref);
    const before = first?.incoming.find(({ stream }) => streamId(stream) === id);
    const now = last?.incoming.find(({ stream }) => streamId(stream) === id);
    let judged: Judged | null = null;
    const { state } = streamState(model, other, ref, publication, nowMs);
    if (state === "lost") {
      judged = { level: "lost", loss: 1, rate: 0, parent: now?.parent ?? null };
    } else if (state === "live" && before && now && first !== last) {
      const audio = other.participant.presence.microphone ? (publication.audio_bps ?? 0) : 0;
      const video = now.layer === null ? 0 : (publication.layers[now.layer]?.bps ?? 0);
      const seen = arrival(before, now, audio + video);
      judged = { ...seen, level: levelOf(seen), parent: now.parent };
    }
    if (judged && ranks.indexOf(judged.level) > ranks.indexOf(worst.level)) worst = judged;
  }
  return worst;
}

/** The server's refusal of something is shown for this long. */
const REFUSED_MS = 10_000;
/** ... and a fault of the media worker for this long. */
const FAULT_MS = 5_000;
const ORDER = { bad: 0, warn: 1, info: 2 } as const;

/** What becomes of two people who cannot connect: the end of a sentence, and what to do. */
function unreachableWords({ neverRelay, relays }: Model): string {
  const others = "You see and hear each other only if somebody else in the room can pass it on";
  if (neverRelay) {
    return `, and this room forbids the server's help. ${others}. Allowing it, under Trees, brings you together at once; pictures and sound stay sealed on the way.`;
  }
  if (relays.length > 0) return ". The server is being asked to pass on what you send each other.";
  return `, and this server has no relay to help out. ${others}; another network, such as a phone's, often works.`;
}

function notices(model: Model, others: readonly Other[], nowMs: number): Notice[] {
  const list: Notice[] = [];
  const add = (severity: Notice["severity"], id: string, text: string) => list.push({ id, severity, text });

  if (model.workerSilent) {
    add("bad", "media", "Pictures and sound have stopped in this page. Reload it to go on.");
  } else if (model.fault && nowMs - model.fault.atMs < FAULT_MS) {
    add(
      "warn",
      "fault",
      "Something went wrong in this page, and pictures or sound may be missing. If this stays, reload the page.",
    );
  }
  const wrong = others.filter(({ verified }) => verified === false);
  if (wrong.length > 0 && wrong.length === others.length) {
    add(
      "bad",
      "secret",
      "The link you opened does not fit this room: the part behind # is missing or damaged. You can neither see nor hear anybody. Ask for the link again and open it as it was sent.",
    );
  } else {
    for (const { participant } of wrong) {
      add(
        "warn",
        `unverified:${participant.node}`,
        `${participant.name} has opened a link that does not fit this room, and can neither see nor hear you. Send ${participant.name} the link again.`,
      );
    }
  }
  for (const other of others) {
    const { node, name, publications } = other.participant;
    if (other.link === "refused") {
      add(
        "bad",
        `signature:${node}`,
        `The direct connection to ${name} was refused, because what arrived for it was not signed by ${name}. The server, or somebody between you and it, may have changed it.`,
      );
    }
    if (other.verified !== true) continue;
    const served = publications.every((one) => {
      const { state } = streamState(model, other, { node, stream: one.stream }, one, nowMs);
      return state === "live";
    });
    const unreachable = publications.some(
      ({ stream }) => model.plan.parents.get(streamId({ node, stream }))?.reason === "unreachable",
    );
    const cut = other.link === "never" || (other.apart && unreachable);
    if (cut && !(served && publications.length > 0)) {
      add(
        model.relays.length > 0 && !model.neverRelay ? "info" : "bad",
        `unreachable:${node}`,
        `Your network and ${name}'s cannot connect directly${unreachableWords(model)}`,
      );
    }
    if (cannotOpen(other, nowMs)) {
      add(
        "warn",
        `undecodable:${node}`,
        `What arrives from ${name} cannot be opened. If it does not pass, ${name} should leave and join again.`,
      );
    }
  }
  const all = others.flatMap((other) =>
    other.participant.publications.map((one) =>
      streamState(model, other, { node: other.participant.node, stream: one.stream }, one, nowMs),
    ),
  );
  if ([...model.relayLinks.values()].includes("never") && all.some(({ state }) => state !== "live")) {
    add(
      "bad",
      "relay",
      "The connection by which the server would pass on pictures and sound does not come up, although the server answers. A proxy or a filter on the way may stop it; another network often works.",
    );
  }
  if (model.encoderFailed.audio !== null) {
    add(
      "warn",
      "encoder:audio",
      "This browser could not send your sound, so the microphone was turned off. Turn it on to try again; if that does not help, reload the page.",
    );
  }
  if (model.encoderFailed.video !== null) {
    add(
      "warn",
      "encoder:video",
      "This browser could not send your picture, so the camera was turned off. Turn it on to try again; another camera may work.",
    );
  }
  if (model.uplinkFull && model.sending.camera === "on") {
    add(
      "warn",
      "uplink",
      "Your upload is narrow at present, so the others see you less sharply. Turning off your camera would help the sound.",
    );
  }
  if (model.refused && nowMs - model.refused.atMs < REFUSED_MS) add("warn", "refused", model.refused.message);
  if (model.sound === "held") {
    add(
      "info",
      "sound",
      "The browser holds the sound back until you click in the page. If this stays, check that this device has a loudspeaker.",
    );
  } else if (model.sound === "failed") {
    add(
      "bad",
      "sound_failed",
      "Sound did not start in this page: you cannot hear the others, nor they you. Reload the page; if that does not help, restart the browser.",
    );
  }
  return list.sort((a, b) => ORDER[a.severity] - ORDER[b.severity]);
}
