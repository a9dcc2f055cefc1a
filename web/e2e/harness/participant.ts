/** One page in a room: opening it, asking it, and what tests look at. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Browser, BrowserContext, Page } from "puppeteer-core";
import type { IncomingStats, OrderLog, Room, RoomState, TraceRecord } from "./client.ts";
import { type GroveServer, RESULTS, type RoomLink } from "./server.ts";
import { Tap } from "./tap.ts";
import { until, within } from "./wait.ts";

export interface OpenOptions {
  camera?: boolean;
  /** A camera of 160x120 at 15 pictures a second, so that ten people fit on two cores. */
  smallCamera?: boolean;
  microphone?: boolean;
  /** bit/s that the page believes it may send. */
  uplink?: number;
  /** Stay in front of the door. */
  preJoin?: boolean;
  width?: number;
  height?: number;
  dark?: boolean;
  /** Runs in the page ahead of its own scripts. */
  before?: () => void;
  /** Runs on the page before it loads anything. */
  prepare?: (page: Page) => Promise<void>;
  /** Look at what leaves through the page's data channels. */
  tap?: boolean;
  /** Open in this context instead of a new one. */
  context?: BrowserContext;
}

export interface ReceiveOptions {
  ms?: number;
  /** False: sound is not waited for. */
  audio?: boolean;
  /** False: pictures are not waited for; sound packets are. */
  video?: boolean;
}

/** The worker's statistics come at this beat; asking more often only takes processor time from the room. */
const STATS_EVERY_MS = 1000;

/** The room as the page holds it. */
interface Scope {
  groveRoom?: Room & { orders?: OrderLog; trace(on: boolean): Promise<TraceRecord[]> };
}

export class Participant {
  readonly name: string;
  readonly page: Page;
  readonly server: GroveServer;
  readonly consoleErrors: string[] = [];
  #tap: Tap | null = null;

  private constructor(name: string, page: Page, server: GroveServer) {
    this.name = name;
    this.page = page;
    this.server = server;
  }

  static async open(
    browser: Browser,
    server: GroveServer,
    link: RoomLink,
    name: string,
    options: OpenOptions = {},
  ): Promise<Participant> {
    const context = options.context ?? (await browser.createBrowserContext());
    const page = await within(20_000, `${name} has a page`, context.newPage());
    const self = new Participant(name, page, server);
    page.on("console", (message) => {
      if (message.type() === "error") self.consoleErrors.push(message.text());
    });
    page.on("pageerror", (error) => self.consoleErrors.push(String(error)));
    await page.setViewport({ width: options.width ?? 640, height: options.height ?? 480 });
    if (options.dark !== undefined) {
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: options.dark ? "dark" : "light" }]);
    }
    if (options.camera !== false)
      await page.evaluateOnNewDocument(ownCamera, nextCamera++, options.smallCamera ?? false);
    if (options.before) await page.evaluateOnNewDocument(options.before);
    if (options.prepare) await options.prepare(page);
    await within(30_000, `${name} loads the page`, page.goto(self.#address(link, options), { waitUntil: "load" }));
    if (!options.preJoin) {
      if (options.tap) self.#tap = await Tap.install(page);
      await self.untilState("is in the room", (state) => state.connection.state === "joined" || state.connection.state);
    }
    return self;
  }

  #address(link: RoomLink, options: OpenOptions): string {
    const query = new URLSearchParams();
    query.set("name", this.name);
    if (!options.preJoin) {
      query.set("join", "1");
      query.set("camera", options.camera === false ? "0" : "1");
      query.set("microphone", options.microphone === false ? "0" : "1");
    }
    if (options.uplink) query.set("uplink", String(options.uplink));
    return `${this.server.url}/r/${link.room}?${query}#${link.secret}`;
  }

  get tap(): Tap {
    if (!this.#tap) throw new Error(`${this.name} was opened without a tap`);
    return this.#tap;
  }

  /** The room's state, or null before there is one. */
  async state(): Promise<RoomState | null> {
    const read = (): RoomState | null => {
      const room = (globalThis as unknown as Scope).groveRoom;
      return room ? (JSON.parse(JSON.stringify(room.state)) as RoomState) : null;
    };
    return within(10_000, `${this.name} tells its state`, this.page.evaluate(read));
  }

  /** Call something on the page's room. */
  async room<A>(act: (room: Room, argument: A) => void, argument: A): Promise<void> {
    const run = `(${act.toString()})(globalThis.groveRoom, ${JSON.stringify(argument ?? null)})`;
    await within(10_000, `${this.name} acts`, this.page.evaluate(run));
  }

  async me(): Promise<number> {
    const me = (await this.state())?.me;
    if (me === undefined || me === null) throw new Error(`${this.name} has no number yet`);
    return me;
  }

  async untilState(
    what: string,
    probe: (state: RoomState) => boolean | string,
    ms = 20_000,
    everyMs = 100,
  ): Promise<void> {
    await until(
      `${this.name} ${what}`,
      async () => {
        const state = await this.state();
        if (!state) return "there is no room in the page";
        const answer = probe(state);
        return answer === true ? true : answer === false ? "no" : answer;
      },
      { ms, everyMs, dump: () => this.dump() },
    );
  }

  /** The statistics of a stream that comes in. */
  async incoming(from: number): Promise<IncomingStats | undefined> {
    return (await this.state())?.stats?.incoming.find((i) => i.stream.node === from && i.stream.stream === 0);
  }

  /** The orders that the page has received. */
  async orders(): Promise<OrderLog> {
    const read = (): OrderLog => (globalThis as unknown as Scope).groveRoom?.orders ?? [];
    return within(5000, `${this.name} tells its orders`, this.page.evaluate(read));
  }

  /** Note the frames that pass from now on, or (`false`) stop and tell them. */
  async trace(on: boolean): Promise<TraceRecord[]> {
    const ask = (wanted: boolean): Promise<TraceRecord[]> | undefined =>
      (globalThis as unknown as Scope).groveRoom?.trace(wanted);
    return (await within(10_000, `${this.name} tells its frames`, this.page.evaluate(ask, on))) ?? [];
  }

  /** Everybody named is decoded and heard: counts rise, and there is sound. */
  async untilReceives(others: readonly number[], options: ReceiveOptions = {}): Promise<void> {
    const decoded = new Map<number, number>();
    const heard = new Set<number>();
    await this.untilState(
      `receives ${others.join(", ")}`,
      (state) => {
        const missing: string[] = [];
        for (const other of others) {
          const stats = state.stats?.incoming.find((i) => i.stream.node === other && i.stream.stream === 0);
          if (!stats) {
            missing.push(`${other}: nothing`);
            continue;
          }
          const first = decoded.get(other) ?? stats.framesDecoded;
          decoded.set(other, first);
          if (stats.audioRms > 0.001) heard.add(other);
          const flows = options.video === false ? stats.audioPackets > 10 : stats.framesDecoded >= first + 10;
          if (!flows) missing.push(`${other}: ${stats.framesDecoded} frames decoded`);
          else if (options.audio !== false && !heard.has(other))
            missing.push(`${other}: silent, ${stats.audioPackets} packets`);
        }
        return missing.length === 0 || missing.join("; ");
      },
      options.ms ?? 30_000,
      STATS_EVERY_MS / 2,
    );
  }

  /**
   * Looks at every tile's picture until each has moved and is not black. Returns the names on those that did, sorted;
   * gives up after 10 s.
   */
  async movingTiles(): Promise<string[]> {
    const first = new Map<string, string>();
    const moving = new Set<string>();
    const start = Date.now();
    let without = 0;
    for (;;) {
      const pictures = await this.#pictures();
      without = pictures.length === 0 ? without + 1 : 0;
      for (const [name, { lit, sum }] of pictures) {
        if (!lit) continue;
        const before = first.get(name) ?? sum;
        first.set(name, before);
        if (sum !== before) moving.add(name);
      }
      const complete = moving.size > 0 && moving.size === pictures.length;
      // Without any canvas in ten looks there is nothing to wait for. Looks, because a busy page may take seconds for one.
      if (complete || without === 10 || Date.now() > start + 10_000) return [...moving].sort();
      await new Promise((done) => setTimeout(done, 200));
    }
  }

  /** Names and pictures of the tiles of others that have a canvas. */
  async #pictures(): Promise<[string, { lit: boolean; sum: string }][]> {
    const look = (): [string, { lit: boolean; sum: string }][] =>
      [...document.querySelectorAll<HTMLElement>("article.tile")].flatMap((tile) => {
        const canvas = tile.querySelector("canvas");
        if (!canvas || canvas.width === 0) return [];
        const probe = document.createElement("canvas");
        probe.width = 32;
        probe.height = 24;
        const context = probe.getContext("2d", { willReadFrequently: true });
        if (!context) return [];
        context.drawImage(canvas, 0, 0, 32, 24);
        const { data } = context.getImageData(0, 0, 32, 24);
        let lit = 0;
        for (let i = 0; i < data.length; i += 4)
          if ((data[i] ?? 0) + (data[i + 1] ?? 0) + (data[i + 2] ?? 0) > 60) lit += 1;
        const name = (tile.getAttribute("aria-label") ?? "").split(",")[0] ?? "";
        return [[name, { lit: lit > 100, sum: [...data].join(",") }]];
      });
    return within(10_000, `${this.name} shows its tiles`, this.page.evaluate(look));
  }

  /** Press one of the buttons below the call. */
  async press(label: string): Promise<void> {
    const click = (name: string): void => {
      const words = (button: HTMLButtonElement): string =>
        button.getAttribute("aria-label") ?? button.textContent ?? "";
      const buttons = [...document.querySelectorAll<HTMLButtonElement>(".bar button")];
      const button = buttons.find((one) => words(one).trim().startsWith(name));
      if (!button) throw new Error(`there is no button ${name} among ${buttons.map(words).join(", ")}`);
      button.click();
    };
    await within(10_000, `${this.name} presses ${label}`, this.page.evaluate(click, label));
  }

  /** Close the panel beside the call, if one is open. */
  async closePanel(): Promise<void> {
    const click = (): void => document.querySelector<HTMLButtonElement>(".bar button[aria-expanded=true]")?.click();
    await within(10_000, `${this.name} closes the panel`, this.page.evaluate(click));
  }

  /** Leave by the button made for it. */
  async pressLeave(): Promise<void> {
    await within(
      10_000,
      `${this.name} leaves`,
      this.page.$eval(".bar .leave", (b) => (b as HTMLButtonElement).click()),
    );
  }

  /** Leave politely, by closing the page. */
  async leave(): Promise<void> {
    await within(10_000, `${this.name} leaves`, this.page.close({ runBeforeUnload: false }));
  }

  /** End the page's renderer process as a crash does: no goodbye on any connection. */
  async kill(): Promise<void> {
    const session = await this.page.createCDPSession();
    // The answer never comes: the process that would give it is gone.
    void session.send("Page.crash").catch(() => undefined);
    await new Promise((done) => setTimeout(done, 50));
  }

  async screenshot(name: string): Promise<void> {
    mkdirSync(RESULTS, { recursive: true });
    await this.page.screenshot({ path: join(RESULTS, `${name}.png`) });
  }

  /** What a failure needs: state, orders, complaints, the server's last lines. */
  async dump(): Promise<string> {
    const state = await this.state().catch(String);
    const orders = await this.orders().catch(() => []);
    return [
      `state of ${this.name}: ${JSON.stringify(state)}`,
      `orders: ${JSON.stringify(orders.slice(-20))}`,
      `console: ${this.consoleErrors.slice(-10).join(" | ")}`,
      `server: ${this.server.log.split("\n").slice(-15).join("\n")}`,
    ].join("\n");
  }
}

/** Pages opened so far: which camera the next one takes. */
let nextCamera = 0;

/** Whoever asks for any camera gets the one with this number, where there are several. */
export function ownCamera(number: number, small: boolean): void {
  const devices = navigator.mediaDevices;
  if (!devices) return;
  const ask = devices.getUserMedia.bind(devices);
  devices.getUserMedia = async (constraints) => {
    const video = constraints?.video;
    const all = video ? await devices.enumerateDevices() : [];
    const every = all.filter((device) => device.kind === "videoinput" && device.deviceId !== "");
    // Chromium's second fake camera gives depth in 16 bits, which no encoder takes, and the third a still picture.
    const cameras = every.length > 3 ? every.slice(3) : every;
    const own = cameras[number % cameras.length];
    if (!own || cameras.length < 2) return ask(constraints);
    // Asked for as an ideal, the size would be the nearest one that the camera itself has, 320x240.
    const size = small ? { width: { exact: 160 }, height: { exact: 120 }, frameRate: { exact: 15 } } : {};
    const wanted = { ...(typeof video === "object" ? video : {}), ...size };
    return ask({ ...constraints, video: { ...wanted, deviceId: { exact: own.deviceId } } });
  };
}

/** Everybody receives everybody. */
export async function untilAllReceive(people: readonly Participant[], options: ReceiveOptions = {}): Promise<void> {
  const numbers = await Promise.all(people.map((p) => p.me()));
  await Promise.all(
    people.map((p, i) =>
      p.untilReceives(
        numbers.filter((_, j) => j !== i),
        options,
      ),
    ),
  );
}
