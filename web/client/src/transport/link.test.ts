import { describe, expect, test } from "vitest";
import { type Control, encodeControl, parseControl } from "./control.ts";
import { Link, RTP_QUIET_MS, SILENCE_MS, SILENCE_REPORT_MS } from "./link.ts";
import { Delay, Loss, Rate, Rtt } from "./meter.ts";
import { FakeChannel, Net } from "./simulation.ts";

describe("control messages", () => {
  test("come back as they were sent, and only with known fields", () => {
    const messages: Control[] = [
      { t: "hb", n: 1, f: 0 },
      { t: "hb", n: 2, f: 7, e: 1, d: 3.5 },
      { t: "take", s: 16, have: [{ layer: 1, generation: 3, number: 70_000 }] },
      { t: "drop", s: 16 },
      { t: "key", s: 16, l: 1 },
      { t: "need", s: 16, l: 0, n: [1, 2, 4_294_967_295] },
      { t: "miss", s: 16, l: 0, n: [1] },
      { t: "tip", s: 16, l: 0, g: 1, n: 9 },
      { t: "layers", s: 16, l: [0, 1] },
      { t: "slots", n: 8 },
    ];
    for (const m of messages) expect(parseControl(encodeControl(m))).toEqual({ ok: true, message: m });
    expect(parseControl('{"t":"key","s":16,"l":1,"__proto__":{"x":1},"more":true}')).toEqual({
      ok: true,
      message: { t: "key", s: 16, l: 1 },
    });
  });

  test("are refused in every malformed form", () => {
    const junk: unknown[] = [
      null,
      new ArrayBuffer(3),
      "",
      "{",
      "[]",
      '{"t":5}',
      '{"t":"hb"}',
      '{"t":"hb","n":1}',
      '{"t":"hb","n":1,"f":-1}',
      '{"t":"hb","n":1,"f":1,"e":1}',
      '{"t":"hb","n":1,"f":1,"e":1,"d":-1}',
      '{"t":"key","s":"16","l":0}',
      '{"t":"key","s":1048576,"l":0}',
      '{"t":"layers","s":1,"l":[4]}',
      '{"t":"slots","n":65}',
      '{"t":"slots"}',
      '{"t":"drop"}',
      '{"t":"drop","s":1048576}',
      '{"t":"layers","s":1,"l":[0,1,2,3,0]}',
      '{"t":"take","s":1,"have":[{"layer":0,"generation":65536,"number":0}]}',
      '{"t":"tip","s":1,"l":0,"n":1}',
      `{"t":"hb","n":1,"f":1,"pad":"${"x".repeat(5000)}"}`,
    ];
    for (const text of junk) expect(parseControl(text)).toEqual({ ok: false, why: "malformed" });
    expect(parseControl('{"t":"later"}')).toEqual({ ok: false, why: "unknown" });
  });
});

describe("silence", () => {
  const silences = (net: Net, node: number) => net.node(node).posted.filter((m) => m.type === "silent").length;

  test("is not reported on an idle link, however long", () => {
    const net = new Net(1);
    net.link(1, 2, { latencyMs: 80, loss: 0.02 });
    net.run(60_000);
    expect(silences(net, 1) + silences(net, 2)).toBe(0);
  });

  test("is reported once when nothing at all comes any more, and again after the peer was heard", () => {
    const net = new Net(1);
    net.link(1, 2);
    net.run(1000);
    net.direction(2, 1).down = true;
    net.run(SILENCE_MS + SILENCE_REPORT_MS - 50);
    expect(silences(net, 1)).toBe(0);
    net.run(5000);
    expect(silences(net, 1)).toBe(1);
    expect(silences(net, 2)).toBe(0);
    net.direction(2, 1).down = false;
    net.run(500);
    net.direction(2, 1).down = true;
    net.run(2000);
    expect(silences(net, 1)).toBe(2);
  });

  test("is not held against the peer when this worker itself stood still", () => {
    let now = 0;
    const silent: number[] = [];
    const channels = { video: new FakeChannel(), audio: new FakeChannel(), control: new FakeChannel() };
    const nothing = () => {};
    const silence = (peer: number) => silent.push(peer);
    const events = { frame: nothing, control: nothing, slots: nothing, room: nothing, silent: silence };
    const link = new Link(2, channels, events, () => now, SILENCE_REPORT_MS);
    for (; now < 300; now += 10) link.tick();
    now += 10_000;
    link.tick();
    for (const end = now + 250; now < end; now += 10) link.tick();
    expect(silent).toEqual([]);
    for (const end = now + 400; now < end; now += 10) link.tick();
    expect(silent).toEqual([2]);
  });

  test("by RTP is seen by backups when the sign of life after the one that was lost is missing, too", () => {
    let now = 0;
    const channels = { video: new FakeChannel(), audio: new FakeChannel(), control: new FakeChannel() };
    const nothing = () => {};
    const events = { frame: nothing, control: nothing, slots: nothing, room: nothing, silent: nothing };
    const link = new Link(2, channels, events, () => now, SILENCE_REPORT_MS, true);
    for (; now < RTP_QUIET_MS; now += 10) link.tick();
    expect(link.silent).toBe(false);
    link.tick();
    expect(link.silent).toBe(true);
  });

  test("is seen after its first bound, sooner by a worker that is awake than by one that is busy", () => {
    let now = 0;
    const channels = { video: new FakeChannel(), audio: new FakeChannel(), control: new FakeChannel() };
    const nothing = () => {};
    const events = { frame: nothing, control: nothing, slots: nothing, room: nothing, silent: nothing };
    const link = new Link(2, channels, events, () => now, SILENCE_REPORT_MS);
    const silentAfter = (tick: number): number => {
      channels.audio.onmessage?.call(undefined as never, new MessageEvent("message", { data: new ArrayBuffer(1) }));
      expect(link.silent).toBe(false);
      for (const from = now; ; now += tick) {
        link.tick();
        if (link.silent) return now - from;
      }
    };
    link.tick();
    expect(silentAfter(10)).toBe(SILENCE_MS);
    now += 10;
    // What came while the worker did something else stands behind the tick: it counts for little of what it took.
    expect(silentAfter(120)).toBeGreaterThan(300);

    const reported = new Link(2, channels, events, () => now, 0);
    reported.tick();
    now += 120;
    reported.tick();
    expect(reported.silent).toBe(true);
  });
});

test("round-trip times come from heartbeats, less the time for which they were held", () => {
  const net = new Net(1);
  net.link(1, 2, { latencyMs: 35 });
  net.run(5000);
  for (const node of [1, 2]) {
    const rtt = net.node(node).transport.stats().links[0]?.rttMs ?? 0;
    expect(rtt).toBeGreaterThan(69);
    expect(rtt).toBeLessThan(74);
  }
});

describe("meters", () => {
  test("a rate is that of the last second", () => {
    const rate = new Rate();
    for (let now = 0; now < 3000; now += 10) rate.add(1000, now);
    expect(rate.bps(2990)).toBe(800_000);
    expect(rate.bps(3490)).toBe(400_000);
    expect(rate.bps(60_000)).toBe(0);
  });

  test("the RTT bound is srtt + 4 rttvar as RFC 6298 has it", () => {
    const rtt = new Rtt();
    expect(rtt.bound(77)).toBe(77);
    rtt.sample(100);
    expect(rtt.bound(0)).toBe(300);
    rtt.sample(180);
    expect(rtt.srtt).toBe(110);
    expect(rtt.rttvar).toBe(57.5);
    rtt.sample(Number.NaN);
    rtt.sample(-1);
    expect(rtt.samples).toBe(2);
  });

  test("loss needs enough frames to say anything, and starts over with the peer", () => {
    const loss = new Loss();
    loss.note(0, 0, 0);
    loss.note(40, 20, 500);
    expect(loss.share).toBe(0);
    loss.note(100, 90, 1000);
    expect(loss.share).toBeCloseTo(0.1);
    loss.note(3, 93, 1500);
    expect(loss.share).toBe(0);
  });

  test("delay is counted from the fastest frame of late, so that drifting clocks do not add up", () => {
    const delay = new Delay();
    // The sender's clock is slow by 100 ppm: transit seems to grow by 6 ms a minute.
    for (let now = 0; now < 600_000; now += 33) delay.sample(now * 1000 * 0.9999, now);
    expect(delay.ms).toBeLessThan(7);
    for (let i = 0; i < 100; i += 1) delay.sample((600_000 + i * 33) * 1000 * 0.9999, 600_000 + i * 33 + 40);
    expect(delay.ms).toBeGreaterThan(35);
  });
});
