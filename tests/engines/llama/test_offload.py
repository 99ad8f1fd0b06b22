"""Where llama.cpp may put a model and where it says it did.

This machine may have no GPU: devices and log lines with ``CUDA`` in them are doubles, written as llama.cpp writes them.
What it says of the processor comes from real loads. The tests marked ``gpu`` want a GPU and a build with CUDA.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config
from appliance.domain.errors import BadWeights, CannotFit
from appliance.domain.inference import CompletionRequest, Sampling
from appliance.domain.models import ModelType
from appliance.engines.base import CPU, RAM, EngineSpec, Need, Placement, Resources, Share, TextEngine
from appliance.engines.llama import runtime
from appliance.engines.llama.backend import LlamaBackend
from appliance.engines.llama.offload import Account, check_gpus, device_of, gpus_of, place
from appliance.engines.llama.runtime import Context, ContextOptions, Model
from appliance.engines.shared import WEIGHTS
from appliance.hardware.gpu import Gpus, order_by_bus
from appliance.scheduler.placement import choices, placed
from appliance.store.inspection import inspect

STARTER = Path(__file__).parents[3] / "models_store" / "weights" / "starter-chat.gguf"
STARTER_LAYERS = 7
"""Six and the output layer."""
BACKEND = LlamaBackend()
HANDLES = {"gpu0": 1000, "gpu1": 1001}
"""Doubles of ggml's handles."""


def split(**layers: int) -> Placement:
    return Placement(
        tuple(Share(device=device, layers=count, need=Need(weights_bytes=1)) for device, count in layers.items())
    )


def said(layers: dict[str, int], weights: dict[str, float], cache: dict[str, float] | None = None) -> list[str]:
    """What llama.cpp would log of such a load."""
    names = [name for name, count in layers.items() for _ in range(count)]
    lines = [f"load_tensors: layer {n:3d} assigned to device {name}, is_swa = 0" for n, name in enumerate(names)]
    lines += [f"load_tensors: {name:>12} model buffer size = {size:8.2f} MiB" for name, size in weights.items()]
    return lines + [
        f"llama_kv_cache: {name:>10} KV buffer size = {size:8.2f} MiB" for name, size in (cache or {}).items()
    ]


class FakeFunction:
    """A C function that looks its answers up."""

    def __init__(self, *answers: Any) -> None:
        self.answers = answers

    def __call__(self, number: int | None = None) -> Any:
        return self.answers[0] if number is None else self.answers[number]


class FakeGgml:
    """A registry of a processor, two CUDA devices and one of another maker."""

    ggml_backend_dev_count = FakeFunction(4)
    ggml_backend_dev_get = FakeFunction(0, 1, 2, 3)
    ggml_backend_dev_type = FakeFunction(0, 1, 1, 1)
    ggml_backend_dev_name = FakeFunction(b"CPU", b"CUDA0", b"CUDA1", b"Vulkan0")


@pytest.mark.parametrize(
    ("name", "device"),
    [("CUDA0", "gpu0"), ("CUDA12", "gpu12"), ("CPU", "cpu"), ("CPU_Mapped", "cpu"), ("CUDA_Host", "cpu")],
)
def test_names(name: str, device: str) -> None:
    """ggml's device of a number is the GPU of that number; memory of the host beside it is RAM."""
    assert device_of(name) == device


def test_the_devices_of_a_build() -> None:
    """CUDA devices by their number; the processor and other makers' devices are none."""
    assert gpus_of(FakeGgml()) == {"gpu0": 1, "gpu1": 2}


def test_this_build() -> None:
    """Asking the real library is safe on any machine; without CUDA it knows no GPU."""
    found = runtime.gpus()
    assert set(found) <= {f"gpu{number}" for number in range(64)}
    assert found == {} or runtime.c.llama_supports_gpu_offload()


# --- the parameters of a load --------------------------------------------------------------------------------------


def written(placement: Placement) -> tuple[list[int | None], int, int, int, list[float]]:
    """Devices, layers on GPUs, split mode, main GPU and fractions, as llama.cpp would read them."""
    parameters = runtime.c.llama_model_default_params()
    kept = place(parameters, placement, HANDLES, 16)
    pointers = ctypes.cast(parameters.devices, ctypes.POINTER(ctypes.c_void_p))
    devices = [pointers[number] for number in range(len(placement.gpus) + 1)]
    fractions = [parameters.tensor_split[number] for number in range(3)] if parameters.tensor_split else []
    assert kept
    return devices, parameters.n_gpu_layers, parameters.split_mode, parameters.main_gpu, fractions


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        (RAM, ([None], 0, 0, -1, [])),
        (split(gpu1=7), ([1001, None], -1, 0, 0, [])),
        (split(cpu=4, gpu0=3), ([1000, None], 3, 0, 0, [])),
        (split(cpu=0, gpu0=7), ([1000, None], -1, 0, 0, [])),
        (split(gpu0=2, gpu1=5), ([1000, 1001, None], -1, 1, 0, [2.0, 5.0, 0.0])),
        (split(cpu=1, gpu0=2, gpu1=4), ([1000, 1001, None], 6, 1, 0, [2.0, 4.0, 0.0])),
    ],
    ids=["ram", "one", "with ram", "ram beside", "two", "two with ram"],
)
def test_what_llama_is_told(placement: Placement, expected: tuple[Any, ...]) -> None:
    """RAM gets an empty list of devices; a GPU only itself; several the layers of each as fractions."""
    assert written(placement) == expected


def test_a_build_without_the_gpu() -> None:
    """Which GPU was asked for, what this build has, and the way out."""
    check_gpus(RAM, {})
    check_gpus(split(gpu1=7), HANDLES)
    with pytest.raises(CannotFit, match=r"gpu0 asked for, and this build of llama.cpp has no CUDA backend"):
        check_gpus(split(gpu0=7), {})
    with pytest.raises(CannotFit, match=r"gpu2 asked for, and llama.cpp sees gpu0, gpu1 only"):
        check_gpus(split(gpu2=7), HANDLES)


# --- the account -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("placement", "lines", "device"),
    [
        (RAM, said({"CPU": 7}, {"CPU_Mapped": 5.13}), "cpu"),
        (split(gpu0=7), said({"CUDA0": 7}, {"CPU_Mapped": 0.5, "CUDA0": 5.0}), "gpu0"),
        (split(cpu=4, gpu0=3), said({"CPU": 4, "CUDA0": 3}, {"CPU_Mapped": 2.5, "CUDA0": 3.0}), "gpu0+cpu"),
        (split(gpu0=2, gpu1=5), said({"CUDA0": 2, "CUDA1": 5}, {"CUDA0": 1.5, "CUDA1": 3.5}), "gpu0+gpu1"),
    ],
    ids=["ram", "one", "with ram", "two"],
)
def test_a_load_that_went_where_it_should(placement: Placement, lines: list[str], device: str) -> None:
    """What llama.cpp says agrees with the placement, and is what the engine reports."""
    account = Account.read(lines)
    account.check_weights(placement)
    assert account.device == device


@pytest.mark.parametrize(
    ("placement", "lines", "why"),
    [
        (split(gpu0=7), said({"CPU": 7}, {"CPU_Mapped": 5.13}), r"on gpu0 \(7\), llama.cpp says they are on cpu \(7\)"),
        (split(gpu0=7), said({"CUDA1": 7}, {"CUDA1": 5.0}), r"says they are on gpu1 \(7\)"),
        (split(gpu0=7), said({"CPU": 1, "CUDA0": 6}, {"CPU_Mapped": 1, "CUDA0": 5.0}), r"cpu \(1\), gpu0 \(6\)"),
        (split(gpu0=7), said({"CUDA0": 7}, {"CPU_Mapped": 5.13}), r"and has no weights on gpu0"),
        (split(gpu0=2, gpu1=5), said({"CUDA0": 3, "CUDA1": 4}, {"CUDA0": 2, "CUDA1": 3}), r"gpu0 \(3\), gpu1 \(4\)"),
        (split(gpu0=7), [], "says they are on no device"),
        (RAM, said({"CUDA0": 7}, {"CUDA0": 5.0}), r"says they are on gpu0 \(7\)"),
    ],
    ids=["a silent run in RAM", "another GPU", "one layer left", "no bytes there", "another split", "silence", "a GPU"],
)
def test_a_load_that_went_elsewhere(placement: Placement, lines: list[str], why: str) -> None:
    """Whatever llama.cpp did instead is an error that names both."""
    with pytest.raises(CannotFit, match=why):
        Account.read(lines).check_weights(placement)


def test_the_cache_goes_with_the_layers() -> None:
    """Keys and values belong where their layers are; in RAM beside a GPU they would be a silent run in part."""
    Account.read(said({}, {}, {"CUDA0": 10})).check_cache(split(cpu=0, gpu0=7))
    Account.read(said({}, {}, {"CPU": 4, "CUDA0": 6})).check_cache(split(cpu=3, gpu0=4))
    with pytest.raises(CannotFit, match=r"asked for gpu0, llama\.cpp put the cache on cpu"):
        Account.read(said({}, {}, {"CPU": 4, "CUDA0": 6})).check_cache(split(cpu=0, gpu0=7))
    with pytest.raises(CannotFit, match=r"asked for cpu, llama\.cpp put the cache on gpu0"):
        Account.read(said({}, {}, {"CUDA0": 6})).check_cache(RAM)


# --- real loads ----------------------------------------------------------------------------------------------------


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model(STARTER)
    yield made
    made.close()


def test_a_real_load_in_ram_says_so(model: Model) -> None:
    """This llama.cpp still writes what is read here: every layer, the bytes of the weights, the bytes of the cache."""
    account = model._hold.weights.account
    assert account.layers == {CPU: STARTER_LAYERS}
    assert account.weights_mib[CPU] == pytest.approx(STARTER.stat().st_size / 2**20, rel=0.1)
    assert model.device == "cpu"
    context = Context(model, ContextOptions(cells_tokens=256, sequences=1, batch_tokens=32, threads=1))
    assert context.account.cache_mib.keys() == {CPU}
    context.close()


@pytest.mark.skipif(bool(runtime.gpus()), reason="this build has a GPU")
def test_a_gpu_without_cuda_fails_the_load() -> None:
    """The real backend on a build without CUDA: an error with the reason, and nothing stays in memory."""
    with pytest.raises(CannotFit, match=r"gpu0 asked for, and this build of llama.cpp has no CUDA backend"):
        BACKEND.load(starter_spec(gpus=1), split(gpu0=STARTER_LAYERS))
    assert not any("gpu0" in key for key in WEIGHTS._slots)


def test_a_silent_run_in_ram_is_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A llama.cpp that takes the GPU's parameters and loads into RAM all the same (here: told to) is found out."""
    frees: list[Any] = []
    free = runtime.c.llama_model_free
    monkeypatch.setattr(runtime.model, "gpus", lambda: HANDLES)
    monkeypatch.setattr(runtime.model, "place", lambda parameters, _, *rest: place(parameters, RAM, *rest))
    monkeypatch.setattr(runtime.c, "llama_model_free", lambda model: (frees.append(model), free(model)))
    with pytest.raises(CannotFit, match=r"asked for layers on gpu0 \(7\), llama.cpp says they are on cpu \(7\)"):
        Model(STARTER, placement=split(gpu0=STARTER_LAYERS))
    assert len(frees) == 1


@pytest.mark.parametrize(
    ("complaint", "error", "why"),
    [
        ("unable to allocate CUDA0 buffer", CannotFit, "not enough memory on gpu0 for 'x.gguf': unable to allocate"),
        ("invalid magic characters", BadWeights, "cannot load 'x.gguf': invalid magic"),
    ],
)
def test_a_full_gpu_is_not_a_bad_file(
    monkeypatch: pytest.MonkeyPatch, complaint: str, error: type[Exception], why: str
) -> None:
    """When llama.cpp's last word is about memory, the weights are sound and the device was too small."""
    monkeypatch.setattr(runtime.model, "complaint", lambda: complaint)
    raised = runtime.not_loaded(Path("x.gguf"), split(gpu0=7))
    assert isinstance(raised, error)
    assert why in str(raised)


# --- with a GPU ----------------------------------------------------------------------------------------------------


def starter_spec(**resources: Any) -> EngineSpec:
    return EngineSpec(
        model_type=ModelType.COMPLETION,
        weights=STARTER,
        card=inspect({STARTER.name: STARTER}),
        parameters={"context_length": 256, "cache_tokens": 4096, "threads": 1},
        resources=Resources(**resources),
    )


async def answer(engine: TextEngine) -> str:
    stream = await engine.complete(CompletionRequest(prompt="Hello", sampling=Sampling(max_tokens=8, temperature=0)))
    return "".join([delta.text async for delta in stream])


@pytest.mark.gpu
@pytest.mark.skipif(not runtime.gpus(), reason="no GPU, or a llama.cpp without CUDA")
@pytest.mark.parametrize("layers", [None, 3], ids=["whole", "split with RAM"])
async def test_a_real_gpu_holds_what_was_booked(layers: int | None) -> None:
    """NVML sees this process grow by the weights at least, and by no more than was booked with the reserve; the answer
    is that of the processor.
    """
    order_by_bus()
    gpus = Gpus()
    spec = starter_spec(gpus=1, gpu_layers=layers)
    in_ram = BACKEND.load(starter_spec())
    expected = await answer(in_ram)
    in_ram.close()
    (placement, *_) = choices(BACKEND.estimate(spec), spec.resources, {CPU: 0, "gpu0": 2**40})
    BACKEND.load(spec, placement).close()  # the driver's context comes with the first load, and stays
    before = gpus.held_bytes().get("gpu0")
    engine = BACKEND.load(spec, placement)
    after = gpus.held_bytes().get("gpu0")
    assert engine.device == placement.device
    assert await answer(engine) == expected
    engine.close()
    gpus.close()
    if before is None or after is None:
        pytest.skip("the driver cannot tell what this process holds")
    booked = placement.on("gpu0")
    assert booked is not None
    assert booked.weights_bytes * 0.9 <= after - before <= booked.total_bytes + Config().gpu_reserve_bytes


@pytest.mark.gpu
@pytest.mark.skipif(len(runtime.gpus()) < 2, reason="no two GPUs, or a llama.cpp without CUDA")
async def test_two_real_gpus_share_the_layers() -> None:
    """Layers are where they were placed on both, which llama.cpp's own account is checked for."""
    order_by_bus()
    spec = starter_spec(gpus=2)
    engine = BACKEND.load(spec, placed(BACKEND.estimate(spec), [("gpu0", 3), ("gpu1", 4)]))
    assert engine.device == "gpu0+gpu1"
    assert await answer(engine)
    engine.close()


@pytest.mark.gpu
@pytest.mark.skipif(not runtime.gpus(), reason="no GPU, or a llama.cpp without CUDA")
def test_ram_keeps_off_a_real_gpu() -> None:
    """``gpus: 0`` on a machine with a GPU: this process holds no more of it than before."""
    gpus = Gpus()
    before = gpus.held_bytes()
    engine = BACKEND.load(starter_spec())
    assert engine.device == "cpu"
    assert gpus.held_bytes() == before
    engine.close()
    gpus.close()
