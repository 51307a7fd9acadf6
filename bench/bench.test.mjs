import { describe, expect, it } from "vitest";
import { isStepLine, measure } from "./measure.mjs";
import { curveTable, disagreement, figureTable, median, summarise, updatesOf, updateTable } from "./summary.mjs";

const node = (script) => [process.execPath, "-e", script];

describe("measuring a program", () => {
  it("tells the log entry of an update from everything else that the trainers print", () => {
    expect(isStepLine("{'loss': 10.91, 'grad_norm': 0.5, 'epoch': 0.1}")).toBe(true); // both print Python's form
    expect(isStepLine("{'loss': '10.91', 'grad_norm': '0.5'}")).toBe(true);
    expect(isStepLine("{'train_runtime': 12.5, 'train_loss': 10.9}")).toBe(false);
    expect(isStepLine("The loss of this model is ...")).toBe(false);
  });

  it("times the updates from the start of the program and sees its largest memory", async () => {
    const script = `
      let block = Buffer.alloc(200e6, 1);
      console.log("{'loss': 2}");
      setTimeout(() => { block = undefined; console.log("{'loss': 1}"); }, 400);`;
    const { stepEnds, exit, peakBytes } = await measure(node(script));
    expect(stepEnds).toHaveLength(2);
    expect(stepEnds[1] - stepEnds[0]).toBeGreaterThan(0.3);
    expect(exit).toBeGreaterThanOrEqual(stepEnds[1]);
    if (process.platform === "linux") expect(peakBytes).toBeGreaterThan(200e6);
  });

  it("fails with what the program said when the program fails", async () => {
    await expect(measure(node("console.error('no such model'); process.exit(3)"))).rejects.toThrow(
      /ended with 3:\nno such model/,
    );
    await expect(measure(["/nonexistent/program"])).rejects.toThrow(/ENOENT/);
  });
});

const steps = [
  { tokens: 1000, flops: 9e9 },
  { tokens: 100, flops: 1e9 },
  { tokens: 300, flops: 3e9 },
];

describe("figures", () => {
  it("leaves the first update out, which pays for the start", () => {
    expect(updatesOf({ stepEnds: [50, 52, 54] }, steps)).toEqual([
      { seconds: 2, tokensPerSecond: 50, gflops: 0.5 },
      { seconds: 2, tokensPerSecond: 150, gflops: 1.5 },
    ]);
  });

  it("are medians, and slimtune's divided by the peer's", () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, undefined, 2, 3])).toBe(2.5);
    const run = (seconds, peakBytes) => ({ stepEnds: [1, 1 + seconds / 2, 1 + seconds], peakBytes });
    const own = summarise([run(4, 1e9), run(4, 1e9), run(40, 1e9)], [run(1)], steps, 10);
    expect(own).toMatchObject({ tokensPerSecond: 50, shareOfPeak: 0.05, secondsToFirstStep: 1 });
    const peer = summarise([run(16, 4e9)], [run(1)], steps, 10);
    const table = figureTable([
      { title: "slimtune", summary: own },
      { title: "peer", summary: peer },
    ]);
    expect(table).toContain("| tokens/s | 50.0 | 25.0 | 2.00 |");
    const twice = summarise([run(8, 4e9), run(4, 4e9)], [run(1)], steps, 10);
    expect(updateTable([{ title: "peer", summary: twice }])).toContain(
      "| 1, 2 | 25.0 |\n| 1, 3 | 75.0 |\n| 2, 2 | 50.0 |\n| 2, 3 | 150.0 |",
    );
    expect(table).toContain("| peak resident memory | 1.00 GB | 4.00 GB | 0.25 |");
  });
});

describe("proof that the programs trained the same", () => {
  const curve = [
    { loss: 2, grad_norm: 1 },
    { loss: 1, grad_norm: 4 },
  ];

  it("is the largest relative difference of any loss and gradient norm", () => {
    expect(disagreement([curve])).toBe(0);
    expect(disagreement([curve, [curve[0], { loss: 1, grad_norm: 4.04 }]])).toBeCloseTo(0.01, 10);
    expect(disagreement([curve, curve, [{ loss: 3, grad_norm: 1 }, curve[1]]])).toBe(0.5);
  });

  it("sees a missing update and a NaN, before and after other differences", () => {
    expect(disagreement([curve, curve.slice(1)])).toBe(Number.POSITIVE_INFINITY);
    const broken = [{ loss: Number.NaN, grad_norm: 1.1 }, curve[1]];
    expect(disagreement([curve, broken])).toBe(Number.POSITIVE_INFINITY);
    expect(disagreement([curve, [curve[0], { loss: 1.1, grad_norm: Number.NaN }]])).toBe(Number.POSITIVE_INFINITY);
  });

  it("is printed for every update", () => {
    expect(curveTable([{ title: "slimtune", curve }])).toContain("| 2 | 1.000000 | 4.000000 |");
  });
});
