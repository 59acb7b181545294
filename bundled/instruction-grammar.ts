/**
 * What people ask a house for, and the JSON command each request stands for.
 *
 * A recipe draws the slots of one command and a phrasing for it. Values that stand in the request word for word (rooms, names,
 * things, free text) are copied; numbers said in words become digits; clock times become digits with am or pm.
 */

/** Source of random choices, so that one seed gives one data set. */
export interface Draw {
  /** Whole number from `low` to `high`, both possible. */
  int(low: number, high: number): number;
  /** One of the values, all equally likely. */
  pick<T>(values: readonly T[]): T;
  /** True with the given probability. */
  chance(probability: number): boolean;
}

/** The value of one field of a command. */
export type Value = string | number | readonly string[];

/** A command as JSON: `do` names the action, the other fields are its slots. */
export type Command = { readonly do: string } & { readonly [slot: string]: Value };

/** A bare request in the imperative or as a question, without politeness and without a final mark. */
export interface Request {
  readonly words: string;
  readonly question?: boolean;
  readonly command: Command;
}

const ROOMS = ['kitchen', 'bedroom', 'living room', 'bathroom', 'office', 'hall', 'garage', 'dining room', 'guest room', 'garden'];
const NAMES = [
  'Anna', 'Omar', 'Ivan', 'Sam', 'Nadia', 'Daniel', 'Maria', 'Tom', 'Lucy', 'Peter', 'Emma', 'Jack', 'Sara', 'Leo', 'Mia', 'Ben', 'Grace', 'David',
  'Rosa', 'Mark', 'Alice', 'James', 'Nina', 'Paul', 'Julia', 'Adam', 'Mr. Brown', 'Mrs. Green', 'Dr. White', 'Mom', 'Dad', 'Grandma',
];
const CITIES = ['Paris', 'London', 'Rome', 'Madrid', 'Berlin', 'Boston', 'Chicago', 'Tokyo', 'Cairo', 'Sydney', 'Toronto', 'Lisbon', 'Dublin', 'Oslo'];
const DAYS = ['Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'];
const FOOD = [
  'apples', 'bread', 'milk', 'eggs', 'butter', 'rice', 'cheese', 'tomatoes', 'coffee', 'tea', 'sugar', 'onions', 'carrots', 'chicken', 'fish', 'soap',
  'paper', 'oranges', 'flour', 'salt', 'honey', 'pasta', 'water', 'juice', 'potatoes', 'lemons', 'beans', 'olive oil', 'orange juice', 'dog food',
];
const GEAR = ['a tent', 'a map', 'warm socks', 'a towel', 'sunglasses', 'a book', 'a camera', 'boots', 'a hat', 'batteries', 'a blanket', 'a coat'];
const MUSIC = [
  'jazz', 'rock', 'pop', 'country music', 'classical music', 'piano music', 'the news', 'folk songs', 'quiet music', 'dance music', 'the radio',
  'rain sounds', 'love songs', 'old songs', 'guitar music', 'bird sounds',
];
const DISHES = ['the pasta', 'the cake', 'the eggs', 'the rice', 'the soup', 'the tea', 'the bread', 'the fish', 'the laundry', 'the pizza', 'my nap', 'the chicken'];
const DOORS = ['front', 'back', 'garage', 'side', 'cellar', 'balcony'];
const TASKS = [
  ['call', ['the dentist', 'the bank', 'my sister', 'the doctor', 'the school', 'my boss', 'the landlord']],
  ['buy', ['a gift', 'new shoes', 'stamps', 'flowers', 'train tickets', 'a birthday card', 'cat food']],
  ['water', ['the plants', 'the garden', 'the roses', 'the flowers']],
  ['feed', ['the cat', 'the dog', 'the fish', 'the birds']],
  ['clean', ['the car', 'the windows', 'the oven', 'my room', 'the fridge']],
  ['pay', ['the rent', 'the bill', 'the taxes', 'the plumber']],
  ['take', ['my medicine', 'the trash out', 'a break', 'the bus', 'the dog for a walk']],
  ['finish', ['my homework', 'the report', 'the letter', 'the book']],
] as const;
const NEWS_SUBJECTS = ['dinner', 'lunch', 'the meeting', 'the train', 'the party', 'the show', 'the game', 'the bus', 'the movie', 'the lesson', 'the concert', 'breakfast'];
const NEWS_STATES = ['is ready', 'is late', 'was great', 'starts at noon', 'starts soon', 'will be on time', 'is over', 'was too long', 'is at six'];
const NEWS_FIRST = [
  'I will be late', 'I am on my way', 'I am at home', 'I need help', 'I lost my keys', 'I found the keys', 'I will call back later', 'I cannot come today',
  'I miss the old house', 'I am at the station', 'I will bring the cake', 'I forgot my coat', 'we won the game', 'we are at the park', 'we need more milk',
];
const NUMBER_WORDS: readonly (readonly [string, number])[] = [
  ['two', 2], ['three', 3], ['four', 4], ['five', 5], ['six', 6], ['seven', 7], ['eight', 8], ['nine', 9], ['ten', 10], ['twelve', 12], ['fifteen', 15],
  ['twenty', 20], ['thirty', 30], ['forty', 40],
];
const HOURS = ['twelve', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten', 'eleven'];

/** A length of time as it is said, and in minutes. */
function duration(draw: Draw): [string, number] {
  const form = draw.int(0, 9);
  if (form < 4) {
    const minutes = draw.int(2, 59);
    return [`${minutes} minutes`, minutes];
  }
  if (form < 7) {
    const [word, minutes] = draw.pick(NUMBER_WORDS);
    return [`${word} minutes`, minutes];
  }
  return draw.pick([['half an hour', 30], ['an hour', 60], ['a quarter of an hour', 15], ['one minute', 1], ['two hours', 120]] as [string, number][]);
}

/** A time of day as it is said, and as digits with am or pm (`7 pm`, `6:45 am`). */
function clock(draw: Draw): [string, string] {
  const hour = draw.int(1, 11);
  const evening = draw.chance(0.5);
  const minute = draw.pick([0, 0, 15, 30, 30, 45, draw.int(1, 11) * 5]);
  const half = evening ? 'pm' : 'am';
  const inWords = evening ? (hour < 6 ? 'in the afternoon' : 'in the evening') : 'in the morning';
  const digits = minute === 0 ? `${hour}` : `${hour}:${`${minute}`.padStart(2, '0')}`;
  const exact = `${digits} ${half}`;
  if (draw.chance(0.7)) return [exact, exact];
  if (minute === 30 && draw.chance(0.5)) return [`half past ${HOURS[hour]} ${inWords}`, exact];
  return [minute === 0 && draw.chance(0.5) ? `${HOURS[hour]} ${inWords}` : `${digits} ${inWords}`, exact];
}

/** One to three different values. */
function several(draw: Draw, values: readonly string[]): string[] {
  const chosen: string[] = [];
  const count = draw.pick([1, 1, 2, 2, 3]);
  while (chosen.length < count) {
    const value = draw.pick(values);
    if (!chosen.includes(value)) chosen.push(value);
  }
  return chosen;
}

/** `a`, `a and b`, `a, b and c`. */
function spoken(values: readonly string[]): string {
  return values.length < 2 ? values.join('') : `${values.slice(0, -1).join(', ')} and ${values[values.length - 1]}`;
}

function timer(draw: Draw): Request {
  const [said, minutes] = duration(draw);
  if (draw.chance(0.45)) {
    const dish = draw.pick(DISHES);
    const words = draw.pick([`set a timer for ${said} for ${dish}`, `start a timer for ${dish}, ${said}`, `time ${dish} for ${said}`, `count down ${said} for ${dish}`]);
    return { words, command: { do: 'timer', minutes, for: dish.replace(/^(the|my) /, '') } };
  }
  const words = draw.pick([`set a timer for ${said}`, `start a timer for ${said}`, `count down ${said}`, `give me ${said} on the clock`, `tell me when ${said} have passed`]);
  return { words: words.replace(/(an hour|one minute) have/, '$1 has'), command: { do: 'timer', minutes } };
}

function alarm(draw: Draw): Request {
  const [said, time] = clock(draw);
  const day = draw.chance(0.6) ? draw.pick([...DAYS, 'tomorrow', 'tomorrow']) : undefined;
  const when = day === undefined ? '' : day === 'tomorrow' ? ' tomorrow' : ` on ${day}`;
  const words = draw.pick([`wake me at ${said}${when}`, `set an alarm for ${said}${when}`, `wake me up${when} at ${said}`, `get me out of bed at ${said}${when}`, `I have to be up at ${said}${when}`]);
  return { words, command: { do: 'alarm', time, ...(day === undefined ? {} : { day }) } };
}

function light(draw: Draw): Request {
  const room = draw.pick(ROOMS);
  const lamp = draw.pick(['lights', 'lights', 'light', 'lamp']);
  const form = draw.int(0, 2);
  if (form === 0) {
    const level = draw.int(1, 19) * 5;
    const words = draw.pick([`dim the ${room} ${lamp} to ${level} percent`, `set the ${lamp} in the ${room} to ${level} percent`, `make the ${room} ${lamp} ${level} percent bright`, `put the ${room} ${lamp} at ${level} percent`]);
    return { words, command: { do: 'light', room, set: level } };
  }
  const set = form === 1 ? 'on' : 'off';
  const extra = set === 'on' ? [`light up the ${room}`, `it is too dark in the ${room}`] : [`make the ${room} dark`, `it is too bright in the ${room}`];
  const words = draw.pick([`turn ${set} the ${room} ${lamp}`, `switch the ${room} ${lamp} ${set}`, `turn the ${lamp} in the ${room} ${set}`, `switch ${set} the ${lamp} in the ${room}`, ...extra]);
  return { words, command: { do: 'light', room, set } };
}

function heat(draw: Draw): Request {
  const room = draw.pick(ROOMS.filter((r) => r !== 'garden'));
  const degrees = draw.int(14, 27);
  const words = draw.pick([`set the ${room} to ${degrees} degrees`, `make it ${degrees} degrees in the ${room}`, `heat the ${room} to ${degrees} degrees`, `I want ${degrees} degrees in the ${room}`, `bring the ${room} up to ${degrees} degrees`, `the ${room} should be at ${degrees} degrees`]);
  return { words, command: { do: 'heat', room, degrees } };
}

function play(draw: Draw): Request {
  const what = draw.pick(MUSIC);
  const some = what.startsWith('the ') ? what : draw.pick([what, `some ${what}`]);
  const room = draw.chance(0.55) ? draw.pick(ROOMS) : undefined;
  const where = room === undefined ? '' : ` in the ${room}`;
  const words = draw.pick([`play ${some}${where}`, `put on ${some}${where}`, `I want to hear ${some}${where}`, `let me listen to ${some}${where}`, `start ${some}${where}`]);
  return { words, command: { do: 'play', what, ...(room === undefined ? {} : { room }) } };
}

function add(draw: Draw): Request {
  const list = draw.pick(['shopping', 'shopping', 'travel']);
  const items = several(draw, list === 'shopping' ? FOOD : GEAR);
  const them = spoken(items);
  const words = draw.pick([`add ${them} to my ${list} list`, `put ${them} on the ${list} list`, `the ${list} list needs ${them}`, `write ${them} on my ${list} list`, `add to the ${list} list ${them}`]);
  return { words, command: { do: 'add', list, items } };
}

function remind(draw: Draw): Request {
  const [verb, objects] = draw.pick(TASKS);
  const what = `${verb} ${draw.pick(objects)}`;
  const [said, time] = clock(draw);
  const words = draw.pick([`remind me to ${what} at ${said}`, `at ${said} remind me to ${what}`, `do not let me forget to ${what} at ${said}`, `I must ${what} at ${said}, remind me`, `tell me at ${said} to ${what}`]);
  return { words, command: { do: 'remind', what, time } };
}

function message(draw: Draw): Request {
  const to = draw.pick(NAMES);
  const text = draw.chance(0.4) ? draw.pick(NEWS_FIRST) : `${draw.pick(NEWS_SUBJECTS)} ${draw.pick(NEWS_STATES)}`;
  const words = draw.pick([`tell ${to} that ${text}`, `send ${to} a message that ${text}`, `text ${to} that ${text}`, `let ${to} know that ${text}`, `write to ${to} that ${text}`, `message ${to}: ${text}`]);
  return { words, command: { do: 'message', to, text } };
}

function call(draw: Draw): Request {
  const who = draw.pick(NAMES);
  const words = draw.pick([`call ${who}`, `phone ${who}`, `ring ${who}`, `get ${who} on the phone`, `I need to talk to ${who}`, `give ${who} a call`]);
  return { words, command: { do: 'call', who } };
}

function weather(draw: Draw): Request {
  const city = draw.pick(CITIES);
  const day = draw.pick(['today', 'tomorrow', ...DAYS.slice(0, 7)]);
  const when = DAYS.includes(day) ? `on ${day}` : day;
  const words = draw.pick([`will it rain in ${city} ${when}`, `how is the weather in ${city} ${when}`, `do I need a coat in ${city} ${when}`, `is it going to be sunny in ${city} ${when}`, `what will the weather be like ${when} in ${city}`, `how cold will it be in ${city} ${when}`]);
  return { words, question: true, command: { do: 'weather', city, day } };
}

function lock(draw: Draw): Request {
  const door = draw.pick(DOORS);
  if (draw.chance(0.5)) return { words: draw.pick([`lock the ${door} door`, `close and lock the ${door} door`, `make sure the ${door} door is locked`]), command: { do: 'lock', door } };
  return { words: draw.pick([`unlock the ${door} door`, `open the lock of the ${door} door`, `let my friend in at the ${door} door`]), command: { do: 'unlock', door } };
}

/** Every kind of request, the commoner ones more than once. */
export const RECIPES: readonly ((draw: Draw) => Request)[] = [timer, timer, timer, alarm, light, light, heat, play, add, add, remind, remind, message, message, call, weather, lock];
