"""What a configuration may hold: the roots, their keys and values; an unknown key is an error that names the nearest.

Roots with `_target_` (data, model, trainer, callbacks, logger) have their constructor's signature as schema, checked by
`shared.instantiate`; optimizer and scheduler are checked by `shared.optim`; the rest has a dataclass here.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from shared.errors import ConfigError
from shared.instantiate import check_arguments, resolve_target, unknown_key
from shared.metric_keys import parse

STAGES = ("audit", "fit", "select", "crossover", "calibrate", "test", "report")
"""What a run may do, in this order; the data check always comes first."""

STAGE_NEEDS = (
    ("select", "fit"), ("crossover", "select"), ("calibrate", "fit"), ("test", "fit"), ("report", "test"),
)  # fmt: skip
"""Stage and the one that it needs."""

ROOTS = (
    "data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger", "audit", "stages", "runtime", "seed",
    "resume", "experiment", "paths",
)  # fmt: skip


@dataclass(frozen=True)
class AuditConfig:
    """Shortcut audit: see CONTRACTS 'Statistics'."""

    permutations: int  # of the features, for the p-value
    warn_above: float  # warn where the interval's lower end of AUROC - 0.5 exceeds this
    fail_above: float | None  # stop the run where it exceeds this; None: never

    def __post_init__(self) -> None:
        if self.permutations < 19:
            raise ConfigError(f"audit.permutations is {self.permutations}; below 19 no p-value reaches 0.05")
        for name, value in (("warn_above", self.warn_above), ("fail_above", self.fail_above)):
            if value is not None and not 0 <= value < 0.5:
                raise ConfigError(f"audit.{name} is {value}; it is an AUROC above 0.5, so 0 up to, but not, 0.5")


@dataclass(frozen=True)
class RuntimeConfig:
    """How the run is carried out."""

    threads: int | None  # of torch in this process; None: as many as the process may use cores
    monitor: str  # metric key that chooses the best checkpoint
    monitor_mode: str  # "max" or "min"
    save_every_minutes: float  # a resumable checkpoint within long epochs at least this often
    keep_top: int  # besides best and last, so many of the best epochs in checkpoints/top/
    rehearse: bool = False  # the whole path on a few batches with learning rate 0: does everything work?

    def __post_init__(self) -> None:
        if self.monitor_mode not in ("max", "min"):
            raise ConfigError(f"runtime.monitor_mode is {self.monitor_mode!r}; allowed are max and min")
        parse(self.monitor)
        if self.keep_top < 0:
            raise ConfigError(f"runtime.keep_top is {self.keep_top}; allowed are 0 and above")
        if self.save_every_minutes <= 0:
            raise ConfigError(f"runtime.save_every_minutes is {self.save_every_minutes}; it must be above 0")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"runtime.threads is {self.threads}; allowed are null and whole numbers from 1 on")


@dataclass(frozen=True)
class PathsConfig:
    """Folders."""

    outputs: str  # root of all run directories
    cache: str  # stand-in data and data-set indices, made once


@dataclass(frozen=True)
class Settings:
    """A checked configuration: plain containers where a constructor takes them, dataclasses for the rest."""

    plain: dict[str, Any]  # the whole configuration, resolved
    audit: AuditConfig
    runtime: RuntimeConfig
    paths: PathsConfig
    stages: tuple[str, ...]
    seed: int
    resume: str | None
    experiment: str

    @property
    def project(self) -> str:
        """Name of the project, from the datamodule's place (`projects.<name>.data...`)."""
        return str(self.plain["data"]["_target_"]).split(".")[1]

    @property
    def outputs(self) -> Path:
        """Root of all run directories."""
        return Path(self.paths.outputs)

    @property
    def sweeps(self) -> Path:
        """Where this project's sweeps are."""
        return self.outputs / self.project / "sweeps"


def check_config(config: DictConfig | Mapping[str, Any]) -> Settings:
    """Check a composed configuration and turn it into plain containers.

    Raises:
        ConfigError: For an unknown or missing key, a value that is not allowed, or a `_target_` that is.
    """
    plain = to_plain(config)
    for root in plain:
        if root not in ROOTS:
            raise ConfigError(unknown_key(str(root), list(ROOTS)))
    missing = [root for root in ROOTS if root not in plain]
    if missing:
        raise ConfigError(f"the configuration lacks {', '.join(missing)}")
    settings = Settings(
        plain=plain,
        audit=_section(AuditConfig, plain["audit"], "audit"),
        runtime=_section(RuntimeConfig, plain["runtime"], "runtime"),
        paths=_section(PathsConfig, plain["paths"], "paths"),
        stages=_stages(plain["stages"]),
        seed=_whole_number(plain["seed"], "seed"),
        resume=None if plain["resume"] is None else str(plain["resume"]),
        experiment=_name(plain["experiment"], "experiment"),
    )
    for root in ("optimizer", "scheduler"):
        if not isinstance(plain[root], dict) or "name" not in plain[root]:
            raise ConfigError(f"{root} must be a mapping with a name, got {plain[root]!r}")
    return settings


def check_targets(settings: Settings, engine_sets: Mapping[str, tuple[str, ...]]) -> None:
    """Check the keys of every node with a `_target_` against its constructor, before any work is done.

    Args:
        settings: Checked configuration.
        engine_sets: Node path or target -> arguments that the engine adds.
    """
    plain = settings.plain
    nodes = {root: plain[root] for root in ("data", "model", "trainer")}
    for root in ("callbacks", "logger"):
        nodes |= {f"{root}.{name}": node for name, node in enabled_nodes(plain[root], root).items()}
    for where, node in nodes.items():
        by_place = engine_sets.get(where) or engine_sets.get(where.split(".")[0] + ".*", ())
        given = engine_sets.get(node.get("_target_", ""), by_place)
        check_arguments(node, where, resolve_target(node, where), given)


def enabled_nodes(section: Any, root: str) -> dict[str, dict[str, Any]]:
    """Nodes of `callbacks` or `logger` that are not switched off by `enabled: false`, without that key."""
    nodes: dict[str, dict[str, Any]] = {}
    for name, node in (section or {}).items():
        if not isinstance(node, dict) or not isinstance(node.get("enabled"), bool):
            raise ConfigError(f"{root}.{name} must be a mapping with enabled: true or false, got {node!r}")
        if node["enabled"]:
            nodes[name] = {key: value for key, value in node.items() if key != "enabled"}
    return nodes


def to_plain(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as nested dict, list, str, number, bool and None, with interpolations resolved.

    Raises:
        ConfigError: If a mandatory value ('???') is not given or an interpolation does not resolve.
    """
    node = config if isinstance(config, DictConfig) else OmegaConf.create(dict(config))
    try:
        plain = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"config key {error.full_key or '?'}: {str(error).splitlines()[0]}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def differing_keys(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ between two plain configurations, sorted."""
    keys: list[str] = []
    for key in sorted({*first, *second}):
        path = f"{prefix}{key}"
        a, b = first.get(key, MISSING), second.get(key, MISSING)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            keys += differing_keys(a, b, f"{path}.")
        elif a is MISSING or b is MISSING or a != b:
            keys.append(path)
    return keys


Section = TypeVar("Section")


def _section(kind: type[Section], node: Any, where: str) -> Section:
    """Build a section's dataclass, refusing unknown, missing and mistyped keys."""
    if not isinstance(node, dict):
        raise ConfigError(f"{where} must be a mapping, got {node!r}")
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    # A key with a default is younger than some runs that are still to be loaded.
    optional = [field.name for field in fields(kind) if field.default is not MISSING]  # type: ignore[arg-type]
    for key in node:
        if key not in known:
            raise ConfigError(unknown_key(f"{where}.{key}", [f"{where}.{name}" for name in known]))
    hints = get_type_hints(kind)
    for name in known:
        if name not in node and name in optional:
            continue
        if name not in node:
            raise ConfigError(f"the configuration lacks {where}.{name}")
        types = get_args(hints[name]) or (hints[name],)
        # An int is a float to a reader of YAML; a bool is an int to Python but to nobody else.
        accepted = (*types, int) if float in types else types
        if not isinstance(node[name], accepted) or (isinstance(node[name], bool) and bool not in types):
            names = " or ".join("null" if kind_ is NoneType else kind_.__name__ for kind_ in types)
            raise ConfigError(f"{where}.{name} is {node[name]!r}; it must be {names}")
    return kind(**node)


def _stages(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"stages is {value!r}; it must be a list of some of {', '.join(STAGES)}")
    for stage in value:
        if stage not in STAGES:
            raise ConfigError(unknown_key(f"stages.{stage}", [f"stages.{name}" for name in STAGES]))
    for stage, needed in STAGE_NEEDS:
        if stage in value and needed not in value:
            raise ConfigError(f"stages holds {stage} but not {needed}, which it needs")
    return tuple(stage for stage in STAGES if stage in value)


def _whole_number(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{where} is {value!r}; it must be a whole number from 0 on")
    return value


def _name(value: Any, where: str) -> str:
    """A name that becomes a folder: no separators, nothing hidden."""
    if not isinstance(value, str) or not value or not all(c.isalnum() or c in "_-" for c in value):
        raise ConfigError(f"{where} is {value!r}; it names a folder, so letters, digits, _ and - are allowed")
    return value
