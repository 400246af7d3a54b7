"""From a file of stories to a folder to train on: `python -m projects.redheart.prepare_data STORIES.json OUT`.

Three steps: near-duplicates leave, the folds are cut, the parts of the stories are embedded. Each is skipped where its
result is there and its input has not changed, so an interrupted command is simply given again.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from projects.redheart.data.datamodule import StoriesDataModule
from projects.redheart.data.embedding_cache import EmbeddingCache
from projects.redheart.data.parts import MIN_PARTS
from projects.redheart.data.prepared import COMMAND, STANDIN, Prepared, PrepareOptions, prepare
from projects.redheart.data.split import DEFAULT_SHARES, class_shares
from projects.redheart.encoders import EncoderOptions
from projects.redheart.tasks import EMOTIONS
from shared.callbacks.interruption import interruptible
from shared.errors import ConfigError, RunInterrupted, UserError
from shared.folds import FOLDS

WRONG_INPUT = 2
_DEFAULT = "/".join(f"{100 * DEFAULT_SHARES[name]:g}" for name in FOLDS)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m projects.redheart.prepare_data", description=__doc__.split("\n")[0]
    )
    parser.add_argument("stories", type=Path, help="JSON list of stories, or one object a line (.jsonl)")
    parser.add_argument("out", type=Path, help="folder to fill")
    parser.add_argument(
        "encoder", nargs="*", metavar="encoder=NAME | encoder.KEY=VALUE",
        help="as in training: encoder=minilm_packaged encoder.pooling=tokens; encoder=none embeds nothing (hashing)",
    )  # fmt: skip
    parser.add_argument("--subjects", type=Path, help="CSV with id, subject and ratings, for leaving one subject out")
    parser.add_argument("--threshold", type=float, default=92.0, help="percent of a near-duplicate (%(default)s)")
    parser.add_argument("--bentham-range", type=float, nargs=2, default=(0.0, 1.0), metavar=("LOW", "HIGH"))
    parser.add_argument("--emotions", default=",".join(EMOTIONS), help="names of the labels 0 to 6 (%(default)s)")
    parser.add_argument("--max-chars", type=int, default=20_000, help="longer texts are cut there (%(default)s)")
    parser.add_argument("--max-parts", type=int, default=16, help="most parts of a story (%(default)s)")
    parser.add_argument("--shares", default=_DEFAULT, help=f"percent of stories for {'/'.join(FOLDS)} (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which of the equally good splits is drawn (%(default)s)")
    return parser


def parse_shares(text: str) -> dict[str, float]:
    """Read percentages of the five folds.

    Raises:
        ConfigError: They are not five numbers.
    """
    try:
        percent = [float(part) for part in text.split("/")]
    except ValueError:
        percent = []
    if len(percent) != len(FOLDS):
        raise ConfigError(f"the shares are {text!r}; allowed are {len(FOLDS)} percentages such as {_DEFAULT}.")
    return {name: value / 100 for name, value in zip(FOLDS, percent, strict=True)}


def parse_encoder(words: list[str]) -> dict[str, Any] | None:
    """Read `encoder=NAME` and `encoder.KEY=VALUE`; None for encoder=none.

    Raises:
        ConfigError: A word has another form, or the encoder cannot be what they say.

    Example:
        >>> parse_encoder(["encoder=hashing", "encoder.dim=64"])
        {'name': 'hashing', 'dim': 64}
    """
    found: dict[str, Any] = {"name": "hashing"}
    for word in words:
        key, equals, value = word.removeprefix("data.").partition("=")
        if not equals or (key != "encoder" and not key.startswith("encoder.")):
            raise ConfigError(f"{word!r} is no option; allowed are encoder=NAME and encoder.KEY=VALUE")
        try:
            found["name" if key == "encoder" else key.removeprefix("encoder.")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{word!r} cannot be read; allowed is a plain value, as in encoder.dim=64") from error
    if found["name"] == "none":
        return None
    EncoderOptions.read(found)
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = build_parser().parse_intermixed_args(argv)  # options may stand before encoder=NAME
    console = Console()
    try:
        with interruptible():
            prepared, cache = _prepare(args, console)
    except RunInterrupted as error:
        again = shlex.join([*COMMAND.split(), *(sys.argv[1:] if argv is None else argv)])
        print(f"{error}; go on with: {again}", file=sys.stderr)
        return error.exit_code
    except UserError as error:
        print(error, file=sys.stderr)
        return WRONG_INPUT
    except OSError as error:  # a full disk, no permission: what is written stays and the same command goes on
        print(f"{args.out} cannot be written ({error}).", file=sys.stderr)
        return 1
    _show(console, prepared, cache)
    return 0


def _prepare(args: argparse.Namespace, console: Console) -> tuple[Prepared, tuple[EmbeddingCache, int] | None]:
    """All three steps; every option is checked before the first begins."""
    encoder = parse_encoder(args.encoder)
    options = PrepareOptions(
        args.threshold, tuple(args.bentham_range), tuple(name.strip() for name in args.emotions.split(",")),
        args.max_chars, parse_shares(args.shares), args.seed,
    )  # fmt: skip
    if args.max_parts < MIN_PARTS:
        raise ConfigError(f"--max-parts is {args.max_parts}; allowed is {MIN_PARTS} or more")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tell = _teller(bars)
        prepared = prepare(args.stories, args.out, options, subjects=args.subjects, on_progress=tell)
        return prepared, None if encoder is None else _embed(args.out, encoder, args.max_parts, tell)


def _embed(
    root: Path, encoder: dict[str, Any], max_parts: int, tell: Callable[[str, int, int], None]
) -> tuple[EmbeddingCache, int]:
    """Embed what training with these options will ask for; return the cache and the number of its rows."""
    datamodule = StoriesDataModule(
        root=str(root), standin={}, num_stories=None, leave_out_subject=None, encoder=encoder, max_parts=max_parts,
        batch_size=1, eval_batch_size=1, num_workers=0, seed=0, cache_folder=str(root),
    )  # fmt: skip
    cache = datamodule.prepare_embeddings(tell)
    return cache, len(cache.read())


def _teller(bars: Progress) -> Callable[[str, int, int], None]:
    """A function that shows each thing that is done as a bar of its own."""
    tasks: dict[str, Any] = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what)
        bars.update(tasks[what], completed=done, total=total)

    return tell


def _show(console: Console, prepared: Prepared, embedded: tuple[EmbeddingCache, int] | None) -> None:
    """Print the way from the file to the folds, the class shares, and where the files are."""
    quality = prepared.quality
    sizes = [int((prepared.fold == code).sum()) for code in range(len(FOLDS))]
    console.print(
        f"{quality['n_read']:,} stories read -> {quality['n_kept']:,} kept -> "
        + " / ".join(f"{size:,} {name}" for size, name in zip(sizes, FOLDS, strict=True)),
        soft_wrap=True,
    )
    shares = class_shares(prepared.index, prepared.labelled, prepared.fold)
    table = Table("class", *FOLDS)
    for name in prepared.index.classes:
        cells = (shares[fold][name] for fold in FOLDS)
        table.add_row(name, *(f"{cell['n']:,.0f} ({100 * cell['share']:.1f} %)" for cell in cells))
    console.print(table)
    for sentence in quality["warnings"]:
        console.print(f"note: {sentence}", soft_wrap=True, markup=False)
    if prepared.index.source == STANDIN:
        console.print("source: stand-in stories, as the record beside the file says", soft_wrap=True)
    else:
        console.print("source: real; no record of a stand-in lies beside the file", soft_wrap=True)
    done = ", ".join(prepared.ran) or "nothing"
    console.print(f"done now: {done}; what else is needed was there already", soft_wrap=True)
    if embedded is not None:
        cache, rows = embedded
        console.print(f"encoder: {cache.encoder.identity.describe()}", soft_wrap=True, markup=False)
        console.print(f"embeddings: {rows:,} texts in {cache.rows_path}", soft_wrap=True, markup=False)
    print(f"data: {prepared.root}")


if __name__ == "__main__":
    sys.exit(main())
