/** `slimtune generate` as a person starts it. */
import { describe, expect, it } from "vitest";
import { runCli } from "./support/cli.js";
import { fixturePath } from "./support/goldens.js";

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
