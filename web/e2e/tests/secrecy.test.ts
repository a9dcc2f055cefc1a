import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { Emulator, type Packet } from "../harness/emulator.ts";
import { type Participant, untilAllReceive } from "../harness/participant.ts";
import { Plaintext } from "../harness/plaintext.ts";
import { Scene } from "../harness/scene.ts";
import { newSecret } from "../harness/server.ts";
import type { Recording } from "../harness/tap.ts";
import { sleep, until } from "../harness/wait.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
});
afterEach(() => scene.clear());
afterAll(() => scene?.end());

test.for([
  ["neither in the server's log nor in anything sent to it", "mesh"],
  ["not there either when the server passes on pictures and sound", "relay"],
] as const)("the room secret and what people write are %s", async ([, kind]) => {
  const link = await scene.room({ kind });
  const words = "mistletoe and 47 herons";
  const [ana, ben] = await scene.enterAll(link, ["Ana Zaqwsx", "Ben"]);
  if (!ana || !ben) throw new Error("two entered");
  await untilAllReceive([ana, ben]);
  await ana.room((room, text) => room.sendChat(text), words);
  await ben.untilState("reads it", (state) => state.chat.some((line) => line.text === words));
  await ana.untilState("has the receipt", (state) => state.chat.some((line) => line.text === words && line.delivered));

  const traffic = scene.server.gate.captured();
  // Names are known to the server: finding one shows that the search can find things, in both directions.
  expect(traffic.includes("Ana Zaqwsx")).toBe(true);
  expect(traffic.includes('"type":"join"')).toBe(true);
  expect(traffic.includes('"type":"chat"')).toBe(true);
  const secret = Buffer.from(link.secret, "base64url");
  for (const planted of [
    words,
    Buffer.from(words).toString("base64url").slice(0, 24),
    link.secret,
    secret.toString("base64").slice(0, 20),
    secret.toString("hex"),
    secret,
  ]) {
    expect(traffic.includes(planted), `traffic contains ${String(planted)}`).toBe(false);
    expect(Buffer.from(scene.server.log).includes(planted), `the log contains ${String(planted)}`).toBe(false);
  }
});

test("with the wrong secret nothing is decoded on either side, and both are told in words", async () => {
  const link = await scene.room({ kind: "mesh" });
  const ana = await scene.enter(link, "Ana");
  const wrong = await scene.enter({ room: link.room, secret: newSecret() }, "Wim");
  const [right, stranger] = [await ana.me(), await wrong.me()];
  await sleep(4000);
  for (const [person, other, name] of [
    [ana, stranger, "Wim"],
    [wrong, right, "Ana"],
  ] as const) {
    const state = await person.state();
    expect(state?.others.map((o) => [o.node, o.verified])).toEqual([[other, false]]);
    for (const incoming of state?.stats?.incoming ?? []) expect(incoming.framesDecoded).toBe(0);
    expect(state?.stats?.senders.find((s) => s.node === other)?.opened ?? 0).toBe(0);
    expect(await person.movingTiles()).toEqual([]);
    const words = await person.page.$eval("body", (body) => body.textContent);
    expect(words).toContain(name);
    expect(words).toMatch(/another key|different link|wrong link|not the right key/i);
  }
  await ana.room((room, text) => room.sendChat(text), "only for those with the key");
  await wrong.untilState("has an unreadable line", (state) => state.chat.some((line) => line.text === null));
});

describe("of the pictures and the sound that encoders gave, while a call runs,", () => {
  /** A call as it is, from its first packet on; and the same when Ana's page has stopped sealing. */
  let sealed: Watched;
  let bare: Watched;
  let traffic: Buffer;
  let ana = 0;

  beforeAll(async () => {
    const emulator = new Emulator();
    emulator.record();
    const earlier = scene.server.gate.captured().length;
    const link = await scene.room({ kind: "mesh" });
    const enter = (name: string): Promise<Participant> =>
      scene.enter(link, name, { tap: true, prepare: (page) => emulator.prepare(page, name) });
    const [first, second] = [await enter("Ana"), await enter("Ben")];
    ana = await first.me();
    await untilAllReceive([first, second]);
    sealed = await watch(emulator, first, second, ana);

    await first.tap.stopSealing();
    await until("what is not sealed arrives", async () => (await refused(second, ana)) > 20 || "not yet");
    // Nothing that was sealed before is sent again after this: rings hold two seconds, and statistics are one second old.
    await sleep(4000);
    emulator.record();
    bare = await watch(emulator, first, second, ana);
    traffic = scene.server.gate.captured().subarray(earlier);
    emulator.close();
  });

  test("the seal alone leaves nothing to see in the frames that are handed to data channels", () => {
    const { encoded, sent } = sealed.media;
    const crossed = pictures(sealed.media, ana);
    expect(crossed.length).toBeGreaterThan(40);
    expect(sent.filter((frame) => kindOf(frame) === "audio").length).toBeGreaterThan(100);
    // These are the encoders' own pictures: as many bytes, and a header and a tag.
    for (const { frame, chunks } of crossed) expect(chunks.map((c) => c.length + 40)).toContain(frame.length);
    for (const video of [true, false]) {
      const plaintext = new Plaintext(encoded.filter((one) => one.video === video).map((one) => one.bytes));
      expect(plaintext.count).toBeGreaterThan(20);
      expect(plaintext.foundIn(sent)).toBe(0);
    }
  });

  test("DTLS and the seal leave nothing to see in the UDP packets between the browsers, nor does the server see any", () => {
    const { packets, media } = sealed;
    const plaintext = new Plaintext(media.encoded.map((one) => one.bytes));
    expect(plaintext.foundIn(packets.map((packet) => packet.bytes))).toBe(0);
    expect(plaintext.foundIn([traffic, Buffer.from(scene.server.log)])).toBe(0);
    // They carried this call: from the handshake on, in both directions, and more bytes than its frames had.
    const flow = packets.filter(({ from, to }) => from === "Ana" && to === "Ben");
    const back = packets.filter(({ from, to }) => from === "Ben" && to === "Ana");
    // Whatever has another sender or receiver is ICE trying addresses that are not used.
    expect([...flow, ...back].filter(isDtls).length).toBe(packets.filter(isDtls).length);
    expect(packets.some(({ bytes }) => isClientHello(bytes))).toBe(true);
    for (const direction of [flow, back]) expect(direction.filter(isDtls).length).toBeGreaterThan(200);
    expect(dtlsBytes(flow)).toBeGreaterThan(sum(media.sent));
  });

  test("DTLS alone leaves nothing to see in the UDP packets of a page that does not seal", () => {
    const { packets, media } = bare;
    expect(new Plaintext(media.encoded.map((one) => one.bytes)).foundIn(packets.map((p) => p.bytes))).toBe(0);
    // What left in these seconds is in these packets, but for the little that its lifetime ended.
    const flow = packets.filter(({ from }) => from === "Ana");
    expect(dtlsBytes(flow)).toBeGreaterThan(0.9 * sum(media.sent));
  });

  test("a page that does not seal shows them to whoever passes its frames on (so the search finds), and to nobody else", () => {
    const { encoded, sent } = bare.media;
    const crossed = pictures(bare.media, ana);
    expect(crossed.length).toBeGreaterThan(40);
    const pieces = new Plaintext(
      crossed.flatMap(({ frame, chunks }) => chunks.filter((c) => c.length + 40 === frame.length)),
    );
    expect(pieces.count).toBeGreaterThan(20);
    expect(pieces.foundIn(sent)).toBe(pieces.count);
    const sound = new Plaintext(encoded.filter((one) => !one.video).map((one) => one.bytes));
    expect(sound.foundIn(sent)).toBeGreaterThan(sound.count / 2);
    // Nothing of it opened.
    expect(bare.opened).toBe(0);
    expect(sealed.opened).toBeGreaterThan(40);
  });

  test("what ICE sends in clear is found in the same UDP packets in both directions (so the search finds)", () => {
    const names = [...traffic.toString("latin1").matchAll(/a=ice-ufrag:([\w+/]+)/g)].map((match) => match[1] ?? "");
    expect(new Set(names).size).toBe(2);
    for (const from of ["Ana", "Ben"]) {
      const all = Buffer.concat(sealed.packets.filter((packet) => packet.from === from).map((packet) => packet.bytes));
      for (const name of names) expect(all.includes(name), `${name} from ${from}`).toBe(true);
    }
  });
});

interface Watched {
  media: Recording;
  packets: Packet[];
  /** Frames of Ana that Ben opened meanwhile. */
  opened: number;
}

/** Look at what Ana sends for some seconds, in her page and on the way. */
async function watch(emulator: Emulator, ana: Participant, ben: Participant, node: number): Promise<Watched> {
  const before = await opened(ben, node);
  const media = await ana.tap.record(4000);
  // What was sent last is on its way, and statistics are a second old.
  await sleep(1000);
  return { media, packets: emulator.recorded(), opened: (await opened(ben, node)) - before };
}

const senderAt = async (person: Participant, node: number) =>
  (await person.state())?.stats?.senders.find((sender) => sender.node === node);
const opened = async (person: Participant, node: number) => (await senderAt(person, node))?.opened ?? 0;
const refused = async (person: Participant, node: number) => (await senderAt(person, node))?.refused ?? 0;

// The header's layout is the one of docs/ref/frame.md.
const kindOf = (frame: Buffer): "video" | "audio" | "other" =>
  (["video", "audio"] as const)[((frame[1] ?? 0) >> 4) & 3] ?? "other";

/** The pictures of a sender that were handed to channels, and what its encoders (one per layer) gave of the same moment. */
function pictures({ encoded, sent }: Recording, sender: number): { frame: Buffer; chunks: Buffer[] }[] {
  const at = new Map<number, Buffer[]>();
  for (const { video, timestamp, bytes } of encoded)
    if (video) at.set(timestamp, [...(at.get(timestamp) ?? []), bytes]);
  return sent.flatMap((frame) => {
    if (kindOf(frame) !== "video" || frame.readUInt16BE(16) !== sender) return [];
    // What was encoded before the recording began, and sent in it, has nothing to be compared with.
    const chunks = at.get(frame.readUIntBE(10, 6));
    return chunks ? [{ frame, chunks }] : [];
  });
}

const sum = (all: readonly Buffer[]): number => all.reduce((bytes, one) => bytes + one.length, 0);
/** By its first byte (RFC 7983, section 7). */
const isDtls = ({ bytes }: Packet): boolean => (bytes[0] ?? 0) >= 20 && (bytes[0] ?? 0) <= 63;
const dtlsBytes = (packets: readonly Packet[]): number => sum(packets.filter(isDtls).map((packet) => packet.bytes));
/** A handshake record in clear whose message is the first of a handshake (RFC 6347, section 4.3.2). */
const isClientHello = (bytes: Buffer): boolean => bytes[0] === 22 && bytes[13] === 1;
