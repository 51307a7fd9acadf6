/** Scopes: who owns a tensor, and that nothing is left behind. */
import { afterEach, describe, expect, it } from "vitest";
import { flush, keep, liveTensors, loadNative, noGrad, ops, scope, type Tensor } from "../../src/torch/index.js";

const alive = (x: Tensor): boolean => {
  try {
    loadNative().describe(x.handle);
    return true;
  } catch {
    return false;
  }
};

afterEach(async () => {
  await flush();
  expect(liveTensors()).toBe(0);
});

describe("scope", () => {
  it("frees at its end what was made inside", () => {
    let inside: Tensor | undefined;
    const result = scope(() => {
      inside = ops.add(ops.zeros([2]), ops.zeros([2]));
      expect(liveTensors()).toBe(3);
      return "result";
    });
    expect(result).toBe("result");
    expect(alive(inside!)).toBe(false);
    expect(liveTensors()).toBe(0);
  });

  it("lets the returned tensors go on, in arrays and plain objects too", async () => {
    const { list, object } = scope(() => {
      const [a, b, c] = [ops.float32([1]), ops.float32([2]), ops.float32([3])];
      ops.zeros([9]);
      return { list: [a, [b]] as const, object: { inner: { c }, number: 1, nothing: null } };
    });
    expect(liveTensors()).toBe(3);
    expect(await list[0].item()).toBe(1);
    expect(await list[1][0]!.item()).toBe(2);
    expect(await object.inner.c.item()).toBe(3);
    for (const x of [list[0], list[1][0]!, object.inner.c]) x.dispose();
  });

  it("passes them to the scope around, which frees them in turn", () => {
    let inner: Tensor | undefined;
    scope(() => {
      inner = scope(() => ops.zeros([1]));
      expect(alive(inner)).toBe(true);
    });
    expect(alive(inner!)).toBe(false);
  });

  it("leaves alone what was made outside", () => {
    const outside = ops.zeros([1]);
    scope(() => {
      ops.neg(outside);
    });
    expect(alive(outside)).toBe(true);
    expect(scope(() => outside)).toBe(outside);
    expect(alive(outside)).toBe(true);
    outside.dispose();
  });

  it("frees on an exception, through every scope around", () => {
    const outside = ops.zeros([1]);
    expect(() =>
      scope(() => {
        ops.zeros([1]);
        scope(() => {
          ops.neg(outside);
          throw new Error("in the middle");
        });
      }),
    ).toThrow("in the middle");
    expect(liveTensors()).toBe(1);
    outside.dispose();
    const after = ops.zeros([1]); // the stack of scopes is in order again: this one belongs to none
    expect(alive(after)).toBe(true);
    after.dispose();
  });

  it("refuses an async body, and frees what it made", async () => {
    let body: Promise<void> | undefined;
    expect(() =>
      scope(() => {
        ops.zeros([1]);
        body = Promise.resolve();
        return body;
      }),
    ).toThrow("scope(): the body must be synchronous");
    await body;
    expect(liveTensors()).toBe(0);
  });

  it("is refused an async body without gradients too, which would run on with them", async () => {
    let body: Promise<void> | undefined;
    expect(() =>
      noGrad(() => {
        body = Promise.resolve();
        return body;
      }),
    ).toThrow("noGrad(): the body must be synchronous");
    await body;
  });

  it("takes a dispose inside it, twice even", () => {
    scope(() => {
      const x = ops.zeros([1]);
      x.dispose();
      x.dispose();
    });
    expect(liveTensors()).toBe(0);
  });
});

describe("keep", () => {
  it("takes a tensor out of all scopes", () => {
    let kept: Tensor | undefined;
    scope(() => {
      scope(() => {
        kept = keep(ops.zeros([1]));
        ops.zeros([2]);
      });
      expect(liveTensors()).toBe(1);
    });
    expect(alive(kept!)).toBe(true);
    kept!.dispose();
  });
});
