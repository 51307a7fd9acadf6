/** The text of `optim_args`: "name=value,name=value". */
import { UserError } from "../support/errors.js";
import { Keywords } from "./keywords.js";

const UNITS: Record<string, number> = { "": 1, KB: 1e3, MB: 1e6, GB: 1e9, KIB: 2 ** 10, MIB: 2 ** 20, GIB: 2 ** 30 };

export class OptimArgs extends Keywords {
  /** @throws UserError when the text is no list of names and values */
  constructor(optim: string, text: string | null) {
    super("optim_args", `optim ${optim}`, parse(text ?? ""));
  }

  /** true or false, in the spellings that the Trainer takes. */
  flag(name: string): boolean {
    const value = this.read(name);
    const text = String(value ?? "false").toLowerCase();
    if (["true", "1", "yes"].includes(text)) return true;
    if (["false", "0", "no"].includes(text)) return false;
    return this.fail(`${name} must be true or false, got '${value}'`);
  }

  /** A size in bytes of at least 1 MiB. */
  optionalBytes(name: string): number | undefined {
    const value = this.read(name);
    if (value === undefined) return undefined;
    const [, amount, unit] = /^([\d.]+)\s*([kmg]i?b)?$/i.exec(String(value)) ?? [];
    const bytes = Number(amount) * (UNITS[(unit ?? "").toUpperCase()] ?? Number.NaN);
    if (bytes >= 2 ** 20) return Math.floor(bytes);
    return this.fail(`${name} is '${value}'; it takes a size of at least 1MiB, such as 64MiB or 2GB`);
  }

  override refuseUnread(): void {
    // The Trainer reads it and then overrides it for every parameter: better said than ignored.
    if (Object.hasOwn(this.given, "weight_decay")) this.fail("weight_decay is an argument of its own: set it there");
    super.refuseUnread();
  }
}

function parse(text: string): Record<string, string | number> {
  const pairs = text
    .split(",")
    .filter((part) => part.trim() !== "")
    .map((part): [string, string | number] => {
      const [, name, value] = /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/.exec(part) ?? [];
      if (!name || !value) throw new UserError(`optim_args: '${part.trim()}' is no name=value, such as momentum=0.9`);
      return [name, Number.isFinite(Number(value)) ? Number(value) : value];
    });
  return Object.fromEntries(pairs);
}
