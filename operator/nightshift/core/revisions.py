"""Revisions: their identity, which one the spec asks for, and what is carried from one to the next."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from nightshift.api import names
from nightshift.api.config import OperatorConfig
from nightshift.api.model_facts import ModelFacts
from nightshift.api.overlay import PodTemplate
from nightshift.api.revision import Resolved, RevisionInputs, RevisionRecord, RevisionSpec
from nightshift.api.spec import HardwareCandidate, HardwareSpec, ModelCache, Spec
from nightshift.core.canonical import short_hash
from nightshift.core.fit.settings import engine_settings
from nightshift.core.marks import Marks, read_marks
from nightshift.core.pod import pod_template

DEFAULT_MODEL_REVISION = "main"
"""The branch of an hf:// model that is meant where model.revision says nothing."""


@dataclass(frozen=True)
class Revision:
    """A stored revision: its hash, its place in history, and what it is made of."""

    hash: str
    number: int
    record: RevisionRecord
    marks: Marks
    """What became of it."""
    manifest: dict[str, Any]
    """The ControllerRevision as it stands in the API server."""

    @property
    def spec(self) -> RevisionSpec:
        """What the user had written."""
        return RevisionSpec.model_validate(self.record.inputs.spec, extra="ignore")

    @property
    def resolved(self) -> Resolved:
        """What it is pinned to."""
        return self.record.inputs.resolved

    @property
    def place(self) -> HardwareCandidate:
        """What it runs on."""
        return HardwareCandidate(accelerator=self.resolved.accelerator, count=self.resolved.accelerator_count)

    @property
    def digest(self) -> str | None:
        """Digest of the engine image, once known."""
        return self.resolved.image_digest or self.marks.digest


def parse_revision(manifest: dict[str, Any]) -> Revision | None:
    """Read a ControllerRevision; one that cannot be read is passed over, never deleted."""
    metadata = manifest["metadata"]
    revision_hash = (metadata.get("labels") or {}).get(names.LABEL_REVISION)
    try:
        record = RevisionRecord.model_validate(manifest.get("data"))
        RevisionSpec.model_validate(record.inputs.spec, extra="ignore")
    except ValidationError:
        return None
    if not revision_hash:
        return None
    marks = read_marks(metadata.get("annotations") or {})
    return Revision(revision_hash, int(manifest.get("revision") or 0), record, marks, manifest)


def revision_spec(spec: Spec) -> RevisionSpec:
    """The part of a spec that matters to pods."""
    set_fields: dict[str, Any] = {"model": spec.model}
    if "drain_seconds" in spec.traffic.model_fields_set:
        set_fields["drain_seconds"] = spec.traffic.drain_seconds
    if "engine" in spec.model_fields_set:
        set_fields["engine"] = spec.engine
    if spec.hardware is not None:
        set_fields["hardware"] = spec.hardware
    if spec.pod_template is not None:
        set_fields["pod_template"] = spec.pod_template
    return RevisionSpec(**set_fields)


def find(revisions: tuple[Revision, ...], wanted: RevisionSpec, rank: int | None = None) -> Revision | None:
    """The newest revision that was made from the same spec, on any of its hardware candidates.

    It takes adapters of the given rank. One that takes higher ranks, or adapters that nobody asks for, will do: it
    need not be replaced.

    Both sides are compared with today's defaults filled in, so that a field or default that a newer
    operator brings does not make a new revision of what serves. Nor does writing down what is so anyway: the
    default branch or cache, an empty podTemplate, the version or image that the revision runs. Nor does the size of
    a cache claim, which pods mount as it is.
    """
    meant = [_meant(on_candidate(wanted, place)) for place in candidates(wanted)] or [_meant(wanted)]
    matching = [
        revision
        for revision in revisions
        if (revision.resolved.lora_rank or 0) >= (rank or 0)
        and any(_meant(revision.spec) == _as_pinned(one, revision) for one in meant)
    ]
    return max(matching, key=lambda revision: revision.number, default=None)


def _meant(spec: RevisionSpec) -> RevisionSpec:
    """A spec without what says nothing."""
    model, empty = spec.model, spec.pod_template == PodTemplate()
    cache = None if model.cache in (None, ModelCache()) else model.cache.model_copy(update={"size": None})
    branch = None if model.revision == DEFAULT_MODEL_REVISION else model.revision
    model = model.model_copy(update={"cache": cache, "revision": branch})
    return spec.model_copy(update={"model": model, "pod_template": None if empty else spec.pod_template})


def _as_pinned(wanted: RevisionSpec, revision: Revision) -> RevisionSpec:
    """What is wanted, in the revision's words where they come to the same version and image."""
    engine, before, resolved = wanted.engine, revision.spec.engine, revision.resolved
    version = before.version if engine.version == resolved.engine_version else engine.version
    image = before.image if engine.image == resolved.engine_image else engine.image
    return wanted.model_copy(update={"engine": engine.model_copy(update={"version": version, "image": image})})


def newest(revisions: tuple[Revision, ...]) -> Revision | None:
    """The latest revision of history."""
    return max(revisions, key=lambda revision: revision.number, default=None)


def candidates(wanted: RevisionSpec) -> tuple[HardwareCandidate, ...]:
    """What a spec may run on, in its order and each once; empty where that is left to the administrator."""
    return tuple(dict.fromkeys(wanted.hardware.candidates)) if wanted.hardware is not None else ()


def on_candidate(wanted: RevisionSpec, place: HardwareCandidate) -> RevisionSpec:
    """The spec of a revision that runs on one of the candidates.

    A revision stores its own candidate and not the others. So one candidate gives the revision that it always gave,
    and what is tried beside it decides nothing about the pods of this one.
    """
    return wanted.model_copy(update={"hardware": HardwareSpec(candidates=(place,))})


def same_but_place(one: Revision, other: Revision) -> bool:
    """Whether two revisions were made from the same spec on different hardware candidates."""
    same = on_candidate(one.spec, other.place) == on_candidate(other.spec, other.place)
    return same and one.resolved.lora_rank == other.resolved.lora_rank


def same_model(one: Revision, other: Revision) -> bool:
    """Whether two revisions serve the same weights in the same form, so that they give tokens the same probabilities.

    Of an hf:// model the commit counts, and not the branch by which it was named; of a pvc:// model the path alone.
    """
    return _weights(one) == _weights(other)


def _weights(revision: Revision) -> tuple[str, str | None, str | None]:
    model = revision.spec.model
    quantization = model.quantization or engine_settings(revision.spec.engine.args).quantization
    return model.uri, revision.resolved.model_revision, quantization


def places(
    wanted: RevisionSpec, current: HardwareCandidate | None, config: OperatorConfig
) -> tuple[HardwareCandidate, ...]:
    """The candidates in the order in which they are tried: the current one while it is listed, and on from there.

    Worked example: of a, b, c with the current one b: b, c, a. Without a current one: a, b, c.
    """
    listed = candidates(wanted) or (HardwareCandidate(accelerator=config.defaults.accelerator),)
    first = listed.index(current) if current in listed else 0
    return (*listed[first:], *listed[:first])


def carried(
    wanted: RevisionSpec, previous: Revision | None, config: OperatorConfig, place: HardwareCandidate | None = None
) -> Resolved:
    """What a new revision is pinned to, as far as it is known without asking anyone.

    A version, digest or commit that the previous revision was pinned to is carried over while the
    fields that ask for it stay the same; only then nothing is looked up again. So is the hardware candidate, while
    it is listed and no other place is named.
    """
    chosen = place or places(wanted, previous.place if previous is not None else None, config)[0]
    version = wanted.engine.version or config.defaults.engine_version
    image = wanted.engine.image or config.defaults.engine_image
    digest = commit = None
    if previous is not None:
        before, old = previous.spec, previous.resolved
        if before.engine.version == wanted.engine.version:
            version = old.engine_version
        if before.engine.image == wanted.engine.image:
            image = old.engine_image
        if (version, image) == (old.engine_version, old.engine_image):
            digest = previous.digest
        if _request(before) == _request(wanted):
            commit = old.model_revision
    return Resolved(
        engine_version=version,
        engine_image=image,
        image_digest=digest,
        model_revision=commit,
        accelerator=chosen.accelerator,
        accelerator_count=chosen.count,
    )


def _request(spec: RevisionSpec) -> tuple[str, str]:
    return spec.model.uri, spec.model.revision or DEFAULT_MODEL_REVISION


def build(
    namespace: str,
    deployment: str,
    wanted: RevisionSpec,
    resolved: Resolved,
    config: OperatorConfig,
    facts: ModelFacts | None = None,
) -> tuple[str, RevisionRecord]:
    """Make a new revision: its hash and what is stored of it.

    What is known of the model is no part of the hash, nor is the namespace.
    """
    inputs = RevisionInputs(
        spec=wanted.to_sparse_json(),
        resolved=resolved,
        profile=config.accelerators[resolved.accelerator].to_json(),
    )
    revision_hash = short_hash(inputs.to_json())
    template = pod_template(namespace, deployment, revision_hash, wanted, resolved, config)
    return revision_hash, RevisionRecord(inputs=inputs, pod_template=template, facts=facts)


def obsolete(revisions: tuple[Revision, ...], in_use: frozenset[str], history_limit: int) -> tuple[Revision, ...]:
    """Revisions beyond the history limit: the oldest ones that nothing uses."""
    idle = sorted(
        (revision for revision in revisions if revision.hash not in in_use),
        key=lambda revision: revision.number,
        reverse=True,
    )
    return tuple(idle[history_limit:])
