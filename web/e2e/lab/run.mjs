// Runs a scenario of this directory for grove-lab: `node run.mjs <scenario> <options as JSON>`. What the scenario sees
// goes to standard output, one JSON object per line (crates/lab/src/browsers.rs reads them). The scenarios are
// TypeScript and run through Vite's loader, since Node 20 does not strip types.
import { runnerImport } from "vite";

const [scenario, options] = process.argv.slice(2);
const known = {
  "join-times": "./join-times.ts",
  hops: "./hops.ts",
  "audio-channel": "./audio-channel.ts",
  "rtp-transport": "./rtp-transport.ts",
};
const file = known[scenario];
if (!file) throw new Error(`no scenario ${scenario}; there are ${Object.keys(known).join(", ")}`);
const { module } = await runnerImport(new URL(file, import.meta.url).pathname, {
  configFile: false,
  logLevel: "error",
});
await module.run(JSON.parse(options), (event) => process.stdout.write(`${JSON.stringify(event)}\n`));
process.exit(0);
