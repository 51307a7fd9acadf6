import { appendFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { temporaryFolders } from "../../tests/support/temporary.js";
import { ControlReader, sendControl } from "./control.js";

const newFolder = temporaryFolders();
const fileOf = (folder: string) => join(folder, "control.jsonl");

it("gives each line once, whole, from the moment of opening on", async () => {
  const folder = newFolder();
  appendFileSync(fileOf(folder), '{"id":"before","do":"stop"}\n');
  const reader = await ControlReader.open(folder);
  expect(await reader.poll()).toEqual([]);
  const id = await sendControl(folder, { do: "pause" });
  appendFileSync(fileOf(folder), '{"id":"b","do":"set","values":{"learning_rate":1e-4}}\n\n{"id":"c","do":"re');
  expect(await reader.poll()).toEqual([
    { id, do: "pause" },
    { id: "b", do: "set", values: { learning_rate: 1e-4 } },
  ]);
  expect(await reader.poll()).toEqual([]);
  appendFileSync(fileOf(folder), 'sume"}\n');
  expect(await reader.poll()).toEqual([{ id: "c", do: "resume" }]);
});

it.each<[string, RegExp, string | null]>([
  ["nonsense", /not valid JSON/, null],
  ["[]", /do must be one of pause, resume, save, evaluate, stop, set/, null],
  ['{"id":"x","do":"explode"}', /do must be one of/, "x"],
  ['{"id":"x","do":"set"}', /values: /, "x"],
  ['{"id":"x","do":"set","values":{}}', /at least one setting/, "x"],
  ['{"id":"x","do":"set","values":{"seed":1}}', /values/, "x"],
  ['{"id":"x","do":"set","values":{"max_steps":"7"}}', /values.max_steps/, "x"],
  ['{"id":"x","do":"save","values":{}}', /nrecognized key/, "x"],
  ['{"do":"save"}', /id: /, null],
  [JSON.stringify({ id: "x".repeat(70_000), do: "save" }), /longer than 65536 bytes/, null],
])("says what is wrong with %.60s", async (line, problem, id) => {
  const folder = newFolder();
  const reader = await ControlReader.open(folder);
  appendFileSync(fileOf(folder), `${line}\n{"id":"next","do":"save"}\n`);
  const [bad, next] = await reader.poll();
  expect(bad).toMatchObject({ id, problem: expect.stringMatching(problem) });
  expect(next).toEqual({ id: "next", do: "save" });
});

it("goes on when the file is emptied, vanishes or is no file", async () => {
  const folder = newFolder();
  const reader = await ControlReader.open(folder);
  writeFileSync(fileOf(folder), '{"id":"a","do":"save"}\n');
  expect(await reader.poll()).toHaveLength(1);
  truncateSync(fileOf(folder));
  expect(await reader.poll()).toEqual([]);
  appendFileSync(fileOf(folder), '{"id":"b","do":"save"}\n');
  expect(await reader.poll()).toEqual([{ id: "b", do: "save" }]);
});
