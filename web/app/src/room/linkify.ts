/** Finds web addresses in chat text. The parts are rendered as text nodes and links, never as markup. Pure. */

export type Part = { kind: "text"; text: string } | { kind: "link"; text: string; href: string };

const ADDRESS = /https?:\/\/[^\s<>"']+/gi;

export function linkify(text: string): Part[] {
  const parts: Part[] = [];
  let end = 0;
  for (const match of text.matchAll(ADDRESS)) {
    const address = trimEnd(match[0]);
    const href = readAddress(address);
    if (href === null) continue;
    if (match.index > end) parts.push({ kind: "text", text: text.slice(end, match.index) });
    parts.push({ kind: "link", text: address, href });
    end = match.index + address.length;
  }
  if (end < text.length) parts.push({ kind: "text", text: text.slice(end) });
  return parts;
}

/** A sentence's own punctuation is not part of the address; a closing bracket is when the address opened it. */
function trimEnd(address: string): string {
  let result = address;
  for (;;) {
    const last = result.at(-1) ?? "";
    const unopened = last === ")" && result.split("(").length < result.split(")").length;
    if (!unopened && !".,;:!?".includes(last)) return result;
    if (result === "") return result;
    result = result.slice(0, -1);
  }
}

function readAddress(text: string): string | null {
  try {
    const url = new URL(text);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}
