-- One way to configure. The application role may write no table of configuration (setup_database takes that right away): it
-- changes a row by this function, which names a person, and whose triggers state the change in a leaf before it commits.
-- What that is worth: no statement of the ORM, of a page or of injected SQL changes configuration beside the log. Whoever
-- holds the application role can call the function; then a leaf that names somebody is in the log, every admin is told of
-- it, and it binds only once a published checkpoint covers it (configuration.py).

-- A table is one of configuration when it bears this trigger (configuration.sql, response.sql) or is said to be one here.
CREATE FUNCTION is_configuration(place regclass) RETURNS boolean LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = place AND t.tgname IN ('configuration_stated', 'rule_policy_stated'))
$$;

-- `what` is insert, ignore (insert what is not there), update or delete; `changed` the rows as objects, which of an update
-- have the columns that change, and of an update and a delete the id. Returns the rows as they were written.
CREATE FUNCTION configure(who text, what text, of_table text, changed jsonb) RETURNS SETOF jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' SET bytea_output = 'hex' AS $$
DECLARE
    place CONSTANT regclass := to_regclass('public.' || quote_ident(of_table));
    each jsonb;
    columns text;
BEGIN
    IF place IS NULL OR NOT is_configuration(place) THEN
        RAISE EXCEPTION '% is no table of configuration', of_table USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF btrim(coalesce(who, '')) = '' THEN
        RAISE EXCEPTION 'nobody is named who changes %', of_table USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- For the leaf: the triggers below read it when the transaction ends.
    PERFORM set_config('answerable.by', left(who, 300), true);
    FOR each IN SELECT e.value FROM jsonb_array_elements(changed) WITH ORDINALITY e ORDER BY e.ordinality LOOP
        SELECT string_agg(quote_ident(k), ', ' ORDER BY k) INTO columns FROM jsonb_object_keys(each) k WHERE what IN ('insert', 'ignore') OR k <> 'id';
        CASE what
            WHEN 'insert', 'ignore' THEN
                RETURN QUERY EXECUTE format('INSERT INTO %1$s AS t (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1) %3$s RETURNING to_jsonb(t)',
                    place, columns, CASE what WHEN 'ignore' THEN 'ON CONFLICT DO NOTHING' ELSE '' END) USING each;
            WHEN 'update' THEN
                RETURN QUERY EXECUTE format('UPDATE %1$s t SET (%2$s) = (SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $1))
                    WHERE t.id = ($1 ->> ''id'')::bigint RETURNING to_jsonb(t)', place, columns) USING each;
            WHEN 'delete' THEN
                RETURN QUERY EXECUTE format('DELETE FROM %s t WHERE t.id = ($1 ->> ''id'')::bigint RETURNING to_jsonb(t)', place) USING each;
        END CASE;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION configure FROM PUBLIC;

-- As in configuration.sql, but with the owner's rights: it makes the log of the service, and looks up which leaf states a
-- row, and the application role may write neither. Whose session it is says whether a backup is being loaded.
CREATE OR REPLACE FUNCTION configuration_stated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
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
    IF current_setting('answerable.restoring', true) = 'on'
            AND pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
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
ALTER FUNCTION configuration_noted() SECURITY DEFINER;
ALTER FUNCTION service_tenant() SECURITY DEFINER;

-- Which names of an organisation are private decides what an abuse desk is told: the leaf states it where there are any.
ALTER FUNCTION configuration_rows(bigint, text, bigint) RENAME TO configuration_rows_before_private_names;
CREATE FUNCTION configuration_rows(of_tenant bigint, of_kind text DEFAULT NULL, of_id bigint DEFAULT NULL) RETURNS TABLE (kind text, id bigint, "row" jsonb)
LANGUAGE sql STABLE SET search_path = public, pg_temp SET timezone = 'UTC' SET bytea_output = 'hex' AS $$
    SELECT r.kind, r.id, r."row" || coalesce((SELECT jsonb_build_object('private_names', jsonb_agg(n.name ORDER BY n.name)) FROM auditlog_ownedname n
            WHERE r.kind = 'organisation' AND n.organisation_id = r.id AND n.is_private HAVING count(*) > 0), '{}')
    FROM configuration_rows_before_private_names(of_tenant, of_kind, of_id) r
$$;

-- A version of a rule's policy is what its leaf says, or it is not written (policies.py reads the same of it).
CREATE FUNCTION rule_policy_stated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE said jsonb;
BEGIN
    IF current_setting('answerable.restoring', true) = 'on'
            AND pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RETURN NULL;
    END IF;
    SELECT ledger_body(p.raw) INTO said FROM ledger_payload p WHERE p.tenant_id = NEW.tenant_id AND p.epoch = 1 AND p.leaf_index = NEW.leaf_index;
    IF (said ->> 'change', said ->> 'rule', said ->> 'version', said ->> 'by', (said ->> 'policy')::jsonb)
            IS DISTINCT FROM ('rule policy.set', NEW.rule, NEW.version::text, NEW.set_by, NEW.data) THEN
        RAISE EXCEPTION 'policy % of % is not what leaf % states', NEW.version, NEW.rule, NEW.leaf_index USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER rule_policy_stated AFTER INSERT ON rule_policy DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION rule_policy_stated();

-- Organisations with private names, as they are found now: their leaves did not say which names those are.
SELECT ledger_note(t.id, 6::smallint, jsonb_build_object('change', r.kind || '.found', 'of', r.kind, 'id', r.id, 'row', r."row",
    'by', 'the update of this service')) FROM auditlog_tenant t CROSS JOIN LATERAL configuration_rows(t.id, 'organisation') r
    WHERE r."row" ? 'private_names';
