/** As much of a WebSocket client (RFC 6455) as tests need to speak to the server without a browser: text frames. */
import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { within } from "./wait.ts";

export class TextSocket {
  readonly #socket: Socket;
  #buffer: Buffer = Buffer.alloc(0);
  readonly #texts: string[] = [];
  #waiting: ((text: string) => void) | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  static async open(port: number, path: string, protocol: string, origin: string): Promise<TextSocket> {
    const socket = connect(port, "127.0.0.1");
    const self = new TextSocket(socket);
    const upgraded = new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.once("close", () => reject(new Error("closed before the upgrade")));
      const head = (chunk: Buffer): void => {
        self.#buffer = Buffer.concat([self.#buffer, chunk]);
        const end = self.#buffer.indexOf("\r\n\r\n");
        if (end < 0) return;
        socket.off("data", head);
        const status = self.#buffer.subarray(0, self.#buffer.indexOf("\r\n")).toString();
        if (!status.includes(" 101 ")) {
          reject(new Error(status));
          return;
        }
        self.#buffer = self.#buffer.subarray(end + 4);
        socket.on("data", (more: Buffer) => self.#take(more));
        self.#take(Buffer.alloc(0));
        resolve();
      };
      socket.on("data", head);
    });
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: ${new URL(origin).host}\r\nOrigin: ${origin}\r\nUpgrade: websocket\r\n` +
        `Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\n` +
        `Sec-WebSocket-Protocol: ${protocol}\r\n\r\n`,
    );
    await within(5000, "the WebSocket upgrade", upgraded);
    return self;
  }

  #take(chunk: Buffer): void {
    this.#buffer = Buffer.concat([this.#buffer, chunk]);
    for (;;) {
      const b = this.#buffer;
      if (b.length < 2) return;
      let length = (b[1] ?? 0) & 0x7f;
      let at = 2;
      if (length === 126) {
        if (b.length < 4) return;
        length = b.readUInt16BE(2);
        at = 4;
      } else if (length === 127) {
        if (b.length < 10) return;
        length = Number(b.readBigUInt64BE(2));
        at = 10;
      }
      if (b.length < at + length) return;
      const opcode = (b[0] ?? 0) & 0x0f;
      const text = b.subarray(at, at + length).toString();
      this.#buffer = b.subarray(at + length);
      if (opcode !== 1) continue;
      if (this.#waiting) this.#waiting(text);
      else this.#texts.push(text);
      this.#waiting = null;
    }
  }

  /** The next text frame. */
  receive(): Promise<string> {
    const early = this.#texts.shift();
    if (early !== undefined) return Promise.resolve(early);
    return within(5000, "an answer on the WebSocket", new Promise((resolve) => (this.#waiting = resolve)));
  }

  send(text: string): void {
    const body = Buffer.from(text);
    const mask = randomBytes(4);
    const head =
      body.length < 126
        ? Buffer.from([0x81, 0x80 | body.length])
        : Buffer.from([0x81, 0xfe, body.length >> 8, body.length & 0xff]);
    for (let i = 0; i < body.length; i++) body[i] = (body[i] ?? 0) ^ (mask[i & 3] ?? 0);
    this.#socket.write(Buffer.concat([head, mask, body]));
  }

  close(): void {
    this.#socket.destroy();
  }
}
