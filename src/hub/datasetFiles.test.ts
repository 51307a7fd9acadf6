import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UserError } from "../support/errors.js";
import { type DatasetChoice, matchesPattern, selectDataFiles } from "./datasetFiles.js";

const card = (yaml: string) => `---\nlicense: mit\n${yaml}\n---\n# Data\n`;
const select = (paths: string[], choice: DatasetChoice = {}, readme?: string) =>
  selectDataFiles("org/data", paths, readme, choice);

describe("splits by name", () => {
  test.each<[string, string[], Record<string, string[]>]>([
    ["one file is train", ["rows.jsonl"], { train: ["rows.jsonl"] }],
    ["files without a split's name are all train", ["b.json", "a.jsonl"], { train: ["a.jsonl", "b.json"] }],
    [
      "words in file names",
      ["my_train-part2.jsonl", "x.training.json", "dev.jsonl", "val_1.jsonl", "test.jsonl", "evaluation.json"],
      {
        train: ["my_train-part2.jsonl", "x.training.json"],
        validation: ["dev.jsonl", "val_1.jsonl"],
        test: ["evaluation.json", "test.jsonl"],
      },
    ],
    ["parts of words do not count", ["trainers.jsonl", "latest.jsonl"], { train: ["latest.jsonl", "trainers.jsonl"] }],
    ["words in folder names", ["train/0.jsonl", "test/0.jsonl"], { train: ["train/0.jsonl"], test: ["test/0.jsonl"] }],
    ["a file's own name before its folder's", ["train/test.jsonl", "train/a.jsonl"], { test: ["train/test.jsonl"] }],
    [
      "shards may have any split's name",
      ["data/extra-00000-of-00002.jsonl", "data/extra-00001-of-00002.jsonl", "data/train-00000-of-00001.jsonl"],
      {
        extra: ["data/extra-00000-of-00002.jsonl", "data/extra-00001-of-00002.jsonl"],
        train: ["data/train-00000-of-00001.jsonl"],
      },
    ],
    [
      "descriptions, hidden files and other formats are left out",
      [
        ".train.jsonl",
        "__x/train.jsonl",
        "dataset_infos.json",
        "a/config.json",
        "README.md",
        "train.csv",
        "train.jsonl",
      ],
      { train: ["train.jsonl"] },
    ],
  ])("%s", (_, paths, splits) => {
    for (const [split, files] of Object.entries(splits)) expect(select(paths, { split })).toEqual(files);
    expect(() => select(paths, { split: "none" })).toThrow(/no split "none".*it has/);
  });

  test("train is the default", () => {
    expect(select(["test.jsonl", "train.jsonl"])).toEqual(["train.jsonl"]);
    expect(() => select(["test.jsonl"])).toThrow(/no split "train" \(dataset\.split\): it has test\./);
  });
});

describe("the card", () => {
  const paths = ["a/train-1.jsonl", "a/train-2.jsonl", "a/test.jsonl", "b/deep/er/x.jsonl", "root.json"];

  test.each<[string, string, DatasetChoice, string[]]>([
    ["text", "configs:\n- config_name: default\n  data_files: root.json", {}, ["root.json"]],
    [
      "a list",
      'configs:\n- config_name: default\n  data_files: ["root.json", "a/test.*"]',
      {},
      ["a/test.jsonl", "root.json"],
    ],
    [
      "splits",
      'configs:\n- config_name: default\n  data_files:\n  - {split: train, path: "a/train-*"}\n  - {split: heldout, path: [a/test.jsonl]}',
      { split: "heldout" },
      ["a/test.jsonl"],
    ],
    ["any depth", "configs:\n- config_name: default\n  data_files: b/**/*.jsonl", {}, ["b/deep/er/x.jsonl"]],
    ["a folder", "configs:\n- config_name: default\n  data_dir: ./a", {}, ["a/train-1.jsonl", "a/train-2.jsonl"]],
    [
      "patterns in a folder",
      "configs:\n- config_name: default\n  data_dir: a\n  data_files: test.jsonl",
      {},
      ["a/test.jsonl"],
    ],
    [
      "the default of several",
      "configs:\n- config_name: one\n  data_files: root.json\n- config_name: two\n  default: true\n  data_files: a/test.jsonl",
      {},
      ["a/test.jsonl"],
    ],
    [
      "the one that is named",
      "configs:\n- config_name: one\n  data_files: root.json\n- config_name: default\n  data_files: a/test.jsonl",
      { name: "one" },
      ["root.json"],
    ],
  ])("data_files as %s", (_, yaml, choice, expected) => {
    expect(select(paths, choice, card(yaml))).toEqual(expected);
  });

  test.each(["no front matter", "---\n: [\n---\n", card("configs: 7"), card("configs: [7, null]"), card("")])(
    "%j decides nothing",
    (readme) => {
      expect(select(["train.jsonl", "test.jsonl"], {}, readme)).toEqual(["train.jsonl"]);
    },
  );

  test("errors name what there is", () => {
    const two = card("configs:\n- config_name: x\n  data_files: a/*\n- config_name: y\n  data_files: root.json");
    expect(() => select(paths, {}, two)).toThrow(/several configurations; set dataset\.name to one of x, y/);
    expect(() => select(paths, { name: "z" }, two)).toThrow(/no configuration "z" \(dataset\.name\): it has x, y/);
    expect(() => select(paths, { name: "z" })).toThrow(/no configuration "z" \(dataset\.name\): it has none/);
    expect(() => select(paths, { name: "x", split: "test" }, two)).toThrow(/no split "test".*it has train/);
  });
});

describe("formats that are not read", () => {
  test.each<[string[], DatasetChoice, string | undefined, RegExp]>([
    [["main/train-00000-of-00001.parquet"], {}, undefined, /has \.parquet files.*to_json\("data\.jsonl"\)/],
    [["README.md"], {}, undefined, /has no data files/],
    [[], {}, undefined, /has no data files/],
    [
      ["x.parquet", "other.jsonl"],
      {},
      card("configs:\n- config_name: default\n  data_files: x.parquet"),
      /has \.parquet files/,
    ],
  ])("%j", (paths, choice, readme, says) => {
    expect(() => select(paths, choice, readme)).toThrow(says);
    expect(() => select(paths, choice, readme)).toThrow(UserError);
  });
});

describe("matchesPattern", () => {
  test.each([
    ["a.json", "a.json", true],
    ["./a.json", "a.json", true],
    ["*.json", "a.json", true],
    ["*.json", "d/a.json", false],
    ["**/*.json", "a.json", true],
    ["**/*.json", "d/e/a.json", true],
    ["d/**", "d/e/a.json", true],
    ["d/**", "e/a.json", false],
    ["d/**/e/**/x", "d/1/e/2/e/3/x", true],
    ["d/**/e/**/x", "d/1/2/x", false],
    ["tr?in-*", "train-", true],
    ["tr?in", "trin", false],
    ["a*b*c", "a1b2bc", true],
    ["a*b*c", "a1b2b", false],
    ["", "", true],
    ["a.json", "aXjson", false],
    ["[a].json", "a.json", false],
    ["*", "*", true],
  ])("%j on %j: %j", (pattern, path, expected) => {
    expect(matchesPattern(pattern, path)).toBe(expected);
  });

  test("agrees with a regular expression on one part", () => {
    const letters = fc.string({ unit: fc.constantFrom("a", "b", "*", "?"), maxLength: 8 });
    const name = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 10 });
    fc.assert(
      fc.property(letters, name, (pattern, path) => {
        fc.pre(pattern !== "**"); // stands for whole parts
        const expression = new RegExp(`^${pattern.replaceAll("*", ".*").replaceAll("?", ".")}$`);
        expect(matchesPattern(pattern, path)).toBe(expression.test(path));
      }),
      { numRuns: 500 },
    );
  });

  test("a pattern made to be slow is not", () => {
    const start = performance.now();
    expect(matchesPattern(`${"*a".repeat(100)}b`, "a".repeat(5000))).toBe(false);
    expect(matchesPattern(`${"**/a/".repeat(100)}b`, "a/".repeat(2000))).toBe(false);
    expect(performance.now() - start).toBeLessThan(2000);
  });
});

test("a card of very many keys is read in bounded time", () => {
  const keys = Array.from({ length: 50_000 }, (_, i) => `k${i}: 1`).join("\n");
  const start = performance.now();
  expect(select(["a.jsonl", "train.jsonl"], {}, `---\n${keys}\n---\n`)).toEqual(["train.jsonl"]);
  expect(performance.now() - start).toBeLessThan(5000);
});
