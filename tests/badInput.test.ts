/** Each bad input is one clear error that names the file or the option, before anything is written. */

import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readHeader } from "../src/files/safetensors.js";
import { type TensorEntry, writeSafetensors } from "../src/files/safetensorsWriter.js";
import { loadConfig, type TrainerConfig, type TrainingArgumentsInput, UserError } from "../src/index.js";
import { flush, liveTensors } from "../src/torch/index.js";
import { releaseKeptModels } from "../src/train/keptModel.js";
import { fixturePath } from "./support/goldens.js";
import { temporaryFolders } from "./support/temporary.js";
import { tinyTrainer } from "./support/tinyRun.js";

const newFolder = temporaryFolders();
let work: string;
/** Earlier results stand in it; a bad run must leave them as they are. */
let output: string;

beforeEach(() => {
  work = newFolder();
  output = join(work, "output");
});
afterEach(async () => {
  releaseKeptModels();
  await flush();
  expect(liveTensors()).toBe(0); // what was loaded before the error was found is freed
});

const listing = (folder: string): string[] =>
  existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: "utf8" }).sort() : ["nothing"];

/** The one error of a run; checks that it is a UserError and that output_dir is as it was. */
async function errorOf(more: Partial<TrainerConfig>, args: TrainingArgumentsInput = {}): Promise<string> {
  const before = listing(output);
  const error = await (async () => tinyTrainer(output, args, more).train())().then(
    () => expect.fail("the run went through"),
    (thrown) => thrown,
  );
  expect(error, String(error?.stack)).toBeInstanceOf(UserError);
  expect(listing(output)).toEqual(before);
  return error.message;
}

/** A copy of a model folder that may be spoilt. */
function model(name = "tiny-llama"): string {
  const folder = join(work, "model");
  cpSync(fixturePath(name), folder, { recursive: true });
  return folder;
}
function changeJson(path: string, changes: Record<string, unknown>): void {
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...changes }));
}
function dataset(...rows: unknown[]): string {
  const path = join(work, "rows.jsonl");
  writeFileSync(path, rows.map((row) => `${typeof row === "string" ? row : JSON.stringify(row)}\n`).join(""));
  return path;
}

describe("model folder", () => {
  it.each<[string, (folder: string) => void, RegExp]>([
    ["without config.json", (folder) => rmSync(join(folder, "config.json")), /cannot read .*\/config\.json \(ENOENT\)/],
    [
      "with a broken config.json",
      (folder) => truncateSync(join(folder, "config.json"), 50),
      /config\.json is not valid JSON/,
    ],
    [
      "of another architecture",
      (folder) => changeJson(join(folder, "config.json"), { model_type: "mamba", architectures: ["MambaForCausalLM"] }),
      /config\.json: model_type 'mamba' is not supported; llama, .* are\. docs\/models\.md lists the models/,
    ],
    [
      "of another class",
      (folder) => changeJson(join(folder, "config.json"), { architectures: ["LlamaForSequenceClassification"] }),
      /config\.json: architecture 'LlamaForSequenceClassification' is not supported for model_type 'llama'; LlamaForCausalLM is/,
    ],
    [
      "with a wrong type in config.json",
      (folder) => changeJson(join(folder, "config.json"), { hidden_size: "64" }),
      /config\.json: hidden_size: /,
    ],
    [
      "with another size in config.json",
      (folder) => changeJson(join(folder, "config.json"), { intermediate_size: 100 }),
      /model\.safetensors: weight 'model\.layers\.0\.mlp\.gate_proj\.weight' has the shape \[128,64\], config\.json asks for \[100,64\]/,
    ],
    [
      "with more layers in config.json",
      (folder) => changeJson(join(folder, "config.json"), { num_hidden_layers: 3 }),
      /has no weight 'model\.layers\.2\./,
    ],
    [
      "with fewer layers in config.json",
      (folder) => changeJson(join(folder, "config.json"), { num_hidden_layers: 1 }),
      /model: .* has 9 weights that its config\.json has no place for, the first is 'model\.layers\.1\./,
    ],
    [
      "quantized by another program",
      (folder) => changeJson(join(folder, "config.json"), { quantization_config: { quant_method: "gptq", bits: 4 } }),
      /config\.json: quantization_config: its weights are quantized by gptq, which cannot be read/,
    ],
    [
      "without weights",
      (folder) => rmSync(join(folder, "model.safetensors")),
      /has no weights: neither model\.safetensors nor model\.safetensors\.index\.json/,
    ],
    ["with cut weights", (folder) => truncateSync(join(folder, "model.safetensors"), 100_000), /model\.safetensors/],
    ["with empty weights", (folder) => truncateSync(join(folder, "model.safetensors"), 0), /model\.safetensors/],
    ["without a tokenizer", (folder) => rmSync(join(folder, "tokenizer.json")), /tokenizer\.json/],
    ["with a broken tokenizer", (folder) => writeFileSync(join(folder, "tokenizer.json"), "{}"), /tokenizer\.json/],
    [
      "with another model's tokenizer",
      (folder) => changeJson(join(folder, "config.json"), { vocab_size: 100 }),
      /its tokenizer gives the id \d+, but config\.json says vocab_size 100/,
    ],
  ])("%s", async (_, spoil, message) => {
    const folder = model();
    spoil(folder);
    const text = await errorOf({ model: folder });
    expect(text).toMatch(message);
    expect(text).toContain(folder);
  });

  it("with tables that older versions stored: they are left alone", async () => {
    const folder = model();
    const { tensors, path } = await readHeader(join(folder, "model.safetensors"));
    const bytes = readFileSync(path);
    const entries: TensorEntry[] = Array.from(tensors, ([name, { dtype, shape, begin, end }]) => {
      return { name, dtype, shape, data: async () => bytes.subarray(begin, end) };
    });
    const table = { dtype: "F32", shape: [8], data: async () => new Uint8Array(32) } as const;
    entries.push({ name: "model.layers.0.self_attn.rotary_emb.inv_freq", ...table });
    await writeSafetensors(path, entries);
    await tinyTrainer(output, { max_steps: 1 }, { model: folder }).train();
  });

  it("that is not there", async () => {
    expect(await errorOf({ model: join(work, "none") })).toContain(join(work, "none"));
  });

  it("that is a file", async () => {
    const path = join(work, "model.bin");
    writeFileSync(path, "weights");
    expect(await errorOf({ model: path })).toContain(path);
  });

  it("with a shard missing", async () => {
    const folder = model("tiny-llama-sharded");
    rmSync(join(folder, "model-00002-of-00004.safetensors"));
    expect(await errorOf({ model: folder })).toMatch(
      /lacks 1 of the 4 files of its index: .*model-00002-of-00004\.safetensors/,
    );
  });

  it("with a shard cut", async () => {
    const folder = model("tiny-llama-sharded");
    truncateSync(join(folder, "model-00003-of-00004.safetensors"), 2000);
    expect(await errorOf({ model: folder })).toContain(join(folder, "model-00003-of-00004.safetensors"));
  });

  it("with an index that leads out of it", async () => {
    const folder = model("tiny-llama-sharded");
    changeJson(join(folder, "model.safetensors.index.json"), {
      weight_map: { "model.norm.weight": "../../secret.safetensors" },
    });
    expect(await errorOf({ model: folder })).toContain(join(folder, "model.safetensors.index.json"));
  });

  it("with weights that are a link out of it", async () => {
    const folder = model();
    rmSync(join(folder, "model.safetensors"));
    symlinkSync(fixturePath("tiny-llama/model.safetensors"), join(folder, "model.safetensors"));
    expect(await errorOf({ model: folder })).toMatch(/is a link to .*, outside the model's folder/);
  });

  it("with weights of integers", async () => {
    const folder = model();
    rmSync(join(folder, "model.safetensors"));
    await writeSafetensors(join(folder, "model.safetensors"), [
      { name: "model.embed_tokens.weight", dtype: "I8", shape: [384, 64], data: async () => new Uint8Array(384 * 64) },
    ]);
    expect(await errorOf({ model: folder })).toContain(
      "weight 'model.embed_tokens.weight' is I8; F32, F16 and BF16 weights are supported",
    );
  });
});

it("a pattern in an adapter that cannot be matched", async () => {
  const adapter = join(work, "adapter");
  cpSync(fixturePath("tiny-llama-adapter"), adapter, { recursive: true });
  changeJson(join(adapter, "adapter_config.json"), { rank_pattern: { "(?=q)q_proj": 4 } });
  expect(await errorOf({ lora: undefined, adapter })).toBe(
    `adapter: ${join(adapter, "adapter_config.json")}: rank_pattern: '(?=q)q_proj' has a look-ahead, which patterns here cannot have: they are RE2's, so that none takes for ever. Write it without.`,
  );
});

describe("a vocabulary that is none", () => {
  const spoil = (change: (vocab: Record<string, unknown>, token: string, index: number) => void) => {
    const folder = model();
    const path = join(folder, "tokenizer.json");
    const json = JSON.parse(readFileSync(path, "utf8"));
    for (const [index, token] of Object.keys(json.model.vocab).entries()) change(json.model.vocab, token, index);
    writeFileSync(path, JSON.stringify(json));
    return folder;
  };

  it.each<[string, (id: number) => unknown]>([
    ["broken numbers", (id) => id + 0.5],
    ["texts", (id) => `${id}`],
    ["all 0", () => 0],
    ["negative", (id) => -1 - id],
  ])("whose ids are %s", async (_, change) => {
    const folder = spoil((vocab, token, index) => {
      vocab[token] = change(index);
    });
    expect(await errorOf({ model: folder })).toMatch(
      /model\/tokenizer\.json: model\.vocab gives ".*" the id .*Copy the file/,
    );
  });
});

describe.skipIf(process.platform === "win32")("a pipe, an endless device or a folder", () => {
  const kinds: [string, (path: string) => void][] = [
    ["a pipe", (path) => execFileSync("mkfifo", [path])],
    ["a device", (path) => symlinkSync("/dev/zero", path)],
    ["a folder", (path) => mkdirSync(path)],
  ];
  const each = (names: string[]) => names.flatMap((name) => kinds.map(([kind, make]) => [kind, name, make] as const));

  it.each(
    each([
      "config.json",
      "generation_config.json",
      "tokenizer.json",
      "tokenizer_config.json",
      "special_tokens_map.json",
      "chat_template.jinja",
      "additional_chat_templates/tool_use.jinja",
    ]),
  )("%s in the place of %s", async (kind, name, make) => {
    const folder = model();
    const { added_tokens_decoder: _, ...config } = JSON.parse(
      readFileSync(join(folder, "tokenizer_config.json"), "utf8"),
    );
    writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(config)); // or the map is not read
    mkdirSync(join(folder, "additional_chat_templates"));
    const path = join(folder, name);
    rmSync(path, { force: true });
    make(path);
    expect(await errorOf({ model: folder })).toContain(`${path} is ${kind}, not a file`);
  });

  it.each(each(["adapter_config.json", "adapter_model.safetensors"]))(
    "%s in the place of %s",
    async (kind, name, make) => {
      const adapter = join(work, "adapter");
      cpSync(fixturePath("tiny-llama-adapter"), adapter, { recursive: true });
      rmSync(join(adapter, name));
      make(join(adapter, name));
      const text = await errorOf({ lora: undefined, adapter });
      expect(text).toContain(join(adapter, name));
      if (name.endsWith(".json")) expect(text).toContain(`is ${kind}, not a file`);
    },
  );

  it.each(each(["model-00002-of-00004.safetensors", "model.safetensors.index.json"]))(
    "%s in the place of %s",
    async (_, name, make) => {
      const folder = model("tiny-llama-sharded");
      rmSync(join(folder, name));
      make(join(folder, name));
      expect(await errorOf({ model: folder })).toContain(join(folder, name)); // a device: a link out of the folder
    },
  );

  it.each(each(["rows.jsonl", "rows.json"]))("%s as dataset %s", async (kind, name, make) => {
    mkdirSync(join(work, "data"));
    const path = join(work, "data", name);
    make(path);
    expect(await errorOf({ dataset: join(work, "data") })).toContain(`${path} is ${kind}, not a file`);
  });

  it.each(kinds)("%s as config file", async (kind, make) => {
    const path = join(work, "config.yaml");
    make(path);
    await expect(loadConfig(path)).rejects.toThrow(`${path} is ${kind}, not a file`);
  });

  it("and a file far too large are refused", async () => {
    const folder = model();
    const path = join(folder, "config.json");
    truncateSync(path, 1e12); // nothing of it is on the disk
    expect(await errorOf({ model: folder })).toContain(`${path} has 1000.00 GB; such a file may have`);
  });
});

describe("hostile safetensors header", () => {
  function header(length: bigint, text: string, data = 8): Buffer {
    const start = Buffer.alloc(8);
    start.writeBigUInt64LE(length);
    return Buffer.concat([start, Buffer.from(text), Buffer.alloc(data)]);
  }
  const of = (text: string, data?: number) => header(BigInt(Buffer.byteLength(text)), text, data);
  const entry = (changes: object) =>
    JSON.stringify({ x: { dtype: "F32", shape: [2], data_offsets: [0, 8], ...changes } });

  it.each<[string, Buffer]>([
    ["longer than the file", header(2n ** 40n, "{}")],
    ["of 2^64 - 1 bytes", header(2n ** 64n - 1n, "{}")],
    ["of no bytes", header(0n, "")],
    ["that is not JSON", of("{not json")],
    ["that is a list", of("[]")],
    ["nested ten thousand deep", of(`{"x":${"[".repeat(10_000)}`)],
    ["whose tensor lies behind the end", of(entry({ data_offsets: [0, 8000], shape: [2000] }))],
    ["whose tensor begins after its end", of(entry({ data_offsets: [8, 0] }))],
    ["with a negative offset", of(entry({ data_offsets: [-8, 0] }))],
    ["whose shape is not its bytes", of(entry({ shape: [3] }))],
    ["whose shape overflows", of(entry({ shape: [2 ** 40, 2 ** 40] }))],
    ["with a negative size", of(entry({ shape: [-2] }))],
    ["with an unknown dtype", of(entry({ dtype: "F128" }))],
    [
      "with the same tensor twice",
      of('{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'),
    ],
    [
      "with overlapping tensors",
      of(
        JSON.stringify({
          x: { dtype: "F32", shape: [2], data_offsets: [0, 8] },
          y: { dtype: "F32", shape: [2], data_offsets: [0, 8] },
        }),
      ),
    ],
    ["called __proto__", of('{"__proto__":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}')],
  ])("%s", async (_, bytes) => {
    const folder = model();
    writeFileSync(join(folder, "model.safetensors"), bytes);
    expect(await errorOf({ model: folder })).toContain(folder);
  });
});

describe("dataset", () => {
  const good = { prompt: "Say A:", completion: " A" };

  it.each<[string, unknown[], RegExp]>([
    ["without a row", [], /is empty/],
    ["of empty lines", ["", ""], /is empty/],
    ["with a broken line", [good, '{"prompt": "x"', good], /rows\.jsonl:2/],
    ["with a line that is no object", [good, "[1]"], /rows\.jsonl:2/],
    ["with columns of no known format", [{ question: "?", answer: "!" }], /question.*answer|answer.*question/s],
    ["with a value of a wrong type", [good, { prompt: 5, completion: "x" }], /rows\.jsonl:2.*prompt/s],
    ["with a column missing in one row", [good, { prompt: "x" }], /rows\.jsonl:2.*completion/s],
    ["with a role that nobody knows", [{ messages: [{ role: 5, content: "x" }] }], /rows\.jsonl:1/],
  ])("%s", async (_, rows, message) => {
    const path = dataset(...rows);
    const text = await errorOf({ dataset: path });
    expect(text).toMatch(message);
    expect(text).toContain("rows.jsonl");
  });

  it("that is not there", async () => {
    expect(await errorOf({ dataset: join(work, "none.jsonl") })).toContain(join(work, "none.jsonl"));
    expect(await errorOf({ dataset: join(work, "*.jsonl") })).toContain("*.jsonl");
  });

  it("of a kind that cannot be read", async () => {
    const path = join(work, "rows.parquet");
    writeFileSync(path, "PAR1");
    expect(await errorOf({ dataset: path })).toContain("rows.parquet");
  });

  it("whose every label is masked", async () => {
    const path = dataset({ prompt: `${"word ".repeat(100)}:`, completion: " A" });
    expect(await errorOf({ dataset: path }, { max_length: 8 })).toMatch(/max_length|label|learn/);
  });

  it("with rows that have no token to predict: left out, in training and evaluation, and said with a count", async () => {
    const path = dataset({ text: "" }, { text: "Ada lives in Lagos." }, { text: "" }, { text: "" }, { text: "Bruno." });
    const lines: string[] = [];
    const { training_loss } = await tinyTrainer(
      output,
      { per_device_train_batch_size: 1, num_train_epochs: 1, eval_strategy: "epoch", per_device_eval_batch_size: 1 },
      { dataset: path, eval_dataset: path, log: (line) => lines.push(line) },
    ).train();
    expect(training_loss).toBeGreaterThan(0);
    const said = "3 of 5 rows have no token to predict and were left out";
    expect(lines).toEqual(expect.arrayContaining([said, `eval_dataset: ${said}`]));
  });

  it("to measure on that has no token to predict", async () => {
    const text = await errorOf({ eval_dataset: dataset({ text: "" }) }, { eval_strategy: "epoch" });
    expect(text).toMatch(/^eval_dataset: none of the 1 rows of the dataset has a token/);
  });

  it("of chats, for a model without a chat template", async () => {
    const folder = model();
    rmSync(join(folder, "chat_template.jinja"));
    const path = dataset({
      messages: [
        { role: "user", content: "Hello" },
        { role: "assistant", content: "Hi" },
      ],
    });
    expect(await errorOf({ model: folder, dataset: path })).toMatch(/chat template/);
  });

  it("with a broken chat template", async () => {
    const folder = model();
    writeFileSync(join(folder, "chat_template.jinja"), "{% for %}");
    const path = dataset({
      messages: [
        { role: "user", content: "Hello" },
        { role: "assistant", content: "Hi" },
      ],
    });
    expect(await errorOf({ model: folder, dataset: path })).toMatch(
      /chat template \(.*model\/chat_template\.jinja\) cannot be read/,
    );
  });

  it("with rows longer than the model's positions: cut, and said with a count", async () => {
    const folder = model();
    changeJson(join(folder, "config.json"), { max_position_embeddings: 16 });
    const path = dataset(...Array.from({ length: 3 }, (_, i) => ({ text: `${i} ${"word ".repeat(30)}` })), {
      text: "short",
    });
    const lines: string[] = [];
    await tinyTrainer(
      output,
      { max_steps: 1, max_length: null },
      { model: folder, dataset: path, log: (line) => lines.push(line) },
    ).train();
    expect(lines.join("\n")).toMatch(/3 of 4 rows are longer than the model's positions and were cut/);
  });
});

describe("output_dir", () => {
  it.each([
    ["a model", "model.safetensors"],
    ["a checkpoint", "checkpoint-4/optimizer.safetensors"],
    ["somebody's notes", "notes.txt"],
  ])("with %s in it", async (_, name) => {
    mkdirSync(join(output, name, ".."), { recursive: true });
    writeFileSync(join(output, name), "earlier");
    const text = await errorOf({});
    expect(text).toContain(`output_dir: ${output} is not empty (${name.split("/")[0]})`);
    if (name.startsWith("checkpoint")) expect(text).toContain("--resume_from_checkpoint true");
    expect(readFileSync(join(output, name), "utf8")).toBe("earlier");
  });

  it("that is a file", async () => {
    const path = join(work, "results");
    writeFileSync(path, "mine");
    const error = await tinyTrainer(path)
      .train()
      .catch((thrown) => thrown);
    expect(error).toBeInstanceOf(UserError);
    expect(error.message).toContain(`output_dir: ${path} cannot be used`);
    expect(readFileSync(path, "utf8")).toBe("mine");
  });
});

describe("options", () => {
  it.each<[TrainingArgumentsInput | Record<string, unknown>, string]>([
    [{ learning_rte: 1 }, "learning_rate"],
    [{ learning_rate: "fast" }, "learning_rate"],
    [{ per_device_train_batch_size: 0 }, "per_device_train_batch_size"],
    [{ per_device_train_batch_size: 1.5 }, "per_device_train_batch_size"],
    [{ num_train_epochs: -1 }, "num_train_epochs"],
    [{ optim: "sgdd" }, "optim"],
    [{ lr_scheduler_type: "linea" }, "linear"],
    [{ save_strategy: "sometimes" }, "save_strategy"],
    [{ max_grad_norm: Number.NaN }, "max_grad_norm"],
    [{ bf16: true, fp16: true }, "fp16"],
    [{ seed: 1.5 }, "seed"],
    [{ neftune_noise_alpha: 1e308 }, "neftune_noise_alpha: expected a number of at least 0 and of at most 1000000"],
  ])("%j", async (args, name) => {
    expect(await errorOf({}, args as TrainingArgumentsInput)).toContain(name);
  });

  it("several wrong ones at once are all told", async () => {
    const text = await errorOf({}, { learning_rate: "x", seed: "y" } as unknown as TrainingArgumentsInput);
    expect(text).toMatch(/learning_rate/);
    expect(text).toMatch(/seed/);
  });

  it.each<[string, Partial<TrainerConfig>, RegExp]>([
    ["lora with a misspelt key", { lora: { rank: 4 } as never }, /lora.*rank/],
    ["lora with a wrong type", { lora: { r: "8" } as never }, /lora\.r/],
    [
      "lora on layers that are not there",
      { lora: { target_modules: ["query"] } },
      /lora\.target_modules: \["query"\] matches no linear layer/,
    ],
    [
      "adapter and lora together",
      { adapter: fixturePath("tiny-llama-adapter") },
      /adapter: the config has `adapter` and `lora`/,
    ],
    [
      "an adapter that is not there",
      { lora: undefined, adapter: "/nonexistent/adapter" },
      /adapter.*\/nonexistent\/adapter|\/nonexistent\/adapter/,
    ],
    ["a model in the adapter's place", { lora: undefined, adapter: fixturePath("tiny-llama") }, /adapter_config\.json/],
    ["an adapter in the model's place", { model: fixturePath("tiny-llama-adapter") }, /tiny-llama-adapter/],
    [
      "an adapter of another model",
      { lora: undefined, adapter: fixturePath("tiny-llama-adapter"), model: fixturePath("tiny-llama-fp16") },
      /adapter: .*has the shape/,
    ],
  ])("%s", async (_, more, message) => {
    expect(await errorOf(more)).toMatch(message);
  });
});

describe("config file", () => {
  const text = (changes = "") => `model: ${fixturePath("tiny-llama")}
dataset: ${fixturePath("data/prompt-completion.jsonl")}
training_args:
  output_dir: ${output}
${changes}`;
  async function problemOf(content: string | Buffer): Promise<string> {
    const path = join(work, "config.yaml");
    writeFileSync(path, content);
    const error = await loadConfig(path).then(
      () => expect.fail("the config was taken"),
      (thrown) => thrown,
    );
    expect(error, String(error?.stack)).toBeInstanceOf(UserError);
    expect(error.message).toContain(path);
    expect(existsSync(output)).toBe(false);
    return error.message;
  }

  it.each<[string, string, RegExp]>([
    ["a misspelt key at the top", "datset: x\n", /:\d+: datset.*dataset/s],
    ["a misspelt argument", "  lerning_rate: 1e-4\n", /:5: .*lerning_rate.*learning_rate/s],
    ["a wrong type", "  learning_rate: fast\n", /:5: .*learning_rate/s],
    ["a misspelt key of lora", "lora: {r: 4, lora_alhpa: 8}\n", /lora_alhpa.*lora_alpha/s],
    ["a number where a list belongs", "lora: {target_modules: 5}\n", /target_modules/],
    ["the same key twice", "model: other\n", /:5: not valid YAML: Map keys must be unique/],
    ["YAML that is none", "  a: [1, 2\n", /config\.yaml/],
    ["an optimizer that is not built", "  optim: nonsense\n", /optim/],
  ])("with %s", async (_, changes, message) => {
    expect(await problemOf(text(changes))).toMatch(message);
  });

  it.each([
    ["empty", ""],
    ["of a list", "- 1\n"],
    ["of a word", "hello\n"],
    ["of binary rubbish", Buffer.from([0xff, 0xfe, 0, 1, 2])],
    ["without a model", "dataset: x.jsonl\n"],
  ])("%s", async (_, content) => {
    await problemOf(content);
  });

  it("that is not there", async () => {
    await expect(loadConfig(join(work, "none.yaml"))).rejects.toThrow(
      `${join(work, "none.yaml")}: there is no such config file`,
    );
  });
});

it.skipIf(process.platform !== "linux")(
  "an output_dir in a file system that takes no folders is refused at once",
  async () => {
    const begun = performance.now();
    await expect(tinyTrainer("/proc/nowhere/out").train()).rejects.toThrow(
      "output_dir: /proc/nowhere/out cannot be used",
    );
    expect(performance.now() - begun).toBeLessThan(2000);
  },
);
