import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { Plaintext } from "./plaintext.ts";

const chunks = [randomBytes(4000), randomBytes(90)];
const pieces = new Plaintext(chunks);

/** As one stream of bytes behind a header, cut into packets. */
const packets = (all: readonly Buffer[], size: number): Buffer[] => {
  const stream = Buffer.concat([randomBytes(37), ...all]);
  return Array.from({ length: Math.ceil(stream.length / size) }, (_, i) => stream.subarray(i * size, (i + 1) * size));
};

test("every piece is found in the plaintext, and each counts once", () => {
  expect(pieces.count).toBe(84 + 2);
  expect(pieces.foundIn([...chunks, ...chunks])).toBe(pieces.count);
});

test("cutting into packets hides no more than the piece at each cut", () => {
  const cut = packets(chunks, 200);
  expect(pieces.foundIn(cut)).toBeGreaterThanOrEqual(pieces.count - cut.length);
});

test("nothing is found in other bytes, and zeros are not looked for", () => {
  expect(pieces.foundIn(packets([randomBytes(1_000_000)], 1200))).toBe(0);
  expect(new Plaintext([Buffer.alloc(1000)]).count).toBe(0);
});
