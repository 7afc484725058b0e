-- Configuration stands in leaves. Whatever path a row of it is changed by (a verb, the admin site, the ORM, SQL by hand), the
-- log states the row as it then is, and who changed it, before the change commits: verbs append a leaf of their own, and for
-- whoever does not, the deferred trigger below does. So a row that differs from its last leaf was changed by somebody who
-- took the triggers away, and `configuration.py` refuses it.

-- One leaf of the service's own, as append.py writes them (core/leaf.py, core/merkle.py). NULL where there is no such log.
CREATE FUNCTION ledger_note(of_tenant bigint, of_kind smallint, body jsonb) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    kinds CONSTANT text[] := ARRAY['event', 'key', 'conflict', 'tombstone', 'hold', 'release', 'config', 'case'];
    raw_body CONSTANT bytea := convert_to(body::text, 'UTF8');
    salt_of_it CONSTANT bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
    committed CONSTANT bytea := sha256(salt_of_it || int4send(0) || int4send(0) || raw_body);
    at CONSTANT timestamptz := clock_timestamp();
    index bigint;
    roots bytea;
    node bytea;
    rest bigint;
BEGIN
    SELECT h.size, h.edge INTO index, roots FROM ledger_head h WHERE h.tenant_id = of_tenant AND h.epoch = 1 FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    node := sha256('\x00'::bytea || convert_to(format('["answerable-leaf/1","%s","-",%s,"F","-","%s"]', kinds[of_kind + 1],
        (extract(epoch FROM at) * 1000000)::bigint, rtrim(translate(encode(committed, 'base64'), '+/', '-_'), '=')), 'UTF8'));
    rest := index;
    WHILE rest & 1 = 1 LOOP
        node := sha256('\x01'::bytea || substring(roots FROM length(roots) - 31) || node);
        roots := substring(roots FOR length(roots) - 32);
        rest := rest >> 1;
    END LOOP;
    INSERT INTO ledger_leaf (tenant_id, epoch, leaf_index, kind, event_id, source_id, received_at, grade, key, commitment)
        VALUES (of_tenant, 1, index, of_kind, NULL, NULL, at, 'F', '-', committed);
    INSERT INTO ledger_payload (tenant_id, epoch, leaf_index, salt, source_event_id, headers, raw)
        VALUES (of_tenant, 1, index, salt_of_it, '', '', raw_body);
    UPDATE ledger_head SET size = index + 1, edge = roots || node WHERE tenant_id = of_tenant AND epoch = 1;
    RETURN index;
END $$;

-- Every row of configuration that a judgement rests on, as its leaves state it: all but what only counts or remembers. The
-- rows of tenant NULL are the accounts, which belong to the whole service.
CREATE FUNCTION configuration_rows(of_tenant bigint, of_kind text DEFAULT NULL, of_id bigint DEFAULT NULL) RETURNS TABLE (kind text, id bigint, "row" jsonb)
LANGUAGE sql STABLE SET search_path = public, pg_temp SET timezone = 'UTC' SET bytea_output = 'hex' AS $$
    SELECT 'tenant', t.id, to_jsonb(t) - '{created_at,pepper}'::text[] || jsonb_build_object('pepper_sha256', encode(sha256(t.pepper), 'hex'))
        FROM auditlog_tenant t WHERE t.id = of_tenant AND coalesce(of_kind, 'tenant') = 'tenant' AND (of_id IS NULL OR t.id = of_id)
    UNION ALL
    SELECT 'source', s.id, to_jsonb(s) - '{created_at,heartbeat_since}'::text[] FROM auditlog_source s WHERE s.tenant_id = of_tenant AND coalesce(of_kind, 'source') = 'source' AND (of_id IS NULL OR s.id = of_id)
    UNION ALL
    SELECT 'key', k.id, to_jsonb(k) - '{added_at,retired_at}'::text[] || jsonb_build_object('is_retired', k.retired_at IS NOT NULL)
        FROM auditlog_sourcekey k JOIN auditlog_source s ON s.id = k.source_id WHERE s.tenant_id = of_tenant AND coalesce(of_kind, 'key') = 'key' AND (of_id IS NULL OR k.id = of_id)
    UNION ALL
    SELECT 'organisation', o.id, to_jsonb(o) || jsonb_build_object('names',
            (SELECT coalesce(jsonb_agg(n.name ORDER BY n.name), '[]') FROM auditlog_ownedname n WHERE n.organisation_id = o.id))
        FROM auditlog_organisation o WHERE o.tenant_id = of_tenant AND coalesce(of_kind, 'organisation') = 'organisation' AND (of_id IS NULL OR o.id = of_id)
    UNION ALL
    SELECT 'membership', m.id, to_jsonb(m) - '{changes_seen}'::text[] FROM auditlog_membership m WHERE m.tenant_id = of_tenant AND coalesce(of_kind, 'membership') = 'membership' AND (of_id IS NULL OR m.id = of_id)
    UNION ALL
    SELECT 'token', a.id, to_jsonb(a) - '{created_at,last_used_at}'::text[] FROM auditlog_apitoken a WHERE a.tenant_id = of_tenant AND coalesce(of_kind, 'token') = 'token' AND (of_id IS NULL OR a.id = of_id)
    UNION ALL
    SELECT 'policy', p.id, to_jsonb(p) - '{last_run_at,last_count}'::text[] FROM auditlog_retentionpolicy p WHERE p.tenant_id = of_tenant AND coalesce(of_kind, 'policy') = 'policy' AND (of_id IS NULL OR p.id = of_id)
    UNION ALL
    SELECT 'witness', w.id, to_jsonb(w) - '{last_size,last_error}'::text[] FROM auditlog_witness w WHERE w.tenant_id = of_tenant AND coalesce(of_kind, 'witness') = 'witness' AND (of_id IS NULL OR w.id = of_id)
    UNION ALL
    -- Of the address a digest: a path may be a secret after all.
    SELECT 'export', e.id, to_jsonb(e) - '{created_at,url}'::text[] || jsonb_build_object('url_sha256', encode(sha256(convert_to(e.url, 'UTF8')), 'hex'))
        FROM auditlog_export e WHERE e.tenant_id = of_tenant AND coalesce(of_kind, 'export') = 'export' AND (of_id IS NULL OR e.id = of_id)
    UNION ALL
    SELECT 'user', u.id, jsonb_build_object('username', u.username, 'is_superuser', u.is_superuser,
            'is_staff', u.is_staff, 'is_active', u.is_active, 'password_sha256', encode(sha256(convert_to(u.password, 'UTF8')), 'hex'),
            'email_sha256', encode(sha256(convert_to(u.email, 'UTF8')), 'hex'))
        FROM auth_user u WHERE of_tenant IS NULL AND coalesce(of_kind, 'user') = 'user' AND (of_id IS NULL OR u.id = of_id)
    UNION ALL
    SELECT 'user permission', p.id, to_jsonb(p) FROM auth_user_user_permissions p WHERE of_tenant IS NULL AND coalesce(of_kind, 'user permission') = 'user permission' AND (of_id IS NULL OR p.id = of_id)
    UNION ALL
    SELECT 'user group', g.id, to_jsonb(g) FROM auth_user_groups g WHERE of_tenant IS NULL AND coalesce(of_kind, 'user group') = 'user group' AND (of_id IS NULL OR g.id = of_id)
    UNION ALL
    SELECT 'group permission', p.id, to_jsonb(p) FROM auth_group_permissions p WHERE of_tenant IS NULL AND coalesce(of_kind, 'group permission') = 'group permission' AND (of_id IS NULL OR p.id = of_id)
$$;

-- The log that states the accounts: of a tenant of this name, made when the first account is.
CREATE FUNCTION service_tenant() RETURNS bigint LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE found_id bigint;
BEGIN
    SELECT t.id INTO found_id FROM auditlog_tenant t WHERE t.name = 'answerable';
    IF found_id IS NULL THEN
        INSERT INTO auditlog_tenant (name, title, pepper, witness_quorum, created_at)
            VALUES ('answerable', 'The service itself: its accounts', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
                || uuid_send(gen_random_uuid())), 0, clock_timestamp())
            ON CONFLICT (name) DO NOTHING RETURNING auditlog_tenant.id INTO found_id;
        IF found_id IS NULL THEN
            SELECT t.id INTO found_id FROM auditlog_tenant t WHERE t.name = 'answerable';
        ELSE
            INSERT INTO ledger_head (tenant_id, epoch, size, edge, fence) VALUES (found_id, 1, 0, '', 0);
            INSERT INTO projection_state (tenant_id, generation, position, detected, is_current, is_stale)
                VALUES (found_id, 1, 0, 0, true, false);
        END IF;
    END IF;
    RETURN found_id;
END $$;

-- What a leaf of the service says, NULL where nobody can read it.
CREATE FUNCTION ledger_body(raw bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN convert_from(raw, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception OR invalid_text_representation OR character_not_in_repertoire OR untranslatable_character THEN
    RETURN NULL;
END $$;

-- A row without what only counts or remembers, to tell whether a change of it is one of configuration.
CREATE FUNCTION configuration_part("row" jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT "row" - '{created_at,heartbeat_since,added_at,changes_seen,last_used_at,last_run_at,last_count,last_size,last_error,last_login}'::text[]
$$;

-- Where the last leaf about each row is: an aid to look it up by. What counts is what the leaves say (configuration.py reads
-- all of them).
CREATE TABLE configuration_leaf (
    tenant_id bigint NOT NULL, kind text NOT NULL, row_id bigint NOT NULL, leaf_index bigint NOT NULL, PRIMARY KEY (tenant_id, kind, row_id)
);
CREATE FUNCTION configuration_noted() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE body CONSTANT jsonb := ledger_body(NEW.raw);
BEGIN
    IF body ? 'of' AND body ? 'row' AND body ->> 'id' ~ '^[0-9]{1,18}$' THEN
        INSERT INTO configuration_leaf VALUES (NEW.tenant_id, body ->> 'of', (body ->> 'id')::bigint, NEW.leaf_index)
            ON CONFLICT (tenant_id, kind, row_id) DO UPDATE SET leaf_index = excluded.leaf_index;
    END IF;
    RETURN NULL;
END $$;
-- Only the service's own leaves have no id of a source's: of events this costs a comparison.
CREATE TRIGGER configuration_noted AFTER INSERT ON ledger_payload FOR EACH ROW WHEN (NEW.source_event_id = '')
    EXECUTE FUNCTION configuration_noted();

CREATE FUNCTION configuration_stated() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    of_kind CONSTANT text := TG_ARGV[0];
    old_row CONSTANT jsonb := CASE WHEN TG_OP = 'INSERT' THEN NULL ELSE to_jsonb(OLD) END;
    new_row CONSTANT jsonb := CASE WHEN TG_OP = 'DELETE' THEN NULL ELSE to_jsonb(NEW) END;
    any_row CONSTANT jsonb := coalesce(new_row, old_row);
    changed_id CONSTANT bigint := CASE WHEN TG_TABLE_NAME = 'auditlog_ownedname' THEN any_row ->> 'organisation_id' ELSE any_row ->> 'id' END;
    is_account CONSTANT boolean := of_kind IN ('user', 'user permission', 'user group', 'group permission');
    log bigint;
    is_now jsonb;
    was_stated jsonb;
    said jsonb;
BEGIN
    -- A backup is loaded as it was: what differs in it from its leaves is to be found, not to be stated anew.
    IF current_setting('answerable.restoring', true) = 'on' AND pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RETURN NULL;
    END IF;
    log := CASE
        WHEN is_account THEN service_tenant()
        WHEN of_kind = 'tenant' THEN changed_id
        WHEN of_kind = 'key' THEN (SELECT s.tenant_id FROM auditlog_source s WHERE s.id = (any_row ->> 'source_id')::bigint)
        ELSE (any_row ->> 'tenant_id')::bigint END;
    SELECT r.row INTO is_now FROM configuration_rows(CASE WHEN is_account THEN NULL ELSE log END, of_kind, changed_id) r;
    SELECT ledger_body(p.raw) -> 'row' INTO was_stated FROM configuration_leaf c
        JOIN ledger_payload p ON p.tenant_id = c.tenant_id AND p.epoch = 1 AND p.leaf_index = c.leaf_index
        WHERE c.tenant_id = log AND c.kind = of_kind AND c.row_id = changed_id;
    was_stated := CASE WHEN jsonb_typeof(was_stated) = 'null' THEN NULL ELSE was_stated END;
    IF was_stated IS NOT DISTINCT FROM is_now THEN
        RETURN NULL;
    END IF;
    said := jsonb_build_object(
        'change', of_kind || CASE WHEN is_now IS NULL THEN '.removed' WHEN was_stated IS NULL THEN '.added' ELSE '.changed' END,
        'of', of_kind, 'id', changed_id, 'row', is_now, 'by', coalesce(nullif(current_setting('answerable.by', true), ''),
            concat_ws(', ', 'database role ' || session_user, nullif(current_setting('application_name'), ''))));
    IF of_kind = 'key' THEN  -- what whoever verifies the log reads of a key (verifier/answerable_verify.py)
        said := said || jsonb_build_object('source', (SELECT s.name FROM auditlog_source s WHERE s.id = (any_row ->> 'source_id')::bigint),
            'kid', any_row ->> 'kid', 'thumbprint', any_row ->> 'thumbprint', 'jwk', any_row -> 'jwk',
            'change', CASE WHEN coalesce((is_now ->> 'is_retired')::boolean, true) THEN 'key.retired' ELSE 'key.added' END);
    END IF;
    PERFORM ledger_note(log, CASE WHEN of_kind = 'key' THEN 1 ELSE 6 END::smallint, said);
    RETURN NULL;
END $$;

DO $$
DECLARE pair text[];
BEGIN
    FOREACH pair SLICE 1 IN ARRAY ARRAY[['auditlog_tenant', 'tenant'], ['auditlog_source', 'source'], ['auditlog_sourcekey', 'key'],
        ['auditlog_organisation', 'organisation'], ['auditlog_ownedname', 'organisation'], ['auditlog_membership', 'membership'],
        ['auditlog_apitoken', 'token'], ['auditlog_retentionpolicy', 'policy'], ['auditlog_witness', 'witness'], ['auditlog_export', 'export'],
        ['auth_user', 'user'], ['auth_user_user_permissions', 'user permission'], ['auth_user_groups', 'user group'],
        ['auth_group_permissions', 'group permission']] LOOP
        -- At the end of the transaction: a verb's own leaf is there by then, and says more than this one could. Not for what
        -- only counts or remembers: a row that was changed behind our back would be stated anew by the next login.
        EXECUTE format('CREATE CONSTRAINT TRIGGER configuration_stated AFTER INSERT OR DELETE ON %I DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION configuration_stated(%L)', pair[1], pair[2]);
        EXECUTE format('CREATE CONSTRAINT TRIGGER configuration_restated AFTER UPDATE ON %I DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (configuration_part(to_jsonb(OLD)) IS DISTINCT FROM configuration_part(to_jsonb(NEW)))
            EXECUTE FUNCTION configuration_stated(%L)', pair[1], pair[2]);
    END LOOP;
END $$;

-- What was configured before leaves stated it: as it is found now.
SELECT ledger_note(t.id, CASE WHEN r.kind = 'key' THEN 1 ELSE 6 END::smallint, jsonb_build_object('change', r.kind || '.found', 'of', r.kind,
    'id', r.id, 'row', r."row", 'by', 'the update of this service')) FROM auditlog_tenant t CROSS JOIN LATERAL configuration_rows(t.id) r;
SELECT ledger_note(service_tenant(), 6::smallint, jsonb_build_object('change', r.kind || '.found', 'of', r.kind, 'id', r.id, 'row', r."row",
    'by', 'the update of this service')) FROM configuration_rows(NULL) r;

-- A key's material is what its thumbprint in every leaf stands for: it is never another one.
CREATE FUNCTION key_material_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.source_id, NEW.thumbprint, NEW.jwk) IS DISTINCT FROM (OLD.source_id, OLD.thumbprint, OLD.jwk) THEN
        RAISE EXCEPTION 'the key % of source % is not replaced: add another, and retire it', OLD.kid, OLD.source_id
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER key_material_stays BEFORE UPDATE ON auditlog_sourcekey FOR EACH ROW EXECUTE FUNCTION key_material_stays();
