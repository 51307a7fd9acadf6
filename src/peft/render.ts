/** docs/lora-options.md, from the schema. */
import { fateOf, loraSchema, refusedInits } from "./config.js";

const defaults: Record<string, unknown> = { target_modules: null, ...loraSchema.parse({}) };

/** The text of docs/lora-options.md. */
export function renderLoraDocs(): string {
  const rows = Object.entries(loraSchema.shape).map(([name, option]) => {
    const fate = fateOf(name);
    const cells =
      fate.fate === "honoured"
        ? [`\`${name}\``, `\`${JSON.stringify(defaults[name] ?? null)}\``, option.description ?? "", ""]
        : [`\`${name}\``, `\`${JSON.stringify(fate.accepted)}\``, "", `refused: ${fate.why}`];
    return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  });
  return [
    "<!-- Generated from src/peft/config.ts by scripts/generate-docs.mjs; do not edit. -->",
    "",
    "# Options of LoRA",
    "",
    "The key `lora` of a config file takes the options of PEFT 0.21's `LoraConfig`, by their names, and LoRA+'s. Each has one",
    "of two fates: **honoured**, it does what it does in Python (the last column is empty); **refused**, a value other than the",
    "default stops the run before it starts, with the reason. [lora.md](lora.md) tells what the kinds of adapters are for.",
    "",
    "| option | default | meaning | fate |",
    "| --- | --- | --- | --- |",
    ...rows,
    "",
    "Values of `init_lora_weights` that are refused:",
    "",
    ...Object.entries(refusedInits).map(([name, reason]) => `- \`${name}\`: ${reason}`),
    "",
  ].join("\n");
}
