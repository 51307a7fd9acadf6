// Writes what is generated from the table of arguments (docs/arguments.md, src/arguments/types.generated.ts) and from
// LoRA's schema (docs/lora-options.md). Run it after `npm run build`; a test fails when a file is not current.
import { writeFileSync } from "node:fs";
import { renderDocs, renderTypes } from "../dist/arguments/render.js";
import { renderLoraDocs } from "../dist/peft/render.js";

const root = new URL("../", import.meta.url);
const outputs = {
  "docs/arguments.md": renderDocs(),
  "docs/lora-options.md": renderLoraDocs(),
  "src/arguments/types.generated.ts": renderTypes(),
};
for (const [path, text] of Object.entries(outputs)) {
  writeFileSync(new URL(path, root), text);
  console.log(`wrote ${path}`);
}
