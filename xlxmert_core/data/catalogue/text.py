"""What is said of a product: five captions a photograph, each with the facts that it states.

Made from the shop's labels and title. Of a title only words that say something that can be seen (``DETAILS``) are
kept, and only behind the word for whom it is, since a brand comes before that. No caption knows left from right: it is
as true of the mirror image. A fact is (attribute, value), such as ("colour", "red").
"""

import re
from collections.abc import Sequence

from xlxmert_core.data.catalogue.products import COLOURS, KINDS, PATTERNS, SHADES, Product, basic_colour

Fact = Sequence[str]  # (attribute, value); a list of two where it was read from JSON
Caption = tuple[str, list[tuple[str, str]]]
WHOSE = {"Men": "men's", "Women": "women's", "Boys": "boys'", "Girls": "girls'", "Unisex": "unisex"}
FOR_WHOM = {"Men": "men", "Women": "women", "Boys": "boys", "Girls": "girls", "Unisex": "everyone"}
STYLES = {"Sports": "sporty", "Formal": "formal", "Ethnic": "ethnic"}  # three of four are casual, which says nothing
DETAILS = frozenset(
    "analogue aviator ballerina beanie buckle button canvas capri cargo chino chronograph clog collar cotton denim "
    "digital embroidered flap floater hooded hoody jersey knit knitted laptop leather leatherette loafer logo long "
    "peep polka polo pump quilted round sequin silk sleeveless slim sling sneaker square tank thong tote vest washed "
    "wedge woven zip".split()
)
MOST_DETAILS = 4
_WHO = re.compile(r"\b(?:men|women|boy|girl|unisex|kid)(?:'?s)?\b")  # a title says it behind the brand


def captions(product: Product) -> list[Caption]:
    """Five (caption, facts) of a product; the first says all that the labels say of what is seen."""
    return [_full(product), _many(product), _says(product), _short(product), _titled(product)]


def _full(product: Product) -> Caption:
    """Such as "a striped blue shirt with white for men"."""
    text = _phrase(product, product.pattern, product.colour)
    return _join(text, _beside(product), _for(product)), _facts(product, "colour", "second", "pattern", "gender")


def _many(product: Product) -> Caption:
    """Such as "men's striped navy blue shirts"."""
    words = (WHOSE.get(product.gender, ""), product.pattern, product.shade, KINDS[product.type].many)
    return _join(*words), _facts(product, "colour", "pattern", "gender")


def _says(product: Product) -> Caption:
    """Such as "this shirt is blue and striped and formal"."""
    kind, style = KINDS[product.type], style_of(product)
    told = [word for word in (product.colour, product.second, product.pattern, style) if word]
    start, verb = ("these", "are") if kind.paired else ("this", "is")
    facts = _facts(product, "colour", "second", "pattern", *(["usage"] if style else []))
    if not told:
        return f"{start} {verb} {_phrase(product)}", facts
    return f"{start} {kind.one} {verb} {' and '.join(told)}", facts


def _short(product: Product) -> Caption:
    """Such as "a navy blue shirt"."""
    return _phrase(product, product.shade), _facts(product, "colour")


def _titled(product: Product) -> Caption:
    """Such as "a slim striped blue men's shirt": with the title's details, or else the style."""
    words, style = details(product), style_of(product)
    text = _phrase(product, *(words or [style]), product.pattern, product.colour, WHOSE.get(product.gender, ""))
    facts = _facts(product, "colour", "second", "pattern", "gender", *(["usage"] if style and not words else []))
    return _join(text, _beside(product)), facts


def details(product: Product) -> list[str]:
    """The words of a title that say what is seen, at most four: "Lee Men Slim Fit Blue Shirt" -> ["slim"]."""
    title = product.title.lower()
    ends = [match.end() for match in _WHO.finditer(title)]
    words = re.findall(r"[a-z]+", title[ends[-1] :]) if ends else []
    known = (w if w in DETAILS else w.removesuffix("s") for w in words)
    return list(dict.fromkeys(w for w in known if w in DETAILS and w not in product.type.lower()))[:MOST_DETAILS]


def style_of(product: Product) -> str:
    """The usage as a word, "formal" for "Formal"; "" where the type says it ("Formal Shoes") or it says nothing."""
    return "" if product.usage in product.type else STYLES.get(product.usage, "")


def noun_phrase(kind: str, *words: str) -> str:
    """Words before a type: "a red shirt", "an olive shirt", "blue jeans"."""
    text = _join(*words, KINDS[kind].one)
    if KINDS[kind].paired:
        return text
    return f"{'an' if text[0] in 'aeiou' and not text.startswith('uni') else 'a'} {text}"


def _phrase(product: Product, *words: str) -> str:
    return noun_phrase(product.type, *words)


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)


def _beside(product: Product) -> str:
    return product.second and f"with {product.second}"


def _for(product: Product) -> str:
    return product.gender and f"for {FOR_WHOM[product.gender]}"


def _facts(product: Product, *names: str) -> list[tuple[str, str]]:
    """The type and these attributes, as far as they are known; a second colour is a colour."""
    facts = [("colour" if name == "second" else name, getattr(product, name)) for name in ("type", *names)]
    return [(name, value) for name, value in facts if value]


def stated_facts(text: str) -> list[tuple[str, str]]:
    """The facts that any sentence about products states, whoever wrote it, also with its words apart ("men ' s")."""
    flat = re.sub(r"\s+'", "'", re.sub(r"\s*'\s*s\b", "'s", text.lower()))
    facts = []
    for name, (pattern, values) in _STATED.items():
        facts += [(name, values[word]) for word in pattern.findall(flat)]
        flat = pattern.sub("|", flat)  # "formal shoe" is no formal thing
    return list(dict.fromkeys(facts))


def _finder(values: dict[str, str]) -> tuple[re.Pattern, dict[str, str]]:
    """A pattern for the longest of these words, and what each means."""
    words = "|".join(map(re.escape, sorted(values, key=len, reverse=True)))
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)"), values


_STATED = {  # in this order, each without the words that the ones before have used
    "type": _finder({form: name for name, kind in KINDS.items() for form in (kind.one, kind.many)}),
    "colour": _finder({shade: basic_colour(shade) for shade in (*COLOURS, *SHADES)}),
    "gender": _finder({form: name for name in WHOSE for form in (WHOSE[name], f"for {FOR_WHOM[name]}")}),
    "pattern": _finder({pattern: pattern for pattern in PATTERNS}),
    "usage": _finder({style: name for name, style in STYLES.items()}),
}
