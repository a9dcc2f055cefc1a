/** A level as a row of bars, 0..1. The figure is for eyes only; what it means is said in words next to it. */
const BARS = 16;

export function Meter({ level }: { level: number }) {
  const lit = Math.round(Math.min(1, Math.max(0, level)) * BARS);
  return (
    <div class="meter" aria-hidden="true">
      {Array.from({ length: BARS }, (_, index) => (
        <span key={index} class={index < lit ? "lit" : ""} />
      ))}
    </div>
  );
}
