import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { checkArguments } from "./check.js";
import { OLD_NAMES } from "./old-names.js";
import { renderDocs, renderTypes } from "./render.js";
import { FIELDS, fieldNames, fieldOf, GROUPS } from "./table.js";

const read = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8");
const python = JSON.parse(read("./fixtures/fields.json"));
const transformers: Record<string, unknown> = python["transformers 5.18.0 TrainingArguments"];
const trl: Record<string, unknown> = python["trl 1.13.0 SFTConfig, its own fields"];
const removed: string[] = python.removed;

// In Python, null becomes this name when the arguments are made.
const RESOLVED: Record<string, unknown> = { output_dir: "trainer_output" };

describe("the table of arguments", () => {
  it("has the committed lists as they are released", () => {
    expect(Object.keys(transformers)).toHaveLength(112);
    expect(Object.keys(trl)).toHaveLength(21);
    expect(removed).toHaveLength(30);
  });

  it.each(Object.entries({ ...transformers, ...trl }))(
    "%s has a fate, a help text and Python's default %j",
    (name, value) => {
      const field = fieldOf(name);
      expect(field, `${name} is not in the table`).toBeDefined();
      expect(["honoured", "no-effect", "refused"]).toContain(field!.fate);
      expect(field!.help.length).toBeGreaterThan(10);
      if (field!.fate !== "honoured") expect(field!.why!.length).toBeGreaterThan(10);
      expect(field!.default).toEqual(RESOLVED[name] ?? value);
      expect(field!.schema.safeParse(field!.default).success).toBe(true);
    },
  );

  it("has no name that Python does not have", () => {
    expect(fieldNames.filter((name) => !(name in transformers) && !(name in trl))).toEqual([]);
  });

  it("shows each field in exactly one group", () => {
    const shown = GROUPS.flatMap(({ fields }) => Object.keys(fields));
    expect(shown.toSorted()).toEqual([...fieldNames].toSorted());
  });

  it.each(removed)("the removed name %s has a conversion", (name) => {
    expect(OLD_NAMES[name], `${name} is not in old-names.ts`).toBeDefined();
    expect(fieldOf(name)).toBeUndefined();
  });

  it("accepts its own defaults", () => {
    const defaults = Object.fromEntries(fieldNames.map((name) => [name, FIELDS[name].default]));
    const { problems, notes } = checkArguments(defaults);
    expect(problems).toEqual([]);
    expect(notes).toEqual([]);
  });
});

describe("generated files are current (npm run build && node scripts/generate-docs.mjs)", () => {
  it("docs/arguments.md", () => expect(read("../../docs/arguments.md")).toBe(renderDocs()));
  it("types.generated.ts", () => expect(read("./types.generated.ts")).toBe(renderTypes()));
});
