"""Names the commit of a revision, and finds out whether its files may be read."""

from nightshift.adapters.hub import Hub
from nightshift.api.fetch import Resolved
from nightshift.fetch.facts import repository_facts
from nightshift.fetch.select import select
from nightshift.fetch.supervise import Meter, retrying


def resolve(hub: Hub, repository: str, revision: str, meter: Meter) -> Resolved:
    """The commit that the revision names now, how much a download would fetch, and what the files say of the model.

    Raises:
        HubRefused: There is no such model or revision, it holds no weights, or it may not be read.
        Cancelled: The supervisor gave up.
    """
    sha = retrying(meter, lambda: hub.resolve(repository, revision))
    files = select(repository, retrying(meter, lambda: hub.list_files(repository, sha)))
    # Everybody may list a gated model: only asking for a file tells.
    retrying(meter, lambda: hub.check_access(repository, sha, files[0]))
    facts = repository_facts(hub, repository, sha, files, meter)
    return Resolved(sha=sha, files=len(files), bytes=sum(file.size for file in files), facts=facts)
