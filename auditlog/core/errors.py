"""Errors of the road. Each says what was found and what was expected; `config/errors.py` turns them into HTTP answers.

`err` of a refusal is the code of RFC 8935 section 2.4 (and ours for a conflict), sent back to the event's sender.
"""


class AnswerableError(Exception):
    """Base of all errors that a caller can be told about."""


class Refused(AnswerableError):
    """An event was not taken. Nothing of it is in the ledger, unless the subclass says otherwise."""

    err = "invalid_request"
    key = ""  # thumbprint of the configured key it was refused under, where there is one


class MalformedEvent(Refused):
    """The bytes are not what the source's format calls an event."""


class BadSignature(Refused):
    """The signature does not fit the received bytes."""

    err = "authentication_failed"


class UnknownKey(Refused):
    """No usable key: unknown `kid`, a retired key, an algorithm that does not fit the key."""

    err = "invalid_key"


class WrongAlgorithm(UnknownKey):
    """The delivery names a key of the source and an algorithm that this key has nothing to do with. No sender that
    holds the key signs like that, so it is found as a forgery is; `key` says whose name was used.
    """

    def __init__(self, said: str, *, key: str) -> None:
        super().__init__(said)
        self.key = key


class UnknownKid(UnknownKey):
    """No key of the source has this name: the only refusal that reading its key set again can cure."""


class WrongIssuer(Refused):
    err = "invalid_issuer"


class WrongAudience(Refused):
    err = "invalid_audience"


class SourceSuspended(Refused):
    err = "access_denied"


class ConflictingEvent(Refused):
    """Other content under an identity that the ledger already has. The refused bytes are kept as a conflict leaf."""

    err = "duplicate_conflict"


class DeliveryTooLarge(Refused):
    pass


class WrongContentType(Refused):
    pass


class UnknownSource(AnswerableError):
    """No such source in this tenant, or no such tenant."""


class TooManyRequests(AnswerableError):
    """The source sends faster than it may. `retry_after` is in whole seconds."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotPermitted(AnswerableError):
    """The person's role does not allow this."""


class ConfigurationDiffers(AnswerableError):
    """What is configured is not what the log states: somebody changed it behind the log's back."""


class NotInForce(AnswerableError):
    """A right that its leaf gives, and that no published checkpoint covers yet."""


class NotScanned(AnswerableError):
    """A file that the malware scanner gave no verdict on."""


class NotFound(AnswerableError):
    pass


class NotPossible(AnswerableError):
    """The request is understood, but the state of the thing forbids it."""


class LedgerCorrupt(AnswerableError):
    """Stored bytes and the tree disagree. Names the first bad leaf."""


class LedgerBehind(AnswerableError):
    """The database is behind, or beside, what was signed before. Nothing is signed until a person decides."""


class Superseded(AnswerableError):
    """Another publisher took over while this one slept. The log is fine; this publisher must not sign it any more."""


class ConfigurationError(AnswerableError):
    """A command or a form was given something that cannot be configured."""


class OutboundError(AnswerableError):
    """Another host was to be asked, and there is no answer to use. Names the host, never what was sent."""


class AddressRefused(OutboundError):
    """Not an address that this service calls: another scheme than https, or a host inside of some network."""


class HostUnreachable(OutboundError):
    """No such host, no connection, no trusted certificate, or an answer that breaks off."""


class AnswerTooLate(OutboundError):
    """The host did not connect, speak or finish in time."""


class AnswerTooLarge(OutboundError):
    """The answer is longer than this one may be."""


class UnexpectedAnswer(OutboundError):
    """The host answered, and not what was expected. `retry_after`: seconds that it wants to be left alone for."""

    def __init__(self, message: str, *, status: int = 0, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class NotConfigured(OutboundError):
    """What the request needs is not here: a credential's variable is not set."""
