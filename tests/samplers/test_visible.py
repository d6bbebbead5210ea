"""The meaning of CUDA_VISIBLE_DEVICES."""

import pytest

from anabranch.samplers._visible import Device, visible

PARTS = (Device(21, "MIG-aa-1"), Device(22, "MIG-aa-2"))
OLD = (Device(31, "MIG-GPU-dd44/1/0"), Device(32, "MIG-GPU-dd44/2/0"))
ALL = [
    Device(0, "GPU-aa11"),
    Device(1, "GPU-ab22"),
    Device(2, "GPU-cc33", PARTS),
    Device(3, "GPU-dd44", OLD),
]


@pytest.mark.parametrize(
    ("words", "handles"),
    [
        (None, [0, 1, 21, 22, 31, 32]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", [1]),
        ("1,0", [1, 0]),
        (" 1 , 0 ", [1, 0]),
        ("0,-1,1", [0]),
        ("0,9,1", [0]),
        ("0,,1", [0]),
        ("0,0", [0]),
        ("9" * 5000, []),
        ("٣", []),  # a digit that is not ASCII's
        ("2", [21, 22]),
        ("GPU-ab22", [1]),
        ("GPU-ab", [1]),
        ("GPU-a", []),
        ("GPU-", []),
        ("GPU-cc33", [21, 22]),
        ("MIG-aa-2", [22]),
        ("MIG-aa", []),
        ("MIG-GPU-dd44/2/0", [32]),
        ("GPU-zz", []),
    ],
)
def test_devices_are_chosen_as_cuda_does(words, handles):
    assert [device.handle for device in visible(ALL, words)] == handles
