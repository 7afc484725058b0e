-- What the planner believes of projections. Run by `setup_database` after every migration, as the owner.
--
-- Every index leads with (tenant, generation). With ordinary statistics a tenant that has just begun is believed to
-- have no rows, all indexes look equally good, and a join picks one that reads the whole tenant for every row: quadratic
-- until the next autovacuum. One distinct value says "perhaps everything is this tenant's", and the columns behind decide.
DO $$
DECLARE
    name text;
    columns text[];
    c text;
BEGIN
    FOR name IN SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
        AND (relname LIKE 'projection\_%' OR relname = 'finding')
    LOOP
        FOREACH c IN ARRAY ARRAY['tenant_id', 'generation'] LOOP
            IF EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = name::regclass AND attname = c) THEN
                EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET STATISTICS 1, ALTER COLUMN %I SET (n_distinct = 1)', name, c, c);
            END IF;
        END LOOP;
        -- A sample of 9,000 rows instead of 30,000: the events have over fifty columns, and every one of them is sorted.
        FOR c IN SELECT attname FROM pg_attribute WHERE attrelid = name::regclass AND attnum > 0 AND NOT attisdropped
            AND attname NOT IN ('tenant_id', 'generation')
        LOOP
            EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET STATISTICS 30', name, c);
        END LOOP;
    END LOOP;
END
$$;

-- Statistics are as old as the last autovacuum, which may be a minute: an age for a projection that is being loaded. The
-- projector asks for new ones when the events have grown fourfold; only the owner may take them, hence SECURITY DEFINER.
CREATE OR REPLACE FUNCTION projection_analyze() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public AS $$
BEGIN
    IF pg_try_advisory_xact_lock(hashtext('answerable.analyze')) THEN
        ANALYZE public.projection_event, public.projection_grant, public.projection_token, public.projection_limit,
            public.projection_party, public.projection_charge, public.projection_balance, public.projection_rate, public.projection_tie, public.projection_place,
            public.projection_name,
            public.finding, public.finding_member;
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION projection_analyze() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION projection_analyze() TO {app};
