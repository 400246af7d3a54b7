"""Where the labels of a run's texts come from, as the tables and the text must say."""

from collections.abc import Mapping
from enum import Enum
from typing import Any


class Labels(Enum):
    """Origin of the labels: the short form for captions, and the sentence for the limitations."""

    GENERATED = (
        "stand-in stories with generated labels",
        "The stories are stand-ins made by a generator from templates with labels that are consistent by construction: "
        "they show that the method runs, not how well it does on real text. The labels of the stories that the method "
        "is meant for come from a language model, not from people.",
    )
    LANGUAGE_MODEL = (
        "labels by a language model, not by people",
        "The labels of the stories come from a language model, not from people: agreement with them is not agreement "
        "with readers.",
    )
    HUMAN = (
        "human labels",
        "The labels come from the annotators of a public corpus (GoEmotions); only the emotion is labelled, so nothing "
        "here tells how well the other tasks are answered.",
    )
    UNKNOWN = (
        "labels of unknown origin",
        "Where the labels come from is not known to this program; say it here before anything else.",
    )

    @property
    def short(self) -> str:
        """For a caption or a cell."""
        return self.value[0]

    @property
    def sentence(self) -> str:
        """For the limitations."""
        return self.value[1]


_TARGETS = {
    "projects.redheart.data.datamodule.StoriesDataModule": Labels.LANGUAGE_MODEL,
    "projects.redheart.data.goemotions_datamodule.GoEmotionsDataModule": Labels.HUMAN,
}


def labels_of(report: Mapping[str, Any], config: Mapping[str, Any]) -> Labels:
    """Origin of a run's labels, from the data's source in the report and the datamodule in the configuration."""
    if report["data"]["source"] != "real":
        return Labels.GENERATED
    return _TARGETS.get(str(config["data"].get("_target_")), Labels.UNKNOWN)
