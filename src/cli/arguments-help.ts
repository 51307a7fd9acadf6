import { type AnyField, acceptedChoices, GROUPS } from "../arguments/index.js";
import { wrap } from "../support/terminal.js";

const NAME_WIDTH = 32;
/** Of the column of help texts, on however small a terminal. */
const NARROWEST = 30;

/** The arguments of `slimtune train` by group, for its --help. */
export function argumentsHelp(width: number = process.stdout.columns ?? 100): string {
  const head = "Every key of the config is an option: --model, --dataset, --lora.r, and each training argument:";
  const lines = ["", ...wrap(head, width)];
  for (const { title, fields } of GROUPS) {
    lines.push("", `${title}:`);
    const named = Object.entries(fields);
    for (const [name, field] of named.filter(([, { fate }]) => fate === "honoured")) {
      lines.push(...entry(name, field, width));
    }
    const others = [
      ["no effect here", "no-effect"],
      ["refused", "refused"],
    ] as const;
    for (const [label, wanted] of others) {
      const names = named.filter(([, { fate }]) => fate === wanted).map(([name]) => name);
      if (names.length > 0)
        lines.push(...wrap(`(${label}: ${names.join(", ")})`, width - 2).map((line) => `  ${line}`));
    }
  }
  const foot = "Why an argument has no effect or is refused stands in docs/arguments.md, and in the message you get.";
  lines.push("", ...wrap(foot, width));
  return lines.join("\n");
}

function entry(name: string, field: AnyField, width: number): string[] {
  const values = acceptedChoices(field)?.join(", ") ?? field.expected;
  const text = wrap(
    `${field.help} (${values}; default: ${JSON.stringify(field.default)})`,
    Math.max(NARROWEST, width - NAME_WIDTH),
  );
  const option = `  --${name}`;
  const indented = text.map((line) => " ".repeat(NAME_WIDTH) + line);
  if (option.length >= NAME_WIDTH) return [option, ...indented];
  return [option.padEnd(NAME_WIDTH) + text[0], ...indented.slice(1)];
}
