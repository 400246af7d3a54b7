"""The stories that a run was made from."""

from projects.redheart.data.text_datamodule import TextDataModule
from shared.errors import CheckpointError
from shared.instantiate import instantiate
from shared.resume import saved_settings
from shared.run_dir import RunDirectory

Texts = dict[str, tuple[str, str, str]]
"""Sample id -> title, action and text."""


def texts_of_run(run: RunDirectory) -> Texts:
    """Texts of all stories of a run's data.

    Raises:
        CheckpointError: If the run's data have no texts.
        DataError: If the data cannot be read.
    """
    settings = saved_settings(run)
    datamodule = instantiate(settings.plain["data"], "data", seed=settings.seed, cache_folder=settings.paths.cache)
    if not isinstance(datamodule, TextDataModule):
        raise CheckpointError(f"{run.path} was made from {type(datamodule).__name__}, which holds no stories to read")
    stories, ids = datamodule.corpus.stories, datamodule.corpus.index.ids
    return dict(zip(ids, zip(stories.title, stories.action, stories.text, strict=True), strict=True))
