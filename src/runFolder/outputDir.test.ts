import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { temporaryFolders } from "../../tests/support/temporary.js";
import { numberedDir, openOutputDir } from "./outputDir.js";

const newFolder = temporaryFolders();
const here = process.cwd();
afterEach(() => process.chdir(here));

function ranIn(path: string, result: string) {
  mkdirSync(path, { recursive: true });
  for (const name of ["adapter_config.json", "trainer_state.json", "run.json"]) writeFileSync(join(path, name), result);
}

describe("an earlier run", () => {
  it("is moved aside whole, each to a number of its own, and nothing is lost", async () => {
    const path = join(newFolder(), "out");
    for (const [earlier, aside] of [
      ["first", undefined],
      ["second", `${path}.1`],
      ["third", `${path}.2`],
    ] as const) {
      const opened = await openOutputDir(path, "move aside");
      expect(opened.aside).toBe(aside);
      expect(readdirSync(path)).toEqual([".lock"]);
      ranIn(path, earlier);
      opened.lock.release();
    }
    expect(readFileSync(join(`${path}.1`, "run.json"), "utf8")).toBe("first");
    expect(readFileSync(join(`${path}.2`, "adapter_config.json"), "utf8")).toBe("second");
  });

  it("comes back when the new run never begins", async () => {
    const path = join(newFolder(), "out");
    ranIn(path, "first");
    const { giveBack } = await openOutputDir(path, "move aside");
    await giveBack();
    expect(readdirSync(path).sort()).toEqual(["adapter_config.json", "run.json", "trainer_state.json"]);
    expect(existsSync(`${path}.1`)).toBe(false);
  });

  it("is refused otherwise, with the ways on", async () => {
    const path = join(newFolder(), "out");
    ranIn(path, "first");
    await expect(openOutputDir(path, "refuse")).rejects.toThrow(
      /is not empty \(.*\)\. Move it aside with --overwrite_output_dir true, or choose another output_dir \(auto: a new/,
    );
    mkdirSync(join(path, "checkpoint-3"));
    await expect(openOutputDir(path, "refuse")).rejects.toThrow(
      /Continue the run in it with --resume_from_checkpoint true, move it aside with --overwrite_output_dir true, or/,
    );
    const other = join(newFolder(), "photos");
    mkdirSync(other);
    writeFileSync(join(other, "cat.jpg"), "");
    await expect(openOutputDir(other, "refuse")).rejects.toThrow(
      /is not empty \(cat.jpg\)\. Choose another output_dir\.$/,
    );
  });
});

describe("output_dir: auto", () => {
  it("is a number above all that are there, or the highest", () => {
    process.chdir(newFolder());
    expect(() => numberedDir("newest")).toThrow(/there is none yet/);
    expect(numberedDir("new")).toBe(join("runs", "1"));
    for (const name of ["2", "10", "quickstart", "10.1"]) mkdirSync(join("runs", name), { recursive: true });
    expect(numberedDir("new")).toBe(join("runs", "11"));
    expect(numberedDir("newest")).toBe(join("runs", "10"));
  });
});
