/** What a scenario tells grove-lab while it runs. The twin is `Line` in crates/lab/src/browsers.rs. */
export type Event =
  | { event: "step"; done: number; of: number; label: string }
  | { event: "samples"; name: string; setting: string; values: number[] }
  | { event: "series"; plot: string; name: string; points: [number, number][] }
  | { event: "mark"; plot: string; at: number; word: string }
  | { event: "condition"; name: string; value: unknown }
  | { event: "problem"; message: string };

export type Say = (event: Event) => void;
