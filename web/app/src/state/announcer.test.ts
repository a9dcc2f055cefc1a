import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Announcer } from "./announcer.ts";

const person = (node: number, name: string, hand = false) => ({ node, name, presence: { hand } });

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("people who come at once are one sentence", () => {
  const announcer = new Announcer();
  announcer.people([], [person(1, "Ana")]);
  announcer.people([person(1, "Ana")], [person(1, "Ana"), person(2, "Ben")]);
  expect(announcer.text.value).toBe("");
  vi.runAllTimers();
  expect(announcer.text.value).toBe("Ana and Ben came in.");
});

test("a crowd is counted, not read out", () => {
  const announcer = new Announcer();
  announcer.people(
    [],
    [1, 2, 3, 4, 5].map((node) => person(node, `P${node}`)),
  );
  vi.runAllTimers();
  expect(announcer.text.value).toBe("5 people came in.");
});

test("leaving, hands and messages are told once each", () => {
  const announcer = new Announcer();
  announcer.people([person(1, "Ana"), person(2, "Ben")], [person(2, "Ben", true)]);
  announcer.message("Ben", "hello");
  vi.runAllTimers();
  expect(announcer.text.value).toBe("Ana left. Ben raised a hand. Message from Ben: hello");
  announcer.people([person(2, "Ben", true)], [person(2, "Ben", true)]);
  vi.runAllTimers();
  expect(announcer.text.value).toBe("Ana left. Ben raised a hand. Message from Ben: hello");
});

test("nothing is said after it was closed", () => {
  const announcer = new Announcer();
  announcer.message("Ana", "hello");
  announcer.close();
  vi.runAllTimers();
  expect(announcer.text.value).toBe("");
});
