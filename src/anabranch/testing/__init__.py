"""Test programs built on anabranch: in virtual time, under drawn schedules, on played machines."""

from anabranch.testing._simulator._asking import Moment
from anabranch.testing._simulator._drawn import drawn
from anabranch.testing._simulator._run import Change, Simulation, simulate
from anabranch.testing._simulator._scenarios import NAMED as SCENARIOS
from anabranch.testing._simulator._words import (
    Downstream,
    Machine,
    Neighbour,
    Phase,
    Scenario,
    Senses,
    Times,
    Work,
)

__all__ = [
    "Change",
    "Downstream",
    "Machine",
    "Moment",
    "Neighbour",
    "Phase",
    "SCENARIOS",
    "Scenario",
    "Senses",
    "Simulation",
    "Times",
    "Work",
    "drawn",
    "simulate",
]
