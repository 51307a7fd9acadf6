import { UserError } from "../support/errors.js";
import { didYouMean } from "../support/nearest.js";

interface Range {
  min?: number;
  above?: number;
  below?: number;
}

/** Reads named values of a user, such as `lr_scheduler_kwargs`; what nobody has read by the end is an error, never ignored. */
export class Keywords {
  private readonly argument: string;
  private readonly owner: string;
  protected readonly given: Record<string, unknown>;
  private readonly known = new Set<string>();

  /**
   * @param argument that the values came in
   * @param owner what they are for, as a person would say it
   */
  constructor(argument: string, owner: string, given: Record<string, unknown>) {
    this.argument = argument;
    this.owner = owner;
    this.given = given;
  }

  fail(problem: string): never {
    throw new UserError(`${this.argument}: ${problem} (${this.owner})`);
  }

  optionalNumber(name: string, { min, above, below }: Range = {}): number | undefined {
    const value = this.read(name);
    if (value === undefined || value === null) return undefined;
    if (typeof value !== "number" || !Number.isFinite(value)) {
      return this.fail(`${name} must be a number, got ${JSON.stringify(value)}`);
    }
    if (min !== undefined && value < min) return this.fail(`${name} must be at least ${min}, got ${value}`);
    if (above !== undefined && value <= above) return this.fail(`${name} must be above ${above}, got ${value}`);
    if (below !== undefined && value >= below) return this.fail(`${name} must be below ${below}, got ${value}`);
    return value;
  }

  number(name: string, fallback: number, range: Range = {}): number {
    return this.optionalNumber(name, range) ?? fallback;
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.read(name) ?? fallback;
    return typeof value === "boolean"
      ? value
      : this.fail(`${name} must be true or false, got ${JSON.stringify(value)}`);
  }

  choice<T extends string>(name: string, choices: readonly T[], fallback: T): T {
    const value = this.read(name) ?? fallback;
    if (choices.includes(value as T)) return value as T;
    return this.fail(`${name} must be one of ${choices.join(", ")}, got ${JSON.stringify(value)}`);
  }

  refuseUnread(): void {
    for (const name of Object.keys(this.given)) {
      if (this.known.has(name)) continue;
      const takes = this.known.size === 0 ? "it takes none" : `it takes ${[...this.known].join(", ")}`;
      this.fail(`unknown parameter "${name}"${didYouMean(name, this.known)}; ${takes}`);
    }
  }

  protected read(name: string): unknown {
    this.known.add(name);
    return Object.hasOwn(this.given, name) ? this.given[name] : undefined;
  }
}
