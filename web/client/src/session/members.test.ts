import { expect, test } from "vitest";
import { makeIdentity, makeSecret, type RoomKeys, roomKeys } from "../frame/keys.ts";
import type { Participant } from "../signal/messages.ts";
import { Members } from "./members.ts";

const sdp = `v=0\r\na=fingerprint:sha-256 ${Array(32).fill("AB").join(":")}\r\n`;

async function party(secret: string, node: number) {
  const keys = (await roomKeys("room", secret)) as RoomKeys;
  const own = await makeIdentity(keys, `id-${node}`);
  const participant = { node, id: `id-${node}`, identity: own.public } as Participant;
  return { members: new Members(keys, own, { node, id: participant.id }), participant };
}

test("mail ahead of its sender is kept until the sender is known, once", async () => {
  const secret = makeSecret();
  const [a, b] = [await party(secret, 1), await party(secret, 2)];
  expect(a.members.keepEarly(2, "letter", 0)).toBe(true);
  await a.members.enter(b.participant);
  expect(a.members.takeEarly(2, 1_000)).toEqual(["letter"]);
  expect(a.members.takeEarly(2, 1_000)).toEqual([]);
  expect(a.members.keepEarly(2, "later", 1_000)).toBe(false);
});

test("early mail is dropped after ten seconds, and never more than 64 letters are kept", async () => {
  const { members } = await party(makeSecret(), 1);
  for (let i = 0; i < 100; i++) members.keepEarly(2, `letter ${i}`, 0);
  expect(members.takeEarly(2, 0)).toHaveLength(64);
  members.keepEarly(3, "old", 0);
  expect(members.takeEarly(3, 10_001)).toEqual([]);
});

test("an identity that was replaced while it was checked says nothing about the new one", async () => {
  const secret = makeSecret();
  const [a, b, again] = [await party(secret, 1), await party(makeSecret(), 2), await party(secret, 2)];
  const first = a.members.enter(b.participant);
  const second = a.members.enter(again.participant);
  expect([await first, await second]).toEqual([null, true]);
});

test("an identity that left does not come back, under whichever number", async () => {
  const secret = makeSecret();
  const [a, b] = [await party(secret, 1), await party(secret, 2)];
  expect(await a.members.enter(b.participant)).toBe(true);
  a.members.leave(2);
  expect(await a.members.enter(b.participant)).toBe(false);
  expect(await a.members.enter({ ...b.participant, node: 7 })).toBe(false);
});

test("a description is accepted from its signer, for its recipient and kind, and with its fingerprint only", async () => {
  const secret = makeSecret();
  const [a, b, c] = [await party(secret, 1), await party(secret, 2), await party(secret, 3)];
  for (const { members } of [a, b, c]) for (const { participant } of [a, b, c]) await members.enter(participant);
  const signature = (await a.members.sign(2, "offer", sdp)) as string;
  expect(await b.members.verify(1, "offer", sdp, signature)).toBe(true);
  expect(await b.members.verify(1, "answer", sdp, signature)).toBe(false);
  expect(await b.members.verify(3, "offer", sdp, signature)).toBe(false);
  expect(await c.members.verify(1, "offer", sdp, signature)).toBe(false);
  expect(await b.members.verify(1, "offer", sdp.replace("AB", "AC"), signature)).toBe(false);
});

test("nothing is signed or sealed for somebody who is not verified", async () => {
  const [a, b] = [await party(makeSecret(), 1), await party(makeSecret(), 2)];
  expect(await a.members.enter(b.participant)).toBe(false);
  expect(await a.members.sign(2, "offer", sdp)).toBeNull();
  expect(await a.members.seal(2, { generation: 1, key: new Uint8Array(16) })).toBeNull();
});
