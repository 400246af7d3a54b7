import re

import pytest

from projects.pillsnap.chain.captures import (
    DEFAULT_PATTERN,
    PhotoRow,
    capture_of,
    captures_bytes,
    compile_pattern,
    join,
    read_captures,
)
from shared.errors import ConfigError, DataError

SHA = "0" * 64


def row(path, group="g", **changes):
    fields = {"kcode": path.split("/")[1], "domain": path.split("/")[2].split("_")[0], "capture": "c", "size": 3}
    return PhotoRow(**({"path": path, "group": group, "sha256": SHA} | fields | changes))


ROWS = [row("combined/K-1/real_a,b.jpg"), row("combined/K-1/studio_a.jpg"), row("others/K-9/other_a.jpg")]


@pytest.mark.parametrize(
    ("name", "capture"),
    [
        ("r07_02.jpg", "r07"),
        ("r07_a_12.jpeg", "r07_a"),
        ("r07.jpg", None),
        ("_1.jpg", None),
        ("r07_x.jpg", None),
        ("7_1.2_3.png", "7_1.2"),
    ],
)
def test_the_default_pattern_takes_what_stands_before_the_last_number(name, capture):
    assert capture_of(compile_pattern(DEFAULT_PATTERN), name) == capture


def test_a_pattern_of_the_user():
    pattern = compile_pattern(r"session(?P<capture>\d+)")
    assert capture_of(pattern, "pill_session12_front.jpg") == "12"
    assert capture_of(compile_pattern(r"^(?P<capture>x*)"), "abc.jpg") is None  # an empty capture tells nothing
    with pytest.raises(ConfigError, match=r"the capture pattern '\(' is no regular expression"):
        compile_pattern("(")
    with pytest.raises(ConfigError, match=r"must name its part: '\(\?P<capture>"):
        compile_pattern(r"^(.+)_\d+$")


def test_joining_follows_chains():
    found = join([("e", "d"), ("a", "b"), ("c", "d"), ("b", "c"), ("x", "x")])
    assert found == dict.fromkeys("abcde", "a") | {"x": "x"}


def test_the_table_is_read_as_it_was_written(tmp_path):
    (tmp_path / "captures.csv").write_bytes(captures_bytes(reversed(ROWS)))
    assert read_captures(tmp_path) == ROWS
    text = (tmp_path / "captures.csv").read_text()
    assert text.splitlines()[0] == "path,kcode,domain,capture,group,size,sha256"
    assert text.splitlines()[1] == f'"combined/K-1/real_a,b.jpg",K-1,real,c,g,3,{SHA}'


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: "x" + text, r"has the columns \['xpath'"),
        (lambda text: text.replace("K-1,studio", "K-2,studio"), "line 3: kcode, capture, group, size or sha256 of"),
        (lambda text: text.replace("studio_a.jpg,K-1,studio", "studio_a.jpg,K-1,real"), "be of the domain 'real'"),
        (lambda text: text.replace("others/K-9", "combined/K-9"), "cannot be of the domain 'other'"),
        (lambda text: text.replace("combined/K-1/studio_a", "../K-1/studio_a"), r"the photo '\.\./K-1/studio_a\.j"),
        (lambda text: text.replace("combined/K-1/studio_a", "combined/K-1/../studio_a"), "allowed are combined/"),
        (lambda text: text.replace("combined/K-1/studio_a", "/combined/K-1/studio_a"), "allowed are combined/<kcode>"),
        (lambda text: text.replace(",3,", ",-3,"), "size or sha256"),
        (lambda text: text.replace(SHA, "0" * 63), "size or sha256"),
        (lambda text: text.replace("K-1,real,c,g", "K-1,real,c"), "line 2 has 6 values, not 7"),
        (lambda text: text + text.splitlines()[-1] + "\n", r"'others/K-9/other_a\.jpg' stands twice or out of order"),
        (lambda text: text + '"', "is no readable CSV file"),
    ],
)  # fmt: skip
def test_a_damaged_table_is_one_sentence_with_the_command(tmp_path, change, sentence):
    (tmp_path / "captures.csv").write_text(change(captures_bytes(ROWS).decode()))
    with pytest.raises(DataError, match=sentence) as caught:
        read_captures(tmp_path)
    assert re.search(r"captures\.csv", str(caught.value))
    (tmp_path / "captures.csv").unlink()
    with pytest.raises(DataError, match=r"captures\.csv does not exist; run `python -m projects\.pillsnap\.integrate`"):
        read_captures(tmp_path)
