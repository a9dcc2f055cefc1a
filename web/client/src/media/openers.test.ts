import { describe, expect, it } from "vitest";
import { decodeHeader, type Header } from "../frame/header.ts";
import { Sealer, type SealFields } from "../frame/seal.ts";
import { streamKey } from "../transport/types.ts";
import { Openers } from "./openers.ts";

const FIELDS: SealFields = {
  key: false,
  kind: "audio",
  spatial: 0,
  temporal: 0,
  width: 0,
  height: 0,
  farthest: 0,
  nearest: 0,
  level: 20,
  captureUs: 0,
  stream: 0,
  track: 0,
  droppable: false,
  rotation: 0,
};
const STREAM = streamKey(7, 0);

/** A sender with node number 7, openers that note what they deliver, and a clock that is set by hand. */
function setUp(deliver: (number: number) => void = () => {}) {
  const sealer = new Sealer(7);
  const delivered: number[] = [];
  const failed: unknown[] = [];
  const clock = { ms: 0 };
  const openers = new Openers(
    (_stream, header) => {
      delivered.push(header.number);
      deliver(header.number);
    },
    (error) => failed.push(error),
    () => clock.ms,
  );
  const frames = async (count: number): Promise<{ header: Header; sealed: Uint8Array }[]> => {
    const sealed = await Promise.all(Array.from({ length: count }, () => sealer.seal(FIELDS, new Uint8Array([1, 2]))));
    return sealed.map((bytes) => ({ header: decodeHeader(bytes) as Header, sealed: bytes }));
  };
  const learn = async (): Promise<void> => {
    const { generation, key } = await sealer.key();
    await openers.key(7, generation, key);
  };
  return { openers, delivered, failed, clock, frames, learn };
}

/** Until everything that was begun has come through the cipher. */
const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 50));

describe("opening", () => {
  it("delivers frames in order of arrival, whatever order the cipher is done in", async () => {
    const { openers, delivered, frames, learn } = setUp();
    await learn();
    for (const { header, sealed } of await frames(50)) openers.frame(STREAM, header, sealed);
    await settled();
    expect(delivered).toEqual(Array.from({ length: 50 }, (_, n) => n));
  });

  it("keeps frames that come before their key and delivers them with it, in order", async () => {
    const { openers, delivered, frames, learn } = setUp();
    const all = await frames(20);
    for (const { header, sealed } of all.slice(0, 15)) openers.frame(STREAM, header, sealed);
    await settled();
    expect(delivered).toEqual([]);
    await learn();
    for (const { header, sealed } of all.slice(15)) openers.frame(STREAM, header, sealed);
    await settled();
    expect(delivered).toEqual(Array.from({ length: 20 }, (_, n) => n));
    expect(openers.stats()).toMatchObject([{ node: 7, opened: 20, malformed: 0, replayed: 0 }]);
  });

  it("never delivers an altered frame, nor one twice, and counts both", async () => {
    const { openers, delivered, frames, learn } = setUp();
    await learn();
    const [first, second] = (await frames(2)) as [{ header: Header; sealed: Uint8Array }, never];
    const altered = first.sealed.slice();
    altered[30] = (altered[30] as number) ^ 1;
    openers.frame(STREAM, first.header, altered);
    for (const { header, sealed } of [first, second, second]) openers.frame(STREAM, header, sealed);
    await settled();
    expect(delivered).toEqual([0, 1]);
    expect(openers.stats()).toMatchObject([{ opened: 2, refused: 1, replayed: 1 }]);
  });

  it("goes on with the frames behind one whose delivery threw", async () => {
    const { openers, delivered, failed, frames, learn } = setUp((number) => {
      if (number === 1) throw new Error("no such decoder");
    });
    await learn();
    for (const { header, sealed } of await frames(4)) openers.frame(STREAM, header, sealed);
    await settled();
    expect(delivered).toEqual([0, 1, 2, 3]);
    expect(failed.length).toBe(1);
  });

  it("names a sender of whom nothing opened for 2 s, and not again within 5 s", async () => {
    const { openers, clock, frames } = setUp();
    const send = async (): Promise<void> => {
      for (const { header, sealed } of await frames(12)) openers.frame(STREAM, header, sealed);
      await settled();
    };
    await send();
    expect(openers.undecodable()).toEqual([]);
    clock.ms = 2_500;
    expect(openers.undecodable()).toEqual([{ node: 7, frames: 12 }]);
    clock.ms = 4_000;
    expect(openers.undecodable()).toEqual([]);
  });

  it("has no complaint once the key came", async () => {
    const { openers, clock, frames, learn } = setUp();
    for (const { header, sealed } of await frames(12)) openers.frame(STREAM, header, sealed);
    await settled();
    await learn();
    await settled();
    clock.ms = 10_000;
    expect(openers.undecodable()).toEqual([]);
  });
});
