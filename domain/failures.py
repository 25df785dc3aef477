"""Why a run of a job failed: the part of the tree of errors that is stored on jobs and attempts, and how it is stored."""

from collections.abc import Mapping
from dataclasses import dataclass

from domain.errors import MillpondError
from domain.usage import Usage


class InferenceError(MillpondError):
    """A run of a job failed."""

    code = "model_error"

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None, usage: Usage | None = None) -> None:
        """``usage``: the tokens that the run took before it failed, where they are known; they are counted and charged."""
        super().__init__(message, retry_after_s=retry_after_s)
        self.usage = usage or Usage()


class ModelError(InferenceError):
    """The model raised an error on this input."""

    code = "model_error"
    retryable = True


class InvalidInput(InferenceError):
    """The model cannot use this input."""

    code = "invalid_input"


class UnsupportedInput(InferenceError):
    """The model does not do what this input asks of it; another model of the task may."""

    code = "unsupported_input"


class InvalidBase64(InferenceError):
    """The content is not base64 as RFC 4648 has it: padded, without line breaks, in the usual alphabet."""

    code = "invalid_base64"


class UnsupportedFormat(InferenceError):
    """The content is of no format that this input takes, or holds several images where one is taken."""

    code = "unsupported_format"


class InputGone(InferenceError):
    """The file that the job was to work on was deleted, or has expired."""

    code = "input_gone"


class InputFetchFailed(InferenceError):
    """The content could not be fetched from its URL."""

    code = "input_fetch_failed"


class InputSourceAway(InputFetchFailed):
    """The content could not be fetched from its URL: whoever serves it does not answer just now."""

    retryable = True


class FilesUnavailable(InferenceError):
    """The store of files is away."""

    code = "files_unavailable"
    retryable = True


class InvalidImage(InferenceError):
    """The image cannot be read: it is damaged, cut off, empty, or not what it begins as."""

    code = "invalid_image"


class ImageTooLarge(InferenceError):
    """The image has more pixels than may be decoded."""

    code = "image_too_large"


class InvalidAudio(InferenceError):
    """The audio cannot be read: it is damaged, cut off, empty, or not what it begins as."""

    code = "invalid_audio"


class AudioTooLong(InferenceError):
    """The audio is longer than the model takes."""

    code = "audio_too_long"


class ContextTooLong(InferenceError):
    """The input is longer than the model's context."""

    code = "context_too_long"


class UnsupportedLanguage(InferenceError):
    """The model does not have this language, or not this pair of languages."""

    code = "unsupported_language"


class InvalidOutput(InferenceError):
    """The model's output does not keep the task's contract."""

    code = "invalid_output"


class OutputTooLarge(InferenceError):
    """The output is over the limit."""

    code = "output_too_large"


class OutOfMemory(InferenceError):
    """The model ran out of memory on this input."""

    code = "out_of_memory"
    retryable = True


class RunTimeout(InferenceError):
    """The attempt ran longer than its time-out."""

    code = "run_timeout"
    retryable = True


class WorkerLost(InferenceError):
    """The process that ran the job died, three times with this job alone in it."""

    code = "worker_lost"


class ProviderRateLimited(InferenceError):
    """The provider of the model takes no more requests just now."""

    code = "provider_rate_limited"
    retryable = True


class ProviderUnavailable(InferenceError):
    """The provider of the model cannot be reached, is out of order, or did not answer in time."""

    code = "provider_unavailable"
    retryable = True


class ProviderBadAnswer(InferenceError):
    """The provider of the model answered in a way that cannot be read."""

    code = "provider_bad_answer"
    retryable = True


class ProviderRefused(InferenceError):
    """The provider of the model does not serve us: the key, the account or the model's name is not accepted there."""

    code = "provider_refused"


class CostLimit(InferenceError):
    """Another attempt may cost more than `max_cost_usd` leaves."""

    code = "cost_limit"


class ContentPolicy(InferenceError):
    """The model's content policy does not allow this input or its answer."""

    code = "content_policy"


class NoAnswer(InferenceError):
    """None of the models gave an answer; `consensus` says why."""

    code = "no_answer"


class NoAgreement(InferenceError):
    """The models do not agree as far as was asked for; `consensus` says how far, and what each answered."""

    code = "no_agreement"


class RejectedInReview(InferenceError):
    """Whoever reviewed the models' answers took none of them."""

    code = "rejected_in_review"


class DeadlineExceeded(InferenceError):
    """The deadline passed before a result."""

    code = "deadline_exceeded"


class CanceledByUser(InferenceError):
    """The job was canceled."""

    code = "canceled_by_user"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as it is stored on a job or an attempt: what the client sees under `error`."""

    code: str
    message: str
    retryable: bool

    @classmethod
    def of(cls, error: MillpondError) -> "Failure":
        """The stored form of an error."""
        return cls(code=error.code, message=error.message, retryable=error.retryable)

    def as_dict(self) -> dict[str, object]:
        """As JSON holds it."""
        return {"code": self.code, "message": self.message, "retryable": self.retryable}


def all_errors() -> Mapping[str, type[MillpondError]]:
    """Every public code and its class: the closed list that the docs are generated from."""
    found: dict[str, type[MillpondError]] = {}
    pending: list[type[MillpondError]] = [MillpondError]
    while pending:
        cls = pending.pop(0)
        found.setdefault(cls.code, cls)
        pending.extend(cls.__subclasses__())
    return found
