/** The list of models in docs/models.md, from the pages. */
import { architectures, wrappers } from "./index.js";

const BEGIN =
  "<!-- Generated from src/models/architectures by scripts/generate-docs.mjs; do not edit what is between these lines. -->";
const END = "<!-- End of what is generated. -->";

function table(): string[] {
  const pages = architectures.map(({ family, models, special, classes }) => {
    const types = Object.keys(classes).map((type) => `\`${type}\``);
    return { family, models, special, types: types.join(", ") };
  });
  const inside = Object.entries(wrappers).map(([type, { family, models, textTypes }]) => {
    const texts = textTypes.map((text) => `\`${text}\``).join(" or ");
    return { family, models, special: `a ${texts} inside; the rest is carried along, untouched`, types: `\`${type}\`` };
  });
  const families = pages.map(({ family }) => family);
  const place = ({ family }: { family: string }) => families.indexOf(family);
  const rows = [...pages, ...inside].toSorted((a, b) => place(a) - place(b));
  return [
    "| family | `model_type` | models | what is special |",
    "| --- | --- | --- | --- |",
    ...rows.map((row) => `| ${row.family} | ${row.types} | ${row.models} | ${row.special} |`),
  ];
}

/** The text of docs/models.md with the list as it is now. */
export function renderModels(text: string): string {
  const [before, after] = [text.split(BEGIN)[0]!, text.split(END)[1]!];
  return [`${before}${BEGIN}`, "", ...table(), "", `${END}${after}`].join("\n");
}
