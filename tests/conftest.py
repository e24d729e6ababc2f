import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("requires_gpu") and not has_cuda():
        pytest.skip("needs an NVIDIA GPU and onnxruntime's CUDA provider")


def has_cuda() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
