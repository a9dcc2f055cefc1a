import { expect, test } from "vitest";
import { Distribution, type KeyAction } from "./distribution.ts";

const key = (n: number) => new Uint8Array(16).fill(n);

/** A worker that answers at once, and a clock that only moves from deadline to deadline. */
class Run {
  readonly distribution = new Distribution();
  readonly log: { atMs: number; action: KeyAction }[] = [];
  nowMs = 0;
  #generation = 1;

  start(): this {
    this.distribution.handleOwnKey(this.#generation, key(this.#generation), this.nowMs);
    return this.#settle();
  }

  enter(node: number): this {
    this.distribution.handleEntered(node, this.nowMs);
    return this.#settle();
  }

  leave(node: number): this {
    this.distribution.handleLeft(node, this.nowMs);
    return this.#settle();
  }

  up(members: number[]): this {
    this.distribution.handleUp(members, this.nowMs);
    return this.#settle();
  }

  until(ms: number): this {
    for (;;) {
      const deadline = this.distribution.deadlineMs;
      if (deadline === null || deadline > ms) break;
      this.nowMs = Math.max(this.nowMs, deadline);
      this.distribution.handleTime(this.nowMs);
      this.#settle();
    }
    this.nowMs = ms;
    return this;
  }

  /** What was done, short: `mail 2 to 4,5`. */
  said(): string[] {
    return this.log.map(({ action }) => {
      if (action.do === "mail") return `mail ${action.generation} to ${action.to.join()}`;
      return action.do === "use" ? `use ${action.generation}` : action.do;
    });
  }

  take(): string[] {
    const said = this.said();
    this.log.length = 0;
    return said;
  }

  #settle(): this {
    const actions = this.distribution.pollActions();
    for (const action of actions) {
      this.log.push({ atMs: this.nowMs, action });
      if (action.do !== "ratchet" && action.do !== "rotate") continue;
      this.#generation += 1;
      this.distribution.handleOwnKey(this.#generation, key(this.#generation), this.nowMs);
    }
    if (actions.length > 0) this.#settle();
    return this;
  }
}

test("everybody who was there gets the first key, and it is used at once", () => {
  expect(new Run().enter(4).enter(5).start().take()).toEqual(["mail 1 to 4,5", "use 1"]);
});

test("a newcomer gets only a ratcheted key, and nobody else gets mail", () => {
  const run = new Run().enter(4).start();
  run.take();
  expect(run.enter(5).take()).toEqual(["ratchet", "mail 2 to 5", "use 2"]);
});

test("newcomers within half a second share one step", () => {
  const run = new Run().start().enter(4);
  run.take();
  run.until(100).enter(5).until(200).enter(6).until(300).enter(7);
  expect(run.take()).toEqual([]);
  expect(run.until(2_000).take()).toEqual(["ratchet", "mail 3 to 5,6,7", "use 3"]);
});

test("a leave brings a fresh key to those who remain, used a second later", () => {
  const run = new Run().enter(4).enter(5).enter(6).start();
  run.take();
  expect(run.leave(5).take()).toEqual(["rotate", "mail 2 to 4,6"]);
  expect(run.until(999).take()).toEqual([]);
  expect(run.until(1_000).take()).toEqual(["use 2"]);
});

test("alone, the fresh key is used at once", () => {
  const run = new Run().enter(4).start();
  run.take();
  expect(run.leave(4).take()).toEqual(["rotate", "use 2"]);
});

test("leaves during a change lead to exactly one more, and the last leaver's keys are out of use within two seconds", () => {
  const run = new Run().enter(4).enter(5).enter(6).enter(7).start();
  run.take();
  run.leave(4).until(300).leave(5).until(600).leave(6).until(5_000);
  expect(run.said()).toEqual(["rotate", "mail 2 to 5,6,7", "use 2", "rotate", "mail 3 to 7", "use 3"]);
  expect(run.log.at(-1)?.atMs).toBe(2_000);
});

test("whoever left before getting any key changes nothing", () => {
  const run = new Run().start().enter(4);
  run.take();
  run.until(100).enter(5).leave(5);
  expect(run.until(5_000).take()).toEqual([]);
});

test("a newcomer during a change gets the fresh key, which has sealed nothing yet", () => {
  const run = new Run().enter(4).enter(5).start();
  run.take();
  run.leave(4).until(400).enter(6);
  expect(run.until(5_000).take()).toEqual(["rotate", "mail 2 to 5", "mail 2 to 6", "use 2"]);
});

test("the key changes every ten minutes", () => {
  const run = new Run().enter(4).start();
  run.take();
  expect(run.until(599_999).take()).toEqual([]);
  expect(run.until(601_000).take()).toEqual(["rotate", "mail 2 to 4", "use 2"]);
});

test("while the server is away no key is changed; afterwards everybody gets the present ones again", () => {
  const run = new Run().enter(4).enter(5).enter(6).start();
  run.leave(6);
  run.take();
  run.distribution.handleDown();
  expect(run.until(60_000).take()).toEqual([]);
  expect(run.up([4, 5]).take()).toEqual(["mail 1 to 4,5", "mail 2 to 4,5"]);
  expect(run.until(60_999).take()).toEqual([]);
  expect(run.until(61_000).take()).toEqual(["use 2"]);
});

test("after a break those who went count as left, and those who came as newcomers", () => {
  const run = new Run().enter(4).enter(5).start();
  run.take();
  run.distribution.handleDown();
  run.until(30_000);
  run.up([4, 9]).until(40_000);
  expect(run.take()).toEqual(["rotate", "mail 1 to 4", "mail 2 to 4,9", "use 2"]);
});

test("a member whose own connection is back gets the keys again, a stranger does not", () => {
  const run = new Run().enter(4).start();
  run.take();
  run.distribution.handleMemberBack(4);
  run.distribution.handleMemberBack(8);
  expect(run.until(10).distribution.pollActions()).toEqual([{ do: "mail", generation: 1, key: key(1), to: [4] }]);
});

test("a key that the worker had to change by itself goes to everybody and is not announced as new", () => {
  const run = new Run().enter(4).enter(5).start();
  run.take();
  run.distribution.handleOwnKey(7, key(7), 0);
  expect(run.distribution.pollActions()).toEqual([{ do: "mail", generation: 7, key: key(7), to: [4, 5] }]);
});
