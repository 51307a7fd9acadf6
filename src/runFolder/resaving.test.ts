/** A checkpoint that is saved again: whatever happens on the way, one of the two is there. */
import { readdirSync, readFileSync } from "node:fs";
import type * as fs from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, expect, it, vi } from "vitest";
import { temporaryFolders } from "../../tests/support/temporary.js";
import { listCheckpoints, tidy, writeCheckpoint } from "./checkpoints.js";
import { damage } from "./manifest.js";

/** Called before each rename and removal; throws to let it fail, or to end all of it as a kill would. */
let before: (what: "rename" | "rm", path: string) => void = () => {};
vi.mock("node:fs/promises", async (original) => {
  const actual = await original<typeof fs>();
  return {
    ...actual,
    rename: async (from: string, to: string) => {
      before("rename", to);
      return actual.rename(from, to);
    },
    rm: async (path: string, options: { recursive?: boolean; force?: boolean }) => {
      before("rm", path);
      return actual.rm(path, options);
    },
  };
});
beforeEach(() => {
  before = () => {};
});

const newFolder = temporaryFolders();
const { writeFile } = await vi.importActual<typeof fs>("node:fs/promises");
const save = (output: string, text: string) =>
  writeCheckpoint(output, 3, (aside) => writeFile(join(aside, "weights"), text));
const held = (output: string) => readFileSync(join(output, "checkpoint-3", "weights"), "utf8");

it("the old one is back when the new one cannot take its place", async () => {
  const output = newFolder();
  await save(output, "earlier");
  let renames = 0;
  before = (what) => {
    if (what === "rename" && ++renames === 2) throw Object.assign(new Error("EIO: i/o error"), { code: "EIO" });
  };
  await expect(save(output, "later")).rejects.toThrow("Earlier checkpoints are untouched");
  expect(held(output)).toBe("earlier");
  expect(readdirSync(output)).toEqual(["checkpoint-3"]);
});

it("killed before any rename or removal, the next start finds a whole one", async () => {
  for (let killedAt = 1; killedAt <= 4; killedAt++) {
    const output = newFolder();
    await save(output, "earlier");
    let calls = 0;
    before = () => {
      if (++calls >= killedAt) throw new Error("killed"); // and so is everything after it
    };
    await save(output, "later").catch(() => {});
    before = () => {};
    await tidy(output);
    expect(
      (await listCheckpoints(output)).map(({ step }) => step),
      `killed at ${killedAt}`,
    ).toEqual([3]);
    expect(await damage(join(output, "checkpoint-3"))).toBeUndefined();
    expect(["earlier", "later"]).toContain(held(output));
    expect(readdirSync(output)).toEqual(["checkpoint-3"]);
  }
});
