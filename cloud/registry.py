"""The model pool: signed files, and a database that says which release is in service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue, ValidationError
from sqlalchemy import create_engine, select
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.orm import Session

from cloud.config import CloudConfig
from cloud.pool_files import (
    MODEL,
    SIGNER,
    read_int8,
    read_release,
    release_folder,
    write_release,
)
from cloud.pool_tables import CurrentRow, PromotionRow, ReleaseRow, make_tables
from cloud.release import Release
from common.errors import ConfigError, ContractError, PulseRingError
from common.signing import PUBLIC_NAME, Keyring, Signer


class Registry:
    """All releases of a model pool.

    Parameters
    ----------
    pool_dir : Path
        Where the files lie.
    database : str
        SQLAlchemy URL; tables are made at first use.
    trusted : Keyring
        Holds the key of ``cloud``.

    Raises
    ------
    ConfigError
        When the database cannot be opened.
    """

    def __init__(self, pool_dir: Path, database: str, trusted: Keyring) -> None:
        self._pool_dir = pool_dir
        self._trusted = trusted
        pool_dir.mkdir(parents=True, exist_ok=True)
        try:
            self._engine = create_engine(database)
            make_tables(self._engine)
        except (ArgumentError, NoSuchModuleError, DBAPIError, ImportError) as fault:
            raise ConfigError(f"database: {str(fault).splitlines()[0]}") from fault

    def close(self) -> None:
        """Give back the database's connections."""
        self._engine.dispose()

    def register(
        self, release: Release, onnx: bytes, signer: Signer, int8: bytes | None = None
    ) -> Release:
        """Sign a release with its files, and put all into the pool; again is once.

        Parameters
        ----------
        release : Release
            States the digests of the files.
        onnx, int8 : bytes
            The float32 file, and the int8 file where the release has one.
        signer : Signer
            The cloud's.

        Returns
        -------
        Release
            As it lies in the pool; the first registration of a name stays.

        Raises
        ------
        ContractError
            When another model lies there under that name, or other files than those signed.
        """
        if not release_folder(self._pool_dir, release.name).exists():
            write_release(self._pool_dir, release, onnx, signer, int8)
        stored, _ = read_release(self._pool_dir, release.name, self._trusted)
        read_int8(self._pool_dir, stored)
        if (stored.model_digest, stored.sealed_digest) != (
            release.model_digest,
            release.sealed_digest,
        ):
            raise ContractError(f"{release.name} is in the pool with another model")
        self._insert(stored)
        return self.get(release.name)

    def get(self, name: str) -> Release:
        """Return the release called `name`; its files are not read.

        Raises
        ------
        ContractError
            When the pool has none of that name.
        """
        with self._transaction() as session:
            row = session.get(ReleaseRow, self.folder(name).name)
            if row is None:
                raise ContractError(f"no release {name!r} in the model pool", release=name)
            current = session.get(CurrentRow, row.region)
            return _release(row, current)

    def releases(self, region: str | None = None) -> tuple[Release, ...]:
        """Return all releases, or those of `region`, oldest first."""
        query = (
            select(ReleaseRow, CurrentRow)
            .outerjoin(CurrentRow, CurrentRow.name == ReleaseRow.name)
            .order_by(ReleaseRow.created_at, ReleaseRow.name)
        )
        if region is not None:
            query = query.where(ReleaseRow.region == region)
        with self._transaction() as session:
            return tuple(_release(row, current) for row, current in session.execute(query))

    def current(self, region: str) -> Release | None:
        """Return the release in service in `region`, if there is one."""
        query = (
            select(ReleaseRow, CurrentRow)
            .join(CurrentRow, CurrentRow.name == ReleaseRow.name)
            .where(CurrentRow.region == region)
        )
        with self._transaction() as session:
            found = session.execute(query).first()
            return None if found is None else _release(*found)

    def promote(self, name: str, promoted_by: str, now: float) -> Release:
        """Put a release into service in its region, in one transaction; again is once.

        Its signature is checked first, so that nothing unsigned comes into service.

        Raises
        ------
        ContractError
            When the pool has no release of that name or its files are not what was signed.
        """
        release = self.verify(name)
        row = PromotionRow(
            region=release.region, name=name, promoted_by=promoted_by, promoted_at=now
        )
        try:
            self._set_current(row)
        except IntegrityError:  # another process made the region's first row at this moment
            self._set_current(row)
        return self.get(name)

    def add_report(self, name: str, report: dict[str, JsonValue]) -> Release:
        """Keep what was measured after the decision; the first report stays."""
        with self._transaction() as session:
            row = session.get(ReleaseRow, name, with_for_update=True)
            if row is None:
                raise ContractError(f"no release {name[:100]!r} in the model pool", release=name)
            if row.report is None:
                row.report = report
        return self.get(name)

    def model_path(self, name: str) -> Path:
        """Path of the ONNX file of a release in the pool; use `verified_model` to load it."""
        return release_folder(self._pool_dir, self.get(name).name) / MODEL

    def verify(self, name: str) -> Release:
        """Check signature and digests of a release's files; no graph is parsed.

        Raises
        ------
        ContractError
            When the pool has no such release or its files are not what was signed.
        """
        release, _ = self.verified_model(name)
        read_int8(self._pool_dir, release)
        return release

    def verified_int8(self, name: str) -> bytes | None:
        """Read a release's int8 file, checked as in `verify`; None where it has none."""
        release, _ = self.verified_model(name)
        return read_int8(self._pool_dir, release)

    def verified_model(self, name: str) -> tuple[Release, bytes]:
        """Read a release and its float32 file, checked as in `verify`; load these, not the file.

        A damaged int8 file does not matter here, so that it stops no service.
        """
        registered = self.get(name)
        signed, onnx = read_release(self._pool_dir, name, self._trusted)
        if signed.frozen_json() != registered.frozen_json():
            raise ContractError(f"{name} differs between database and files", release=name)
        return registered, onnx

    def folder(self, name: str) -> Path:
        """Folder of a release, for its card."""
        return release_folder(self._pool_dir, name)

    def _set_current(self, promotion: PromotionRow) -> None:
        with self._transaction() as session:
            current = session.get(CurrentRow, promotion.region, with_for_update=True)
            if current is None or current.name != promotion.name:
                session.merge(CurrentRow(region=promotion.region, name=promotion.name))
                session.merge(promotion)

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        try:
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                yield session
        except IntegrityError:
            raise
        except DBAPIError as fault:
            raise PulseRingError(f"database of the pool: {str(fault).splitlines()[0]}") from fault

    def _insert(self, release: Release) -> None:
        row = ReleaseRow(
            name=release.name,
            region=release.region,
            day=release.day,
            created_at=release.created_at,
            document=release.frozen_fields(),
        )
        try:
            with self._transaction() as session:
                if session.get(ReleaseRow, release.name) is None:
                    session.add(row)
        except IntegrityError:
            self.get(release.name)  # another process was first, which is as good


def open_registry(config: CloudConfig) -> Registry:
    """Open the pool of `config`; releases must be signed by the key in its `state_dir`."""
    trusted = Keyring({SIGNER: config.state_dir / PUBLIC_NAME})
    return Registry(config.pool_dir, config.database_url, trusted)


def _release(row: ReleaseRow, current: CurrentRow | None) -> Release:
    in_service = current is not None and current.name == row.name
    status = "current" if in_service else "in_pool"
    try:
        return Release.model_validate({**row.document, "status": status, "report": row.report})
    except (ValidationError, TypeError) as fault:
        raise ContractError(
            f"the database of the pool does not describe a release under {row.name!r}",
            release=row.name,
        ) from fault
