/**
 * One presence in one room, without its media: the conversation with the server, identities and keys, links, and the
 * state that all of it adds up to. Decisions are in pure modules (`state`, `plan`, `distribution`); this one awaits and
 * obeys.
 *
 * Order of things on `joined`: members are entered (their identities are checked meanwhile), the worker is told its
 * node, orders are applied, and what the server has to know of us is stated. The same is done after every break, so
 * nothing else needs to survive one.
 */
import type { Connection, OrderLog } from "../api.ts";
import { toBase64url } from "../frame/bytes.ts";
import { makeIdentity, type OwnIdentity, openChat, type RoomKeys, roomKeys, sealChat } from "../frame/keys.ts";
import { Links } from "../link/links.ts";
import { RelayLinks } from "../link/relay-links.ts";
import { hasRtp, RelayRtp, type RtpNews } from "../link/relay-rtp.ts";
import {
  type Capabilities,
  type ClientMessage,
  type Joined,
  type Participant,
  type Presence,
  type Publication,
  type ServerMessage,
  VERSION,
} from "../signal/messages.ts";
import { isRelay, relayUrl } from "../signal/relays.ts";
import { type Down, Signal } from "../signal/socket.ts";
import type { FromWorker, ToWorker, TransformOptions } from "../worker/messages.ts";
import { Distribution } from "./distribution.ts";
import { Members } from "./members.ts";
import { applyOrders } from "./plan.ts";
import { type OwnMedia, RelayFeeds, type Situation } from "./relay-feeds.ts";
import { reportOf } from "./report.ts";
import { deliveries, emptyModel, type Input, type Model, type PageEvent, reduce, sameIdentity } from "./state.ts";
import { START_BPS, Uplink } from "./uplink.ts";
import { Device } from "./willing.ts";

/** Attempts to join for the first time before the person is told that it does not work: about 20 s. */
const FIRST_ATTEMPTS = 6;
/** A leaver forwards for this long at most: the server moves its children well within that. */
const LINGER_MS = 1_500;
const LEFT = "You have left the room.";
/** Orders kept for diagnosis. */
const MOST_ORDERS = 2_000;

export interface SessionOptions {
  signalUrl: string;
  room: string;
  secret: string;
  name: string;
  capabilities: Capabilities;
  uplinkBps?: number;
}

/** What a session tells its owner. */
export interface SessionEvents {
  /** `session.model` is another one. */
  changed(): void;
  /** In the room for the first time: the worker needs its `init`. */
  joined(node: number): void;
  /** In the room again after a break. */
  rejoined(): void;
  /** To the media worker. */
  toWorker(message: ToWorker, transfer?: Transferable[]): void;
  /** An encoded transform that runs in the media worker. */
  transform(options: TransformOptions): RTCRtpScriptTransform;
  /** It is over. Told once. */
  ended(): void;
}

type EndCode = Extract<Connection, { state: "ended" }>["code"];

export class Session {
  model: Model = emptyModel;
  readonly orders: { epoch: number; order: OrderLog[number]["order"] }[] = [];
  readonly #options: SessionOptions;
  readonly #events: SessionEvents;
  readonly #id = toBase64url(crypto.getRandomValues(new Uint8Array(12)));
  readonly #links: Links;
  readonly #relays: RelayLinks<RelayRtp>;
  readonly #distribution = new Distribution();
  readonly #publications = new Map<number, Publication>();
  readonly #feeds: RelayFeeds;
  #presence: Presence = { microphone: false, camera: false, hand: false };
  #signal: Signal | null = null;
  #keys: RoomKeys | null = null;
  #own: OwnIdentity | null = null;
  #members: Members | null = null;
  #resume: string | null = null;
  #joined = false;
  /** Every identity that was in the room when we came has been checked. */
  #entrance: Promise<unknown> = Promise.resolve();
  /** Lines open one after another, so that they stay in order. */
  #chat: Promise<void> = Promise.resolve();
  #keyTimer: ReturnType<typeof setTimeout> | undefined;
  #watchTrees = false;
  readonly #uplink = new Uplink();
  readonly #device = new Device();
  #lines = 0;
  /** Left, and forwarding until the server has replaced us. */
  #lingering: ReturnType<typeof setTimeout> | undefined;
  #over = false;

  constructor(options: SessionOptions, events: SessionEvents) {
    this.#options = options;
    this.#events = events;
    this.#links = new Links({
      describe: (to, kind, sdp, signature) => this.send({ type: "description", to, kind, sdp, signature }),
      candidate: (to, { candidate, mid }) => this.send({ type: "candidate", to, candidate, mid }),
      sign: async (peer, kind, sdp) => (await this.#members?.sign(peer, kind, sdp)) ?? null,
      verify: async (peer, kind, sdp, signature) => (await this.#members?.verify(peer, kind, sdp, signature)) ?? false,
      trusted: async (peer) => (await this.#members?.trusted(peer)) ?? false,
      opened: (peer, { video, audio, control }) =>
        events.toWorker({ type: "open_link", peer, video, audio, control }, [
          video as unknown as Transferable,
          audio as unknown as Transferable,
          control as unknown as Transferable,
        ]),
      closed: (peer) => events.toWorker({ type: "close_link", peer }),
      lost: (peer, why) => this.send({ type: "lost", peer, why }),
      state: (peer, state) => this.#page({ type: "link", peer, state }),
    });
    this.#feeds = new RelayFeeds((message) => events.toWorker(message));
    this.#relays = new RelayLinks(relayUrl(options.signalUrl), {
      hasRtp: hasRtp(),
      rtp: (peer, token, news) => this.#openRtp(peer, token, news),
      open: (peer, door) => events.toWorker({ type: "open_relay", peer, ...door }),
      closed: (peer) => events.toWorker({ type: "close_link", peer }),
      lost: (peer, why) => this.send({ type: "lost", peer, why }),
      state: (peer, state, way) => {
        this.#page({ type: "link", peer, state, way });
        this.#feedRelays();
      },
      now: () => performance.now(),
      later: (delayMs, then) => void setTimeout(() => this.#over || then(), delayMs),
      random: Math.random,
    });
    void this.#start();
  }

  /** False when we are not in the room at present; then it must be stated again after `joined`. */
  send(message: ClientMessage): boolean {
    return this.#joined && (this.#signal?.send(message) ?? false);
  }

  /** Left, or ended otherwise: nothing of ours is sent any more, though others' streams may be for a moment. */
  get gone(): boolean {
    return this.#over || this.#lingering !== undefined;
  }

  /** Takes something in; `changed` follows. */
  dispatch(input: Input): void {
    if (this.#over) return;
    const next = reduce(this.model, input, Date.now());
    if (next === this.model) return;
    this.model = next;
    this.#events.changed();
  }

  publish(publication: Publication): void {
    const before = this.#publications.get(publication.stream);
    if (before && JSON.stringify(before) === JSON.stringify(publication)) return;
    this.#publications.set(publication.stream, publication);
    this.send({ type: "publish", publication });
  }

  unpublish(stream: number): void {
    if (this.#publications.delete(stream)) this.send({ type: "unpublish", stream });
  }

  /** What a stream of ours consists of, whether or not a link encodes it at present; null: nothing. */
  setMedia(stream: number, media: OwnMedia | null): void {
    this.#feeds.set(stream, media);
    this.#feedRelays();
  }

  setPresence(change: Partial<Presence>): void {
    const presence = { ...this.#presence, ...change };
    if (JSON.stringify(presence) === JSON.stringify(this.#presence)) return;
    this.#presence = presence;
    this.send({ type: "presence", presence });
  }

  /** Whether other people's streams may pass through here. Those that do are moved first. */
  setPassesOn(passesOn: boolean): void {
    if (passesOn === this.model.sending.passesOn) return;
    this.#page({ type: "sending", sending: { passesOn } });
    this.#report();
  }

  watchTrees(watch: boolean): void {
    this.#watchTrees = watch;
    this.send({ type: "trees", watch });
  }

  /** Shown at once; delivered when the server returns it. */
  async sendChat(text: string): Promise<void> {
    const node = this.model.me;
    if (!this.#keys || node === null || text === "") return;
    const body = await sealChat(this.#keys, node, text);
    this.#lines += 1;
    this.#page({ type: "chat_sent", id: `own-${this.#lines}`, text, body, name: this.#options.name });
    this.send({ type: "chat", body });
  }

  /** What the worker says, as far as it is not about capturing. */
  handleWorker(message: FromWorker): void {
    this.dispatch({ from: "worker", message });
    switch (message.type) {
      case "own_key":
        void this.#entrance.then(() => {
          this.#distribution.handleOwnKey(message.generation, message.key, Date.now());
          this.#distribute();
        });
        break;
      case "ready":
        this.send({ type: "ready", stream: message.stream, parent: message.parent });
        break;
      case "silent":
        if (isRelay(message.peer)) this.#relays.silent(message.peer, Date.now());
        else this.#links.silent(message.peer, Date.now());
        break;
      case "relay":
        this.#relays.news(message.peer, message.token, message.news);
        break;
      case "slots":
        this.#relays.slots(message.peer, message.pairs);
        break;
      case "rtp_key_frame":
        this.#feeds.keyFrame(message.stream, this.#situation());
        break;
      case "encoding": {
        const sent = this.model.stats.at(-1)?.links.reduce((sum, link) => sum + link.sentBps, 0) ?? 0;
        if (message.reason === "uplink") this.#uplink.handleTrouble(sent, performance.now());
        break;
      }
      case "stats":
        this.#uplink.handleLinks(message.stats.links, performance.now());
        this.#report();
        break;
    }
  }

  /**
   * Leaves politely. Whoever forwards other people's streams goes on with that for a moment, until the server has found
   * others to do it and closes the connection; `ended` follows then. Idempotent.
   */
  close(): void {
    if (this.#over || this.#lingering) return;
    const forwards = [...this.model.plan.feeds.values()].some(({ stream }) => stream.node !== this.model.me);
    if (!forwards || !this.send({ type: "leave" })) {
      this.#end("left", LEFT);
      return;
    }
    this.#page({ type: "connection", connection: { state: "ended", code: "left", message: LEFT } });
    this.#lingering = setTimeout(() => this.#end("left", LEFT), LINGER_MS);
  }

  /** It cannot go on, for this reason. */
  fail(code: EndCode, message: string): void {
    this.#end(code, message);
  }

  #page(event: PageEvent): void {
    this.dispatch({ from: "page", event });
  }

  async #start(): Promise<void> {
    const { room, secret, signalUrl } = this.#options;
    this.#keys = await roomKeys(room, secret);
    if (!this.#keys) {
      this.#end(
        "bad_field",
        "The link is not complete: the part behind # is missing or damaged. Ask for the link again and open it as it was sent.",
      );
      return;
    }
    try {
      this.#own = await makeIdentity(this.#keys, this.#id);
    } catch {
      this.#end(
        "unsupported",
        "This browser lacks the encryption that rooms need (X25519 and Ed25519). Open the link in a current Chrome, Edge or Firefox.",
      );
      return;
    }
    if (this.#over) return;
    this.#signal = new Signal(signalUrl, {
      onOpen: () => this.#join(),
      onMessage: (message) => this.#handle(message),
      onDown: (down) => this.#down(down),
      onEnd: () => this.#end("lost", "The server could not be reached for ten minutes. Join again when it is back."),
    });
  }

  #join(): void {
    const { room, name, capabilities, uplinkBps } = this.#options;
    if (!this.#own) return;
    this.#signal?.send({
      type: "join",
      version: VERSION,
      room,
      participant: this.#id,
      name,
      identity: this.#own.public,
      capabilities,
      uplink_bps: Math.round(uplinkBps ?? START_BPS),
      ...(this.#resume === null ? {} : { resume: this.#resume }),
    });
  }

  #down(down: Down): void {
    if (this.#lingering) {
      this.#end("left", LEFT);
      return;
    }
    this.#joined = false;
    this.#distribution.handleDown();
    this.#links.setDown(true);
    if (this.model.me === null) {
      if (down.attempt > FIRST_ATTEMPTS) {
        this.#end("lost", "The server cannot be reached. Check your connection and try again.");
      }
      return;
    }
    this.#page({ type: "connection", connection: { state: "reconnecting", ...down } });
  }

  #handle(message: ServerMessage): void {
    if (message.type === "joined") {
      this.#handleJoined(message);
      return;
    }
    if (message.type === "error" && !this.#joined) {
      this.#refused(message.code, message.message);
      return;
    }
    const before = this.model;
    this.dispatch({ from: "server", message });
    switch (message.type) {
      case "entered": {
        const known = before.others.get(message.participant.node)?.participant;
        void this.#enter(message.participant, known);
        break;
      }
      case "left":
        this.#leave(message.node, before.others.get(message.node)?.participant.publications ?? []);
        break;
      case "connection":
        if (!message.connected) break;
        this.#links.renew(message.node);
        this.#distribution.handleMemberBack(message.node);
        this.#distribute();
        break;
      case "unpublished":
        this.#events.toWorker({ type: "forget_stream", stream: message.stream });
        break;
      case "orders":
        this.#obey(message);
        break;
      case "description":
        if (isRelay(message.from)) this.#relays.answer(message.from, message.sdp);
        else this.#links.description(message.from, message.kind, message.sdp, message.signature);
        break;
      case "candidate":
        this.#links.candidate(message.from, { candidate: message.candidate, mid: message.mid });
        break;
      case "mail":
        void this.#mail(message.from, message.body);
        break;
      case "chat":
        this.#openLine(message);
        break;
    }
  }

  #refused(code: Extract<ServerMessage, { type: "error" }>["code"], message: string): void {
    // A server that stops, or is full for a moment, may take us later; anything else stays as it is.
    const later = code === "draining" || (code === "too_many" && this.model.me !== null);
    if (later) this.#signal?.reconnect();
    else this.#end(code, message);
  }

  #handleJoined(joined: { type: "joined" } & Joined): void {
    if (!this.#keys || !this.#own) return;
    const before = this.model;
    if (before.me !== null && before.me !== joined.node) {
      // Our frames' sender number is another one now, and nobody knows the keys of it: only a new start is safe.
      this.#end("lost", "You were away for so long that the room went on without you. Join again.");
      return;
    }
    const first = before.me === null;
    this.#resume = joined.resume;
    this.#joined = true;
    this.#signal?.settled();
    this.dispatch({ from: "server", message: joined });
    this.#members ??= new Members(this.#keys, this.#own, { node: joined.node, id: this.#id });
    this.#links.setIceServers(joined.ice_servers);
    if (first) this.#events.joined(joined.node);

    for (const [node, { participant }] of before.others) {
      if (!this.model.others.has(node)) this.#leave(node, participant.publications);
    }
    const entering = [...this.model.others.values()].map(({ participant }) =>
      this.#enter(participant, before.others.get(participant.node)?.participant, false),
    );
    this.#entrance = Promise.all(entering).then(() => {
      const verified = [...this.model.others.values()].filter((other) => other.verified === true);
      this.#distribution.handleUp(
        verified.map(({ participant }) => participant.node),
        Date.now(),
      );
      this.#distribute();
    });

    this.#links.setDown(false);
    this.#relays.renew();
    this.#obey(joined.orders);
    for (const line of joined.chat) this.#openLine(line);
    this.#restate(joined.participants.find(({ node }) => node === joined.node));
    // Said once by the worker, perhaps while the server was away; our children wait for it.
    for (const { stream, parent } of deliveries(this.model)) this.send({ type: "ready", stream, parent });
    if (!first) this.#events.rejoined();
  }

  /** What the server has to know of us, as far as it may not. */
  #restate(known: Participant | undefined): void {
    for (const { stream } of known?.publications ?? []) {
      if (!this.#publications.has(stream)) this.send({ type: "unpublish", stream });
    }
    for (const publication of this.#publications.values()) this.send({ type: "publish", publication });
    this.send({ type: "presence", presence: this.#presence });
    if (this.#watchTrees) this.send({ type: "trees", watch: true });
    this.#report();
    void this.#chat.then(() => {
      for (const { delivered, body } of this.model.chat) if (!delivered) this.send({ type: "chat", body });
    });
  }

  /** Checks who somebody is. `count`: a newcomer gets our key; not so for those who are counted by `handleUp`. */
  async #enter(participant: Participant, known: Participant | undefined, count = true): Promise<void> {
    const { node, id } = participant;
    if (known && sameIdentity(known, participant)) return;
    if (known) {
      this.#links.unlink(node);
      this.#leave(node, known.publications);
    }
    const verified = await this.#members?.enter(participant);
    if (verified == null || this.#over) return;
    this.#page({ type: "verified", node, id, verified });
    if (!verified) return;
    for (const body of this.#members?.takeEarly(node, Date.now()) ?? []) void this.#mail(node, body);
    if (!count) return;
    // Not ahead of those who were here before: they get the first key together.
    await this.#entrance;
    if (!this.model.others.has(node)) return;
    this.#distribution.handleEntered(node, Date.now());
    this.#distribute();
  }

  /** Somebody is gone. The link stays until it is ordered away: a leaver goes on forwarding until it is replaced. */
  #leave(node: number, publications: readonly Publication[]): void {
    for (const { stream } of publications) {
      this.#events.toWorker({ type: "forget_stream", stream: { node, stream } });
    }
    this.#members?.leave(node);
    this.#events.toWorker({ type: "forget_sender", node });
    this.#distribution.handleLeft(node, Date.now());
    this.#distribute();
  }

  #obey(orders: Joined["orders"]): void {
    for (const order of orders.changes) this.orders.push({ epoch: orders.epoch, order });
    this.orders.splice(0, Math.max(0, this.orders.length - MOST_ORDERS));
    const { plan, steps } = applyOrders(this.model.plan, orders);
    this.#page({ type: "plan", plan });
    for (const step of steps) {
      if (step.do === "link" && step.relay) this.#relays.order(step.peer, step.relay);
      else if (step.do === "link") this.#links.order(step.peer, step.offer);
      else if (step.do === "unlink" && isRelay(step.peer)) this.#relays.unlink(step.peer);
      else if (step.do === "unlink") this.#links.unlink(step.peer);
      else this.#events.toWorker(step.message);
    }
    this.#feedRelays();
  }

  #openRtp(peer: number, token: string, news: (news: RtpNews) => void): RelayRtp {
    const rtp = new RelayRtp(peer, token, this.#feeds.streams, {
      offer: (sdp) => this.send({ type: "description", to: peer, kind: "offer", sdp, signature: "" }),
      transform: (options) => this.#events.transform(options),
      news,
    });
    const { control } = rtp;
    this.#events.toWorker({ type: "open_rtp", peer, token, control }, [control as unknown as Transferable]);
    return rtp;
  }

  #feedRelays(): void {
    if (!this.#over) this.#feeds.settle(this.#situation());
  }

  #situation(): Situation {
    const { me, plan } = this.model;
    return {
      me,
      plan,
      links: this.#relays.up,
      uplink: this.#options.uplinkBps ?? (this.#uplink.narrow ? this.#uplink.bps : null),
    };
  }

  async #mail(from: number, body: string): Promise<void> {
    if (!this.#members || this.#members.keepEarly(from, body, Date.now())) return;
    const key = await this.#members.open(from, body);
    if (!key || !this.model.others.has(from) || this.#over) return;
    this.#events.toWorker({ type: "sender_key", node: from, generation: key.generation, key: key.key });
  }

  /** Does what the distribution of our keys asks for, and wakes it when it is time. */
  #distribute(): void {
    for (const action of this.#distribution.pollActions()) {
      if (action.do === "mail") for (const node of action.to) void this.#mailKey(node, action.generation, action.key);
      else if (action.do === "use") this.#events.toWorker({ type: "use_key", generation: action.generation });
      else this.#events.toWorker({ type: action.do });
    }
    clearTimeout(this.#keyTimer);
    const deadlineMs = this.#distribution.deadlineMs;
    if (deadlineMs === null || this.#over) return;
    this.#keyTimer = setTimeout(
      () => {
        this.#distribution.handleTime(Date.now());
        this.#distribute();
      },
      Math.max(0, deadlineMs - Date.now()),
    );
  }

  async #mailKey(to: number, generation: number, key: Uint8Array): Promise<void> {
    const body = await this.#members?.seal(to, { generation, key: new Uint8Array(key) });
    if (body) this.send({ type: "mail", to, body });
  }

  #openLine(line: Joined["chat"][number]): void {
    const keys = this.#keys;
    if (!keys) return;
    this.#chat = this.#chat.then(async () => {
      const text = await openChat(keys, line.node, line.body);
      this.#page({ type: "chat_line", line, text });
    });
  }

  #report(): void {
    if (this.gone) return;
    const stats = this.model.stats.at(-1) ?? { links: [], incoming: [] };
    const uplink = this.#options.uplinkBps ?? this.#uplink.bps;
    const will = { ...this.#device.read(), passes_on: this.model.sending.passesOn };
    this.send({ type: "report", ...reportOf(stats, uplink, will) });
  }

  #end(code: EndCode, message: string): void {
    if (this.#over) return;
    clearTimeout(this.#lingering);
    if (!this.#lingering) this.send({ type: "leave" });
    this.#page({ type: "connection", connection: { state: "ended", code, message } });
    this.#over = true;
    this.#joined = false;
    clearTimeout(this.#keyTimer);
    this.#links.close();
    this.#relays.close();
    this.#signal?.close();
    this.#events.ended();
  }
}
