"""What a run directory holds for a paper, so that the paper can be made again from it at any time.

What lies beside the run (facts of the prepared stories, the sweep) is read from its copies in `<run>/paper_sources/`;
see `projects.redheart.paper.kept`.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from projects.redheart.models.network import StoryNetwork
from projects.redheart.models.sizes import ModuleSize, module_sizes
from projects.redheart.paper.kept import kept_quality, kept_sweep
from projects.redheart.paper.origin import Labels, labels_of
from shared.checkpoint_io import load_checkpoint
from shared.errors import CheckpointError, ConfigError, DataError
from shared.run_dir import RunDirectory


@dataclass(frozen=True)
class Source:
    """One finished run.

    Attributes:
        label: Short name, the same for the same runs in the same order: lower case, digits, hyphens.
        path: Run directory.
        report: Content of report.json.
        config: Content of config.yaml.
        epochs: Rows of metrics.csv.
        class_counts: Fold -> class -> number of samples, from splits.csv.
        sweet_spots: Content of sweet_spots.json, None where the run chose none.
        crossover: Content of crossover.json, None where the run crossed nothing.
        ablation: Content of ablation/ablation.json, None where the run was not ablated.
        quality: Content of quality.json of the prepared stories, None where the data were not prepared.
        sweep: Content of lr_sweep_results.json of the sweep that gave the rate, None without one.
        parameters: Of each module of the network, beside those of the full size.
    """

    label: str
    path: Path
    report: dict[str, Any]
    config: dict[str, Any]
    epochs: list[dict[str, str]]
    class_counts: dict[str, dict[str, int]]
    sweet_spots: dict[str, Any] | None
    crossover: dict[str, Any] | None
    ablation: dict[str, Any] | None
    quality: dict[str, Any] | None
    sweep: dict[str, Any] | None
    parameters: list[ModuleSize]

    @property
    def labels(self) -> Labels:
        """Where the labels come from."""
        return labels_of(self.report, self.config)

    @property
    def num_parameters(self) -> int:
        """Of the whole network, without a text encoder that was trained along."""
        return sum(size.actual for size in self.parameters)

    def estimate(self, row: str, metric: str) -> dict[str, Any] | None:
        """An estimate of a row of the report's table, None where there is none."""
        rows = [*self.report.get("models", []), *self.report.get("baselines", [])]
        found = next((entry for entry in rows if entry["name"] == row), None)
        return None if found is None else found["metrics"].get(metric)


def read_sources(paths: list[Path], sweep: Path | None = None) -> list[Source]:
    """Read finished runs.

    Args:
        paths: Run directories or links to them.
        sweep: Folder of the sweep that chose the rate, copied in place of an earlier one; None: the copy, else the one
            that config.yaml names, if any.

    Raises:
        ConfigError: If a folder is no run directory or stands twice, or the sweep has no results.
        CheckpointError: If a run has no report.
        DataError: If a file is damaged, or what lies beside the run cannot be copied or is not the run's.
    """
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        raise ConfigError(f"a run stands twice: {', '.join(str(path) for path in paths)}; each may stand once")
    sources: list[Source] = []
    for path in resolved:
        run = RunDirectory.open(path)
        if not (path / "report.json").is_file():
            raise CheckpointError(f"{path} has no report.json (its state is {run.status()['state']}); finish it first")
        sources.append(_read(run, _label(path, [source.label for source in sources]), sweep))
    return sources


def _label(path: Path, taken: list[str]) -> str:
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in path.parent.name.lower())
    return plain if plain not in taken else f"{plain}-{path.name.rsplit('-', 1)[-1]}"


def _read(run: RunDirectory, label: str, sweep: Path | None) -> Source:
    path = run.path
    try:
        config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
        report = json.loads((path / "report.json").read_text(encoding="utf-8"))
        return Source(
            label=label,
            path=path,
            report=report,
            config=config,
            epochs=_rows(path / "metrics.csv"),
            class_counts=_class_counts(path / "splits.csv"),
            sweet_spots=_json(path / "sweet_spots.json"),
            crossover=_json(path / "crossover.json"),
            ablation=_json(path / "ablation" / "ablation.json"),
            quality=kept_quality(path, config, report),
            sweep=kept_sweep(path, config, sweep),
            parameters=parameters_of(run, config),
        )
    except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read ({error!r}); restore the run") from error


def _json(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _class_counts(path: Path) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for row in _rows(path):
        fold = counts.setdefault(row["fold"], {})
        fold[row["label"]] = fold.get(row["label"], 0) + 1
    return counts


def parameters_of(run: RunDirectory, config: dict[str, Any]) -> list[ModuleSize]:
    """Parameters of each module of the run's network beside those of the full size; built without memory.

    Raises:
        CheckpointError: If best.ckpt cannot be read.
    """
    arguments = load_checkpoint(run.checkpoints / "best.ckpt")["hyper_parameters"]
    model = config["model"]
    with torch.device("meta"):
        network = StoryNetwork(int(arguments["embedding_dim"]), model["sizes"], tuple(model.get("without", ())))
    return module_sizes(network, targets=True)
