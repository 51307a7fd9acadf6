/**
 * Random runs by TRL's SFTTrainer and by slimtune, and where their curves differ. `npm run build` first; the Python needs
 * tests/goldens/requirements.txt.
 * node tests/reliability/differential.mjs --python env/bin/python [--runs 200] [--seed 1] [--tolerance 1e-4]
 * Left out is what differs on purpose (docs/data.md): packing_strategy wrapped.
 * Or, to look into a difference, with --cases FILE of the JSON lines that were printed (and changed).
 */
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { inFolder, options, tinyTrainer } from "./support.mjs";

const { python, runs, seed, tolerance, cases } = options({
  python: "python3",
  runs: 200,
  seed: 1,
  tolerance: 1e-4,
  cases: "",
});
const COMPARED = ["loss", "grad_norm", "learning_rate", "epoch", "step", "train_loss"];

const words =
  'Ada Bruno Chloé took 12 maps to Zürich , nobody asked why 🙂 . The rain had stopped\n { } "x": Lima'.split(" ");
const text = (maxLength) =>
  fc.array(fc.constantFrom(...words), { minLength: 1, maxLength }).map((chosen) => chosen.join(" "));
const turns = fc.array(fc.tuple(text(8), text(8)), { minLength: 1, maxLength: 3 }).map((pairs) =>
  pairs.flatMap(([question, answer]) => [
    { role: "user", content: question },
    { role: "assistant", content: answer },
  ]),
);

/** Rows of one format, and the arguments that only it has. */
const dataset = fc.oneof(
  fc.record({
    rows: fc.array(fc.record({ prompt: text(20), completion: text(12) }), { minLength: 3, maxLength: 16 }),
    format: fc.record({ completion_only_loss: fc.constantFrom(null, true, false) }),
  }),
  fc.record({
    rows: fc.array(fc.record({ text: text(40) }), { minLength: 3, maxLength: 16 }),
    format: fc.constant({}),
  }),
  fc.record({
    rows: fc.array(fc.record({ messages: turns }), { minLength: 3, maxLength: 12 }),
    format: fc.record({ assistant_only_loss: fc.boolean() }),
  }),
);

const length = fc.oneof(
  fc.record({ max_steps: fc.integer({ min: 1, max: 8 }) }),
  fc.record({ num_train_epochs: fc.constantFrom(1, 1.5, 2, 2.25) }),
);

const batches = fc.record({
  per_device_train_batch_size: fc.integer({ min: 1, max: 4 }),
  gradient_accumulation_steps: fc.integer({ min: 1, max: 4 }),
  train_sampling_strategy: fc.constantFrom("random", "random", "sequential", "group_by_length"),
  dataloader_drop_last: fc.boolean(),
  shuffle_dataset: fc.boolean(),
  seed: fc.integer({ min: 0, max: 2 ** 31 }),
  data_seed: fc.constantFrom(null, null, 7),
});

const layout = fc.oneof(
  fc.record({
    max_length: fc.constantFrom(24, 64, 1024),
    truncation_mode: fc.constantFrom("keep_start", "keep_end"),
    pad_to_multiple_of: fc.constantFrom(null, null, 16),
  }),
  fc.record({
    packing: fc.constant(true),
    packing_strategy: fc.constantFrom("bfd", "bfd_split"),
    max_length: fc.constantFrom(32, 96),
  }),
  fc.constant({ padding_free: true, max_length: null }),
);

const schedule = fc.constantFrom(
  { lr_scheduler_type: "linear" },
  { lr_scheduler_type: "cosine" },
  { lr_scheduler_type: "constant" },
  { lr_scheduler_type: "constant_with_warmup" },
  { lr_scheduler_type: "inverse_sqrt" },
  { lr_scheduler_type: "polynomial", lr_scheduler_kwargs: { power: 2 } },
  { lr_scheduler_type: "cosine_with_restarts", lr_scheduler_kwargs: { num_cycles: 2 } },
  { lr_scheduler_type: "cosine_with_min_lr", lr_scheduler_kwargs: { min_lr_rate: 0.1 } },
  { lr_scheduler_type: "warmup_stable_decay", lr_scheduler_kwargs: { num_decay_steps: 1 } },
);

const update = fc.record({
  optim: fc.constantFrom("adamw_torch", "adamw_torch", "adamw_torch_fused", "sgd", "adafactor", "rmsprop", "adagrad"),
  learning_rate: fc.constantFrom(1e-4, 1e-3, 5e-3),
  warmup_steps: fc.constantFrom(0, 0, 1, 2, 0.3),
  weight_decay: fc.constantFrom(0, 0.1),
  max_grad_norm: fc.constantFrom(0, 0.3, 1),
  adam_beta1: fc.constantFrom(0.9, 0.8),
  adam_beta2: fc.constantFrom(0.999, 0.95),
});

const loss = fc.constantFrom({}, {}, { neftune_noise_alpha: 5 }, { loss_type: "nll", label_smoothing_factor: 0.1 });

const adapter = fc.oneof(
  { arbitrary: fc.constant(null), weight: 1 },
  {
    arbitrary: fc
      .record({
        r: fc.integer({ min: 1, max: 8 }),
        lora_alpha: fc.constantFrom(4, 8, 16),
        lora_dropout: fc.constantFrom(0, 0, 0.1),
        target_modules: fc.constantFrom("all-linear", ["q_proj", "v_proj"], ["down_proj"], ".*layers.1.*_proj"),
        use_rslora: fc.boolean(),
        init_lora_weights: fc.constantFrom(true, "gaussian"),
        more: fc.constantFrom({}, {}, { rank_pattern: { q_proj: 3 } }, { alpha_pattern: { v_proj: 2 } }),
      })
      .map(({ more, ...lora }) => ({ ...lora, ...more })),
    weight: 4,
  },
);

const anyCase = fc
  .record({ dataset, length, batches, layout, schedule, update, loss, adapter })
  .map(({ dataset, length, batches, layout, schedule, update, loss, adapter }) => {
    const args = { ...dataset.format, ...length, ...batches, ...layout, ...schedule, ...update, ...loss };
    if (args.packing || dataset.rows.length < 2 * args.per_device_train_batch_size) args.dataloader_drop_last = false;
    return { rows: dataset.rows, lora: adapter, args };
  });

/** Asks Python for the log of a case. One process for all, so that it imports once. */
function startPython() {
  const script = fileURLToPath(new URL("differential.py", import.meta.url));
  const child = spawn(python, [script], { stdio: ["pipe", "pipe", "ignore"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    async train(one) {
      child.stdin.write(`${JSON.stringify(one)}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error(`${python} has ended; does it have tests/goldens/requirements.txt?`);
      return JSON.parse(value);
    },
    end: () => child.stdin.end(),
  };
}

async function train({ rows, lora, args }, folder) {
  const data = join(folder, "rows.jsonl");
  writeFileSync(data, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  const output = join(folder, "out");
  const health = { missing_end_token: "warn" }; // refused here otherwise, and never in Python
  const more = { dataset: data, eval_dataset: undefined, lora: lora ?? undefined, health };
  try {
    await tinyTrainer(output, { ...args, logging_steps: 1, save_strategy: "no" }, more).train();
    return { log: JSON.parse(readFileSync(join(output, "trainer_state.json"), "utf8")).log_history };
  } catch (error) {
    return { error: error.message };
  }
}

/** Entries and keys whose figures differ by more than the tolerance, the first ones first. */
function differences(ours, theirs) {
  return theirs.flatMap((entry, i) =>
    COMPARED.flatMap((key) => {
      const [here, there] = [ours[i][key], entry[key]];
      if (there === undefined && here === undefined) return [];
      return Math.abs(here - there) <= tolerance * Math.max(Math.abs(there), 1e-12) ? [] : [{ i, key, here, there }];
    }),
  );
}

/** So often the initial weights are changed by a rounding, to see how far that moves the figures of a run. */
const NUDGES = 16;

/**
 * What to say of two answers, and what to count them as. Some runs make much of little: where Python's own run moves as far
 * when its initial weights change by one rounding of float32, at every figure that differs, roundings are the reason.
 * @param nudged Python's log of the run, its initial weights changed by roundings that are drawn from that seed
 */
async function verdict(ours, theirs, nudged) {
  if (ours.error && theirs.error) return { kind: "refusedByBoth" };
  if (ours.error) return { kind: "refusedByOne", say: `refused here only: ${ours.error}` };
  if (theirs.error) return { kind: "refusedByOne", say: `refused by Python only: ${theirs.error}` };
  if (ours.log.length !== theirs.log.length) {
    return { kind: "differ", say: `${ours.log.length} log entries, Python has ${theirs.log.length}` };
  }
  const found = differences(ours.log, theirs.log);
  if (found.length === 0) return { kind: "agree" };
  const logs = [];
  for (let seed = 1; seed <= NUDGES; seed++) logs.push(await nudged(seed));
  const spread = ({ i, key, there }) => Math.max(...logs.map((log) => Math.abs(log[i][key] - there)));
  const rounded = found.every((figure) => Math.abs(figure.here - figure.there) <= spread(figure));
  const { i, key, here, there } = found[0];
  const say = `${key} of entry ${i} is ${here}, Python's ${there} (± ${spread(found[0])} with one rounding)`;
  return { kind: rounded ? "rounded" : "differ", say };
}

const chosen = cases
  ? readFileSync(cases, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line))
  : fc.sample(anyCase, { numRuns: runs, seed });
const peer = startPython();
const counts = { agree: 0, rounded: 0, differ: 0, refusedByBoth: 0, refusedByOne: 0 };
let updates = 0;
for (const [i, one] of chosen.entries()) {
  await inFolder(async (folder) => {
    const [theirs, ours] = await Promise.all([peer.train(one), train(one, folder)]);
    const { kind, say } = await verdict(ours, theirs, async (nudge) => (await peer.train({ ...one, nudge })).log);
    counts[kind]++;
    if (kind === "agree") updates += ours.log.length - 1;
    if (say) console.log(`run ${i}: ${kind}: ${say}\n${JSON.stringify(one)}`);
  });
}
peer.end();
console.log(
  [
    `${chosen.length} runs${cases ? "" : ` (seed ${seed})`}:`,
    `${counts.agree} agree within ${tolerance} at each of ${updates} updates,`,
    `${counts.rounded} part as far as a rounding of float32 moves them, ${counts.differ} differ,`,
    `${counts.refusedByBoth} are refused by both, ${counts.refusedByOne} by one`,
  ].join(" "),
);
process.exitCode = counts.differ + counts.refusedByOne > 0 ? 1 : 0;
