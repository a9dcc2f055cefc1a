/** axe-core in a page. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "puppeteer-core";

const source = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

interface Axe {
  axe?: {
    run(
      options: object,
    ): Promise<{ passes: object[]; violations: { id: string; help: string; nodes: { target: string[] }[] }[] }>;
  };
}

/** What axe-core finds: one line per rule with the first places. Empty when all is well. */
export async function violations(page: Page): Promise<string[]> {
  if (!(await page.evaluate(() => (globalThis as Axe).axe !== undefined))) await page.evaluate(source);
  return page.evaluate(async () => {
    const { axe } = globalThis as Axe;
    if (!axe) throw new Error("axe-core did not load");
    const found = await axe.run({ resultTypes: ["violations"] });
    // Rules that were satisfied show that there was something to look at.
    if (found.passes.length < 5) return [`axe-core looked at nothing: ${found.passes.length} rules applied`];
    return found.violations.map(({ id, help, nodes }) => {
      const places = nodes.slice(0, 3).map((node) => node.target.join(" "));
      return `${id}: ${help} (${nodes.length}) ${places.join(" | ")}`;
    });
  });
}
