/**
 * Chat templates come with models that anybody wrote: here they end. Python renders them in Jinja's sandbox, which
 * bounds `range` and nothing else.
 */
import * as library from "@huggingface/jinja";

/**
 * The part of the library that is used here. TypeScript cannot follow its own declarations (their imports lack
 * extensions), so that everything of the interpreter would be `any`.
 */
interface Value {
  type: string;
  value: unknown;
}
interface FunctionValue extends Value {
  value: (args: Value[], scope: unknown) => Value;
}
type Evaluate = (statement: { type: string } | undefined, environment: { variables: Map<string, Value> }) => Value;
const { Interpreter } = library as unknown as { Interpreter: { prototype: { evaluate: Evaluate } } };

/** The sandbox's own limit. */
const MAX_RANGE = 100_000;
/** Parts of a template that one rendering may evaluate: seconds of work. A long template takes some 100 for each turn. */
const MAX_STEPS = 4_000_000;
/** Characters of any text on the way, the result among them. */
const MAX_TEXT = 1 << 26;
/** Items of any list on the way. */
const MAX_ITEMS = 1 << 22;

let steps = 0;
const evaluate = Interpreter.prototype.evaluate;
Interpreter.prototype.evaluate = function (statement, environment) {
  if (++steps > MAX_STEPS) throw new Error(`it goes on for more than ${MAX_STEPS} steps`);
  if (statement?.type === "Program") boundRange(environment);
  const result = stripped(this, statement, environment) ?? evaluate.call(this, statement, environment);
  const { value } = result;
  if (typeof value === "string" && value.length > MAX_TEXT) {
    throw new Error(`it makes a text of more than ${MAX_TEXT} characters`);
  }
  if (Array.isArray(value) && value.length > MAX_ITEMS) {
    throw new Error(`it makes a list of more than ${MAX_ITEMS} items`);
  }
  return result;
};

interface StripCall {
  type: string;
  callee: { type: string; computed: boolean; object: { type: string }; property: { value: string } };
  args: { type: string }[];
}

/** `text.strip("x")` takes these characters off, and no others; the library's takes off all whitespace instead. */
function stripped(
  interpreter: { evaluate: Evaluate },
  statement: Parameters<Evaluate>[0],
  environment: Parameters<Evaluate>[1],
): Value | undefined {
  if (statement?.type !== "CallExpression") return undefined;
  const { callee, args } = statement as StripCall;
  if (callee.type !== "MemberExpression" || callee.computed || args.length !== 1) return undefined;
  const { value: name } = callee.property;
  if (name !== "strip" && name !== "lstrip" && name !== "rstrip") return undefined;
  const text = interpreter.evaluate(callee.object, environment);
  const characters = interpreter.evaluate(args[0], environment);
  if (text.type !== "StringValue" || characters.type !== "StringValue") return undefined;
  const all = [...(text.value as string)];
  const off = new Set(characters.value as string);
  let [start, end] = [0, all.length];
  if (name !== "rstrip") while (start < end && off.has(all[start]!)) start++;
  if (name !== "lstrip") while (end > start && off.has(all[end - 1]!)) end--;
  return new (text.constructor as new (value: string) => Value)(all.slice(start, end).join(""));
}

/** A program runs once in each environment, whose `range` is the library's. */
function boundRange({ variables }: Parameters<Evaluate>[1]): void {
  const range = variables.get("range") as FunctionValue;
  const make = range.value;
  range.value = (args, scope) => {
    const [start = 0, stop, step = 1] = args.map(({ value }) => Number(value));
    const size = stop === undefined ? start : (stop - start) / step;
    if (size > MAX_RANGE) throw new Error(`range is too big: the limit is ${MAX_RANGE} items, as in Python's sandbox`);
    return make(args, scope);
  };
}

/** A compiled template: of the library's class, whose own declarations are not to reach those of this package. */
export interface Renderer {
  render(variables: Record<string, unknown>): string;
}

/** Renders a template. @throws Error for one that does not come to an end or makes too much */
export function renderBounded(template: Renderer, variables: Record<string, unknown>): string {
  steps = 0;
  return template.render(variables);
}
