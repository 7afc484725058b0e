-- Receivers and response policies are configuration: stated by leaves like the rest (configuration.sql).
ALTER FUNCTION configuration_rows(bigint, text, bigint) RENAME TO configuration_rows_before_response;

CREATE FUNCTION configuration_rows(of_tenant bigint, of_kind text DEFAULT NULL, of_id bigint DEFAULT NULL) RETURNS TABLE (kind text, id bigint, "row" jsonb)
LANGUAGE sql STABLE SET search_path = public, pg_temp SET timezone = 'UTC' SET bytea_output = 'hex' AS $$
    SELECT * FROM configuration_rows_before_response(of_tenant, of_kind, of_id)
    UNION ALL
    SELECT 'receiver', r.id, to_jsonb(r) - '{created_at,url,tested_at,verified_at,token_digest}'::text[]
            || jsonb_build_object('url_sha256', encode(sha256(convert_to(r.url, 'UTF8')), 'hex'), 'token_sha256', encode(r.token_digest, 'hex'))
        FROM response_receiver r WHERE r.tenant_id = of_tenant AND coalesce(of_kind, 'receiver') = 'receiver' AND (of_id IS NULL OR r.id = of_id)
    UNION ALL
    SELECT 'response policy', p.id, to_jsonb(p) - '{created_at,would}'::text[]
        FROM response_policy p WHERE p.tenant_id = of_tenant AND coalesce(of_kind, 'response policy') = 'response policy' AND (of_id IS NULL OR p.id = of_id)
$$;

CREATE OR REPLACE FUNCTION configuration_part("row" jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT "row" - '{created_at,heartbeat_since,added_at,changes_seen,last_used_at,last_run_at,last_count,last_size,last_error,last_login,tested_at,verified_at,would}'::text[]
$$;

DO $$
DECLARE pair text[];
BEGIN
    FOREACH pair SLICE 1 IN ARRAY ARRAY[['response_receiver', 'receiver'], ['response_policy', 'response policy']] LOOP
        EXECUTE format('CREATE CONSTRAINT TRIGGER configuration_stated AFTER INSERT OR DELETE ON %I DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION configuration_stated(%L)', pair[1], pair[2]);
        EXECUTE format('CREATE CONSTRAINT TRIGGER configuration_restated AFTER UPDATE ON %I DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (configuration_part(to_jsonb(OLD)) IS DISTINCT FROM configuration_part(to_jsonb(NEW)))
            EXECUTE FUNCTION configuration_stated(%L)', pair[1], pair[2]);
    END LOOP;
END $$;

-- What was stopped, by whom and when, stays: only how it is lifted is added.
CREATE FUNCTION stop_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (NEW.tenant_id, NEW.number, NEW.kind, NEW.key, NEW.reason, NEW.is_drill, NEW.who, NEW.person, NEW.at)
            IS DISTINCT FROM (OLD.tenant_id, OLD.number, OLD.kind, OLD.key, OLD.reason, OLD.is_drill, OLD.who, OLD.person, OLD.at) THEN
        RAISE EXCEPTION 'stop S-% is not rewritten', OLD.number USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF OLD.lifted_at IS NOT NULL THEN
        RAISE EXCEPTION 'stop S-% was lifted', OLD.number USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER stop_stays BEFORE UPDATE OR DELETE ON response_stop FOR EACH ROW EXECUTE FUNCTION stop_stays();
