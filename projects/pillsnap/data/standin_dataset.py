"""Rendered pills through the chain: the same commands' functions that a user's photos go through."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from projects.pillsnap.chain.class_mapping import map_classes
from projects.pillsnap.chain.files import MANIFEST
from projects.pillsnap.chain.integration import IntegrationSettings, Roots, integrate
from projects.pillsnap.chain.manifest import write_manifest
from projects.pillsnap.chain.splitting import split
from projects.pillsnap.preprocess import UnifiedPreprocessor
from projects.pillsnap.standin import StandinConfig, generate_standin
from shared.base_data import Progress, no_progress

DRUGS = "top_100_drugs.json"


def make_standin_dataset(
    raw: Path,
    dataset: Path,
    config: StandinConfig,
    preprocess: UnifiedPreprocessor,
    augmentation: Mapping[str, Any],
    progress: Progress = no_progress,
    workers: int = 2,
) -> Path:
    """Render the photos and run the chain on them, unless that is done already; a killed call is completed by the next.

    Args:
        raw: Folder of the rendered tree: studio, real, others and the list of drugs.
        dataset: Folder of the data set that the chain makes of it.
        config: What to render.
        preprocess: Whose settings the manifest states.
        augmentation: What training does to the pixels before it, for the manifest.
        progress: Told what is being done.
        workers: Processes that render.

    Returns:
        `dataset`.
    """
    if (dataset / MANIFEST).is_file():  # the last thing that is written, whole or not at all
        return dataset
    generate_standin(
        raw, config, workers=workers, on_progress=lambda done, total: progress("rendered pills", done, total)
    )
    dataset.mkdir(parents=True, exist_ok=True)
    map_classes(raw / DRUGS, dataset)
    others = raw / "others" if config.num_unknown_classes else None
    roots = Roots(raw / "studio", raw / "real", others)
    integrate(dataset, roots, IntegrationSettings(seed=config.seed), on_progress=progress)
    split(dataset, seed=config.seed)
    write_manifest(
        dataset,
        preprocessing=preprocess.get_config(),
        augmentation=augmentation,
        name=f"pillsnap stand-in, {config.num_classes} classes",
        on_progress=lambda done, total: progress("manifest", done, total),
    )
    return dataset
