/** One `slimtune train` of the benchmarks that have no peer: rows of so many tokens each, timed per update. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readTexts } from "../examples/gsm8k/tokenizer.mjs";
import { root } from "./harness.mjs";
import { measure } from "./measure.mjs";
import { median } from "./summary.mjs";

const main = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
/** No token of these texts is longer. */
const MOST_CHARACTERS = 16;

/** A folder for the runs' data and results while `body` runs. */
export async function inTemporaryFolder(body) {
  const folder = mkdtempSync(join(tmpdir(), "slimtune-bench-"));
  try {
    return await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A dataset of so many rows, each of which `max_length` cuts to exactly `length` tokens; gives its path. */
export function writeRows(folder, data, { rows, length }) {
  const texts = readTexts(data);
  let next = 0;
  const rowOf = () => {
    let text = "";
    while (text.length < length * MOST_CHARACTERS) text += `${texts[next++ % texts.length]}\n`;
    return JSON.stringify({ prompt: text.slice(0, length), completion: text.slice(length) });
  };
  const path = join(folder, `rows-${rows}-${length}.jsonl`);
  writeFileSync(path, `${Array.from({ length: rows }, rowOf).join("\n")}\n`);
  return path;
}

/**
 * @param config a config file's content but `output_dir`
 * @returns medians over the updates but the first, which pays for the start; `attention`: its share of their time
 */
export async function runSlimtune(folder, config, { env, profile = false }) {
  const output = mkdtempSync(join(folder, "run-"));
  const trace = join(output, "trace.json");
  const training_args = { ...config.training_args, output_dir: join(output, "out"), use_cpu: true };
  const health = { missing_end_token: "warn" }; // every row is cut
  const file = join(output, "run.yaml"); // JSON is YAML
  writeFileSync(file, JSON.stringify({ ...config, training_args, health, ...(profile && { profile: trace }) }));
  try {
    const { stepEnds, ...measured } = await measure([process.execPath, main, "train", file], { env, cwd: root });
    const seconds = median(stepEnds.slice(1).map((end, i) => end - stepEnds[i]));
    return { ...measured, seconds, ...(profile && { attention: attentionShare(trace) }) };
  } finally {
    rmSync(output, { recursive: true });
  }
}

function attentionShare(trace) {
  const times = JSON.parse(readFileSync(trace, "utf8")).otherData.seconds_per_update.slice(1);
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  return sum(times.map((one) => one.attention)) / sum(times.flatMap((one) => Object.values(one)));
}
