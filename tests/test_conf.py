"""Every file below conf/ composes, its keys are read, and its monitors are keys that a module logs."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from shared.config import AuditConfig, PathsConfig, RuntimeConfig, check_config, check_targets, enabled_nodes
from shared.engine import ENGINE_SETS
from shared.entry import CONFIG_FOLDER
from shared.errors import ConfigError
from tests.fabricate.battery_run import composed

CONF = Path(CONFIG_FOLDER)
PRIMARIES = sorted(path.stem for path in CONF.glob("*.yaml"))
PROJECT_GROUPS = ("data", "model")
SHARED_GROUPS = ("optimizer", "scheduler", "trainer", "callbacks", "logger", "audit", "runtime")


def options(group, prefix=""):
    return sorted(path.stem for path in (CONF / group).glob(f"{prefix}*.yaml"))


def project_of(experiment):
    """The primary whose data or model the experiment, or the one that it builds on, chooses."""
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    if chosen := re.search(r"override /(?:data|model): ([a-z]+)_", text):
        return chosen[1]
    return project_of(re.search(r"^defaults:\n  - (\w+)$", text, re.MULTILINE)[1])


def experiment_cases():
    return [(project_of(name), name) for name in options("experiment")]


# Values that only the user has.
MANDATORY = {
    "battery_ct": ["data.root=somewhere"],
    "pillsnap_folder": ["data.root=somewhere"],
    "photos": ["data.root=somewhere"],
    "redheart_stories": ["data.root=somewhere"],
    "redheart_reference": ["data.root=somewhere"],
    "local_path": ["data.encoder.path=somewhere"],
    "hub": ["data.encoder.model=somebody/model", "data.encoder.revision=main"],
    "spectra_files": ["data.struct_files=[a.npy]", "data.spectra_files=[b.npy]"],
}


def check(primary, *overrides):
    settings = check_config(composed(primary, *overrides))
    check_targets(settings, ENGINE_SETS)
    return settings


def test_there_is_something_to_check():
    assert PRIMARIES
    assert len(experiment_cases()) >= 6
    assert all(options(group) for group in (*PROJECT_GROUPS, *SHARED_GROUPS))


@pytest.mark.parametrize("primary", PRIMARIES)
def test_primaries_are_short(primary):
    assert len((CONF / f"{primary}.yaml").read_text().splitlines()) <= 15


@pytest.mark.parametrize(("primary", "experiment"), experiment_cases())
def test_experiments_compose_and_their_names_are_their_files(primary, experiment):
    given = MANDATORY.get(experiment, [])
    assert check(primary, f"+experiment={experiment}", *given).experiment == experiment


@pytest.mark.parametrize("primary", PRIMARIES)
@pytest.mark.parametrize("group", PROJECT_GROUPS)
def test_options_of_a_project_compose(primary, group):
    names = options(group, f"{primary}_")
    assert names
    for name in names:
        check(primary, f"{group}={name}", *MANDATORY.get(name, []))


@pytest.mark.parametrize(("group", "option"), [(group, option) for group in SHARED_GROUPS for option in options(group)])
def test_shared_options_compose(group, option):
    check("battery", f"{group}={option}")


@pytest.mark.parametrize("encoder", options("encoder"))
def test_encoders_compose(encoder):
    assert check("redheart", f"encoder={encoder}", *MANDATORY.get(encoder, [])).plain["data"]["encoder"]["name"]


@pytest.mark.parametrize("primary", PRIMARIES)
@pytest.mark.parametrize("name", options("debug"))
def test_debug_overlays_compose(primary, name):
    check(primary, f"+debug={name}")


def test_an_unknown_key_in_a_file_is_an_error_that_names_the_nearest():
    # As a key in an experiment's file would be: added without Hydra's own check.
    for override, sentence in (
        ("+trainer.max_epoch=3", r"unknown config key trainer\.max_epoch; the nearest is trainer\.max_epochs"),
        ("+data.image_size=64", r"unknown config key data\.image_size; the nearest is data\.image_size_px"),
        ("+model.focal_gama=1", r"unknown config key model\.focal_gama; the nearest is model\.focal_gamma"),
        ("+callbacks.panels.every=1", r"callbacks\.panels\.every; the nearest is callbacks\.panels\.every_n_epochs"),
        ("+audit.fail=1", r"unknown config key audit\.fail; the nearest is audit\.fail_above"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            check("battery", override)


@pytest.mark.parametrize(
    ("primary", "override", "key"),
    [
        ("battery", "data=battery_ct", r"data\.root"),
        ("pillsnap", "data=pillsnap_folder", r"data\.root"),
        ("redheart", "data=redheart_stories", r"data\.root"),
        ("redheart", "encoder=local_path", r"data\.encoder\.path"),
        ("spectra", "data=spectra_files", r"data\.s\w+_files"),
    ],
)
def test_what_only_the_user_has_is_asked_for_by_name(primary, override, key):
    with pytest.raises(ConfigError, match=key):
        check(primary, override)


def test_callbacks_are_switched_off_by_name():
    plain = check("battery", "callbacks.early_stopping.enabled=false").plain
    assert "early_stopping" not in enabled_nodes(plain["callbacks"], "callbacks")


def test_every_file_is_reached_by_a_test_here():
    # hydra/ and launcher/ are tested beside what reads them: tests/shared/sweep/test_plugins.py and test_launchers.py.
    tested = {"experiment", "debug", "base", "encoder", "hydra", "launcher", *PROJECT_GROUPS, *SHARED_GROUPS}
    assert {path.name for path in CONF.iterdir() if path.is_dir() and not path.name.startswith("__")} == tested
    with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
        assert compose("battery").paths.outputs == "outputs"


@pytest.mark.parametrize(
    ("section", "field"),
    [
        (section, field.name)
        for section, kind in (("audit", AuditConfig), ("runtime", RuntimeConfig), ("paths", PathsConfig))
        for field in fields(kind)
    ],
)
def test_every_key_of_a_section_is_read_somewhere(section, field, repo_root):
    own = repo_root / "shared" / "config.py"
    sources = [path for path in (repo_root / "shared").rglob("*.py") if path != own]
    # `settings.audit.warn_above`, or through a local name such as `config` or `runtime`.
    pattern = re.compile(rf"\b(?:{section}|config|runtime|self\.paths)\.{field}\b")
    assert any(pattern.search(path.read_text(encoding="utf-8")) for path in [*sources, own]), f"nothing reads {field}"
