import { beforeEach, expect, test } from "vitest";
import type { Outgoing } from "../link/relay-rtp.ts";
import type { Order } from "../signal/messages.ts";
import { applyOrders, emptyPlan } from "./plan.ts";
import { type OwnMedia, RelayFeeds, type RtpEncoder, type Situation } from "./relay-feeds.ts";

const ME = 7;
const RELAY = 65_535;
const OTHER_RELAY = 65_534;
const audio = { kind: "audio" } as MediaStreamTrack;
const video = { kind: "video" } as MediaStreamTrack;
const layers = [
  { width: 320, height: 180, bps: 150_000, fps: 30 },
  { width: 640, height: 360, bps: 600_000, fps: 30 },
];
const media: OwnMedia = { audio, video, layers, audioBps: 64_000 };

let said: unknown[] = [];
let feeds: RelayFeeds;
beforeEach(() => {
  said = [];
  feeds = new RelayFeeds((message) => said.push(message));
});

const encoder = (peer: number): RtpEncoder => ({
  peer,
  send: (stream, outgoing) => said.push([peer, stream, outgoing && short(outgoing)]),
  keyFrame: (stream) => said.push(["key", peer, stream]),
});
const short = (outgoing: Outgoing) => [
  outgoing.audio?.kind ?? null,
  outgoing.video?.kind ?? null,
  ...outgoing.layers.map(({ bps }) => bps),
];
const links = [encoder(RELAY), encoder(OTHER_RELAY)];

function situation(children: number[], more: Partial<Situation> = {}): Situation {
  const changes = children.map(
    (child): Order => ({
      order: "feed",
      stream: { node: ME, stream: 0 },
      child,
      layers: [0, 1],
      rate_bps: 814_000,
    }),
  );
  const { plan } = applyOrders(emptyPlan, { epoch: 1, reset: false, changes });
  return { me: ME, plan, links: links.slice(0, 1), uplink: null, ...more };
}
const on = [
  { type: "rtp_video", stream: 0, widths: [320, 640] },
  { type: "rtp_audio", stream: 0, on: true },
];
const off = [
  { type: "rtp_video", stream: 0, widths: null },
  { type: "rtp_audio", stream: 0, on: false },
];
const all = ["audio", "video", 150_000, 600_000];

test("the worker hears of the sender's turn first, once, and of its end when the relay is no child any more", () => {
  feeds.set(0, media);
  feeds.settle(situation([2]));
  expect(said).toEqual([[RELAY, 0, null]]);
  said = [];
  feeds.settle(situation([2, RELAY]));
  feeds.settle(situation([2, RELAY]));
  expect(said).toEqual([...on, [RELAY, 0, all], [RELAY, 0, all]]);
  said = [];
  feeds.settle(situation([2]));
  expect(said).toEqual([...off, [RELAY, 0, null]]);
});

test("a link that is lost gives the stream back to the worker, and so does a camera that is turned off", () => {
  feeds.set(0, media);
  feeds.settle(situation([RELAY]));
  said = [];
  feeds.settle(situation([RELAY], { links: [] }));
  expect(said).toEqual(off);
  feeds.settle(situation([RELAY]));
  said = [];
  feeds.set(0, { ...media, video: null });
  feeds.settle(situation([RELAY]));
  expect(said).toEqual([off[0], [RELAY, 0, ["audio", null, 150_000, 600_000]]]);
  said = [];
  feeds.set(0, null);
  feeds.settle(situation([RELAY]));
  expect(said).toEqual([off[1], [RELAY, 0, null]]);
});

test("two relays that want the same stream do not make two encoders", () => {
  feeds.set(0, media);
  feeds.settle(situation([OTHER_RELAY, RELAY], { links }));
  expect(said).toEqual([...on, [RELAY, 0, all], [OTHER_RELAY, 0, null]]);
});

test("what children on data channels were allotted is kept for them", () => {
  feeds.set(0, media);
  feeds.settle(situation([2, RELAY], { uplink: 1_400_000 }));
  // 1,400,000 less 814,000 for the child, 64,000 for sound and 150,000 for the lower layer.
  expect(said.at(-1)).toEqual([RELAY, 0, ["audio", "video", 150_000, 372_000]]);
});

test("a key frame is asked of the link that encodes, and of nobody else", () => {
  feeds.set(0, media);
  feeds.keyFrame(0, situation([2]));
  feeds.keyFrame(1, situation([RELAY]));
  feeds.keyFrame(0, situation([RELAY]));
  expect(said).toEqual([["key", RELAY, 0]]);
});
