import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "tests/**/*.test.ts", "{bench,scripts}/**/*.test.mjs"],
    pool: "forks", // a native addon with its own thread per process
    maxWorkers: 2,
    env: { OMP_NUM_THREADS: "1" }, // test files run beside each other: one thread each
    testTimeout: 120_000,
    hookTimeout: 300_000,
  },
});
