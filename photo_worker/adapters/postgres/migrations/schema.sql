CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 0001

CREATE TABLE recipes (
        id UUID PRIMARY KEY,
        s3_raw_bucket TEXT NOT NULL DEFAULT '',
        s3_raw_key TEXT NOT NULL,
        content_sha256 TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'queued'
            CONSTRAINT recipes_status_known CHECK (status IN ('queued', 'running', 'succeeded', 'failed')),
        error_code TEXT,
        error_message TEXT,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
    );

CREATE INDEX recipes_content_sha256 ON recipes (content_sha256);

CREATE INDEX recipes_status ON recipes (status);

CREATE FUNCTION recipes_touch() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.updated_at := now();
        RETURN NEW;
    END
    $$;

CREATE TRIGGER recipes_touch BEFORE UPDATE ON recipes
        FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION recipes_touch();

CREATE TABLE recipe_ocr (
        recipe_id UUID PRIMARY KEY REFERENCES recipes ON DELETE CASCADE,
        s3_bucket TEXT,
        s3_ocr_key TEXT NOT NULL,
        s3_manifest_key TEXT,
        ocr_engine TEXT NOT NULL,
        ocr_version TEXT NOT NULL,
        page_count INT DEFAULT 1,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now()
    );

INSERT INTO alembic_version (version_num) VALUES ('0001') RETURNING alembic_version.version_num;

-- Running upgrade 0001 -> 0002

CREATE TABLE erasures (
        job_digest BYTEA PRIMARY KEY,
        erased_at TIMESTAMPTZ NOT NULL DEFAULT now()
    );

CREATE FUNCTION recipes_job_digest(job UUID) RETURNS bytea LANGUAGE sql IMMUTABLE
        AS $$ SELECT sha256(convert_to(job::text, 'UTF8')) $$;

CREATE FUNCTION recipes_job_lock(job UUID) RETURNS bigint LANGUAGE sql IMMUTABLE
        AS $$ SELECT hashtextextended(job::text, 1) $$;

CREATE FUNCTION recipes_object_lock(raw_key TEXT) RETURNS bigint LANGUAGE sql IMMUTABLE
        AS $$ SELECT hashtextextended(raw_key, 2) $$;

CREATE FUNCTION recipes_refuse_erased() RETURNS trigger LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(recipes_job_lock(NEW.id));
        IF EXISTS (SELECT FROM erasures WHERE job_digest = recipes_job_digest(NEW.id)) THEN
            RAISE EXCEPTION 'the job has been erased' USING ERRCODE = 'PW001';
        END IF;
        IF NOT EXISTS (SELECT FROM recipes WHERE id = NEW.id) THEN
            PERFORM pg_advisory_xact_lock_shared(recipes_object_lock(NEW.s3_raw_key));
        END IF;
        RETURN NEW;
    END
    $$;

CREATE TRIGGER recipes_refuse_erased BEFORE INSERT ON recipes
        FOR EACH ROW EXECUTE FUNCTION recipes_refuse_erased();

CREATE INDEX recipes_s3_raw_key ON recipes USING hash (s3_raw_key);

UPDATE alembic_version SET version_num='0002' WHERE alembic_version.version_num = '0001';

-- Running upgrade 0002 -> 0003

CREATE TABLE deployment (
        only_row BOOLEAN PRIMARY KEY DEFAULT true CONSTRAINT deployment_one_row CHECK (only_row),
        id UUID NOT NULL DEFAULT gen_random_uuid(),
        created_at TIMESTAMPTZ NOT NULL DEFAULT now()
    );

UPDATE alembic_version SET version_num='0003' WHERE alembic_version.version_num = '0002';

-- Running upgrade 0003 -> 0004

ALTER TABLE recipes ADD COLUMN hashes_kept BOOLEAN NOT NULL DEFAULT false;

ALTER TABLE recipes ALTER COLUMN hashes_kept SET DEFAULT true;

CREATE TABLE earlier_hashes (
        recipe_id UUID NOT NULL REFERENCES recipes ON DELETE CASCADE,
        content_sha256 TEXT NOT NULL,
        PRIMARY KEY (recipe_id, content_sha256)
    );

CREATE FUNCTION recipes_keep_hash() RETURNS trigger LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        INSERT INTO earlier_hashes VALUES (OLD.id, OLD.content_sha256) ON CONFLICT DO NOTHING;
        RETURN NULL;
    END
    $$;

CREATE TRIGGER recipes_keep_hash AFTER UPDATE OF content_sha256 ON recipes
        FOR EACH ROW WHEN (OLD.content_sha256 NOT IN ('', NEW.content_sha256)) EXECUTE FUNCTION recipes_keep_hash();

CREATE FUNCTION recipes_hand_hashes_on() RETURNS trigger LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        WITH heir AS MATERIALIZED (
            SELECT id FROM recipes
            WHERE s3_raw_key = OLD.s3_raw_key AND id <> OLD.id
                AND (s3_raw_bucket = OLD.s3_raw_bucket OR '' IN (s3_raw_bucket, OLD.s3_raw_bucket))
                AND NOT EXISTS (SELECT FROM erasures WHERE job_digest = recipes_job_digest(recipes.id))
            LIMIT 1 FOR KEY SHARE SKIP LOCKED
        ), known AS (
            SELECT content_sha256 FROM earlier_hashes WHERE recipe_id = OLD.id
            UNION SELECT OLD.content_sha256 WHERE OLD.content_sha256 <> ''
            UNION SELECT '' WHERE NOT OLD.hashes_kept
        )
        INSERT INTO earlier_hashes SELECT heir.id, known.content_sha256 FROM heir, known ON CONFLICT DO NOTHING;
        RETURN OLD;
    END
    $$;

CREATE TRIGGER recipes_hand_hashes_on BEFORE DELETE ON recipes
        FOR EACH ROW EXECUTE FUNCTION recipes_hand_hashes_on();

DO $$
    DECLARE
        name TEXT;
    BEGIN
        FOREACH name IN ARRAY ARRAY['recipes_keep_hash()', 'recipes_hand_hashes_on()'] LOOP
            EXECUTE format(
                'ALTER FUNCTION %s SECURITY DEFINER SET search_path = %I, pg_temp', name, current_schema()
            );
        END LOOP;
    END
    $$;

REVOKE EXECUTE ON FUNCTION recipes_keep_hash(), recipes_hand_hashes_on() FROM PUBLIC;

UPDATE alembic_version SET version_num='0004' WHERE alembic_version.version_num = '0003';

