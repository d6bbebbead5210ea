"""The sizes and thresholds of a manager: defaults, variables, and what cannot be meant."""

import math

import pytest

from anabranch import (
    ConcurrencyManager,
    ConcurrencyManagerConfig,
    ConfigurationError,
    ProcessingConfig,
)
from anabranch.manager._config import VARIABLES
from anabranch.samplers._cores import cores


def test_the_defaults_are_the_seeds():
    config = ConcurrencyManagerConfig()
    assert config.sizes == (max(1, math.floor(cores()) - 1), 20, 16)
    assert (config.cpu_threshold, config.memory_threshold) == (85.0, 80.0)
    assert (config.max_queue_size, config.chunk_batch_size) == (1000, 10)
    assert config.enable_auto_throttle
    assert config.enable_metrics
    assert config.use_processes
    assert ConcurrencyManagerConfig.from_env({}) == config


def test_the_seven_variables():
    config = ConcurrencyManagerConfig.from_env(
        {
            "CHUNK_BATCH_SIZE": "5",
            "MAX_PARALLEL_WORKERS": "8",
            "USE_PROCESS_POOL": "false",
            "CPU_THRESHOLD": "70.5",
            "MEMORY_THRESHOLD": " 60 ",
            "ENABLE_AUTO_THROTTLE": "No",
            "ENABLE_METRICS": "0",
        }
    )
    assert config == ConcurrencyManagerConfig(
        chunk_processor_workers=8,
        enable_auto_throttle=False,
        cpu_threshold=70.5,
        memory_threshold=60.0,
        enable_metrics=False,
        chunk_batch_size=5,
        use_processes=False,
    )
    assert len(VARIABLES) == 7


def test_variables_come_from_the_environment_and_empty_ones_are_none(monkeypatch):
    monkeypatch.setenv("CPU_THRESHOLD", "66")
    monkeypatch.setenv("MEMORY_THRESHOLD", "")
    config = ConcurrencyManagerConfig.from_env()
    assert (config.cpu_threshold, config.memory_threshold) == (66.0, 80.0)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("CHUNK_BATCH_SIZE", "ten", "is no whole number"),
        ("CHUNK_BATCH_SIZE", "0", "lets nothing run"),
        ("MAX_PARALLEL_WORKERS", "-4", "lets nothing run"),
        ("MAX_PARALLEL_WORKERS", "1.5", "is no whole number"),
        ("CPU_THRESHOLD", "0.85", "give 85"),
        ("CPU_THRESHOLD", "nan", "no percentage"),
        ("CPU_THRESHOLD", "101", "no percentage"),
        ("MEMORY_THRESHOLD", "80%", "is no number"),
        ("MEMORY_THRESHOLD", "-1", "no percentage"),
        ("USE_PROCESS_POOL", "maybe", "neither of"),
        ("ENABLE_METRICS", "2", "neither of"),
    ],
)
def test_a_variable_that_cannot_be_meant_is_named(variable, value, says):
    with pytest.raises(ConfigurationError) as caught:
        ConcurrencyManagerConfig.from_env({variable: value})
    assert str(caught.value).startswith(f"{variable}={value!r}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"cpu_workers": 0},
        {"io_workers": -1},
        {"io_workers": True},
        {"chunk_processor_workers": 2.0},
        {"enable_auto_throttle": "yes"},
        {"cpu_threshold": 0.85},
        {"cpu_threshold": True},
        {"memory_threshold": None},
        {"max_queue_size": 0},
        {"chunk_batch_size": "10"},
        {"io_worker": 3},
    ],
    ids=str,
)
def test_a_field_that_cannot_be_meant_is_refused(options):
    with pytest.raises(ConfigurationError, match="ConcurrencyManagerConfig"):
        ConcurrencyManagerConfig(**options)


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"max_concepts": 0}, {"early_exit": 1}, {"max_concept": 3}]
)
def test_the_config_of_chunks_is_checked(options):
    with pytest.raises(ConfigurationError, match="ProcessingConfig"):
        ProcessingConfig(**options)


@pytest.mark.parametrize("samplers", [3, [3], "cpu", {"cpu": 0.5}], ids=str)
def test_a_manager_refuses_what_is_no_sampler(samplers):
    with pytest.raises(ConfigurationError, match="ConcurrencyManager: samplers="):
        ConcurrencyManager(samplers=samplers)
