import { defineConfig } from "vite";

export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../dist",
    emptyOutDir: true,
    // The first browsers with WebCodecs, data channels in workers and `light-dark()`.
    target: ["chrome123", "firefox130", "safari17.5"],
    // The content security policy allows files of our own only, no `data:` addresses.
    assetsInlineLimit: 0,
  },
  worker: { format: "es" },
  server: { proxy: { "/api": { target: "http://localhost:8080", ws: true } } },
});
