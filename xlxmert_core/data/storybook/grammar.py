"""The words of Storybook and what they mean: the one table that captions are made from and read back by.

As people write, but without capitals and punctuation, which :mod:`xlxmert_core.data.spelling` takes off every text. A
sentence lists things, each with a number, a size, a colour and a kind; it may say where two or three of them stand, in
which landscape, and tell a colour or a size afterwards. ``FORM`` is its grammar.
"""

import re

PLURALS = {
    "house": "houses", "tree": "trees", "car": "cars", "boat": "boats", "flower": "flowers", "mushroom": "mushrooms",
    "ball": "balls", "cup": "cups", "star": "stars", "balloon": "balloons", "kite": "kites", "bird": "birds",
}  # fmt: skip
KIND_OF = {**{kind: kind for kind in PLURALS}, **{many: kind for kind, many in PLURALS.items()}}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
SIZES = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
SIZE_OF = {word: size for size, words in SIZES.items() for word in words}
NUMBERS = {1: ("one", "1"), 2: ("two", "2"), 3: ("three", "3")}
NUMBER_OF = {"a": 1, "an": 1} | {word: n for n, words in NUMBERS.items() for word in words}
# Said of a thing, and telling nothing.
IDLE = ("nice", "pretty", "lovely", "beautiful", "funny", "cute", "sweet", "old", "new")
POLITE = ("please", "thanks")  # at either end

PLACES = {
    "grass": ("on the grass", "in the grass", "in the meadow", "on a meadow", "in a field", "in the field",
              "in the garden", "in a garden", "in the park", "on the lawn", "in the countryside"),
    "sand": ("on the sand", "in the sand", "on the beach", "at the beach", "on a beach", "on a sandy beach",
             "in the dunes"),
    "snow": ("in the snow", "on the snow", "in winter", "in the winter", "on a winter day", "on a snowy day",
             "on the ice"),
    "night": ("at night", "at night time", "in the night", "by night", "in the dark", "in the moonlight",
              "late in the evening", "at midnight", "after sunset", "it is night"),
    "water": ("by the water", "in the water", "on the water", "in the sea", "on the sea", "by the sea", "at sea",
              "on the lake", "by the lake", "on a lake", "on the ocean", "in the ocean", "in the waves"),
}  # fmt: skip
RELATIONS = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "underneath", "beneath"),
    "next to": ("next to", "beside", "near", "by", "close to", "alongside"),
}
BETWEEN = ("between", "in between")
TOGETHER = ("next to each other", "side by side")  # "a house and a tree side by side"
VERBS = {"is": "are", "stands": "stand", "sits": "sit", "lies": "lie", "floats": "float", "waits": "wait",
         "is standing": "are standing", "is sitting": "are sitting"}  # fmt: skip
WHO = {"": "", "that is": "that are", "which is": "which are"}  # "a house that is left of a tree"
ONE, MANY = ("it",), ("them", "they")  # pronouns
OPENINGS = {  # with one thing, and with several
    "there is": "there are", "here is": "here are", "we see": "we see", "i see": "i see", "you can see": "you can see",
    "a picture of": "a picture of", "this is a picture of": "this is a picture of", "a picture with": "a picture with",
    "the picture shows": "the picture shows", "paint": "paint", "draw": "draw", "show me": "show me",
    "make a picture of": "make a picture of", "can you paint": "can you paint", "could you draw": "could you draw",
    "give me": "give me", "create": "create", "i would like": "i would like", "imagine": "imagine",
    "look at": "look at",
}  # fmt: skip

# A sentence as a string of marks, each of which stands for a phrase:
#   m a thing with its number, "two small red balls"      d the same told again, "the red balls"
#   i "it"   t "them"   v a verb   c a colour and z a size that stand alone   p a place   o an opening   x courtesy
#   r a relation   b "between"   e "side by side"   & "and"   w "with"
_THING = "[md]"
_WHERE = f"(?:r(?:{_THING}|i|t)|b(?:{_THING}(?:&{_THING})?|t))"
_ITEM = f"{_THING}(?:v?(?:{_WHERE}|e))?p?"
_CLAUSE = f"&?(?:{_THING}|i|t)v(?:[cz](?:&?[cz])*|{_WHERE}|e|p)"
_START = "x?(?:po|op|p&o|p|o)?"
FORM = re.compile(
    f"{_START}{_ITEM}(?:[&w]?{_ITEM})*(?:{_CLAUSE})*p?x?"  # "we see a boat and a bird above it the boat is red"
    f"|x?p?(?:rm|bm(?:&m)?)omp?(?:{_CLAUSE})*x?"  # "in the snow above a house there is a star"
)
ONCE = re.compile("[rbe]")  # a sentence says but once where things stand


def _words(phrases) -> str:
    return "|".join(sorted(phrases, key=len, reverse=True))


_NUMBER = _words(NUMBER_OF)
_NOUN = (rf"(?:(?:{_words(IDLE)}) )?(?:(?P<size>{_words(SIZE_OF)}) )?(?:(?P<colour>{_words(COLOURS)}) )?"
         rf"(?P<kind>{_words(KIND_OF)})")  # fmt: skip
THING = re.compile(rf"(?:(?P<the>the)(?: (?P<again>{_NUMBER}))?|(?P<number>{_NUMBER})) {_NOUN}\b")
PHRASES = re.compile("|".join(f"(?P<{mark}>(?:{words})\\b)" for mark, words in {
    "p": _words(phrase for phrases in PLACES.values() for phrase in phrases),
    "o": _words({*OPENINGS, *OPENINGS.values()}),
    "e": _words(TOGETHER),
    "r": _words(phrase for phrases in RELATIONS.values() for phrase in phrases),
    "b": _words(BETWEEN), "v": _words({*VERBS, *VERBS.values(), *WHO, *WHO.values()} - {""}),
    "i": _words(ONE), "t": _words(MANY), "c": _words(COLOURS), "z": _words(SIZE_OF),
    "x": _words(POLITE), "and": "and", "w": "with",
}.items()))  # fmt: skip
PLACE_OF = {phrase: place for place, phrases in PLACES.items() for phrase in phrases}
RELATION_OF = {phrase: relation for relation, phrases in RELATIONS.items() for phrase in phrases}
