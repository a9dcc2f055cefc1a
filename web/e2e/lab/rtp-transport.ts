/**
 * Can RTP be transport only? Two peer connections in one page, transforms of one worker at both ends, losses in both
 * directions: what arrives at the receiving transform, when frames are handed on to the browser's own jitter buffer and
 * decoders (`enqueue`), and when they never are (`transport`). Where they are, NetEq's concealment and delay are beside
 * those of our jitter buffer on the very same packets. Figures: docs/design/client.md, The RTP link.
 *
 * Run by hand: `node e2e/lab/run.mjs rtp-transport '{"seconds":25,"loss":[0,2,5],"rttMs":[0,50,100],"seed":1}'`.
 * `loss` and `rttMs` go in pairs.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Page } from "puppeteer-core";
import { JitterBuffer, PACKET, RATE } from "../../client/src/media/jitter.ts";
import { PacketOrder } from "../../client/src/media/redundancy.ts";
import { endBrowser, launchChromium, launchFirefox } from "../harness/browsers.ts";
import { Emulator } from "../harness/emulator.ts";
import { Pulse } from "../harness/pulse.ts";
import { sleep, within } from "../harness/wait.ts";
import type { Say } from "./say.ts";

export interface Options {
  seconds: number;
  /** Percent. */
  loss: number[];
  rttMs: number[];
  seed: number;
  firefox?: boolean;
}

type Mode = "transport" | "enqueue";
type Kind = "audio" | "video";

/** Numbers of the frames sent since the last question, and of each that came, when it left and when it came. */
interface Seen {
  from: number;
  to: number;
  came: { number: number; leftMs: number; atMs: number }[];
}

interface Heard {
  concealed: number;
  samples: number;
  delay: number;
  emitted: number;
}

const SETTLE_MS = 4000;
/** Frames that are still on their way at the end. */
const TAIL: Record<Kind, number> = { audio: 40, video: 25 };

export async function run(options: Options, say: Say): Promise<void> {
  const server = createServer((_, response) => response.setHeader("content-type", "text/html").end("<!doctype html>"));
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const url = `http://localhost:${(server.address() as AddressInfo).port}/`;
  const pulse = options.firefox ? await Pulse.start() : null;
  const of = options.loss.length * 2;
  let done = 0;
  try {
    for (const [at, loss] of options.loss.entries()) {
      for (const mode of ["transport", "enqueue"] as const) {
        const rtt = options.rttMs[at] ?? 0;
        const setting = `${mode}, ${loss} % ${rtt} ms`;
        say({ event: "step", done: done++, of, label: setting });
        const browser = pulse ? await launchFirefox({ sound: pulse }) : await launchChromium();
        const emulator = new Emulator(options.seed);
        try {
          const page = await browser.newPage();
          emulator.set("page", "page", { loss: loss / 100, delayMs: rtt / 2 });
          await emulator.prepare(page, "page");
          await page.goto(url);
          await observe(page, mode, options.seconds, (name, values) =>
            say({ event: "samples", name, setting, values }),
          );
        } catch (error) {
          say({ event: "problem", message: `${setting}: ${String(error).split("\n")[0]}` });
        } finally {
          emulator.close();
          await endBrowser(browser);
        }
      }
    }
  } finally {
    await pulse?.stop();
    server.close();
  }
}

async function observe(
  page: Page,
  mode: Mode,
  seconds: number,
  samples: (name: string, values: number[]) => void,
): Promise<void> {
  await within(20_000, "the connections come up", page.evaluate(connect, mode, WORKER));
  await sleep(SETTLE_MS);
  await page.evaluate(seen);
  const before = await page.evaluate(heard);
  await sleep(seconds * 1000);
  const after = await page.evaluate(heard);
  const all = await page.evaluate(seen);
  for (const kind of ["video", "audio"] as const) {
    const { from, to, came } = all[kind];
    const sent = to - TAIL[kind] - from;
    const counted = came.filter(({ number }) => number < to - TAIL[kind]);
    const numbers = new Set(counted.map(({ number }) => number));
    samples(`${kind} sent`, [sent]);
    samples(`${kind} came`, [numbers.size]);
    samples(
      `${kind} arrival`,
      counted.map(({ leftMs, atMs }) => atMs - leftMs),
    );
  }
  samples("key frame requests", [after.pli - before.pli]);
  const ours = throughOurs(all.audio);
  samples("ours concealed", [ours.concealed]);
  samples("ours delay", [ours.delay]);
  if (mode === "transport") return;
  const part = (of: keyof Heard): number => after.sound[of] - before.sound[of];
  samples("NetEq concealed", [(100 * part("concealed")) / Math.max(1, part("samples"))]);
  samples("NetEq delay", [(1000 * part("delay")) / Math.max(1, part("emitted"))]);
}

/** The packets as they came, each with the copy of the one before, through our jitter buffer. Percent, ms. */
function throughOurs({ came }: Seen): { concealed: number; delay: number } {
  const [buffer, order] = [new JitterBuffer(), new PacketOrder()];
  const packets = came.map(({ number, atMs }) => ({ number, at: (atMs * RATE) / 1000 })).sort((a, b) => a.at - b.at);
  const [first, last] = [packets[0]?.at ?? 0, packets.at(-1)?.at ?? 0];
  const out = new Float32Array(128);
  const byte = new Uint8Array(1);
  const delays: number[] = [];
  let next = 0;
  for (let now = first; now < last; now += out.length) {
    for (; (packets[next]?.at ?? Number.POSITIVE_INFINITY) <= now; next++) {
      const number = packets[next]?.number ?? 0;
      const header = { number, generation: 1, captureUs: number * 20_000 } as Parameters<PacketOrder["take"]>[0];
      for (const due of order.take(header, { packet: byte, copies: [byte] }).due) {
        // As loud as speech: corrections come late, as they do when they would be heard.
        const pcm = Float32Array.from({ length: PACKET }, (_, i) => 0.1 * Math.sin(i / 5));
        buffer.push(due.number, due.captureUs, pcm, now);
      }
    }
    buffer.mix(out, now);
    const delay = buffer.delay(now);
    if (delay !== null && now - first > 2 * RATE) delays.push((delay * 1000) / RATE);
  }
  const { played, concealed, starved } = buffer.counts;
  const missing = concealed + starved / 2;
  const mean = delays.reduce((sum, delay) => sum + delay, 0) / Math.max(1, delays.length);
  return { concealed: (100 * missing) / Math.max(1, played + missing), delay: mean };
}

/** Both transforms. What is sent gets 16 bytes ahead: VP8's look, a number and the time; sound its predecessor's copy too. */
const WORKER = `
const now = () => performance.timeOrigin + performance.now();
const seen = { audio: { from: 0, to: 0, came: [] }, video: { from: 0, to: 0, came: [] } };
onmessage = () => {
  postMessage(seen);
  for (const one of Object.values(seen)) { one.from = one.to; one.came = []; }
};
onrtctransform = async ({ transformer: { readable, writable, options: { way, kind, mode } } }) => {
  const reader = readable.getReader(), writer = writable.getWriter();
  const mine = seen[kind];
  let before = new Uint8Array(0);
  for (;;) {
    const { value: frame, done } = await reader.read();
    if (done) return;
    const data = new Uint8Array(frame.data);
    if (way === "send") {
      const copy = kind === "audio" ? before : new Uint8Array(0);
      before = data;
      const bytes = new Uint8Array(18 + copy.length + data.length);
      const view = new DataView(bytes.buffer);
      view.setUint8(0, frame.type === "key" ? 0x80 : 0x85);
      view.setUint32(2, mine.to++);
      view.setUint16(6, 640, true);
      view.setFloat64(8, now());
      view.setUint16(16, copy.length);
      bytes.set(copy, 18);
      bytes.set(data, 18 + copy.length);
      frame.data = bytes.buffer;
      writer.write(frame);
      continue;
    }
    const view = new DataView(frame.data);
    const number = view.getUint32(2);
    if (number >= mine.from) mine.came.push({ number, leftMs: view.getFloat64(8), atMs: now() });
    if (mode !== "enqueue") continue;
    frame.data = data.slice(18 + view.getUint16(16)).buffer;
    writer.write(frame);
  }
};`;

interface PageScope {
  groveWorker: Worker;
  groveReceiver: RTCPeerConnection;
}

/** Runs in the page. */
async function connect(mode: Mode, source: string): Promise<void> {
  const scope = globalThis as unknown as PageScope;
  const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  scope.groveWorker = worker;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [640, 360];
  const pen = canvas.getContext("2d");
  if (!pen) throw new Error("no canvas");
  let n = 0;
  setInterval(() => {
    n += 1;
    for (let i = 0; i < 76; i++) {
      pen.fillStyle = `hsl(${(n * 3 + i * 13) % 360} 70% 50%)`;
      pen.fillRect(i < 16 ? i * 40 : (i * 53 + n * 3) % 640, i < 16 ? 0 : (i * 29 + n) % 360, 40, i < 16 ? 360 : 20);
    }
  }, 33);
  const [sound] = (await navigator.mediaDevices.getUserMedia({ audio: true })).getAudioTracks();
  const [picture] = canvas.captureStream(30).getVideoTracks();
  if (!sound || !picture) throw new Error("no tracks");
  const [from, to] = [new RTCPeerConnection(), new RTCPeerConnection()];
  scope.groveReceiver = to;
  let described = (): void => {};
  const ready = new Promise<void>((resolve) => {
    described = resolve;
  });
  for (const [one, other] of [
    [from, to],
    [to, from],
  ] as const) {
    one.onicecandidate = ({ candidate }) => {
      if (candidate) void ready.then(() => other.addIceCandidate(candidate.toJSON())).catch(() => {});
    };
  }
  const audio = from.addTransceiver(sound, { direction: "sendonly" });
  const video = from.addTransceiver(picture, { direction: "sendonly", sendEncodings: [{ maxBitrate: 800_000 }] });
  audio.sender.transform = new RTCRtpScriptTransform(worker, { way: "send", kind: "audio" });
  video.sender.transform = new RTCRtpScriptTransform(worker, { way: "send", kind: "video" });
  to.ontrack = ({ track, receiver }) => {
    receiver.transform = new RTCRtpScriptTransform(worker, { way: "receive", kind: track.kind, mode });
    if (mode === "transport") return;
    const player = document.createElement(track.kind as Kind);
    player.srcObject = new MediaStream([track]);
    document.body.append(player);
    void player.play().catch(() => {});
  };
  await from.setLocalDescription();
  await to.setRemoteDescription(from.localDescription as RTCSessionDescription);
  await to.setLocalDescription();
  await from.setRemoteDescription(to.localDescription as RTCSessionDescription);
  described();
  while (to.connectionState !== "connected") await new Promise((done) => setTimeout(done, 50));
}

/** Runs in the page: what the worker saw since it was last asked. */
function seen(): Promise<Record<Kind, Seen>> {
  const { groveWorker } = globalThis as unknown as PageScope;
  return new Promise((resolve) => {
    groveWorker.onmessage = ({ data }) => resolve(data);
    groveWorker.postMessage(null);
  });
}

/** Runs in the page: totals of the receivers. */
async function heard(): Promise<{ sound: Heard; pli: number }> {
  const sound: Heard = { concealed: 0, samples: 0, delay: 0, emitted: 0 };
  let pli = 0;
  for (const one of (await (globalThis as unknown as PageScope).groveReceiver.getStats()).values()) {
    if (one.type !== "inbound-rtp") continue;
    if (one.kind === "video") pli = one.pliCount ?? 0;
    else {
      sound.concealed = one.concealedSamples ?? 0;
      sound.samples = one.totalSamplesReceived ?? 0;
      sound.delay = one.jitterBufferDelay ?? 0;
      sound.emitted = one.jitterBufferEmittedCount ?? 0;
    }
  }
  return { sound, pli };
}
