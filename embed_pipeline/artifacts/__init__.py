"""The artifact store: what makes a second run nearly free and every number traceable to its bytes. Modelled on git.

    objects/ab/cdef…/                  immutable directories, named by the digest of their content
    manifests/<id>.json                how an object came to be, named by the digest of the text
    memo/<fingerprint>.json            the work → the object and manifest that it gave
    refs/<asset>/<partition>.json      where an asset's partition stands now → its manifest
    locks/ staging/                    of the running processes, always on this machine

plan says what the work is, digests names the bytes, the backends keep them, catalog keeps the records, store puts them
together, garbage throws away. Does not belong here: dagster, or anything that knows what a stage does.
"""

from embed_pipeline.artifacts.backends import is_digest
from embed_pipeline.artifacts.digests import JSON, DamagedObjectError
from embed_pipeline.artifacts.garbage import GarbageReport
from embed_pipeline.artifacts.manifest import Manifest, installed_packages
from embed_pipeline.artifacts.plan import Difference, Plan, differences
from embed_pipeline.artifacts.store import ArtifactStore

__all__ = [
    "JSON",
    "ArtifactStore",
    "DamagedObjectError",
    "Difference",
    "GarbageReport",
    "Manifest",
    "Plan",
    "differences",
    "installed_packages",
    "is_digest",
]
