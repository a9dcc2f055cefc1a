/**
 * The real server, on a port of its own with a data directory of its own, behind a [`Gate`].
 *
 * `GROVE_BIN` names the binary (relative to `web/e2e`); else the newest of the debug and the release build is taken.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Policy } from "../../client/src/signal/messages.ts";
import { Gate } from "./gate.ts";
import { sleep, until } from "./wait.ts";
import { TextSocket } from "./websocket.ts";

const E2E = resolve(import.meta.dirname, "..");

/** The repository's directory for pictures and reports. */
export const RESULTS = resolve(E2E, "../../test-results");

export function serverBinary(): string {
  const named = process.env.GROVE_BIN;
  if (named) return resolve(E2E, named);
  const built = ["../../target/debug/grove", "../../target/release/grove"]
    .map((p) => resolve(E2E, p))
    .filter(existsSync);
  const newest = built.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];
  if (!newest) throw new Error("no server binary: run `cargo build -p grove-server`, or set GROVE_BIN");
  return newest;
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((done) => probe.listen(0, "127.0.0.1", done));
  const { port } = probe.address() as AddressInfo;
  await new Promise((done) => probe.close(done));
  return port;
}

/** A room and how to get in. */
export interface RoomLink {
  room: string;
  secret: string;
}

export class GroveServer {
  #process: ChildProcess | null = null;
  #log = "";
  readonly #data = mkdtempSync(join(tmpdir(), "grove-e2e-"));
  readonly #file = join(this.#data, "grove.toml");
  readonly gate: Gate;
  readonly port: number;
  readonly #extra: string[];

  private constructor(gate: Gate, port: number, extra: string[]) {
    this.gate = gate;
    this.port = port;
    this.#extra = extra;
  }

  static async start(extra: string[] = []): Promise<GroveServer> {
    const server = new GroveServer(await Gate.start(), await freePort(), extra);
    server.gate.forwardTo(server.port);
    await server.#spawn();
    return server;
  }

  /** The address that browsers use (through the gate). */
  get url(): string {
    return `http://localhost:${this.gate.port}`;
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  /** All that the server has said. */
  get log(): string {
    return this.#log;
  }

  async #spawn(): Promise<void> {
    writeFileSync(this.#file, "");
    const args = [
      "serve",
      "--config",
      this.#file,
      "--listen",
      `127.0.0.1:${this.port}`,
      "--data",
      this.#data,
      "--public-url",
      this.url,
    ];
    // All addresses of this machine: Firefox does not send media to 127.0.0.1.
    if (!this.#extra.includes("--relay-udp")) args.push("--relay-udp", `0.0.0.0:${this.port}`);
    const child = spawn(serverBinary(), [...args, ...this.#extra], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, RUST_LOG: process.env.RUST_LOG ?? "debug" },
    });
    this.#process = child;
    const keep = (chunk: Buffer): void => {
      this.#log += chunk.toString();
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.on("error", (error) => {
      this.#log += `could not start: ${error.message}\n`;
    });
    await until("the server is ready", () => this.#ready(), { ms: 15_000, dump: async () => this.#log });
  }

  async #ready(): Promise<true | string> {
    if (this.#process?.exitCode !== null) return `exited with ${this.#process?.exitCode}`;
    try {
      const answer = await fetch(`http://127.0.0.1:${this.port}/readyz`);
      return answer.ok || `status ${answer.status}`;
    } catch (error) {
      return String(error);
    }
  }

  /** Make a room of the given policy, as the home page does, and a secret for it. */
  async createRoom(policy?: Policy, neverRelay?: boolean): Promise<RoomLink> {
    const socket = await TextSocket.open(this.port, "/api/v1/signal", "grove.v1", this.url);
    try {
      // What is undefined is left out.
      socket.send(JSON.stringify({ type: "create", policy, never_relay: neverRelay }));
      const answer = JSON.parse(await socket.receive()) as { type: string; room?: string };
      if (answer.type !== "created" || !answer.room) throw new Error(`no room: ${JSON.stringify(answer)}`);
      return { room: answer.room, secret: newSecret() };
    } finally {
      socket.close();
    }
  }

  /** Has the server read its configuration again, with this file, and waits until it says these words. Flags are stronger. */
  async reload(toml: string, words = "the configuration was read again"): Promise<void> {
    writeFileSync(this.#file, toml);
    const before = this.#log.length;
    this.#process?.kill("SIGHUP");
    const said = (): string => this.#log.slice(before);
    await until(`the server says: ${words}`, () => said().includes(words) || "not yet", {
      everyMs: 20,
      dump: async () => said(),
    });
  }

  /** What the server has counted under this name and these labels. */
  async metric(name: string): Promise<number> {
    const answer = await fetch(`http://127.0.0.1:${this.port}/metrics`);
    const line = (await answer.text()).split("\n").find((one) => one.startsWith(`${name} `));
    return Number(line?.slice(name.length + 1) ?? 0);
  }

  /** SIGTERM, then SIGKILL after 5 s. */
  async stop(): Promise<void> {
    const child = this.#process;
    if (child && child.exitCode === null && child.signalCode === null) {
      const gone = new Promise<void>((done) => child.once("exit", () => done()));
      child.kill("SIGTERM");
      await Promise.race([gone, sleep(5000)]);
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGKILL");
        await gone;
      }
    }
    await this.gate.stop();
    rmSync(this.#data, { recursive: true, force: true });
  }
}

/** 128 random bits, base64url. */
export function newSecret(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("base64url");
}
