import { expect, test } from "vitest";
import { linkify } from "./linkify.ts";

test("an address inside a sentence becomes a link without the sentence's full stop", () => {
  expect(linkify("See https://grove.example/a?b=1. Fine")).toEqual([
    { kind: "text", text: "See " },
    { kind: "link", text: "https://grove.example/a?b=1", href: "https://grove.example/a?b=1" },
    { kind: "text", text: ". Fine" },
  ]);
});

test("a bracket belongs to the address only when the address opened it", () => {
  expect(linkify("(http://a.example/x)").map((part) => part.text)).toEqual(["(", "http://a.example/x", ")"]);
  expect(linkify("http://a.example/x_(y)").map((part) => part.text)).toEqual(["http://a.example/x_(y)"]);
});

test("brackets and stops behind an address are left out, however many", () => {
  expect(linkify("http://a.example/(x)).?!)").map((part) => part.text)).toEqual(["http://a.example/(x)", ").?!)"]);
});

test.each(["javascript:alert(1)", "data:text/html,x", "<b>bold</b>", "https://", "plain"])("%s stays text", (text) => {
  expect(linkify(text)).toEqual([{ kind: "text", text }]);
});

test("all parts together are the text, unchanged", () => {
  const text = "a https://x.example, b http://y.example/(z)! c";
  expect(
    linkify(text)
      .map((part) => part.text)
      .join(""),
  ).toBe(text);
});

test("an empty line has no parts", () => {
  expect(linkify("")).toEqual([]);
});
