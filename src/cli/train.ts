import { statSync } from "node:fs";
import { Command } from "commander";
import { UserError } from "../support/errors.js";
import { shown } from "../support/plainText.js";
import { person } from "../support/terminal.js";
import { argumentsHelp } from "./arguments-help.js";
import { EXIT_CODES, Interrupts } from "./interrupt.js";
import { Output, tellLosses } from "./outputs.js";
import { shellWords, takeOption } from "./words.js";

const LOG_HELP = `
Of this command alone:
  --log_format FORMAT   log entries on stdout as text (for people), python (as the Trainer prints them) or json (a line
                        each). Default: text on a terminal, python elsewhere.`;

/** `slimtune train config.yaml [--name value ...]`: one run, from a config file and options. */
export function trainCommand(): Command {
  return new Command("train")
    .description("fine-tune a model as a config file or options say")
    .usage("[CONFIG.yaml] [--name value ...]")
    .argument("[words...]", "a config file, and options that override it; or --model, --dataset and others alone")
    .allowUnknownOption()
    .addHelpText("after", LOG_HELP)
    .addHelpText("after", () => argumentsHelp())
    .action(async (_: unknown, __: unknown, command: Command) => {
      process.exitCode = await runTrain(command.args);
    });
}

/**
 * Trains; resolves to the exit code: 0, or that of the signal that asked the run to stop (it saved a checkpoint), or
 * EXIT_OUTPUT_LOST when stdout or stderr could not be written: training goes on without them.
 * @throws UserError for what a user can mend.
 */
export async function runTrain(words: readonly string[]): Promise<number> {
  // Loaded here, so that --help and errors on the command line are instant and need no native addon.
  const { loadConfig, parseCommandLine } = await import("../config/index.js");
  const { LOG_FORMATS } = await import("../callbacks/logLines.js");
  const { value: logFormat, rest } = takeOption(words, "log_format");
  const format = LOG_FORMATS.find((name) => name === logFormat);
  if (logFormat !== undefined && format === undefined) {
    throw new UserError(`--log_format: expected ${LOG_FORMATS.join(", ")}, got "${logFormat}"`);
  }
  const { config: file, overrides } = parseCommandLine(rest);
  if (file !== undefined && statSync(file, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UserError(`${file} is a folder: give a config file, or a model as --model ${file}`);
  }
  const config = await loadConfig(file, overrides);
  const { ProgressCallback } = await import("../callbacks/progress.js");
  const { Trainer } = await import("../train/trainer.js");

  using stdout = new Output("stdout", process.stdout);
  using stderr = new Output("stderr", process.stderr);
  const log = (line: string) => person.say(shown(line));
  const progress = new ProgressCallback({ lines: stdout, format });
  try {
    const trainer = new Trainer({ ...config, callbacks: [progress], log });
    using interrupts = new Interrupts(() => {
      log("Finishing this step and saving a checkpoint; interrupt again to quit at once.");
      trainer.requestStop();
    });
    const { interrupted, checkpoint } = await trainer.train().catch((error) => {
      if (interrupts.signal === undefined || (error as Error).name !== "AbortError") throw error;
      return { interrupted: true, checkpoint: undefined };
    });
    const { output_dir } = trainer.args;
    if (!interrupted) {
      log(`Try it:\n  ${shellWords(["npx", "slimtune", "generate", output_dir, "--prompt", "Hello"])}`);
      return await tellLosses(stdout, stderr, 0);
    }
    log(
      checkpoint
        ? `To go on:\n  ${resumeCommand(words, config.training_args.output_dir === output_dir ? undefined : output_dir)}`
        : "Stopped before the first update; there was nothing to save.",
    );
    return await tellLosses(stdout, stderr, EXIT_CODES[interrupts.signal ?? "SIGINT"]);
  } finally {
    progress.close();
  }
}

/**
 * The same command with `--resume_from_checkpoint true`, to paste into a shell.
 * @param place the folder of the run, where its command does not name it
 */
export function resumeCommand(words: readonly string[], place?: string): string {
  const { rest } = takeOption(words, "resume_from_checkpoint");
  const { rest: kept } = takeOption(rest, "overwrite_output_dir", (next) =>
    /^(true|false|[yntf10]|yes|no)$/i.test(next),
  );
  const at = place === undefined ? [] : ["--output_dir", place];
  return shellWords(["npx", "slimtune", "train", ...kept, ...at, "--resume_from_checkpoint", "true"]);
}
