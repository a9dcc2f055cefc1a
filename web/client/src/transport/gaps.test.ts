import { describe, expect, test } from "vitest";
import { decodeHeader, type Header } from "../frame/header.ts";
import { Gaps, GIVE_UP_MS, MAX_MISSING, MAX_TRIES, RTP_REPAIR_MS } from "./gaps.ts";
import { frame } from "./simulation.ts";

/** L1T2: even numbers need the even one before, odd ones are droppable and need the even one before. */
function picture(number: number, more: Partial<Header> = {}): Header {
  const upper = number % 2 === 1;
  const distance = upper ? 1 : 2;
  const needs = more.key ? {} : { farthest: distance, nearest: distance, droppable: upper, temporal: upper ? 1 : 0 };
  const header = decodeHeader(frame({ number, ...needs, ...more }));
  if (!header) throw new Error("not a frame");
  return header;
}

function fed(numbers: number[], at = 0): Gaps {
  const gaps = new Gaps(true);
  gaps.accept(picture(0, { key: true }), at);
  for (const n of numbers) gaps.accept(picture(n), at);
  return gaps;
}

const RTT = 20;
const poll = (gaps: Gaps, now: number) => gaps.poll(now, RTT, 2 * RTT);

describe("a missing frame", () => {
  test("that nobody needs is a deliberate drop: settled after the reorder time, never asked for", () => {
    const gaps = fed([2, 4]);
    expect(poll(gaps, 10)).toEqual({ ask: [], gone: null, lost: [] });
    expect(poll(gaps, 30)).toEqual({ ask: [], gone: 4, lost: [] });
    expect(gaps.broken).toBeNull();
    expect(gaps.lost).toBe(0);
  });

  test("that a later one needs is asked for after the reorder time, and may come in between", () => {
    const gaps = fed([4]);
    expect(poll(gaps, 10).ask).toEqual([]);
    // 3 and 1 are settled; 2 is needed.
    expect(poll(gaps, 30)).toEqual({ ask: [1, 2], gone: null, lost: [] });
    expect(gaps.accept(picture(2), 40)).toBe("filled");
    expect(gaps.repaired).toBe(1);
    expect(gaps.whole).toBe(true);
    gaps.accept(picture(1), 45);
    expect(poll(gaps, 50).gone).toBe(4);
  });

  test("of a link by RTP is asked for after RTP's own repair, and skipped as soon as ever where nobody needs it", () => {
    const gaps = fed([4]);
    const asked = [30, RTP_REPAIR_MS - 1, RTP_REPAIR_MS].map((now) => gaps.poll(now, RTT, 2 * RTT, true).ask);
    expect(asked).toEqual([[], [], [1, 2]]);
    expect(fed([2, 4]).poll(30, RTT, 2 * RTT, true)).toEqual({ ask: [], gone: 4, lost: [] });
  });

  test("needed only by a droppable frame is not worth a question", () => {
    const gaps = fed([1, 3]);
    expect(poll(gaps, 30).ask).toEqual([]);
  });

  test("is asked for a bounded number of times and then given up, with a key request", () => {
    const gaps = fed([4]);
    let asked = 0;
    const lost: number[] = [];
    const gone: number[] = [];
    for (let now = 0; now <= GIVE_UP_MS + 100; now += 10) {
      const due = poll(gaps, now);
      asked += due.ask.filter((n) => n === 2).length;
      lost.push(...due.lost);
      if (due.gone !== null) gone.push(due.gone);
    }
    expect(asked).toBe(MAX_TRIES);
    expect([...lost].sort()).toEqual([1, 2]);
    expect(gone.at(-1)).toBe(4);
    expect(gaps.lost).toBe(1);
    expect(gaps.whole).toBe(false);
    expect(gaps.wantsKey(1000)).toBe(true);
    expect(gaps.wantsKey(1001)).toBe(false);
    gaps.accept(picture(6, { key: true }), 1002);
    expect(gaps.wantsKey(2000)).toBe(false);
    expect(gaps.whole).toBe(true);
  });

  test("is given up at once when the parent has not got it", () => {
    const gaps = fed([4]);
    expect(poll(gaps, 30).ask).toContain(2);
    gaps.miss([2, 1], 40);
    expect(poll(gaps, 41)).toEqual({ ask: [], gone: 4, lost: [1, 2] });
    expect(gaps.wantsKey(41)).toBe(true);
  });

  test("before a key frame no longer counts", () => {
    const gaps = fed([4]);
    gaps.accept(picture(5, { key: true }), 5);
    expect(poll(gaps, 30)).toEqual({ ask: [], gone: 5, lost: [] });
    expect(gaps.broken).toBeNull();
  });

  test("whose needed frame turns out to need another missing one is followed down", () => {
    const gaps = fed([2]);
    gaps.accept(picture(10), 0);
    const ask = poll(gaps, 30).ask;
    expect(ask).toEqual(expect.arrayContaining([8, 6, 4]));
    gaps.accept(picture(8), 35);
    gaps.accept(picture(6), 35);
    gaps.miss([4], 36);
    expect(poll(gaps, 40).lost).toEqual([4]);
    expect(gaps.lost).toBe(1);
  });
});

describe("a frame that came before", () => {
  test("is a duplicate, from whichever parent", () => {
    const gaps = fed([1, 2, 3]);
    expect(gaps.accept(picture(2), 5)).toBe("duplicate");
    expect(gaps.accept(picture(0, { key: true }), 5)).toBe("duplicate");
    expect(gaps.duplicates).toBe(2);
  });

  test("under a newer generation with a smaller number begins anew", () => {
    const gaps = fed([1, 2, 3, 4]);
    expect(gaps.accept(picture(0, { key: true, generation: 2 }), 5)).toBe("restart");
    expect(gaps.accept(picture(1, { generation: 2 }), 6)).toBe("new");
    expect(gaps.accept(picture(3, { generation: 1 }), 7)).toBe("duplicate");
    expect(gaps.whole).toBe(true);
  });

  test("a step of the key does not begin anew while numbers go on, even out of order", () => {
    const gaps = fed([1, 2]);
    expect(gaps.accept(picture(4, { generation: 2 }), 1)).toBe("new");
    expect(gaps.accept(picture(3, { generation: 1 }), 2)).toBe("filled");
    expect(gaps.accept(picture(5, { generation: 2 }), 3)).toBe("new");
  });

  test("a forged number from far ahead does not end the stream for good", () => {
    const gaps = fed([1, 2]);
    expect(gaps.accept(picture(4_000_000_000), 1)).toBe("restart");
    const verdicts = Array.from({ length: 60 }, (_, i) => gaps.accept(picture(3 + i), 10 + i));
    expect(verdicts.filter((v) => v === "restart")).toHaveLength(1);
    expect(verdicts.at(-1)).toBe("new");
  });
});

describe("the beginning", () => {
  test("with delta frames that overtook their key frame is whole once the key frame comes", () => {
    const gaps = new Gaps(true);
    expect(gaps.accept(picture(12), 0)).toBe("new");
    expect(gaps.accept(picture(14), 0)).toBe("new");
    expect(gaps.wantsKey(50)).toBe(false);
    expect(gaps.accept(picture(10, { key: true }), 60)).toBe("new");
    expect(gaps.accept(picture(11), 61)).toBe("filled");
    expect(gaps.wantsKey(500)).toBe(false);
  });

  test("with delta frames only asks for a key frame after a moment, and again while none comes", () => {
    const gaps = new Gaps(true);
    gaps.accept(picture(12), 0);
    expect([50, 100, 130, 200, 600, 700].filter((at) => gaps.wantsKey(at))).toEqual([130, 700]);
  });
});

test("holds a bounded number of entries whatever comes", () => {
  const gaps = fed([]);
  for (let n = 200; n < 200_000; n += 200) gaps.accept(picture(n), 0);
  expect(gaps.pending).toBeLessThanOrEqual(MAX_MISSING);
});

test("sound is counted, never asked for", () => {
  const gaps = new Gaps(false);
  const sound = (number: number) => {
    const header = decodeHeader(frame({ kind: "audio", track: 0, number }));
    if (!header) throw new Error("not a frame");
    return header;
  };
  for (const n of [0, 1, 4, 3]) gaps.accept(sound(n), 0);
  expect(gaps.accept(sound(3), 1)).toBe("duplicate");
  expect(poll(gaps, 100)).toEqual({ ask: [], gone: null, lost: [] });
  poll(gaps, 2000);
  expect(gaps.lost).toBe(1);
});

describe("a frame of an older generation", () => {
  const restarted = () => {
    const gaps = fed([]);
    gaps.accept(picture(100, { key: true, generation: 1 }), 0);
    expect(gaps.accept(picture(0, { key: true, generation: 2 }), 1)).toBe("restart");
    return gaps;
  };

  test("that comes late under a higher number changes nothing", () => {
    for (const number of [101, 5000]) {
      const gaps = restarted();
      expect(gaps.accept(picture(number, { generation: 1 }), 2)).toBe("duplicate");
      expect([gaps.generation, gaps.highest, gaps.pending]).toEqual([2, 0, 0]);
      expect(gaps.accept(picture(2, { generation: 2 }), 3)).toBe("new");
    }
  });

  test("is believed when thirty come on end: the newer generation was forged", () => {
    const gaps = restarted();
    const verdicts = Array.from({ length: 40 }, (_, n) => gaps.accept(picture(102 + 2 * n, { generation: 1 }), n));
    expect(verdicts.indexOf("restart")).toBe(29);
    expect(verdicts.slice(30).every((verdict) => verdict === "new")).toBe(true);
    expect(gaps.generation).toBe(1);
  });
});
