BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'registry','m001_initial','2026-11-26 17:00:57.367926+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'registry','m002_learned_needs','2026-11-26 17:00:57.368607+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'registry','m003_upstreams','2026-11-26 17:00:57.370777+00:00');
INSERT INTO "_sqlite_migrations" VALUES(4,'registry','m004_background_work','2026-11-26 17:00:57.376606+00:00');
INSERT INTO "_sqlite_migrations" VALUES(5,'registry','m005_benchmarks','2026-11-26 17:00:57.382139+00:00');
INSERT INTO "_sqlite_migrations" VALUES(6,'registry','m006_limits_and_answers','2026-11-26 17:00:57.385880+00:00');
INSERT INTO "_sqlite_migrations" VALUES(7,'registry','m007_serving','2026-11-26 17:00:57.389215+00:00');
INSERT INTO "_sqlite_migrations" VALUES(8,'registry','m008_fine_tuning','2026-11-26 17:00:57.393789+00:00');
INSERT INTO "_sqlite_migrations" VALUES(9,'registry','m009_changes_that_load','2026-11-26 17:00:57.394982+00:00');
CREATE TABLE "accounts" (
   "id" TEXT PRIMARY KEY,
   "name" TEXT NOT NULL,
   "created_at" TEXT
, "limits" TEXT NOT NULL DEFAULT '{}') STRICT;
INSERT INTO "accounts" VALUES('account-1','North','2026-11-24T12:30:15.250000+00:00','{}');
CREATE TABLE "answers" (
   "id" TEXT PRIMARY KEY,
   "account_id" TEXT NOT NULL,
   "request_digest" TEXT NOT NULL,
   "noun" TEXT NOT NULL,
   "made_id" TEXT NOT NULL,
   "is_secret" INTEGER NOT NULL,
   "status_code" INTEGER,
   "body" TEXT,
   "created_at" TEXT NOT NULL
) STRICT;
INSERT INTO "answers" VALUES('a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0','account-1','d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0','model','model-1',0,200,'{"id":"model-1"}','2026-11-24T12:30:15.250000+00:00');
CREATE TABLE "artifacts" (
   "id" TEXT PRIMARY KEY,
   "name" TEXT NOT NULL,
   "digest" TEXT NOT NULL,
   "files" TEXT NOT NULL,
   "size_bytes" INTEGER NOT NULL,
   "card" TEXT NOT NULL,
   "zoo_name" TEXT,
   "created_at" TEXT,
   "created_by_user_id" TEXT
) STRICT;
INSERT INTO "artifacts" VALUES('artifact-1','tiny','abababababababababababababababababababababababababababababababab','[{"name":"tiny.gguf","digest":"abababababababababababababababababababababababababababababababab","size_bytes":1234}]',1234,'{"format":"gguf","architecture":"llama","name":null,"parameter_count":null,"context_length_tokens":2048,"embedding_length":null,"layer_count":null,"head_count":null,"kv_head_count":null,"head_width":null,"vocabulary_size":null,"quantization":null,"tokenizer":null,"chat_template":null,"licence":null,"pooling":null,"adapter_of":null,"weights_bytes":0,"model_types":["COMPLETION","CHAT_COMPLETION"],"modalities":["text"],"extra":{"tied":true,"rope":10000.0}}',NULL,'2026-11-24T12:30:15.250000+00:00','user-1');
CREATE TABLE "async_tasks" (
   "id" TEXT PRIMARY KEY,
   "account_id" TEXT NOT NULL REFERENCES "accounts"("id") ON DELETE RESTRICT,
   "key_id" TEXT NOT NULL,
   "deployment_id" TEXT NOT NULL,
   "status" TEXT NOT NULL,
   "args" TEXT NOT NULL,
   "result" TEXT,
   "traceback" TEXT,
   "status_code" INTEGER,
   "interruptions" INTEGER NOT NULL,
   "created_at" TEXT NOT NULL,
   "finished_at" TEXT
) STRICT;
INSERT INTO "async_tasks" VALUES('task-1','account-1','key-1','deployment-1','SUCCESS','{"prompts":["hello"]}','{"completions":[["hello",[" there"]]]}',NULL,200,0,'2026-11-24T12:30:15.250000+00:00','2026-11-24T12:30:15.250000+00:00');
CREATE TABLE "audit" (
   "sequence" INTEGER PRIMARY KEY,
   "at" TEXT NOT NULL,
   "user_id" TEXT NOT NULL,
   "key_id" TEXT,
   "action" TEXT NOT NULL,
   "target_kind" TEXT NOT NULL,
   "target_id" TEXT NOT NULL,
   "details" TEXT NOT NULL
) STRICT;
INSERT INTO "audit" VALUES(1,'2026-11-24T12:30:15.250000+00:00','user-1',NULL,'key.create','key','key-1','{"role":"admin"}');
CREATE TABLE "batches" (
   "id" TEXT PRIMARY KEY,
   "account_id" TEXT NOT NULL REFERENCES "accounts"("id") ON DELETE RESTRICT,
   "key_id" TEXT NOT NULL,
   "endpoint" TEXT NOT NULL,
   "input_file_id" TEXT NOT NULL,
   "completion_window" TEXT,
   "metadata" TEXT,
   "status" TEXT NOT NULL,
   "outcome" TEXT,
   "faults" TEXT,
   "total" INTEGER NOT NULL,
   "completed" INTEGER,
   "failed" INTEGER,
   "output_file_id" TEXT,
   "error_file_id" TEXT,
   "interruptions" INTEGER,
   "created_at" TEXT NOT NULL,
   "expires_at" TEXT NOT NULL,
   "in_progress_at" TEXT,
   "finalizing_at" TEXT,
   "cancelling_at" TEXT,
   "completed_at" TEXT,
   "failed_at" TEXT,
   "cancelled_at" TEXT,
   "expired_at" TEXT
) STRICT;
INSERT INTO "batches" VALUES('batch_b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0','account-1','key-1','/v1/completions','file-0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f','24h','{"for":"the night"}','failed','failed','[{"code":"invalid_url","message":"url is ''/x''","line":3,"param":"url"}]',2,0,0,NULL,NULL,0,'2026-11-24T12:30:15.250000+00:00','2026-11-24T12:30:15.250000+00:00',NULL,NULL,NULL,NULL,'2026-11-24T12:30:15.250000+00:00',NULL,NULL);
CREATE TABLE "benchmarks" (
   "id" TEXT PRIMARY KEY,
   "deployment_id" TEXT NOT NULL REFERENCES "deployments"("id") ON DELETE CASCADE,
   "deployment_name" TEXT,
   "kind" TEXT NOT NULL,
   "weights" TEXT,
   "parameters" TEXT,
   "slots" INTEGER NOT NULL,
   "context_length_tokens" INTEGER,
   "engine_version" TEXT NOT NULL,
   "device" TEXT NOT NULL,
   "machine" TEXT,
   "appliance_version" TEXT,
   "load_seconds" REAL,
   "points" TEXT NOT NULL,
   "measured_at" TEXT NOT NULL
) STRICT;
INSERT INTO "benchmarks" VALUES('benchmark-1','deployment-1','helper-live','kind-1','0000000000000000000000000000000000000000000000000000000000000000','{"threads":2}',10,2048,'0.3.36','cpu','AMD EPYC 9354, 2 cores, 8 GiB','0.1.0',1.25,'[{"clients":4,"requests":8,"prompt_tokens":512,"response_tokens":64,"first_token_seconds":0.25,"prompt_tokens_per_second":2048.0,"response_tokens_per_second":80.5,"texts_per_second":null}]','2026-11-24T12:30:15.250000+00:00');
CREATE TABLE "deployments" (
   "id" TEXT PRIMARY KEY,
   "account_id" TEXT NOT NULL REFERENCES "accounts"("id") ON DELETE RESTRICT,
   "name" TEXT NOT NULL,
   "model_id" TEXT NOT NULL REFERENCES "models"("id") ON DELETE RESTRICT,
   "creation_parameters" TEXT,
   "vendor_configuration" TEXT,
   "metadata" TEXT,
   "status" TEXT NOT NULL,
   "status_reason" TEXT,
   "built_in" INTEGER NOT NULL,
   "created_at" TEXT,
   "created_by_user_id" TEXT
) STRICT;
INSERT INTO "deployments" VALUES('deployment-1','account-1','helper-live','model-1',NULL,'{"endpoint_config":{"max_workers":1}}',NULL,'READY',NULL,0,'2026-11-24T12:30:15.250000+00:00','user-1');
CREATE TABLE "fine_tuning_events" (
   "id" TEXT PRIMARY KEY,
   "job_id" TEXT NOT NULL REFERENCES "fine_tuning_jobs"("id") ON DELETE CASCADE,
   "at" TEXT NOT NULL,
   "level" TEXT NOT NULL,
   "message" TEXT NOT NULL,
   "step" INTEGER,
   "loss" REAL,
   "validation_loss" REAL,
   "learning_rate" REAL,
   "tokens_per_second" REAL,
   "eta_seconds" REAL
) STRICT;
INSERT INTO "fine_tuning_events" VALUES('event-1','tuning-1','2026-11-24T12:30:15.250000+00:00','info','step 7 of 14',7,1.25,1.5,0.001,100.5,3.5);
CREATE TABLE "fine_tuning_jobs" (
   "id" TEXT PRIMARY KEY,
   "account_id" TEXT NOT NULL REFERENCES "accounts"("id") ON DELETE RESTRICT,
   "key_id" TEXT NOT NULL,
   "status" TEXT NOT NULL,
   "status_reason" TEXT,
   "kind" TEXT NOT NULL,
   "base_model_id" TEXT NOT NULL,
   "base_artifact" TEXT NOT NULL,
   "base_digest" TEXT NOT NULL,
   "training_dataset_id" TEXT NOT NULL REFERENCES "training_datasets"("id") ON DELETE RESTRICT,
   "validation_dataset_id" TEXT REFERENCES "training_datasets"("id") ON DELETE RESTRICT,
   "fine_tuned_model_id" TEXT,
   "result_name" TEXT NOT NULL,
   "vendor_configuration" TEXT,
   "hyperparameters" TEXT NOT NULL,
   "step" INTEGER NOT NULL,
   "steps" INTEGER NOT NULL,
   "checkpoint_step" INTEGER NOT NULL,
   "loss" REAL,
   "validation_loss" REAL,
   "tokens_per_second" REAL,
   "eta_seconds" REAL,
   "interruptions" INTEGER NOT NULL,
   "evaluation" TEXT,
   "promotion" TEXT,
   "created_at" TEXT,
   "created_by_user_id" TEXT,
   "started_at" TEXT,
   "finished_at" TEXT
) STRICT;
INSERT INTO "fine_tuning_jobs" VALUES('tuning-1','account-1','key-1','COMPLETED',NULL,'generation','model-1','tiny','abababababababababababababababababababababababababababababababab','dataset-1',NULL,'model-2','helper-tuned','{"vendor":"LAUNCH","hyperparameters":{"epochs":"2"}}','{"epochs":2.0,"target_modules":["q_proj"]}',14,14,14,0.5,NULL,100.25,NULL,0,'{"examples":5,"base":{"loss":2.0},"candidate":{"loss":0.5}}','{"target":"model_server","target_id":"server-1","target_name":"helpdesk","from_id":"deployment-1","to_id":"deployment-2","is_forced":false,"promoted_at":"2026-11-24T12:30:15.250000Z"}','2026-11-24T12:30:15.250000+00:00','user-1','2026-11-24T12:30:15.250000+00:00','2026-11-24T12:30:15.250000+00:00');
CREATE TABLE "groups" (
   "id" TEXT PRIMARY KEY,
   "account_id" TEXT NOT NULL REFERENCES "accounts"("id") ON DELETE RESTRICT,
   "name" TEXT NOT NULL,
   "description" TEXT,
   "created_at" TEXT,
   "created_by_user_id" TEXT
) STRICT;
INSERT INTO "groups" VALUES('group-1','account-1','helpdesk',NULL,'2026-11-24T12:30:15.250000+00:00','user-1');
CREATE TABLE "jobs" (
   "id" TEXT PRIMARY KEY,
   "kind" TEXT NOT NULL,
   "state" TEXT NOT NULL,
   "title" TEXT NOT NULL,
   "done_bytes" INTEGER NOT NULL,
   "total_bytes" INTEGER NOT NULL,
   "message" TEXT,
   "created_at" TEXT NOT NULL,
   "finished_at" TEXT,
   "result" TEXT
) STRICT;
INSERT INTO "jobs" VALUES('job-1','import','RUNNING','tiny.gguf',10,1234,NULL,'2026-11-24T12:30:15.250000+00:00',NULL,NULL);
CREATE TABLE "keys" (
   "id" TEXT PRIMARY KEY,
   "name" TEXT,
   "account_id" TEXT NOT NULL REFERENCES "accounts"("id") ON DELETE RESTRICT,
   "user_id" TEXT NOT NULL REFERENCES "users"("id") ON DELETE RESTRICT,
   "role" TEXT NOT NULL,
   "digest" TEXT NOT NULL,
   "prefix" TEXT,
   "created_at" TEXT,
   "revoked_at" TEXT
, "limits" TEXT NOT NULL DEFAULT '{}') STRICT;
INSERT INTO "keys" VALUES('key-1','laptop','account-1','user-1','admin','5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e','sk-abcdef','2026-11-24T12:30:15.250000+00:00',NULL,'{}');
CREATE TABLE "learned_needs" (
   "id" TEXT PRIMARY KEY,
   "peak_bytes" INTEGER NOT NULL,
   "loads" INTEGER NOT NULL,
   "measured_at" TEXT NOT NULL
) STRICT;
CREATE TABLE "loading_marks" (
   "deployment_id" TEXT PRIMARY KEY REFERENCES "deployments"("id") ON DELETE CASCADE,
   "started_at" TEXT NOT NULL
, "for_change" INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO "loading_marks" VALUES('deployment-1','2026-11-24T12:30:15.250000+00:00',0);
CREATE TABLE "model_servers" (
   "id" TEXT PRIMARY KEY,
   "account_id" TEXT NOT NULL REFERENCES "accounts"("id") ON DELETE RESTRICT,
   "name" TEXT NOT NULL,
   "alias" TEXT,
   "deployment_id" TEXT NOT NULL REFERENCES "deployments"("id") ON DELETE RESTRICT,
   "earlier_deployment_ids" TEXT NOT NULL,
   "created_at" TEXT,
   "created_by_user_id" TEXT
) STRICT;
INSERT INTO "model_servers" VALUES('server-1','account-1','helpdesk',NULL,'deployment-1','["deployment-0"]','2026-11-24T12:30:15.250000+00:00','user-1');
CREATE TABLE "models" (
   "id" TEXT PRIMARY KEY,
   "account_id" TEXT NOT NULL REFERENCES "accounts"("id") ON DELETE RESTRICT,
   "name" TEXT NOT NULL,
   "display_name" TEXT,
   "model_type" TEXT NOT NULL,
   "model_vendor" TEXT,
   "model_template_id" TEXT REFERENCES "templates"("id") ON DELETE RESTRICT,
   "model_group_id" TEXT REFERENCES "groups"("id") ON DELETE RESTRICT,
   "base_model_id" TEXT,
   "base_model_metadata" TEXT,
   "creation_parameters" TEXT,
   "description" TEXT,
   "training_data_card" TEXT,
   "model_card" TEXT,
   "built_in" INTEGER NOT NULL,
   "created_at" TEXT,
   "created_by_user_id" TEXT
) STRICT;
INSERT INTO "models" VALUES('model-1','account-1','helper',NULL,'CHAT_COMPLETION',NULL,'template-1','group-1',NULL,NULL,'{"weights":"tiny","context_length":512,"normalize":true,"scale":1.0}',NULL,NULL,NULL,0,'2026-11-24T12:30:15.250000+00:00','user-1');
CREATE TABLE "stored_files" (
   "id" TEXT PRIMARY KEY,
   "account_id" TEXT NOT NULL REFERENCES "accounts"("id") ON DELETE RESTRICT,
   "key_id" TEXT NOT NULL,
   "name" TEXT NOT NULL,
   "purpose" TEXT NOT NULL,
   "size_bytes" INTEGER NOT NULL,
   "created_at" TEXT NOT NULL
) STRICT;
INSERT INTO "stored_files" VALUES('file-0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f','account-1','key-1','requests.jsonl','batch',120,'2026-11-24T12:30:15.250000+00:00');
CREATE TABLE "templates" (
   "id" TEXT PRIMARY KEY,
   "account_id" TEXT NOT NULL REFERENCES "accounts"("id") ON DELETE RESTRICT,
   "name" TEXT NOT NULL,
   "model_type" TEXT NOT NULL,
   "endpoint_type" TEXT,
   "endpoint_protocol" TEXT,
   "vendor_configuration" TEXT NOT NULL,
   "creation_parameters" TEXT,
   "request_parameters" TEXT,
   "built_in" INTEGER NOT NULL,
   "created_at" TEXT,
   "created_by_user_id" TEXT
) STRICT;
INSERT INTO "templates" VALUES('template-1','account-1','chat','CHAT_COMPLETION','SYNC',NULL,'{"bundle_config":{"image":"llama.cpp","tag":"1"},"endpoint_config":{"per_worker":4}}','[{"name":"weights","type":"str","description":"an artifact","required":true}]','[]',0,'2026-11-24T12:30:15.250000+00:00','user-1');
CREATE TABLE "training_datasets" (
   "id" TEXT PRIMARY KEY,
   "account_id" TEXT NOT NULL REFERENCES "accounts"("id") ON DELETE RESTRICT,
   "name" TEXT NOT NULL,
   "schema_type" TEXT NOT NULL,
   "digest" TEXT NOT NULL,
   "size_bytes" INTEGER NOT NULL,
   "examples" INTEGER NOT NULL,
   "created_at" TEXT,
   "created_by_user_id" TEXT
) STRICT;
INSERT INTO "training_datasets" VALUES('dataset-1','account-1','questions','GENERATION','dadadadadadadadadadadadadadadadadadadadadadadadadadadadadadadada',1200,50,'2026-11-24T12:30:15.250000+00:00','user-1');
CREATE TABLE "upstreams" (
   "id" TEXT PRIMARY KEY,
   "name" TEXT NOT NULL,
   "base_url" TEXT NOT NULL,
   "vendor" TEXT,
   "sealed_key" TEXT,
   "created_at" TEXT,
   "created_by_user_id" TEXT
) STRICT;
INSERT INTO "upstreams" VALUES('upstream-1','cluster','https://cluster.example/v1',NULL,'c2VhbGVk','2026-11-24T12:30:15.250000+00:00','user-1');
CREATE TABLE "users" (
   "id" TEXT PRIMARY KEY,
   "account_id" TEXT NOT NULL REFERENCES "accounts"("id") ON DELETE RESTRICT,
   "email" TEXT NOT NULL,
   "role" TEXT NOT NULL,
   "created_at" TEXT
) STRICT;
INSERT INTO "users" VALUES('user-1','account-1','ada@north.example','admin','2026-11-24T12:30:15.250000+00:00');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE UNIQUE INDEX "idx_accounts_name"
    ON "accounts" ("name");
CREATE UNIQUE INDEX "idx_users_account_id_email"
    ON "users" ("account_id", "email");
CREATE UNIQUE INDEX "idx_keys_digest"
    ON "keys" ("digest");
CREATE UNIQUE INDEX "idx_artifacts_name"
    ON "artifacts" ("name");
CREATE INDEX "idx_artifacts_digest"
    ON "artifacts" ("digest");
CREATE UNIQUE INDEX "idx_templates_account_id_name"
    ON "templates" ("account_id", "name");
CREATE UNIQUE INDEX "idx_groups_account_id_name"
    ON "groups" ("account_id", "name");
CREATE UNIQUE INDEX "idx_models_account_id_name"
    ON "models" ("account_id", "name");
CREATE INDEX "idx_models_model_template_id"
    ON "models" ("model_template_id");
CREATE INDEX "idx_models_model_group_id"
    ON "models" ("model_group_id");
CREATE INDEX "idx_models_base_model_id"
    ON "models" ("base_model_id");
CREATE UNIQUE INDEX "idx_deployments_account_id_name"
    ON "deployments" ("account_id", "name");
CREATE INDEX "idx_deployments_model_id"
    ON "deployments" ("model_id");
CREATE TRIGGER audit_keeps_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_keeps_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE UNIQUE INDEX "idx_upstreams_name"
    ON "upstreams" ("name");
CREATE UNIQUE INDEX "idx_upstreams_vendor"
    ON "upstreams" ("vendor");
CREATE INDEX "idx_async_tasks_account_id_finished_at"
    ON "async_tasks" ("account_id", "finished_at");
CREATE INDEX "idx_async_tasks_status"
    ON "async_tasks" ("status");
CREATE INDEX "idx_async_tasks_finished_at"
    ON "async_tasks" ("finished_at");
CREATE INDEX "idx_stored_files_account_id"
    ON "stored_files" ("account_id");
CREATE INDEX "idx_batches_account_id"
    ON "batches" ("account_id");
CREATE INDEX "idx_batches_status"
    ON "batches" ("status");
CREATE INDEX "idx_benchmarks_deployment_id"
    ON "benchmarks" ("deployment_id");
CREATE INDEX "idx_answers_created_at"
    ON "answers" ("created_at");
CREATE UNIQUE INDEX "idx_model_servers_account_id_name"
    ON "model_servers" ("account_id", "name");
CREATE UNIQUE INDEX "idx_model_servers_account_id_alias"
    ON "model_servers" ("account_id", "alias");
CREATE INDEX "idx_model_servers_deployment_id"
    ON "model_servers" ("deployment_id");
CREATE INDEX "idx_training_datasets_account_id"
    ON "training_datasets" ("account_id");
CREATE INDEX "idx_training_datasets_digest"
    ON "training_datasets" ("digest");
CREATE INDEX "idx_fine_tuning_jobs_account_id"
    ON "fine_tuning_jobs" ("account_id");
CREATE INDEX "idx_fine_tuning_jobs_status"
    ON "fine_tuning_jobs" ("status");
CREATE INDEX "idx_fine_tuning_jobs_training_dataset_id"
    ON "fine_tuning_jobs" ("training_dataset_id");
CREATE INDEX "idx_fine_tuning_jobs_validation_dataset_id"
    ON "fine_tuning_jobs" ("validation_dataset_id");
CREATE INDEX "idx_fine_tuning_events_job_id_step"
    ON "fine_tuning_events" ("job_id", "step");
COMMIT;
