"""The Containerfile has good habits, its RUN lines install the package, and what it starts is found to be healthy."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from book.build import dist
from book.build.nightly import files
from book.build.run_chapters import ROOT

FILE = (ROOT / "book" / "Containerfile").read_text("utf-8")
PAGE = (ROOT / "book" / "hosting.md").read_text("utf-8")
KNOWN = {"FROM", "COPY", "RUN", "USER", "WORKDIR", "ENV", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT"}
ONCE = ("FROM", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT")
PINNED = re.compile(r"[a-z][\w./-]*:\d+\.\d+\.\d+-[\w.-]+")


def lines(text: str) -> list[tuple[str, str]]:
    """The instructions, each with the rest of its line; a line that ends in a backslash goes on."""
    text = re.sub(r"(?m)^#.*\n", "", text)
    whole = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in whole if line.strip())]


def words(rest: str) -> list[str]:
    """What an instruction starts, word by word, from its JSON form; none in a shell's form."""
    form = re.search(r"\[.*\]$", rest)
    return json.loads(form[0]) if form else []


def mistakes(text: str) -> list[str]:
    """What a Containerfile should not do, a sentence each."""
    found, names = [], [word for word, _ in lines(text)]
    found += [f"{name} is not known here." for name in sorted(set(names) - KNOWN)]
    found += [f"{name} stands there {names.count(name)} times, not once." for name in ONCE if names.count(name) != 1]
    for word, rest in lines(text):
        if word == "FROM" and not PINNED.fullmatch(rest):
            found.append(f"The base {rest} is not pinned to a version of three numbers.")
        if word == "USER" and not re.fullmatch(r"[1-9]\d*:[1-9]\d*", rest):
            found.append(f"It runs as {rest}: name a number that is not root's.")
        if (
            word == "RUN"
            and "apt" in rest
            and not ("--no-install-recommends" in rest and "rm -rf /var/lib/apt" in rest)
        ):
            found.append("apt leaves its lists, or brings what nobody asked for.")
        if word == "RUN" and "pip install" in rest and not ("--no-cache-dir" in rest and "--constraint" in rest):
            found.append("pip keeps its cache, or installs versions that nobody tested.")
        if word in ("HEALTHCHECK", "ENTRYPOINT") and not words(rest):
            found.append(f"{word} goes through a shell: write its words as a JSON list.")
        if {"sh", "bash", "&", "&&"} & set(words(rest)):
            found.append(f"{word} starts more than one process.")
    if "USER" in names and {"RUN", "COPY"} & set(names[names.index("USER") :]):
        found.append("Something is installed by the user that serves.")
    return found


def test_the_file_has_no_mistake():
    assert mistakes(FILE) == []


@pytest.mark.parametrize(("good", "bad", "said"), [
    (r"FROM .*", "FROM python:latest", "not pinned"),
    (r"FROM .*", "FROM python:3.12-slim", "not pinned"),
    (r"USER .*", "USER root", "as root"),
    (r"USER .*", "USER 0:10001", "as 0:10001"),
    (r"USER .*\n", "", "USER stands there 0 times"),
    (r"EXPOSE", "RUN true\nEXPOSE", "by the user that serves"),
    (r"USER", "RUN apt-get install -y git\nUSER", "apt leaves"),
    (r" --no-cache-dir", "", "pip keeps"),
    (r"HEALTHCHECK .*\\\n.*\n", "", "HEALTHCHECK stands there 0 times"),
    (r"ENTRYPOINT .*", "ENTRYPOINT python -m xlxmert_core serve", "through a shell"),
    (r"ENTRYPOINT .*", 'ENTRYPOINT ["sh", "-c", "nginx & python"]', "more than one process"),
    (r"COPY", "ADD", "ADD is not known"),
])  # fmt: skip
def test_a_mistake_would_be_seen(good, bad, said):
    text, count = re.subn(good, lambda _: bad, FILE, count=1)
    assert count == 1 and any(said in sentence for sentence in mistakes(text))


def test_what_is_copied_is_there_or_made_by_the_line_above():
    [copied] = [rest.split()[:-1] for word, rest in lines(FILE) if word == "COPY"]
    tracked = {path.relative_to(ROOT).as_posix() for path in files()}
    made = f"{dist.HOME.relative_to(ROOT).as_posix()}/*.whl"
    assert [name for name in copied if name not in tracked | {made}] == []
    assert "make dist" in PAGE and "-f book/Containerfile" in PAGE and "{literalinclude} Containerfile" in PAGE


def test_the_page_says_what_the_command_takes(monkeypatch):
    from xlxmert_core.command.main import parser

    typed = re.findall(r"(?m)^python -m xlxmert_core (.+)$", PAGE)
    [entry] = [words(rest)[3:] for word, rest in lines(FILE) if word == "ENTRYPOINT"]
    given = [
        parser().parse_args([*entry, "--name", "paint.example.org"]),
        *map(parser().parse_args, map(str.split, typed)),
    ]
    assert [(options.host, options.name) for options in given] == [("0.0.0.0", ["paint.example.org"])] * 2
    [port] = [rest for word, rest in lines(FILE) if word == "EXPOSE"]
    assert given[0].port == int(port) and f"127.0.0.1:{port}/about" in FILE


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A new environment after the file's RUN lines; it sees what this one has, and so nothing is downloaded."""
    home = tmp_path_factory.mktemp("container")
    dist.build("wheel", home / "wheels")
    (home / "wheels" / "requirements.txt").write_text((ROOT / "requirements.txt").read_text("utf-8"), "utf-8")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "venv"], check=True)
    inside = next((home / "venv" / "lib").glob("python*/site-packages"))
    own = Path(sysconfig.get_paths()["purelib"])
    (inside / "seen").mkdir()
    for path in own.iterdir():  # all but the package itself, which is installed here as it is written
        if "xlxmert_core" not in path.name:
            (inside / "seen" / path.name).symlink_to(path)
    (inside / "seen.pth").write_text(f"{inside / 'seen'}\n")
    there = os.environ | {"PATH": f"{home / 'venv' / 'bin'}:{os.environ['PATH']}", "PIP_NO_INDEX": "1"}
    for word, rest in lines(FILE):
        if word == "RUN":
            line = rest.replace("/wheels", shlex.quote(str(home / "wheels")))
            done = subprocess.run(["sh", "-c", line], cwd=home, env=there, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-2000:]
    return home


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.nightly
def test_what_is_installed_starts_is_healthy_and_stops(installed):
    own, port = dict(lines(FILE)), str(free_port())
    python = str(installed / "venv" / "bin" / "python")
    start, check = ([python, *(word.replace("8000", port) for word in words(own[name])[1:])]
                    for name in ("ENTRYPOINT", "HEALTHCHECK"))  # fmt: skip

    def healthy() -> bool:
        return subprocess.run(check, cwd=installed, capture_output=True).returncode == 0

    assert not healthy()  # nobody is there yet
    with subprocess.Popen(start, cwd=installed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            end = time.monotonic() + 300  # a slow machine opens the weights
            while not healthy() and server.poll() is None and time.monotonic() < end:
                time.sleep(1)
            assert server.poll() is None and healthy()
            place = [python, "-c", "import xlxmert_core; print(xlxmert_core.__file__)"]
            assert str(installed) in subprocess.run(place, cwd=installed, capture_output=True, text=True).stdout
        finally:
            server.send_signal(getattr(signal, own["STOPSIGNAL"]))
        assert server.wait(60) == 0, server.stderr.read()  # as with Ctrl-C
