"""The description: numbers, memory, what is printed, and that the full network takes no memory."""

import json
import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console

from projects.redheart import describe
from shared.errors import ConfigError

GROWTH_KB = 100_000
MEASURE = """
import resource
from projects.redheart import describe
describe.description("redheart_tiny")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
described = describe.description("redheart_full")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, described["total"]["actual"])
"""


@pytest.fixture(scope="module")
def full() -> dict[str, object]:
    """Description of the full network."""
    return describe.description("redheart_full")


def printed(described: dict[str, object]) -> str:
    """What `show` prints."""
    text = StringIO()
    describe.show(described, Console(width=120, file=text))
    return text.getvalue()


def test_total_modules_and_groups_agree(full: dict[str, object]) -> None:
    modules, groups, total = full["modules"], full["groups"], full["total"]

    assert isinstance(modules, list)
    assert isinstance(groups, list)
    assert isinstance(total, dict)
    assert sum(row["actual"] for row in modules) == sum(row["actual"] for row in groups) == total["actual"]
    assert total["target"] == 730_466_848
    assert total["difference"] == total["actual"] - 730_466_848
    assert full["within_tolerance"] is True


def test_memory_of_hand() -> None:
    assert describe.memory(2**28, 4) == {"weights": 1.0, "gradients": 1.0, "optimizer": 2.0, "sum": 4.0}


def test_table_says_whether_the_total_is_right(full: dict[str, object]) -> None:
    text = printed(full)

    assert "The total is within 0.1 % of the reference's." in text
    assert "90,624,132" in text
    assert "730,466,848" in text
    off = full | {"within_tolerance": False}
    assert "The total is NOT within 0.1 % of the reference's." in printed(off)


def test_smaller_configurations_have_no_target() -> None:
    tiny = describe.description("tiny")

    assert tiny["within_tolerance"] is None
    assert "The total" not in printed(tiny)
    assert tiny == describe.description("redheart_tiny")


def test_the_size_of_an_embedding_is_counted() -> None:
    """The first norm (2 numbers an input) and layer (width numbers an input) of the backbone."""
    wide, plain = (describe.description("tiny", size)["total"]["actual"] for size in (385, 384))

    assert wide - plain == 64 + 2


def test_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    describe.main(["model=redheart_tiny", "--json"])

    assert json.loads(capsys.readouterr().out) == describe.description("tiny")


def test_an_unknown_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    expected = "model is 'huge', allowed: redheart_base, redheart_full, redheart_tiny"
    with pytest.raises(ConfigError, match=f"^{expected}$"):
        describe.read_sizes("huge")
    with pytest.raises(SystemExit) as left:
        describe.main(["model=huge"])

    assert left.value.code == ConfigError.exit_code
    assert capsys.readouterr().err == f"error: {expected}\n"


def test_the_full_network_takes_no_memory() -> None:
    """In its own process, since peak memory never falls."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    grown, total = (int(number) for number in done.stdout.split())

    assert total > 700_000_000
    assert grown < GROWTH_KB
