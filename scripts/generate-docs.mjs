// Writes what is generated from the table of arguments (docs/arguments.md, src/arguments/types.generated.ts), from LoRA's
// schema (docs/lora-options.md), from the pages of architectures (the list in docs/models.md), and the JSON Schema of the
// config file. Run it after `npm run build`; a test fails when a file is not current.
import { readFileSync, writeFileSync } from "node:fs";
import { renderDocs, renderTypes } from "../dist/arguments/render.js";
import { configJsonSchema } from "../dist/config/index.js";
import { renderModels } from "../dist/models/architectures/render.js";
import { renderLoraDocs } from "../dist/peft/render.js";

const root = new URL("../", import.meta.url);
const outputs = {
  "docs/arguments.md": renderDocs(),
  "docs/lora-options.md": renderLoraDocs(),
  "src/arguments/types.generated.ts": renderTypes(),
  "config.schema.json": `${JSON.stringify(configJsonSchema(), null, 2)}\n`,
  "docs/models.md": renderModels(readFileSync(new URL("docs/models.md", root), "utf8")),
};
for (const [path, text] of Object.entries(outputs)) {
  writeFileSync(new URL(path, root), text);
  console.log(`wrote ${path}`);
}
