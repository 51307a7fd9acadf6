import { describe, expect, it } from "vitest";
import { EventHub, type TrainingEvent } from "./events.js";

const step = (number: number): TrainingEvent => ({
  type: "step",
  step: number,
  maxSteps: 5000,
  epoch: 0,
  loss: 1,
  learningRate: 1,
});

async function collect(events: AsyncIterable<TrainingEvent>): Promise<TrainingEvent[]> {
  const all: TrainingEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

describe("EventHub", () => {
  it("keeps the newest 1024 events for a slow listener and tells it how many are gone", async () => {
    const hub = new EventHub();
    const slow = hub.listen();
    for (let i = 1; i <= 5000; i++) hub.push(step(i));
    hub.end({ type: "error", error: "over" });
    const all = await collect(slow);
    expect(all).toHaveLength(1025);
    expect(all[0]).toEqual({ type: "skipped", count: 5001 - 1024 });
    expect(all[1]).toEqual(step(5000 - 1022));
    expect(all.at(-1)).toEqual({ type: "error", error: "over" });
  });

  it("hands events to readers that wait, one each", async () => {
    const hub = new EventHub();
    const events = hub.listen();
    const both = Promise.all([events.next(), events.next()]);
    hub.push(step(1));
    hub.push(step(2));
    expect((await both).map(({ value }) => value)).toEqual([step(1), step(2)]);
    const none = events.next();
    hub.end({ type: "error", error: "over" });
    expect((await none).value).toEqual({ type: "error", error: "over" });
    expect(await events.next()).toEqual({ value: undefined, done: true });
  });

  it("forgets a listener that leaves", async () => {
    const hub = new EventHub();
    const [stays, leaves] = [hub.listen(), hub.listen()];
    expect(hub.listeners).toBe(2);
    await leaves.return!();
    expect(hub.listeners).toBe(1);
    hub.push(step(1));
    expect(await leaves.next()).toEqual({ value: undefined, done: true });
    expect((await stays.next()).value).toEqual(step(1));
    hub.end({ type: "error", error: "over" });
    expect(hub.listeners).toBe(0);
    expect(await collect(hub.listen())).toEqual([]);
  });
});
