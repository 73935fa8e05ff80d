-- search_words: what is searched for, once for each configuration: words that a configuration changes are searched for as they are too. The second
-- is what may not occur. An empty text: nothing but words that the configuration does not count.
SELECT (to_tsquery(c.config::regconfig, $2) || to_tsquery('pg_catalog.simple', $2))::text AS wanted,
    (to_tsquery(c.config::regconfig, $3) || to_tsquery('pg_catalog.simple', $3))::text AS unwanted
FROM unnest($1::text[]) WITH ORDINALITY AS c(config, place)
ORDER BY c.place
