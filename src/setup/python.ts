import { tmpdir } from "node:os";
import { join } from "node:path";
import { lastLine, run } from "./exec.js";

/** A Python that could be asked, by the way it was found. */
export interface PythonCandidate {
  /** How it is named to the user. */
  label: string;
  command: string;
}

export interface PythonAnswer {
  executable: string;
  version: string;
  /** `sys.prefix`: two names of one environment have the same. */
  prefix: string;
  /** The folder of its torch package, null when it has none. */
  torch: string | null;
}

// torch is located, never imported: importing takes seconds and can fail. Entries of sys.path that mean "here" are
// dropped, so that a folder that happens to be called torch is not taken for the package.
const QUESTION = `
import json, os, sys, importlib.util
sys.path = [p for p in sys.path if p]
try:
    spec = importlib.util.find_spec("torch")
except Exception:
    spec = None
torch = os.path.dirname(spec.origin) if spec and spec.origin else None
print(json.dumps({"executable": sys.executable, "version": ".".join(map(str, sys.version_info[:3])), "prefix": sys.prefix, "torch": torch}))
`;

/** In the order in which they are asked: the environment that is active, then what the PATH has. */
export function pythonCandidates(env: NodeJS.ProcessEnv): PythonCandidate[] {
  const active = ["VIRTUAL_ENV", "CONDA_PREFIX"].flatMap((name) => {
    const prefix = env[name];
    return prefix ? [{ label: `Python of ${name} (${prefix})`, command: join(prefix, "bin", "python") }] : [];
  });
  return [...active, { label: "python3", command: "python3" }, { label: "python", command: "python" }];
}

/** Asks a Python where its torch is. A string says why there is no answer. */
export async function askPython(command: string, env: NodeJS.ProcessEnv): Promise<PythonAnswer | string> {
  const result = await run(command, ["-c", QUESTION], { env, cwd: tmpdir() });
  if (result.code !== 0) return result.failure ?? `failed: ${lastLine(result.stderr)}`;
  try {
    return JSON.parse(lastLine(result.stdout)) as PythonAnswer;
  } catch {
    return `did not answer as Python does: ${lastLine(result.stdout)}`;
  }
}

/** pip's version line (`pip 24.0 from ...`), or a string in `reason` that says why there is no pip. */
export async function askPip(command: string, env: NodeJS.ProcessEnv): Promise<{ pip?: string; reason?: string }> {
  const result = await run(command, ["-m", "pip", "--version"], { env, cwd: tmpdir() });
  if (result.code === 0) return { pip: lastLine(result.stdout).split(" from ")[0] };
  return { reason: result.failure ?? lastLine(result.stderr) };
}
