/** Every TypeScript snippet of the docs is compiled, strictly, and run with a tiny model and data in the places of the names. */
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { checkArguments } from "../src/arguments/index.js";
import { configSchema } from "../src/config/schema.js";
import { compile, makeProject } from "./support/consumer.js";
import { fixturePath } from "./support/goldens.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const DATA = readFileSync(fixturePath("data/prompt-completion.jsonl"), "utf8");
const MODEL = fixturePath("tiny-llama");
const NAMES = /"(?:HuggingFaceTB\/SmolLM2-135M(?:-Instruct)?|org\/model|path\/or\/hub-id|path\/to\/model)"/g;

interface Snippet {
  name: string;
  text: string;
  /** It is part of slimtune's source, or of another program. */
  only?: "compiled";
}

const documents = ["README.md", ...readdirSync(join(root, "docs")).map((name) => `docs/${name}`)].filter((name) =>
  name.endsWith(".md"),
);
const snippets: Snippet[] = documents.flatMap((file) =>
  [...readFileSync(join(root, file), "utf8").matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, text], index) => {
    const inSource = text!.includes('from "./');
    return {
      name: `${file.replace(/\W/g, "_")}_${index}`,
      text: inSource
        ? text!.replaceAll('from "./', `from "${join(root, "src/models/architectures")}/`)
        : `${text}\nexport {};\n`,
      ...(inSource ? { only: "compiled" as const } : {}),
    };
  }),
);

let project: string;
let said: string;
beforeAll(() => {
  const files = snippets.map(({ name, text }) => [`${name}.ts`, text.replace(NAMES, JSON.stringify(MODEL))]);
  project = makeProject({ ...Object.fromEntries(files), "package.json": '{"type":"module"}' });
  symlinkSync(join(root, "node_modules/zod"), join(project, "node_modules/zod")); // of the snippets that are source
  // Node 20 knows no `using`: it is compiled to what it does.
  said = compile(project, { module: "nodenext", outDir: "built", rootDir: "/", skipLibCheck: true, target: "ES2022" });
});
afterAll(() => rmSync(project, { recursive: true }));

it("are there, and compile", () => {
  expect(snippets.length).toBeGreaterThan(10);
  expect(said).toBe("");
});

function inFolder(name: string): string {
  const cwd = join(project, "runs", name);
  mkdirSync(join(cwd, "data"), { recursive: true });
  for (const file of ["train.jsonl", "eval.jsonl", "data/train.jsonl"]) writeFileSync(join(cwd, file), DATA);
  const questions = DATA.split("\n")
    .slice(0, 2)
    .map((line) => line.replace('"completion"', '"answer"'));
  writeFileSync(join(cwd, "questions.jsonl"), questions.join("\n"));
  // what the snippet of docs/run-folder.md follows: a run that is over
  if (name.startsWith("docs_run_folder")) mkdirSync(join(cwd, "out"));
  cpSync(join(project, "built", project, `${name}.js`), join(cwd, "snippet.js"));
  writeFileSync(join(cwd, "package.json"), '{"type":"module"}');
  symlinkSync(join(project, "node_modules"), join(cwd, "node_modules"));
  return cwd;
}

/** A config as a whole, some of its keys, or some of its arguments. */
const configs = documents.flatMap((file) =>
  [...readFileSync(join(root, file), "utf8").matchAll(/^```yaml\n([\s\S]*?)^```/gm)].map(
    ([, text], index) => [`${file}, ${index + 1}`, parse(text!) as Record<string, unknown>] as const,
  ),
);

it.each(configs)("the config in %s has keys and arguments that there are", (_, config) => {
  const given = Object.entries(config);
  const ofConfig = given.filter(([key]) => key in configSchema.shape && key !== "training_args");
  const others = given.filter(([key]) => !(key in configSchema.shape));
  const checked = configSchema.partial().safeParse(Object.fromEntries(ofConfig));
  expect(checked.error?.issues ?? []).toEqual([]);
  const args = { ...Object.fromEntries(others), ...(config.training_args as object) };
  expect(checkArguments(args).problems).toEqual([]);
});

describe("run", () => {
  it.each(snippets.filter(({ only }) => only === undefined).map(({ name }) => name))("%s", async (name) => {
    const child = spawn(process.execPath, ["snippet.js"], { cwd: inFolder(name), stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += text));
    const code = await new Promise((resolve) => child.on("close", resolve));
    expect(code, output).toBe(0);
  });
});
