/**
 * A TCP gate between browsers and the server. It can be cut (open connections dropped, new ones refused) and mended,
 * and keeps what passed in both directions, with WebSocket frames from browsers unmasked so that it can be searched.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** Undoes the masking of the frames that a client sends (RFC 6455 section 5.3), across chunks. */
class Unmasker {
  #pending: Buffer = Buffer.alloc(0);
  #upgraded = false;

  take(chunk: Buffer): Buffer {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    if (!this.#upgraded) {
      const text = this.#pending.toString("latin1");
      const end = text.indexOf("\r\n\r\n");
      if (end < 0 || !/\r\nupgrade: websocket/i.test(text.slice(0, end))) {
        const plain = this.#pending;
        if (end >= 0) this.#pending = Buffer.alloc(0);
        return end >= 0 ? plain : Buffer.alloc(0);
      }
      this.#upgraded = true;
      const head = this.#pending.subarray(0, end + 4);
      this.#pending = this.#pending.subarray(end + 4);
      return Buffer.concat([head, this.#frames()]);
    }
    return this.#frames();
  }

  #frames(): Buffer {
    const out: Buffer[] = [];
    for (;;) {
      const b = this.#pending;
      if (b.length < 6) break;
      let length = (b[1] ?? 0) & 0x7f;
      let at = 2;
      if (length === 126) {
        length = b.readUInt16BE(2);
        at = 4;
      } else if (length === 127) {
        if (b.length < 10) break;
        length = Number(b.readBigUInt64BE(2));
        at = 10;
      }
      if (b.length < at + 4 + length) break;
      const mask = b.subarray(at, at + 4);
      const body = Buffer.from(b.subarray(at + 4, at + 4 + length));
      for (let i = 0; i < body.length; i++) body[i] = (body[i] ?? 0) ^ (mask[i & 3] ?? 0);
      out.push(body);
      this.#pending = b.subarray(at + 4 + length);
    }
    return Buffer.concat(out);
  }
}

export class Gate {
  readonly #server: Server;
  /** What browsers hold open, with the path that each asked for first. */
  readonly #open = new Map<Socket, string>();
  readonly #captured: Buffer[] = [];
  #target = 0;
  #cut = false;
  /** Connections refused while cut. */
  refused = 0;

  private constructor() {
    this.#server = createServer((browser) => this.#accept(browser));
  }

  static async start(): Promise<Gate> {
    const gate = new Gate();
    await new Promise<void>((resolve, reject) => {
      gate.#server.once("error", reject);
      gate.#server.listen(0, "127.0.0.1", resolve);
    });
    return gate;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Where connections go from now on. */
  forwardTo(port: number): void {
    this.#target = port;
  }

  #accept(browser: Socket): void {
    if (this.#cut) {
      this.refused += 1;
      browser.destroy();
      return;
    }
    const server = connect(this.#target, "127.0.0.1");
    const unmasker = new Unmasker();
    const drop = (): void => {
      browser.destroy();
      server.destroy();
      this.#open.delete(browser);
    };
    this.#open.set(browser, "");
    browser.on("data", (chunk) => {
      if (this.#open.get(browser) === "") this.#open.set(browser, chunk.toString("latin1").split(" ", 2)[1] ?? "");
      this.#captured.push(unmasker.take(chunk));
      server.write(chunk);
    });
    server.on("data", (chunk) => {
      this.#captured.push(chunk);
      browser.write(chunk);
    });
    for (const socket of [browser, server]) socket.on("error", drop).on("close", drop);
  }

  /** Drop every connection and refuse new ones. */
  cut(): void {
    this.#cut = true;
    for (const socket of this.#open.keys()) socket.destroy();
  }

  /** Drop the connections that were opened for this path, and no others. Returns how many there were. */
  drop(path: string): number {
    const found = [...this.#open].filter(([, asked]) => asked === path);
    for (const [socket] of found) socket.destroy();
    return found.length;
  }

  mend(): void {
    this.#cut = false;
  }

  /** Everything that passed so far. */
  captured(): Buffer {
    return Buffer.concat(this.#captured);
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
