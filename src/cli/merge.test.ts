/** `slimtune merge` as a person runs it. */
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { fixturePath } from "../../tests/support/goldens.js";
import { temporaryFolders } from "../../tests/support/temporary.js";

const cli = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const newFolder = temporaryFolders();
const merge = (...words: string[]) =>
  promisify(execFile)(process.execPath, [cli, "merge", ...words]).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    ({ code, stdout, stderr }) => ({ code: code as number, stdout, stderr }),
  );

const adapter = fixturePath("tiny-llama-adapter");
const model = fixturePath("tiny-llama");

describe("slimtune merge", () => {
  it("writes a model and prints where it is", async () => {
    const out = join(newFolder(), "merged");
    const { code, stdout, stderr } = await merge(adapter, "--model", model, "--out", out, "--dtype", "bfloat16");
    expect(stderr).toBe(`Merged into ${model}: 14 of its weights changed.\n`);
    expect(code).toBe(0);
    expect(stdout).toBe(`${out}\n`);
    expect(readdirSync(out)).toEqual(expect.arrayContaining(["config.json", "model.safetensors", "tokenizer.json"]));
  });

  it.each<[string[], string]>([
    [["--model", model], "--out"],
    [["--out", "x", "--dtype", "int8"], "float32, bfloat16, float16"],
    [["--out", "x", "--model", "./nowhere"], "--model: no such folder"],
    [["--out", model, "--model", model], "holds files already"],
  ])("refuses %j", async (words, message) => {
    const { code, stderr } = await merge(adapter, ...words);
    expect(code).toBe(1);
    expect(stderr).toContain(message);
  });
});
