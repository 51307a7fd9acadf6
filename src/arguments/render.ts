import { type AnyField, acceptedChoices } from "./field.js";
import { OLD_NAMES } from "./old-names.js";
import { GROUPS } from "./table.js";

const BANNER = "Generated from src/arguments by scripts/generate-docs.mjs; do not edit.";

/** `honoured` is understood, unless some of its values are refused. */
function fateText(field: AnyField): string {
  if (field.fate !== "honoured") return `${FATES[field.fate]}: ${field.why}`;
  const accepted = acceptedChoices(field);
  return accepted?.length === field.choices?.length ? "" : `Only: ${accepted!.join(", ")}`;
}

const FATES = { "no-effect": "No effect", refused: "Refused" } as const;

/** Help, default and fate in one text. */
export function describeField(field: AnyField): string {
  const fate = fateText(field);
  return `${field.help}${fate && ` ${fate}.`} Default: ${JSON.stringify(field.default)}.`;
}

/** The text of types.generated.ts: every field with its help as a doc comment. */
export function renderTypes(): string {
  const fields = GROUPS.flatMap(({ title, fields }) => [
    `  // ${title}`,
    ...Object.entries(fields).flatMap(([name, field]) => [
      `  /** ${describeField(field)} */`,
      `  ${name}: ${field.ts};`,
    ]),
  ]);
  const old = Object.entries(OLD_NAMES).flatMap(([name, { help }]) => [
    `  /** @deprecated ${help} */`,
    `  ${name}?: unknown;`,
  ]);
  return [
    `// ${BANNER}`,
    "// biome-ignore-all format: generated text",
    "",
    "export interface TrainingArgumentsFields {",
    ...fields,
    "}",
    "",
    "/** Names of older versions that are still understood. */",
    "export interface OldArguments {",
    ...old,
    "}",
    "",
  ].join("\n");
}

/** The text of docs/arguments.md. */
export function renderDocs(): string {
  const lines = [
    `<!-- ${BANNER} -->`,
    "",
    "# Training arguments",
    "",
    "The names, defaults and meaning are those of `TrainingArguments` in transformers 5.18, and of the data options of",
    "`SFTConfig` in TRL 1.13. They go under `training_args` in a config file, behind `--` on the command line, and into",
    "`new TrainingArguments({...})` in TypeScript.",
    "",
    "Each argument has one of three fates:",
    "",
    "- **honoured**: it does what it does in Python (the column is empty, or names the only values that are built);",
    "- **no effect**: it is accepted, and the run says that it changes nothing here, and why;",
    "- **refused**: a value other than the default stops the run before it starts, with the reason.",
    "",
  ];
  for (const { title, about, fields } of GROUPS) {
    lines.push(
      `## ${title}`,
      "",
      about,
      "",
      "| argument | type | default | meaning | fate |",
      "| --- | --- | --- | --- | --- |",
    );
    for (const [name, field] of Object.entries(fields)) {
      const fate = fateText(field).replace(/^./, (letter) => letter.toLowerCase());
      const cells = [
        `\`${name}\``,
        field.expected.replace(/^an? /, ""),
        `\`${JSON.stringify(field.default)}\``,
        field.help,
        fate,
      ];
      lines.push(`| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`);
    }
    lines.push("");
  }
  lines.push("## Old names", "", "Names of transformers 4 and of older TRL, as tutorials still use them.", "");
  lines.push("| old name | now |", "| --- | --- |");
  for (const [name, { help }] of Object.entries(OLD_NAMES)) lines.push(`| \`${name}\` | ${help} |`);
  return `${lines.join("\n")}\n`;
}
