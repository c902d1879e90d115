-- Remove from PostgreSQL's own files what they still hold of hashes that were withdrawn, sealed as they
-- are: old versions of rows, and the log from which it recovers (WAL). For a superuser, who runs it with
--   psql --dbname clearinghouse --file scrub.sql
-- at a quiet hour, since VACUUM FULL writes the table again and makes everybody wait meanwhile.
--
-- Needs `wal_recycle = off` in postgresql.conf: otherwise segments of the log are renamed and kept, with
-- what is in them, until they are written over. What is out of its reach: archived WAL, replicas and
-- their slots, base backups, and blocks of deleted files that the disk has not yet used again.
VACUUM FULL signals;
CHECKPOINT;
SELECT pg_switch_wal();
CHECKPOINT;
