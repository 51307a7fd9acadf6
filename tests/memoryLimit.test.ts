/**
 * Under a limit of the address space, a run ends with an error that says what to do, wherever the memory ends: while
 * LibTorch is loaded, or in a pass. Needs `npm run build`.
 */
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { writeConfig } from "./support/cli.js";
import { temporaryFolders } from "./support/temporary.js";

const MAIN = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const LIMITED = 'ulimit -c 0; ulimit -v "$0"; exec "$@"';
const newFolder = temporaryFolders();

/** 500 examples of 130 tokens in one pass, which takes some 800 MiB. */
function largePass(): string {
  const folder = newFolder();
  const dataset = join(folder, "data.jsonl");
  const row = (i: number) => ({ prompt: `${i}: `, completion: ` ${"the more words the longer it takes ".repeat(6)}` });
  const rows = Array.from({ length: 500 }, (_, i) => JSON.stringify(row(i)));
  writeFileSync(dataset, rows.join("\n"));
  const args = { output_dir: join(folder, "out"), per_device_train_batch_size: rows.length, max_steps: 1 };
  return writeConfig(folder, args, dataset);
}

function train(config: string, mebibytes: number): Promise<{ code: unknown; output: string }> {
  const command = [
    process.execPath,
    "--max-old-space-size=64",
    MAIN,
    "train",
    config,
    "--output_dir",
    join(newFolder(), "out"),
  ];
  return new Promise((resolve) => {
    execFile("bash", ["-c", LIMITED, String(mebibytes * 1024), ...command], (error, stdout, stderr) =>
      resolve({ code: error ? (error.code ?? error.signal) : 0, output: stdout + stderr }),
    );
  });
}

const V8 = /Fatal process OOM|FATAL ERROR: /;
const LOADING =
  /(LibTorch|A tokenising thread) needs \d+ MiB of address space, and the limit of \d+ MiB leaves \d+ MiB: raise it/;
const PASS =
  /Too little memory \(CPU out of memory\. Tried to allocate \d+ \w+\)\. Set per_device_train_batch_size to 250 /;

describe.skipIf(process.platform !== "linux")("a run under a limit of the address space", { timeout: 120_000 }, () => {
  it("ends with one clear error at every limit that is too low", async () => {
    const config = largePass();
    const seen = new Set<RegExp>();
    for (let mebibytes = 1600; mebibytes <= 2200; mebibytes += 80) {
      const { code, output } = await train(config, mebibytes);
      const told = [LOADING, PASS].find((message) => message.test(output));
      if (seen.size === 0 && V8.test(output)) continue; // the lowest limits are too low for JavaScript itself
      if (!told) expect({ mebibytes, code, output: output.slice(-2000) }).toMatchObject({ code: 0 });
      else {
        expect({ mebibytes, code }).toEqual({ mebibytes, code: 1 });
        seen.add(told);
      }
    }
    expect(seen).toEqual(new Set([LOADING, PASS]));
  });
});
