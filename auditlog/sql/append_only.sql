-- The ledger can be added to and nothing else, whoever is connected. The application role lacks the privileges as well
-- (grants.sql); these triggers also stop the owner's own hand, short of dropping them, which the tree would show.

CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
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
    FOREACH name IN ARRAY ARRAY['ledger_leaf', 'ledger_payload', 'ledger_tile', 'ledger_checkpoint', 'ledger_log_key'] LOOP
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

CREATE VIEW ledger_entry AS
    SELECT tenant_id || '-' || leaf_index AS id, tenant_id, leaf_index, kind, event_id, source_id, received_at, grade, key
    FROM ledger_leaf;
