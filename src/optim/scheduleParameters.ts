import { UserError } from "../errors.js";
import { didYouMean } from "../support/nearest.js";

interface Range {
  min?: number;
  above?: number;
  below?: number;
}

/** Reads `lr_scheduler_kwargs`; what no schedule has read by the end is an error, never ignored. */
export class Parameters {
  private readonly schedule: string;
  private readonly given: Record<string, unknown>;
  private readonly known = new Set<string>();

  constructor(schedule: string, kwargs: Record<string, unknown> | string | null) {
    this.schedule = schedule;
    this.given = typeof kwargs === "string" ? this.parse(kwargs) : (kwargs ?? {});
  }

  fail(problem: string): never {
    throw new UserError(`lr_scheduler_kwargs: ${problem} (lr_scheduler_type ${this.schedule})`);
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
      const takes = this.known.size === 0 ? "this schedule takes none" : `it takes ${[...this.known].join(", ")}`;
      this.fail(`unknown parameter "${name}"${didYouMean(name, this.known)}; ${takes}`);
    }
  }

  private read(name: string): unknown {
    this.known.add(name);
    return Object.hasOwn(this.given, name) ? this.given[name] : undefined;
  }

  private parse(text: string): Record<string, unknown> {
    try {
      const value: unknown = JSON.parse(text);
      if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
    } catch {
      // said below, with the text
    }
    return this.fail(`expected a mapping or JSON such as {"num_cycles": 2}, got ${JSON.stringify(text)}`);
  }
}
