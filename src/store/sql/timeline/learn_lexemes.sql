-- learn_lexemes: of words with configurations, in order, whether the vector of a text has the word as it is, and what it has for it as the configuration
-- stems it.
SELECT tsvector_to_array(to_tsvector('pg_catalog.simple', w.word)) = ARRAY[w.word] AS is_regular,
    tsvector_to_array(to_tsvector(w.config::regconfig, w.word)) AS stems
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(config, word, place)
ORDER BY w.place
