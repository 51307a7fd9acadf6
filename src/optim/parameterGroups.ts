/** Which parameters decay: the Trainer's rule. */
import type { TrainedParameter } from "./optimizer.js";

/** Biases and norms do not decay; embeddings, the head and LoRA's matrices do. */
export const decays = ({ role, decays }: Pick<TrainedParameter, "role" | "decays">): boolean =>
  decays ?? (role !== "bias" && role !== "norm");

/** Parameters that get the same update: with or without weight decay, at one learning rate. */
export function parameterGroups<T>(
  members: readonly T[],
  parameterOf: (member: T) => TrainedParameter,
): { members: T[]; decayed: boolean; lrFactor: number }[] {
  const groups = new Map<string, { members: T[]; decayed: boolean; lrFactor: number }>();
  for (const decayed of [true, false]) {
    for (const member of members) {
      const parameter = parameterOf(member);
      if (decays(parameter) !== decayed) continue;
      const { lrFactor = 1 } = parameter;
      const key = `${decayed} ${lrFactor}`;
      if (!groups.has(key)) groups.set(key, { members: [], decayed, lrFactor });
      groups.get(key)!.members.push(member);
    }
  }
  return [...groups.values()];
}
