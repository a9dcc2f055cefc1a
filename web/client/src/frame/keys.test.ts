import { describe, expect, it } from "vitest";
import { fromBase64url, toBase64url } from "./bytes.ts";
import { makeIdentity, makeSecret, openChat, type RoomKeys, roomKeys, sealChat, verifyIdentity } from "./keys.ts";
import {
  dtlsFingerprint,
  type Envelope,
  openSenderKey,
  sealSenderKey,
  signDescription,
  verifyDescription,
} from "./mail.ts";

async function room(id = "room", secret = makeSecret()): Promise<RoomKeys> {
  const keys = await roomKeys(id, secret);
  if (keys === null) throw new Error("no keys");
  return keys;
}

async function pair() {
  const keys = await room();
  const [ada, ben] = await Promise.all([makeIdentity(keys, "ada"), makeIdentity(keys, "ben")]);
  const [adaSeen, benSeen] = await Promise.all([
    verifyIdentity(keys, "ada", ada.public),
    verifyIdentity(keys, "ben", ben.public),
  ]);
  if (adaSeen === null || benSeen === null) throw new Error("not verified");
  const envelope: Envelope = { room: "room", from: { node: 1, id: "ada" }, to: { node: 2, id: "ben" } };
  return { keys, ada, ben, adaSeen, benSeen, envelope };
}

const KEY = { generation: 7, key: Uint8Array.from({ length: 16 }, (_, i) => i) };
const SDP = `v=0\r\na=fingerprint:sha-256 ${"ab:".repeat(31)}CD\r\nm=application 9 UDP/DTLS/SCTP\r\n`;

/** Every way to change one character of a base64url text into another valid one of the same bytes' length. */
function spoilt(text: string): string[] {
  const bytes = fromBase64url(text);
  if (bytes === null) throw new Error("not base64url");
  return Array.from(bytes, (byte, at) => toBase64url(bytes.with(at, byte ^ 1)));
}

describe("identities", () => {
  it("verify for those who hold the same link, and for that participant only", async () => {
    const secret = makeSecret();
    const identity = await makeIdentity(await room("room", secret), "ada");
    expect(await verifyIdentity(await room("room", secret), "ada", identity.public)).not.toBeNull();
    expect(await verifyIdentity(await room("room", secret), "ben", identity.public)).toBeNull();
    expect(await verifyIdentity(await room("other", secret), "ada", identity.public)).toBeNull();
    expect(await verifyIdentity(await room("room"), "ada", identity.public)).toBeNull();
  });

  it("do not survive a change of any byte", async () => {
    const keys = await room();
    const identity = await makeIdentity(keys, "ada");
    for (const field of ["nonce", "kem_key", "sign_key", "mac"] as const) {
      for (const text of spoilt(identity.public[field])) {
        expect(await verifyIdentity(keys, "ada", { ...identity.public, [field]: text }), field).toBeNull();
      }
    }
    expect(await verifyIdentity(keys, "ada", { ...identity.public, mac: "" })).toBeNull();
    expect(await verifyIdentity(keys, "ada", { ...identity.public, kem_key: "not base64!" })).toBeNull();
  });

  it("keep their private keys inside the browser", async () => {
    const identity = await makeIdentity(await room(), "ada");
    expect([identity.kem.privateKey.extractable, identity.sign.privateKey.extractable]).toEqual([false, false]);
  });

  it("need a secret of 16 bytes", async () => {
    expect(await roomKeys("room", "")).toBeNull();
    expect(await roomKeys("room", toBase64url(new Uint8Array(15)))).toBeNull();
    expect(await roomKeys("room", `${makeSecret().slice(0, -1)}=`)).toBeNull();
  });
});

describe("mail", () => {
  it("brings a sender key to its recipient", async () => {
    const { ada, ben, adaSeen, benSeen, envelope } = await pair();
    const body = await sealSenderKey(ada, envelope, benSeen, KEY);
    expect(await openSenderKey(ben, envelope, adaSeen, body)).toEqual(KEY);
  });

  it("opens for nobody else, from nobody else, and in no other place", async () => {
    const { keys, ada, ben, adaSeen, benSeen, envelope } = await pair();
    const eve = await makeIdentity(keys, "eve");
    const eveSeen = await verifyIdentity(keys, "eve", eve.public);
    if (eveSeen === null) throw new Error("not verified");
    const body = await sealSenderKey(ada, envelope, benSeen, KEY);
    const { from, to } = envelope;
    expect(await openSenderKey(eve, envelope, adaSeen, body)).toBeNull();
    expect(await openSenderKey(ben, envelope, eveSeen, body)).toBeNull();
    expect(await openSenderKey(ben, { ...envelope, room: "other" }, adaSeen, body)).toBeNull();
    expect(await openSenderKey(ben, { ...envelope, from: { ...from, node: 3 } }, adaSeen, body)).toBeNull();
    expect(await openSenderKey(ben, { ...envelope, from: { ...from, id: "eve" } }, adaSeen, body)).toBeNull();
    expect(await openSenderKey(ben, { ...envelope, to: { ...to, node: 3 } }, adaSeen, body)).toBeNull();
    expect(await openSenderKey(ben, { ...envelope, to: { ...to, id: "eve" } }, adaSeen, body)).toBeNull();
  });

  it("does not survive a change of any byte, nor of its length", async () => {
    const { ada, ben, adaSeen, benSeen, envelope } = await pair();
    const body = await sealSenderKey(ada, envelope, benSeen, KEY);
    const wrong = [...spoilt(body), "", body.slice(0, -4), `${body}AAAA`, "!"];
    expect(wrong.length).toBe(135);
    for (const text of wrong) expect(await openSenderKey(ben, envelope, adaSeen, text)).toBeNull();
  });
});

describe("signed descriptions", () => {
  it("verify for the fingerprint, the room, the two ends and the kind that were signed", async () => {
    const { ada, adaSeen, benSeen } = await pair();
    const description = { room: "room", from: "ada", to: "ben", kind: "offer", sdp: SDP } as const;
    const signature = await signDescription(ada, description);
    expect(await verifyDescription(adaSeen, description, signature)).toBe(true);
    expect(await verifyDescription(benSeen, description, signature)).toBe(false);
    expect(await verifyDescription(adaSeen, { ...description, room: "other" }, signature)).toBe(false);
    expect(await verifyDescription(adaSeen, { ...description, from: "ben" }, signature)).toBe(false);
    expect(await verifyDescription(adaSeen, { ...description, to: "eve" }, signature)).toBe(false);
    expect(await verifyDescription(adaSeen, { ...description, kind: "answer" }, signature)).toBe(false);
    expect(await verifyDescription(adaSeen, { ...description, sdp: SDP.replace("CD", "CE") }, signature)).toBe(false);
    expect(await verifyDescription(adaSeen, description, "AAAA")).toBe(false);
  });

  it("have one fingerprint, of a sound hash, or none at all", async () => {
    const line = `a=fingerprint:sha-256 ${"AB:".repeat(31)}CD`;
    expect(dtlsFingerprint(SDP)).toBe(`sha-256 ${"AB:".repeat(31)}CD`);
    expect(dtlsFingerprint(`${SDP}${line}\r\n`)).toBe(`sha-256 ${"AB:".repeat(31)}CD`);
    expect(dtlsFingerprint(`${SDP}${line.replace("CD", "CE")}\r\n`)).toBeNull();
    expect(dtlsFingerprint(`${SDP} A = fingerprint : nonsense\r\n`)).toBeNull();
    expect(dtlsFingerprint("a=fingerprint:sha-1 AB:CD")).toBeNull();
    expect(dtlsFingerprint("v=0\r\n")).toBeNull();
    const { ada } = await pair();
    const bare = { room: "room", from: "ada", to: "ben", kind: "offer", sdp: "v=0" } as const;
    await expect(signDescription(ada, bare)).rejects.toThrow(RangeError);
  });
});

describe("chat", () => {
  it("opens with the room's key, for the participant who wrote it", async () => {
    const secret = makeSecret();
    const [here, there] = await Promise.all([room("room", secret), room("room", secret)]);
    const body = await sealChat(here, 3, "Grüße 👋");
    expect(await openChat(there, 3, body)).toBe("Grüße 👋");
    expect(await openChat(there, 4, body)).toBeNull();
    expect(await openChat(await room("other", secret), 3, body)).toBeNull();
    expect(await openChat(await room(), 3, body)).toBeNull();
    for (const text of [...spoilt(body), "", "AAAA", "#"]) expect(await openChat(there, 3, text)).toBeNull();
  });

  it("is never sealed the same way twice", async () => {
    const keys = await room();
    const bodies = await Promise.all(Array.from({ length: 100 }, () => sealChat(keys, 1, "same")));
    expect(new Set(bodies.map((body) => body.slice(0, 16))).size).toBe(100);
  });
});
