/** The check of the layers finds what it is there for; `npm run lint` runs it over src. */
import { expect, it } from "vitest";
import { wrongImports } from "./check-layers.mjs";

it.each([
  ["models/load.ts", 'import { ops } from "../torch/index.js";', undefined],
  ["models/load.test.ts", 'import { folder } from "../../tests/support/temporary.js";', undefined],
  ["train/saving/saver.ts", 'import type { Ledger } from "../ledger.js";', undefined],
  ["index.ts", 'export { Trainer } from "./train/trainer.js";', undefined],
  ["torch/device.ts", 'import type { Loop } from "../train/loop.js";', "torch must not import train/loop.ts"],
  ["train/saving/saver.ts", 'import { x } from "../../cli/main.js";', "train must not import cli/main.ts"],
  ["optim/lion.ts", 'export { x } from "../models/batch.js";', "optim must not import models/batch.ts"],
  ["files/weights.ts", 'await import("../index.js");', "files must not import index.ts"],
  ["cli/train.ts", 'import { x } from "../new/x.js";', "cli must not import new/x.ts"],
  ["new/x.ts", "", "new is in no layer"],
])("%s: %s", (file, text, problem) => {
  const problems = wrongImports([[file, text]]);
  if (problem === undefined) expect(problems).toEqual([]);
  else expect(problems.join()).toContain(problem);
});
