import { expect, test } from "vitest";
import { noSpeakers, type Speakers, stepSpeakers } from "./speaker.ts";

/** Plays levels for a time, a step per 100 ms, and says who was active after each step. */
function play(before: Speakers, levels: Record<number, number>, fromMs: number, forMs: number) {
  const map = new Map(Object.entries(levels).map(([node, level]) => [Number(node), level]));
  const active: (number | null)[] = [];
  let state = before;
  for (let ms = fromMs; ms < fromMs + forMs; ms += 100) {
    state = stepSpeakers(state, map, ms);
    active.push(state.active);
  }
  return { state, active };
}

test("a room's noise makes nobody the speaker", () => {
  expect(play(noSpeakers, { 1: 70, 2: 60 }, 0, 3_000).active).not.toContain(1);
  expect(play(noSpeakers, { 1: 70, 2: 60 }, 0, 3_000).state.active).toBeNull();
});

test("whoever starts to speak in silence is marked within half a second", () => {
  expect(play(noSpeakers, { 1: 25, 2: 127 }, 0, 500).state.active).toBe(1);
});

test("a cough of 300 ms does not take the ring from the speaker", () => {
  const speaking = play(noSpeakers, { 1: 30, 2: 127 }, 0, 2_000).state;
  const coughing = play(speaking, { 1: 30, 2: 15 }, 2_000, 300);
  const after = play(coughing.state, { 1: 30, 2: 127 }, 2_300, 2_000);
  expect([...coughing.active, ...after.active].every((node) => node === 1)).toBe(true);
});

test("somebody who is only a little louder does not take the ring", () => {
  const speaking = play(noSpeakers, { 1: 30, 2: 127 }, 0, 2_000).state;
  expect(play(speaking, { 1: 30, 2: 26 }, 2_000, 5_000).state.active).toBe(1);
});

test("a clearly louder voice takes over, once", () => {
  const speaking = play(noSpeakers, { 1: 35, 2: 127 }, 0, 2_000).state;
  const { active } = play(speaking, { 1: 127, 2: 20 }, 2_000, 3_000);
  const changes = active.filter((node, at) => at > 0 && node !== active[at - 1]).length;
  expect(active.at(-1)).toBe(2);
  expect(changes).toBe(1);
});

test("a pause between sentences keeps the ring, a long silence takes it away", () => {
  const speaking = play(noSpeakers, { 1: 30 }, 0, 2_000).state;
  const pause = play(speaking, { 1: 127 }, 2_000, 1_500);
  expect(pause.active.every((node) => node === 1)).toBe(true);
  expect(play(pause.state, { 1: 127 }, 3_500, 3_000).state.active).toBeNull();
});

test("a speaker who leaves is no speaker", () => {
  const speaking = play(noSpeakers, { 1: 30 }, 0, 1_000).state;
  expect(stepSpeakers(speaking, new Map(), 1_000).active).toBeNull();
});
