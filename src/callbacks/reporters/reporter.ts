/** What carries a run's figures out of it. */
import type { TrainerCallback, TrainerEvent } from "../callbacks.js";

export type Outcome = "finished" | "interrupted" | "failed";

/** A callback that holds something open until the run is over, however that ends. */
export interface Reporter extends TrainerCallback {
  /** For messages: where the figures go. */
  readonly name: string;
  /** Called once, also after a failure. */
  close(outcome: Outcome): Promise<void>;
}

const EVENTS: readonly TrainerEvent[] = ["onTrainBegin", "onLog", "onSave"];

/** The reporter without its power to fail: its first error is told, and the run goes on. */
export function guarded(reporter: Reporter, log: (line: string) => void): Reporter {
  let told = false;
  const safely = async (work: () => unknown, consequence = "") => {
    try {
      await work();
    } catch (error) {
      if (!told) log(`${reporter.name}: ${(error as Error).message}.${consequence}`);
      told = true;
    }
  };
  const goesOn = " Training goes on without it.";
  const safe: Reporter = {
    name: reporter.name,
    close: (outcome) => safely(() => reporter.close(outcome)),
  };
  for (const event of EVENTS) {
    if (!reporter[event]) continue;
    safe[event] = async (...details: unknown[]) =>
      safely(() => (reporter[event] as (...details: unknown[]) => unknown)(...details), goesOn);
  }
  return safe;
}
