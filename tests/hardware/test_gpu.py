"""GPUs as the driver reports them, and every way in which there are none."""

from __future__ import annotations

import subprocess

import pynvml
import pytest

from appliance.hardware.devices import Device, DeviceKind
from appliance.hardware.gpu import NOT_AVAILABLE_BYTES, Gpus, order_by_bus
from tests.hardware.fake_nvml import GIB, FakeGpu, FakeNvml, ours


def gpus(*fakes: FakeGpu, visible: str | None = None, **options: int) -> Gpus:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return Gpus(FakeNvml(*fakes, **options), environment)


def names(found: Gpus) -> list[tuple[str, str]]:
    return [(device.id, device.name) for device in found.devices()]


def test_a_process_that_it_has_started_is_its_own():
    """A training in a child process is no stranger on the GPU; what one load took is this process's alone."""
    with subprocess.Popen(["sleep", "60"]) as child:
        found = gpus(FakeGpu(processes={**ours(3 * GIB), child.pid: 2 * GIB}))
        assert [device.used_by_us_bytes for device in found.devices()] == [5 * GIB]
        assert found.held_bytes() == {"gpu0": 3 * GIB}
        child.kill()


def test_a_gpu_with_everything():
    """Bytes, per cent, degrees and watts, and what this process holds."""
    found = gpus(FakeGpu(processes=ours(3 * GIB)))
    assert found.devices() == [
        Device(
            id="gpu0",
            kind=DeviceKind.GPU,
            name="NVIDIA H100 80GB HBM3",
            total_bytes=80 * GIB,
            free_bytes=60 * GIB,
            used_by_us_bytes=3 * GIB,
            utilisation_percent=87.0,
            temperature_celsius=61.0,
            power_watts=123.5,
        )
    ]
    assert found.note is None


class TestNone:
    def test_no_driver(self):
        """A machine without the library is ordinary, and the note says so."""
        found = gpus(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
        assert found.devices() == []
        assert found.note == "no NVIDIA GPU: NVML Shared Library Not Found"

    def test_a_library_that_does_not_match_the_driver(self):
        """After an upgrade without a reboot the note tells what is wrong."""
        found = gpus(init_error=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
        assert found.devices() == []
        assert "version mismatch" in found.note

    def test_a_driver_without_a_gpu(self):
        """The library works and counts none."""
        found = gpus()
        assert found.devices() == []
        assert found.note == "no NVIDIA GPU found"

    def test_this_machine(self):
        """The real binding answers, with or without a GPU, and never raises."""
        found = Gpus()
        try:
            assert found.devices() or found.note
        finally:
            found.close()


class TestMissingValues:
    def test_what_a_gpu_cannot_report(self):
        """Power, temperature, utilisation or processes that are not supported are None; the rest is there."""
        unsupported = dict.fromkeys(
            ("GetPowerUsage", "GetTemperature", "GetUtilizationRates", "GetComputeRunningProcesses"),
            pynvml.NVML_ERROR_NOT_SUPPORTED,
        )
        (device,) = gpus(FakeGpu(broken=unsupported)).devices()
        assert (device.total_bytes, device.free_bytes) == (80 * GIB, 60 * GIB)
        assert device.power_watts is None
        assert device.temperature_celsius is None
        assert device.utilisation_percent is None
        assert device.used_by_us_bytes is None

    @pytest.mark.parametrize(
        "processes", [{}, {1: 5 * GIB}, ours(None), ours(NOT_AVAILABLE_BYTES)], ids=["none", "others", "no", "max"]
    )
    def test_our_own_share_is_unknown(self, processes):
        """Without a readable entry for this process the share is unknown, never zero."""
        (device,) = gpus(FakeGpu(processes=processes)).devices()
        assert device.used_by_us_bytes is None

    def test_a_lost_gpu(self):
        """A GPU that fell off the bus is named in the note; the others keep their ids."""
        lost = FakeGpu(broken={"GetMemoryInfo": pynvml.NVML_ERROR_GPU_IS_LOST})
        found = gpus(lost, FakeGpu(name="sound"))
        assert names(found) == [("gpu1", "sound")]
        assert found.note == "gpu0 does not answer: GPU is lost"
        lost.broken.clear()
        assert len(found.devices()) == 2
        assert found.note is None

    def test_a_gpu_that_cannot_be_opened(self):
        """One dead GPU does not hide the others."""
        dead = FakeGpu(broken={"GetHandleByIndex": pynvml.NVML_ERROR_UNKNOWN})
        found = gpus(dead, FakeGpu(name="sound"))
        assert names(found) == [("gpu0", "sound")]
        assert found.note == "the GPU with index 0 cannot be opened: Unknown Error"


class TestVisibility:
    THREE = (FakeGpu(uuid="GPU-0a", name="a"), FakeGpu(uuid="GPU-1b", name="b"), FakeGpu(uuid="GPU-1c", name="c"))

    @pytest.mark.parametrize(
        ("visible", "expected"),
        [
            (None, ["a", "b", "c"]),
            ("0,1,2", ["a", "b", "c"]),
            ("2,0", ["c", "a"]),
            (" 1 ", ["b"]),
            ("GPU-1c,GPU-0a", ["c", "a"]),
            ("GPU-0", ["a"]),
            ("GPU-1", []),
            ("0,-1,2", ["a"]),
            ("0,7,2", ["a"]),
            ("", []),
            ("none", []),
        ],
    )
    def test_as_cuda_reads_it(self, visible, expected):
        """Indexes or unambiguous beginnings of UUIDs, in the order given, up to the first that fits none."""
        found = gpus(*self.THREE, visible=visible)
        assert names(found) == [(f"gpu{index}", name) for index, name in enumerate(expected)]

    def test_hidden_gpus_are_explained(self):
        """An empty list says that it is empty on purpose."""
        found = gpus(*self.THREE, visible="")
        assert found.devices() == []
        assert found.note == "CUDA_VISIBLE_DEVICES hides every GPU"


class TestHeld:
    def test_what_this_process_holds_on_each(self):
        """Bytes of this process where the driver can tell; a GPU of which it cannot is left out."""
        found = gpus(FakeGpu(processes=ours(3 * GIB)), FakeGpu(processes=ours(None)), FakeGpu())
        assert found.held_bytes() == {"gpu0": 3 * GIB}

    def test_without_a_driver(self):
        """No GPU is no error here either."""
        assert gpus(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND).held_bytes() == {}


def test_cuda_numbers_as_we_do():
    """By the bus, as NVML does; CUDA's own order is by speed, and gpu0 would be another."""
    environment = {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    order_by_bus(environment)
    assert environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


class TestOpening:
    def test_the_library_is_opened_once_and_closed(self):
        """Looking again costs no new initialisation; closing twice is fine, and a later look opens it again."""
        nvml = FakeNvml(FakeGpu())
        found = Gpus(nvml, {})
        assert nvml.initialised == 0
        found.devices()
        found.devices()
        assert nvml.initialised == 1
        found.close()
        found.close()
        assert nvml.initialised == 0
        assert len(found.devices()) == 1

    def test_an_absent_driver_is_not_asked_again(self):
        """The dashboard looks every few seconds; a machine without a GPU pays once."""
        nvml = FakeNvml(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
        found = Gpus(nvml, {})
        found.devices()
        nvml.init_error = None
        assert found.devices() == []
        assert nvml.initialised == 0
        found.close()


@pytest.mark.gpu
def test_a_real_gpu():
    """On a machine with a GPU its memory adds up."""
    found = Gpus()
    devices = found.devices()
    found.close()
    if not devices:
        pytest.skip(f"{found.note}")
    assert all(0 < device.free_bytes <= device.total_bytes for device in devices)
