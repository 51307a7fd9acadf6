import { execFile } from "node:child_process";

export interface RunResult {
  /** Exit status; null when the program could not be started, was killed or ran out of time. */
  code: number | null;
  stdout: string;
  stderr: string;
  /** Why there is no exit status, in words. */
  failure?: string;
}

/** Runs a program and captures its output. Never rejects: a program that is not there is a result like any other. */
export function run(
  command: string,
  args: string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string; timeoutMs?: number; input?: string } = {},
): Promise<RunResult> {
  return new Promise((resolve) => {
    const child = execFile(
      command,
      args,
      {
        env: options.env ?? process.env,
        cwd: options.cwd,
        timeout: options.timeoutMs ?? 30_000,
        maxBuffer: 16 << 20,
        killSignal: "SIGKILL",
      },
      (error, stdout, stderr) => {
        if (!error) return resolve({ code: 0, stdout, stderr });
        if (typeof error.code === "number") return resolve({ code: error.code, stdout, stderr });
        const failure =
          error.code === "ENOENT"
            ? "not found"
            : error.killed
              ? "no answer in time"
              : error.signal
                ? `killed by ${error.signal}`
                : error.message;
        resolve({ code: null, stdout, stderr, failure });
      },
    );
    child.stdin?.on("error", () => {}); // a program that exits without reading its input is no failure of ours
    child.stdin?.end(options.input ?? "");
  });
}

/** The last line that is not blank: where command line tools say what went wrong. */
export function lastLine(text: string): string {
  return text.trim().split("\n").at(-1)?.trim() ?? "";
}
