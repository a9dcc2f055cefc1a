/**
 * Something before the relay that translates addresses, as a router or a container's host does: a UDP port outside, behind
 * which each sender appears under a port of its own. Sends to addresses of this machine only.
 */
import { createSocket, type Socket } from "node:dgram";
import { networkInterfaces } from "node:os";

/** One per browser and address; far more than a test opens. */
const MOST_SENDERS = 64;

export class Nat {
  readonly #outer: Socket;
  readonly #inner = new Map<string, Socket>();
  readonly #port: number;
  readonly address: string;
  /** Datagrams passed in either direction. */
  readonly passed = { in: 0, out: 0 };

  private constructor(outer: Socket, address: string, port: number) {
    this.#outer = outer;
    this.address = address;
    this.#port = port;
    outer.on("message", (bytes, { address: from, port: fromPort }) => this.#in(bytes, from, fromPort));
    // A browser that is gone answers with ICMP errors.
    outer.on("error", () => undefined);
  }

  /** Before `port` on loopback, at a free port of an address that other machines could use. */
  static async start(port: number): Promise<Nat> {
    const all = Object.values(networkInterfaces()).flatMap((of) => of ?? []);
    const address = all.find(({ family, internal }) => family === "IPv4" && !internal)?.address ?? "127.0.0.1";
    return new Nat(await bound(address), address, port);
  }

  /** Where it is reached: address and port. */
  get outside(): string {
    return `${this.address}:${this.#outer.address().port}`;
  }

  close(): void {
    for (const socket of [this.#outer, ...this.#inner.values()]) socket.close();
    this.#inner.clear();
  }

  #in(bytes: Buffer, from: string, fromPort: number): void {
    const name = `${from} ${fromPort}`;
    let inner = this.#inner.get(name);
    if (!inner) {
      if (this.#inner.size >= MOST_SENDERS) return;
      inner = createSocket("udp4");
      inner.on("message", (answer) => {
        this.passed.out += 1;
        this.#outer.send(answer, fromPort, from);
      });
      inner.on("error", () => undefined);
      this.#inner.set(name, inner);
    }
    this.passed.in += 1;
    inner.send(bytes, this.#port, "127.0.0.1");
  }
}

/** A UDP port of loopback that nobody has at present. */
export async function freeUdpPort(): Promise<number> {
  const socket = await bound("127.0.0.1");
  const { port } = socket.address();
  await new Promise<void>((done) => socket.close(() => done()));
  return port;
}

function bound(address: string): Promise<Socket> {
  const socket = createSocket("udp4");
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(0, address, () => {
      socket.off("error", reject);
      resolve(socket);
    });
  });
}
