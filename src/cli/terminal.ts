import { closeSync } from "node:fs";
import { isatty } from "node:tty";

/**
 * At its end Node puts terminals back as they were, and aborts (SIGABRT) where one has gone: of a closed window, say. Such
 * ones are closed before, so that the process ends with its exit code.
 */
export function letGoOfLostTerminals(): void {
  const terminals = [0, 1, 2].filter((descriptor) => isatty(descriptor));
  process.on("exit", () => {
    for (const descriptor of terminals) if (!isatty(descriptor)) closeSync(descriptor);
  });
}
