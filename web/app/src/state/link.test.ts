import { makeSecret } from "@grove/client/frame/keys";
import { describe, expect, test } from "vitest";
import { parseLink, readRoom, roomPath } from "./link.ts";

const origin = "https://grove.example";
const room = "abcdEFGH0123-_xy";
const secret = "AAECAwQFBgcICQoLDA0ODw";

describe("room links", () => {
  test.each([
    [`https://grove.example/r/${room}#${secret}`],
    [`  https://grove.example/r/${room}#${secret}\n`],
    [`grove.example/r/${room}#${secret}`],
    [`/r/${room}#${secret}`],
    [`https://grove.example/r/${room}/?name=Ana#${secret}`],
  ])("%s opens the room", (text) => {
    expect(parseLink(text, origin)).toEqual({ kind: "room", room, secret });
  });

  test("a link without what stands behind the hash is told apart from a damaged one", () => {
    expect(parseLink(`${origin}/r/${room}`, origin)).toEqual({ kind: "no_secret", room });
    expect(parseLink(`${origin}/r/${room}#`, origin)).toEqual({ kind: "no_secret", room });
    expect(parseLink(`${origin}/r/${room}#${secret.slice(1)}`, origin)).toEqual({ kind: "bad_secret", room });
    expect(parseLink(`${origin}/r/${room}#${secret}.`, origin)).toEqual({ kind: "bad_secret", room });
  });

  test("a secret of 22 characters that is not 128 bits is damaged", () => {
    expect(readRoom(room, `#${secret.slice(0, 21)}x`).kind).toBe("bad_secret");
  });

  test("a link to another server names that server", () => {
    const href = `https://other.example:8443/r/${room}#${secret}`;
    expect(parseLink(href, origin)).toEqual({ kind: "elsewhere", href, host: "other.example:8443" });
  });

  test.each([
    "",
    "hello",
    "https://grove.example/",
    "https://grove.example/r/short#x",
    "javascript://grove.example/r/a",
  ])("%j is no room link", (text) => {
    expect(parseLink(text, origin)).toEqual({ kind: "not_a_link" });
  });

  test("a link made with a new secret opens its room again", () => {
    for (let i = 0; i < 50; i++) {
      const fresh = makeSecret();
      expect(parseLink(roomPath(room, fresh), origin)).toEqual({ kind: "room", room, secret: fresh });
    }
  });
});
