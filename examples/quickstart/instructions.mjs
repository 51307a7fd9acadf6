/**
 * The instruction task: read an order written as a free sentence and write it down as compact JSON.
 * The model has to find the five values wherever they stand, turn number words into numbers and plurals into
 * singulars, and drop everything else.
 */
import { article, capital, cities, colors, items, names, noun, numberWords } from "./lexicon.mjs";

/** How an amount of things can be said: "three red lamps", "3 red lamps", "a pair of red lamps", "a red lamp". */
function amounts({ count, color, item }) {
  const things = `${color} ${noun(item, count)}`;
  const said = [`${numberWords[count]} ${things}`, `${count} ${things}`];
  if (count === 1) said.push(`${article(color)} ${things}`);
  if (count === 2) said.push(`a pair of ${things}`);
  if (count === 12) said.push(`a dozen ${things}`);
  return said;
}

/** [name, city, goods] => sentence. */
const phrasings = [
  (n, c, g) => `Please send ${g} to ${n} in ${c}.`,
  (n, c, g) => `${n} from ${c} would like ${g}.`,
  (n, c, g) => `${capital(g)} for ${n} in ${c}, please.`,
  (n, c, g) => `I need ${g} in ${c}. My name is ${n}.`,
  (n, c, g) => `My name is ${n} and I want ${g} sent to ${c}.`,
  (n, c, g) => `Hello, this is ${n} from ${c}. Can I have ${g}?`,
  (n, c, g) => `Could you bring ${g} to ${c} for ${n}?`,
  (n, c, g) => `${n} in ${c} is waiting for ${g}.`,
  (n, c, g) => `In ${c}, ${n} asked for ${g}.`,
  (n, c, g) => `We sold ${g} to ${n} in ${c}.`,
  (n, c, g) => `There is an order from ${c}: ${g} for ${n}.`,
  (n, c, g) => `Send ${g} to ${c}. It is all for ${n}.`,
  (n, c, g) => `${n} lives in ${c} and ordered ${g}.`,
  (n, c, g) => `From ${c}, ${n} writes: I want ${g}.`,
  (n, c, g) => `Take ${g} to ${n}, who lives in ${c}.`,
  (n, c, g) => `To ${c}, for ${n}: ${g}.`,
  (n, c, g) => `${n} wants ${g}. The city is ${c}.`,
  (n, c, g) => `A box with ${g} goes to ${n} in ${c}.`,
  (n, c, g) => `${n} called from ${c} about ${g}.`,
  (n, c, g) => `Our friend ${n} in ${c} bought ${g}.`,
  (n, c, g) => `The order of ${n} is ${g}, to be sent to ${c}.`,
  (n, c, g) => `Is it possible to send ${g} to ${c}? Thank you, ${n}.`,
  (n, c, g) => `Pack ${g}. ${n} will fetch the box in ${c}.`,
  (n, c, g) => `For ${n}: ${g}, and the city is ${c}.`,
];
const openings = ["Good morning!", "Hello!", "Good day.", "New order.", "One more thing."];
const closings = ["Thank you!", "It is for a friend.", "Please be quick.", "There is no hurry.", "See you soon."];

/** The answer as the dataset has it: compact JSON, keys always in this order. */
const answer = ({ name, city, item, count, color }) => JSON.stringify({ name, city, item: item[0], count, color });

/** One example: { prompt, completion }. The completion starts with a space, as a word after "JSON:" does. */
export function instruction(random) {
  const order = {
    name: random.pick(names),
    city: random.pick(cities),
    item: random.pick(items),
    count: random.int(1, 12),
    color: random.pick(colors),
  };
  const goods = random.pick(amounts(order));
  const body = random.pick(phrasings)(order.name, order.city, goods);
  const extra = random.next();
  const text =
    extra < 0.15 ? `${random.pick(openings)} ${body}` : extra < 0.3 ? `${body} ${random.pick(closings)}` : body;
  return { prompt: `${text} JSON:`, completion: ` ${answer(order)}` };
}
