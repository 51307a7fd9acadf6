import { Command } from "commander";
import { shown } from "../support/plainText.js";
import { argumentsHelp } from "./arguments-help.js";
import { EXIT_CODES, Interrupts } from "./interrupt.js";
import { Output, tellLosses } from "./outputs.js";

/** `slimtune train config.yaml [--name value ...]`: one run, from a config file and options. */
export function trainCommand(): Command {
  return new Command("train")
    .description("fine-tune a model as a config file says")
    .usage("CONFIG.yaml [--name value ...]")
    .argument("[words...]", "the config file, and options that override it")
    .allowUnknownOption()
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
  const { config: file, overrides } = parseCommandLine(words);
  const config = await loadConfig(file, overrides);
  const { ProgressCallback } = await import("../callbacks/progress.js");
  const { Trainer } = await import("../train/trainer.js");

  using stdout = new Output("stdout", process.stdout);
  using stderr = new Output("stderr", process.stderr);
  const log = (line: string) => stderr.write(`${shown(line)}\n`);
  const progress = new ProgressCallback({ screen: stderr, lines: stdout });
  try {
    const trainer = new Trainer({ ...config, callbacks: [progress], log });
    using interrupts = new Interrupts(() => {
      log("\nFinishing this step and saving a checkpoint; interrupt again to quit at once.");
      trainer.requestStop();
    });
    const { interrupted, checkpoint } = await trainer.train().catch((error) => {
      if (interrupts.signal === undefined || (error as Error).name !== "AbortError") throw error;
      return { interrupted: true, checkpoint: undefined };
    });
    if (!interrupted) return await tellLosses(stdout, stderr, 0);
    log(
      checkpoint
        ? `Stopped; saved ${checkpoint}. To go on:\n  ${resumeCommand(words)}`
        : "Stopped before the first update; there was nothing to save.",
    );
    return await tellLosses(stdout, stderr, EXIT_CODES[interrupts.signal ?? "SIGINT"]);
  } finally {
    progress.close();
  }
}

/** The same command with `--resume_from_checkpoint true`, to paste into a shell. */
export function resumeCommand(words: readonly string[]): string {
  const kept: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const [name = ""] = words[i]!.split("=");
    if (!/^--resume[-_]from[-_]checkpoint$/.test(name)) kept.push(words[i]!);
    else if (name === words[i] && words[i + 1] !== undefined && !words[i + 1]!.startsWith("--")) i++;
  }
  const quoted = kept.map((word) => (/^[\w./=:@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`));
  return ["slimtune train", ...quoted, "--resume_from_checkpoint true"].join(" ");
}
