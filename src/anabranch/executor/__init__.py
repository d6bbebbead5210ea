"""Run many scripts at once, as seeds 000 and 002 ask for it."""

from anabranch.executor._executor import ConcurrentExecutor
from anabranch.executor._resources import ResourceManager
from anabranch.executor._wrapper import RunMode, SubprocessWrapper

__all__ = ["ConcurrentExecutor", "ResourceManager", "RunMode", "SubprocessWrapper"]
