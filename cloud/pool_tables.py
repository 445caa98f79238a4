"""Tables of the model pool, the same on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Engine, ForeignKey, String
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateTable


class Row(DeclarativeBase):
    """Root of the pool's tables."""


class ReleaseRow(Row):
    """A release: what never changes of it as JSON, and its report once there is one."""

    __tablename__ = "releases"
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    region: Mapped[str] = mapped_column(String(48))
    day: Mapped[int]
    created_at: Mapped[float]
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class CurrentRow(Row):
    """One row a region, so that no region can have two releases in service."""

    __tablename__ = "current_releases"
    region: Mapped[str] = mapped_column(String(48), primary_key=True)
    name: Mapped[str] = mapped_column(ForeignKey("releases.name"))


class PromotionRow(Row):
    """One row a promotion, never changed: who put what into service, and when."""

    __tablename__ = "promotions"
    id: Mapped[int] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(String(48))
    name: Mapped[str] = mapped_column(ForeignKey("releases.name"))
    promoted_by: Mapped[str] = mapped_column(String(200))
    promoted_at: Mapped[float]


def make_tables(engine: Engine) -> None:
    """Make what is not there yet; another process may do the same at this moment."""
    statements = [CreateTable(t, if_not_exists=True) for t in Row.metadata.sorted_tables]

    def execute() -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(statement)

    try:
        execute()
    except DBAPIError:  # PostgreSQL reports the race as a duplicate, once the other is done
        execute()
