"""Made-up statements with what they say as JSON: practice in copying words and numbers out of a sentence.

Words, names and phrases are drawn from the corpus itself, so that nearly any of its words can be asked for. The statements
tell of people, prices, trips and the like; none is a request, and none of the keys' sets is one of the instruction set's.
"""

import json
import random
import re
from collections import Counter

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
COUNTS = "two three four five six seven eight nine ten eleven twelve thirteen fifteen sixteen eighteen twenty thirty forty fifty sixty".split()
VALUES = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 18, 20, 30, 40, 50, 60]

# {key:type}; [ ] may be left out. The keys stand in the JSON in the order of a kind's first pattern.
KINDS = {
    "person": ["{name:name} is {age:num} years old[ and lives in {place:name}]", "at the age of {age:num}, {name:name} is the oldest[ in {place:name}]", "here is {name:name}, {age:num} years old[, from {place:name}]"],
    "price": ["the {thing:noun} costs {dollars:num} dollars[ in {shop:name}]", "{dollars:num} dollars is the price of the {thing:noun}[ in {shop:name}]", "you pay {dollars:num} dollars for the {thing:noun}[ in {shop:name}]"],
    "own": ["{owner:name} has {count:num} {things:noun}", "there are {count:num} {things:noun}, and they belong to {owner:name}", "{count:num} {things:noun} are owned by {owner:name}"],
    "said": ["{speaker:name} said: {words:phrase}", "{words:phrase}, said {speaker:name}", "we heard from {speaker:name} that {words:phrase}", "{speaker:name} thinks that {words:phrase}"],
    "opens": ["the {shop:noun} opens at {from:time}[ and closes at {to:time}]", "from {from:time}[ to {to:time}] the {shop:noun} is open", "at {from:time} people enter the {shop:noun}[ and they leave at {to:time}]"],
    "trip": ["{who:name} went from {from:name} to {to:name}[ on {day:day}]", "[on {day:day} ]{who:name} left {from:name} and came to {to:name}"],
    "bag": ["the bag holds {items:list}", "{items:list} are in the bag", "in the bag we found {items:list}"],
    "gift": ["{giver:name} gave {items:list} to {taker:name}", "{taker:name} got {items:list} from {giver:name}"],
    "color": ["the {thing:noun} of {owner:name} is {look:noun}", "{owner:name} has a {look:noun} {thing:noun}"],
    "score": ["{winner:name} beat {loser:name} by {points:num} points[ on {day:day}]", "{loser:name} lost to {winner:name} by {points:num} points[ on {day:day}]"],
    "born": ["{name:name} was born in {year:year}", "the birth of {name:name} was in {year:year}", "in {year:year} {name:name} came into the world"],
    "weight": ["one {thing:noun} weighs {grams:num} grams[ without the {part:noun}]", "the weight of a {thing:noun} is {grams:num} grams[ without the {part:noun}]"],
    "state": ["the {thing:noun} is {state:onoff}[ since {day:day}]", "[since {day:day} ]{state:onoff} is how we keep the {thing:noun}"],
    "job": ["{name:name} works as a {job:noun}[ for {boss:name}]", "[for {boss:name} ]{name:name} does the work of a {job:noun}"],
    "meet": ["{first:name} and {second:name} met at {time:time}[ on {day:day}]", "the two who met at {time:time}[ on {day:day}] are {first:name} and {second:name}"],
    "book": ["the book is called {title:phrase}[ and was written by {author:name}]", "[{author:name} wrote it: ]the title is {title:phrase}"],
    "share": ["{percent:num} percent of the {whole:noun} is {part:noun}", "{part:noun} makes up {percent:num} percent of the {whole:noun}"],
    "pairs": ["{left:phrase} means {right:phrase}", "{right:phrase} is what {left:phrase} means"],
}


class Words:
    """What the slots are filled with, counted out of the corpus."""

    def __init__(self, rows: list[tuple[str, str]], rng: random.Random):
        self.rng = rng
        nouns: Counter[str] = Counter()
        names: Counter[str] = Counter()
        self.phrases: list[str] = []
        for prompt, text in rows:
            whole = prompt + " " + text
            nouns.update(re.findall(r"\b(?:a|an|the|some|of|and) ([a-z]{3,})\b", whole))
            names.update(re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}", whole))
            words = re.findall(r"[A-Za-z']+", rng.choice(text.split("\n")))
            if len(words) > 6:
                start = rng.randrange(len(words) - 5)
                self.phrases.append(" ".join(words[start : start + rng.choice((2, 3, 4, 5))]).lower())
        self.nouns = [w for w, n in nouns.items() if n >= 15]
        self.names = [w for w, n in names.items() if n >= 8]

    def number(self, low: int, high: int) -> tuple[str, int]:
        if self.rng.random() < 0.3:
            i = self.rng.randrange(len(COUNTS))
            return COUNTS[i], VALUES[i]
        value = self.rng.choice((self.rng.randint(low, 99), self.rng.randint(low, 99), self.rng.randint(low, high)))
        return str(value), value

    def slot(self, kind: str) -> tuple[str, object]:
        """A value of the kind as it is said, and as JSON holds it."""
        rng = self.rng
        if kind == "num":
            return self.number(2, 999)
        if kind == "year":
            year = rng.randint(1200, 2030)
            return str(year), year
        if kind == "list":
            items = [(rng.choice(("", "a ", "")) + rng.choice(self.nouns)) for _ in range(rng.choice((1, 2, 2, 3)))]
            return (", ".join(items[:-1]) + " and " if len(items) > 1 else "") + items[-1], items
        if kind == "time":
            said = f"{rng.randint(1, 12)}:{rng.randrange(60):02d}" + rng.choice(("", " am", " pm"))
            return said, said
        said = {
            "name": lambda: rng.choice(self.names),
            "noun": lambda: rng.choice(self.nouns),
            "phrase": lambda: rng.choice(self.phrases),
            "day": lambda: rng.choice(DAYS),
            "onoff": lambda: rng.choice(("on", "off", "open", "closed", "full", "empty")),
        }[kind]()
        return said, said


def fact(words: Words) -> str:
    """One statement, a newline, and its JSON."""
    rng = words.rng
    kind = rng.choice(list(KINDS))
    keys = re.findall(r"\{(\w+):", KINDS[kind][0])
    pattern = re.sub(r"\[([^\]]*)\]", lambda m: m[1] if rng.random() < 0.5 else "", rng.choice(KINDS[kind]))
    values: dict[str, object] = {}

    def fill(match: re.Match[str]) -> str:
        said, values[match[1]] = words.slot(match[2])
        return said

    said = re.sub(r"\{(\w+):(\w+)\}", fill, pattern)
    said = rng.choice(("", "", "", "I know: ", "so ", "they say ", "well, ")) + said
    answer = {"kind": kind} | {k: values[k] for k in keys if k in values}
    return said[0].upper() + said[1:] + ".\n" + json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


def fact_documents(rows: list[tuple[str, str]], count: int, seed: int = 1) -> list[str]:
    """Documents of one to three facts, a line between them."""
    words = Words(rows, random.Random(seed))
    return ["\n".join(fact(words) for _ in range(words.rng.choice((1, 1, 2, 3)))) for _ in range(count)]
