/** What carries a run's figures out of it. */
import type { ControlAnswer } from "../../runFolder/control.js";
import { TRAINER_EVENTS, type TrainerCallback } from "../callbacks.js";

export type Outcome = "finished" | "interrupted" | "failed";

/** A callback that holds something open until the run is over, however that ends. */
export interface Reporter extends TrainerCallback {
  /** For messages: where the figures go. */
  readonly name: string;
  /** A line of control.jsonl was answered. */
  onControl?(answer: ControlAnswer): Promise<void>;
  /** Called once, also after a failure. */
  close(outcome: Outcome): Promise<void>;
}

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
  for (const event of [...TRAINER_EVENTS, "onControl"] as const) {
    const handler = reporter[event] as ((...details: unknown[]) => unknown) | undefined;
    if (handler) safe[event] = async (...details: unknown[]) => safely(() => handler.apply(reporter, details), goesOn);
  }
  return safe;
}
