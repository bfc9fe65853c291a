import pytest
import torch

from nbp_core import device

GB = 10**9


def test_memory_of_released_models_is_free_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyTorch keeps what was released, and CUDA counts that as taken: a model was refused."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (3 * GB, 16 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 12 * GB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 4 * GB)
    assert device.free_bytes("cuda") == 11 * GB
    device.check_memory("XL", 11 * GB, "cuda")
    with pytest.raises(ValueError, match=r"XL needs 12\.0 GB of memory and 11\.0 GB are free"):
        device.check_memory("XL", 12 * GB, "cuda")
