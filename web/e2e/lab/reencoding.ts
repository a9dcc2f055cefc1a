/**
 * The other way for a browser to pass a stream on, measured beside ours in the same run: a chain of RTCPeerConnections in
 * one page, each adding the track that it received to the next, which decodes and encodes again at every hop.
 */
import type { Browser } from "puppeteer-core";
import { cpuOfFamily } from "../harness/processes.ts";
import { sleep, within } from "../harness/wait.ts";

export interface Reencoding {
  /** That one more hop takes. */
  cores: number;
  /** At the end of the longer chain. */
  width: number;
  height: number;
  framesPerSecond: number;
}

/** The source is a moving 640x360 canvas at 20 frames per second, the fake camera's rate. */
export async function reencodingPerHop(browser: Browser, url: string, seconds: number): Promise<Reencoding> {
  const cores: number[] = [];
  let end = { width: 0, height: 0, frames: 0 };
  for (const hops of [1, 4]) {
    const context = await browser.createBrowserContext();
    try {
      const page = await context.newPage();
      await page.goto(url, { waitUntil: "load" });
      await within(30_000, "the re-encoding chain connects", page.evaluate(connect, hops));
      await sleep(4000);
      const pid = browser.process()?.pid ?? 0;
      const before = await page.evaluate(lastVideo);
      const [cpu, at] = [cpuOfFamily(pid), Date.now()];
      await sleep(seconds * 1000);
      const elapsed = (Date.now() - at) / 1000;
      cores.push((cpuOfFamily(pid) - cpu) / elapsed);
      end = await page.evaluate(lastVideo);
      end.frames = (end.frames - before.frames) / elapsed;
    } finally {
      await context.close();
    }
  }
  const { width, height, frames } = end;
  return { cores: ((cores[1] ?? 0) - (cores[0] ?? 0)) / 3, width, height, framesPerSecond: frames };
}

function lastVideo(): { width: number; height: number; frames: number } {
  const video = [...document.querySelectorAll("video")].at(-1);
  const frames = video?.getVideoPlaybackQuality().totalVideoFrames ?? 0;
  return { width: video?.videoWidth ?? 0, height: video?.videoHeight ?? 0, frames };
}

async function connect(hops: number): Promise<void> {
  const canvas = document.createElement("canvas");
  canvas.width = 640;
  canvas.height = 360;
  const pen = canvas.getContext("2d");
  if (!pen) throw new Error("no canvas");
  let n = 0;
  setInterval(() => {
    n += 1;
    for (let x = 0; x < 640; x += 40) {
      pen.fillStyle = `hsl(${(n * 3 + x) % 360} 70% 50%)`;
      pen.fillRect(x, 0, 40, 360);
    }
    pen.fillStyle = "white";
    pen.fillRect((n * 7) % 600, (n * 5) % 320, 40, 40);
  }, 50);
  let stream = canvas.captureStream(20);
  for (let hop = 0; hop < hops; hop++) {
    const [from, to] = [new RTCPeerConnection(), new RTCPeerConnection()];
    from.onicecandidate = (event) => void to.addIceCandidate(event.candidate ?? undefined);
    to.onicecandidate = (event) => void from.addIceCandidate(event.candidate ?? undefined);
    const arrived = new Promise<MediaStream>((resolve) => {
      to.ontrack = (event) => resolve(event.streams[0] ?? new MediaStream([event.track]));
    });
    for (const track of stream.getVideoTracks()) {
      const sender = from.addTrack(track, stream);
      track.contentHint = "detail";
      const parameters = sender.getParameters();
      parameters.encodings = [{ ...parameters.encodings[0], maxBitrate: 800_000 }];
      await sender.setParameters(parameters).catch(() => undefined);
    }
    await from.setLocalDescription();
    await to.setRemoteDescription(from.localDescription as RTCSessionDescription);
    await to.setLocalDescription();
    await from.setRemoteDescription(to.localDescription as RTCSessionDescription);
    stream = await arrived;
    // Shown at every hop, as in a call.
    const video = document.createElement("video");
    video.muted = true;
    video.srcObject = stream;
    document.body.append(video);
    void video.play();
  }
}
