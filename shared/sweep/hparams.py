"""The HPARAMS tab of TensorBoard: one event file a settled point, with its swept values and what it came to.

TensorBoard's own writer is used and not torch's: that one logs a placeholder of -1 as the first value of each metric
and needs torch, which a sweeper does not load.
"""

import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.sweep.scoring import measured
from shared.sweep.states import PointView

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

SCORE_TAG = "sweep/score"


def write_hparams(folder: Path, points: Sequence[PointView]) -> int:
    """Write `folder`/<point id>/ for each settled point that has none yet; what is there is left as it is.

    A failed point has its values and the status FAILURE, and no metric. A folder appears whole or not at all; where two
    write the same point at once, one of the two stays.

    Args:
        folder: `tb` of the sweep.
        points: Those that count.

    Returns:
        How many were written.

    Raises:
        OSError: If the disk refuses.
    """
    waiting = [point for point in points if point.is_settled and not _of(folder, point).is_dir()]
    if not waiting:
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    return sum(_write_whole(folder, point) for point in waiting)


def _of(folder: Path, point: PointView) -> Path:
    # A failed point may be retried and end well: then it gets a folder of its own and the failure goes.
    return folder / (f"{point.id}-failed" if point.state == "failed" else point.id)


def _write_whole(folder: Path, point: PointView) -> bool:
    # Beside `folder` and not in it: TensorBoard would show a half-written one as a run.
    temporary = Path(tempfile.mkdtemp(prefix=f".tb-{point.id}-", dir=folder.parent))
    try:
        _write_events(temporary, point)
        temporary.chmod(0o755)  # mkdtemp makes 0700; a sweep is meant to be read by colleagues
        try:
            temporary.rename(_of(folder, point))
        except OSError:
            if not _of(folder, point).is_dir():
                raise
            return False
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(temporary)
    if point.state == "done":
        shutil.rmtree(folder / f"{point.id}-failed", ignore_errors=True)
    return True


def _write_events(folder: Path, point: PointView) -> None:
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
    from tensorboard.summary.writer.event_file_writer import EventFileWriter  # type: ignore[import-untyped]

    t = point.history[-1].t if point.history else 0.0
    step = len((point.outcome or {}).get("epochs") or [])
    writer = EventFileWriter(os.fspath(folder))
    for summary in (_session(point, t), *(_scalar(tag, value) for tag, value in final_metrics(point).items())):
        writer.add_event(Event(wall_time=t, step=step, summary=summary))
    writer.close()


def final_metrics(point: PointView) -> dict[str, float]:
    """The score and the last value of each metric of a point that is done; nothing of one that failed."""
    score = measured(point)
    if score is None:
        return {}
    metrics: Mapping[str, Any] = (point.outcome or {}).get("metrics") or {}
    numbers = {key: value for key, value in metrics.items() if _is_number(value) and math.isfinite(value)}
    return {SCORE_TAG: score, **{key: float(value) for key, value in numbers.items()}}


def _session(point: PointView, t: float) -> "Summary":
    """Start and end of TensorBoard's session in one record: the swept values, and whether it ended well.

    The record of an experiment is left out: TensorBoard takes the first it finds for the whole, with that point's
    metrics, and without one it looks through all points.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2  # type: ignore[import-untyped]

    start = plugin_data_pb2.SessionStartInfo(group_name=point.id, start_time_secs=t)
    for key, value in point.values.items():
        if isinstance(value, bool):
            start.hparams[key].bool_value = value
        elif isinstance(value, int | float):
            start.hparams[key].number_value = value
        else:
            start.hparams[key].string_value = str(value)
    status = api_pb2.STATUS_SUCCESS if measured(point) is not None else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=t)
    records = {
        metadata.SESSION_START_INFO_TAG: plugin_data_pb2.HParamsPluginData(session_start_info=start),
        metadata.SESSION_END_INFO_TAG: plugin_data_pb2.HParamsPluginData(session_end_info=end),
    }
    summary = Summary()
    for tag, record in records.items():
        summary.value.add(tag=tag, metadata=metadata.create_summary_metadata(record), tensor=metadata.NULL_TENSOR)
    return summary


def _scalar(tag: str, value: float) -> "Summary":
    from tensorboard.compat.proto.summary_pb2 import Summary

    summary = Summary()
    summary.value.add(tag=tag, simple_value=value)
    return summary


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
