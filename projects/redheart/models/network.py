"""The network of stories: backbone, heads, analyzers, and the fusion of what they say."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from projects.redheart.models.analyzers import GROUPS, build_analyzers, check_names
from projects.redheart.models.backbone import RedHeartUnifiedBackbone
from projects.redheart.models.context import Analyzer, Context, Contribution
from projects.redheart.models.fusion import HEAD, Fusion
from projects.redheart.models.heads import Heads
from projects.redheart.models.layers import recomputed

BACKBONE = "backbone"


class NetworkOutputs(NamedTuple):
    """What the network says.

    Attributes:
        outputs: Task -> (B, D) logits, fused.
        parts: Module ("heads" among them) -> its own contribution, for those that were not switched off.
    """

    outputs: dict[str, Tensor]
    parts: dict[str, Contribution]


class StoryNetwork(nn.Module):
    """One network for all tasks, its modules switchable one by one.

    Args:
        embedding_dim: Size of an embedded part.
        sizes: {"width", "backbone": {...}, "heads": {part: {...}}, "analyzers": {name: {...}}}, plain numbers; see
            conf/model/redheart_tiny.yaml.
        without: Analyzers that are not built at all.

    Raises:
        ValueError: If `without` names no analyzer, or sizes are missing.
    """

    def __init__(self, embedding_dim: int, sizes: Mapping[str, Any], without: Sequence[str] = ()) -> None:
        super().__init__()
        width = int(sizes["width"])
        self.embedding_dim = embedding_dim
        self.backbone = RedHeartUnifiedBackbone(embedding_dim, width, **sizes["backbone"])
        self.heads = Heads(width, sizes["heads"])
        self.analyzers = build_analyzers(width, sizes["analyzers"], without)
        self.fusion = Fusion({name: analyzer.tasks for name, analyzer in self._analyzers()})
        self._activation_checkpointing = False

    @property
    def activation_checkpointing(self) -> bool:
        """Whether backbone layers, trunk and analyzers compute their activations again in the backward pass."""
        return self._activation_checkpointing

    @activation_checkpointing.setter
    def activation_checkpointing(self, enabled: bool) -> None:
        self._activation_checkpointing = enabled
        self.backbone.activation_checkpointing = enabled
        self.heads.trunk.activation_checkpointing = enabled

    @property
    def switches(self) -> tuple[str, ...]:
        """Names that `off` may hold."""
        return (BACKBONE, HEAD, *self.analyzers)

    @property
    def drops_out(self) -> bool:
        """Whether two passes of a batch in training differ."""
        return any(isinstance(module, nn.Dropout) and module.p > 0 for module in self.modules())

    def forward(self, embedding: Tensor, mask: Tensor, part: Tensor, off: Collection[str] = ()) -> NetworkOutputs:
        """Answer all tasks.

        Args:
            embedding: (B, S, D) embedded parts.
            mask: (B, S) bool, True where there is a part.
            part: (B, S) int64: 0 a sentence of the text, 1 the title, 2 the action.
            off: Modules left out of this pass. An analyzer or "heads": its contribution is missing and the fusion
                shares out its weight (the analyzers still hear what the heads say); "backbone": its layers are skipped.

        Returns:
            Logits of all tasks, and what each module contributed.

        Raises:
            ValueError: If `off` names no module, or leaves a task with no contribution.
        """
        check_names("off", sorted(off), self.switches)
        sequence, pooled = self.backbone(embedding, mask, part, mix=BACKBONE not in off)
        preliminary, trajectory = self.heads(sequence, mask, pooled)
        context = Context(sequence, mask, part, pooled, trajectory, preliminary)
        parts: dict[str, Contribution] = {} if HEAD in off else {HEAD: preliminary}
        for name, analyzer in self._analyzers():
            if name not in off:
                parts[name] = recomputed(self.activation_checkpointing, analyzer, context)
        return NetworkOutputs(self.fusion(parts), parts)

    def module_groups(self) -> dict[str, tuple[str, ...]]:
        """Group -> prefixes of its parameters, see GROUPS; A holds backbone, heads and fusion too."""
        groups = {
            group: tuple(f"analyzers.{name}." for name in names if name in self.analyzers)
            for group, names in GROUPS.items()
        }
        groups["A"] = (f"{BACKBONE}.", f"{HEAD}.", "fusion.", *groups["A"])
        return {group: prefixes for group, prefixes in groups.items() if prefixes}

    def absent_groups(self) -> tuple[str, ...]:
        """Groups of GROUPS all of whose analyzers were left out."""
        present = self.module_groups()
        return tuple(group for group in GROUPS if group not in present)

    def _analyzers(self) -> list[tuple[str, Analyzer]]:
        """Analyzers with their names."""
        return [(name, cast(Analyzer, module)) for name, module in self.analyzers.items()]
