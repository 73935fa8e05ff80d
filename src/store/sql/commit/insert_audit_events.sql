-- insert_audit_events: what operators did, in the commit of what they did.
INSERT INTO audit_events (event_time, principal, method, namespace, target, details)
SELECT v.event_time, v.principal, v.method, v.namespace, v.target, v.details
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::timestamptz[]) AS event_time, unnest($3::text[]) AS principal,
    unnest($4::text[]) AS method, unnest($5::text[]) AS namespace, unnest($6::text[]) AS target,
    unnest($7::json[]) AS details) AS v
JOIN ok USING (c)
RETURNING 1
