-- Whoever changes a finding takes its number away, in whatever way it is changed; it gets the next one when somebody
-- follows the changes (siem.py). So no writer waits for another, and no change is missed.

CREATE FUNCTION finding_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.change IS NOT DISTINCT FROM OLD.change AND NEW IS DISTINCT FROM OLD THEN
        NEW.change := NULL;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER finding_changed BEFORE UPDATE ON finding FOR EACH ROW EXECUTE FUNCTION finding_changed();
