-- matching_words: of words with configurations those that are, as the configuration stems them, a word of a text.
WITH asked AS (
    SELECT c.config, tsvector_to_array(to_tsvector(c.config::regconfig, $3)) AS lexemes
    FROM (SELECT DISTINCT unnest($1::text[]) AS config) c
)
SELECT w.config, w.word
FROM unnest($1::text[], $2::text[]) AS w(config, word)
JOIN asked a ON a.config = w.config
WHERE tsvector_to_array(to_tsvector(w.config::regconfig, w.word)) && a.lexemes
