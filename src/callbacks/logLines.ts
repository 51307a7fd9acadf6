/** A log entry as one line: for a person, for a program, or as the Trainer prints it. */
import type { LogEntry, TrainerState } from "../runFolder/state.js";
import { formatSeconds } from "../support/meter.js";
import { briefCount, briefLoss, briefRate } from "../support/words.js";

/** text: for a person; python: as transformers' Trainer prints it; json: an object on each line. */
export const LOG_FORMATS = ["text", "python", "json"] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** A log entry as the Trainer prints it, without `total_flos`. */
export function formatLog(logs: Readonly<LogEntry>): string {
  const shown = Object.entries(logs).filter(([name]) => name !== "total_flos");
  return `{${shown.map(([name, value]) => `'${name}': ${formatNumber(value)}`).join(", ")}}`;
}

/** The entry as metrics.jsonl has it, but for the time. */
export const jsonLog = (logs: Readonly<LogEntry>, step: number): string => JSON.stringify({ step, ...logs });

type Figures = Pick<TrainerState, "global_step" | "max_steps" | "num_train_epochs">;

/** What a person does not look for while a run goes; all of it is in metrics.jsonl. */
const UNSEEN = /^(epoch|total_flos|train_runtime|train_tokens_per_second|eval_\w+_per_second|eval_num_tokens)$/;

const FIGURES: Readonly<Record<string, (value: number) => string>> = {
  loss: (value) => `loss ${briefLoss(value)}`,
  learning_rate: (value) => `lr ${briefRate(value).padEnd(7)}`,
  grad_norm: (value) => `grad ${value < 1000 ? value.toFixed(2) : briefRate(value)}`,
  loss_scale: (value) => `loss scale ${value}`,
  overflows: (value) => `${value} overflowed`,
  skipped_updates: (value) => `${value} skipped`,
  num_input_tokens_seen: (value) => `${briefCount(value)} tokens`,
  eval_loss: (value) => `loss ${briefLoss(value)}`,
  eval_perplexity: (value) => `perplexity ${formatNumber(value)}`,
  eval_mean_token_accuracy: (value) => `accuracy ${value.toFixed(4)}`,
  eval_runtime: (value) => formatSeconds(value),
};

/** The order in which a person reads them; others follow. */
const ORDER = ["loss", "learning_rate", "grad_norm"];
const rank = (name: string) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);

/**
 * The items of a line for a person, which stand below those of the last one: `step   20/1125`, `epoch 0.05`, `loss ...`.
 * Empty for what the end of the run says in words.
 */
export function logItems(
  logs: Readonly<LogEntry>,
  { global_step: step, max_steps: total, num_train_epochs: epochs }: Figures,
  tokensPerSecond?: number,
): string[] {
  const evaluated = Object.keys(logs).some((name) => name.startsWith("eval_"));
  if (!evaluated && !("learning_rate" in logs)) return [];
  const all = String(total);
  const items = [
    `${evaluated ? "eval" : "step"} ${String(step).padStart(all.length)}/${all}`,
    `epoch ${(logs.epoch ?? 0).toFixed(2).padStart(String(epochs).length + 3)}`,
  ];
  const figures = Object.entries(logs).filter(([name]) => !UNSEEN.test(name));
  for (const [name, value] of figures.sort(([a], [b]) => rank(a) - rank(b))) {
    const figure = Object.hasOwn(FIGURES, name) ? FIGURES[name] : undefined;
    items.push(figure?.(value) ?? `${name.replace(/^eval_/, "")} ${formatNumber(value)}`);
  }
  if (!evaluated && tokensPerSecond !== undefined) items.push(`${briefCount(tokensPerSecond)} tok/s`);
  return items;
}

/** Python's `.4g` for fractions, whole numbers in full. */
export function formatNumber(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (Number.isInteger(value)) return String(value);
  const [mantissa = "", power = ""] = value.toExponential(3).split("e");
  const exponent = Number(power);
  const trim = (digits: string) => (digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits);
  if (exponent >= -4 && exponent < 4) return trim(value.toFixed(3 - exponent));
  return `${trim(mantissa)}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

/** 75 → "1:15", 3725 → "1:02:05". */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (value: number) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
