/**
 * An audio server of our own with no hardware below it: a null sink, and its monitor as the microphone, so that what a
 * browser plays comes back into its microphone like the echo of a loudspeaker.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep, until } from "./wait.ts";

/** Why something could not be tried on this machine. Tests print it and are skipped, never passed. */
export class NotRun extends Error {}

export class Pulse {
  readonly #process: ChildProcess;
  readonly #dir: string;

  private constructor(child: ChildProcess, dir: string) {
    this.#process = child;
    this.#dir = dir;
  }

  static async start(): Promise<Pulse> {
    const dir = mkdtempSync(join(tmpdir(), "grove-pulse-"));
    mkdirSync(join(dir, "home"));
    const env = { ...process.env, PULSE_RUNTIME_PATH: join(dir, "pulse"), HOME: join(dir, "home") };
    const args = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--log-target=stderr"];
    const modules = ["module-native-protocol-unix", "module-null-sink sink_name=nul rate=48000"];
    const child = spawn("pulseaudio", [...args, ...modules.flatMap((m) => ["-L", m])], {
      env,
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    child.on("error", (error) => {
      said += error.message;
    });
    const pulse = new Pulse(child, dir);
    try {
      await until("PulseAudio listens", () => existsSync(join(dir, "pulse/native")) || said, { ms: 5000 });
      pulse.#pactl("load-module", "module-remap-source", "master=nul.monitor", "source_name=rmic");
      pulse.#pactl("set-default-source", "rmic");
    } catch (error) {
      await pulse.stop();
      throw new NotRun(`PulseAudio does not run here: ${String(error)} ${said}`);
    }
    return pulse;
  }

  /** For `PULSE_SERVER`. */
  get address(): string {
    return `unix:${join(this.#dir, "pulse/native")}`;
  }

  /** What a browser needs in its environment to play and record here. */
  get environment(): Record<string, string> {
    return { PULSE_SERVER: this.address };
  }

  #pactl(...args: string[]): void {
    execFileSync("pactl", args, { env: { ...process.env, PULSE_SERVER: this.address }, timeout: 5000, stdio: "pipe" });
  }

  async stop(): Promise<void> {
    this.#process.kill("SIGTERM");
    await Promise.race([new Promise((done) => this.#process.once("exit", done)), sleep(2000)]);
    if (this.#process.exitCode === null) this.#process.kill("SIGKILL");
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
