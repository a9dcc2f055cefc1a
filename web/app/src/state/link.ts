/**
 * Room links: `https://host/r/<room id>#<room secret>`. The id goes to the server, the secret never does: browsers do
 * not send what stands behind the `#`. Pure.
 */

/** What a text that should be a room link turned out to be. */
export type RoomLink =
  | { kind: "room"; room: string; secret: string }
  /** The part behind the `#` is missing: without it nothing can be opened. */
  | { kind: "no_secret"; room: string }
  /** The part behind the `#` was cut or changed on the way. */
  | { kind: "bad_secret"; room: string }
  /** A room link of another server. */
  | { kind: "elsewhere"; href: string; host: string }
  | { kind: "not_a_link" };

/** 96 bits in base64url. */
const ROOM = /^[A-Za-z0-9_-]{16}$/;
/** 128 bits in base64url: the last of 22 characters carries two bits. */
const SECRET = /^[A-Za-z0-9_-]{21}[AQgw]$/;

/** Reads a link that a person pasted. `origin` is this server's. */
export function parseLink(text: string, origin: string): RoomLink {
  const trimmed = text.trim();
  if (trimmed === "") return { kind: "not_a_link" };
  const url = readUrl(trimmed, origin);
  if (url === null) return { kind: "not_a_link" };
  const path = /^\/r\/([^/]+)\/?$/.exec(url.pathname);
  const room = path?.[1];
  if (room === undefined || !ROOM.test(room)) return { kind: "not_a_link" };
  if (url.origin !== origin) return { kind: "elsewhere", href: url.href, host: url.host };
  return readRoom(room, url.hash);
}

/** Reads the parts of a room page's own address. */
export function readRoom(room: string, hash: string): RoomLink {
  if (!ROOM.test(room)) return { kind: "not_a_link" };
  const secret = hash.replace(/^#/, "");
  if (secret === "") return { kind: "no_secret", room };
  if (!SECRET.test(secret)) return { kind: "bad_secret", room };
  return { kind: "room", room, secret };
}

/** The path with which this browser opens a room. */
export function roomPath(room: string, secret: string): string {
  return `/r/${room}#${secret}`;
}

/** People paste links with and without a scheme, and bare paths. */
function readUrl(text: string, origin: string): URL | null {
  const bare = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : text.startsWith("/") ? origin + text : null;
  const host = new URL(origin).host;
  const absolute = bare ?? (text.startsWith(`${host}/`) ? `${new URL(origin).protocol}//${text}` : `https://${text}`);
  try {
    const url = new URL(absolute);
    return url.protocol === "https:" || url.protocol === "http:" ? url : null;
  } catch {
    return null;
  }
}
