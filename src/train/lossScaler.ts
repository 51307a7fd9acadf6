/** The dynamic loss scale of fp16, as torch.amp.GradScaler moves it. */
import type { LossScalerState } from "../runFolder/state.js";

/** GradScaler's own numbers. */
const INITIAL = 65536;
const GROWTH = 2;
const BACKOFF = 0.5;
const INTERVAL = 2000;

/**
 * Small gradients vanish in float16, whose smallest number is 6e-8: the loss is multiplied by a scale before the backward
 * pass, and its gradients divided by it after. A scale that is too large shows as an infinite gradient. Then the update is
 * left out and the scale halved; after many good updates it is doubled.
 */
export class LossScaler {
  state: LossScalerState = { scale: INITIAL, growth: 0, overflows: 0, overflowsSinceLog: 0 };

  restore(state: LossScalerState): void {
    this.state = { ...state };
  }

  get scale(): number {
    return this.state.scale;
  }

  /** Whether gradients that are not finite may be the scale's doing: at 1 and below they would be so without it. */
  get mayOverflow(): boolean {
    return this.state.scale > 1;
  }

  /** An update was made. */
  good(): void {
    const { state } = this;
    if (++state.growth < INTERVAL) return;
    state.growth = 0;
    const scale = Math.fround(state.scale * GROWTH);
    if (Number.isFinite(scale)) state.scale = scale;
  }

  /** An update was left out, because its gradients were not finite. */
  overflow(): void {
    const { state } = this;
    state.growth = 0;
    state.scale *= BACKOFF;
    state.overflows++;
    state.overflowsSinceLog++;
  }
}
