/** From a dataset to the rows that a run learns from, or is measured on: read, tokenised, packed, shuffled. */

import type { TrainingArguments } from "../arguments/index.js";
import type { Sequence } from "../models/batch.js";
import { UserError } from "../support/errors.js";
import { quoteName } from "../support/plainText.js";
import { numpyPermutation } from "./numpyPermutation.js";
import { type PackingReport, packExamples } from "./packing.js";
import type { Row } from "./row.js";
import type { ReadRows } from "./runData.js";
import { checkLearnable, type TokenizedDataset, type TokenizeReport } from "./tokenize.js";
import { TokenizerPool } from "./tokenizePool.js";
import { Tokenizer } from "./tokenizer.js";

export interface ExampleSource {
  modelFolder: string;
  maxPositions: number;
  vocabSize: number;
}

export interface LoadedExamples {
  sequences: Sequence[];
  report: ExampleReport;
}

/** What became of the rows of a dataset; with packing, tokens and labels are those of the packed rows. */
export interface ExampleReport extends TokenizeReport {
  /** Examples that were packed into fewer rows, and what that did; undefined without packing. */
  packing?: { examples: number } & Pick<PackingReport, "overlong" | "withoutLabel">;
  /** The longest row, in tokens. */
  longest: number;
}

/**
 * Makes examples of rows as TRL's SFTTrainer prepares them.
 * @param packing whether to pack its examples (`packing`, or `eval_packing` for a dataset to measure on)
 * @param inspect sees the examples before they are packed; may throw
 * @throws UserError for a dataset that cannot be read, fits no format or teaches nothing
 */
export async function loadExamples(
  read: ReadRows,
  { modelFolder, maxPositions, vocabSize }: ExampleSource,
  args: TrainingArguments,
  packing: boolean,
  signal?: AbortSignal,
  inspect?: (rows: readonly Row[], tokenized: TokenizedDataset, tokenizer: Tokenizer) => Promise<void>,
): Promise<LoadedExamples> {
  const options = {
    max_length: args.max_length,
    truncation_mode: args.truncation_mode,
    completion_only_loss: args.completion_only_loss,
    assistant_only_loss: args.assistant_only_loss,
    dataset_text_field: args.dataset_text_field,
    eos_token: args.eos_token,
    max_positions: maxPositions,
    packing,
  };
  const workers = Math.max(1, args.dataloader_num_workers, args.dataset_num_proc ?? 0);
  await using pool = new TokenizerPool({ folder: modelFolder, options, workers });
  const tokenizer = await Tokenizer.open(modelFolder);
  const rows = await read(signal);
  const templates = tokenizer.chatTemplateFiles;
  const tokenized = checkLearnable(await pool.tokenize({ rows, templates, signal }), options);
  checkVocabulary(tokenized.examples, vocabSize, modelFolder);
  await inspect?.(rows, tokenized, tokenizer);
  const shuffle = <T>(list: T[]) => (args.shuffle_dataset ? shuffled(list, args.seed) : list);
  if (!packing) {
    const examples = shuffle(tokenized.examples);
    return { sequences: examples, report: { ...tokenized.report, longest: longestOf(examples) } };
  }
  // TRL shuffles what is packed, and then the packed rows.
  const packed = await packExamples(shuffle(tokenized.examples), {
    max_length: args.max_length!, // checked with the arguments
    packing_strategy: args.packing_strategy,
    max_positions: maxPositions,
  });
  if (packed.report.labels === 0) {
    throw new UserError(
      `packing: cut to max_length ${args.max_length}, no example has a token that gives a loss. Raise max_length, or use packing_strategy: bfd_split.`,
    );
  }
  const { tokens, labels, overlong, withoutLabel } = packed.report;
  const report: ExampleReport = {
    ...tokenized.report,
    tokens,
    labels,
    packing: { examples: tokenized.examples.length, overlong, withoutLabel },
    longest: longestOf(packed.rows),
  };
  return { sequences: shuffle(packed.rows), report };
}

/** TRL's `shuffle_dataset`, with the order that `datasets` gives for the seed. */
function shuffled<T>(list: readonly T[], seed: number): T[] {
  return Array.from(numpyPermutation(list.length, seed), (index) => list[index]!);
}

const longestOf = (rows: readonly Sequence[]) =>
  rows.reduce((most, { inputIds }) => Math.max(most, inputIds.length), 0);

function checkVocabulary(examples: readonly Sequence[], vocabulary: number, folder: string): void {
  for (const { inputIds } of examples) {
    for (const id of inputIds) {
      if (id >= vocabulary) {
        throw new UserError(
          `model: ${folder}: its tokenizer gives the id ${id}, but config.json says vocab_size ${vocabulary}. The tokenizer belongs to another model.`,
        );
      }
    }
  }
}

/** What happened to the rows that a user would want to know. */
export function describeReport(report: ExampleReport): string[] {
  const lines: string[] = [];
  const say = (rows: number, what: string) => {
    if (rows === 0) return;
    const verb = (plural: string) => ({ are: "is", have: "has", hold: "holds" })[plural]!;
    const said = rows > 1 ? what : what.replace(/^(are|have|hold)\b/, verb).replace(/^is texts/, "is a text");
    lines.push(`${rows} of ${report.rows} ${report.rows === 1 ? "row" : "rows"} ${said}`);
  };
  say(report.truncated, "are longer than max_length and were cut");
  say(report.cutToPositions, "are longer than the model's positions and were cut");
  say(report.droppedFullyMasked, "have no token to predict and were left out");
  say(
    report.promptNotPrefix,
    "have a prompt whose tokens are not the first tokens of the whole: the border is approximate",
  );
  say(
    report.withoutEos,
    'are texts of another column than "text": as in TRL, no end-of-sequence token was added to them',
  );
  if (report.unusualRoles.length > 0) {
    const roles = report.unusualRoles.slice(0, 5).map(quoteName).join(", ");
    const more = report.unusualRoles.length > 5 ? ` and ${report.unusualRoles.length - 5} more` : "";
    lines.push(`conversations have roles that the chat template may not know: ${roles}${more}`);
  }
  say(report.specialTokensInText, "hold the text of a special token, which became that token");
  if (report.packing) {
    const { overlong, withoutLabel } = report.packing;
    say(overlong, "are longer than max_length: cut off there (bfd), or cut into pieces (bfd_split, wrapped)");
    if (withoutLabel > 0)
      lines.push(
        `${withoutLabel} packed rows have no token to predict; as in TRL they are kept, and an update of them alone learns nothing`,
      );
  }
  return lines;
}
