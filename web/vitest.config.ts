import { defineConfig } from "vitest/config";

// Two kinds of tests: pure modules in Node, and whole calls in real browsers, which run one file at a time.
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["client/src/**/*.test.ts", "app/src/**/*.test.ts", "e2e/harness/**/*.test.ts"],
        },
      },
      {
        test: {
          name: "e2e",
          include: ["e2e/tests/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "soak",
          include: ["e2e/soak/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
