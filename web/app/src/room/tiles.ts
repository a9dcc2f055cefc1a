/** Which tiles a call has: one per person, one more per screen, and the person's own. Pure. */
import type { Person, PersonStream } from "@grove/client/api";

export type TileModel =
  | { kind: "self"; key: "self" }
  | { kind: "person"; key: string; person: Person; stream: PersonStream | null }
  | { kind: "screen"; key: string; person: Person; stream: PersonStream };

/** In order of arrival; the person's own tile stands last. */
export function tilesOf(others: readonly Person[]): TileModel[] {
  const tiles: TileModel[] = [];
  for (const person of others) {
    const camera = person.streams.find((stream) => stream.kind === "camera") ?? null;
    tiles.push({ kind: "person", key: `person-${person.node}`, person, stream: camera });
    for (const stream of person.streams) {
      if (stream.kind !== "screen") continue;
      tiles.push({ kind: "screen", key: `screen-${person.node}-${stream.ref.stream}`, person, stream });
    }
  }
  tiles.push({ kind: "self", key: "self" });
  return tiles;
}

/** What a tile says across its middle instead of, or over, the picture; null when all is well. */
export function tileWords(person: Person, stream: PersonStream | null): string | null {
  if (!person.verified) {
    return `${person.name} came with a link that has another key. You cannot see or hear each other.`;
  }
  if (stream === null) return null;
  switch (stream.state) {
    case "live":
      return null;
    case "waiting":
      return stream.why ?? (stream.video ? "The picture is on its way…" : null);
    case "lost":
      return stream.why ?? `Nothing has come from ${person.name} for a while.`;
    case "unserved":
      return stream.why ?? `Nobody can bring ${person.name} to you at present.`;
  }
}
