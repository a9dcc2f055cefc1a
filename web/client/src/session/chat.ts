/** What a chat line may hold. Pure. */

/** Characters as people count them. */
const MOST_CHARACTERS = 2_000;
/** UTF-8; sealed and written in base64url it stays below the server's 8 KiB. */
const MOST_BYTES = 6_000;

/** The text as it is sent: without blanks around it, cut at the limits; empty when there is nothing to send. */
export function chatText(text: string): string {
  const encoder = new TextEncoder();
  let bytes = 0;
  let count = 0;
  let kept = "";
  for (const character of text.trim()) {
    bytes += encoder.encode(character).length;
    count += 1;
    if (count > MOST_CHARACTERS || bytes > MOST_BYTES) break;
    kept += character;
  }
  return kept;
}
