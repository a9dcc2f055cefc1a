/**
 * The other way for a browser to pass a stream on, measured beside ours in the same run: a chain of pages, each a tab of its
 * own as in a room, in which every page hands the tracks that it received to the RTCPeerConnection to the next, which
 * decodes and encodes again. The pages have no interface; each shows the picture in the size given and plays the sound.
 */
import type { Browser, Page } from "puppeteer-core";
import { ownCamera } from "../harness/participant.ts";
import { sleep, until, within } from "../harness/wait.ts";

export interface Picture {
  width: number;
  height: number;
}

/** What to imitate. */
export interface Like {
  pages: number;
  /** What the video encoders may use at most, bit/s. */
  bps: number;
  /** In which size each page shows the picture, CSS pixels. */
  shown: Picture;
  viewport: Picture;
}

/** What a page's connection from its parent has given so far. */
export interface Received extends Picture {
  atMs: number;
  framesDecoded: number;
  /** Sum over all decoded pictures. */
  qp: number;
  codec: string;
  /** Of the sound, since the beginning. */
  audioEnergy: number;
}

/** When a numbered picture came in, Unix ms with fractions. */
interface Arrival {
  number: number;
  atMs: number;
}

interface Scope {
  groveHop: {
    stream: MediaStream;
    video: HTMLVideoElement;
    from: RTCPeerConnection | null;
    to: RTCPeerConnection | null;
    arrivals: Arrival[];
  };
}

export class ReencodingChain {
  readonly #pages: Page[] = [];

  /** All pages, once the last one shows pictures. `url`: any page that may use the camera. */
  static async open(browser: Browser, url: string, like: Like): Promise<ReencodingChain> {
    const chain = new ReencodingChain();
    try {
      for (let i = 0; i < like.pages; i++) await chain.#add(browser, url, like);
      return chain;
    } catch (error) {
      await chain.close();
      throw error;
    }
  }

  async #add(browser: Browser, url: string, like: Like): Promise<void> {
    const parent = this.#pages.at(-1);
    const name = `page ${this.#pages.length + 1} of the re-encoding chain`;
    const page = await (await browser.createBrowserContext()).newPage();
    this.#pages.push(page);
    await page.setViewport(like.viewport);
    if (!parent) await page.evaluateOnNewDocument(ownCamera, 0, false);
    await within(30_000, `${name} loads`, page.goto(url, { waitUntil: "load" }));
    if (parent) {
      const offer = await within(20_000, `${name} is offered the stream`, parent.evaluate(handOn, like.bps));
      const answer = await within(20_000, `${name} answers`, page.evaluate(take, offer, like.shown));
      await within(20_000, `${name} is connected`, parent.evaluate(accept, answer));
      await until(`${name} receives`, async () => (await this.#received(page)).framesDecoded > 10 || "no pictures");
    } else await within(20_000, `${name} has its devices`, page.evaluate(capture, like.shown));
  }

  /** By page, without the first, which only sends. */
  received(): Promise<Received[]> {
    return Promise.all(this.#pages.slice(1).map((page) => this.#received(page)));
  }

  #received(page: Page): Promise<Received> {
    return within(10_000, "a page of the re-encoding chain tells what it received", page.evaluate(received));
  }

  /**
   * How much later the same picture came in at each page after the second than at the second, ms. For this the first page
   * sends its camera with a number written into each picture; it goes on doing so.
   */
  async delays(seconds: number): Promise<number[][]> {
    const receivers = this.#pages.slice(1);
    await within(10_000, "pictures are numbered", (this.#pages[0] as Page).evaluate(number));
    await sleep(2000);
    await Promise.all(receivers.map((page) => page.evaluate(watch)));
    await sleep(seconds * 1000);
    const seen = await Promise.all(
      receivers.map((page) => page.evaluate(() => (globalThis as unknown as Scope).groveHop.arrivals)),
    );
    const first = new Map((seen[0] ?? []).map(({ number, atMs }) => [number, atMs]));
    return seen.slice(1).map((arrivals) =>
      arrivals.flatMap(({ number, atMs }) => {
        const before = first.get(number);
        return before === undefined ? [] : [atMs - before];
      }),
    );
  }

  async close(): Promise<void> {
    for (const page of this.#pages.splice(0)) {
      await within(5000, "a page closes", page.browserContext().close()).catch(() => undefined);
    }
  }
}

// What follows runs in the pages; each function stands alone.

/** The first page: camera and microphone asked for as the client does. */
async function capture(shown: Picture): Promise<void> {
  const stream = await navigator.mediaDevices.getUserMedia({
    video: { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 30 } },
    audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
  });
  const video = document.createElement("video");
  video.style.cssText = `position: fixed; inset: 0 auto auto 0; width: ${shown.width}px; height: ${shown.height}px`;
  video.muted = true;
  video.srcObject = stream;
  document.body.replaceChildren(video);
  await video.play();
  (globalThis as unknown as Scope).groveHop = { stream, video, from: null, to: null, arrivals: [] };
}

/** Offers what this page has to the next one. The offer is whole, with candidates. */
async function handOn(bps: number): Promise<string> {
  const { groveHop } = globalThis as unknown as Scope;
  const to = new RTCPeerConnection();
  groveHop.to = to;
  for (const track of groveHop.stream.getTracks()) {
    const sender = to.addTrack(track, groveHop.stream);
    if (track.kind !== "video") continue;
    const parameters = sender.getParameters();
    // The size stays, as ours does: a smaller picture would be cheaper at every further hop.
    parameters.degradationPreference = "maintain-resolution";
    parameters.encodings = [{ ...parameters.encodings[0], maxBitrate: bps }];
    await sender.setParameters(parameters);
  }
  const whole = new Promise<void>((done) => {
    to.onicegatheringstatechange = () => to.iceGatheringState === "complete" && done();
  });
  await to.setLocalDescription();
  await whole;
  return to.localDescription?.sdp ?? "";
}

/** Takes what the page before offers, shows and plays it. */
async function take(offer: string, shown: Picture): Promise<string> {
  const from = new RTCPeerConnection();
  const stream = new MediaStream();
  from.ontrack = (event) => stream.addTrack(event.track);
  await from.setRemoteDescription({ type: "offer", sdp: offer });
  const video = document.createElement("video");
  video.style.cssText = `position: fixed; inset: 0 auto auto 0; width: ${shown.width}px; height: ${shown.height}px`;
  video.srcObject = stream;
  document.body.replaceChildren(video);
  void video.play();
  (globalThis as unknown as Scope).groveHop = { stream, video, from, to: null, arrivals: [] };
  const whole = new Promise<void>((done) => {
    from.onicegatheringstatechange = () => from.iceGatheringState === "complete" && done();
  });
  await from.setLocalDescription();
  await whole;
  return from.localDescription?.sdp ?? "";
}

async function accept(answer: string): Promise<void> {
  await (globalThis as unknown as Scope).groveHop.to?.setRemoteDescription({ type: "answer", sdp: answer });
}

async function received(): Promise<Received> {
  const report = await (globalThis as unknown as Scope).groveHop.from?.getStats();
  const all = [...(report?.values() ?? [])];
  const of = (kind: string) => all.find((one) => one.type === "inbound-rtp" && one.kind === kind);
  const [video, audio] = [of("video"), of("audio")];
  return {
    atMs: performance.timeOrigin + performance.now(),
    width: video?.frameWidth ?? 0,
    height: video?.frameHeight ?? 0,
    framesDecoded: video?.framesDecoded ?? 0,
    qp: video?.qpSum ?? 0,
    codec: report?.get(video?.codecId)?.mimeType ?? "",
    audioEnergy: audio?.totalAudioEnergy ?? 0,
  };
}

/** From now on the first page sends its camera with 16 black or white squares at the top, a number in binary. */
async function number(): Promise<void> {
  const { video, to } = (globalThis as unknown as Scope).groveHop;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [640, 360];
  const pen = canvas.getContext("2d");
  const track = canvas.captureStream(0).getVideoTracks()[0] as CanvasCaptureMediaStreamTrack;
  const sender = to?.getSenders().find((one) => one.track?.kind === "video");
  if (!pen || !sender) throw new Error("nothing to write on");
  let n = 0;
  setInterval(() => {
    n = (n + 1) % 65_536;
    pen.drawImage(video, 0, 0, 640, 360);
    for (let bit = 0; bit < 16; bit++) {
      pen.fillStyle = (n >> bit) % 2 === 1 ? "white" : "black";
      pen.fillRect(bit * 40, 0, 40, 40);
    }
    track.requestFrame();
  }, 50);
  await sender.replaceTrack(track);
}

/** Reads the numbers, and notes when each picture's last packet came. */
function watch(): void {
  const { video, arrivals } = (globalThis as unknown as Scope).groveHop;
  const probe = document.createElement("canvas");
  [probe.width, probe.height] = [640, 40];
  const pen = probe.getContext("2d", { willReadFrequently: true });
  const read = (_now: number, { receiveTime, width, height }: VideoFrameCallbackMetadata): void => {
    video.requestVideoFrameCallback(read);
    if (!pen || receiveTime === undefined) return;
    pen.drawImage(video, 0, 0, width, height / 9, 0, 0, 640, 40);
    const { data } = pen.getImageData(0, 20, 640, 1);
    let number = 0;
    for (let bit = 0; bit < 16; bit++) if ((data[(bit * 40 + 20) * 4] ?? 0) > 127) number += 1 << bit;
    arrivals.push({ number, atMs: performance.timeOrigin + receiveTime });
  };
  video.requestVideoFrameCallback(read);
}
