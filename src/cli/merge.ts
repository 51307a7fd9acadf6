import { Command, Option } from "commander";
import { UserError } from "../support/errors.js";
import { tell } from "../support/plainText.js";

interface MergeCommandOptions {
  out: string;
  model?: string;
  dtype?: "float32" | "bfloat16" | "float16";
}

/** `slimtune merge RUN --out FOLDER`: an adapter and its base as one model. */
export function mergeCommand(): Command {
  return new Command("merge")
    .description("merge an adapter into its base model: one model that needs no PEFT")
    .argument("<adapter>", "a run's output_dir, a checkpoint in it, or any PEFT adapter: a folder or a hub id")
    .requiredOption("--out <folder>", "folder to write, which must not be there yet, or be empty")
    .option("--model <folder>", "base model: a folder or a hub id (default: the one that the adapter names)")
    .addOption(
      new Option("--dtype <dtype>", "what the weights are stored in (default: as the base has them)").choices([
        "float32",
        "bfloat16",
        "float16",
      ]),
    )
    .action(runMerge);
}

/** @throws UserError for an adapter that does not fit, or cannot be merged */
async function runMerge(adapter: string, { out, model, dtype }: MergeCommandOptions): Promise<void> {
  const { resolveModel } = await import("../config/paths.js");
  const local = (option: string, value: string) => {
    const resolved = resolveModel(value, process.cwd());
    if ("problem" in resolved) throw new UserError(`${option}: ${resolved.problem}`);
    return resolved.value;
  };
  const options = {
    adapter: local("adapter", adapter),
    out,
    ...(model === undefined ? {} : { model: local("--model", model) }),
    ...(dtype === undefined ? {} : { dtype }),
  };
  // Loaded here, so that --help needs no native addon.
  const { mergeAdapter } = await import("../peft/merge.js");
  const { folder, base, changed } = await mergeAdapter(options);
  tell(`Merged into ${base}: ${changed} of its weights changed.`);
  process.stdout.write(`${folder}\n`);
}
