-- The ledger can be added to and nothing else, whoever is connected. The application role lacks the privileges as well
-- (grants.sql); these triggers also stop the owner's own hand, short of dropping them, which the tree would show.

CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The one way out: ledger_erase below, for the time of its own statement.
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'ledger_payload' THEN
        -- Asked within: other tables under this trigger have no leaf_index.
        IF current_setting('answerable.erasing', true) = OLD.tenant_id || '/' || OLD.leaf_index THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'ledger rows are written once: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION ledger_head_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.tenant_id <> OLD.tenant_id OR NEW.epoch <> OLD.epoch OR NEW.size < OLD.size OR NEW.fence < OLD.fence THEN
        RAISE EXCEPTION 'a log only grows: head of tenant % went from % to %', OLD.tenant_id, OLD.size, NEW.size
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['ledger_leaf', 'ledger_payload', 'ledger_tile', 'ledger_checkpoint', 'ledger_log_key',
                             'ledger_hold', 'ledger_release', 'ledger_cosignature'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION ledger_refuse()',
                       name || '_written_once', name);
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse()',
                       name || '_never_truncated', name);
    END LOOP;
END $$;

CREATE TRIGGER ledger_head_grows BEFORE UPDATE ON ledger_head FOR EACH ROW EXECUTE FUNCTION ledger_head_grows();
CREATE TRIGGER ledger_head_stays BEFORE DELETE ON ledger_head FOR EACH ROW EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER ledger_head_never_truncated BEFORE TRUNCATE ON ledger_head
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();

-- The head row is rewritten at every append: room on its page keeps that in place (HOT).
ALTER TABLE ledger_head SET (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
-- Salts, hashes and signatures do not compress: do not try.
ALTER TABLE ledger_payload ALTER COLUMN raw SET STORAGE EXTERNAL;

-- Erase the payload and salt of one leaf (a privacy duty). The leaf stays, and stays provable. Refused under a legal hold,
-- and without a tombstone leaf of this log that names the leaf, which the caller appends in the same transaction.
CREATE FUNCTION ledger_erase(of_tenant bigint, of_epoch smallint, of_leaf bigint, tombstone bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held bigint;
    erased boolean;
BEGIN
    SELECT h.leaf_index INTO held FROM ledger_hold h
    WHERE h.tenant_id = of_tenant AND h.epoch = of_epoch AND of_leaf BETWEEN h.first_leaf AND h.last_leaf
      AND NOT EXISTS (SELECT 1 FROM ledger_release r WHERE r.tenant_id = h.tenant_id AND r.epoch = h.epoch
                      AND r.hold_leaf = h.leaf_index)
    LIMIT 1;
    IF held IS NOT NULL THEN
        RAISE EXCEPTION 'leaf % is under the legal hold of leaf %', of_leaf, held USING ERRCODE = 'object_in_use';
    END IF;
    IF NOT EXISTS (SELECT 1 FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)
                   WHERE l.tenant_id = of_tenant AND l.epoch = of_epoch AND l.leaf_index = tombstone AND l.kind = 3
                     AND convert_from(p.raw, 'UTF8')::jsonb -> 'leaves' @> to_jsonb(of_leaf)) THEN
        RAISE EXCEPTION 'leaf % has no tombstone that names leaf %', tombstone, of_leaf
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM set_config('answerable.erasing', of_tenant || '/' || of_leaf, true);
    DELETE FROM ledger_payload WHERE tenant_id = of_tenant AND epoch = of_epoch AND leaf_index = of_leaf
        AND EXISTS (SELECT 1 FROM ledger_leaf l WHERE l.tenant_id = of_tenant AND l.epoch = of_epoch
                    AND l.leaf_index = of_leaf AND l.kind IN (0, 2));  -- events and conflicts; our own leaves stay whole
    erased := FOUND;
    PERFORM set_config('answerable.erasing', '', true);
    RETURN erased;
END $$;
REVOKE ALL ON FUNCTION ledger_erase FROM PUBLIC;

CREATE VIEW ledger_entry AS
    SELECT tenant_id || '-' || leaf_index AS id, tenant_id, leaf_index, kind, event_id, source_id, received_at, grade, key
    FROM ledger_leaf;
