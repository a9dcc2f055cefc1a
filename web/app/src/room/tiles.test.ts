import type { Person, PersonStream } from "@grove/client/api";
import { describe, expect, test } from "vitest";
import { tilesOf, tileWords } from "./tiles.ts";

function stream(change: Partial<PersonStream> = {}): PersonStream {
  const ref = { node: 3, stream: 0 };
  return {
    ref,
    kind: "camera",
    audio: true,
    video: true,
    state: "live",
    why: null,
    width: 640,
    height: 360,
    ...change,
  };
}

function person(change: Partial<Person> = {}): Person {
  return {
    node: 3,
    name: "Ana",
    presence: { microphone: true, camera: true, hand: false },
    verified: true,
    connected: true,
    streams: [stream()],
    audioLevel: 127,
    way: null,
    quality: { level: "good", words: "" },
    ...change,
  };
}

describe("tiles", () => {
  test("everybody has one, in order of arrival, and one's own stands last", () => {
    const keys = tilesOf([person({ node: 9 }), person({ node: 4, streams: [] })]).map((tile) => tile.key);
    expect(keys).toEqual(["person-9", "person-4", "self"]);
  });

  test("a screen has a tile beside its owner's", () => {
    const screen = stream({ kind: "screen", ref: { node: 3, stream: 1 } });
    const keys = tilesOf([person({ streams: [stream(), screen] })]).map((tile) => tile.key);
    expect(keys).toEqual(["person-3", "screen-3-1", "self"]);
  });

  test("a stream that is not live is told in words, the planner's own where it has some", () => {
    expect(tileWords(person(), stream())).toBeNull();
    expect(tileWords(person(), stream({ state: "waiting" }))).toContain("on its way");
    expect(tileWords(person(), stream({ state: "waiting", video: false }))).toBeNull();
    expect(tileWords(person(), stream({ state: "lost" }))).toContain("Ana");
    expect(tileWords(person(), stream({ state: "unserved", why: "No upload is left." }))).toBe("No upload is left.");
  });

  test("somebody with another key is told as such, whatever the stream does", () => {
    expect(tileWords(person({ verified: false }), stream())).toContain("another key");
  });
});
