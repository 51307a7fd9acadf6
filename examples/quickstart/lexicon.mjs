/** The words that the pretraining text and the instruction dataset are made of. */
const words = (text) => text.trim().split(/\s+/);

export const names = words(`
  Anna Ben Clara David Elena Frank Greta Hugo Ines Jonas Karin Leo Maria Nils Olga Paul Rosa Simon Tara Victor
  Wanda Yusuf Zoe Amir Bella Carlos Dina Emil Fatima George Hannah Ivan Julia Kofi Laura Marco Nadia Oscar Priya
  Robin Sara Tom Uma Vera Walter Mia Noah Lily
`);

export const cities = words(`
  Oslo Rome Cairo Lima Paris Berlin Madrid Vienna Dublin Athens Delhi Tokyo Boston Denver Toronto Lagos Nairobi
  Sydney Warsaw Prague Lisbon Geneva Milan Zurich Munich Bergen Havana Dallas Austin Seattle Quito Hanoi Seoul
  Kyoto Porto Ghent
`);

export const colors = words("red blue green yellow black white brown grey pink purple orange golden");

/** [one, several] */
export const items = words(`
  lamp/lamps chair/chairs table/tables book/books pen/pens cup/cups plate/plates knife/knives fork/forks spoon/spoons
  bottle/bottles basket/baskets blanket/blankets pillow/pillows candle/candles clock/clocks mirror/mirrors
  carpet/carpets shirt/shirts jacket/jackets coat/coats hat/hats scarf/scarves glove/gloves shoe/shoes boot/boots
  belt/belts dress/dresses bag/bags box/boxes ring/rings watch/watches brush/brushes ball/balls kite/kites
  drum/drums guitar/guitars bicycle/bicycles helmet/helmets tent/tents rope/ropes bucket/buckets ladder/ladders
  shelf/shelves vase/vases umbrella/umbrellas phone/phones camera/cameras
`).map((pair) => pair.split("/"));

export const animals = words(`
  cat/cats dog/dogs horse/horses cow/cows fox/foxes hen/hens duck/ducks goat/goats sheep/sheep mouse/mice bear/bears
  wolf/wolves rabbit/rabbits owl/owls frog/frogs
`).map((pair) => pair.split("/"));

export const foods = words("bread soup rice cheese apples honey cake fish beans salad pasta tea milk coffee");
export const places = words("park market garden school station library harbour forest kitchen bridge museum river");
export const jobs = words("teacher baker doctor farmer painter singer driver writer nurse pilot cook tailor");
export const moods = words("happy tired glad sad proud hungry busy calm angry quiet");
export const weathers = words("sunny rainy windy cold warm foggy snowy cloudy");
export const days = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday");
export const months = words("January February March April May June July August September October November December");
export const sizes = words("small big old new heavy light clean broken pretty cheap");
export const labels = words("name city item count color day friend order box");
export const materials = words("wood glass paper silver cotton leather stone iron wool clay");

/** numberWords[n] is n as a word. */
export const numberWords = words(`
  zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
  eighteen nineteen twenty
`);

/** "one lamp", "three lamps", "3 lamps": the noun that fits a count. */
export const noun = ([one, several], count) => (count === 1 ? one : several);

/** "a" or "an" by the word's first letter. */
export const article = (word) => (/^[aeiou]/.test(word) && !word.startsWith("u") ? "an" : "a");

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
