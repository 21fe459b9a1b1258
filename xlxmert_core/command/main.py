"""The command line: what is asked is done, or refused in one sentence with exit code 2, and nothing is half-written."""

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from tqdm import tqdm

from xlxmert_core.command import serve
from xlxmert_core.files import why
from xlxmert_core.folder import shipped_names
from xlxmert_core.pipeline import Pipeline, load
from xlxmert_core.sampling import DEFAULT

PROGRAM = "python -m xlxmert_core"
ABOUT = """X-LXMERT: one small model that paints what you write, says what it sees and answers questions about it.

Begin with
  python -m xlxmert_core paint "a red house in the snow" -o house.png
  python -m xlxmert_core caption house.png
  python -m xlxmert_core answer house.png "what colour is the house"
  python -m xlxmert_core serve
"""
WORLD = "It knows the book's storybook world: houses, trees, boats ..., their colours, sizes, places, and four scenes."
ENDINGS = (".png", ".gif")


class MistakeError(ValueError):
    """What was typed cannot be done; the message is one sentence."""


class Parser(argparse.ArgumentParser):
    """Says a mistake in one sentence, and how to get help; exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Leave with a sentence."""
        self.exit(2, f"{message[:1].upper()}{message[1:]}: {self.prog} --help shows how.\n")


def whole(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def parser() -> Parser:
    """All commands with their help."""
    top = Parser(PROGRAM, description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(metavar="COMMAND", title="commands")
    opens = argparse.ArgumentParser(add_help=False)
    names = ", ".join(shipped_names())
    opens.add_argument(
        "--model", default="storybook", help=f"shipped weights ({names}), a saved folder or a file of weights"
    )
    opens.add_argument("--generator", metavar="FILE", help="the authors' G_60.pth, beside --model Epoch20_LXRT.pth")
    says = argparse.ArgumentParser(add_help=False)
    says.add_argument("--json", action="store_true", help="print one line of JSON, for other programs")

    command = add(
        commands, "paint", paint, "paint a sentence", [opens, says], f"Paint one sentence or several. {WORLD}"
    )
    command.add_argument("text", nargs="+", metavar="SENTENCE", help='such as "a red house in the snow"')
    command.add_argument("-o", "--output", type=Path, default=Path("painting.png"), metavar="FILE",
                         help="a .png, which keeps how it was painted (several are numbered), or a .gif of the steps "
                              "(default: painting.png)")  # fmt: skip
    command.add_argument("--seed", type=whole, default=0, help="another number, another picture (default: 0)")
    command.add_argument("--steps", type=whole, default=DEFAULT.steps, help="fewer are faster, more are better "
                         f"(default: {DEFAULT.steps})")  # fmt: skip

    command = add(
        commands, "caption", caption, "say what is in a picture", [opens, says], f"Say what a picture shows. {WORLD}"
    )
    command.add_argument("picture", nargs="+", help="a file: PNG, JPEG ...")

    command = add(commands, "answer", answer, "answer a question about a picture", [opens, says],
                  f"Answer a question about a picture. {WORLD}")  # fmt: skip
    command.add_argument("picture", help="a file: PNG, JPEG ...")
    command.add_argument("question", nargs="+", help='such as "what colour is the house"')
    command.add_argument("--skill", choices=("vqa", "gqa"), default="vqa",
                         help="vqa: short questions; gqa: questions of several steps")  # fmt: skip

    command = add(commands, "serve", page, "open a page that paints", [opens],
                  "Serve a page to this machine alone: type, paint, repaint a part, ask. Ctrl-C ends it.")  # fmt: skip
    command.add_argument("--port", type=whole, default=8000, help="the first to try; the next free one is taken")
    command.add_argument("--host", default=serve.NAMES[0], metavar="ADDRESS",
                         help="where to listen (default: this machine alone); 0.0.0.0 lets others in")  # fmt: skip
    command.add_argument("--name", action="append", default=[], help="what other machines call this one, such as "
                         "paint.example.org; may be repeated")  # fmt: skip
    return top


def add(
    commands: argparse._SubParsersAction, name: str, does: Callable, short: str, parents: Sequence, long: str
) -> argparse.ArgumentParser:
    """A command that calls ``does(options)``."""
    command = commands.add_parser(name, help=short, description=long, parents=parents)
    command.set_defaults(does=does)
    return command


def opened(options: argparse.Namespace) -> Pipeline:
    """The model that was named."""
    return load(options.model, generator=options.generator)


def paint(options: argparse.Namespace) -> None:
    """``paint``: every file is whole or not there, and a name that cannot be written is refused before the work."""
    path = options.output.expanduser()
    if path.suffix.lower() not in ENDINGS:
        raise MistakeError(f"{str(path)!r} is no name for a picture: end it in {' or '.join(ENDINGS)}.")
    if path.is_dir():
        raise MistakeError(f"{path} is a folder: name a file in it.")
    painter = opened(options)
    with tqdm(total=options.steps, desc="painting", unit="step", leave=False, disable=None) as bar:
        painting = painter.paint(options.text, options.seed, lambda step: bar.update(1), steps=options.steps)
    files = painting.save(path) if path.suffix.lower() == ".png" else [painting.steps().save(path)]
    names = [str(file) for file in files]
    found = {"texts": options.text, "seed": options.seed, "steps": options.steps, "files": names}
    tell(options, found, f"Painted {' and '.join(names)}.")


def caption(options: argparse.Namespace) -> None:
    """``caption``: a line a picture."""
    captions = opened(options).caption([existing(name) for name in options.picture])
    tell(options, {"pictures": options.picture, "captions": captions}, "\n".join(captions))


def answer(options: argparse.Namespace) -> None:
    """``answer``: a line a question."""
    picture, painter = existing(options.picture), opened(options)
    answers = painter.answer([picture] * len(options.question), options.question, options.skill)
    found = {"picture": options.picture, "questions": options.question, "answers": answers}
    tell(options, found, "\n".join(answers))


def existing(name: str) -> Path:
    """The picture of that name."""
    path = Path(name).expanduser()
    if not path.is_file():
        raise MistakeError(f"There is no picture at {name}: check the path.")
    return path


def tell(options: argparse.Namespace, found: dict, sentence: str) -> None:
    """Print what was found, as JSON if asked."""
    print(json.dumps(found, ensure_ascii=False) if options.json else sentence)


def page(options: argparse.Namespace) -> None:
    """``serve``: until Ctrl-C."""
    server = serve.listen(opened(options), options.port, options.host, options.name)
    print(f"Open http://{serve.NAMES[0]}:{server.server_port} (Ctrl-C ends)", flush=True)
    with server:
        server.serve_forever()


def note(message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
         line: str | None = None) -> None:  # fmt: skip
    """Say a warning in one line, without the line of code that it came from (``warnings.showwarning``)."""
    print(f"Note: {message}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; returns the exit code: 0, 2 for a mistake, 130 for Ctrl-C."""
    top = parser()
    options = top.parse_args(arguments)
    if "does" not in options:
        top.print_help()
        return 0
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = note  # ty: ignore[invalid-assignment]  it takes no other function for this one
        try:
            options.does(options)
        except (ValueError, OSError) as error:
            print(why(error), file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            return 0 if options.does is page else 130
    return 0
