"""`python -m projects.redheart.describe [model=redheart_full|redheart_base|redheart_tiny]`: parameters of each module.

The network is built with shapes only, so the full one is described in seconds and without memory. For the full
configuration each number stands beside the reference's.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from shared.entry import exit_codes

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"
PREFIX = "redheart_"
DEFAULT_MODEL = "redheart_full"
EMBEDDING_DIM = 384
"""Size of a part embedded by MiniLM, with which the full configuration is counted."""

GIB = 2**30
BYTES = {"fp32": 4, "bf16": 2}


def read_sizes(model: str) -> dict[str, Any]:
    """Sizes of a configuration.

    Args:
        model: File name in conf/model without its ending, the prefix `redheart_` may be left out.

    Raises:
        ConfigError: If there is no such configuration.
    """
    from omegaconf import OmegaConf

    from shared.errors import ConfigError

    name = model if model.startswith(PREFIX) else PREFIX + model
    known = sorted(path.stem for path in CONF.glob(f"{PREFIX}*.yaml"))
    if name not in known:
        raise ConfigError(f"model is {model!r}, allowed: {', '.join(known)}")
    loaded = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml").sizes)
    assert isinstance(loaded, dict)
    return {str(key): value for key, value in loaded.items()}


def description(model: str, embedding_dim: int = EMBEDDING_DIM) -> dict[str, Any]:
    """Parameters by module and group, and the memory of weights, gradients and AdamW's two states.

    Args:
        model: See `read_sizes`.
        embedding_dim: Size of an embedded part.

    Returns:
        {"model", "embedding_dim", "modules": [rows], "groups": [rows], "total": row, "within_tolerance": bool or None
        where there is no target, "memory_gib": {precision: {"weights", "gradients", "optimizer", "sum"}}}; a row is
        {"group", "module", "target", "actual", "difference", "percent"}.
    """
    from projects.redheart.models import sizes as table

    network = table.on_meta(embedding_dim, read_sizes(model))
    full = model.removeprefix(PREFIX) == table.FULL
    modules = table.module_sizes(network, targets=full)
    groups = [table.together(group, [size for size in modules if size.group == group]) for group in table.GROUPS]
    total = table.ModuleSize("total", "", table.TOTAL_TARGET if full else None, sum(size.actual for size in modules))
    within = abs(total.actual / total.target - 1) <= table.TOTAL_TOLERANCE if total.target else None
    return {
        "model": PREFIX + model.removeprefix(PREFIX),
        "embedding_dim": embedding_dim,
        "modules": [_row(size) for size in modules],
        "groups": [_row(size) for size in groups],
        "total": _row(total),
        "within_tolerance": within,
        "memory_gib": {precision: memory(total.actual, width) for precision, width in BYTES.items()},
    }


def memory(parameters: int, width: int) -> dict[str, float]:
    """Memory in GiB of weights, gradients and the two states of AdamW, all in numbers of so many bytes."""
    one = parameters * width / GIB
    return {"weights": one, "gradients": one, "optimizer": 2 * one, "sum": 4 * one}


def show(described: dict[str, Any], console: Console) -> None:
    """Print the description as tables."""
    console.print(_size_table(described))
    if described["within_tolerance"] is not None:
        verdict = "within" if described["within_tolerance"] else "NOT within"
        console.print(f"The total is {verdict} 0.1 % of the reference's.")
    needed = Table(title="Memory in GiB, without activations")
    for column in ("numbers", "weights", "gradients", "AdamW states", "sum"):
        needed.add_column(column, justify="right")
    for precision, parts in described["memory_gib"].items():
        needed.add_row(precision, *(f"{parts[name]:.3g}" for name in ("weights", "gradients", "optimizer", "sum")))
    console.print(needed)


def _size_table(described: dict[str, Any]) -> Table:
    """Modules under the subtotal of their group, and the total."""
    table = Table(title=f"{described['model']} on embeddings of {described['embedding_dim']}")
    table.add_column("module")
    for column in ("target", "actual", "difference", "percent"):
        table.add_column(column, justify="right")
    for group in described["groups"]:
        members = [row for row in described["modules"] if row["group"] == group["group"]]
        for row in members if len(members) > 1 else []:
            table.add_row("  " + row["module"].rpartition(".")[2], *_cells(row))
        table.add_row(group["group"], *_cells(group), style="bold", end_section=True)
    table.add_row("total", *_cells(described["total"]), style="bold")
    return table


def _cells(row: dict[str, Any]) -> tuple[str, str, str, str]:
    """Numbers of a row as text; a dash where there is no target."""
    if row["target"] is None:
        return "-", f"{row['actual']:,}", "-", "-"
    return f"{row['target']:,}", f"{row['actual']:,}", f"{row['difference']:+,}", f"{row['percent']:+.3f} %"


def _row(size: Any) -> dict[str, Any]:
    """A size as plain values."""
    return {name: getattr(size, name) for name in ("group", "module", "target", "actual", "difference", "percent")}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m projects.redheart.describe", description=__doc__)
    parser.add_argument(
        "model", nargs="?", default=DEFAULT_MODEL, help="model=redheart_full, or base, tiny (%(default)s)"
    )
    parser.add_argument(
        "--embedding-dim", type=int, default=EMBEDDING_DIM, help="size of an embedded part (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(argv)
    with exit_codes():
        described = description(given.model.removeprefix("model="), given.embedding_dim)
        if given.json:
            print(json.dumps(described, indent=2))
        else:
            show(described, Console())


if __name__ == "__main__":
    main()
