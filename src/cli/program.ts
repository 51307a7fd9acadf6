import { Command, CommanderError } from "commander";
import { packageVersion } from "../nativeModule/paths.js";
import { UserError } from "../support/errors.js";
import { shown } from "../support/plainText.js";
import { doctorCommand } from "./doctor.js";
import { evalCommand } from "./eval.js";
import { generateCommand } from "./generate.js";
import { mergeCommand } from "./merge.js";
import { previewCommand } from "./preview.js";
import { schemaCommand } from "./schema.js";
import { setupCommand } from "./setup.js";
import { trainCommand } from "./train.js";

/** Runs one command of `slimtune`; a failure is told on stderr and sets the exit code. */
export async function runCli(words: readonly string[]): Promise<void> {
  const program = new Command("slimtune").description("Fine-tune small language models.").version(packageVersion());
  for (const command of [
    trainCommand(),
    evalCommand(),
    previewCommand(),
    generateCommand(),
    mergeCommand(),
    setupCommand(),
    doctorCommand(),
    schemaCommand(),
  ]) {
    program.addCommand(command.exitOverride());
  }
  try {
    await program.exitOverride().parseAsync(words, { from: "user" });
  } catch (error) {
    // Commander has told its own errors already, and --help is one of them.
    if (!(error instanceof CommanderError))
      tellFailure(`${shown(report(error))}
`);
    process.exitCode = error instanceof CommanderError ? error.exitCode : 1;
  }
}

/** On stderr, or where that cannot be written, on stdout. */
function tellFailure(text: string): void {
  process.stderr.write(text, (error) => {
    if (error) process.stdout.write(text);
  });
}

/** A user's mistake in one message; the stack where it is asked for, or where the mistake is ours. */
function report(error: unknown): string {
  if (!(error instanceof Error)) return `slimtune failed: ${String(error)}`;
  if (error instanceof UserError) return process.env.SLIMTUNE_DEBUG ? (error.stack ?? error.message) : error.message;
  return `slimtune failed unexpectedly: ${error.stack ?? error.message}`;
}
