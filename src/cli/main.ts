#!/usr/bin/env node
import { shown } from "../support/plainText.js";
import { letGoOfLostTerminals } from "./terminal.js";

/** Node's module loader opens dozens of files at once, and dies of one too many before anybody can tell. */
function failAtOnce(error: unknown): void {
  const { code } = (error ?? {}) as NodeJS.ErrnoException;
  const message =
    code === "EMFILE" || code === "ENFILE"
      ? `Too many files are open (${code}). Allow a process more of them, for instance: ulimit -n 1024`
      : `slimtune failed unexpectedly: ${error instanceof Error ? error.stack : String(error)}`;
  process.stderr.write(`${shown(message)}\n`);
  process.exit(1);
}
process.on("uncaughtException", failAtOnce);

letGoOfLostTerminals();

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (process.stdout.listenerCount("error") > 1) return; // the command goes on without it
  if (error.code === "EPIPE") process.exit(0); // a reader that has seen enough (`slimtune ... | head`) is no failure
  process.stderr.write(`stdout cannot be written: ${error.message}\n`);
  process.exit(1);
});
process.stderr.on("error", () => {}); // the exit code still tells

const { runCli } = await import("./program.js");
await runCli(process.argv.slice(2));
