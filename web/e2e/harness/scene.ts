/** A server and a browser for a file of tests, and the pages that each test opens. */
import type { Browser } from "puppeteer-core";
import { type ChromiumOptions, endBrowser, launchChromium } from "./browsers.ts";
import type { Policy } from "./client.ts";
import { type OpenOptions, Participant } from "./participant.ts";
import { GroveServer, type RoomLink } from "./server.ts";
import { within } from "./wait.ts";

/** What every page of a test may send, so that trees do not hang on what a busy machine measures. */
const UPLINK = 20_000_000;

export class Scene {
  readonly server: GroveServer;
  readonly browser: Browser;
  #people: Participant[] = [];

  private constructor(server: GroveServer, browser: Browser) {
    this.server = server;
    this.browser = browser;
  }

  static async start(options: ChromiumOptions = {}): Promise<Scene> {
    const server = await GroveServer.start();
    try {
      return new Scene(server, await launchChromium(options));
    } catch (error) {
      await server.stop();
      throw error;
    }
  }

  room(policy?: Policy): Promise<RoomLink> {
    return this.server.createRoom(policy);
  }

  /** Somebody enters through a page of their own. */
  async enter(link: RoomLink, name: string, options: OpenOptions = {}, browser = this.browser): Promise<Participant> {
    const person = await Participant.open(browser, this.server, link, name, { uplink: UPLINK, ...options });
    this.#people.push(person);
    return person;
  }

  /** One after the other, so that the order of arrival, and with it the tree, is known. */
  async enterAll(link: RoomLink, names: readonly string[], options: OpenOptions = {}): Promise<Participant[]> {
    const people: Participant[] = [];
    for (const name of names) people.push(await this.enter(link, name, options));
    return people;
  }

  /** Close every page. */
  async clear(): Promise<void> {
    const people = this.#people;
    this.#people = [];
    for (const person of people) {
      const context = person.page.browserContext();
      const closed = context.closed ? Promise.resolve() : context.close();
      await within(5000, "a page closes", closed).catch(() => undefined);
    }
  }

  async end(): Promise<void> {
    await this.clear();
    await endBrowser(this.browser);
    await this.server.stop();
  }
}
