/**
 * Bad networks between real browsers on one machine, in user space: each page learns of its peers only addresses of ours,
 * where what it sends is lost, delayed and squeezed before it is passed on. Conditions belong to directed pairs of names
 * and can change while a call runs.
 *
 * One UDP socket stands for each address that a browser has. A packet that `x` sends to the socket standing for `y` goes
 * on to `y` from the socket standing for `x`, so both ends see a peer at one address and ICE notices nothing. Addresses
 * reach us through an init script that wraps `addIceCandidate`; candidates inside descriptions are left out there, since
 * each comes by itself as well. Candidates that hide their address (pages without camera and microphone) are refused.
 *
 * The relay is behind it too, by the name {@link SERVER}: its candidates stand in its answers only, which are known by
 * `ice-lite`. Since it has one address for all, each page is told sockets of its own for it.
 *
 * Only addresses of this machine are ever sent to. Everything ends with {@link Emulator.close}.
 */
import { createSocket, type Socket } from "node:dgram";
import { networkInterfaces } from "node:os";
import type { Page } from "puppeteer-core";
import { type Conditions, Impairment, type Passed } from "./impairment.ts";

/** The relay's name among those of pages. */
export const SERVER = "the server";

/** One per peer connection and interface; far more than a test opens. */
const MOST_SOCKETS = 256;
/** Packets on their way in one direction; a second at 10 Mbit/s. */
const MOST_WAITING = 1000;
/** Bytes of packets kept by {@link Emulator.record}; a minute of a call of two. */
const MOST_RECORDED = 32_000_000;

/** One UDP packet as a browser sent it. */
export interface Packet {
  /** The names given to {@link Emulator.prepare}. */
  from: string;
  to: string;
  bytes: Buffer;
}

interface Endpoint {
  address: string;
  port: number;
  socket: Socket;
  /** The page that was told of this address, or the relay: the only one that sends to it. */
  viewer: string | null;
  /** The page that has this address, where the relay is the one that sends to it. */
  owner: string | null;
}

/** One direction between two names: what it does, and what is on its way. */
class Direction {
  readonly impairment: Impairment;
  readonly #waiting: { due: number; send: () => void }[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(conditions: Conditions, seed: number) {
    this.impairment = new Impairment(conditions, seed);
  }

  pass(bytes: number, send: () => void): void {
    const now = performance.now();
    if (this.#waiting.length >= MOST_WAITING) return;
    const due = this.impairment.admit(bytes, now);
    if (due === null) return;
    if (due <= now && this.#waiting.length === 0) {
      send();
      return;
    }
    this.#waiting.push({ due, send });
    this.#timer ??= setTimeout(() => this.#release(), Math.max(0, due - now));
  }

  close(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#waiting.length = 0;
  }

  #release(): void {
    const now = performance.now();
    let first = this.#waiting[0];
    // Timers count whole milliseconds: half of one early is as good as half of one late.
    while (first && first.due <= now + 0.5) {
      this.#waiting.shift();
      first.send();
      first = this.#waiting[0];
    }
    this.#timer = first ? setTimeout(() => this.#release(), Math.max(0, first.due - now)) : null;
  }
}

export class Emulator {
  readonly #seed: number;
  readonly #own = new Set(
    Object.values(networkInterfaces()).flatMap((of) => (of ?? []).map((one) => one.address.toLowerCase())),
  );
  readonly #endpoints = new Map<string, Promise<Endpoint>>();
  readonly #directions = new Map<string, Direction>();
  readonly #conditions = new Map<string, Conditions>();
  #recorded: { from: Endpoint; to: Endpoint; bytes: Buffer }[] | null = null;
  #recordedBytes = 0;
  #closed = false;

  constructor(seed = 1) {
    this.#seed = seed;
  }

  /** What becomes of packets from one page to another, by the names given to {@link prepare}, or {@link SERVER}. */
  set(from: string, to: string, conditions: Conditions): void {
    const name = `${from} > ${to}`;
    this.#conditions.set(name, conditions);
    const direction = this.#directions.get(name);
    if (direction) direction.impairment.conditions = conditions;
  }

  /** The same in both directions. */
  setBoth(one: string, other: string, conditions: Conditions): void {
    this.set(one, other, conditions);
    this.set(other, one, conditions);
  }

  /** Packets from one page to another so far. */
  counts(from: string, to: string): Passed {
    return { ...this.#direction(from, to).impairment.counts };
  }

  /** Keep every packet from now on, until {@link recorded} takes them. */
  record(): void {
    this.#recorded = [];
    this.#recordedBytes = 0;
  }

  /** What was kept, in order; nothing more is. */
  recorded(): Packet[] {
    const packets = this.#recorded ?? [];
    this.#recorded = null;
    if (this.#recordedBytes > MOST_RECORDED) throw new Error("more packets came than are kept");
    // A browser may be answered before the other page has been told of its address: names are known by now.
    return packets.map(({ from, to, bytes }) => ({ from: to.viewer ?? "", to: from.viewer ?? "", bytes }));
  }

  /** Put a page behind the emulator: before it loads. `name` is unique among the pages. */
  async prepare(page: Page, name: string): Promise<void> {
    await page.exposeFunction("groveStandIn", (candidate: string, lite: boolean) =>
      this.#standIn(name, candidate, lite),
    );
    await page.evaluateOnNewDocument(wrapConnections);
  }

  close(): void {
    this.#closed = true;
    for (const direction of this.#directions.values()) direction.close();
    for (const endpoint of this.#endpoints.values()) {
      void endpoint.then(({ socket }) => socket.close()).catch(() => undefined);
    }
    this.#endpoints.clear();
  }

  /** A candidate with our address in place of the peer's; null when it cannot be used. */
  async #standIn(viewer: string, candidate: string, relay: boolean): Promise<string | null> {
    // RFC 8839, section 5.1: foundation, component, transport, priority, address, port, "typ", type.
    const words = candidate.split(" ");
    const [, , transport, , address, port] = words;
    if (transport?.toLowerCase() !== "udp" || !address || !port) return null;
    if (this.#closed || !this.#own.has(address.toLowerCase())) return null;
    const endpoint = await this.#endpoint(address, Number(port), relay ? viewer : null);
    endpoint.viewer = viewer;
    words[4] = endpoint.socket.address().address;
    words[5] = String(endpoint.socket.address().port);
    return words.join(" ");
  }

  /** `only`: the page that alone is told of it. */
  #endpoint(address: string, port: number, only: string | null = null): Promise<Endpoint> {
    const key = nameOf(address, port, only);
    const known = this.#endpoints.get(key);
    if (known) return known;
    const made = this.#bind(address, port, only !== null);
    this.#endpoints.set(key, made);
    return made;
  }

  #bind(address: string, port: number, relay: boolean): Promise<Endpoint> {
    if (this.#endpoints.size >= MOST_SOCKETS) return Promise.reject(new Error("too many addresses for one test"));
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    const endpoint: Endpoint = { address, port, socket, viewer: null, owner: null };
    socket.on("message", (bytes, source) => {
      void this.#carry(endpoint, relay, bytes, source.address, source.port).catch(() => undefined);
    });
    return new Promise((resolve, reject) => {
      socket.once("error", reject);
      socket.bind(0, address, () => {
        socket.off("error", reject);
        // A browser that is gone answers with ICMP errors.
        socket.on("error", () => undefined);
        resolve(endpoint);
      });
    });
  }

  /** A packet for `to`, which is the relay or not, from the address given. */
  async #carry(to: Endpoint, relay: boolean, bytes: Buffer, address: string, port: number): Promise<void> {
    if (this.#closed || !this.#own.has(address.toLowerCase())) return;
    const from = await (this.#endpoints.get(nameOf(address, port, to.owner)) ?? this.#endpoint(address, port));
    if (relay) {
      // The relay learns of the page by this packet.
      from.viewer = SERVER;
      from.owner = to.viewer;
    }
    this.#keep(from, to, bytes);
    // Whoever was told of an address is its peer: the sender is who sees `to`, the receiver who sees `from`. What comes
    // from an address that nobody was told of yet would get around the pair's conditions.
    if (to.viewer === null || from.viewer === null) return;
    const direction = this.#direction(to.viewer, from.viewer);
    direction.pass(bytes.length, () => {
      if (!this.#closed) from.socket.send(bytes, to.port, to.address);
    });
  }

  #keep(from: Endpoint, to: Endpoint, bytes: Buffer): void {
    if (!this.#recorded) return;
    this.#recordedBytes += bytes.length;
    if (this.#recordedBytes <= MOST_RECORDED) this.#recorded.push({ from, to, bytes });
  }

  #direction(from: string, to: string): Direction {
    const name = `${from} > ${to}`;
    let direction = this.#directions.get(name);
    if (!direction) {
      let seed = this.#seed;
      for (const letter of name) seed = (Math.imul(seed, 31) + (letter.codePointAt(0) ?? 0)) >>> 0;
      direction = new Direction(this.#conditions.get(name) ?? {}, seed);
      this.#directions.set(name, direction);
    }
    return direction;
  }
}

const nameOf = (address: string, port: number, only: string | null): string => `${only ?? ""} ${address} ${port}`;

/** Runs in the page ahead of its own scripts. */
function wrapConnections(): void {
  const scope = globalThis as unknown as { groveStandIn(candidate: string, lite: boolean): Promise<string | null> };
  const prototype = RTCPeerConnection.prototype;
  const add = prototype.addIceCandidate as (c?: RTCIceCandidateInit | null) => Promise<void>;
  prototype.addIceCandidate = async function (this: RTCPeerConnection, init?: RTCIceCandidateInit | null) {
    if (!init?.candidate) return add.call(this, init);
    const candidate = await scope.groveStandIn(init.candidate, false);
    if (candidate !== null) await add.call(this, { ...init, candidate });
  } as typeof prototype.addIceCandidate;
  const set = prototype.setRemoteDescription as (d: RTCSessionDescriptionInit) => Promise<void>;
  prototype.setRemoteDescription = async function (this: RTCPeerConnection, description: RTCSessionDescriptionInit) {
    const lines = (description.sdp ?? "").split("\r\n");
    const lite = lines.includes("a=ice-lite");
    const kept: string[] = [];
    for (const line of lines) {
      if (!line.startsWith("a=candidate:")) kept.push(line);
      else if (lite) {
        const candidate = await scope.groveStandIn(line.slice(2), true);
        if (candidate !== null) kept.push(`a=${candidate}`);
      }
    }
    await set.call(this, { type: description.type, sdp: kept.join("\r\n") });
  } as typeof prototype.setRemoteDescription;
}
