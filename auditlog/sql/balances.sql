-- Balances: what the lines of the books come to, by whom they count for, by day and month (UTC) and altogether. They are kept
-- in the transaction that writes or drops lines, whoever does it. What was spent counts on its day, what is held on the day
-- it was opened; sums are exact. Rules read them to know which limits can have been passed at all.

CREATE FUNCTION projection_windows(at timestamptz, held_from timestamptz, gross numeric, held numeric)
RETURNS TABLE (level text, start date, gross numeric, held numeric, lines bigint) LANGUAGE sql IMMUTABLE AS $$
    SELECT l.level, CASE l.level WHEN 'ever' THEN date '1970-01-01' ELSE date_trunc(l.level, m.at AT TIME ZONE 'UTC')::date END,
        m.gross, m.held, m.lines
    FROM (VALUES ('ever'), ('month'), ('day')) AS l (level)
    CROSS JOIN (VALUES ($1, $3, 0::numeric, 1::bigint), (coalesce($2, $1), 0::numeric, $4, 0::bigint)) AS m (at, gross, held, lines)
    WHERE m.lines = 1 OR m.held <> 0
$$;

CREATE FUNCTION projection_charge_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO projection_balance AS b (tenant_id, generation, principal, level, start, actor, "grant", provider, payee, currency,
        gross, held, lines, billed, authorities)
    SELECT c.tenant_id, c.generation, c.principal, w.level, w.start, c.actor, c."grant", c.provider, c.payee, c.currency,
        sum(w.gross), sum(w.held), sum(w.lines), sum(CASE WHEN c.book = 'billed' THEN w.lines ELSE 0 END),
        sum(CASE WHEN c.authority <> '' THEN w.lines ELSE 0 END)
    FROM changed c CROSS JOIN LATERAL projection_windows(c.at, c.held_from, c.spent + c.returned, c.held) w
    WHERE c.book <> 'returned'
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
    ON CONFLICT (tenant_id, generation, principal, level, start, actor, "grant", provider, payee, currency) DO UPDATE SET
        gross = b.gross + excluded.gross, held = b.held + excluded.held, lines = b.lines + excluded.lines,
        billed = b.billed + excluded.billed, authorities = b.authorities + excluded.authorities;
    RETURN NULL;
END $$;

CREATE FUNCTION projection_charge_dropped() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH less AS (
        SELECT c.tenant_id, c.generation, c.principal, w.level, w.start, c.actor, c."grant", c.provider, c.payee, c.currency,
            sum(w.gross) AS gross, sum(w.held) AS held, sum(w.lines) AS lines,
            sum(CASE WHEN c.book = 'billed' THEN w.lines ELSE 0 END) AS billed, sum(CASE WHEN c.authority <> '' THEN w.lines ELSE 0 END) AS authorities
        FROM changed c CROSS JOIN LATERAL projection_windows(c.at, c.held_from, c.spent + c.returned, c.held) w
        WHERE c.book <> 'returned' GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
    )
    UPDATE projection_balance b SET gross = b.gross - l.gross, held = b.held - l.held, lines = b.lines - l.lines,
        billed = b.billed - l.billed, authorities = b.authorities - l.authorities
    FROM less l WHERE (b.tenant_id, b.generation, b.principal, b.level, b.start, b.actor, b."grant", b.provider, b.payee, b.currency)
        = (l.tenant_id, l.generation, l.principal, l.level, l.start, l.actor, l."grant", l.provider, l.payee, l.currency);
    -- What nothing is left of names nobody any more. A line and its hold may lie on different days, so both are asked for.
    DELETE FROM projection_balance b USING (
        SELECT DISTINCT c.tenant_id, c.generation, c.principal, w.level, w.start FROM changed c
        CROSS JOIN LATERAL projection_windows(c.at, c.held_from, c.spent + c.returned, c.held) w
    ) d
    WHERE (b.tenant_id, b.generation, b.principal, b.level, b.start) = (d.tenant_id, d.generation, d.principal, d.level, d.start)
      AND b.lines = 0 AND b.held = 0;
    RETURN NULL;
END $$;

CREATE TRIGGER projection_charge_added AFTER INSERT ON projection_charge REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION projection_charge_added();
CREATE TRIGGER projection_charge_dropped AFTER DELETE ON projection_charge REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION projection_charge_dropped();

INSERT INTO projection_balance (tenant_id, generation, principal, level, start, actor, "grant", provider, payee, currency,
    gross, held, lines, billed, authorities)
SELECT c.tenant_id, c.generation, c.principal, w.level, w.start, c.actor, c."grant", c.provider, c.payee, c.currency,
    sum(w.gross), sum(w.held), sum(w.lines), sum(CASE WHEN c.book = 'billed' THEN w.lines ELSE 0 END),
    sum(CASE WHEN c.authority <> '' THEN w.lines ELSE 0 END)
FROM projection_charge c CROSS JOIN LATERAL projection_windows(c.at, c.held_from, c.spent + c.returned, c.held) w
WHERE c.book <> 'returned' GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10;
