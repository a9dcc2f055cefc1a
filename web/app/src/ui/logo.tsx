/** The mark: one root, three below. */
export function Logo({ size = 28 }: { size?: number }) {
  return (
    <svg class="logo" viewBox="0 0 32 32" width={size} height={size} aria-hidden="true">
      <rect width="32" height="32" rx="8" />
      <path d="M16 9 8.5 22M16 9v13M16 9l7.5 13" />
      <circle cx="16" cy="8.5" r="3.5" />
      <circle cx="8.5" cy="22.5" r="3" />
      <circle cx="16" cy="22.5" r="3" />
      <circle cx="23.5" cy="22.5" r="3" />
    </svg>
  );
}
