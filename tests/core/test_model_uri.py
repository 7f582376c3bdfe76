import pytest

from nightshift.core.model_uri import ClaimModel, HubModel, parse_model_uri


@pytest.mark.parametrize(
    ("uri", "parsed"),
    [
        ("hf://acme/tiny", HubModel("acme/tiny")),
        ("pvc://models/llama/8b", ClaimModel("models", "llama/8b")),
        ("pvc://models", ClaimModel("models", "")),
    ],
)
def test_a_model_uri_names_its_source(uri: str, parsed: HubModel | ClaimModel) -> None:
    assert parse_model_uri(uri) == parsed


@pytest.mark.parametrize("uri", ["hf://acme", "hf://acme/tiny/more", "pvc://", "s3://bucket/model", "acme/tiny", ""])
def test_any_other_uri_is_refused_with_the_forms_that_are_known(uri: str) -> None:
    with pytest.raises(ValueError, match="neither hf://ORGANISATION/MODEL nor pvc://CLAIM/PATH"):
        parse_model_uri(uri)
