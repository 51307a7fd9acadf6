import { boolean, field, group, number, oneOf, orNull } from "./field.js";

export const loss = group(
  "Loss",
  "Which tokens teach the model, and how. With prompt/completion data only the completion counts unless you say otherwise.",
  {
    completion_only_loss: field(orNull(boolean()), {
      default: null,
      fate: "honoured",
      help: "Compute the loss on the completion only. null: yes for prompt/completion data, the whole text otherwise.",
    }),
    assistant_only_loss: field(boolean(), {
      default: false,
      fate: "honoured",
      help: "Compute the loss on the assistant's turns only; needs conversations and a chat template that marks these turns.",
    }),
    loss_type: field(orNull(oneOf(["nll", "dft", "chunked_nll"])), {
      default: null,
      fate: "no-effect",
      why: "nll and chunked_nll are the same mathematics, and slimtune chooses the way to compute it",
      refuse: (value) => (value === "dft" ? "not built yet; remove it to train with the usual loss" : undefined),
      help: "TRL's choice of loss: the cross-entropy at once (nll), in pieces (chunked_nll), or dynamic fine-tuning (dft).",
    }),
    label_smoothing_factor: field(number({ min: 0, max: 1 }), {
      default: 0.0,
      fate: "honoured",
      help: "Share of the target spread evenly over the vocabulary, against overconfidence: 0.1 is usual. The loss that is logged includes it and is higher for that.",
    }),
    neftune_noise_alpha: field(orNull(number({ min: 0, max: 1e6 })), {
      default: null,
      fate: "honoured",
      help: "Strength of the noise that NEFTune adds to the embeddings while training: 5 is usual. It may help chat models on small datasets; the training loss rises a little.",
    }),
  },
);
