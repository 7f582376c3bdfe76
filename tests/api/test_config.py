import pytest
from pydantic import ValidationError

from nightshift.api.config import AcceleratorProfile


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param("9.0", (9, 0), id="an H100"),
        pytest.param("12.1", (12, 1), id="two digits before the point"),
        pytest.param(None, None, id="nothing said: unknown"),
    ],
)
def test_a_compute_capability_is_read_as_numbers(written: str | None, expected: tuple[int, int] | None) -> None:
    profile = AcceleratorProfile(resource_name="nvidia.com/gpu", compute_capability=written)
    assert profile.capability == expected


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"memoryGiB": 0}, id="no memory at all"),
        pytest.param({"computeCapability": "sm_90"}, id="another spelling"),
        pytest.param({"memoryGiB": 64, "resourceName": None}, id="memory of a processor"),
        pytest.param({"computeCapability": "9.0", "resourceName": None}, id="compute capability of a processor"),
    ],
)
def test_what_cannot_be_is_refused_when_the_operator_starts(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AcceleratorProfile.model_validate({"resourceName": "nvidia.com/gpu"} | fields)


def test_a_profile_that_says_nothing_new_is_stored_as_before() -> None:
    assert AcceleratorProfile(resource_name="nvidia.com/gpu").to_json().keys() == {
        "resourceName", "nodeSelector", "tolerations", "requests", "limits", "sharedMemory",
    }  # fmt: skip
    assert AcceleratorProfile(resource_name="a/b", memory_gib=79.3).to_json()["memoryGiB"] == 79.3
