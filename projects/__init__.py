"""The research projects; `shared` comes first because it sets what native libraries read at load time."""

import shared  # noqa: F401
