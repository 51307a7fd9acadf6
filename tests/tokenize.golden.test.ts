import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadRows } from "../src/data/read.js";
import { type TokenizeOptions, tokenizeDataset } from "../src/data/tokenize.js";
import { Tokenizer } from "../src/data/tokenizer.js";

const here = path.dirname(fileURLToPath(import.meta.url));
const goldens = path.join(here, "goldens/tokens");

/** Made by tests/goldens/make_goldens.py from TRL: what SFTTrainer feeds the model for some rows. */
interface Golden {
  data?: string;
  inline?: object[];
  args: Partial<TokenizeOptions>;
  tokenizer: string;
  rows: { index: number; input_ids: number[]; labels: number[] }[];
}

const DEFAULTS: TokenizeOptions = {
  max_length: 1024,
  truncation_mode: "keep_start",
  completion_only_loss: null,
  assistant_only_loss: false,
  dataset_text_field: "text",
  eos_token: null,
};

describe("tokens and labels equal TRL's", async () => {
  const cases = (await readdir(goldens)).filter((name) => name.endsWith(".json"));
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "slimtune-goldens-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("has goldens of every shape", () => {
    const shapes = ["prompt-completion", "messages", "text", "conversational-prompt-completion", "sharegpt"];
    expect(cases).toEqual(expect.arrayContaining(shapes.map((shape) => `${shape}.json`)));
  });

  it.each(cases)("%s", async (name) => {
    const golden: Golden = JSON.parse(await readFile(path.join(goldens, name), "utf8"));
    let file = path.join(here, "fixtures/data", golden.data ?? "");
    if (golden.inline !== undefined) {
      file = path.join(folder, `${name}l`);
      await writeFile(file, golden.inline.map((row) => JSON.stringify(row)).join("\n"));
    }
    const rows = await loadRows(file);
    const tokenizer = await Tokenizer.load(path.join(here, "fixtures", golden.tokenizer));
    const { examples, report } = tokenizeDataset(rows, tokenizer, { ...DEFAULTS, ...golden.args });
    expect(examples.map(({ inputIds, labels }) => ({ input_ids: [...inputIds], labels: [...labels] }))).toEqual(
      golden.rows.map(({ input_ids, labels }) => ({ input_ids, labels })),
    );
    expect(report.droppedFullyMasked).toBe(rows.length - golden.rows.length);
  });
});
