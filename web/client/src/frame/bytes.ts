/** Bytes and their spellings: what the frame modules share. Nothing here is secret or knows what it carries. */

const encoder = new TextEncoder();

/** UTF-8. */
export function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(encoder.encode(text));
}

/** A label of the derivations. */
export const ascii = utf8;

export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Compares in time that depends on the lengths only. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= (a[i] as number) ^ (b[i] as number);
  return difference === 0;
}

/** HKDF-SHA-256 (RFC 5869), extract and expand; `length` in bytes. */
export async function hkdf(
  secret: Uint8Array,
  salt: Uint8Array,
  info: Uint8Array,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const key = await crypto.subtle.importKey("raw", secret as BufferSource, "HKDF", false, ["deriveBits"]);
  const params = { name: "HKDF", hash: "SHA-256", salt: salt as BufferSource, info: info as BufferSource };
  return new Uint8Array(await crypto.subtle.deriveBits(params, key, 8 * length));
}

/**
 * What a MAC or a signature covers: a label, then each field with its length ahead (u16, big endian), so that no two
 * lists of fields make the same bytes. Strings are UTF-8, numbers u16.
 *
 * @throws RangeError when a field has more than 65535 bytes, or a number does not fit.
 */
export function transcript(
  label: string,
  ...fields: readonly (string | number | Uint8Array)[]
): Uint8Array<ArrayBuffer> {
  const parts = [label, ...fields].flatMap((field) => {
    const bytes = typeof field === "string" ? utf8(field) : typeof field === "number" ? u16(field) : field;
    return [u16(bytes.length), bytes];
  });
  return concat(...parts);
}

/** Two bytes, big endian. */
export function u16(value: number): Uint8Array<ArrayBuffer> {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff) throw new RangeError(`${value} is no u16`);
  return Uint8Array.of(value >>> 8, value & 0xff);
}

/** base64url without padding (RFC 4648 section 5). */
export function toBase64url(bytes: Uint8Array): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** The bytes of a base64url text without padding; null unless it is exactly what `toBase64url` writes. */
export function fromBase64url(text: string): Uint8Array<ArrayBuffer> | null {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) return null;
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(binary, (char) => char.charCodeAt(0));
  return toBase64url(bytes) === text ? bytes : null;
}
