"""The model card of the catalogue's weights: every number from recorded JSON, and a dash where nothing was measured."""

from collections.abc import Mapping
from typing import Any

from xlxmert_core.pipeline import Pipeline

CARD = """# Catalogue weights

What `xlxmert_core.load("catalogue")` opens: the book's second world, product photographs of 128 x 128 pixels. One
transformer of {parameters:.1f} million weights, {shapes} shapes x {colours} colours as codes, one generator, one eye
and the skills {skills}; safetensors in 8 bits, {size:.1f} MB in all. Of a skill only the last {layers} cross layers,
its words and its heads are its own; the rest is the transformer's.

## Data

"Fashion Product Images" (Param Aggarwal, Kaggle), 10 009 photographs of it: 8 577 to learn from, 619 to look at
meanwhile, 813 for tests, split by title so that no near copy of a test photograph is trained on. One product each, 29
types, mostly before white. Captions, questions and statements are made from the shop's labels and the words of its
titles. {held_out} pairs of type and colour, such as a purple shirt, are in no training of painter or skills; the reader
that judges has seen them.

**Licence situation.** The photographs are the shop's. The data set's page states MIT; that could not be verified: none
of the three public copies that they were taken from holds a licence file. Therefore no photograph is in this package,
the repository or a published page; the weights were made from them, and whoever uses these has to know that.
The eye starts from EfficientNet-Lite0's ImageNet weights, and the generator's perceptual loss and critic look through
VGG16's (ST-LPIPS).

## Recipe

Painter, eye and generator: `book/train/gpu` on {device}, in {minutes} minutes. Skills: `book/train/ship_catalogue.py`
on two CPU cores, seed {seed}: {steps}. `recipe.json` holds budgets, versions, losses and the run's own record,
`measured.json` all that is measured below.
In 8 bits {painted:.1%} of the codes of {checked} greedy paintings, and {seen:.1%} of those that the eye gives test
photographs, are those of the run's own weights.

## Measured

On {photographs} photographs and {texts} texts of the test split (mean over {seeds} sampling seeds, the default
sampler), by a reader trained on real training photographs alone (EfficientNet-Lite2); distances by the features of
AlexNet, which was set aside for that. Rates of the reader on real photographs stand first.

| | goal | measured |
|:--|--:|--:|
{table}

## Limits

It knows {words} words and the shop's 29 types, 11 colours and few patterns; other words are holes in the sentence, and
it says so. One product in a picture, before a plain ground, seen as shops show it. Small things (buckles, laces, print)
come out as suggestions of themselves. The shop's labels have small errors, and the weights learned them too. Questions
and statements follow the templates of `xlxmert_core/data/catalogue`; others get some answer.

**Who is not in the pictures.** No faces: heads were cut off wherever one was found, by detectors that miss some, so one
or two may be left. The shop calls 6 140 products men's, 3 250 women's, 469 for everyone, 86 boys' and 64 girls'; these
are labels of products and say nothing of who may wear them. Of 60 garments that an author looked at, all that are worn
are worn by slim, standing adults: hardly a child, nobody old, heavy or in a wheelchair. Underwear, swimwear and
personal care were left out. Do not take what it paints for what people are, wear or look like.
"""
Path = tuple[str, ...]


def found(measured: Mapping, path: Path) -> float | None:
    """The number at a place of nested mappings; None where it is not. A star stands for the mean over all seeds."""
    if path[0] == "paintings_*":
        runs = [found(measured, (name, *path[1:])) for name in measured if name.startswith("paintings_")]
        there = [run for run in runs if run is not None]
        return sum(there) / len(there) if there else None
    value: Any = measured
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def rows(measured: Mapping) -> list[tuple[str, str, float | None, bool]]:
    """(what, goal, value, whether it is a share) of all that the card tells; goals are never changed to fit."""
    own = {name: found(measured, ("photographs", name)) for name in ("type", "colour", "both", "types")}

    def share(part: str, name: str) -> float | None:
        value, rate = found(measured, (part, name)), own[name]
        return None if value is None or not rate else value / rate

    def less(name: str, points: float) -> str:
        rate = own[name]
        return f"reader's - {points:.0%}" if rate is None else f">= {rate - points:.1%}"

    def over(a: Path, b: Path) -> float | None:
        one, other = found(measured, a), found(measured, b)
        return None if one is None or not other else one / other

    def above(task: str) -> float | None:
        words, commonest = (found(measured, (task, way, "all")) for way in ("words", "commonest"))
        return None if words is None or commonest is None else words - commonest

    at = lambda *path: found(measured, path)  # noqa: E731
    colour = own["colour"]
    asked = "reader's - 3%" if colour is None else f">= {colour - 0.03:.1%}"
    return [
        ("reader on real photographs: type", ">= 88%", own["type"], True),
        ("reader on real photographs: colour", ">= 75%", own["colour"], True),
        ("reader on real photographs: type, mean over the 29", "told", own["types"], True),
        ("code probe, share of the reader's rate: type", ">= 95%", share("probe", "type"), True),
        ("code probe, share of the reader's rate: colour", ">= 95%", share("probe", "colour"), True),
        ("reconstructions, share of the rate on originals: type", ">= 95%", share("reconstructions", "type"), True),
        ("reconstructions, share of the rate on originals: colour", ">= 92%", share("reconstructions", "colour"), True),
        ("paintings: type", less("type", 0.03), at("paintings_*", "type"), True),
        ("paintings: colour", less("colour", 0.06), at("paintings_*", "colour"), True),
        ("paintings: type and colour", less("both", 0.09), at("paintings_*", "both"), True),
        ("paintings of pairs never seen: both", ">= 60%", at("unseen", "both"), True),
        ("patterns: striped, checked, plain, mean", ">= 70%", at("patterns", "mean"), True),
        ("Fréchet distance: reconstructions over other photographs", "<= 5",
         over(("frechet", "reconstructions"), ("frechet", "others")), False),
        ("Fréchet distance: paintings over reconstructions", "<= 1.5",
         over(("paintings_0", "frechet"), ("frechet", "reconstructions")), False),
        ("captions that state type and colour", ">= 95%", at("captions", "type_and_colour"), True),
        ("stated facts that are true", ">= 88%", at("captions", "precision"), True),
        ("questions", ">= 88%", at("vqa", "scores", "all"), True),
        ("questions about the colour", asked, at("vqa", "scores", "colour"), True),
        ("questions: words alone above the commonest answer", "<= 5%", above("vqa"), True),
        ("two-photograph statements", ">= 80%", at("nlvr2", "scores", "all"), True),
    ]  # fmt: skip


def card(painter: Pipeline, recipe: Mapping, measured: Mapping, size: int) -> str:
    """The card of a finished pipeline; ``size`` in bytes, of all its files."""
    told = {True: "{:.1%}".format, False: "{:.2f}".format}
    lines = [f"| {what} | {goal} | {'—' if value is None else told[kind](value)} |"
             for what, goal, value, kind in rows(measured)]  # fmt: skip
    run, skills, about = recipe["run"].get("about", {}), recipe["skills"], measured.get("about", {})
    config = painter.model.config
    return CARD.format(
        parameters=sum(p.numel() for p in painter.model.parameters()) / 1e6, colours=config.colour_codes,
        shapes=config.codes // max(1, config.colour_codes), skills=", ".join(f"`{name}`" for name in painter.skills),
        size=size / 2**20, layers=skills["layers"], held_out="Eight", device=run.get("device", "two CPU cores"),
        minutes=f"{run['took'] / 60:.0f}" if "took" in run else "—", seed=recipe["seed"],
        steps=", ".join(f"{name} {count} steps" for name, count in skills["steps"].items()), **recipe["equal"],
        photographs=about.get("photographs", "—"), texts=about.get("texts", "—"), seeds=about.get("seeds", "—"),
        table="\n".join(lines), words=painter.tokenizer.size,
    )  # fmt: skip
