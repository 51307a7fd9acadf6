#!/usr/bin/env node
import { runCli } from "./program.js";
import { letGoOfLostTerminals } from "./terminal.js";

letGoOfLostTerminals();

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (process.stdout.listenerCount("error") > 1) return; // the command goes on without it
  if (error.code === "EPIPE") process.exit(0); // a reader that has seen enough (`slimtune ... | head`) is no failure
  process.stderr.write(`stdout cannot be written: ${error.message}\n`);
  process.exit(1);
});
process.stderr.on("error", () => {}); // the exit code still tells

await runCli(process.argv.slice(2));
