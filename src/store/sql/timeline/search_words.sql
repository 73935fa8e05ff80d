-- search_words: what is searched for, once for each configuration: all operands of $2, as the configuration stems them or as they are; each of them
-- alone, where an empty text stands for words that the configuration does not count; and what may not occur, $3.
SELECT (to_tsquery(c.config::regconfig, w.wanted) || to_tsquery('pg_catalog.simple', w.wanted))::text AS wanted,
    ARRAY(
        SELECT to_tsquery(c.config::regconfig, o.operand)::text FROM unnest($2::text[]) WITH ORDINALITY AS o(operand, place) ORDER BY o.place
    ) AS operands,
    (to_tsquery(c.config::regconfig, $3) || to_tsquery('pg_catalog.simple', $3))::text AS unwanted
FROM array_to_string($2::text[], ' & ') AS w(wanted), unnest($1::text[]) WITH ORDINALITY AS c(config, place)
ORDER BY c.place
