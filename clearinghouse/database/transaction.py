"""A transaction of the database, with its query objects by table family."""

from sqlalchemy import Connection

from clearinghouse.database.queries.activity import Activity
from clearinghouse.database.queries.advocates import Advocates
from clearinghouse.database.queries.allowlist import Allowlist
from clearinghouse.database.queries.audit import Audit
from clearinghouse.database.queries.cases import Cases
from clearinghouse.database.queries.contributions import Contributions
from clearinghouse.database.queries.facts import Facts
from clearinghouse.database.queries.figures import Figures
from clearinghouse.database.queries.log import Log
from clearinghouse.database.queries.master_key import MasterKey
from clearinghouse.database.queries.platforms import Platforms
from clearinghouse.database.queries.proofs import Proofs
from clearinghouse.database.queries.quotas import Quotas
from clearinghouse.database.queries.replies import Replies
from clearinghouse.database.queries.reviews import Reviews
from clearinghouse.database.queries.signals import Signals
from clearinghouse.database.queries.stopncii_records import StopNCIIRecords
from clearinghouse.database.queries.takeouts import Takeouts
from clearinghouse.database.queries.withdrawn import Withdrawn
from clearinghouse.sealing.vault import Vault


class Transaction:
    """A connection within a transaction, its effects, and its query objects by table family.

    Query objects have no state of their own and are created on access: every request begins a
    transaction, and most requests use two or three query objects. Those that append to the log or
    revoke keys take the transaction, the others its connection.

    Attributes:
        connection: executes the statements.
        grew: whether entries were appended to the log.
        removed: whether removals were logged, which must be in the journal of withdrawals before
            the response is sent.
        revoked: row numbers of keys that were revoked; the store adds them to the journal after the
            commit.
        period: when the current release period began, in Unix seconds; None if new log entries are
            released at once (`Releases`).
        vault: the keys of the database, set by the store.
    """

    __slots__ = ("connection", "grew", "period", "removed", "revoked", "vault")

    vault: Vault

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.grew = False
        self.removed = False
        self.revoked: list[int] = []
        self.period: int | None = None

    @property
    def cases(self) -> Cases:
        """Cases and their files."""
        return Cases(self)

    @property
    def signals(self) -> Signals:
        """Signals of files: adding, reading and removing them."""
        return Signals(self)

    @property
    def log(self) -> Log:
        """The log of additions and removals, and its epoch."""
        return Log(self)

    @property
    def platforms(self) -> Platforms:
        """Platforms, their keys, acknowledgements, matches and verdicts."""
        return Platforms(self)

    @property
    def stopncii(self) -> StopNCIIRecords:
        """Records of the StopNCII API, and their order."""
        return StopNCIIRecords(self.connection)

    @property
    def contributions(self) -> Contributions:
        """Cases that contain what platforms contributed, or what was imported from them."""
        return Contributions(self.connection)

    @property
    def advocates(self) -> Advocates:
        """Advocates, and the cases that they open for survivors."""
        return Advocates(self.connection)

    @property
    def reviews(self) -> Reviews:
        """Questions to the operator, and files removed by somebody other than their holder."""
        return Reviews(self.connection)

    @property
    def takeouts(self) -> Takeouts:
        """Files that verdicts put on hold, by platform and day."""
        return Takeouts(self.connection)

    @property
    def withdrawn(self) -> Withdrawn:
        """Tags of withdrawn values, which contributors may not add again."""
        return Withdrawn(self.connection)

    @property
    def allowlist(self) -> Allowlist:
        """Hashes of pictures known to be lawful."""
        return Allowlist(self.connection)

    @property
    def quotas(self) -> Quotas:
        """Lookups leased by keys."""
        return Quotas(self.connection)

    @property
    def proofs(self) -> Proofs:
        """Used proofs of work, and the intake that sets their cost."""
        return Proofs(self.connection)

    @property
    def replies(self) -> Replies:
        """Replies to idempotent requests."""
        return Replies(self.connection)

    @property
    def facts(self) -> Facts:
        """Facts about the database itself."""
        return Facts(self.connection)

    @property
    def master_key(self) -> MasterKey:
        """Sealed values, for the rotation of the master key."""
        return MasterKey(self.connection)

    @property
    def activity(self) -> Activity:
        """When something last happened."""
        return Activity(self.connection)

    @property
    def audit(self) -> Audit:
        """The audit trail."""
        return Audit(self.connection)

    @property
    def figures(self) -> Figures:
        """Counts for the operator and for reports."""
        return Figures(self.connection)
