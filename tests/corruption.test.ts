/** The newest checkpoint is damaged in every way that a disk has: it is named and left, and the one before is used. */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findCheckpoint } from "../src/runFolder/checkpoints.js";
import { seal } from "../src/runFolder/manifest.js";
import { temporaryFolders } from "./support/temporary.js";
import { tinyTrainer } from "./support/tinyRun.js";

const folder = temporaryFolders();
/** A run with checkpoint-3 and checkpoint-6. */
const whole = mkdtempSync(join(tmpdir(), "slimtune-corruption-"));
const ARGS = { max_steps: 8, save_strategy: "steps", save_steps: 3 } as const;
const NEWEST = "checkpoint-6";
const BEFORE = "checkpoint-3";

beforeAll(async () => {
  await tinyTrainer(whole, ARGS).train();
  rmSync(join(whole, "checkpoint-8"), { recursive: true });
});
afterAll(() => rmSync(whole, { recursive: true }));

/** What befalls a file; `older` is the same file of the checkpoint before. Throws nothing; false: it changed nothing. */
const damages: Record<string, (path: string, older: string) => boolean> = {
  truncated: (path) => {
    truncateSync(path, Math.floor(readFileSync(path).length / 2));
    return true;
  },
  "short of its last byte": (path) => {
    truncateSync(path, readFileSync(path).length - 1);
    return true;
  },
  emptied: (path) => {
    truncateSync(path, 0);
    return true;
  },
  "with a flipped bit": (path) => {
    const bytes = readFileSync(path);
    bytes[Math.floor(bytes.length / 2)]! ^= 1;
    writeFileSync(path, bytes);
    return true;
  },
  "swapped with the older one": (path, older) => {
    const [now, then] = [readFileSync(path), readFileSync(older)];
    writeFileSync(path, then);
    return !now.equals(then);
  },
  missing: (path) => {
    rmSync(path);
    return true;
  },
  "a folder": (path) => {
    rmSync(path);
    mkdirSync(path);
    return true;
  },
};

describe("each file of the newest checkpoint", () => {
  it.each(Object.entries(damages))("%s: is found, and the checkpoint before is used", async (_, damage) => {
    const files = readdirSync(join(whole, NEWEST));
    expect(files).toContain("manifest.json");
    let found = 0;
    for (const file of files) {
      const output = folder();
      cpSync(whole, output, { recursive: true });
      if (!damage(join(output, NEWEST, file), join(output, BEFORE, file))) continue;
      const log: string[] = [];
      const checkpoint = await findCheckpoint(output, true, (line) => log.push(line));
      expect(checkpoint.path, file).toBe(join(output, BEFORE));
      expect(log).toHaveLength(1);
      expect(log[0]).toContain(`${join(output, NEWEST)} is damaged`);
      if (file !== "manifest.json") expect(log[0]).toContain(file);
      expect(readdirSync(output), "it is left").toContain(NEWEST);
      await expect(findCheckpoint(output, join(output, NEWEST), () => {})).rejects.toThrow(
        /is damaged|is no checkpoint of slimtune/,
      );
      found++;
    }
    expect(found).toBeGreaterThanOrEqual(5); // tokenizer and config files are the same in both
  });

  it("any bit of the manifest", async () => {
    const output = folder();
    cpSync(whole, output, { recursive: true });
    const path = join(output, NEWEST, "manifest.json");
    const good = readFileSync(path);
    for (let at = 0; at < good.length; at += 23) {
      const bytes = Buffer.from(good);
      bytes[at]! ^= 1 << (at % 8);
      writeFileSync(path, bytes);
      expect((await findCheckpoint(output, true, () => {})).path, `byte ${at}`).toBe(join(output, BEFORE));
    }
  });
});

describe("a run", () => {
  it("resumes from the checkpoint before, to the same weights, and writes the damaged one anew", async () => {
    const [plain, output] = [folder(), folder()];
    await tinyTrainer(plain, ARGS).train();
    cpSync(whole, output, { recursive: true });
    truncateSync(join(output, NEWEST, "optimizer.safetensors"), 100);
    const log: string[] = [];
    const args = { ...ARGS, resume_from_checkpoint: true };
    await tinyTrainer(output, args, { log: (line) => log.push(line) }).train();
    expect(log.join("\n")).toMatch(
      /checkpoint-6 is damaged: optimizer.safetensors has 100 bytes instead of \d+. It is left/,
    );
    const files = [
      "adapter_model.safetensors",
      join(NEWEST, "adapter_model.safetensors"),
      join(NEWEST, "optimizer.safetensors"),
    ];
    for (const file of files)
      expect(readFileSync(join(output, file)).equals(readFileSync(join(plain, file))), file).toBe(true);
    expect((await findCheckpoint(output, true, () => {})).step).toBe(8);
  });

  it("that has no whole checkpoint says so", async () => {
    const output = folder();
    cpSync(whole, output, { recursive: true });
    for (const name of [BEFORE, NEWEST]) rmSync(join(output, name, "rng_state.safetensors"));
    const log: string[] = [];
    const run = tinyTrainer(output, { ...ARGS, resume_from_checkpoint: true }, { log: (line) => log.push(line) });
    await expect(run.train()).rejects.toThrow(/there is no usable checkpoint in output_dir/);
    // One line for each: `log` may tell other things, too, on a slow machine.
    expect(log.filter((line) => line.includes("is damaged"))).toHaveLength(2);
  });
});

describe("a checkpoint that was edited and sealed again", () => {
  const json = (name: string, change: (value: Record<string, unknown>) => unknown) => (folder: string) => {
    const path = join(folder, name);
    writeFileSync(path, JSON.stringify(change(JSON.parse(readFileSync(path, "utf8")))));
  };
  const state = (change: Record<string, unknown>) => json("trainer_state.json", (value) => ({ ...value, ...change }));
  const edits: Record<string, (folder: string) => void> = {
    "no trainer_state.json": (folder) => rmSync(join(folder, "trainer_state.json")),
    "trainer_state.json is null": json("trainer_state.json", () => null),
    "log_history null": state({ log_history: null }),
    "global_step 1e9": state({ global_step: 1e9 }),
    "global_step 3.5": state({ global_step: 3.5 }),
    "global_step null": state({ global_step: null }),
    "no training_args.json": (folder) => rmSync(join(folder, "training_args.json")),
    "slimtune_run.json is empty": (folder) => writeFileSync(join(folder, "slimtune_run.json"), ""),
    "tally null": json("slimtune_run.json", (value) => ({ ...value, tally: null })),
    "identity of no hashes": json("slimtune_run.json", (value) => ({ ...value, identity: {} })),
    "random numbers' state of other bytes": (folder) => {
      const path = join(folder, "rng_state.safetensors");
      const bytes = readFileSync(path);
      bytes.fill(0xff, bytes.length - 5056);
      writeFileSync(path, bytes);
    },
    "an optimizer without its states": (folder) =>
      cpSync(join(folder, "adapter_model.safetensors"), join(folder, "optimizer.safetensors")),
  };
  it.each(Object.entries(edits))("%s: the one before is used, with the reason", async (_, edit) => {
    const output = folder();
    cpSync(whole, output, { recursive: true });
    const newest = join(output, NEWEST);
    edit(newest);
    rmSync(join(newest, "manifest.json"));
    await seal(newest);
    const log: string[] = [];
    const args = { ...ARGS, resume_from_checkpoint: true };
    await tinyTrainer(output, args, { log: (line) => log.push(line) }).train();
    expect(log.join("\n")).toMatch(/checkpoint-6 is damaged: .*It is left alone/);
    expect(log.join("\n")).toContain(`Resuming from ${join(output, BEFORE)}`);
  });

  it.each<[string, (files: Record<string, unknown>) => Record<string, unknown>]>([
    ["an entry of null", (files) => ({ ...files, "trainer_state.json": null })],
    ["no files", () => ({})],
    ["a name outside", (files) => ({ ...files, "../../../../dev/zero": { bytes: 1, sha256: "" } })],
    ["a device", (files) => ({ ...files, "/dev/zero": { bytes: 0, sha256: "" } })],
  ])("a manifest with %s is damaged", async (_, change) => {
    const output = folder();
    cpSync(whole, output, { recursive: true });
    const path = join(output, NEWEST, "manifest.json");
    const manifest = JSON.parse(readFileSync(path, "utf8"));
    manifest.files = change(manifest.files);
    writeFileSync(path, `${JSON.stringify(manifest, null, 2)}\n`);
    expect((await findCheckpoint(output, true, () => {})).path).toBe(join(output, BEFORE));
  });
});
