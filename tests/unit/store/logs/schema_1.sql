-- A log with schema 1, written by nerve at commit 7dc08b0 and dumped by sqlite3.Connection.iterdump().
--
-- It was made with that commit's own code (`git archive 7dc08b0 nerve | tar -x -C old`, then PYTHONPATH=old): LogWriter.open;
-- begin_boot; append of a boot's start, a complete run and the positions of two producers; purge_chunk of entry 1, as if it
-- were archived; append of an open run with a cause, of a warning and of an error; record_file; note_archive_run; close.
-- A later schema gets a file of its own beside this one, made in the same way before the schema changes.
BEGIN TRANSACTION;
CREATE TABLE "logs" ("id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "source" TEXT NOT NULL, "type" TEXT NOT NULL, "ref_id" TEXT, "payload" TEXT NOT NULL, "ts" INTEGER NOT NULL, CHECK (id > 0)) STRICT;
INSERT INTO "logs" VALUES(2,'reflex','run_start','cpu/00000000000000000000000000000000','{"sense":"cpu","reflex":"cpu-every-2s","trigger":"interval","cause":null}',1763942400001);
INSERT INTO "logs" VALUES(3,'sense','reading','cpu/00000000000000000000000000000000','{"percent":12.5,"text":"it''s \u00fc"}',1763942400002);
INSERT INTO "logs" VALUES(4,'reflex','run_complete','cpu/00000000000000000000000000000000','{"sense":"cpu","status":"ok","duration_ms":1.5,"signal":true,"worker":7}',1763942400003);
INSERT INTO "logs" VALUES(5,'reflex','run_start','alert/11111111111111111111111111111111','{"sense":"alert","reflex":"alert","trigger":"signal","cause":"cpu/00000000000000000000000000000000"}',1763942400004);
INSERT INTO "logs" VALUES(6,'logging','warning','alert/11111111111111111111111111111111','{"message":"hot"}',1763942400005);
INSERT INTO "logs" VALUES(7,'system','error',NULL,'{"kind":"disk","message":"m"}',1763942400006);
INSERT INTO "logs" VALUES(8,'system','archive','2025-11-24','{"rows":1,"file":"2025-11-24.jsonl","reason":"retention"}',1763942400007);
CREATE TABLE "meta" ("key" TEXT NOT NULL PRIMARY KEY, "value" TEXT NOT NULL) STRICT;
INSERT INTO "meta" VALUES('schema_version','1');
INSERT INTO "meta" VALUES('log_id','343354086c4d4e3b9605a16b65f25991');
INSERT INTO "meta" VALUES('boot_id','boot-1');
INSERT INTO "meta" VALUES('lane:kernel/1','{"seq":2,"ts":1764000000000}');
INSERT INTO "meta" VALUES('lane:worker/1','{"seq":2,"ts":1764000000000}');
INSERT INTO "meta" VALUES('settled_below','5');
INSERT INTO "meta" VALUES('watermark_ts','1764028800000');
INSERT INTO "meta" VALUES('watermark_id','1');
INSERT INTO "meta" VALUES('recorded_files','1');
INSERT INTO "meta" VALUES('archive_run','{"ts":1763942400008,"files":1,"rows":1}');
CREATE INDEX "logs_source_type" ON "logs" ("source", "type");
CREATE INDEX "logs_ts" ON "logs" ("ts");
CREATE INDEX "logs_ref_id" ON "logs" ("ref_id");
CREATE INDEX "logs_cause" ON "logs" (CASE WHEN source = 'reflex' AND type = 'run_start' THEN CASE WHEN json_valid(payload) THEN json_extract(payload, '$.cause') END END) WHERE CASE WHEN source = 'reflex' AND type = 'run_start' THEN CASE WHEN json_valid(payload) THEN json_extract(payload, '$.cause') END END IS NOT NULL;
CREATE INDEX "logs_errors" ON "logs" (CASE source WHEN 'system' THEN type = 'error' WHEN 'logging' THEN type IN ('warning', 'error', 'critical') WHEN 'reflex' THEN CASE WHEN type = 'run_complete' THEN CASE WHEN json_valid(payload) THEN json_extract(payload, '$.status') NOT IN ('ok', 'cancelled') END END END) WHERE CASE source WHEN 'system' THEN type = 'error' WHEN 'logging' THEN type IN ('warning', 'error', 'critical') WHEN 'reflex' THEN CASE WHEN type = 'run_complete' THEN CASE WHEN json_valid(payload) THEN json_extract(payload, '$.status') NOT IN ('ok', 'cancelled') END END END = 1;
CREATE TRIGGER logs_no_update BEFORE UPDATE ON logs
    BEGIN SELECT RAISE(ABORT, 'logs is append-only: an entry never changes'); END;
CREATE TRIGGER logs_no_delete BEFORE DELETE ON logs
    WHEN OLD.ts >= coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'watermark_ts'), OLD.ts)
      OR OLD.id > coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'watermark_id'), 0)
    BEGIN SELECT RAISE(ABORT, 'logs is append-only: an entry is deleted only once it is in the archive'); END;
CREATE TRIGGER logs_no_replace BEFORE INSERT ON logs
    WHEN NEW.id > 0 AND EXISTS (SELECT 1 FROM logs WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'logs is append-only: an entry is never replaced'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('logs',8);
COMMIT;
