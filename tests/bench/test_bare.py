"""The copies that a bare client applies."""

from bench.bare import copies


def test_a_copy_is_another_deployments_in_one_of_the_namespaces_and_points_at_itself() -> None:
    pod = {"metadata": {"labels": {"nightshift.dev/deployment": "bot-0000"}}}
    model = {
        "kind": "ReplicaSet",
        "metadata": {"name": "bot-0000-abc", "namespace": "bench-0"},
        "spec": {"template": pod},
    }
    (found,) = copies([model], 17)
    assert found["metadata"] == {"name": "bare-0017-abc", "namespace": "bench-7"}
    assert found["spec"]["template"]["metadata"]["labels"] == {"nightshift.dev/deployment": "bare-0017"}
    assert model["metadata"] == {"name": "bot-0000-abc", "namespace": "bench-0"}
