/**
 * The grammars of the pretraining text: short documents of simple English in which names, things, numbers and places
 * are mentioned and come again, so that a model that predicts the next word has to learn to look back and copy.
 * No document turns a sentence into the JSON record of the instruction dataset.
 */
import {
  animals,
  article,
  capital,
  cities,
  colors,
  days,
  foods,
  items,
  jobs,
  labels,
  materials,
  months,
  moods,
  names,
  noun,
  numberWords,
  places,
  sizes,
  weathers,
} from "./lexicon.mjs";

const sentence = (parts) => parts.filter(Boolean).join(" ");
const listed = (parts) => (parts.length === 1 ? parts[0] : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`);

/** A count, sometimes as a word and sometimes as a number. */
const written = (random, count) => (random.chance(0.5) ? numberWords[count] : String(count));

/** A thing with a number and a colour: { count, color, item, phrase: "three red lamps" }. */
function goods(random) {
  const count = random.int(1, 12);
  const color = random.pick(colors);
  const item = random.pick(items);
  return { count, color, item, phrase: `${written(random, count)} ${color} ${noun(item, count)}` };
}

/** Any word of the lexicon that can stand alone in a list. */
function anyWord(random) {
  return random.pick(
    random.pick([
      names,
      names,
      cities,
      cities,
      colors,
      days,
      labels,
      items.map(([one]) => one),
      items.map((pair) => pair[1]),
      numberWords.slice(1, 13),
      numberWords.slice(1, 13).map((_, i) => String(i + 1)),
    ]),
  );
}

function story(random) {
  const [hero, friend] = random.sample(names, 2);
  const city = random.pick(cities);
  const place = random.pick(places);
  const [kind, kinds] = random.pick(animals);
  const job = random.pick(jobs);
  const thing = random.pick(items);
  const color = random.pick(colors);
  const mood = random.pick(moods);
  const opening = random.pick([
    `${hero} is ${article(job)} ${job} from ${city}.`,
    `Once there was ${article(job)} ${job} named ${hero} who lived in the city of ${city}.`,
    `In ${city} lived ${article(job)} ${job}. The name of the ${job} was ${hero}.`,
    `My friend ${hero} works in ${city} as ${article(job)} ${job}.`,
  ]);
  const middle = random.sample(
    [
      `One ${random.pick(days)} ${hero} went to the ${place} and found ${article(color)} ${color} ${thing[0]}.`,
      `${hero} has ${article(kind)} ${kind}. The ${kind} sleeps in the ${place}.`,
      `It was ${article(random.pick(weathers))} ${random.pick(weathers)} day and ${hero} was ${mood}.`,
      `${friend} came to see ${hero} and brought ${random.pick(foods)} for the ${kind}.`,
      `${friend} asked ${hero} about the ${color} ${thing[0]}.`,
      `All the ${kinds} near the ${place} know ${hero}.`,
    ],
    random.int(2, 4),
  );
  const ending = random.pick([
    `${friend} said, "${hero}, this ${thing[0]} is ${color}!" ${hero} was ${mood}.`,
    `"Where is my ${color} ${thing[0]}?" said ${hero}. "In the ${place}," said ${friend}.`,
    `At last ${friend} took the ${thing[0]} home to ${city}, and ${hero} was ${mood} again.`,
    `So ${hero} and ${friend} stayed in ${city} with the ${kind}.`,
  ]);
  return [opening, ...middle, ending].join(" ");
}

function dialogue(random) {
  const [a, b] = random.sample(names, 2);
  const thing = goods(random);
  const day = random.pick(days);
  const city = random.pick(cities);
  const lines = random.pick([
    [
      [a, `I need ${thing.phrase}.`],
      [b, `${capital(thing.phrase)}? When?`],
      [a, `On ${day}, in ${city}.`],
      [b, `Good. ${capital(thing.phrase)}, on ${day}, in ${city}.`],
    ],
    [
      [a, `Hello, ${b}! Where are you?`],
      [b, `Hello, ${a}! I am in ${city} until ${day}.`],
      [a, `What do you do in ${city}?`],
      [b, `I look for ${thing.phrase}.`],
    ],
    [
      [a, `How many ${thing.item[1]} do you have, ${b}?`],
      [b, `I have ${written(random, thing.count)}.`],
      [a, `Are they ${thing.color}?`],
      [b, `Yes, ${a}, ${thing.color} as can be.`],
    ],
  ]);
  return lines.map(([who, line]) => `${who}: ${line}`).join("\n");
}

function letter(random) {
  const [to, from, other] = random.sample(names, 3);
  const city = random.pick(cities);
  const day = random.pick(days);
  const thing = goods(random);
  const body = random.sample(
    [
      `I am in ${city} now and the weather is ${random.pick(weathers)}.`,
      `${other} sends you ${thing.phrase}.`,
      `I will come home on ${day}.`,
      `Please tell ${other} that I found the ${thing.color} ${thing.item[0]}.`,
      `Thank you for the ${random.pick(foods)}, ${to}.`,
      `On ${day} I met ${other} at the ${random.pick(places)}.`,
    ],
    random.int(2, 4),
  );
  const after = random.chance(0.4) ? `\nP.S. ${other} is in ${city} too.` : "";
  return `Dear ${to},\n${body.join(" ")}\nYours, ${from}${after}`;
}

/** A few facts, then questions whose answers stand in them. */
function questions(random) {
  const [who, other] = random.sample(names, 2);
  const city = random.pick(cities);
  const thing = goods(random);
  const facts = random.pick([
    `${who} in ${city} has ${thing.phrase}.`,
    `${who} bought ${thing.phrase} in ${city}.`,
    `There were ${thing.phrase} in ${city}, and ${who} took all of them.`,
    `${who} went to ${city}. There ${who} saw ${thing.phrase}.`,
    `${who} and ${other} met in ${city}. ${other} gave ${who} ${thing.phrase}.`,
    `In ${city} you can see ${thing.phrase} and the house of ${who}.`,
    `${capital(thing.phrase)} went to ${city}. ${who} sent all this.`,
    `I am ${who}. I came to ${city} with ${thing.phrase}.`,
    `Give ${who} ${thing.phrase}, please. The city is ${city}.`,
  ]);
  const asked = random.sample(
    [
      [["Who has them now?", "Whose are they?", "Who?", "What is the name?"], who],
      [["Which city is it?", "Where?", "What is the city?"], city],
      [["How many are there?", "What is the count?", "How many?"], String(thing.count)],
      [["What color are they?", "Which color is it?", "Color?"], thing.color],
      [["Which item is it?", "What is one of them called?", "Item?"], thing.item[0]],
    ],
    random.int(2, 5),
  );
  const quote = random.pick([
    (answer) => ` ${answer}`,
    (answer) => ` "${answer}"`,
    (answer) => ` (${answer})`,
    (answer) => ` It is ${answer}.`,
    (answer) => `\n${answer}`,
  ]);
  return `${facts}\n${asked.map(([forms, answer]) => random.pick(forms) + quote(answer)).join("\n")}`;
}

/** "name: Anna" cards, told again as a sentence. */
function card(random) {
  const who = random.pick(names);
  const fields = random.sample(
    [
      ["job", random.pick(jobs)],
      ["home", random.pick(cities)],
      ["born", `${random.pick(months)} ${random.int(1, 20)}`],
      ["mood", random.pick(moods)],
      ["animal", random.pick(animals)[0]],
      ["likes", random.pick(foods)],
      ["age", String(random.int(5, 20))],
    ],
    random.int(3, 5),
  );
  const lines = fields.map(([key, value]) => `${key}: ${value}`);
  const [key, value] = random.pick(fields);
  return `name: ${who}\n${lines.join("\n")}\n${random.pick([
    `The ${key} of ${who} is ${value}.`,
    `${who} has "${value}" in the line "${key}".`,
  ])}`;
}

/** Words said again in another dress: the plainest form of copying. */
function echo(random) {
  const said = Array.from({ length: random.int(2, 8) }, () => anyWord(random));
  const tight = random.pick([
    () => `["${said.join('","')}"]`,
    () => `(${said.join("/")})`,
    () => `<${said.join("><")}>`,
    () => `{${said.join(",")}}`,
    () => `"${said.join('" "')}"`,
    () => `#${said.join(" #")}`,
    () => `[${said.join("][")}]`,
  ])();
  const loose = random.pick([said.join(", "), said.join(" "), listed(said), said.join(" - ")]);
  const label = random.pick(["Words", "Say", "Read", "List", "Names and things"]);
  const again = random.pick(["Again", "Once more", "JSON", "The same", "Written"]);
  if (random.chance(0.4)) return `${label}: ${said.join(" ")}. ${again}: ${said.join(" ")}.`;
  return random.chance(0.75) ? `${label}: ${loose}. ${again}: ${tight}` : `${label}: ${tight} ${again}: ${loose}.`;
}

/**
 * One word, said twice. There is nothing else to look at, so copying is learned here within some hundred updates. A
 * model that starts with the longer documents learns their form first, and stays long at guessing every name in them.
 */
function tiny(random) {
  const word = anyWord(random);
  return random.pick([
    `${word}: ${word}`,
    `${word}? "${word}"`,
    `"${word}" is ${word}.`,
    `Say ${word}. ${word}`,
    `(${word}) ${word}`,
    `I said ${word}, and you said ${word}.`,
    `The word is ${word}. Again: "${word}"`,
    `<${word}> ${word}`,
  ]);
}

function plurals(random) {
  return random
    .sample([...items, ...animals], random.int(2, 4))
    .map(([one, several]) => {
      const count = random.int(2, 12);
      return random.pick([
        `One ${one}, ${numberWords[count]} ${several}.`,
        `${capital(several)}: more than one ${one}.`,
        `"${several}" is many, "${one}" is one.`,
        `${one}/${several}`,
      ]);
    })
    .join(random.pick([" ", "\n"]));
}

/** Dictionary entries in braces: a kind of JSON, but about words and not about sentences. */
function dictionary(random) {
  return random
    .sample([...items, ...animals], random.int(1, 3))
    .map(([one, several]) =>
      random.pick([
        `{"word":"${one}","many":"${several}"}`,
        `{"${one}":"${random.pick(colors)}","${random.pick(animals)[0]}":"${random.pick(colors)}"}`,
        `{"${one}":${random.int(1, 12)},"${random.pick(animals)[0]}":${random.int(1, 12)}}`,
        `{"a":${random.int(1, 12)},"b":"${random.pick(names)}","c":"${random.pick(cities)}"}`,
      ]),
    )
    .join("\n");
}

function numbers(random) {
  const count = random.int(1, 8);
  const more = random.int(1, 12);
  const [one, several] = random.pick(items);
  return random.pick([
    `${capital(numberWords[count])} is ${count}. ${capital(numberWords[more])} is ${more}.`,
    `${capital(numberWords[count])} and ${numberWords[more]} make ${numberWords[count + more]}.`,
    `${count} + ${more} = ${count + more}`,
    `${count} ${noun([one, several], count)}: that is ${numberWords[count]} ${noun([one, several], count)}.`,
    `Count: ${Array.from({ length: 5 }, (_, i) => count + i).join(", ")}.`,
    `A pair of ${several} is 2 ${several}. A dozen ${several} is 12 ${several}.`,
  ]);
}

function calendar(random) {
  const i = random.int(0, 6);
  const j = random.int(0, 11);
  return random.pick([
    `After ${days[i]} comes ${days[(i + 1) % 7]}, and after ${days[(i + 1) % 7]} comes ${days[(i + 2) % 7]}.`,
    `After ${months[j]} comes ${months[(j + 1) % 12]}. Before ${months[j]} comes ${months[(j + 11) % 12]}.`,
    `The days are ${listed(days)}.`,
  ]);
}

function describe(random) {
  const [one, several] = random.pick(items);
  const color = random.pick(colors);
  const size = random.pick(sizes);
  const material = random.pick(materials);
  const city = random.pick(cities);
  return sentence([
    `The ${one} is ${size} and ${color}.`,
    random.pick([
      `It is made of ${material}.`,
      `${capital(several)} of ${material} come from ${city}.`,
      `A ${size} ${one} is better than no ${one}.`,
    ]),
    random.chance(0.5) && `In ${city} people like ${color} ${several}.`,
  ]);
}

/** Notes of the kind that shops and friends write, with what was said repeated in a second sentence. */
function note(random) {
  const [who, other] = random.sample(names, 2);
  const city = random.pick(cities);
  const day = random.pick(days);
  const thing = goods(random);
  const first = random.pick([
    `Please send ${thing.phrase} to ${who} in ${city}.`,
    `${who} from ${city} would like ${thing.phrase}.`,
    `Bring ${thing.phrase} to ${city} on ${day}, says ${who}.`,
    `The order of ${who} is ${thing.phrase}, to be sent to ${city}.`,
    `${other} took ${thing.phrase} to ${who} in ${city}.`,
  ]);
  const second = random.pick([
    `${who} waits in ${city} for the ${thing.item[1]}.`,
    `The ${thing.item[0]} must be ${thing.color}, said ${who}.`,
    `We packed ${thing.phrase} for ${who}.`,
    `The box says: "${who}, ${city}".`,
    `On the paper: ${who} / ${city} / ${thing.count} / ${thing.color} / ${thing.item[0]}.`,
  ]);
  return `${first} ${second}`;
}

/** [grammar, how often] */
const grammars = [
  [questions, 36],
  [echo, 20],
  [note, 7],
  [story, 5],
  [dialogue, 5],
  [letter, 4],
  [card, 4],
  [plurals, 3],
  [dictionary, 3],
  [numbers, 3],
  [describe, 3],
  [calendar, 1],
];
const bag = grammars.flatMap(([grammar, weight]) => Array(weight).fill(grammar));

/**
 * One document of the pretraining text.
 * @param progress how much of the text is written, from 0 to 1: it starts with single words said twice, and the longer
 *   documents come in little by little
 */
export function pretrainingDocument(random, progress) {
  const easy = Math.min(1, Math.max(0.15, 1.5 - 3 * progress));
  return random.chance(easy) ? tiny(random) : random.pick(bag)(random);
}
