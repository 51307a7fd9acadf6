import { shown } from "./plainText.js";

/** Where set-up talks to the user: stderr, so that stdout stays free for results. */
export interface Output {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

export interface Meter {
  /** `total` and `done` in the unit of the label's `format`; total undefined: not known. */
  update(done: number, total?: number): void;
  /** Ends the display; on a terminal the bar disappears. */
  end(): void;
}

/** 12345678 → "12.3 MB" */
export function formatBytes(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(2)} GB`;
  return bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.round(bytes / 1e3)} kB`;
}

/** 83.4 → "1 min 23 s" */
export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

const BAR_EVERY_MS = 100;
const LINE_EVERY_MS = 10_000;

/** A bar on a terminal; otherwise a plain line now and then. */
export function createMeter(label: string, format: (value: number) => string, out: Output = process.stderr): Meter {
  const title = shown(label);
  const start = Date.now();
  let shownAt = out.isTTY ? 0 : start;
  let drawn = false;
  return {
    update(done, total) {
      const now = Date.now();
      if (now - shownAt < (out.isTTY ? BAR_EVERY_MS : LINE_EVERY_MS)) return;
      shownAt = now;
      const seconds = (now - start) / 1000;
      const amount = total ? `${format(done)} of ${format(total)}` : format(done);
      const left = total && done > 0 ? `, ${formatSeconds((seconds * (total - done)) / done)} left` : "";
      if (!out.isTTY) {
        out.write(`${title}: ${amount}${left}\n`);
        return;
      }
      const filled = total ? Math.round((20 * Math.min(done, total)) / total) : 0;
      const bar = total ? ` [${"#".repeat(filled)}${"-".repeat(20 - filled)}]` : "";
      out.write(`\r\x1b[K${`${title}${bar} ${amount}${left}`.slice(0, (out.columns ?? 80) - 1)}`);
      drawn = true;
    },
    end() {
      if (drawn) out.write("\r\x1b[K");
    },
  };
}
