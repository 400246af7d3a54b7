"""Read what `integrate` made, after checking that it is whole and belongs to the mapping that is there now."""

from pathlib import Path
from typing import Any

from projects.pillsnap.chain.captures import PhotoRow, read_captures
from projects.pillsnap.chain.class_mapping import ClassMapping, read_mapping
from projects.pillsnap.chain.files import (
    CAPTURES,
    MAPPING,
    STATS,
    check_sources,
    command,
    parse_json,
    read_step,
    sha256_bytes,
)
from shared.errors import DataError


def read_integrated(dataset: Path) -> tuple[ClassMapping, list[PhotoRow], str]:
    """Read mapping and captures and check that they belong to one finished integration.

    Returns:
        The mapping, the photos, and the sha256 of `captures.csv`.

    Raises:
        DataError: One is missing or damaged, or changed since the integration.
    """
    mapping = read_mapping(dataset)
    stats = parse_json(dataset / STATS, read_step(dataset, STATS))
    content = read_step(dataset, CAPTURES)
    found = sha256_bytes(content)
    if not isinstance(stats, dict):
        raise DataError(f"{dataset / STATS} is damaged; run `{command(STATS)}` again.")
    check_sources(dataset, STATS, stats.get("sources"), {MAPPING: mapping.sha256})
    outputs: Any = stats.get("outputs")
    if not isinstance(outputs, dict) or outputs.get(CAPTURES) != found:
        raise DataError(
            f"{dataset / CAPTURES} is not the file that {STATS} belongs to (sha256 {found[:12]}); run "
            f"`{command(STATS)}` again."
        )
    return mapping, read_captures(dataset, content), found
