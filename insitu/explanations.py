"""What every error means, what was kept when it came, and what to do: `insitu explain` and the index in the docs.

One entry for each class of error, in the order of the codes. An error itself says what it found at one place;
here stands what holds of all of its kind.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from difflib import get_close_matches

from insitu.errors import UsageError

_RUN_KEPT = "every step that had ended; the same command goes on after the last of them"
_NOTHING_BEGUN = "everything: nothing was begun"
_NOTHING_CHANGED = "everything: nothing was changed"


@dataclass(frozen=True)
class Explanation:
    """One kind of error.

    Attributes:
        code: What its message begins with.
        kind: Its class in Python, and `type` in JSON.
        meaning: What has happened.
        causes: What usually brings it about.
        kept: What is as it was, or goes on from there.
        to_do: What to do, in order.
    """

    code: str
    kind: str
    meaning: str
    causes: tuple[str, ...]
    kept: str
    to_do: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the entry as JSON values."""
        return asdict(self)


EXPLANATIONS: tuple[Explanation, ...] = (
    Explanation(
        "E-AUTH",
        "AccessRefused",
        "Signing in was refused, a right is missing, or the other side is not who it should be.",
        (
            "a secret or certificate has run out, or is another principal's",
            "the principal lacks a role on the resource that the message names",
            "the host key or certificate of the other side is not the pinned one",
        ),
        _RUN_KEPT,
        (
            "run `insitu doctor --site SITE`: it names the identity and the missing right",
            "renew the secret where the settings say that it is; settings never hold it themselves",
            "where a host key has changed, ask who runs the host before pinning the new one",
        ),
    ),
    Explanation(
        "E-BLOB",
        "BlobChanged",
        "A blob is not the version any more that was pinned when the run began.",
        ("somebody has overwritten the blob meanwhile", "a producer writes in place, where it should write new names"),
        _RUN_KEPT + "; what was trained on the old bytes is not mixed with the new ones",
        ("start again: a new run pins the blobs as they are now", "let producers write new blobs, never over old ones"),
    ),
    Explanation(
        "E-BUN",
        "BundleRefused",
        "A bundle is not as it was written, or lacks what it was made without and the receiver does not have.",
        (
            "the file was cut short or changed on its way",
            "it was exported with `--without` an image that is not at the receiver",
        ),
        "the place it was to go to: nothing is tagged before everything has been checked",
        (
            "compare its sha256 with the one that `insitu bundle export` printed, and carry it again",
            "export again without `--without`, or import the earlier bundle first",
        ),
    ),
    Explanation(
        "E-BUSY",
        "RunUnderWay",
        "Another run of the same model is at work; one at a time may be.",
        ("a watcher, a schedule or a person has started one", "its process has just died, and its lease is not over"),
        _NOTHING_BEGUN,
        ("wait for it: `insitu history MODEL` shows it", "a dead process's lease falls by itself; then start again"),
    ),
    Explanation(
        "E-CLAIM",
        "ClaimLost",
        "Another watcher has taken over the work that this one was silent about.",
        ("the machine slept, or was too busy to say that it is alive",),
        "the work: the other watcher goes on with it, and it becomes one run all the same",
        ("nothing; if it comes often, give the watcher's machine more room",),
    ),
    Explanation(
        "E-CONF",
        "SettingsError",
        "A settings file or an INSITU_ variable says what cannot be meant; all problems are listed at once.",
        ("a misspelt key, a value of another type or out of bounds, two keys that contradict each other",),
        _NOTHING_BEGUN,
        (
            "go to file and line of each problem: it says what was found, what was wanted, and the nearest known key",
            "see all keys with their meaning: page Settings of the docs",
        ),
    ),
    Explanation(
        "E-DATA",
        "DataError",
        "The batch is incomplete, unreadable or fails its suite; nothing was trained on it. Exit code 4.",
        (
            "an expectation of the suite does not hold: the message and `insitu report MODEL` say which",
            "a month or partition is missing between others",
            "a blob is damaged, or has other columns than the rest",
        ),
        "the champion serves on; the full report stays on site, statistics of the good blobs are kept",
        (
            "see the page that `insitu report MODEL` writes: it shows what was unexpected",
            "deliver the data again, or change the suite if the data is right",
            "after that start again, or `insitu replay BATCH` where a watcher had put the batch in quarantine",
        ),
    ),
    Explanation(
        "E-DEC",
        "DecisionRefused",
        "No decision on record allows what is to be done, or the site does not let people decide it.",
        (
            "the verdict is not `promote` and nobody has approved it",
            "an override has expired, or the site has `allow_override = false`",
            "the name is not in `gate.approvers` of the site",
        ),
        "the trained model and its verdict; what is published stays published",
        (
            "see the decision: `insitu show MODEL RUN_KEY`",
            "let somebody who may `insitu approve MODEL`, or change the site's `[gate]` deliberately",
        ),
    ),
    Explanation(
        "E-DEP",
        "DeployFailed",
        "A target refused the image, or what runs there now does not answer as it should.",
        ("the target is away, full, or may not pull from the registry", "the port is taken by something else"),
        "what ran there before runs on; the image is published and the version is champion",
        (
            "mend the target; the message names it and what it said",
            "run `insitu retrain MODEL` again: it does the deployments that are missing, nothing else",
        ),
    ),
    Explanation(
        "E-DISK",
        "StorageFull",
        "There is no space left where insitu writes.",
        ("old images, jobs or logs fill the disk", "the batch is larger than any before"),
        _RUN_KEPT,
        (
            "see what `insitu prune` would take away, then `insitu prune --apply`",
            "free space (`df -h`), then start again",
        ),
    ),
    Explanation(
        "E-EXISTS",
        "BlobExists",
        "Something was to be created once, and is there already.",
        ("another process has done the same work first", "a file lies where a folder is wanted"),
        "what is there: insitu never writes over it",
        ("start again: what the other one has done is found and used",),
    ),
    Explanation(
        "E-GATE",
        "GateFailed",
        "The metrics cannot be judged: missing, not finite, or outside what the metric can be.",
        (
            "the model answers with NaN, or with classes where probabilities are wanted",
            "the holdout has too few rows, or one class only",
            "a metric of `[gate.metrics]` cannot be computed for this target",
        ),
        "the trained model, on site; the champion serves on",
        ("mend train.py, the label or `[gate]`, as the message says", "then start again"),
    ),
    Explanation(
        "E-GONE",
        "BlobNotFound",
        "There is no blob of this name.",
        ("it was removed or renamed after the batch was pinned", "a retention rule of the store has taken it"),
        _RUN_KEPT,
        ("put it back, or start again: a new run pins the blobs that are there",),
    ),
    Explanation(
        "E-IMG",
        "ImageFailed",
        "The image could not be assembled, or its server does not answer as the model does.",
        (
            "a package of `requirements` is not installed here, so it cannot go into the image",
            "the model loads only where it was trained: it imports what its requirements do not name",
            "the base image cannot be fetched",
        ),
        "the registered version; nothing is published, the champion serves on",
        (
            "do what the message says; it names the file, package or limit",
            "name a missing package in `requirements` of model.toml and where the model is saved, then start again",
        ),
    ),
    Explanation(
        "E-LATE",
        "AlreadyDecided",
        "Somebody else has decided before; the first answer counts.",
        ("it was answered in the Prefect UI, or by another `insitu approve`",),
        "the first answer, signed",
        ("see it: `insitu show MODEL RUN_KEY`", "to go back on it: `insitu rollback MODEL`, or `insitu override`"),
    ),
    Explanation(
        "E-LEAK",
        "LeakFound",
        "What training left holds records of the data, or something in it cannot be opened to see whether it does.",
        (
            "the model keeps its rows: nearest neighbours, support vectors, Gaussian processes, stacking of these",
            "train.py writes rows beside the model: examples, predictions, a data profile",
            "a format or encryption that the scan cannot open",
        ),
        "the model stays on site and goes nowhere; the champion serves on",
        (
            "the message names file, part and columns: use a model that keeps no rows, or do not write that file",
            "save in a format that can be opened: MLflow's, ONNX, Parquet, JSON",
            "if they may leave and the site lets people say so: `insitu waive MODEL --file FILE ...`",
            "see what is searched for, and what `[residency]` allows: page No record in a model",
        ),
    ),
    Explanation(
        "E-LEASE",
        "RunTakenOver",
        "Another process has taken over what this one was working on.",
        ("this process was stopped or asleep for longer than its lease",),
        "the run: the other process goes on with it",
        ("nothing: see how it ends with `insitu history MODEL`",),
    ),
    Explanation(
        "E-MEM",
        "OutOfMemory",
        "The image's server was ended because it took more memory than it may.",
        ("the model is larger than `max_memory_mb` of `[limits]`, or than this machine has room for",),
        "the registered version; nothing is published, the champion serves on",
        ("make the model smaller, export it to ONNX, or raise `max_memory_mb`; then start again",),
    ),
    Explanation(
        "E-NET",
        "BackendUnavailable",
        "A service gave no answer, also after several tries.",
        ("it is down or restarting", "a proxy, a firewall or a name stands between", "the network is away"),
        _RUN_KEPT,
        (
            "run `insitu doctor --site SITE`: it asks every service and names the one that is away",
            "start again when it is back: a job that is at work is found, never sent twice",
        ),
    ),
    Explanation(
        "E-OUT",
        "EgressRefused",
        "Something was about to leave the site that nobody has said may leave; it was not sent.",
        (
            "a destination that the site's settings do not name",
            "an object that no signed decision clears",
            "the model's folder holds data or keys that would be uploaded with the code",
        ),
        "it stays on site; what had been sent before stands in `insitu audit MODEL`",
        ("see what the message names", "take it out of the folder, or name the destination in the site's settings"),
    ),
    Explanation(
        "E-PUB",
        "PublishFailed",
        "The image registry refused, or gave back other bytes than were sent.",
        (
            "the login may not push",
            "a tag is locked, or its version is taken by another image",
            "a proxy changes what goes through",
        ),
        "the image is in the local layout, and what the registry has of it; `latest` and the champion are as before",
        ("mend the registry or its login", "start again: only what is missing is sent"),
    ),
    Explanation(
        "E-READY",
        "NotReady",
        "The compute lacks something that the job needs.",
        (
            "less memory, disk or cores than `[needs]` or the forecast from earlier runs",
            "on a hub: the VM is off, its clock is wrong, Docker is away, or it cannot reach the blob service",
        ),
        "the snapshot; nothing was sent to the compute",
        (
            "each line has what was found and wanted: mend that, or lower `[needs]`",
            "`insitu plan MODEL` shows what the next run needs, from what earlier ones took",
        ),
    ),
    Explanation(
        "E-REG",
        "RegistryFailed",
        "The model registry refused, or holds something unexpected.",
        (
            "the version asked for does not exist",
            "somebody has changed versions by hand",
            "the database is of another MLflow",
        ),
        _RUN_KEPT + "; no second version is made",
        ("see the versions: `insitu history MODEL`", "put back what was changed, then start again"),
    ),
    Explanation(
        "E-RUN",
        "InsituError",
        "Something failed that has no class of its own.",
        ("a file that may not be written, a folder that is no project, a part of the machine that is missing",),
        _RUN_KEPT,
        ("do what the message says under `next`",),
    ),
    Explanation(
        "E-SIG",
        "SignatureRefused",
        "What should be signed by a trusted key is not, or is something else than was expected.",
        (
            "the key that signed it is not among the trusted ones: a new site, a key that was exchanged",
            "somebody has changed a file of the site's state, or the image",
        ),
        _NOTHING_CHANGED,
        (
            "get the public key (`var/keys/signing.pub`) by a way that you trust",
            "name it: `--key FILE`, or `signing.trusted` in the site's settings",
            "if the key is right, treat it as tampering: `insitu audit MODEL` shows what is broken",
        ),
    ),
    Explanation(
        "E-STATE",
        "StateDamaged",
        "A file of the site's state is not what insitu wrote.",
        (
            "a disk error, a copy that broke off, an edit by hand",
            "a newer insitu wrote it",
        ),
        "all other files; insitu does not write over the damaged one",
        (
            "put the file that the message names back from a backup, or from the store's earlier versions",
            "without one, do what the message says: what a step wrote can be moved away and is made again",
        ),
    ),
    Explanation(
        "E-STOP",
        "RunCancelled",
        "Somebody cancelled the run in Prefect.",
        ("the button in the UI, or `prefect flow-run cancel`",),
        _RUN_KEPT + "; its job was called off",
        ("start again when it is wanted: `insitu retrain MODEL`",),
    ),
    Explanation(
        "E-STORE",
        "StoreRefused",
        "The blob store refuses the request as such.",
        (
            "there is no such container, or the key or SAS does not give the right",
            "the account has run out of its quota, or a firewall rule stands before it",
            "it does not speak the service version of an Azure Stack Hub",
        ),
        _RUN_KEPT,
        ("run `insitu doctor --site SITE`", "make the container, or renew the secret that the settings name"),
    ),
    Explanation(
        "E-TRAIN",
        "TrainingFailed",
        "The job ended without a usable model.",
        (
            "train.py raised, ran into `timeout_s`, or was ended for want of memory",
            "it left no `model/`, or one that cannot be loaded or has no signature",
        ),
        "the log and what was left, on site; validation is not done again",
        (
            "read the job's log, which stays on site; the message says where it is",
            "mend train.py: changed code is a new run, and validates only what is new",
        ),
    ),
    Explanation(
        "E-USE",
        "UsageError",
        "The command line cannot be meant. Exit code 2.",
        ("a name that is not there, an option that does not fit the others, a folder that is no project",),
        _NOTHING_BEGUN,
        ("see what the message wants, or `insitu COMMAND --help`",),
    ),
)


def explain(code: str) -> Explanation:
    """Return what *code* means, however it is written: E-LEAK, leak or LeakFound.

    Raises:
        UsageError: There is no such code; the nearest is named.
    """
    known = {entry.code: entry for entry in EXPLANATIONS}
    names = {entry.kind.upper(): entry for entry in EXPLANATIONS}
    asked = code.strip().upper()
    for word in (asked, f"E-{asked}"):
        if found := known.get(word) or names.get(word):
            return found
    near = get_close_matches(asked if asked.startswith("E-") else f"E-{asked}", known, n=1, cutoff=0.5)
    raise UsageError(
        f"there is no error {code!a}",
        wanted=f"did you mean {near[0]}?" if near else "a code such as E-DATA",
        next_action="insitu explain lists all",
    )
