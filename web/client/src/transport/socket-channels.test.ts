import { beforeEach, describe, expect, test } from "vitest";
import { frame } from "./simulation.ts";
import {
  Account,
  type RelayNews,
  type Socket,
  SocketChannels,
  UP_WITHIN_MS,
  VIDEO_BELOW_BYTES,
} from "./socket-channels.ts";
import { Transport } from "./transport.ts";

/** A socket whose network is the test: what is handed over stays in it until the test takes it out. */
class Wire implements Socket {
  static made: Wire[] = [];
  binaryType: BinaryType = "blob";
  bufferedAmount = 0;
  closed = false;
  readonly sent: (string | Uint8Array)[] = [];
  onopen: Socket["onopen"] = null;
  onclose: Socket["onclose"] = null;
  onmessage: Socket["onmessage"] = null;
  constructor() {
    Wire.made.push(this);
  }
  send(data: string | Uint8Array): void {
    this.sent.push(data);
    this.bufferedAmount += data.length;
  }
  close(): void {
    this.closed = true;
  }
  take(bytes = this.bufferedAmount): void {
    this.bufferedAmount -= bytes;
  }
  open(): void {
    this.onopen?.(new Event("open"));
    this.take();
  }
  say(data: unknown): void {
    this.onmessage?.(new MessageEvent("message", { data }));
  }
  fail(): void {
    this.onclose?.(new Event("close") as CloseEvent);
  }
}

const WELCOME = '{"t":"welcome","instance":"one"}';
const door = { url: "ws://host/api/v1/relay", token: "token", instance: "one", delayMs: 0 };
const picture = (number: number, size = 3000): Uint8Array<ArrayBuffer> =>
  frame({ number, size }) as Uint8Array<ArrayBuffer>;
const sound = (number: number): Uint8Array<ArrayBuffer> =>
  frame({ kind: "audio", track: 0, number, size: 80 }) as Uint8Array<ArrayBuffer>;
const wire = (n = -1): Wire => Wire.made.at(n) as Wire;

let now = 0;
let news: RelayNews[] = [];
function channels(change: Partial<typeof door> = {}): SocketChannels {
  return new SocketChannels(
    { ...door, ...change },
    { connect: () => new Wire(), now: () => now, random: () => 0, state: (one) => news.push(one) },
  );
}
/** By the clock, in steps of 10 ms. */
function wait(of: { tick(): void }, ms: number): void {
  for (const end = now + ms; now < end; ) {
    now += 10;
    of.tick();
  }
}

beforeEach(() => {
  Wire.made = [];
  now = 0;
  news = [];
});

describe("coming up", () => {
  test("the token goes first, and the channels open with the relay's welcome, not before", () => {
    const link = channels();
    const opened: string[] = [];
    for (const name of ["video", "audio", "control"] as const) link[name].onopen = () => opened.push(name);
    wire().open();
    expect(wire().sent).toEqual(['{"t":"hello","token":"token"}']);
    expect([link.video.readyState, news.length]).toEqual(["connecting", 0]);
    expect(() => link.video.send(picture(1))).toThrow();
    wire().say(WELCOME);
    expect([link.video.readyState, link.audio.readyState, link.control.readyState]).toEqual(["open", "open", "open"]);
    expect(opened).toEqual(["video", "audio", "control"]);
    expect(news).toEqual(["up"]);
  });

  test("a link that is made again begins after its delay", () => {
    const link = channels({ delayMs: 150 });
    wait(link, 140);
    expect(Wire.made.length).toBe(0);
    wait(link, 10);
    expect(Wire.made.length).toBe(1);
  });

  test.each([
    ["a refusal", () => wire().fail()],
    ["another instance's welcome", () => wire().say('{"t":"welcome","instance":"two"}')],
    ["a frame ahead of the welcome", () => wire().say(new ArrayBuffer(60))],
    ["words that are no welcome", () => wire().say("[")],
  ])("after %s it tries again, with growing pauses, and says `never` once, in the end", (_, answer) => {
    const link = channels();
    const attempts: number[] = [];
    for (let made = 0; now < UP_WITHIN_MS + 1000; ) {
      if (Wire.made.length > made) {
        made = Wire.made.length;
        attempts.push(now);
        wire().open();
        answer();
      }
      wait(link, 10);
    }
    expect(attempts.slice(0, 5)).toEqual([0, 200, 600, 1400, 3000]);
    expect(news).toEqual(["never"]);
    expect(Wire.made.every(({ closed }) => closed)).toBe(true);
    expect(link.control.readyState).toBe("closed");
  });

  test("a socket that never opens is given up as well", () => {
    const link = channels();
    wait(link, UP_WITHIN_MS);
    expect([news, wire().closed]).toEqual([["never"], true]);
  });
});

describe("a link that is up", () => {
  const up = (): SocketChannels => {
    const link = channels();
    wire().open();
    wire().say(WELCOME);
    wire().sent.length = 0;
    return link;
  };

  test("is lost once, and says nothing more", () => {
    const link = up();
    const socket = wire();
    const closed: string[] = [];
    link.control.onclose = () => closed.push("control");
    socket.fail();
    wait(link, 20_000);
    expect([news, closed, Wire.made.length]).toEqual([["up", "lost"], ["control"], 1]);
  });

  test("tells nobody when it is closed from here", () => {
    const link = up();
    link.audio.close();
    wait(link, 1000);
    expect([news, wire().closed, link.video.readyState]).toEqual([["up"], true, "closed"]);
  });

  test("sorts what comes: sound and pictures by their headers, text to control", () => {
    const link = up();
    const came: string[] = [];
    for (const name of ["video", "audio", "control"] as const) link[name].onmessage = () => came.push(name);
    wire().say(picture(1).buffer);
    wire().say(sound(1).buffer);
    wire().say('{"t":"hb","n":1,"f":0}');
    wire().say(new ArrayBuffer(0));
    expect(came).toEqual(["video", "audio", "control", "video"]);
  });

  test("counts for each channel what the socket has not taken, first in first out", () => {
    const link = up();
    link.audio.send(sound(1));
    link.control.send("{}");
    link.video.send(picture(1));
    const [a, p] = [sound(1).length, picture(1).length];
    expect([link.audio.bufferedAmount, link.control.bufferedAmount, link.video.bufferedAmount]).toEqual([a, 2, p]);
    wire().take(a + 1);
    expect([link.audio.bufferedAmount, link.control.bufferedAmount, link.video.bufferedAmount]).toEqual([0, 1, p]);
    wire().take();
    expect([link.audio.bufferedAmount, link.control.bufferedAmount, link.video.bufferedAmount]).toEqual([0, 0, 0]);
  });

  test("keeps pictures back while more than the bound is before them, and lets sound by", () => {
    const link = up();
    link.video.send(picture(1, VIDEO_BELOW_BYTES));
    link.video.send(picture(2));
    link.audio.send(sound(1));
    expect(wire().sent).toEqual([picture(1, VIDEO_BELOW_BYTES), sound(1)]);
    expect(link.video.bufferedAmount).toBe(picture(1, VIDEO_BELOW_BYTES).length + picture(2).length);
    wait(link, 50);
    expect(wire().sent.length).toBe(2);
    wire().take();
    wait(link, 10);
    expect(wire().sent.slice(2)).toEqual([picture(2)]);
  });

  test("says once, by the clock, that a channel has emptied", () => {
    const link = up();
    let low = 0;
    link.video.onbufferedamountlow = () => {
      low += 1;
    };
    link.video.send(picture(1));
    wait(link, 50);
    expect(low).toBe(0);
    wire().take();
    wait(link, 50);
    expect(low).toBe(1);
  });
});

test("the account settles parts of messages and forgets nothing", () => {
  const account = new Account<string>();
  account.add("a", 10);
  account.add("a", 5);
  account.add("b", 7);
  account.settle(20);
  expect([account.of("a"), account.of("b")]).toEqual([13, 7]);
  account.settle(6);
  expect([account.of("a"), account.of("b")]).toEqual([0, 6]);
  // A socket that holds more than it was given here (its own greeting) takes nothing off.
  account.settle(900);
  expect(account.of("b")).toBe(6);
});

describe("a whole transport over a socket that carries 300 kbit/s", () => {
  test("never puts more than one picture in front of sound", () => {
    const transport = new Transport({
      node: 1,
      media: { frame: () => {}, gone: () => {}, keyFrame: () => {}, uplink: () => {} },
      post: (message) => {
        if (message.type === "relay") news.push(message.news);
      },
      now: () => now,
      connect: () => new Wire(),
    });
    transport.openRelay(65535, door);
    wire().open();
    wire().say(WELCOME);
    transport.feed({ node: 1, stream: 0 }, 65535, [0], 1_000_000);
    wire().say('{"t":"take","s":16,"have":[]}');
    let mostPictures = 0;
    for (let step = 0; now < 4000; step += 1) {
      now += 10;
      if (step % 3 === 0) transport.publish(0, frame({ key: step === 0, number: step / 3, size: 2000 }));
      if (step % 2 === 0) transport.publish(0, frame({ kind: "audio", track: 0, number: step / 2, size: 80 }));
      // 375 bytes in 10 ms.
      wire().take(Math.min(wire().bufferedAmount, 375));
      transport.tick();
      mostPictures = Math.max(mostPictures, pictures(wire()));
      wire().say('{"t":"hb","n":1,"f":0}');
    }
    expect(news).toEqual(["up"]);
    expect(mostPictures).toBe(1);
    const [sounds, shown] = [
      wire().sent.filter((one) => one[1] === 0x50),
      wire().sent.filter((one) => one[1] === 0x40),
    ];
    expect(sounds.length).toBeGreaterThan(195);
    expect(shown.length).toBeGreaterThan(20);
    transport.close();
    expect(wire().closed).toBe(true);
  });

  /** Pictures among the newest bytes that are still in the socket, those in part included. */
  function pictures(socket: Wire): number {
    let [left, found] = [socket.bufferedAmount, 0];
    for (let i = socket.sent.length - 1; i >= 0 && left > 0; i -= 1) {
      const one = socket.sent[i] ?? "";
      left -= one.length;
      if (one[1] === 0x40) found += 1;
    }
    return found;
  }
});
