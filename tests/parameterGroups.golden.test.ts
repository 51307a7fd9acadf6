/** Which weights decay, against the Trainer's own parameter groups. */
import { expect, it } from "vitest";
import { loadCausalLM } from "../src/models/load.js";
import { decays } from "../src/optim/parameterGroups.js";
import { fixturePath, readGoldenJson } from "./support/goldens.js";

const groups = readGoldenJson<Record<string, { weight_decay: number; params: string[] }[]>>("parameter-groups.json");

it.each(Object.keys(groups))("%s", async (name) => {
  const model = await loadCausalLM(fixturePath(name));
  const decayed = [...model.parameters.values()].filter(decays).map(({ name }) => name);
  const expected = groups[name]!.find(({ weight_decay }) => weight_decay > 0)!.params;
  expect(decayed.sort()).toEqual([...expected].sort());
  expect(model.parameters.size).toBe(groups[name]!.flatMap(({ params }) => params).length);
  model.dispose();
});
