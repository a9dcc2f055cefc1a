/** Initials on a quiet colour that belongs to the name. */
import { initials } from "../room/sentences.ts";

export function Avatar({ name, size }: { name: string; size?: number }) {
  let hash = 7;
  for (const letter of name) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) % 3600;
  const style: Record<string, string> = { backgroundColor: `oklch(0.44 0.07 ${hash / 10})` };
  if (size !== undefined) {
    style.width = style.height = `${size}px`;
    style.fontSize = `${size * 0.4}px`;
  }
  return (
    <span class="avatar" style={style} aria-hidden="true">
      {initials(name)}
    </span>
  );
}
