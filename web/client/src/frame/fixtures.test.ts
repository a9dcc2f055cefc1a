import { describe, expect, it } from "vitest";
import { toBase64url } from "./bytes.ts";
import { decodeHeader, type Header } from "./header.ts";
import { type OwnIdentity, openChat, type PublicIdentity, type RoomKeys, roomKeys, verifyIdentity } from "./keys.ts";
import { openSenderKey, verifyDescription } from "./mail.ts";
import { deriveFrameKeys, frameNonce, Opener, ratchetKey, sealFrame } from "./seal.ts";

/** `crates/frame/tests/fixtures.rs` writes these and says what they are; bytes are hex. */
interface Fixtures {
  frames: { name: string; base_key: string; header: Header; payload: string; nonce: string; sealed: string }[];
  malformed: { name: string; sealed: string }[];
  chain: { sender: number; generations: { generation: number; base_key: string; sealed: string }[] };
  room: {
    id: string;
    secret: string;
    people: [Person, Person];
    letter: string;
    generation: number;
    sender_key: string;
    description: { kind: "offer"; fingerprint: string; signature: string };
    chat: { text: string; body: string };
  };
}

interface Person extends PublicIdentity {
  node: number;
  id: string;
  kem_private: string;
  sign_seed: string;
}

// The client is typed without Node; its tests run there.
const node = "node:fs/promises";
const fs = (await import(/* @vite-ignore */ node)) as { readFile(path: URL, encoding: "utf8"): Promise<string> };
const fixtures = JSON.parse(
  await fs.readFile(new URL("../../../../fixtures/frame/frames.json", import.meta.url), "utf8"),
) as Fixtures;

const unhex = (text: string) => Uint8Array.from(text.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const base64url = (text: string) => toBase64url(unhex(text));

describe("the fixtures that Rust wrote", () => {
  it("are sealed here to the same bytes", async () => {
    expect(fixtures.frames.length).toBe(12);
    for (const frame of fixtures.frames) {
      const keys = await deriveFrameKeys(unhex(frame.base_key), frame.header.sender, frame.header.generation);
      expect(hex(frameNonce(keys.salt, frame.header)), frame.name).toBe(frame.nonce);
      expect(hex(await sealFrame(keys, frame.header, unhex(frame.payload))), frame.name).toBe(frame.sealed);
    }
  });

  it("open here to the same headers and payloads", async () => {
    for (const frame of fixtures.frames) {
      const sealed = unhex(frame.sealed);
      const header = decodeHeader(sealed);
      expect(header, frame.name).toEqual(frame.header);
      const opener = new Opener(frame.header.sender);
      await opener.addKey(frame.header.generation, unhex(frame.base_key));
      const result = await opener.open(header, sealed, 0);
      expect(result.ok && hex(result.payload), frame.name).toBe(frame.payload);
    }
  });

  it("are refused here when they are malformed", () => {
    expect(fixtures.malformed.length).toBe(19);
    for (const frame of fixtures.malformed) expect(decodeHeader(unhex(frame.sealed)), frame.name).toBeNull();
  });

  it("ratchet here to the same keys, and open eight steps past the key that is known", async () => {
    const { sender, generations } = fixtures.chain;
    expect(generations.length).toBe(10);
    const opener = new Opener(sender);
    for (const [i, { generation, base_key }] of generations.entries()) {
      if (i === 0) await opener.addKey(generation, unhex(base_key));
      const next = generations[i + 1];
      if (next !== undefined) expect(hex(await ratchetKey(unhex(base_key)))).toBe(next.base_key);
    }
    const outcomes = [];
    for (const i of [9, 8, 9]) {
      const sealed = unhex(generations[i]?.sealed ?? "");
      const result = await opener.open(decodeHeader(sealed), sealed, 0);
      outcomes.push(result.ok ? "opened" : result.why);
    }
    expect(outcomes).toEqual(["no_key", "opened", "opened"]);
  });

  it("hold a room whose people, letter, description and chat are taken here", async () => {
    const { room } = fixtures;
    const keys = (await roomKeys(room.id, base64url(room.secret))) as RoomKeys;
    const [ada, ben] = room.people;
    const identityOf = (person: Person): PublicIdentity => ({
      nonce: base64url(person.nonce),
      kem_key: base64url(person.kem_key),
      sign_key: base64url(person.sign_key),
      mac: base64url(person.mac),
    });
    const from = await verifyIdentity(keys, ada.id, identityOf(ada));
    expect(from).not.toBeNull();
    expect(await verifyIdentity(keys, ben.id, identityOf(ada))).toBeNull();
    if (from === null) return;

    const own = await ownIdentity(ben, identityOf(ben));
    const envelope = { room: room.id, from: { node: ada.node, id: ada.id }, to: { node: ben.node, id: ben.id } };
    const key = await openSenderKey(own, envelope, from, base64url(room.letter));
    expect(key).toEqual({ generation: room.generation, key: unhex(room.sender_key) });

    const { kind, fingerprint, signature } = room.description;
    const sdp = `a=fingerprint:${fingerprint}\r\n`;
    const description = { room: room.id, from: ada.id, to: ben.id, kind, sdp };
    expect(await verifyDescription(from, description, base64url(signature))).toBe(true);

    expect(await openChat(keys, ada.node, base64url(room.chat.body))).toBe(room.chat.text);
  });
});

/** An identity with private keys that are known; PKCS #8 (RFC 8410) around 32 bytes. */
async function ownIdentity(person: Person, announced: PublicIdentity): Promise<OwnIdentity> {
  const pkcs8 = (curve: string, key: string) => unhex(`302e020100300506032b65${curve}04220420${key}`);
  const { subtle } = crypto;
  return {
    public: announced,
    kem: {
      privateKey: await subtle.importKey("pkcs8", pkcs8("6e", person.kem_private), "X25519", false, ["deriveBits"]),
      publicKey: await subtle.importKey("raw", unhex(person.kem_key), "X25519", true, []),
    },
    sign: {
      privateKey: await subtle.importKey("pkcs8", pkcs8("70", person.sign_seed), "Ed25519", false, ["sign"]),
      publicKey: await subtle.importKey("raw", unhex(person.sign_key), "Ed25519", true, ["verify"]),
    },
  };
}
