import { expect, test } from "vitest";
import { chatText } from "./chat.ts";

test("blanks around a line are not sent, and a line of blanks is nothing", () => {
  expect(chatText("  hello there\n")).toBe("hello there");
  expect(chatText(" \n\t ")).toBe("");
});

test("two thousand characters pass and the next one does not", () => {
  expect(chatText("a".repeat(2_001))).toBe("a".repeat(2_000));
});

test("wide characters are cut whole, within what the server takes", () => {
  const kept = chatText("🌳".repeat(2_000));
  expect(kept).toBe("🌳".repeat(1_500));
  expect(Math.ceil(((new TextEncoder().encode(kept).length + 28) * 4) / 3)).toBeLessThan(8_192);
});
