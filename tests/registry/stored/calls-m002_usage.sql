BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'calls','m001_calls','2026-11-26 01:13:47.387213+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'calls','m002_usage','2026-11-26 01:13:47.397277+00:00');
CREATE TABLE call_contents (sequence INTEGER PRIMARY KEY REFERENCES calls (sequence) ON DELETE CASCADE, request_digest TEXT NOT NULL, response_digest TEXT, request TEXT, response TEXT) STRICT;
CREATE TABLE "calls" (
   "sequence" INTEGER PRIMARY KEY,
   "id" TEXT NOT NULL,
   "deployment_id" TEXT NOT NULL,
   "model_id" TEXT NOT NULL,
   "account_id" TEXT NOT NULL,
   "key_id" TEXT,
   "model_type" TEXT,
   "dialect" TEXT,
   "started_at" INTEGER NOT NULL,
   "prompt_tokens" INTEGER,
   "cached_tokens" INTEGER,
   "response_tokens" INTEGER,
   "queue_milliseconds" REAL,
   "prefill_milliseconds" REAL,
   "decode_milliseconds" REAL,
   "finish_reason" TEXT,
   "error_code" TEXT
) STRICT;
INSERT INTO "calls" VALUES(1,'call-1','deployment-1','model-1','account-1','key-1','CHAT_COMPLETION','openai',1795523415250000,7,2,5,0.0,0.0,12.5,'stop',NULL);
CREATE TABLE "retention" (
   "id" INTEGER PRIMARY KEY,
   "forgotten_before" INTEGER
) STRICT;
CREATE TABLE usage_days (of_id INTEGER NOT NULL REFERENCES usage_of (id), started_at INTEGER NOT NULL, calls INTEGER NOT NULL, errors INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, response_tokens INTEGER NOT NULL, queue_milliseconds REAL NOT NULL, prefill_milliseconds REAL NOT NULL, decode_milliseconds REAL NOT NULL, PRIMARY KEY (of_id, started_at)) STRICT, WITHOUT ROWID;
INSERT INTO "usage_days" VALUES(1,1795478400000000,1,0,7,2,5,0.0,0.0,12.5);
CREATE TABLE usage_hours (of_id INTEGER NOT NULL REFERENCES usage_of (id), started_at INTEGER NOT NULL, calls INTEGER NOT NULL, errors INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, response_tokens INTEGER NOT NULL, queue_milliseconds REAL NOT NULL, prefill_milliseconds REAL NOT NULL, decode_milliseconds REAL NOT NULL, PRIMARY KEY (of_id, started_at)) STRICT, WITHOUT ROWID;
INSERT INTO "usage_hours" VALUES(1,1795521600000000,1,0,7,2,5,0.0,0.0,12.5);
CREATE TABLE usage_of (id INTEGER PRIMARY KEY, deployment_id TEXT NOT NULL, model_id TEXT NOT NULL, account_id TEXT NOT NULL, key_id TEXT NOT NULL, UNIQUE (deployment_id, model_id, account_id, key_id)) STRICT;
INSERT INTO "usage_of" VALUES(1,'deployment-1','model-1','account-1','key-1');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE UNIQUE INDEX "idx_calls_id"
    ON "calls" ("id");
CREATE INDEX "calls_by_time"
    ON "calls" ("started_at");
CREATE INDEX "calls_by_deployment"
    ON "calls" ("deployment_id", "started_at");
CREATE INDEX "calls_by_model"
    ON "calls" ("model_id", "started_at");
CREATE INDEX "calls_by_account"
    ON "calls" ("account_id", "started_at");
CREATE INDEX "calls_by_account_and_deployment"
    ON "calls" ("account_id", "deployment_id", "started_at");
CREATE INDEX "calls_by_key"
    ON "calls" ("key_id", "started_at");
COMMIT;
