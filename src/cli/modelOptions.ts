/** The options of the commands that talk with a model: which one, and how it draws its tokens. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { parse } from "yaml";
import type { QuantizationConfigInput } from "../models/quantization.js";
import { UserError } from "../support/errors.js";
import { didYouMean } from "../support/nearest.js";

export interface ModelOptions {
  model?: string;
  adapter?: string;
  quantization?: QuantizationConfigInput;
  use_cpu?: true;
  device?: "cpu" | "cuda";
}

export interface SamplingOptions {
  max_new_tokens?: number;
  temperature?: number;
  top_p?: number;
  top_k?: number;
  do_sample?: true;
  seed?: number;
}

export function addModelOptions(command: Command): Command {
  return command
    .usage("RUN [--name value ...]")
    .argument("[run...]", "a run's output_dir, a checkpoint, an adapter, a model, a config file, or a hub id")
    .option("--model <folder>", "the model, or the base of the adapter, where its config names another")
    .option("--adapter <folder>", "PEFT adapter to put on the model")
    .option(
      "--quantization <options>",
      "the model's weights in 4 or 8 bits, as in a config file: '{load_in_4bit: true, bnb_4bit_quant_type: nf4}', or --quantization.load_in_4bit true and others likewise",
      quantizationOptions,
    )
    .option("--use_cpu", "compute on the CPU even where there is a GPU")
    .addOption(
      new Option("--device <device>", "where to compute; cuda fails where there is no GPU").choices(["cpu", "cuda"]),
    )
    .allowUnknownOption();
}

export function addSamplingOptions(command: Command): Command {
  return command
    .option("--max_new_tokens <n>", "stop after this many tokens (default: 256)", numberIn({ whole: true, min: 1 }))
    .option("--do_sample", "draw tokens at random instead of taking the likeliest")
    .option("--temperature <x>", "above 1: more random, below 1: less", numberIn({ above: 0 }))
    .option(
      "--top_p <x>",
      "draw among the likeliest tokens that have this probability together",
      numberIn({ above: 0, max: 1 }),
    )
    .option("--top_k <n>", "draw among this many likeliest tokens (0: all)", numberIn({ whole: true, min: 0 }))
    .option("--seed <n>", "start of the random numbers", numberIn({ whole: true, min: 0 }));
}

/** Of all options, those that sampling takes. */
export const samplingOf = ({ max_new_tokens, temperature, top_p, top_k, do_sample, seed }: SamplingOptions) => ({
  max_new_tokens,
  temperature,
  top_p,
  top_k,
  do_sample,
  seed,
});

/** What the words and options name. @throws UserError for none, for two, and for what cannot be used */
export async function modelOf(name: string, command: Command, options: ModelOptions) {
  const { names, quantization } = await readWords(command, options.quantization);
  const { model, adapter, use_cpu, device } = options;
  if (names.length > 1) {
    throw new UserError(`unexpected "${names[1]}": one model answers. A value with spaces needs quotes.`);
  }
  if (names.length === 1 && adapter !== undefined) {
    throw new UserError(`"${names[0]}" and --adapter both name what to load; give one of them`);
  }
  const { sourceOf } = await import("./source.js");
  const { resolveModel } = await import("../config/paths.js");
  const local = (option: string, value: string) => {
    const resolved = resolveModel(value, process.cwd());
    if ("problem" in resolved) throw new UserError(`${option}${resolved.problem}`);
    return resolved.value;
  };
  const base = model === undefined ? undefined : local("--model: ", model);
  const [named] = names;
  if (named === undefined && base === undefined && adapter === undefined) {
    throw new UserError(
      `nothing to load: name a run's folder, an adapter, a model or a config file, as in npx slimtune ${name} runs/1`,
    );
  }
  const source =
    adapter !== undefined
      ? await sourceOf(local("--adapter: ", adapter), base)
      : named !== undefined
        ? await sourceOf(local("", named), base)
        : await sourceOf(base!);
  return {
    ...source,
    ...(quantization === undefined ? {} : { quantization }),
    ...(use_cpu === undefined ? {} : { use_cpu }),
    ...(device === undefined ? {} : { device }),
  };
}

/** Names, and the options of quantization by their paths; what else begins with dashes is unknown. */
async function readWords(command: Command, given: QuantizationConfigInput | undefined) {
  const { parseWords } = await import("../config/overrides.js");
  const { SECTIONS } = await import("../config/schema.js");
  const names: string[] = [];
  const paths: string[] = [];
  const { args: words } = command;
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    if (!word.startsWith("-")) {
      names.push(word);
    } else if (word.startsWith("--quantization.")) {
      paths.push(word);
      const next = words[i + 1];
      if (!word.includes("=") && next !== undefined && !next.startsWith("-")) paths.push(words[++i]!);
    } else {
      const option = word.split("=")[0]!;
      const inner = option.replace(/^-+/, "").replaceAll("-", "_");
      const advice = Object.hasOwn(SECTIONS.quantization!.shape, inner)
        ? `: write --quantization.${inner}`
        : didYouMean(
            inner,
            command.options.map(({ long }) => long!.slice(2)),
          );
      throw new UserError(`unknown option ${option}${advice}; npx slimtune ${command.name()} --help lists them`);
    }
  }
  const { overrides } = parseWords(paths);
  if (overrides.length === 0) return { names, quantization: given };
  const inner = Object.fromEntries(overrides.map(({ path, value }) => [path[1], value]));
  return { names, quantization: { ...given, ...inner } as QuantizationConfigInput };
}

function quantizationOptions(given: string): QuantizationConfigInput {
  let value: unknown;
  try {
    value = parse(given);
  } catch {
    value = given;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InvalidArgumentError("It must be names and values in braces: '{load_in_4bit: true}'.");
  }
  return value; // checked with the schema when the model is loaded
}

function numberIn(range: { whole?: boolean; min?: number; above?: number; max?: number }) {
  const {
    whole = false,
    min = Number.NEGATIVE_INFINITY,
    above = Number.NEGATIVE_INFINITY,
    max = Number.POSITIVE_INFINITY,
  } = range;
  return (given: string): number => {
    const value = Number(given);
    const fits = given.trim() !== "" && Number.isFinite(value) && value >= min && value > above && value <= max;
    if (fits && (!whole || Number.isSafeInteger(value))) return value;
    const limits = [
      Number.isFinite(min) ? `at least ${min}` : "",
      Number.isFinite(above) ? `above ${above}` : "",
      Number.isFinite(max) ? `at most ${max}` : "",
    ].filter((limit) => limit !== "");
    throw new InvalidArgumentError(`It must be a ${whole ? "whole " : ""}number ${limits.join(" and ")}.`);
  };
}
