/** `slimtune generate` as a person starts it. */
import { spawnSync } from "node:child_process";
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { environment, MAIN, runCli } from "./support/cli.js";
import { fixturePath } from "./support/goldens.js";
import { temporaryFolders } from "./support/temporary.js";

const newFolder = temporaryFolders();

const generate = (...words: string[]) =>
  runCli([
    "generate",
    "--model",
    fixturePath("tiny-llama"),
    "--prompt",
    "Hi",
    "--max_new_tokens",
    "1",
    "--use_cpu",
    ...words,
  ]).ended;

describe("options of sampling", () => {
  it("without sampling are told to change nothing", async () => {
    const { code, output } = await generate("--temperature", "0.5", "--top_k", "3");
    expect(output).toContain(
      "Note: no effect without --do_sample, which draws tokens at random: --temperature, --top_k\n",
    );
    expect(code).toBe(0);
  });

  it("with it are not", async () => {
    expect((await generate("--temperature", "0.5", "--do_sample")).output).not.toContain("Note:");
    expect((await generate()).output).not.toContain("Note:");
  });
});

describe("the model", () => {
  const words = ["--prompt", "Hi", "--max_new_tokens", "3", "--use_cpu"];
  const answer = async (...more: string[]) => (await runCli(["generate", ...more, ...words]).ended).output;

  it("is named by a word, with dashes in the options, and its quantization by paths", async () => {
    const named = await answer(fixturePath("tiny-llama"));
    expect(named).toBe(await answer("--model", fixturePath("tiny-llama")));
    const dashes = ["generate", fixturePath("tiny-llama"), "--prompt", "Hi", "--max-new-tokens=3", "--use-cpu"];
    expect((await runCli(dashes).ended).output).toBe(named);
    const quantized = await answer(fixturePath("tiny-llama"), "--quantization.load_in_4bit", "true");
    expect(quantized).toBe(await answer(fixturePath("tiny-llama"), "--quantization", "{load_in_4bit: true}"));
  });

  it.each([
    [["--load_in_4bit", "true"], "unknown option --load_in_4bit: write --quantization.load_in_4bit"],
    [["--promt", "x"], 'unknown option --promt (did you mean "prompt"?)'],
    [["another"], 'unexpected "another": one model answers. A value with spaces needs quotes.'],
    [["--adapter", "x"], "both name what to load; give one of them"],
  ])("%j is refused", async (more, message) => {
    expect(await answer(fixturePath("tiny-llama"), ...more)).toContain(message);
  });
});

describe("slimtune chat", () => {
  const chat = (model: string, input: string) =>
    spawnSync(process.execPath, [MAIN, "chat", model, "--max_new_tokens", "3", "--use_cpu"], {
      input,
      env: environment(),
      encoding: "utf8",
    });

  it("answers a line after the other, the conversation in mind", () => {
    const model = join(newFolder(), "model");
    cpSync(fixturePath("tiny-llama"), model, { recursive: true });
    const template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    writeFileSync(join(model, "chat_template.jinja"), template);
    const { stdout, stderr, status } = chat(
      model,
      "Ada took two maps\n/new\nAda took two maps\nAda took two maps\n\nmore",
    );
    expect(stderr).toBe("");
    expect(status).toBe(0);
    const [first, afresh, second, rest] = stdout.split("\n");
    expect(afresh).toBe(first);
    expect(second).not.toBe(first);
    expect(rest).toBe("");
  });

  it("says that without a chat template each line stands for itself", () => {
    const model = join(newFolder(), "model");
    const plain = (path: string) => !path.endsWith("chat_template.jinja");
    cpSync(fixturePath("tiny-llama"), model, { recursive: true, filter: plain });
    const { stdout, stderr } = chat(model, "Hi\nHi\n");
    expect(stderr).toContain("Note: this model has no chat template, so that each line is a prompt of its own.");
    const [first, second] = stdout.split("\n");
    expect(second).toBe(first);
  });
});
