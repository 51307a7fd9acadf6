/**
 * What `npm run quickstart`, `npm test` and `npm run bench` call: brings a checkout up to date, then does the job.
 *
 *   node scripts/bootstrap.mjs <build|setup|quickstart|test|bench|bench:memory|bench:scaling> [arguments of the job]
 *
 * Plain JavaScript without dependencies, because it runs before there are any. Every step that is up to date is quick.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { constants, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const MAIN = join(ROOT, "dist", "cli", "main.js");
const MINIMUM_NODE = [20, 19];

const jobs = {
  build: async () => {},
  setup: async (args) => setup(args),
  quickstart: async (args) => {
    await setup();
    await node("quickstart", join(ROOT, "examples", "quickstart", "quickstart.mjs"), args);
  },
  test: async (args) => {
    await setup();
    if (args.length === 0) {
      await step("lint", ["npm", "run", "--silent", "lint"]);
      await step("typecheck", npx("tsc", "--noEmit"));
    }
    await test(args);
  },
  bench: async (args) => {
    await setup();
    await node("bench", join(ROOT, "bench", "run.mjs"), args);
  },
  "bench:memory": async (args) => {
    await setup();
    await node("bench:memory", join(ROOT, "bench", "memory.mjs"), args);
  },
  "bench:scaling": async (args) => {
    await setup();
    await node("bench:scaling", join(ROOT, "bench", "scaling.mjs"), args);
  },
};

/** A step that failed; it has said why itself, so only the exit status is passed on. */
class Failed extends Error {
  constructor(status) {
    super(`exit status ${status}`);
    this.status = status;
  }
}

/** The running step's process, to which signals go. */
let child;

/** Runs a program in the foreground, its output for the user to see. */
function run([command, ...args]) {
  return new Promise((resolve, reject) => {
    child = spawn(command, args, { cwd: ROOT, stdio: "inherit" });
    child.on("error", (error) => {
      console.error(`${command}: ${error.message}`);
      reject(new Failed(127));
    });
    child.on("close", (code, signal) => {
      child = undefined;
      const status = signal ? 128 + constants.signals[signal] : code;
      if (status === 0) resolve();
      else reject(new Failed(status));
    });
  });
}

async function step(name, command) {
  const start = Date.now();
  try {
    await run(command);
    report(name, "done", start);
  } catch (error) {
    report(name, "FAILED", start);
    throw error;
  }
}

function report(name, what, start) {
  console.error(`[${name}] ${what} in ${((Date.now() - start) / 1000).toFixed(1)} s`);
}

const npx = (tool, ...args) => [join(ROOT, "node_modules", ".bin", tool), ...args];
const node = (name, file, args) => step(name, [process.execPath, file, ...args]);
const setup = (args = []) => node("setup", MAIN, ["setup", ...args]);

function checkNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > MINIMUM_NODE[0] || (major === MINIMUM_NODE[0] && minor >= MINIMUM_NODE[1])) return;
  console.error(
    `slimtune needs Node ${MINIMUM_NODE.join(".")} or newer; this is ${process.versions.node}. See https://nodejs.org`,
  );
  throw new Failed(1);
}

/** Hash of the names and contents of files; folders are walked. What does not exist counts as that. */
function hashOf(paths) {
  const hash = createHash("sha256");
  for (const path of paths.map((name) => join(ROOT, name)).filter(existsSync)) {
    const inside = statSync(path).isFile()
      ? [path]
      : readdirSync(path, { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => join(entry.parentPath, entry.name));
    for (const file of inside.sort()) hash.update(`${file}\0`).update(readFileSync(file)).update("\0");
  }
  return hash.digest("hex");
}

/** Runs `work` unless the stamp says that it was last done for the same inputs. */
async function unlessStamped(stamp, inputs, work) {
  const hash = hashOf(inputs);
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === hash) return;
  rmSync(stamp, { force: true });
  await work();
  writeFileSync(stamp, hash);
}

async function install() {
  const lock = join(ROOT, "package-lock.json");
  const modules = join(ROOT, "node_modules");
  const locked = existsSync(lock);
  const byHand = join(modules, ".package-lock.json"); // npm's own note of what it installed
  await unlessStamped(join(modules, ".slimtune-stamp"), [locked ? "package-lock.json" : "package.json"], async () => {
    if (locked && existsSync(byHand) && statSync(byHand).mtimeMs >= statSync(lock).mtimeMs) return;
    await step("install", ["npm", locked ? "ci" : "install", "--no-audit", "--no-fund", "--loglevel=error"]);
  });
}

async function build() {
  const inputs = ["src", "package.json", "package-lock.json", "tsconfig.json", "tsconfig.build.json"];
  await unlessStamped(join(ROOT, "dist", ".slimtune-stamp"), inputs, async () => {
    rmSync(join(ROOT, "dist"), { recursive: true, force: true }); // no outputs of sources that are gone
    await step("build", npx("tsc", "-p", "tsconfig.build.json"));
  });
  chmodSync(MAIN, 0o755);
  const link = join(ROOT, "node_modules", ".bin", "slimtune"); // so that `npx slimtune` runs this checkout
  if (!existsSync(link)) {
    rmSync(link, { force: true }); // a link to nowhere does not "exist"
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join("..", "..", "dist", "cli", "main.js"), link);
  }
}

/** Runs the suite; the last line that it prints are the counts, for people and for programs. */
async function test(args) {
  const folder = mkdtempSync(join(tmpdir(), "slimtune-test-"));
  const file = join(folder, "result.json");
  try {
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`];
    let failure;
    await step("test", npx("vitest", "run", ...reporters, ...args)).catch((error) => {
      failure = error;
    });
    if (!existsSync(file)) throw failure ?? new Failed(1);
    const result = JSON.parse(readFileSync(file, "utf8"));
    // a file that cannot even be loaded has no tests to count, and is one failure
    const unloaded = result.testResults.filter((f) => f.status === "failed" && f.assertionResults.length === 0).length;
    // and so is an error outside of any test
    const failed = Math.max(result.numFailedTests + unloaded, failure ? 1 : 0);
    const skipped = result.numPendingTests + result.numTodoTests;
    console.log(`${result.numPassedTests} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ""}`);
    if (failed) throw failure ?? new Failed(1);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function main([name, ...args]) {
  const job = Object.hasOwn(jobs, name ?? "") ? jobs[name] : undefined;
  if (!job) {
    console.error(`Usage: node scripts/bootstrap.mjs <${Object.keys(jobs).join("|")}> [arguments]`);
    throw new Failed(2);
  }
  checkNode();
  await install();
  await build();
  await job(args);
}

// Ctrl-C reaches the step itself (a training saves its checkpoint first); this process waits for it and then ends.
process.on("SIGINT", () => child || process.exit(130));
process.on("SIGTERM", () => (child ? child.kill("SIGTERM") : process.exit(143)));

main(process.argv.slice(2)).catch((error) => {
  if (!(error instanceof Failed)) throw error;
  process.exitCode = error.status;
});
