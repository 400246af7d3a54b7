"""The exports of a sweep, made again from its folder alone."""

from pathlib import Path

from shared.sweep.exports import SweepFacts, best_name, cumulative_name, write_exports
from shared.sweep.overview import SweepReader


def rebuild_exports(folder: Path, *, complete: bool | None = None, pictures: bool = True) -> list[Path]:
    """Write table, cumulative file, pictures and, once the sweep is complete, the file of the best point.

    Args:
        folder: Of the sweep.
        complete: Whether no point is missing; None: as far as the newest plan tells.
        pictures: Whether to draw and to write TensorBoard's files too, which takes seconds.

    Returns:
        The files that name results: table, cumulative file, and the best where there is one.

    Raises:
        ConfigError: If it is no sweep.
        DataError: If it cannot be read.
        OSError: If a file cannot be written.
    """
    reader = SweepReader(folder)
    overview = reader.read(thorough=False)
    space = reader.space()
    kept = {point["id"]: "kept from " + ", ".join(point["marks"]) for point in overview["points"] if point["marks"]}
    counted = {point["id"] for point in overview["points"] if point["counts"]}
    facts = SweepFacts(
        folder=folder,
        space=space.content,
        contains=space.contains,
        direction=reader.direction,
        score_name=str(reader.facts.get("score_name", "score")),
        generation=overview["generation"],
        complete=overview["finished"] if complete is None else complete,
        marks={one: mark for one, mark in kept.items() if one in counted},
        search={key: reader.facts[key] for key in ("sweeper", "primary", "overrides", "settings", "config_hash")},
    )
    write_exports(facts, reader.ledger.points(all_generations=True), pictures=pictures)
    names = ["table.csv", cumulative_name(facts), best_name(facts)]
    return [folder / name for name in names if (folder / name).is_file()]
