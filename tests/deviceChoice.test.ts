/** Which device a run takes, on a machine without a GPU: it says why, and a GPU that is demanded is an error. */
import { describe, expect, it } from "vitest";
import { chooseDevice, type Device } from "../src/torch/index.js";
import { runCli, writeConfig } from "./support/cli.js";
import { fixturePath } from "./support/goldens.js";
import { temporaryFolders } from "./support/temporary.js";
import { tinyTrainer } from "./support/tinyRun.js";

const folder = temporaryFolders();

describe.skipIf((chooseDevice(false) as Device) !== "cpu")("without a GPU", () => {
  it.each([
    [{ use_cpu: true }, "Device      cpu, as asked for"],
    [
      { use_cpu: false },
      /^Device {6}cpu: (LibTorch here is built for the CPU|there is no NVIDIA driver|LibTorch finds none)/,
    ],
  ])("a run with %j says so", async (args, line) => {
    const lines: string[] = [];
    await tinyTrainer(folder(), { ...args, max_steps: 1 }, { log: (text) => lines.push(text) }).train();
    expect(lines.find((text) => text.startsWith("Device"))).toMatch(line);
  });

  it("--device cuda fails, in every command that computes", async () => {
    const config = writeConfig(folder(), { output_dir: folder(), max_steps: 1, use_cpu: false });
    const model = ["--model", fixturePath("tiny-llama")];
    const data = ["--dataset", fixturePath("data/prompt-completion.jsonl")];
    for (const words of [
      ["train", config],
      ["eval", ...model, ...data],
      ["generate", ...model, "--prompt", "one"],
    ]) {
      const { code, output } = await runCli([...words, "--device", "cuda"]).ended;
      expect(code, output).toBe(1);
      expect(output).toMatch(/device: cuda, but there is no GPU: (LibTorch|there is no NVIDIA driver).*Remove it/);
    }
    const both = await runCli(["train", config, "--device", "cuda", "--use_cpu", "true"]).ended;
    expect(both.output).toContain("device: cuda contradicts use_cpu: true");
    const wrong = await runCli(["train", config, "--device", "tpu"]).ended;
    expect(wrong.output).toContain("--device: expected cpu or cuda");
  });
});
