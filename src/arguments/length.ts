import { field, group, integer, number } from "./field.js";

export const length = group(
  "Length of the run",
  "How long training goes on. Use epochs for a dataset that fits, max_steps for a fixed budget or a quick trial.",
  {
    num_train_epochs: field(number({ above: 0 }), {
      default: 3.0,
      fate: "honoured",
      help: "Passes over the training set. A fraction cuts the last pass short. Ignored when max_steps is above 0.",
    }),
    max_steps: field(integer({ min: -1 }), {
      default: -1,
      fate: "honoured",
      help: "Optimizer updates in total; overrides num_train_epochs and starts the data again as often as needed. -1 or 0: not set.",
    }),
  },
);
