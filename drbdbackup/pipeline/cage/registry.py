"""Which jobs there are: the module below `drbdbackup.pipeline` that does each. Nothing else imports these modules."""

from __future__ import annotations

from drbdbackup.errors import Failure

JOBS = {
    "walk": "volume.walk_job",
    "copy": "snapshot.copy_job",
    "store": "snapshot.store_job",
    "foresee": "snapshot.dry_run_job",
    "verify": "verify.verify_job",
    "restore": "restore.restore_job",
    "prune": "target.prune_job",
    "inspect": "target.inspect_job",
    "send": "copies.serve_job",
    "find": "explore.find_job",
    "scrub": "verify.scrub_job",
    "fetch": "copies.fetch_job",
    "diff": "explore.diff_job",
    "drill": "database.drill_job",
    "dump": "database.dump_job",
    "load": "database.load_job",
    "flush": "volume.flush_job",
    "replicate": "replicate.replicate_job",
}


def module_of(job: str) -> str:
    """The module with this job's `do(job, channel)`. Raises Failure for an unknown job."""
    if job not in JOBS:
        raise Failure(f"there is no job {job!r}")
    return f"drbdbackup.pipeline.{JOBS[job]}"
