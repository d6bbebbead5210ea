"""Test programs built on anabranch: in virtual time, under drawn schedules."""
