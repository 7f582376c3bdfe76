from nightshift.adapters.kube import reference
from tests.support.builders import model_spec
from tests.support.simulation import Simulation


def test_paused_it_is_not_ready_while_the_service_leads_elsewhere() -> None:
    simulation = Simulation(model_spec()).settle()
    simulation.change_spec(paused=True)
    service = simulation.server.of_kind("Service")[0]
    simulation.server.change(reference(service), lambda raw: raw["spec"]["selector"].update(app="mine"))
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "ServiceChanged")
    assert simulation.condition("Available") == ("True", "Serving")
    simulation.change_spec(paused=False)
    simulation.settle()
    assert simulation.condition("Ready") == ("True", "Serving")
