"""The network of stories: `StoryNetwork(384, sizes)`, with sizes as in conf/model/redheart_tiny.yaml."""

from projects.redheart.models.network import NetworkOutputs, StoryNetwork

__all__ = ["NetworkOutputs", "StoryNetwork"]
