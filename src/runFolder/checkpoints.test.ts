import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { temporaryFolders } from "../../tests/support/temporary.js";
import { UserError } from "../support/errors.js";
import { listCheckpoints, tidy, writeCheckpoint } from "./checkpoints.js";
import { damage } from "./manifest.js";

const newFolder = temporaryFolders();
const write = (output: string, step: number, text = "weights") =>
  writeCheckpoint(output, step, (folder) => writeFile(join(folder, "weights"), text));
const steps = async (output: string) => (await listCheckpoints(output)).map(({ step }) => step);

describe("writeCheckpoint", () => {
  it("writes a folder that says itself that it is whole", async () => {
    const output = newFolder();
    const path = await write(output, 3);
    expect(path).toBe(join(output, "checkpoint-3"));
    expect(await damage(path)).toBeUndefined();
    writeFileSync(join(path, "weights"), "Weights");
    expect(await damage(path)).toBe("weights has other contents than were saved");
    writeFileSync(join(path, "weights"), "weight");
    expect(await damage(path)).toBe("weights has 6 bytes instead of 7");
  });

  it("lists files in folders too", async () => {
    const output = newFolder();
    const path = await writeCheckpoint(output, 3, async (folder) => {
      mkdirSync(join(folder, "templates"));
      await writeFile(join(folder, "templates", "a"), "text");
    });
    expect(await damage(path)).toBeUndefined();
    writeFileSync(join(path, "templates", "a"), "Text");
    expect(await damage(path)).toBe("templates/a has other contents than were saved");
  });

  it("replaces one of the same step", async () => {
    const output = newFolder();
    await write(output, 3, "first");
    const path = await write(output, 3, "second");
    expect(readFileSync(join(path, "weights"), "utf8")).toBe("second");
    expect(readdirSync(output)).toEqual(["checkpoint-3"]);
  });

  it.each([
    ["the disk is full", Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" })],
    ["the folder is read-only", Object.assign(new Error("EROFS: read-only file system"), { code: "EROFS" })],
  ])("changes nothing when %s", async (_, failure) => {
    const output = newFolder();
    const path = await write(output, 3, "earlier");
    const error = await writeCheckpoint(output, 3, async (folder) => {
      await writeFile(join(folder, "weights"), "half");
      throw failure;
    }).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(UserError);
    expect(error.message).toContain(`output_dir: checkpoint-3 cannot be saved in ${output}: ${failure.message}`);
    expect(error.cause).toBe(failure);
    expect(readdirSync(output)).toEqual(["checkpoint-3"]);
    expect(readFileSync(join(path, "weights"), "utf8")).toBe("earlier");
    expect(await damage(path)).toBeUndefined();
  });

  it("passes on what is no failure of the disk, and leaves nothing either", async () => {
    const output = newFolder();
    const bug = new TypeError("a bug");
    await expect(writeCheckpoint(output, 1, () => Promise.reject(bug))).rejects.toBe(bug);
    expect(readdirSync(output)).toEqual([]);
  });
});

describe("listCheckpoints", () => {
  it("goes by number, and takes checkpoint-N alone", async () => {
    const output = newFolder();
    for (const name of ["checkpoint-10", "checkpoint-9", "checkpoint-x", "checkpoint-", ".checkpoint-11-ab", "runs"]) {
      mkdirSync(join(output, name));
    }
    expect(await steps(output)).toEqual([9, 10]);
    expect(await steps(join(output, "none"))).toEqual([]);
  });
});

describe("tidy", () => {
  it("removes what a killed process left, and nothing else", async () => {
    const output = newFolder();
    await write(output, 1);
    mkdirSync(join(output, ".checkpoint-2-0a1b2c3d-new"));
    writeFileSync(join(output, ".checkpoint-2-0a1b2c3d-new", "weights"), "half");
    writeFileSync(join(output, "notes.log"), "mine");
    mkdirSync(join(output, ".checkpoint-mine"));
    await tidy(output);
    expect(readdirSync(output).sort()).toEqual([".checkpoint-mine", "checkpoint-1", "notes.log"]);
    expect(existsSync(join(output, "checkpoint-1", "weights"))).toBe(true);
  });

  it("gives a whole checkpoint its place, where that is empty; a new one before the one that it replaces", async () => {
    const output = newFolder();
    const lay = async (name: string, text: string) => renameSync(await write(output, 4, text), join(output, name));
    await lay(".checkpoint-4-00000000-old", "old");
    await lay(".checkpoint-4-ffffffff-new", "new");
    await tidy(output);
    expect(readdirSync(output)).toEqual(["checkpoint-4"]);
    expect(readFileSync(join(output, "checkpoint-4", "weights"), "utf8")).toBe("new");

    await lay(".checkpoint-4-00000000-old", "old");
    await tidy(output);
    expect(readFileSync(join(output, "checkpoint-4", "weights"), "utf8")).toBe("old");

    await lay(".checkpoint-4-00000000-gone", "rotated out");
    await tidy(output);
    expect(readdirSync(output)).toEqual([]);
  });
});
