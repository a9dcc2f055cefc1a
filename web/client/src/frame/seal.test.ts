import { describe, expect, it, vi } from "vitest";
import { decodeHeader, HEADER_BYTES } from "./header.ts";
import {
  deriveFrameKeys,
  frameNonce,
  GENERATION_GRACE_MS,
  Opener,
  type OpenResult,
  RATCHET_WINDOW,
  REPLAY_WINDOW,
  Sealer,
  type SealFields,
  type SenderKey,
} from "./seal.ts";

const VIDEO: SealFields = {
  key: false,
  kind: "video",
  spatial: 0,
  temporal: 0,
  width: 0,
  height: 0,
  farthest: 1,
  nearest: 1,
  level: 0,
  captureUs: 1_000_000,
  stream: 0,
  track: 1,
  droppable: false,
  rotation: 0,
};
const AUDIO: SealFields = { ...VIDEO, kind: "audio", farthest: 0, nearest: 0, level: 30, track: 0 };
const PAYLOAD = Uint8Array.from({ length: 200 }, (_, i) => i);

const open = (opener: Opener, sealed: Uint8Array, nowMs = 0) => opener.open(decodeHeader(sealed), sealed, nowMs);
const outcome = (result: OpenResult) => (result.ok ? "opened" : result.why);

async function openerWith(...keys: SenderKey[]): Promise<Opener> {
  const opener = new Opener(5);
  for (const { generation, key } of keys) await opener.addKey(generation, key);
  return opener;
}

describe("a sealed frame", () => {
  it("opens once, to the payload that went in", async () => {
    const sealer = new Sealer(5);
    const opener = await openerWith(await sealer.key());
    const sealed = await sealer.seal(VIDEO, PAYLOAD);
    expect(sealed.length).toBe(24 + 200 + 16);
    expect(await open(opener, sealed)).toEqual({ ok: true, payload: PAYLOAD });
    expect(await open(opener, sealed)).toEqual({ ok: false, why: "replayed" });
    expect(opener.counts).toEqual({ opened: 1, no_key: 0, refused: 0, replayed: 1, malformed: 0 });
  });

  it("may be empty", async () => {
    const sealer = new Sealer(5);
    const opener = await openerWith(await sealer.key());
    const result = await open(opener, await sealer.seal(AUDIO, new Uint8Array(0)));
    expect(result).toEqual({ ok: true, payload: new Uint8Array(0) });
  });

  it("does not open when any bit is altered, and still opens itself afterwards", async () => {
    const sealer = new Sealer(5, { generation: 0 });
    const opener = await openerWith(await sealer.key());
    const sealed = await sealer.seal(VIDEO, PAYLOAD.subarray(0, 8));
    for (let bit = 0; bit < 8 * sealed.length; bit++) {
      const altered = sealed.slice();
      altered[bit >> 3] = (altered[bit >> 3] as number) ^ (1 << (bit & 7));
      expect((await open(opener, altered)).ok, `bit ${bit}`).toBe(false);
    }
    expect(opener.counts.opened).toBe(0);
    expect(opener.generations).toEqual([0]);
    expect((await open(opener, sealed)).ok).toBe(true);
  });

  it("does not open when it is cut, lengthened, or under another frame's header", async () => {
    const sealer = new Sealer(5);
    const opener = await openerWith(await sealer.key());
    const [first, second] = await Promise.all([sealer.seal(VIDEO, PAYLOAD), sealer.seal(VIDEO, PAYLOAD)]);
    for (let length = 0; length < first.length; length++) {
      expect((await open(opener, first.subarray(0, length))).ok, `${length} bytes`).toBe(false);
    }
    expect((await open(opener, Uint8Array.of(...first, 0))).ok).toBe(false);
    const crossed = first.slice();
    crossed.set(second.subarray(0, HEADER_BYTES));
    expect(outcome(await open(opener, crossed))).toBe("refused");
    expect(outcome(await opener.open(decodeHeader(second), first, 0))).toBe("refused");
    expect([outcome(await open(opener, second)), outcome(await open(opener, first))]).toEqual(["opened", "opened"]);
  });

  it("opens for its own sender only", async () => {
    const [five, six] = [new Sealer(5), new Sealer(6)];
    const key = await six.key();
    const opener = await openerWith(key);
    expect(outcome(await open(opener, await six.seal(VIDEO, PAYLOAD)))).toBe("malformed");
    expect(outcome(await open(opener, await five.seal({ ...VIDEO }, PAYLOAD)))).toBe("refused");
  });

  it("keeps the order of the calls within its layer, whatever the sizes", async () => {
    const sealer = new Sealer(5);
    const done: number[] = [];
    const sizes = [300_000, 1, 200_000, 2, 100_000, 3];
    await Promise.all(
      sizes.map(async (size, i) => {
        const sealed = await sealer.seal(VIDEO, new Uint8Array(size));
        expect(decodeHeader(sealed)?.number).toBe(i);
        done.push(i);
      }),
    );
    expect(done).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it("with a field that does not fit fails alone", async () => {
    const sealer = new Sealer(5);
    const wrong = sealer.seal({ ...VIDEO, spatial: 9 }, PAYLOAD);
    const right = sealer.seal(VIDEO, PAYLOAD);
    await expect(wrong).rejects.toThrow(/^spatial:/);
    expect(decodeHeader(await right)?.number).toBe(0);
  });
});

describe("the replay window", () => {
  it("opens late frames in any order, and none twice", async () => {
    const sealer = new Sealer(5);
    const opener = await openerWith(await sealer.key());
    const frames: Uint8Array[] = [];
    for (let i = 0; i < 64; i++) frames.push(await sealer.seal(VIDEO, PAYLOAD));
    const shuffled = frames.map((_, i) => frames[(i * 37) % 64] as Uint8Array);
    const results = await Promise.all([...shuffled, ...frames].map((frame) => open(opener, frame)));
    expect(results.slice(0, 64).every((result) => result.ok)).toBe(true);
    expect(opener.counts).toEqual({ opened: 64, no_key: 0, refused: 0, replayed: 64, malformed: 0 });
  });

  it("lets one of many copies through when all come at once", async () => {
    const sealer = new Sealer(5);
    const opener = await openerWith(await sealer.key());
    const sealed = await sealer.seal(VIDEO, PAYLOAD);
    const results = await Promise.all(Array.from({ length: 20 }, () => open(opener, sealed)));
    expect(results.filter((result) => result.ok).length).toBe(1);
    expect(opener.counts.replayed).toBe(19);
  });

  it("does not let a forged copy that comes first keep the real one out", async () => {
    const sealer = new Sealer(5);
    const opener = await openerWith(await sealer.key());
    const sealed = await sealer.seal(VIDEO, PAYLOAD);
    const forged = sealed.slice();
    forged.set([1, 2, 3], 40);
    const results = await Promise.all([open(opener, forged), open(opener, sealed), open(opener, forged)]);
    expect(results.map(outcome)).toEqual(["refused", "opened", "replayed"]);
  });

  it("is not moved by a forgery, however high its number", async () => {
    const sealer = new Sealer(5);
    const opener = await openerWith(await sealer.key());
    const sealed = await sealer.seal(VIDEO, PAYLOAD);
    const forged = sealed.slice();
    forged.set([0xff, 0xff, 0xff, 0xff], 2);
    expect(outcome(await open(opener, forged))).toBe("refused");
    expect(outcome(await open(opener, sealed))).toBe("opened");
  });

  it("reaches back 1024 frames in each layer by itself", async () => {
    const sealer = new Sealer(5);
    const opener = await openerWith(await sealer.key());
    const frames: Uint8Array[] = [];
    for (let i = 0; i <= REPLAY_WINDOW; i++) frames.push(await sealer.seal(VIDEO, new Uint8Array(1)));
    const other = await sealer.seal({ ...VIDEO, spatial: 1 }, PAYLOAD);
    const at = (number: number) => open(opener, frames[number] as Uint8Array).then(outcome);
    expect(await at(REPLAY_WINDOW)).toBe("opened");
    expect(await at(1)).toBe("opened");
    expect(await at(0)).toBe("replayed");
    expect(outcome(await open(opener, other))).toBe("opened");
  });
});

describe("nonces", () => {
  it("never come twice under a key, over joins, leaves, layers and reloads", async () => {
    const seen = new Set<string>();
    let sealedFrames = 0;
    const reloads = 3;
    for (let reload = 0; reload < reloads; reload++) {
      const sealer = new Sealer(5, { generation: 10, numbers: 40 });
      for (let round = 0; round < 60; round++) {
        const fields = [VIDEO, AUDIO, { ...VIDEO, spatial: 1 }, { ...VIDEO, stream: 1 }, { ...AUDIO, stream: 1 }];
        for (const own of fields) {
          const sealed = await sealer.seal(own, PAYLOAD.subarray(0, 1));
          const header = decodeHeader(sealed);
          if (header === null) throw new Error("malformed");
          const { generation, key } = await sealer.key();
          expect(header.generation).toBe(generation);
          const { salt } = await deriveFrameKeys(key, 5, generation);
          seen.add(`${key.join()}/${frameNonce(salt, header).join()}`);
          sealedFrames += 1;
        }
        if (round % 7 === 0) await sealer.ratchet();
        if (round % 11 === 0) await sealer.rotate();
        if (round % 5 === 0) sealer.use((sealer.generation + 1) & 0xffff);
      }
    }
    expect(sealedFrames).toBe(reloads * 60 * 5);
    expect(seen.size).toBe(sealedFrames);
  });

  it("go on under a new key when numbers run out, and the key is told", async () => {
    const told: SenderKey[] = [];
    const sealer = new Sealer(5, { generation: 0xffff, numbers: 3, onForcedRotation: (key) => told.push(key) });
    const first = await sealer.key();
    await sealer.ratchet();
    const headers = [];
    for (let i = 0; i < 5; i++) headers.push(decodeHeader(await sealer.seal(VIDEO, PAYLOAD)));
    expect(headers.map((header) => [header?.generation, header?.number])).toEqual([
      [0xffff, 0],
      [0xffff, 1],
      [0xffff, 2],
      [1, 0],
      [1, 1],
    ]);
    expect(told).toEqual([await sealer.key()]);
    expect(told[0]?.key).not.toEqual(first.key);
    expect(sealer.use(0)).toBe(false);
  });

  it("are safe from a reload: the new sealer has another key, and a newer generation a second later", async () => {
    vi.useFakeTimers({ toFake: ["Date"], now: 0xffff * 1000 });
    try {
      const keys = await Promise.all(Array.from({ length: 50 }, () => new Sealer(5).key()));
      expect(new Set(keys.map(({ key }) => key.join())).size).toBe(50);
      vi.setSystemTime(0x10000 * 1000);
      expect([keys[0]?.generation, new Sealer(5).generation]).toEqual([0xffff, 0]);
    } finally {
      vi.useRealTimers();
    }
  });

  it("go on counting through a change of key", async () => {
    const sealer = new Sealer(5);
    await sealer.seal(VIDEO, PAYLOAD);
    expect(sealer.sealedUnderKey).toBe(1);
    sealer.use((await sealer.rotate()).generation);
    expect(sealer.sealedUnderKey).toBe(0);
    expect(decodeHeader(await sealer.seal(VIDEO, PAYLOAD))?.number).toBe(1);
  });
});

describe("key generations", () => {
  it("are used when they are told to, and never back again", async () => {
    const sealer = new Sealer(5, { generation: 0xfffe });
    const [one, two] = [await sealer.ratchet(), await sealer.rotate()];
    expect([one.generation, two.generation, sealer.generation]).toEqual([0xffff, 0, 0xfffe]);
    expect(sealer.use(0)).toBe(true);
    expect(sealer.use(0xffff)).toBe(false);
    expect(sealer.use(0xfffe)).toBe(false);
    expect(sealer.generation).toBe(0);
    expect(await sealer.key()).toEqual(two);
  });

  it("open in their turn while the change is on its way", async () => {
    const sealer = new Sealer(5);
    const opener = await openerWith(await sealer.key());
    const before = await sealer.seal(VIDEO, PAYLOAD);
    const next = await sealer.rotate();
    sealer.use(next.generation);
    const after = await sealer.seal(VIDEO, PAYLOAD);
    expect(outcome(await open(opener, after))).toBe("no_key");
    await opener.addKey(next.generation, next.key);
    expect(outcome(await open(opener, after))).toBe("opened");
    expect(outcome(await open(opener, before))).toBe("opened");
  });

  it("expire 10 s after a newer one was first used, and no mail brings them back", async () => {
    const sealer = new Sealer(5);
    const old = await sealer.key();
    const opener = await openerWith(old);
    const late = [await sealer.seal(VIDEO, PAYLOAD), await sealer.seal(VIDEO, PAYLOAD)] as const;
    const next = await sealer.rotate();
    await opener.addKey(next.generation, next.key);
    sealer.use(next.generation);
    expect(outcome(await open(opener, await sealer.seal(VIDEO, PAYLOAD), 1000))).toBe("opened");
    expect(outcome(await open(opener, await sealer.seal(VIDEO, PAYLOAD), 9000))).toBe("opened");
    expect(outcome(await open(opener, late[0], 1000 + GENERATION_GRACE_MS - 1))).toBe("opened");
    expect(outcome(await open(opener, late[1], 1000 + GENERATION_GRACE_MS))).toBe("no_key");
    expect(await opener.addKey(old.generation, old.key)).toBe(false);
    expect(outcome(await open(opener, late[0], 12_000))).toBe("no_key");
    expect(opener.generations).toEqual([next.generation]);
  });

  it("stay while nothing newer is in use, even when the newer key has long arrived", async () => {
    const sealer = new Sealer(5);
    const opener = await openerWith(await sealer.key(), await sealer.rotate());
    expect(outcome(await open(opener, await sealer.seal(VIDEO, PAYLOAD), 3_600_000))).toBe("opened");
  });

  it("are ratcheted without mail up to 8 steps, and believed only when a frame opens", async () => {
    const sealer = new Sealer(5, { generation: 0xfffc });
    const first = await sealer.key();
    const opener = await openerWith(first);
    for (let i = 0; i < RATCHET_WINDOW; i++) sealer.use((await sealer.ratchet()).generation);
    const inside = await sealer.seal(VIDEO, PAYLOAD);
    sealer.use((await sealer.ratchet()).generation);
    const beyond = await sealer.seal(VIDEO, PAYLOAD);

    expect(outcome(await open(opener, beyond))).toBe("no_key");
    const forged = inside.slice();
    forged[30] = (forged[30] as number) ^ 1;
    expect(outcome(await open(opener, forged))).toBe("no_key");
    expect(opener.generations).toEqual([first.generation]);
    expect(outcome(await open(opener, inside))).toBe("opened");
    expect(opener.generations).toEqual([first.generation, (first.generation + 8) & 0xffff]);
    expect(outcome(await open(opener, beyond))).toBe("opened");
  });

  it("that were on trial give way to the key that comes by mail, and frames open once all the same", async () => {
    const sealer = new Sealer(5, { generation: 1 });
    const opener = await openerWith(await sealer.key());
    const ratcheted = await sealer.ratchet();
    sealer.use(2);
    const sealed = await sealer.seal(VIDEO, PAYLOAD);
    const [early, , late] = await Promise.all([
      open(opener, sealed),
      opener.addKey(2, ratcheted.key),
      open(opener, sealed),
    ]);
    expect([outcome(early), outcome(late), outcome(await open(opener, sealed))]).toEqual([
      "opened",
      "replayed",
      "replayed",
    ]);

    // A fresh key follows, whose mail is late, and a ratchet of it: both were tried from the wrong key.
    const fresh = await sealer.rotate();
    await sealer.ratchet();
    sealer.use(3);
    const third = await sealer.seal(VIDEO, PAYLOAD);
    sealer.use(4);
    const fourth = await sealer.seal(VIDEO, PAYLOAD);
    expect(outcome(await open(opener, fourth))).toBe("no_key");
    await opener.addKey(3, fresh.key);
    expect([outcome(await open(opener, fourth)), outcome(await open(opener, third))]).toEqual(["opened", "opened"]);
    expect(outcome(await open(opener, fourth))).toBe("replayed");
  });

  it("give a newcomer nothing of the past", async () => {
    const sealer = new Sealer(5);
    const past = await Promise.all(Array.from({ length: 10 }, () => sealer.seal(VIDEO, PAYLOAD)));
    const given = await sealer.ratchet();
    sealer.use(given.generation);
    const newcomer = await openerWith(given);
    for (const sealed of past) expect(outcome(await open(newcomer, sealed))).toBe("no_key");
    expect(outcome(await open(newcomer, await sealer.seal(VIDEO, PAYLOAD)))).toBe("opened");
    // Nor does the key itself open it under the older generation's name.
    const cheat = await openerWith({ ...given, generation: (given.generation - 1) & 0xffff });
    for (const sealed of past) expect(outcome(await open(cheat, sealed))).toBe("refused");
  });

  it("give a leaver nothing of what follows", async () => {
    const sealer = new Sealer(5);
    const leaver = await openerWith(await sealer.key());
    sealer.use((await sealer.rotate()).generation);
    for (let i = 0; i < 10; i++) {
      if (i === 5) sealer.use((await sealer.ratchet()).generation);
      expect(outcome(await open(leaver, await sealer.seal(VIDEO, PAYLOAD)))).toBe("no_key");
    }
    expect(leaver.counts).toEqual({ opened: 0, no_key: 10, refused: 0, replayed: 0, malformed: 0 });
  });

  it("of a hostile number do not pile up", async () => {
    const opener = new Opener(5);
    for (let i = 0; i < 1000; i++) await opener.addKey(i, PAYLOAD.subarray(0, 16));
    expect(opener.generations.length).toBe(32);
    expect(await opener.addKey(70_000, PAYLOAD.subarray(0, 16))).toBe(false);
    expect(await opener.addKey(1001, PAYLOAD.subarray(0, 15))).toBe(false);
  });
});
