-- Remove the (encrypted) hashes of withdrawn files from PostgreSQL's own files: from dead row versions,
-- and from the write-ahead log (WAL). Run it as a superuser with
--   psql --dbname clearinghouse --file scrub.sql
-- at a quiet time, since VACUUM FULL rewrites the table and locks it meanwhile.
--
-- It needs `wal_recycle = off` in postgresql.conf: otherwise WAL segments are renamed and keep their
-- contents until they are overwritten. It does not reach archived WAL, replicas and their slots, base
-- backups, or blocks of deleted files that the disk has not reused yet.
VACUUM FULL signals;
CHECKPOINT;
SELECT pg_switch_wal();
CHECKPOINT;
