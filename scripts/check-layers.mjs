// Part of `npm run lint`: imports in src run downwards only, and never between folders of one layer (ARCHITECTURE.md).
// Circles of files are Biome's to find (noImportCycles).
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, sep } from "node:path";
import { fileURLToPath } from "node:url";

/** From the top; what stands on one line does not know each other. */
const LAYERS = [
  ["index.ts", "cli"],
  ["config"],
  ["train"],
  ["evaluate"],
  ["generate"],
  ["data", "callbacks"],
  ["peft", "memory", "arguments"],
  ["models", "optim"],
  ["torch", "hub", "setup"],
  ["files", "runFolder", "nativeModule"],
  ["support"],
];
const LAYER_OF = new Map(LAYERS.flatMap((names, layer) => names.map((name) => [name, layer])));
const IMPORT = /\b(?:from|import)\s*\(?\s*"(\.[^"]+)"/g;

/** @param files [path within src, text] @returns one line for each import that runs the wrong way */
export function wrongImports(files) {
  const problems = [];
  for (const [file, text] of files) {
    const from = file.split("/")[0];
    if (!LAYER_OF.has(from))
      problems.push(`src/${file}: ${from} is in no layer; scripts/check-layers.mjs has the list`);
    for (const [, specifier] of text.matchAll(IMPORT)) {
      const target = normalize(join(dirname(file), specifier.replace(/\.js$/, ".ts"))).replaceAll(sep, "/");
      const to = target.split("/")[0];
      if (to === ".." || to === from) continue; // what tests share, its own folder
      if (!(LAYER_OF.get(to) > LAYER_OF.get(from))) problems.push(`src/${file}: ${from} must not import ${target}`);
    }
  }
  return problems;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const source = fileURLToPath(new URL("../src", import.meta.url));
  const names = readdirSync(source, { recursive: true }).filter((name) => name.endsWith(".ts"));
  const problems = wrongImports(
    names.map((name) => [name.replaceAll(sep, "/"), readFileSync(join(source, name), "utf8")]),
  );
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) {
    console.error(`${problems.length} imports run upwards or between folders of one layer.`);
    process.exitCode = 1;
  }
}
