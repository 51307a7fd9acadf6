/** Too little memory is told by a code, on every device; messages are for people. */

/** Whether a tensor, or the engine itself, found too little memory. */
export function isOutOfMemory(error: unknown): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === "SLIMTUNE_OUT_OF_MEMORY";
}
