import { Command, InvalidArgumentError } from "commander";
import { shown } from "../support/plainText.js";
import { hasColours } from "../support/terminal.js";
import { plural } from "../support/words.js";

/** `slimtune preview config.yaml`: what the model is going to read, and which parts of it it learns. */
export function previewCommand(): Command {
  return new Command("preview")
    .description("show rows as the model gets them, with what is learned marked; trains nothing")
    .usage("CONFIG.yaml [--rows 3] [--name value ...]")
    .argument("[words...]", "the config file, and options that override it")
    .option("--rows <count>", "how many rows to show", wholeNumber, 3)
    .allowUnknownOption()
    .action(async (_: unknown, { rows }: { rows: number }, command: Command) => {
      for await (const line of preview(command.args, rows, hasColours(process.stdout))) {
        process.stdout.write(`${line}\n`);
      }
    });
}

/** Lines for a person; learned parts are green on a terminal, and between ⟦ and ⟧ elsewhere. */
export async function* preview(words: readonly string[], count: number, colour: boolean): AsyncGenerator<string> {
  const { loadConfig, parseCommandLine } = await import("../config/index.js");
  const { config: file, overrides } = parseCommandLine(words);
  const config = await loadConfig(file, overrides);
  const { model, training_args: args } = config;
  const { resolveModel } = await import("../hub/index.js");
  const { readModelConfig } = await import("../models/config.js");
  const { Tokenizer } = await import("../data/tokenizer.js");
  const { describeReport, loadExamples } = await import("../data/examples.js");
  const { runData } = await import("../data/runData.js");

  const modelFolder = await resolveModel(model);
  const { maxPositions, vocabSize } = await readModelConfig(modelFolder);
  const source = { modelFolder, maxPositions, vocabSize };
  const { sequences, report } = await loadExamples(runData(config, args).train, source, args, args.packing);
  const tokenizer = await Tokenizer.load(modelFolder);
  const [open, close] = colour ? ["\x1b[32m", "\x1b[0m"] : ["⟦", "⟧"];

  for (const [index, { inputIds, labels, lengths = [inputIds.length] }] of sequences.slice(0, count).entries()) {
    let start = 0;
    const packed = lengths.map((length) => {
      const learned = (at: number) => labels[at] !== -100 && at > start; // nothing predicts an example's first token
      let text = "";
      for (let at = start; at < start + length; ) {
        let end = at + 1;
        while (end < start + length && learned(end) === learned(at)) end++;
        const part = shown(tokenizer.decode(inputIds.subarray(at, end)));
        text += learned(at) ? `${open}${part}${close}` : part;
        at = end;
      }
      start += length;
      return text;
    });
    const examplesInIt = lengths.length > 1 ? `, ${lengths.length} examples` : "";
    yield `--- row ${index + 1}: ${plural(inputIds.length, "token")}${examplesInIt}`;
    yield packed.join("\n--- and in the same row, unseen by the others:\n");
  }
  yield "---";
  yield* describeReport(report).map(shown);
  yield `${plural(sequences.length, "row")}, ${plural(report.tokens, "token")} (at most ${report.longest} in one row), ${report.labels.toLocaleString("en-US")} of them learned`;
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError("expected a whole number of at least 1");
  return value;
}
