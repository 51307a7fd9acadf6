/** The package's types, as a strict TypeScript project sees them: as an ES module and as CommonJS. */
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, expectTypeOf, it } from "vitest";
import type { z } from "zod";
import type { earlyStoppingSchema } from "../src/callbacks/earlyStopping.js";
import type { datasetSchema } from "../src/data/config.js";
import * as api from "../src/index.js";
import type { quantizationSchema } from "../src/models/quantization.js";
import type { loraSchema } from "../src/peft/config.js";
import type { healthSchema } from "../src/train/health/config.js";
import { compile, makeProject } from "./support/consumer.js";

const made: string[] = [];
afterEach(() => {
  for (const folder of made.splice(0)) rmSync(folder, { recursive: true });
});
const project = (files: Record<string, string>) => {
  const folder = makeProject(files);
  made.push(folder);
  return folder;
};

const USE = `
const rows: PromptCompletionRow[] = [{ prompt: "a", completion: "b" }];
async function* chats(): AsyncGenerator<MessagesRow> {
  yield { messages: [{ role: "user", content: "a" }, { role: "assistant", content: null, tool_calls: [] }] };
}
const lora: LoraConfig = { r: 8, target_modules: "all-linear" };
const config: TrainerConfig = {
  model: "m",
  dataset: [{ path: "a.jsonl", split: "train[:80%]" }, { rows }],
  eval_dataset: { chats, rows, file: "b.csv" },
  lora,
  training_args: new TrainingArguments({ bf16: true }),
  compute_metrics: ({ predictions, label_ids }) => ({ n: predictions.length + label_ids.length }),
};
const trainer: Trainer = new Trainer(config);
export async function use(): Promise<number> {
  const { training_loss } = await trainer.train({ signal: AbortSignal.timeout(5) });
  const { examples, metrics } = await trainer.predict([{ text: "a" }]);
  const { path, code, issues } = new UserError("m: x");
  const first: Int32Array | undefined = examples[0]?.predictions;
  const steps: number = trainer.state.global_step;
  return training_loss + steps + (metrics.test_loss ?? 0) + path.length + code.length + issues.length + (first?.length ?? 0);
}
new Trainer({ model: "m", dataset: [{ input_ids: new Int32Array(3), labels: [-100, 1, 2] }] });
new Trainer({ model: "m", dataset: new Set(rows), lora: { r: 8 } }).dispose();
// @ts-expect-error rows of two formats
new Trainer({ model: "m", dataset: [{ text: "a" }, { prompt: "a", completion: "b" }] });
// @ts-expect-error a misspelt column
new Trainer({ model: "m", dataset: [{ prompt: "a", completoin: "b" }] });
// @ts-expect-error a misspelt option
new Trainer({ model: "m", dataset: rows, lora: { rank: 8 } });
// @ts-expect-error a value that is none
new Trainer({ model: "m", dataset: rows, training_args: { save_strategy: "sometimes" } });
`;
const VALUES = "Trainer, TrainingArguments, UserError";
const TYPES = "LoraConfig, MessagesRow, PromptCompletionRow, TrainerConfig";

describe("the package's types", () => {
  it.each([
    ["ES modules", "module", { module: "nodenext" }],
    ["ES modules for a bundler", "module", { module: "esnext", moduleResolution: "bundler" }],
    ["CommonJS", "commonjs", { module: "nodenext" }],
    ["CommonJS as Node 16 had it", "commonjs", { module: "node16", skipLibCheck: true }],
  ])("fit %s, strictly", (_, type, options) => {
    const folder = project({
      "package.json": JSON.stringify({ type }),
      "use.ts": `import { ${VALUES} } from "slimtune";\nimport type { ${TYPES} } from "slimtune";\n${USE}`,
    });
    expect(compile(folder, { ...options, noEmit: true })).toBe("");
  });

  it("are those of what require() and import give", () => {
    const folder = project({
      "package.json": "{}",
      "both.cjs": `
        const { Trainer } = require("slimtune");
        import("slimtune").then((imported) => console.log(imported.Trainer === Trainer, typeof Trainer));`,
    });
    const { stdout } = spawnSync(process.execPath, [join(folder, "both.cjs")], { encoding: "utf8" });
    expect(stdout).toBe("true function\n");
  });

  it("have a comment on each exported one", () => {
    const dist = fileURLToPath(new URL("../dist/", import.meta.url));
    const index = readFileSync(join(dist, "index.d.ts"), "utf8");
    const bare = [...index.matchAll(/export (?:type )?\{([^}]*)\} from "\.\/([^"]*)\.js"/g)].flatMap(
      ([, names, file]) =>
        names!.split(",").flatMap((name) => {
          const local = name
            .trim()
            .replace(/^type /, "")
            .split(" as ")[0]!;
          return hasComment(dist, file!, local) ? [] : [`${file}: ${local}`];
        }),
    );
    expect(bare).toEqual([]);
  });

  it("are exactly what the schemas take", () => {
    expectTypeOf<api.LoraConfig>().toExtend<z.input<typeof loraSchema>>();
    expectTypeOf<z.input<typeof loraSchema>>().toExtend<api.LoraConfig>();
    expectTypeOf<keyof api.LoraConfig>().toEqualTypeOf<keyof z.input<typeof loraSchema>>();
    expectTypeOf<api.QuantizationConfig>().toExtend<z.input<typeof quantizationSchema>>();
    expectTypeOf<keyof api.QuantizationConfig>().toEqualTypeOf<keyof z.input<typeof quantizationSchema>>();
    expectTypeOf<api.HealthConfig>().toEqualTypeOf<z.input<typeof healthSchema>>();
    expectTypeOf<api.EarlyStoppingOptions>().toEqualTypeOf<z.input<typeof earlyStoppingSchema>>();
    expectTypeOf<api.DatasetSpec>().toExtend<z.input<typeof datasetSchema>>();
    expectTypeOf<z.input<typeof datasetSchema>>().toExtend<api.DatasetSpec>();
    expect(api.loraSchema.safeParse({ r: 4 }).success).toBe(true);
  });
});

/** Whether a declaration has a comment before it, here or in the file that it comes from. */
function hasComment(dist: string, file: string, name: string): boolean {
  const text = readFileSync(join(dist, `${file}.d.ts`), "utf8");
  const passed = new RegExp(`\\{[^}]*\\b${name}\\b[^}]*\\} from "\\./([^"]*)\\.js"`).exec(text);
  if (passed) return hasComment(dist, join(file, "..", passed[1]!), name);
  return new RegExp(
    `\\*/\\s*export (?:declare )?(?:abstract )?(?:type|interface|class|function|const) ${name}\\b`,
  ).test(text);
}
