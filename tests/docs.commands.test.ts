/** The commands in the docs are ones that there are; those of docs/commands.md run as they stand, one after another. */
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { describe, expect, it } from "vitest";
import { chatCommand } from "../src/cli/chat.js";
import { doctorCommand } from "../src/cli/doctor.js";
import { generateCommand } from "../src/cli/generate.js";
import { mergeCommand } from "../src/cli/merge.js";
import { schemaCommand } from "../src/cli/schema.js";
import { setupCommand } from "../src/cli/setup.js";
import { parseWords } from "../src/config/overrides.js";
import { environment, MAIN } from "./support/cli.js";
import { fixturePath } from "./support/goldens.js";
import { temporaryFolders } from "./support/temporary.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const newFolder = temporaryFolders();
const OWN: Record<string, () => Command> = {
  generate: generateCommand,
  chat: chatCommand,
  merge: mergeCommand,
  setup: setupCommand,
  doctor: doctorCommand,
  schema: schemaCommand,
};
/** Of commands whose other options are keys of the config. */
const FEW: Record<string, string[]> = { train: ["--log_format"], preview: ["--rows"], eval: ["--json"] };

/** The lines of a document's shell snippets that call slimtune, without comments. */
function commandsOf(file: string): string[] {
  const blocks = [...readFileSync(join(root, file), "utf8").matchAll(/^ *```sh\n([\s\S]*?)^ *```/gm)];
  return blocks
    .flatMap(([, text]) => text!.replaceAll(/\\\n\s*/g, "").split("\n"))
    .map((line) => line.replace(/\s+#.*$/, "").trim())
    .filter((line) => /(^|\s)npx slimtune /.test(line));
}

const documents = [
  "README.md",
  "CONTRIBUTING.md",
  ...readdirSync(join(root, "docs")).map((name) => `docs/${name}`),
  "examples/gsm8k/README.md",
].filter((name) => name.endsWith(".md"));

it.each(documents.flatMap((file) => commandsOf(file).map((line) => [file, line] as const)))("%s: %s", (_, line) => {
  const [, rest = ""] = line.split("npx slimtune ");
  const [name = "", ...words] = (rest.split(/ [>|&] ?/)[0]!.match(/"[^"]*"|\S+/g) ?? []).map((word) =>
    word.replaceAll('"', ""),
  );
  const options = words.filter((word) => word.startsWith("--")).map((word) => word.split("=")[0]!);
  if (Object.hasOwn(FEW, name)) {
    const own = words.findIndex((word) => FEW[name]!.includes(word));
    const others = own < 0 ? words : [...words.slice(0, own), ...words.slice(own + 2)];
    expect(() => parseWords(others)).not.toThrow();
  } else {
    const known = OWN[name]!().options.map(({ long }) => long);
    for (const option of options) expect(known).toContain(option);
  }
});

describe("docs/commands.md", () => {
  it("runs", () => {
    const home = newFolder();
    const bin = join(home, "bin");
    for (const folder of [bin, join(home, "data")]) mkdirSync(folder);
    writeFileSync(join(bin, "npx"), `#!/bin/sh\nshift\nexec "${process.execPath}" "${MAIN}" "$@"\n`);
    chmodSync(join(bin, "npx"), 0o755);
    const data = readFileSync(fixturePath("data/prompt-completion.jsonl"));
    for (const name of ["train", "heldout"]) writeFileSync(join(home, "data", `${name}.jsonl`), data);
    const model = fixturePath("tiny-llama");
    const args = "{save_strategy: steps, save_steps: 200, max_steps: 2, use_cpu: true}";
    writeFileSync(
      join(home, "config.yaml"),
      `model: ${model}\ndataset: data/train.jsonl\nlora: {r: 4}\noverwrite_output_dir: true\ntraining_args: ${args}\n`,
    );
    const lines = commandsOf("docs/commands.md");
    expect(lines.length).toBeGreaterThan(5);
    for (const line of lines) {
      const short = line.replace("--output_dir auto", "--output_dir auto --max_steps 200 --save_steps 200");
      const { status, stdout, stderr } = spawnSync("sh", ["-c", short.replaceAll("path/or/hub-id", model)], {
        cwd: home,
        env: { ...environment(), PATH: `${bin}${delimiter}${process.env.PATH}` },
        input: "Hello\n\n",
        encoding: "utf8",
      });
      expect(status, `${line}\n${stdout}${stderr}`).toBe(0);
    }
    const logged = readFileSync(join(home, "metrics.jsonl"), "utf8").trimEnd().split("\n");
    expect(logged.map((line) => JSON.parse(line)).at(-1)).toHaveProperty("train_loss");
    expect(readdirSync(home).sort()).toEqual(expect.arrayContaining(["runs", "trainer_output", "trainer_output.1"]));
  }, 120_000);
});
