/** One Lucide icon. With a `label` it is an image of that name; without one it stands next to its text and is hidden. */
import type { IconNode } from "lucide";
import { h } from "preact";

export function Icon({ of, label, size = 20 }: { of: IconNode; label?: string; size?: number }) {
  return (
    // biome-ignore lint/a11y/noSvgWithoutTitle: it has a label, or stands next to its text
    <svg
      class="icon"
      viewBox="0 0 24 24"
      width={size}
      height={size}
      fill="none"
      stroke="currentColor"
      stroke-width="2"
      stroke-linecap="round"
      stroke-linejoin="round"
      {...(label === undefined ? { "aria-hidden": true } : { role: "img", "aria-label": label })}
    >
      {of.map(([tag, attributes], index) => h(tag, { ...attributes, key: index }))}
    </svg>
  );
}
