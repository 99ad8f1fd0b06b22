BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'calls','m001_calls','2026-11-24 12:04:13.951729+00:00');
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
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE UNIQUE INDEX "idx_calls_id"
    ON "calls" ("id");
CREATE INDEX "calls_by_deployment"
    ON "calls" ("deployment_id", "started_at", "prompt_tokens", "cached_tokens", "response_tokens", "error_code");
CREATE INDEX "calls_by_model"
    ON "calls" ("model_id", "started_at", "prompt_tokens", "cached_tokens", "response_tokens", "error_code");
CREATE INDEX "calls_by_account"
    ON "calls" ("account_id", "started_at");
CREATE INDEX "calls_by_time"
    ON "calls" ("started_at");
COMMIT;
