#!/usr/bin/env node
import { runCli } from "./program.js";

// A reader that has seen enough (`slimtune ... | head`) is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

await runCli(process.argv.slice(2));
