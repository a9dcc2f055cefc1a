import type { Tree, TreeEdge } from "@grove/client/signal/messages";
import { describe, expect, test } from "vitest";
import type { Change } from "./changes.ts";
import * as say from "./sentences.ts";

const names = ["You", "Ana", "Ben", "Carl", "Dee"];
const RELAY = 65535;
const nameOf = (node: number) => (node === RELAY ? "the server" : (names[node] ?? `No. ${node}`));
const sizes = [
  { width: 320, height: 180 },
  { width: 640, height: 360 },
];

function edge(change: Partial<TreeEdge>): TreeEdge {
  return {
    parent: 1,
    child: 2,
    level: 1,
    layer: 1,
    live: true,
    bps: 780_000,
    delay_ms: 20,
    rtt_ms: 12.4,
    loss: 0.003,
    reason: "joined",
    ...change,
  };
}

const tree: Tree = {
  stream: { node: 1, stream: 0 },
  edges: [edge({}), edge({ child: 3 }), edge({ parent: 2, child: 0, level: 2 })],
  unserved: [4],
};

describe("sentences about trees", () => {
  test("an edge says what it carries, how fast, how well and why", () => {
    expect(say.edgeSentence(edge({}), "Ana's camera", sizes, nameOf)).toBe(
      "Ana sends Ana's camera to Ben: 640×360, 780 kbit/s, 12 ms there and back, 0.3 % lost, because this was the shortest way when Ben or the stream came.",
    );
  });

  test("an edge on which nothing arrived yet gives no figures", () => {
    const text = say.edgeSentence(edge({ live: false, reason: "parent_lost" }), "the stream", sizes, nameOf);
    expect(text).toContain("nothing has arrived yet");
    expect(text).not.toContain("kbit/s");
  });

  test("the reader's own edges are told in the second person", () => {
    expect(say.edgeSentence(edge({ parent: 0 }), "your camera", sizes, nameOf)).toMatch(/^You send your camera to Ben/);
  });

  test("a root, an interior node, a leaf and an unserved node each have their sentence", () => {
    const stream = "Ana's camera";
    expect(say.nodeSentence(1, tree, stream, nameOf)).toBe(
      "Ana is the root: Ana's camera starts here and goes to Ben and Carl.",
    );
    expect(say.nodeSentence(2, tree, stream, nameOf)).toBe(
      "Ben receives Ana's camera from Ana, directly, and passes it on to You.",
    );
    expect(say.nodeSentence(0, tree, stream, nameOf)).toBe(
      "You receive Ana's camera from Ben, in 2 steps, and pass it on to nobody.",
    );
    expect(say.nodeSentence(4, tree, stream, nameOf)).toBe("Nobody can bring Ana's camera to Dee at present.");
  });

  test("a way through the server says who carries it, why, and that it stays sealed", () => {
    const stream = "Ana's camera";
    const relayed: Tree = {
      ...tree,
      edges: [
        edge({ child: RELAY, reason: "policy" }),
        edge({ parent: RELAY, child: 2, level: 2 }),
        edge({ parent: RELAY, child: 0, level: 2 }),
      ],
    };
    const [up, toBen, toMe] = relayed.edges as [TreeEdge, TreeEdge, TreeEdge];
    expect(say.nodeSentence(RELAY, relayed, stream, nameOf)).toBe(
      "The server receives Ana's camera from Ana, directly, and passes it on to Ben and You. It has no key to open it.",
    );
    expect(say.edgeSentence(up, stream, sizes, nameOf)).toBe(
      "Ana sends Ana's camera to the server: 640×360, 780 kbit/s, 12 ms there and back, 0.3 % lost, because this is how trees are chosen.",
    );
    expect(say.edgeSentence(toBen, stream, sizes, nameOf)).toMatch(
      /^The server sends Ana's camera to Ben: .* because the browsers in the room cannot carry it by themselves\.$/,
    );
    expect(say.edgeSentence(toMe, stream, sizes, nameOf, "You reach Ana through the server, because of this.")).toBe(
      "You reach Ana through the server, because of this. It brings 640×360, 780 kbit/s, 12 ms there and back, 0.3 % lost.",
    );
    expect([say.label(RELAY, nameOf), say.label(1, nameOf)]).toEqual(["Server", "Ana"]);
  });

  test.each([
    [{}, "good"],
    [{ loss: 0.03 }, "fair"],
    [{ delay_ms: 400 }, "fair"],
    [{ loss: 0.08 }, "poor"],
    [{ bps: 0 }, "poor"],
    [{ live: false, loss: 0.5 }, "starting"],
  ] as [Partial<TreeEdge>, say.Health][])("an edge with %j is %s", (change, health) => {
    expect(say.edgeHealth(edge(change))).toBe(health);
  });

  test("passing on is counted in people and bit rate", () => {
    expect(say.forwardingSentence(1, 640_000, true)).toBe("You are passing on to 1 person, 640 kbit/s.");
    expect(say.forwardingSentence(2, 2_440_000, true)).toBe("You are passing on to 2 people, 2.4 Mbit/s.");
    expect(say.forwardingSentence(0, 0, true)).toContain("nobody");
    expect(say.forwardingSentence(2, 800_000, false)).toBe("Others are taking over from you: 2 people, 800 kbit/s.");
    expect(say.forwardingSentence(0, 0, false)).toBe("You are passing on nothing.");
  });

  test("a backup is told with the edge that it is for, and with whoever stands by", () => {
    expect(say.edgeSentence(edge({ backup: 3 }), "Ana's camera", sizes, nameOf)).toMatch(
      / came\. Carl stands by should it fail\.$/,
    );
    expect(say.edgeSentence(edge({ backup: 0 }), "Ana's camera", sizes, nameOf)).toMatch(
      /You stand by should it fail\.$/,
    );
    const backed: Tree = { ...tree, edges: [edge({}), edge({ child: 3, backup: 2 }), edge({ child: 0, backup: 2 })] };
    expect(say.nodeSentence(2, backed, "Ana's camera", nameOf)).toBe(
      "Ben receives Ana's camera from Ana, directly, and passes it on to nobody. Ben stands by for Carl and You.",
    );
  });

  test.each([
    [{ children: [3], reason: "parent_left" }, "Carl now gets it from Ben, because whoever fed Carl before has left."],
    [
      { children: [3, 4], reason: "parent_lost", more: 2 },
      "Carl and Dee now get it from Ben, because the link from whoever fed them before failed. 2 more lines changed with it.",
    ],
    [
      { children: [0], reason: "policy", more: 1 },
      "You now get it from Ben, because the way trees are chosen was changed. One more line changed with it.",
    ],
    [
      { parent: RELAY, children: [3], reason: "no_capacity" },
      "Carl now gets it from the server, because the browsers in the room cannot carry it by themselves.",
    ],
  ] as [Partial<Change>, string][])("the change %j is told as a sentence", (change, sentence) => {
    expect(say.changeSentence({ parent: 2, children: [], reason: "joined", more: 0, atMs: 0, ...change }, nameOf)).toBe(
      sentence,
    );
  });

  test("shares and rates keep the digits that matter", () => {
    expect([0, 0.003, 0.0994, 0.2].map(say.percent)).toEqual(["0 %", "0.3 %", "9.9 %", "20 %"]);
    expect([0, 999_400, 999_600].map(say.bitrate)).toEqual(["0 kbit/s", "999 kbit/s", "1.0 Mbit/s"]);
  });

  test("names become initials, whatever their letters", () => {
    expect(["Ana", "ana maria silva", " ", "李 雷", "👩‍🚀 Zoe"].map(say.initials)).toEqual([
      "A",
      "AS",
      "?",
      "李雷",
      "👩Z",
    ]);
  });
});
