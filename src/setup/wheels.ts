import { existsSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { createMeter, formatBytes, type Output } from "../support/meter.js";
import { lastLine, run } from "./exec.js";
import { extractZip } from "./unzip.js";
import { PINNED_VERSION } from "./versions.js";

/** What of a wheel is LibTorch: headers, libraries, the version, the licences. */
const KEEP = /^(torch\/(include|lib)\/|torch\/version\.py$|nvidia\/.*\/lib\/|[^/]+\.dist-info\/(METADATA|licenses\/))/;
/** What only a GPU needs. */
const CUDA_PART = /^torch\/lib\/lib(torch_cuda|c10_cuda|torch_nvshmem|caffe2_nvrtc)/;
const HOURS = 3_600_000;

interface PipContext {
  python: string;
  env: NodeJS.ProcessEnv;
  /** A folder of its own, for downloads and temporary files. */
  work: string;
  out: Output;
}

/**
 * Downloads torch's wheel with pip and unpacks its LibTorch to `work/tree`. A wheel for CUDA brings none of the
 * libraries it is linked with: those that the variant needs are fetched too and laid where its run path looks.
 * @returns the folder to move to its place
 * @throws Error whose message is the reason
 */
export async function fetchWheel(context: PipContext, variant: string): Promise<string> {
  const tree = join(context.work, "tree");
  const cpu = variant === "cpu";
  const wheels = await pipDownload(context, "torch", ["--no-deps", `torch==${PINNED_VERSION}`]);
  await unpack(wheels, tree, (path) => KEEP.test(path) && !(cpu && CUDA_PART.test(path)), context.out);
  const requirements = cudaRequirements(readMetadata(tree), cpu);
  if (requirements.length) {
    const libraries = await pipDownload(context, "CUDA libraries", requirements);
    await unpack(libraries, tree, (path) => KEEP.test(path), context.out);
  }
  return tree;
}

/**
 * The CUDA packages that a torch wheel asks for, as pip's arguments; for work on the CPU only the two that libtorch_cpu
 * itself is linked with. Empty for a wheel without CUDA.
 */
export function cudaRequirements(metadata: string, cpu: boolean): string[] {
  const all = [...metadata.matchAll(/^Requires-Dist: ((?:cuda-toolkit|nvidia-[\w-]+)(?:\[[\w,]+\])?==[\w.]+)/gm)].map(
    (match) => match[1]!,
  );
  if (!cpu) return all;
  return all
    .filter((requirement) => requirement.startsWith("cuda-toolkit["))
    .map((requirement) => requirement.replace(/\[[\w,]+\]/, "[cudart,cupti]"));
}

async function pipDownload(context: PipContext, name: string, what: string[]): Promise<string[]> {
  const dest = join(context.work, name.replace(/\W/g, "-"));
  const temporary = join(context.work, "tmp");
  await mkdir(dest, { recursive: true });
  await mkdir(temporary, { recursive: true });
  // pip draws its bar only on a terminal; watching its files grow works everywhere.
  const progress = createMeter(`Fetching ${name} with pip`, formatBytes, context.out);
  const timer = setInterval(() => progress.update(sizeOfTree(dest) + sizeOfTree(temporary)), 500);
  const result = await run(
    context.python,
    [
      ..."-m pip --disable-pip-version-check --no-input download --only-binary=:all: --progress-bar off --dest".split(
        " ",
      ),
      dest,
      ...what,
    ],
    { env: { ...context.env, TMPDIR: temporary }, cwd: temporary, timeoutMs: 6 * HOURS },
  );
  clearInterval(timer);
  progress.end();
  if (result.code !== 0) throw new Error(result.failure ?? pipReason(result.stderr));
  return readdirSync(dest)
    .filter((file) => file.endsWith(".whl"))
    .map((file) => join(dest, file));
}

/** pip's own last word, which it marks with ERROR. */
function pipReason(stderr: string): string {
  return (
    stderr
      .split("\n")
      .findLast((line) => line.startsWith("ERROR:"))
      ?.slice(7) ?? lastLine(stderr)
  );
}

async function unpack(wheels: string[], tree: string, keep: (path: string) => boolean, out: Output): Promise<void> {
  for (const wheel of wheels) {
    const progress = createMeter("Unpacking", formatBytes, out);
    try {
      await extractZip(wheel, tree, { keep, onProgress: progress.update });
    } finally {
      progress.end();
    }
    rmSync(wheel);
  }
}

function readMetadata(tree: string): string {
  const info = readdirSync(tree).find((name) => /^torch-.*\.dist-info$/.test(name));
  const file = info && join(tree, info, "METADATA");
  return file && existsSync(file) ? readFileSync(file, "utf8") : "";
}

function sizeOfTree(folder: string): number {
  let sum = 0;
  for (const entry of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const found = statSync(join(folder, entry), { throwIfNoEntry: false }); // pip moves its files about meanwhile
    if (found?.isFile()) sum += found.size;
  }
  return sum;
}
