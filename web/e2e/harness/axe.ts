/** axe-core in a page. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "puppeteer-core";

const source = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

interface Axe {
  axe?: {
    run(options: object): Promise<{ violations: { id: string; help: string; nodes: { target: string[] }[] }[] }>;
  };
}

/** What axe-core finds: one line per rule with the first places. Empty when all is well. */
export async function violations(page: Page): Promise<string[]> {
  if (!(await page.evaluate(() => (globalThis as Axe).axe !== undefined))) await page.evaluate(source);
  return page.evaluate(async () => {
    const found = await (globalThis as Axe).axe?.run({ resultTypes: ["violations"] });
    return (found?.violations ?? []).map(({ id, help, nodes }) => {
      const places = nodes.slice(0, 3).map((node) => node.target.join(" "));
      return `${id}: ${help} (${nodes.length}) ${places.join(" | ")}`;
    });
  });
}
