import pytest

from shared.errors import ConfigError
from shared.live.security import TOKEN_VARIABLE, Access, is_loopback, proof, read_token

TOKEN = "correct horse battery staple"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_another_address_without_a_token_is_refused(host):
    with pytest.raises(ConfigError, match=f"would listen on {host}.*without a token.*{TOKEN_VARIABLE}"):
        Access(host, None)
    Access(host, TOKEN)


def test_a_short_token_is_refused():
    with pytest.raises(ConfigError, match="the token has 5 characters; at least 16"):
        Access("127.0.0.1", "12345")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "::1", "[::1]"])
def test_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "localhost.example.org", ""])
def test_other_addresses(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1:8600", "localhost:8600", "localhost:9999", "[::1]:8600"])
def test_own_names_are_served(host):
    access = Access("127.0.0.1", None)
    assert access.refusal({"host": host}) is None
    assert access.refusal({"host": host, "origin": f"http://{host}"}) is None


@pytest.mark.parametrize(
    "host", ["evil.example:8600", "", "10.0.0.1:8600", "127.0.0.1.evil.example", "a]b", "localhost.evil.example"]
)
def test_a_rebound_name_is_refused(host):
    assert Access("127.0.0.1", None).refusal({"host": host}) == "this Host is not served here"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:8601",
        "http://localhost:8600",
        "http://127.0.0.1:8600.evil.example",
        "http://[",
        "http://[::1",
        "",
    ],
)
def test_another_origin_is_refused(origin):
    assert (
        Access("127.0.0.1", None).refusal({"host": "127.0.0.1:8600", "origin": origin}) == "this Origin is not allowed"
    )


def test_a_hub_for_others_is_called_by_address_or_by_a_name_it_was_given():
    access = Access("0.0.0.0", TOKEN, names=("lab.example",))
    assert access.refusal({"host": "10.0.0.7:8600"}) is None
    assert access.refusal({"host": "LAB.example:8600"}) is None
    assert access.refusal({"host": "evil.example:8600"}) is not None


@pytest.mark.parametrize("given", [None, "", "wrong", TOKEN + " ", 7, ["x"], "\udcff"])
def test_only_the_token_is_the_token(given):
    access = Access("0.0.0.0", TOKEN)
    assert not access.knows(given)
    assert access.knows(TOKEN)
    assert Access("127.0.0.1", None).knows(given)


def test_a_proof_is_good_for_its_role_its_connection_and_its_token_only():
    access = Access("0.0.0.0", TOKEN)
    good = proof(TOKEN, "run", "h", "r")
    assert access.accepts(good, "h", "r")
    others = [("hub", "h", "r"), ("run", "r", "h"), ("run", "hr", ""), ("run", "h2", "r")]
    assert not any(access.accepts(proof(TOKEN, *other), "h", "r") for other in others)
    assert not any(
        access.accepts(given, "h", "r") for given in (None, "", 7, "\udcff", TOKEN, proof("x", "run", "h", "r"))
    )
    assert TOKEN not in good
    assert Access("127.0.0.1", None).accepts(None, "h", "r")


def test_the_token_comes_from_the_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, "from the environment")
    assert read_token(None) == "from the environment"
    file = tmp_path / "token"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(file)
    file.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        read_token(file)
    file.write_text(f"{TOKEN}\n")
    assert read_token(file) == TOKEN
