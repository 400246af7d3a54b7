"""export.md: what was exported, how it agrees, how fast it is."""

from collections.abc import Iterator, Mapping
from typing import Any

from projects.pillsnap.onnx_export.judgement import JUDGED_ON


def markdown(content: Mapping[str, Any]) -> str:
    """The page of an export.

    Args:
        content: As in export.json.
    """
    return "\n".join(_lines(content)) + "\n"


def _lines(content: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Export of {content['run']}"
    yield ""
    served = "**none**, no variant is within its tolerance" if content["served"] is None else f"**{content['served']}**"
    yield f"Served (`model.onnx`): {served}. Input: {content['size_px']} px, form `{content['form']}`."
    yield f"{content['none_of_these']}"
    yield ""
    yield from _preprocessing(content["preprocessing_agreement"])
    yield ""
    yield from _table(content)
    yield ""
    outside, alone = content["chain_with_preprocessor_outside"], content["preprocessor_alone"]
    yield (
        f"The network in float32 behind the preprocessor outside the file takes {outside['p50_ms']:.1f} ms "
        f"({outside['ratio']:.2f}), the preprocessor alone {alone['p50_ms']:.2f} ms."
    )
    yield ""
    yield from _tried(content["variants"])
    yield f"Versions: {', '.join(f'{name} {version}' for name, version in content['versions'].items())}."


def _preprocessing(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["inside"]:
        yield "Preprocessing: outside the file, by the preprocessor itself."
        return
    yield (
        f"Preprocessing in the file: at most {found['max_grey_levels']} grey levels from the preprocessor on "
        f"{found['images']} squares (allowed: {found['tolerance']})."
    )
    resized = found["resized_in_file"]
    if resized is not None:
        yield (
            f"On {resized['images']} photos that the file resizes itself: at most {resized['max_grey_levels']} grey "
            f"levels, {100 * resized['differing_share']:.2f} % of the values differ."
        )


def _table(content: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Whole chain, photo to probabilities, batch 1, {content['threads']} thread(s), {content['rounds']} rounds in "
        "turns; ratio: median of the shares of float32's time in the same round. Agreement and accuracy are against "
        "PyTorch in float32."
    )
    yield ""
    folds = [fold for fold in (JUDGED_ON, "test") if fold in content["variants"][0]]
    heads = [f"{fold}: {what}" for fold in folds for what in _MEASURED]
    columns = ["variant", "MB", "p50 ms", "p95 ms", "ratio", *heads, "within tolerance"]
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in content["variants"]:
        chain = row["chain"]
        cells = [row["variant"], f"{row['bytes'] / 1e6:.1f}", f"{chain['p50_ms']:.1f}", f"{chain['p95_ms']:.1f}"]
        cells += [f"{chain['ratio']:.2f}", *(cell for fold in folds for cell in _measured(row[fold]))]
        yield f"| {' | '.join([*cells, 'yes' if row['within'] else 'NO'])} |"
    yield ""
    for row in content["variants"]:
        if not row["within"]:
            yield f"Not within its tolerance: {row['variant']} ({'; '.join(row['reasons_against'])})."
    batches = " and ".join(str(size) for size in content["variants"][0][JUDGED_ON]["batches"])
    yield (
        f"Judged on {JUDGED_ON}, at batch sizes {batches}, the worse of them; n: photos; in brackets the lower end of "
        "the 95 % interval after Clopper and Pearson, as if the photos were independent."
    )


_MEASURED = ("n", "max \\|dp\\|", "top-1 agreement", "none-of-these agreement", "accuracy", "lost")


def _measured(found: Mapping[str, Any]) -> list[str]:
    """Cells of a row about one fold, in the order of `_MEASURED`."""
    return [
        str(found["images"]), f"{found['max_abs_probability']:.2g}",
        f"{100 * found['top1_agreement']:.2f} % ({100 * found['top1_agreement_lower_95']:.2f} %)",
        f"{100 * found['none_of_these_agreement']:.2f} %", f"{100 * found['accuracy']:.2f} %",
        f"{100 * found['accuracy_loss']:+.2f} points",
    ]  # fmt: skip


def _tried(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        if "quantisation" not in row:
            continue
        notes = row["quantisation"]
        yield f"8 bits, ranges from {notes['calibration_images']} photos of train, chosen on val:"
        yield ""
        yield "| ranges | parts left in float32 | top-1 agreement | mean sum of \\|dp\\| |"
        yield "|---|---|---|---|"
        for entry in notes["tried"]:
            mark = " (chosen)" if entry == notes["chosen"] else ""
            yield (
                f"| {entry['ranges']}{mark} | {entry['parts_in_float32']} | {100 * entry['top1_agreement']:.2f} % | "
                f"{entry['mean_abs_probability']:.4f} |"
            )
        yield ""
