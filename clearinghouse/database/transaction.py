"""One transaction of the database, and the statements that it can run, by table family."""

from sqlalchemy import Connection

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
    """A connection within a transaction, what was done in it, and its statements by table family.

    A query object keeps no state of its own. It is made where it is used: a transaction is opened
    for every request, and most requests need two or three of them. Those that append to the log or
    note revoked keys take the transaction, the others its connection.

    Attributes:
        connection: runs the statements.
        grew: whether the log has new entries.
        removed: whether the journal of withdrawals must be up to date before this is answered.
        revoked: keys that were revoked, for the store to note when the transaction is committed.
        period: when the present period of releases began, in seconds since 1970; None where
            entries of the log are given out at once (`Log.released`).
        vault: the keys of the database; the store sets it when it has unlocked the database.
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
        """Signals of files: adding, reading and ending them."""
        return Signals(self)

    @property
    def log(self) -> Log:
        """The log of additions and removals, and its epoch."""
        return Log(self)

    @property
    def platforms(self) -> Platforms:
        """Platforms, their keys, and what they confirmed, matched and answered."""
        return Platforms(self)

    @property
    def stopncii(self) -> StopNCIIRecords:
        """Records as the StopNCII API shows them, and their order."""
        return StopNCIIRecords(self.connection)

    @property
    def contributions(self) -> Contributions:
        """Cases that hold what platforms contributed, or what was imported from them."""
        return Contributions(self.connection)

    @property
    def advocates(self) -> Advocates:
        """Advocates, and the cases that they open for others."""
        return Advocates(self.connection)

    @property
    def reviews(self) -> Reviews:
        """Questions to the operator, and files that others than their holder took out."""
        return Reviews(self.connection)

    @property
    def takeouts(self) -> Takeouts:
        """Files that verdicts hold back, counted by platform and day."""
        return Takeouts(self.connection)

    @property
    def withdrawn(self) -> Withdrawn:
        """What survivors withdrew, which no contributor may bring back."""
        return Withdrawn(self.connection)

    @property
    def allowlist(self) -> Allowlist:
        """Hashes of pictures that are known to be lawful."""
        return Allowlist(self.connection)

    @property
    def quotas(self) -> Quotas:
        """Look-ups that keys have leased."""
        return Quotas(self.connection)

    @property
    def proofs(self) -> Proofs:
        """Proofs of work that were used."""
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
        """Sealed values, for a change of the master key."""
        return MasterKey(self.connection)

    @property
    def audit(self) -> Audit:
        """The audit trail."""
        return Audit(self.connection)

    @property
    def figures(self) -> Figures:
        """Counts of everything."""
        return Figures(self.connection)
