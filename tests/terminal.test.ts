/** Nothing that a file says reaches the terminal as a command to it. */
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { runCli, writeConfig } from "./support/cli.js";
import { fixturePath } from "./support/goldens.js";
import { temporaryFolders } from "./support/temporary.js";

const newFolder = temporaryFolders();
const EVIL = "\x1b]0;pwned\x07\x9b2J\r";

describe("escape sequences", () => {
  it.each<[string, (folder: string, model: string) => { dataset?: string }]>([
    [
      "in the keys of a row",
      (folder) => {
        writeFileSync(join(folder, "rows.jsonl"), JSON.stringify({ [EVIL]: 1 }));
        return { dataset: join(folder, "rows.jsonl") };
      },
    ],
    [
      "in a value of a wrong type",
      (folder) => {
        writeFileSync(join(folder, "rows.jsonl"), JSON.stringify({ text: { [EVIL]: 1 } }));
        return { dataset: join(folder, "rows.jsonl") };
      },
    ],
    [
      "in the name of a file",
      (folder) => {
        const dataset = join(folder, `${EVIL}.jsonl`);
        writeFileSync(dataset, "[1]");
        return { dataset };
      },
    ],
    [
      "in a broken line",
      (folder) => {
        writeFileSync(join(folder, "rows.jsonl"), EVIL);
        return { dataset: join(folder, "rows.jsonl") };
      },
    ],
    [
      "in the architecture of a model",
      (_, model) => {
        const file = join(model, "config.json");
        const config = JSON.parse(readFileSync(file, "utf8"));
        writeFileSync(file, JSON.stringify({ ...config, architectures: [EVIL] }));
        return {};
      },
    ],
    [
      "in what a chat template raises",
      (folder, model) => {
        writeFileSync(join(model, "chat_template.jinja"), `{{ raise_exception('${EVIL}') }}`);
        writeFileSync(join(folder, "rows.jsonl"), JSON.stringify({ messages: [{ role: "user", content: "x" }] }));
        return { dataset: join(folder, "rows.jsonl") };
      },
    ],
  ])("%s", async (_, spoil) => {
    const folder = newFolder();
    const model = join(folder, "model");
    cpSync(fixturePath("tiny-llama"), model, { recursive: true });
    const { dataset } = spoil(folder, model);
    const config = writeConfig(folder, {}, dataset);
    const { code, output } = await runCli(["train", config, "--model", model, "--output_dir", join(folder, "out")])
      .ended;
    expect(code).toBe(1);
    expect(output).toContain("\\u{1b}");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    expect(output).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/);
  });
});
